"""The share of samples over a limit that lies between two edges of a histogram.

A histogram knows that share at its edges alone. Between two of them it is read by probit in log latency: a
log-normal latency is then met exactly, and most others nearly. Token gaps vary so little that one bucket may
hold nearly all of them, and the shares at its edges are then those of stray samples; the mean, which a
histogram counts too, tells where they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.statistics.constants import ALL_OR_NONE, NARROW_SIGMA


@dataclass(frozen=True)
class SharesOver:
    """Shares of the samples of windows over a limit [ratio], shape (windows,) each, NaN where not known.

    Attributes
    ----------
    over
        What is judged. Where the buckets can't tell, it is the share over the lower edge.
    least
        The same, but the share over the upper edge where the buckets can't tell.
    other
        By the next best reading: how much hangs on the way of reading.
    """

    over: Floats
    least: Floats
    other: Floats


def broken(share: Floats, quantile: float) -> Mask:
    """Return which windows have more samples over a limit than 1 − quantile; NaN is none.

    A share is a quotient of counts: the allowance itself must not fail by a rounding error.
    """
    mask: Mask = share > 1.0 - quantile + ALL_OR_NONE
    return mask


def shares_over(
    over_low: Floats,
    over_high: Floats,
    samples: Floats,
    mean_s: Floats,
    limit_s: float,
    low_s: float | None,
    high_s: float,
) -> SharesOver:
    """Return the shares over a limit from those over the edges about it.

    Between the edges a and b it is Φ(z_a + (z_b − z_a) · ln(limit ÷ a) ÷ ln(b ÷ a)), with the shares at the
    edges taken into [0.5 ÷ n, 1 − 0.5 ÷ n] first, for no sample of few is not none of all. The mean is a
    third point, at which z = −σ ÷ 2, σ = ln(b ÷ a) ÷ (z_a − z_b): of a log-normal latency it lies on the line
    and changes nothing; of any other the curve through the three is monotone and smooth (Fritsch & Butland
    1984). It is left out where it contradicts the shares at the edges, and where σ is over a quarter: of a
    wide latency it says as much of the tail as of where most samples lie. The share lies between those at
    the edges in any case.

    The buckets can't tell where one of them holds all samples, unless their mean is over the limit, and where
    no finite edge lies above the limit. Below the first edge `over` is NaN.

    The next best reading is by straight lines: through the three probits where the mean has a say, else
    through the shares at the edges.

    Parameters
    ----------
    over_low, over_high
        Share of samples over the edge below and above the limit [ratio], shape (windows,). ``over_low`` is
        not looked at below the first edge.
    samples, mean_s
        Samples in each window and their mean [s], NaN where not known, shape (windows,).
    limit_s, low_s, high_s
        Limit and edges [s]; equal edges where one lies at the limit, no ``low_s`` below the first, an
        infinite ``high_s`` above the last.
    """
    if low_s is None:
        nothing = np.full(over_high.shape, math.nan)
        return SharesOver(nothing, over_high, nothing)
    if low_s == high_s:
        return SharesOver(over_low, over_low, over_low)
    over_high = np.minimum(over_low, over_high)  # counts of one scrape may be a sample apart
    if not math.isfinite(high_s):
        return SharesOver(over_low, over_high, over_low)
    least = 0.5 / np.maximum(samples, 1.0)
    from scipy.special import ndtr, ndtri  # not where dumps are only read: it takes longer than they do

    z_low, z_high = (ndtri(np.clip(share, least, 1.0 - least)) for share in (over_low, over_high))
    x_low, x_high, x = (math.log(one) for one in (low_s, high_s, limit_s))
    mean = np.log(np.where(mean_s > 0.0, mean_s, math.nan))
    straight, z, told = _probit_through(np.array([x_low, x_high]), np.stack([z_low, z_high]), mean, x)
    over, lines = (np.clip(ndtr(one), over_high, over_low) for one in (z, straight))
    linear = over_low + (over_high - over_low) * (limit_s - low_s) / (high_s - low_s)
    one_bucket = (over_low >= 1.0 - ALL_OR_NONE) & (over_high <= ALL_OR_NONE)
    over = np.where(one_bucket & ~told, over_low, over)
    return SharesOver(
        over,
        np.where(one_bucket & ~(told & (mean >= x)), over_high, over),
        np.where(one_bucket, over, np.where(told, lines, linear)),
    )


def _probit_through(edges: Floats, z: Floats, mean: Floats, x: float) -> tuple[Floats, Floats, Mask]:
    """Return the probit of the share over x on straight lines and on the curve, and where the mean has a say.

    Parameters
    ----------
    edges, z
        Logs of both edges, shape (2,), and the probits there, shape (2, windows).
    mean
        Log of the mean, NaN where not known, shape (windows,).
    x
        Log of the limit.
    """
    (low, high), (z_low, z_high) = edges, z
    straight: Floats = z_low + (z_high - z_low) * (x - low) / (high - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = (high - low) / (z_low - z_high)
        z_mean = -0.5 * sigma
        below = (mean < low) & (z_mean > z_low)
        inside = (mean > low) & (mean < high) & (z_mean < z_low) & (z_mean > z_high)
        above = (mean > high) & (z_mean < z_high)
    told: Mask = (below | inside | above) & (sigma > 0.0) & (sigma <= NARROW_SIGMA)
    at = np.stack([np.full_like(mean, low), np.full_like(mean, high), mean])[:, told]
    of = np.stack([z_low, z_high, z_mean])[:, told]
    order = np.argsort(at, axis=0)
    points = np.take_along_axis(at, order, 0), np.take_along_axis(of, order, 0)
    bent = straight.copy()
    bent[told], straight[told] = _monotone_cubic(*points, x), _broken_line(*points, x)
    return straight, bent, told


def _broken_line(x: Floats, y: Floats, at: float) -> Floats:
    """Return the straight lines through three points at a place between them, shape (curves,)."""
    first = at <= x[1]
    slope = np.diff(y, axis=0) / np.diff(x, axis=0)
    found: Floats = np.where(first, y[0] + slope[0] * (at - x[0]), y[1] + slope[1] * (at - x[1]))
    return found


def _monotone_cubic(x: Floats, y: Floats, at: float) -> Floats:
    """Return the falling cubic through three points at a place between them, shape (curves,).

    Slopes as Fritsch and Butland (1984) give them: in the middle the weighted harmonic mean of those of both
    pieces, at an end that of a parabola through the three points, neither rising nor over three times as
    steep as its piece.

    Parameters
    ----------
    x, y
        Points in order, ``y`` falling, shape (3, curves).
    """
    width, slope = np.diff(x, axis=0), np.diff(y, axis=0) / np.diff(x, axis=0)
    first = at <= x[1]
    near, far = np.where(first, width, width[::-1])
    piece, other = np.where(first, slope, slope[::-1])
    total = near + far
    middle = 3.0 * total / ((total + far) / piece + (total + near) / other)
    end = np.clip(((near + total) * piece - near * other) / total, 3.0 * piece, 0.0)
    start, stop = np.where(first, end, middle) * near, np.where(first, middle, end) * near
    left = np.where(first, x[0], x[1])
    t = (at - left) / near
    found: Floats = (
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * np.where(first, y[0], y[1])
        + t * (1.0 - t) ** 2 * start
        + t**2 * (3.0 - 2.0 * t) * np.where(first, y[1], y[2])
        + t**2 * (t - 1.0) * stop
    )
    return found

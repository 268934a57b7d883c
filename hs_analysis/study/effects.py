"""How far, how closely and how cleanly a signal moves when its load moves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import (
    FIT_BINS,
    GROUP_MIN,
    LOAD_RANGE_QUANTILES,
    MAJORITY,
    NORMAL_95,
    ROWS_MIN,
)
from hs_analysis.schema.results import Interval
from hs_analysis.statistics.episodes import operating_rows
from hs_analysis.statistics.isotonic import MonotoneFit, monotone_fit
from hs_analysis.statistics.noise import MAD_TO_SD
from hs_analysis.statistics.ranks import drawn_ranks, mean_ranks
from hs_analysis.statistics.resampling import block_correlations, fisher_interval, percentile_interval
from hs_analysis.statistics.smoothing import highpass, positive_log
from hs_analysis.study.constants import (
    DRIFT_BLOCK_ROWS,
    DRIFT_BLOCK_S,
    ELASTICITY_BINS,
    ELASTICITY_FLOOR,
    ELASTICITY_SYSTEMATIC_SD,
    TREND_S,
    WAITING_RANGE,
    WAITING_ROWS_MIN,
)


def operating_range(load: Floats) -> Mask:
    """Return which rows carry at least 0.2 of the q95 load, shape (n,); False where the load is missing."""
    return operating_rows(load, np.isfinite(load)) & (load > 0)


def _pieces(log_x: Floats, y: Floats, bins: int) -> list[tuple[Floats, Floats]]:
    """Return equal-count bins of rows by `log_x`, each (x, y) of shape (..., rows of the bin)."""
    order = np.argsort(log_x, axis=-1, kind="stable")
    x, y = np.take_along_axis(log_x, order, -1), np.take_along_axis(y, order, -1)
    edges = np.linspace(0, x.shape[-1], min(bins, x.shape[-1]) + 1).astype(int)
    return [(x[..., a:b], y[..., a:b]) for a, b in itertools.pairwise(edges)]


def _slope_through(x: list[Floats], y: list[Floats]) -> Floats:
    """Return the least-squares slope through points, each of shape (...); NaN where x stands still."""
    mx, my = np.stack(x, axis=-1), np.stack(y, axis=-1)
    mx = mx - mx.mean(axis=-1, keepdims=True)
    spread = (mx**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope: Floats = np.where(spread > 0, (mx * my).sum(axis=-1) / spread, np.nan)
    return slope


def binned_slope(log_x: Floats, log_y: Floats, bins: int) -> Floats:
    """Return the least-squares slope through the medians of equal-count bins of `log_x`.

    Parameters
    ----------
    log_x, log_y
        Complete rows, shape (..., n); each leading index is a resample of its own.
    bins
        Number of bins, at most n.

    Returns
    -------
    Shape (...); NaN where the bins do not differ in `log_x`.
    """
    pieces = _pieces(log_x, log_y, bins)
    return _slope_through(
        [np.median(x, axis=-1) for x, _ in pieces], [np.median(y, axis=-1) for _, y in pieces]
    )


def slope_of_means(log_x: Floats, y: Floats, bins: int) -> Floats:
    """Return the slope of ln(mean y) on ln(mean x) through equal-count bins; rows of 0 count.

    The mean of ln y over rows that happen to be positive is no ln of a mean: where a queue is mostly empty
    the rows with one say how long it is when there is one, which moves much less than how often there is one
    (Santos Silva & Tenreyro 2006).

    Parameters
    ----------
    log_x, y
        Complete rows, shape (..., n); each leading index is a resample of its own; y ≥ 0.
    bins
        Number of bins, at most n.

    Returns
    -------
    Shape (...); NaN where a bin holds nothing but zeros.
    """
    pieces = _pieces(log_x, y, bins)
    return _slope_through(
        [np.log(np.exp(x).mean(axis=-1)) for x, _ in pieces],
        [positive_log(values.mean(axis=-1)) for _, values in pieces],
    )


def waiting_rows(x: Floats, y: Floats, used: Mask, bins: int) -> tuple[Mask, int]:
    """Return the rows of a queue that carry its slope, and how many bins they fill; (none, 0) without any.

    They lie between the loads that hold the middle 90 % of all that waited. Each bin holds at least 5 rows
    with a queue, and there are at least 3 bins.

    Parameters
    ----------
    x, y
        Load and queue, shape (n,); NaN = missing.
    used
        Rows in the operating range, shape (n,).
    bins
        Most bins.
    """
    rows = used & (x > 0) & (y >= 0)
    total = float(y[rows].sum())
    if total <= 0.0:
        return np.zeros_like(used), 0
    order = np.argsort(x[rows], kind="stable")
    loads, share = x[rows][order], np.cumsum(y[rows][order]) / total
    low, high = (float(loads[np.searchsorted(share, at)]) for at in WAITING_RANGE)
    rows &= (x >= low) & (x <= high)
    most = min(bins, int((y[rows] > 0).sum()) // WAITING_ROWS_MIN)
    for count in range(most, GROUP_MIN - 1, -1):
        held = [int((values > 0).sum()) for _, values in _pieces(np.log(x[rows]), y[rows], count)]
        if min(held) >= WAITING_ROWS_MIN:
            return rows, count
    return np.zeros_like(used), 0


def elasticity(x: Floats, y: Floats, bins: int = ELASTICITY_BINS) -> float | None:
    """Return the slope of ln y on ln x through bin medians; None below 2 positive rows a bin.

    Parameters
    ----------
    x, y
        Rows, shape (n,); rows that are missing or not positive are left out.
    bins
        Equal-count bins of ln x.
    """
    log_x, log_y = _logs(x, y)
    if log_x.size < 2 * bins:
        bins = log_x.size // 2
    if bins < GROUP_MIN:
        return None
    slope = float(binned_slope(log_x, log_y, bins))
    return slope if math.isfinite(slope) else None


def elasticity_interval(
    value: float,
    x: Floats,
    y: Floats,
    resamples: Integers,
    bins: int = ELASTICITY_BINS,
    slope: Callable[[Floats, Floats, int], Floats] | None = None,
) -> Interval:
    """Return the 95 % interval of an elasticity: bootstrap, widened in quadrature by a systematic term.

    Parameters
    ----------
    value
        The elasticity of the rows.
    x, y
        Complete rows, shape (n,), positive but for a queue's `y`.
    resamples
        Row numbers of the bootstrap, shape (draws, n).
    bins
        Equal-count bins of ln x.
    slope
        How a resample's slope is had from ln x, y and the bins; None takes medians of ln y.
    """
    log_x = np.log(x)
    bins = max(2, min(bins, x.size // 2))
    drawn = log_x[resamples]
    slopes = (
        binned_slope(drawn, np.log(y)[resamples], bins) if slope is None else slope(drawn, y[resamples], bins)
    )
    # A resample that lost most of the load range says nothing about the slope.
    kept = np.std(drawn, axis=-1) >= MAJORITY * np.std(log_x)
    low, high = percentile_interval(np.where(kept, slopes, np.nan))
    added = NORMAL_95 * ELASTICITY_SYSTEMATIC_SD
    return value - math.hypot(max(value - low, 0.0), added), value + math.hypot(max(high - value, 0.0), added)


def local_slopes(x: Floats, y: Floats) -> tuple[float, float] | None:
    """Return the smallest and the largest slope over three thirds of ln x.

    None where a third holds fewer than 8 rows.
    """
    log_x, log_y = _logs(x, y)
    if log_x.size < 18:
        return None
    cuts = np.linspace(log_x.min(), log_x.max(), 4)
    thirds = [(log_x >= a) & (log_x <= b) for a, b in itertools.pairwise(cuts)]
    slopes = [float(binned_slope(log_x[t], log_y[t], 4)) for t in thirds if t.sum() >= 8]
    if len(slopes) < 3 or not all(map(math.isfinite, slopes)):
        return None
    return min(slopes), max(slopes)


def _logs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    log_x, log_y = positive_log(x), positive_log(y)
    good = np.isfinite(log_x) & np.isfinite(log_y)
    return log_x[good], log_y[good]


@dataclass(frozen=True)
class Association:
    """Pearson and Spearman correlation of the same rows, with 95 % intervals."""

    pearson: float
    pearson_ci: Interval
    spearman: float
    spearman_ci: Interval


def correlation(x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation along the last axis; 0 where either side does not move."""
    dx = x - x.mean(axis=-1, keepdims=True)
    dy = y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt((dx**2).sum(axis=-1) * (dy**2).sum(axis=-1))
    # Rounding leaves a speck of variance in a constant: compare with the size of the numbers.
    floor = 1e-12 * np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Floats = np.where(scale > floor, (dx * dy).sum(axis=-1) / scale, 0.0)
    return rho


def rank_correlation(x: Floats, y: Floats) -> float:
    """Return Spearman's correlation of complete rows, shape (n,), ties at their mean rank."""
    return float(correlation(mean_ranks(x), mean_ranks(y)))


def associate(x: Floats, y: Floats, resamples: Integers, block: int | None = None) -> Association:
    """Return the association of complete rows with intervals.

    Parameters
    ----------
    x, y
        Complete rows, shape (n,).
    resamples
        Row numbers of the bootstrap, shape (draws, n).
    block
        Rows of a block where whole circular blocks were drawn; None where rows or runs were.
    """
    if block is None:
        draws = correlation(x[resamples], y[resamples])
    else:
        draws = block_correlations(x, y, resamples[:, ::block], block)
    linear, ranked = float(correlation(x, y)), rank_correlation(x, y)
    ranks = correlation(drawn_ranks(x, resamples), drawn_ranks(y, resamples))
    return Association(
        linear,
        fisher_interval(linear, draws),
        ranked,
        fisher_interval(ranked, ranks),
    )


def highpass_rank_correlation(x: Floats, y: Floats, step_s: float) -> float | None:
    """Return Spearman's correlation of what two-hour running means leave; None below 12 rows.

    A common clock or trend gives a high correlation and a low one here; a signal that load drives keeps both.

    Parameters
    ----------
    x, y
        Regular rows, usually logs, shape (n,); NaN = missing.
    step_s
        Width of a row [s].
    """
    half = max(1, round(TREND_S / step_s / 2.0))
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < ROWS_MIN:
        return None
    left_x, left_y = (highpass(np.where(both, s, np.nan), half)[both] for s in (x, y))
    return rank_correlation(left_x, left_y)


SNR_CAP = 1000.0
"""Largest signal-to-noise ratio reported: above it the noise is below the resolution of the numbers."""


def signal_to_noise(x: Floats, y: Floats) -> float:
    """Return the reach of the monotone fit over the noise about it, capped at 1000; 0 for a constant.

    Noise is 1.4826·MAD of the residuals, or 1.25 times their mean size where the MAD is 0 (a queue that is
    mostly empty). Reach is the fit's q95 − q05.

    Parameters
    ----------
    x, y
        Complete rows, shape (n,).
    """
    if x.size < 2:
        return 0.0
    fit = load_fit(x, y).predict(x)
    residual = y - fit
    low, high = np.quantile(fit, LOAD_RANGE_QUANTILES)
    noise = MAD_TO_SD * float(np.median(np.abs(residual - np.median(residual))))
    # A MAD of rounding specks is a MAD of 0.
    speck = 1e-12 * float(np.abs(y).max())
    if noise <= speck:
        noise = 1.25 * float(np.mean(np.abs(residual)))
    if high - low <= speck:
        return 0.0
    return min(SNR_CAP, float(high - low) / noise) if noise > speck else SNR_CAP


def load_fit(x: Floats, y: Floats) -> MonotoneFit:
    """Return the monotone fit of a signal on its load through at most 60 bins of at least 3 rows."""
    rows = int((np.isfinite(x) & np.isfinite(y)).sum())
    return monotone_fit(x, y, bins=max(2, min(FIT_BINS, rows // GROUP_MIN)))


def log_residuals(x: Floats, y: Floats) -> Floats:
    """Return ln y minus its monotone fit on x, shape (n,); NaN where a row is missing or not positive."""
    log_x, log_y = positive_log(x), positive_log(y)
    left: Floats = log_y - load_fit(log_x, log_y).predict(log_x)
    return left


def relative(shift: float, slope: float | None) -> float:
    """Return a shift of ln y relative to the elasticity, which counts as at least 0.3."""
    return shift / max(ELASTICITY_FLOOR, abs(slope or 0.0))


def block_drift(residuals: Floats, start_s: Floats) -> float | None:
    """Return the standard deviation of the median residuals of 3-h blocks; None with fewer than two blocks.

    Parameters
    ----------
    residuals
        Residuals of ln y, shape (n,); NaN = not used.
    start_s
        Start of each row [s], shape (n,).
    """
    good = np.isfinite(residuals) & np.isfinite(start_s)
    if not good.any():
        return None
    number = ((start_s[good] - start_s[good].min()) // DRIFT_BLOCK_S).astype(int)
    blocks = [residuals[good][number == k] for k in np.unique(number)]
    medians = [float(np.median(block)) for block in blocks if block.size >= DRIFT_BLOCK_ROWS]
    return float(np.std(medians, ddof=1)) if len(medians) >= 2 else None

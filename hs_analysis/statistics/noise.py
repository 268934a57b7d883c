"""Noise of a series about any course it takes, and the noise of counting independent requests."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import DAY_S
from hs_analysis.statistics.constants import DIFFERENCES_MIN, STEP_SD

MAD_TO_SD = 1.4826
"""Standard deviation of a normal variable in units of its median absolute deviation."""


def second_differences(pieces: list[Floats]) -> Floats:
    """Return Δ²y of each piece of regularly spaced values; those across a missing value are left out."""
    second = [piece[2:] - 2.0 * piece[1:-1] + piece[:-2] for piece in pieces if piece.size >= 3]
    differences = np.concatenate(second) if second else np.empty(0)
    known: Floats = differences[np.isfinite(differences)]
    return known


def second_difference_noise(pieces: list[Floats]) -> float:
    """Return the noise of regularly spaced values about any straight course, NaN under five differences.

    1.4826 · MAD(Δ²y) / √6; differences across a missing value or a piece's end are left out.
    """
    differences = second_differences(pieces)
    if differences.size < DIFFERENCES_MIN:
        return math.nan
    mad = float(np.median(np.abs(differences - np.median(differences))))
    return MAD_TO_SD * mad / math.sqrt(6.0)


def crossing_z(a_day: float, window_s: float) -> float:
    """Return how many standard deviations noise passes this often a day, on either side.

    z = Φ⁻¹(1 − a ÷ (2 · 86400 ÷ W)) with a crossings allowed a day and a look every W seconds.
    """
    return float(ndtri(1.0 - a_day / (2.0 * DAY_S / window_s)))


def largest_sd(count: int) -> float:
    """Return the standard deviation of the largest of some independent standard normals: 0.669 of five."""
    edges = np.linspace(-9.0, 9.0, 4001)
    share = np.diff(ndtr(edges) ** count)
    middle = (edges[1:] + edges[:-1]) / 2.0
    mean = float((share * middle).sum())
    return math.sqrt(float((share * middle**2).sum()) - mean**2)


def count_noise(values: Floats, group: Integers) -> float:
    """Return variance ÷ mean of one row of a rate that counts independent requests.

    From second differences, each divided by the root of its own level, so that neither a trend nor a few
    steps count as noise: (1.4826 · MAD)² ÷ 6. A Poisson count of requests per second in windows of w seconds
    has 1 ÷ w; of tokens, tokens per request ÷ w.

    Parameters
    ----------
    values
        Rate, shape (n,), NaN where missing.
    group
        Capture number of each row, shape (n,); no difference crosses a capture.

    Returns
    -------
    In the unit of the rate; NaN under five differences.
    """
    inside = (group[2:] == group[1:-1]) & (group[1:-1] == group[:-2])
    level = (values[2:] + values[1:-1] + values[:-2]) / 3.0
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = (values[2:] - 2.0 * values[1:-1] + values[:-2]) / np.sqrt(level)
    scaled = scaled[inside & np.isfinite(scaled)]
    if scaled.size < DIFFERENCES_MIN:
        return math.nan
    sd = MAD_TO_SD * float(np.median(np.abs(scaled - np.median(scaled))))
    return sd * sd / 6.0


def steps(values: Floats, noise: float, group: Integers) -> Mask:
    """Return the rows on either side of a step: a change between neighbours that chance does not explain.

    |y₂ − y₁| > 3·√(noise · (y₁ + y₂)). No row where the noise is unknown.

    Parameters
    ----------
    values, group
        As of `count_noise`.
    noise
        Variance ÷ mean of one row.
    """
    out = np.zeros(values.size, dtype=bool)
    if not noise > 0.0:
        return out
    before, after = values[:-1], values[1:]
    with np.errstate(invalid="ignore"):
        parted = np.abs(after - before) > STEP_SD * np.sqrt(noise * (before + after))
    parted &= group[1:] == group[:-1]
    out[:-1] |= parted
    out[1:] |= parted
    return out

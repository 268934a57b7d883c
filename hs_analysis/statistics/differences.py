"""Noise of a series about any course it takes, from second differences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]

DIFFERENCES_MIN = 5
"""Fewest second differences that tell noise."""

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
    return float(norm.ppf(1.0 - a_day / (2.0 * 86_400.0 / window_s)))

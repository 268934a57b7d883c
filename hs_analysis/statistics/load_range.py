"""How far load moves: what a signal or a capacity can be read from."""

from __future__ import annotations

import math

import numpy as np

from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import LOAD_RANGE_QUANTILES, TEST_LEVEL_STEP


def load_range(load: Floats) -> float:
    """Return q95 ÷ q05 of complete loads, shape (n,); NaN without rows, infinite when q05 is 0."""
    if load.size == 0:
        return math.nan
    low, high = np.quantile(load, LOAD_RANGE_QUANTILES)
    return float(high / low) if low > 0 else math.inf


def load_levels(load: Floats) -> int:
    """Return how many levels 25 % apart the positive loads reach, counted upwards from the lowest."""
    count, level = 0, 0.0
    for value in np.sort(load):
        if value > 0 and value >= TEST_LEVEL_STEP * level:
            count, level = count + 1, float(value)
    return count

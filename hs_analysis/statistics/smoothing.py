"""Running means of series with gaps, and what is left when they are taken away."""

from __future__ import annotations

import numpy as np

from hs_analysis.schema.arrays import Floats


def running_mean(values: Floats, half: int) -> Floats:
    """Return the centred running mean over `2 half + 1` rows, shape (n,).

    Missing rows are left out and the window is cut at both ends; NaN where no row of the window has a value.
    """
    good = np.isfinite(values)
    totals = np.concatenate(([0.0], np.cumsum(np.where(good, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(good)))
    rows = np.arange(values.size)
    low, high = np.maximum(rows - half, 0), np.minimum(rows + half + 1, values.size)
    inside = counts[high] - counts[low]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(inside > 0, (totals[high] - totals[low]) / inside, np.nan)
    return mean


def highpass(values: Floats, half: int) -> Floats:
    """Return the series minus its own centred running mean over `2 half + 1` rows; NaN stays NaN."""
    left: Floats = values - running_mean(values, half)
    return left


def positive_log(values: Floats) -> Floats:
    """Return ln of the positive values, NaN elsewhere, same shape."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs: Floats = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
    return logs

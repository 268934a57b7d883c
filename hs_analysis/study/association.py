"""Rank and linear association of a signal with its load, with block-bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hs_analysis.schema.results import Interval
from hs_analysis.statistics.resampling import block_correlations, percentile_interval
from hs_analysis.statistics.smoothing import highpass

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HIGHPASS_S = 7200.0
"""Width of the running mean taken away before the high-pass check [s]; default of this project."""


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


def rank_correlation(x: Floats, y: Floats) -> Floats:
    """Return Spearman's correlation along the last axis, ties at their mean rank."""
    return correlation(rankdata(x, axis=-1), rankdata(y, axis=-1))


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
    drawn_x, drawn_y = x[resamples], y[resamples]
    if block is None:
        draws = correlation(drawn_x, drawn_y)
    else:
        draws = block_correlations(x, y, resamples[:, ::block], block)
    linear, ranked = float(correlation(x, y)), float(rank_correlation(x, y))
    return Association(
        linear,
        percentile_interval(draws, holding=linear),
        ranked,
        percentile_interval(rank_correlation(drawn_x, drawn_y), holding=ranked),
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
    half = max(1, round(HIGHPASS_S / step_s / 2.0))
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 12:
        return None
    left_x, left_y = (highpass(np.where(both, s, np.nan), half)[both] for s in (x, y))
    return float(rank_correlation(left_x, left_y))

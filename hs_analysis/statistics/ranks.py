"""Ranks with ties at their mean, of rows and of rows drawn again; what a range says of a median."""

from __future__ import annotations

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers


def mean_ranks(values: Floats) -> Floats:
    """Return the ranks 1 .. n of complete values, shape (n,), equal values at the mean of their ranks.

    As ``scipy.stats.rankdata``, whose import alone costs more than all ranks of a run.
    """
    number, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    ranks: Floats = _means_of(counts)[number.reshape(-1)]
    return ranks


def drawn_ranks(values: Floats, rows: Integers) -> Floats:
    """Return the ranks of each draw of rows within that draw, shape (draws, n).

    The rows are sorted once, and each draw counts how often it has a value: nothing is sorted per draw.

    Parameters
    ----------
    values
        Complete values, shape (n,).
    rows
        Row numbers that were drawn, shape (draws, n).
    """
    distinct, number = np.unique(values, return_inverse=True)
    drawn = number.reshape(-1)[rows]
    drawn += np.arange(len(rows))[:, None] * distinct.size
    counts = np.bincount(drawn.reshape(-1), minlength=len(rows) * distinct.size)
    ranks: Floats = _means_of(counts.reshape(len(rows), distinct.size)).reshape(-1)[drawn]
    return ranks


def _means_of(counts: Integers) -> Floats:
    """Return the mean rank of the values of each kind, in order; along the last axis."""
    means: Floats = np.cumsum(counts, axis=-1) - (counts - 1) / 2.0
    return means


def range_holds_median(count: int) -> float:
    """Return the chance that the range of so many independent values holds their median: 1 − 2^(1−n).

    David and Nagaraja 2003, Order Statistics, 7.1.
    """
    return 1.0 - 2.0 ** (1 - count)

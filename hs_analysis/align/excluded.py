"""What the user leaves out of the history: its windows are missing, not zero, and no total counts them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TypeAlias

import numpy as np
import polars as pl

from hs_analysis.align.counters import Increases
from hs_analysis.schema.settings import Excluded

TimeRanges: TypeAlias = tuple[tuple[float, float], ...]
"""First moment and first that is not left out any more [s since 1970, UTC], whole windows."""


def widened(one: Excluded, window_s: float) -> tuple[float, float]:
    """Return an excluded stretch widened to whole windows: a window that it touches is left out."""
    start, end = (datetime.fromisoformat(text).timestamp() for text in (one.start, one.end))
    return math.floor(start / window_s) * window_s, math.ceil(end / window_s) * window_s


def is_excluded(left_out: TimeRanges) -> pl.Expr:
    """Whether a row's window is left out; ``t`` is its start in Unix seconds."""
    return _any(left_out, pl.col("t"))


def row_is_excluded(left_out: TimeRanges, moment: str = "t") -> pl.Expr:
    """Whether a row's window is left out; ``moment`` is the column of its start as a timestamp."""
    return _any(left_out, pl.col(moment).dt.epoch("us") / 1e6)


def _any(left_out: TimeRanges, t: pl.Expr) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *((t >= start) & (t < end) for start, end in left_out))


def without_excluded(table: pl.DataFrame, left_out: TimeRanges) -> pl.DataFrame:
    """Return a service's table with every value of the windows left out as null; the grid stays whole."""
    if not left_out:
        return table
    values = [name for name in table.columns if name not in ("capture", "t")]
    return table.with_columns(
        pl.when(~row_is_excluded(left_out)).then(pl.col(name)).alias(name) for name in values
    )


def gain_outside(increases: Increases, left_out: TimeRanges) -> float:
    """Return what a counter gained outside the stretches; an increase counts by the share of its time."""
    if not left_out:
        return float(increases.gain.sum())
    length = increases.t1 - increases.t0
    covered = np.zeros(length.size)
    for start, end in _merged(left_out):
        covered += np.maximum(np.minimum(increases.t1, end) - np.maximum(increases.t0, start), 0.0)
    outside = np.where(length > 0, 1.0 - covered / np.where(length > 0, length, 1.0), 1.0)
    return float((increases.gain * outside).sum())


def _merged(left_out: TimeRanges) -> TimeRanges:
    """Return the stretches with those that overlap as one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(left_out):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)

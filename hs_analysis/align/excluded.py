"""What the user leaves out of the history: its windows are missing, not zero, and no total counts them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TypeAlias

import polars as pl

from hs_analysis.schema.settings import Excluded

Stretches: TypeAlias = tuple[tuple[float, float], ...]
"""First moment and first that is not left out any more [s since 1970, UTC], whole windows."""


def stretch(one: Excluded, window_s: float) -> tuple[float, float]:
    """Return an excluded stretch widened to whole windows: a window that it touches is left out."""
    start, end = (datetime.fromisoformat(text).timestamp() for text in (one.start, one.end))
    return math.floor(start / window_s) * window_s, math.ceil(end / window_s) * window_s


def within(left_out: Stretches) -> pl.Expr:
    """Whether a row's window is left out; ``t`` is its start in Unix seconds."""
    return _any(left_out, pl.col("t"))


def row_within(left_out: Stretches, moment: str = "t") -> pl.Expr:
    """Whether a row's window is left out; ``moment`` is the column of its start as a timestamp."""
    return _any(left_out, pl.col(moment).dt.epoch("us") / 1e6)


def _any(left_out: Stretches, t: pl.Expr) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *((t >= start) & (t < end) for start, end in left_out))


def without(table: pl.DataFrame, left_out: Stretches) -> pl.DataFrame:
    """Return a service's table with every value of the windows left out as null; the grid stays whole."""
    if not left_out:
        return table
    values = [name for name in table.columns if name not in ("capture", "t")]
    return table.with_columns(
        pl.when(~row_within(left_out)).then(pl.col(name)).alias(name) for name in values
    )


def increases_outside(increases: pl.DataFrame, left_out: Stretches) -> pl.DataFrame:
    """Return counter increases without the part that falls into the stretches, by the share of their time."""
    covered = pl.lit(0.0)
    for start, end in _merged(left_out):
        overlap = pl.min_horizontal("t1", pl.lit(end)) - pl.max_horizontal("t0", pl.lit(start))
        covered = covered + overlap.clip(lower_bound=0.0)
    if not left_out:
        return increases
    length = pl.col("t1") - pl.col("t0")
    outside = pl.when(length > 0).then(1.0 - covered / length).otherwise(1.0)
    return increases.with_columns(pl.col("increase") * outside)


def _merged(left_out: Stretches) -> Stretches:
    """Return the stretches with those that overlap as one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(left_out):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)

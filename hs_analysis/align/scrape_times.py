"""What a query's grid leaves open in rates: its answers do not say when a value was scraped.

A server answers at each point of the grid with the last sample before it, so a counter on a grid is the
counter itself, late by a delay d that stays the same: 0 ≤ d < δ, δ the distance of scrapes. With G(x) what
the answer gains in the δ after a moment x, a window from s to e of width W then truly has the rate

    r(s, e) + d/δ · (G(e) − G(s)) / W,

the gain taken as even inside δ. Each target has a delay of its own, so of a total the sum of the positive and
that of the negative differences bound what is open, whichever is larger:

    u = max(Σ (G(e) − G(s))⁺, Σ (G(e) − G(s))⁻) / (W · r).

Of a ratio of two totals n ÷ m the differences are those of n less n/m times those of m, over m and what m may
lose. Windows put together have the differences of their two ends only, so u falls as 1/W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.align.formulas import Emitted, Span, Term, emitted, grouped, span_of
from hs_analysis.align.presence import nulls_last
from hs_analysis.align.series_windows import WindowStore

RATE_BOUNDS = {
    "service": pl.String, "capture": pl.String, "role": pl.String, "signal": pl.String, "source": pl.String,
    "width_s": pl.Float64, "t": pl.Float64, "open_ratio": pl.Float64,
}  # fmt: skip
"""Columns of the result: ``t`` is the start of a window [s since 1970, UTC], ``open_ratio`` is u; null where
the rate is zero."""

WIDTHS = (1, 2, 3, 5, 10, 15, 30, 60)
"""Widths that are looked at, in windows of the run: up to an hour of minutes."""

_FORMULA = ("service", "capture", "role", "signal", "source", "preference")


@dataclass(frozen=True)
class _Open:
    """The emitters of a formula; shape (windows,) each.

    ``above`` and ``below`` are the totals over and under the line, NaN in ``above`` where there is none;
    ``differences`` are each emitter's of the two.
    """

    first: int
    above: np.ndarray
    below: np.ndarray
    differences: tuple[tuple[np.ndarray, np.ndarray], ...]


def rate_bounds(
    chosen: pl.DataFrame,
    terms: pl.DataFrame,
    store: WindowStore,
    width_s: float,
    delayed: Mapping[int, float],
) -> pl.DataFrame:
    """Return how far the rates of chosen sources on a grid may be off, per window and for wider ones.

    Parameters
    ----------
    chosen
        Rows of the chosen sources.
    terms
        The term table.
    store
        Windows of the series, and of those on a grid also the windows δ later.
    width_s
        Width of a window [s].
    delayed
        Series on a grid → δ [s].

    Returns
    -------
    Frame with the columns RATE_BOUNDS, sorted; windows in which the pool is not whole are left out.
    """
    picked = chosen.select("service", "capture", "role", "signal", "preference").unique()
    on_grid = terms.filter(
        pl.col("gpu_group").is_null() & (pl.col("read") == "rate") & pl.col("series_id").is_in(list(delayed))
    )
    own = on_grid.join(picked, ["service", "capture", "role", "signal", "preference"], how="semi")
    frames = [pl.DataFrame(schema=RATE_BOUNDS)]
    formulas = grouped(own.iter_rows(named=True), *_FORMULA)
    for key in sorted(formulas):
        found = _opened(formulas[key], store)
        if found is not None:
            ratio = formulas[key][0]["pool"] == "ratio"
            frames += [_of_width(key, found, count, width_s, ratio=ratio) for count in WIDTHS]
    return pl.concat(frames)


def delays(grids: pl.DataFrame, series: pl.DataFrame, quality: pl.DataFrame) -> dict[int, float]:
    """Return by how much the samples of series on a grid may be late [s]: the distance of scrapes.

    Parameters
    ----------
    grids
        Series on a grid and the distance of its points, as ``ingest.grids`` finds them.
    series, quality
        Captures, and how often each series brings news [s].

    Notes
    -----
    A grid finer than the scrapes repeats values. The liveliest series of a capture and step tells how often
    there is news at all; no delay is shorter than the step.
    """
    own = grids.join(series.select("series_id", "capture"), "series_id").join(
        quality.select("series_id", "news_s"), "series_id", how="left"
    )
    liveliest = pl.col("news_s").min().over("capture", "step_s")
    late = own.select("series_id", pl.max_horizontal("step_s", liveliest).alias("late_s"))
    return dict(late.iter_rows())


def _opened(terms: Sequence[Term], store: WindowStore) -> _Open | None:
    """Return totals and differences of a formula, None where no series of it has a window."""
    span = span_of(terms, store)
    if span is None:
        return None
    parts = len({term["term"] for term in terms})
    above, below, there = (np.zeros(span.size) for _ in range(3))
    differences = []
    emitters = grouped(terms, "emitter")
    for emitter in sorted(emitters, key=lambda one: nulls_last(one[0])):
        for now, later in _generations(emitters[emitter], store, span):
            whole = (now.parts == parts) & (later.parts == parts)
            there += whole
            above += np.where(whole, now.total, 0.0)
            below += np.where(whole, now.below, 0.0)
            differences.append(
                (np.where(whole, later.total - now.total, 0.0), np.where(whole, later.below - now.below, 0.0))
            )
    gone = there == 0
    above[gone] = np.nan
    return _Open(span.first, above, below, tuple(differences))


def _generations(terms: Sequence[Term], store: WindowStore, span: Span) -> Iterator[tuple[Emitted, Emitted]]:
    """Yield an emitter's windows and those δ later, for each generation of its metrics' names."""
    for own in grouped(terms, "generation").values():
        yield emitted(own, store, span), emitted(own, store, span, kind="later")


def _of_width(
    key: tuple[object, ...], found: _Open, count: int, width_s: float, *, ratio: bool
) -> pl.DataFrame:
    """Return the bounds of windows of ``count`` neighbouring ones each."""
    skipped = -found.first % count
    above, below = (_put_together(values, skipped, count) for values in (found.above, found.below))
    value = above / below if ratio else above
    up, down, lost = (np.zeros(above.size) for _ in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        for both in found.differences:
            over, under = (_put_together(values, skipped, count) for values in both)
            difference = over - value * under if ratio else over
            up += np.maximum(difference, 0.0)
            down += np.maximum(-difference, 0.0)
            lost += np.minimum(under, 0.0)
        scale = np.maximum(below + lost, 0.0) * value if ratio else value
        bound = np.maximum(up, down) / scale
    whole = np.flatnonzero(~np.isnan(above))
    columns = {
        "t": ((found.first + skipped) + whole * count) * width_s,
        "open_ratio": np.where(np.isfinite(bound), bound, np.nan)[whole],
    }
    names = dict(zip(("service", "capture", "role", "signal", "source"), key, strict=False))
    return (
        pl.DataFrame(columns, schema={"t": pl.Float64, "open_ratio": pl.Float64})
        .with_columns(
            pl.col("open_ratio").fill_nan(None),
            pl.lit(count * width_s).alias("width_s"),
            **{name: pl.lit(value, pl.String) for name, value in names.items()},
        )
        .select(*RATE_BOUNDS)
    )


def _put_together(values: np.ndarray, skipped: int, count: int) -> np.ndarray:
    """Return the sums of each ``count`` neighbours from a place on; NaN where one is."""
    whole = max(values.size - skipped, 0) // count
    summed: np.ndarray = values[skipped : skipped + whole * count].reshape(whole, count).sum(axis=1)
    return summed

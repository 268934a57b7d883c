"""Signals instance by instance: what tells a relation within instances from one between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.align.excluded import Stretches
from hs_analysis.align.formulas import Emitted, Span, Term, emitted, grouped, span_of
from hs_analysis.align.series_windows import WindowStore
from hs_analysis.align.tables import instants
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame
from hs_analysis.schema.frames import INSTANCES, check, empty

INSTANCES_MAX = 64
"""Most instances of a role that are kept, evenly spaced by name: enough for a slope, bounded in size."""

ROW_S = 300.0
"""Width of a row [s]: the study's rows behind association and elasticity; in a pressure test one window."""

_SIGNAL = ["service", "role", "signal"]
_POOL = ["service", "capture", "role"]


def instance_terms(
    frames: tuple[ServiceFrame, ...], terms: pl.DataFrame, chosen: pl.DataFrame
) -> pl.DataFrame:
    """Return the terms of candidate signals that every instance of their pool exports.

    Parameters
    ----------
    frames
        The aligned services.
    terms
        The term table.
    chosen
        Rows of the chosen sources, with service, role, signal and preference.

    Returns
    -------
    Terms over all GPU types of at most 64 instances a pool, evenly spaced by name; pools of one instance are
    left out.
    """
    candidates = [
        (frame.service, info.role, info.signal)
        for frame in frames
        for info in frame.signals
        if info.role in POOL_ROLES and info.family != "auxiliary"
    ]
    wanted = pl.DataFrame(candidates, schema=dict.fromkeys(_SIGNAL, pl.String), orient="row")
    sources = chosen.select(*_SIGNAL, "preference").unique()
    own = terms.filter(pl.col("gpu_group").is_null() & pl.col("instance").is_not_null())
    own = own.join(wanted, _SIGNAL, how="semi").join(sources, [*_SIGNAL, "preference"], how="semi")
    pools = own.group_by(_POOL).agg(pl.col("instance").unique().sort())
    sizes = pools.with_columns(pl.col("instance").list.len().alias("size")).drop("instance")
    exporters = own.group_by([*_POOL, "signal"]).agg(pl.col("instance").n_unique().alias("exporting"))
    everywhere = exporters.join(sizes, _POOL).filter(
        (pl.col("exporting") == pl.col("size")) & (pl.col("size") > 1)
    )
    kept = pools.with_columns(pl.col("instance").map_elements(_spread, return_dtype=pl.List(pl.String)))
    own = own.join(everywhere, [*_POOL, "signal"], how="semi")
    return own.join(kept.explode("instance"), [*_POOL, "instance"], how="semi")


def row_width_s(kind: str, window_s: float) -> float:
    """Return the width of a row [s]: whole windows, about five minutes; in a pressure test one window."""
    return window_s if kind == "pressure_test" else window_s * max(1, round(ROW_S / window_s))


def _spread(names: pl.Series) -> list[str]:
    """Return at most 64 of the sorted names, first and last among them."""
    count = min(len(names), INSTANCES_MAX)
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, count).round()]


def instance_windows(
    terms: pl.DataFrame,
    store: WindowStore,
    left_out: Stretches,
    width_s: float,
    row_s: float,
    least_coverage: float,
) -> pl.DataFrame:
    """Return one value per instance, signal and row of several windows, a frame of contract INSTANCES.

    The reference query ``align/instance_windows`` of the tests is the same work in SQL.

    Parameters
    ----------
    terms
        Terms of the instances and sources wanted.
    store
        Windows of their series.
    left_out
        Stretches whose windows do not count.
    width_s, row_s
        Widths of a window and of a row [s].
    least_coverage
        Share of a window's samples, and of a row's windows, below which there is no value [ratio, 0..1].
    """
    rows = list(terms.iter_rows(named=True))
    formulas = grouped(rows, *_POOL, "signal", "generation")
    parts = {formula: len({term["term"] for term in own}) for formula, own in formulas.items()}
    frames = []
    for key, own in sorted(grouped(rows, *_POOL, "signal", "instance").items()):
        span = span_of(own, store)
        if span is not None:
            t = np.arange(span.first, span.after) * width_s
            kept = _kept(t, left_out)
            by_window, there = _of_instance(own, parts, store, span, least_coverage)
            row, value = _rows(
                own[0]["pool"], by_window, there & kept, np.floor(t / row_s), row_s / width_s, least_coverage
            )
            named = {
                name: pl.lit(text, pl.String)
                for name, text in zip((*_POOL, "signal", "instance"), key, strict=True)
            }
            frames.append(
                pl.DataFrame(
                    {"t": row * row_s, "value": value}, schema={"t": pl.Float64, "value": pl.Float64}
                ).with_columns(pl.col("value").fill_nan(None), instants(), **named)
            )
    return check(pl.concat(frames), INSTANCES) if frames else empty(INSTANCES)


def _kept(t: np.ndarray, left_out: Stretches) -> np.ndarray:
    """Return which windows, by their starts [s], lie in none of the stretches."""
    kept = np.ones(t.size, bool)
    for first, after in left_out:
        kept &= (t < first) | (t >= after)
    return kept


def _of_instance(
    terms: Sequence[Term],
    parts: Mapping[tuple[Any, ...], int],
    store: WindowStore,
    span: Span,
    least_coverage: float,
) -> tuple[Emitted, np.ndarray]:
    """Return an instance's parts per window from its newest names that have them all, and where there are."""
    best: tuple[Emitted, np.ndarray] | None = None
    for (generation,), own in sorted(grouped(terms, "generation").items()):
        formula = (*(terms[0][name] for name in (*_POOL, "signal")), generation)
        found = emitted(own, store, span, least_coverage)
        whole = found.parts == parts[formula]
        best = (found, whole) if best is None else (best[0].put(found, whole & ~best[1]), whole | best[1])
    assert best is not None  # noqa: S101 - every term has a generation
    return best


def _rows(
    kind: str, windows: Emitted, there: np.ndarray, row: np.ndarray, windows_a_row: float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each row with enough windows, and its value, NaN where there is none."""
    first = int(row[0])
    own = (row[there] - first).astype(np.int64)
    count = np.bincount(own)
    total, mean, below = (
        np.bincount(own, weights=values[there]) for values in (windows.total, windows.mean, windows.below)
    )
    enough = np.flatnonzero((count > 0) & (count >= least * windows_a_row))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = {"mean": mean / count, "ratio": np.where(below == 0, np.nan, total / below)}.get(
            kind, total / count
        )
    return first + enough, value[enough]

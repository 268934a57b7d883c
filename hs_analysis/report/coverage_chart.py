"""The chart of what was recorded when: one row per signal, findings and saturated stretches above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.report import marks
from hs_analysis.report.charts import Chart, make
from hs_analysis.report.thinning import csv_time, runs
from hs_analysis.report.wording import parse_time, percent, plural, seconds, signal_label

STRIP_BINS = 160
"""Most cells of a row; finer than a screen shows."""

COMPLETE_RATIO = 0.9
"""Coverage from which a cell counts as complete; default of this project."""

MISSING_RATIO = 0.05
"""Coverage below which a cell counts as missing; default of this project."""


def coverage(
    signals: pl.DataFrame,
    wanted: Sequence[tuple[str, str]],
    findings: pl.DataFrame,
    service: Mapping[str, Any],
) -> Chart | None:
    """Draw when each signal was recorded; None without any aligned row.

    Parameters
    ----------
    signals
        The service's aligned rows over all GPU types.
    wanted
        (signal, role) in the order of the rows.
    findings
        Findings about the service or the whole input; those with a start get a mark.
    service
        The service's summary, for what is marked.
    """
    if signals.is_empty():
        return None
    window = float(signals["window_s"].to_numpy().max())
    times = signals["t"].dt.epoch("us").to_numpy() / 1e6
    start, end = float(times.min()), float(times.max()) + window
    cell = max((end - start) / STRIP_BINS, window)
    left_out = [(_epoch(band["start"]), _epoch(band["end"])) for band in marks.excluded(service)]
    span = (datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    rows, holes = _event_rows(findings, service, cell, span), []
    for signal, role in wanted:
        mine = signals.filter((pl.col("signal") == signal) & (pl.col("role") == role))
        if mine.is_empty():
            continue
        holes.append(_longest_hole(mine, start, end, left_out))
        label = signal_label(signal, role)
        stretches = _states(mine, start, end, cell)
        rows += [[label, state, csv_time(a), csv_time(b)] for a, b, state in stretches if state != "missing"]
    if not rows:
        return None
    title, gaps = "Every signal was recorded throughout", [hole for hole in holes if hole > 0]
    if gaps:
        words = plural(len(gaps), "signal has", "signals have")
        title = f"{words} holes; the longest takes {seconds(max(gaps))}"
    reading = (
        f"Thick: at least {percent(COMPLETE_RATIO)} of the expected samples; thin: fewer; empty: none. Rows "
        "on top mark findings, saturated and excluded stretches, and events."
    )
    table = (["row", "state", "start", "end"], rows)
    return make("coverage", "coverage", (title, reading, title + "."), table)


def _states(mine: pl.DataFrame, start: float, end: float, cell: float) -> list[tuple[float, float, str]]:
    """Return runs of complete, partial and missing cells of one signal."""
    n = max(1, int(np.ceil((end - start) / cell - 1e-9)))
    window = float(mine["window_s"][0])

    def cells(moments: np.ndarray) -> np.ndarray:
        return np.clip(((moments - start) / cell).astype(np.int64), 0, n - 1)

    # A window's covered seconds go to the cell that holds its start, and so does the room they have there.
    covered = mine["coverage"].cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy() * window
    seen = np.bincount(cells(mine["t"].dt.epoch("us").to_numpy() / 1e6), covered, n)
    room = np.bincount(cells(np.arange(start, end, window)), minlength=n) * window
    share = seen / np.maximum(room, 1e-9)
    words = np.where(
        share < MISSING_RATIO, "missing", np.where(share < COMPLETE_RATIO, "partial", "complete")
    )
    edges = start + cell * np.arange(n + 1)
    return runs(words.tolist(), edges[:-1].tolist(), np.minimum(edges[1:], end).tolist())


def _longest_hole(
    mine: pl.DataFrame, start: float, end: float, left_out: Sequence[tuple[float, float]]
) -> float:
    """Return the longest time without any sample of a signal [s], 0 when there is none.

    What was left out on purpose is no hole.
    """
    window = float(mine["window_s"][0])
    seen = mine.filter(pl.col("coverage") >= MISSING_RATIO)["t"].unique().sort()
    meant = [np.arange(a - a % window, b, window) for a, b in left_out]
    moments = np.concatenate([seen.dt.epoch("us").to_numpy() / 1e6, *meant])
    edges = np.r_[start - window, np.unique(moments[(moments >= start) & (moments < end)]), end]
    return float(max(0.0, (np.diff(edges) - window).max()))


def _event_rows(
    findings: pl.DataFrame, service: Mapping[str, Any], cell: float, span: tuple[datetime, datetime]
) -> list[list[str]]:
    """Return one row per timed finding, saturated or excluded stretch and event of the user.

    A moment is half a cell wide.
    """
    timed = findings.filter(pl.col("start").is_not_null() & (pl.col("level") != "pass"))
    rows = []
    for check, start, end in timed.sort("check", "start", "text").select("check", "start", "end").iter_rows():
        first = _epoch(start)
        last = max(_epoch(end), first + cell / 2)
        rows.append([check.replace("_", " "), "event", csv_time(first), csv_time(last)])
    saturated, excluded, happened = marks.between(service, *span)
    for name, bands in (("saturated", saturated), ("excluded", excluded)):
        rows += [[name, "event", csv_time(_epoch(b["start"])), csv_time(_epoch(b["end"]))] for b in bands]
    for event in happened:
        at = _epoch(event["t"])
        rows.append([event["kind"], "event", csv_time(at), csv_time(at + cell / 2)])
    return rows


def _epoch(moment: Any) -> float:
    when = parse_time(moment)
    return when.timestamp() if when else 0.0

"""Described tables whose rows are requests or benchmark points."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.catalogue.rows import factor, measured
from hs_analysis.errors import InputError
from hs_analysis.ingest.bench_rows import (
    BENCH_NUMBERS,
    BENCH_SCHEMA,
    POINT,
    fault,
    raw_bench,
    series_text,
    with_throughput,
)
from hs_analysis.ingest.cells import numbers
from hs_analysis.ingest.delimited import Records, chosen
from hs_analysis.ingest.mapped import CAPTURE, FILE, Mapped, reject_row
from hs_analysis.ingest.raw import RawBench, RawRequests, ReadNotes
from hs_analysis.ingest.request_rows import REQUEST_SCHEMA, raw_requests, since_start
from hs_analysis.schema.frames import BENCH, REQUESTS

FORMAT = "table"

_COUNTED = re.compile(r"(\d+)\s*[x×]\s*(.*)", re.IGNORECASE)
"""``8xH100 FP8``: how many cards of what."""

_TRUE = frozenset({"true", "1", "yes", "disagg"})


@dataclass(frozen=True)
class Fill:
    """Which columns of a file fill which columns of the table of requests or benchmark points.

    Attributes
    ----------
    table
        The description.
    known
        Columns of the table that is filled, with their types.
    targets
        (column of the file, column of the table, factor).
    extra
        (column of the file, label) of what else tells rows apart.
    captures
        Column of the file that names the capture.
    """

    table: Mapped
    known: Mapping[str, Any]
    targets: tuple[tuple[str, str, float], ...]
    extra: tuple[tuple[str, str], ...]
    captures: str | None


def fill_of(table: Mapped, where: str) -> Fill:
    """Return how a description fills the table it names.

    Raises
    ------
    InputError
        When it names a column the table does not have; the message lists those it has.
    UsageError
        When a unit is not known or does not measure the column.
    """
    row = table.row
    contract, known = (BENCH, BENCH_SCHEMA) if row.holds == "bench" else (REQUESTS, REQUEST_SCHEMA)
    named = {column: mapped.signal for column, mapped in row.columns.items()} | {k: k for k in row.fixed}
    for column, name in sorted(named.items()):
        if name not in known:
            raise InputError(
                f"{table.setting} maps {column!r} to {name!r}, which is no column of {row.holds}",
                where=where,
                hint=f"columns: {', '.join(known)}",
            )
    targets = [
        (column, mapped.signal, _factor(contract, mapped.signal, mapped.unit, table.setting))
        for column, mapped in sorted(row.columns.items())
    ]
    labels = sorted(row.labels.items())
    return Fill(
        table, known,
        tuple(targets + [(column, label, 1.0) for column, label in labels if label in known]),
        tuple((column, label) for column, label in labels if label not in known and label != CAPTURE),
        next((column for column, label in labels if label == CAPTURE), None),
    )  # fmt: skip


def _factor(contract: pa.Schema, name: str, unit: str | None, setting: str) -> float:
    """Return what a value is multiplied by; without a unit it is in the column's own."""
    wanted = (contract.field(name).metadata or {}).get(b"unit", b"").decode().partition(" ")[0]
    if unit is None or unit == wanted or measured(wanted) is None:
        return 1.0
    return factor(unit, wanted, where=f"{setting} {name}")


def request_piece(
    records: Records, t_us: np.ndarray | None, start_us: int, fill: Fill, notes: ReadNotes, *, placed: bool
) -> RawRequests | None:
    """Return the requests of a batch; a row with a cell that can't be read is set aside.

    Parameters
    ----------
    records, t_us
        The rows and their times, None where the table has none.
    start_us
        Start of the log, on the same clock.
    fill
        How columns are filled.
    notes
        Where rows are counted.
    placed
        Whether the times are wall-clock times.
    """
    records, found, keep = _filled(records, fill, notes)
    height = records.cells.height
    if not height:
        return None
    if t_us is not None:
        found["arrival_s"] = since_start(t_us[keep], start_us)
        found["arrival"] = t_us[keep] if placed else None
    notes.rows += height
    piece = raw_requests(found, height)
    piece.frame = _captured(piece.frame, records, fill)
    return piece


def bench_piece(records: Records, fill: Fill, notes: ReadNotes) -> RawBench | None:
    """Return the benchmark points of a batch; a row with a cell that can't be read is set aside."""
    records, found, _ = _filled(records, fill, notes)
    rows, keep = [], np.ones(records.cells.height, bool)
    for i in range(records.cells.height):
        row = _point({name: values[i] for name, values in found.items()}, records, i, fill)
        if detail := fault(row):
            reject_row(records, i, "bad_value", detail, notes)
            keep[i] = False
        else:
            rows.append(row)
    if not rows:
        return None
    notes.rows += len(rows)
    piece = raw_bench(rows)
    piece.frame = _captured(piece.frame, chosen(records, keep), fill)
    return piece


def _filled(records: Records, fill: Fill, notes: ReadNotes) -> tuple[Records, dict[str, Any], np.ndarray]:
    """Return the rows whose cells can be read, their columns, and which rows they are."""
    height = records.cells.height
    found: dict[str, Any] = {}
    faults = [""] * height
    for column, name, size in fill.targets:
        cells = records.cells[column]
        if fill.known[name] != pl.Float64:
            found[name] = cells.cast(pl.String, strict=False).to_list()
            continue
        parsed = numbers(_counts(cells) if name.endswith("_gpus") else cells)
        found[name] = parsed.values * size
        for i in np.flatnonzero(parsed.bad).tolist():
            faults[i] = faults[i] or f"{column} is {cells[i]!r}, no number"
        for i in np.flatnonzero(found[name] < 0).tolist():
            faults[i] = faults[i] or f"{column} is below 0"
    for name, text in fill.table.row.fixed.items():
        found[name] = [_fixed(fill, name, text.replace(FILE, fill.table.stem))] * height
    for i, detail in enumerate(faults):
        if detail:
            reject_row(records, i, "bad_value", detail[:120], notes)
    keep = np.array([not detail for detail in faults], bool)
    at = np.flatnonzero(keep).tolist()
    return chosen(records, keep), {name: [values[i] for i in at] for name, values in found.items()}, keep


def _fixed(fill: Fill, name: str, text: str) -> Any:
    if fill.known[name] != pl.Float64:
        return text
    try:
        return float(text)
    except ValueError:
        what = f"{fill.table.setting} fixes {name} to {text!r}, which is no number"
        raise InputError(what, hint="correct hsa.toml") from None


def _captured(frame: pl.DataFrame, records: Records, fill: Fill) -> pl.DataFrame:
    if fill.captures is None:
        return frame
    names = records.cells[fill.captures].cast(pl.String, strict=False).fill_null("")
    return frame.with_columns(names.alias(CAPTURE))


def _counts(cells: pl.Series) -> pl.Series:
    """Return GPU counts: ``8xH100`` counts 8."""
    return cells.str.replace(r"^([0-9]+)\s*[xX×].*$", "$1") if cells.dtype == pl.String else cells


def _point(cells: Mapping[str, Any], records: Records, i: int, fill: Fill) -> dict[str, Any]:
    row: dict[str, Any] = {"format": FORMAT, "kind": POINT}
    for name, value in cells.items():
        if name in BENCH_NUMBERS:
            row[name] = None if value is None or np.isnan(value) else float(value)
        elif name == "disaggregated":
            row[name] = None if value is None else str(value).lower() in _TRUE
        elif value is not None:
            row[name] = _uncounted(value) if name.endswith("_gpu_type") else value
    extra = [f"{label} {text}" for c, label in fill.extra if (text := records.cells[c][i]) is not None]
    if row["kind"] == POINT:
        row = with_throughput(row)
    row.setdefault("series", series_text(row, extra))
    return row


def _uncounted(name: str) -> str:
    match = _COUNTED.fullmatch(name)
    return match[2] if match else name

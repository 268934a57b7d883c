"""Tables that the user described: long or wide, of samples, requests or benchmark points."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.catalogue.rows import factor, measured
from hs_analysis.errors import InputError, first_of
from hs_analysis.ingest.delimited import Records, chosen, numbers, read_delimited
from hs_analysis.ingest.parquet_rows import MAGIC, read_parquet
from hs_analysis.ingest.rows import (
    BENCH_NUMBERS,
    BENCH_SCHEMA,
    POINT,
    REQUEST_SCHEMA,
    SERIES_CHARACTERS,
    BenchRows,
    Dump,
    Piece,
    RawSeries,
    ReadNotes,
    Rejection,
    RequestRows,
    bench_fault,
    bench_series_text,
    raw_bench,
    raw_requests,
    series_text,
    since_start,
    with_throughput,
)
from hs_analysis.ingest.timestamps import Clock, epoch_us
from hs_analysis.schema.frames import BENCH, REQUESTS
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.settings import Reading, TableRow

ARCHIVE_ENDINGS = (".gz", ".zst")

HOW_TO_MAP = "describe its columns under [tables.NAME] in hsa.toml (hsa help tables)"

CAPTURE = "capture"
"""Label that is no label: its values are the captures the rows belong to."""

FILE = "{file}"
"""Stands for the file's name, without folder and endings, in a fixed label."""


TIME_DETAILS = {
    "bad_ts": "no time that can be read",
    "naive_ts": "a time without a zone: --tz says which",
    "tz_ambiguous": "this hour comes twice, when the clocks go back",
}
"""Reason of a row without a time → what is said of it."""


@dataclass(frozen=True)
class MappedTable:
    """A described table: its name in hsa.toml, the description, and the file's name without its endings."""

    name: str
    row: TableRow
    stem: str

    @property
    def setting(self) -> str:
        """The table in hsa.toml, for messages."""
        return f"[tables.{self.name}]"


def mapped_tables(name: str, reading: Reading) -> list[MappedTable]:
    """Return the descriptions whose pattern fits a file's name; the ending of an archive does not count."""
    bare = name
    for ending in ARCHIVE_ENDINGS:
        bare = bare.removesuffix(ending)
    tried = {name, bare, name.rpartition("/")[2], bare.rpartition("/")[2]}
    return [
        MappedTable(table, row, bare.rpartition("/")[2].partition(".")[0])
        for table, row in sorted(reading.tables.items())
        if any(fnmatchcase(one, row.match) for one in tried)
    ]


def require_columns(table: MappedTable, columns: Sequence[str], where: str) -> None:
    """Hold a description to the columns the file has.

    Raises
    ------
    InputError
        When it names one that is not there; the message lists those that are.
    """
    row = table.row
    wide = row.columns if row.metric is None else {}
    asked = [row.time, row.metric, row.value, *row.labels, *wide, *row.skip_where]
    missing = [name for name in asked if name is not None and name not in columns]
    if missing:
        raise InputError(
            f"{table.setting} names {_listed(missing)}, but the columns are {_listed(columns)}",
            where=where,
            hint="correct the names in hsa.toml",
        )


def _listed(names: Sequence[str]) -> str:
    return first_of([repr(name)[:60] for name in names], 20)


def clock_of(row: TableRow, dump: Dump) -> Clock:
    """Return how the times of a table are read: its own zone and unit before those for all files."""
    reading = dump.reading
    return Clock(
        dump.where, row.tz or reading.tz, row.time_unit or reading.time_unit, row.time_relative,
        (epoch_us(reading.epoch) or 0) if row.time_relative else 0,
    )  # fmt: skip


def without_skipped(records: Records, table: MappedTable, notes: ReadNotes) -> Records:
    """Set aside the rows that the description leaves out."""
    out = np.zeros(records.cells.height, bool)
    for column, values in sorted(table.row.skip_where.items()):
        texts = records.cells[column].cast(pl.String, strict=False).fill_null("")
        hit = texts.is_in(list(values)).to_numpy() & ~out
        for i in np.flatnonzero(hit).tolist():
            detail = f"{table.setting} leaves out rows with {column} = {texts[i]!r}"
            reject_row(records, i, "skip_where", detail, notes)
        out |= hit
    return chosen(records, ~out)


def reject_row(
    records: Records, i: int, reason: str, detail: str, notes: ReadNotes, path: str = "", series: str = ""
) -> None:
    """Count a row, or a cell of it, and set it aside."""
    notes.rows += 1
    notes.rejections.append(
        Rejection(int(records.lines[i]), reason, records.raw[i], detail, path, series[:SERIES_CHARACTERS])
    )


def timed(records: Records, column: str, clock: Clock, notes: ReadNotes) -> tuple[Records, np.ndarray]:
    """Return the rows whose time can be read, and their times; the others are set aside."""
    times = clock.read(records.cells[column])
    good = times.good
    for i in np.flatnonzero(~good).tolist():
        reason = times.reasons[i]
        reject_row(records, i, reason, TIME_DETAILS[reason], notes)
    return chosen(records, good), times.t_us[good]


FORMAT = "table"

_COUNTED = re.compile(r"(\d+)\s*[x×]\s*(.*)", re.IGNORECASE)
"""``8xH100 FP8``: how many cards of what."""

_TRUE = frozenset({"true", "1", "yes", "disagg"})


@dataclass(frozen=True)
class ColumnFill:
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

    table: MappedTable
    known: Mapping[str, Any]
    targets: tuple[tuple[str, str, float], ...]
    extra: tuple[tuple[str, str], ...]
    captures: str | None


def fill_of(table: MappedTable, where: str) -> ColumnFill:
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
    return ColumnFill(
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
    records: Records,
    t_us: np.ndarray | None,
    start_us: int,
    fill: ColumnFill,
    notes: ReadNotes,
    *,
    placed: bool,
) -> RequestRows | None:
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


def bench_piece(records: Records, fill: ColumnFill, notes: ReadNotes) -> BenchRows | None:
    """Return the benchmark points of a batch; a row with a cell that can't be read is set aside."""
    records, found, _ = _filled(records, fill, notes)
    rows, keep = [], np.ones(records.cells.height, bool)
    for i in range(records.cells.height):
        row = _point({name: values[i] for name, values in found.items()}, records, i, fill)
        if detail := bench_fault(row):
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


def _filled(
    records: Records, fill: ColumnFill, notes: ReadNotes
) -> tuple[Records, dict[str, Any], np.ndarray]:
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


def _fixed(fill: ColumnFill, name: str, text: str) -> Any:
    if fill.known[name] != pl.Float64:
        return text
    try:
        return float(text)
    except ValueError:
        what = f"{fill.table.setting} fixes {name} to {text!r}, which is no number"
        raise InputError(what, hint="correct hsa.toml") from None


def _captured(frame: pl.DataFrame, records: Records, fill: ColumnFill) -> pl.DataFrame:
    if fill.captures is None:
        return frame
    names = records.cells[fill.captures].cast(pl.String, strict=False).fill_null("")
    return frame.with_columns(names.alias(CAPTURE))


def _counts(cells: pl.Series) -> pl.Series:
    """Return GPU counts: ``8xH100`` counts 8."""
    return cells.str.replace(r"^([0-9]+)\s*[xX×].*$", "$1") if cells.dtype == pl.String else cells


def _point(cells: Mapping[str, Any], records: Records, i: int, fill: ColumnFill) -> dict[str, Any]:
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
    row.setdefault("series", bench_series_text(row, extra))
    return row


def _uncounted(name: str) -> str:
    match = _COUNTED.fullmatch(name)
    return match[2] if match else name


ENOUGH_ROWS = 100
"""Rows in which both columns have a number before one is called a part of the other [count]."""

CLEAR_SHARES = (0.02, 0.98)
"""A part below or above so much of the whole is another thing, or the same [ratio]."""

ALIKE = 0.5
"""Correlation from which on two columns speak of one thing [ratio]; default of this project."""


class PartColumns:
    """Compares columns of one unit over all rows of a table, batch by batch.

    Columns are of one unit when the last words of their names are the same: ``all_rps`` and ``known_rps``.
    """

    def __init__(self, read: Sequence[str], unread: Sequence[str]) -> None:
        pairs = [(x, y) for x in read for y in unread if _unit(x) and _unit(x) == _unit(y)]
        self._sums = {pair: np.zeros(6) for pair in pairs}
        self._apart: set[tuple[str, str]] = set()

    def take(self, cells: pl.DataFrame) -> None:
        """Look at some rows."""
        for pair in self._sums.keys() - self._apart:
            whole, part = (cells[name].cast(pl.Float64, strict=False).to_numpy() for name in pair)
            there = np.isfinite(whole) & np.isfinite(part)
            x, y = whole[there], part[there]
            if np.any(y < 0) or np.any(y > x):
                self._apart.add(pair)
                continue
            self._sums[pair] += (x.size, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum())

    def sentences(self) -> list[str]:
        """Return what is a part of what, and how much of it."""
        found = []
        for pair in sorted(self._sums.keys() - self._apart):
            count, x, y, xx, yy, xy = self._sums[pair].tolist()
            if count < ENOUGH_ROWS or not CLEAR_SHARES[0] < y / x < CLEAR_SHARES[1]:
                continue
            spread = (count * xx - x * x) * (count * yy - y * y)
            if spread <= 0 or (count * xy - x * y) / spread**0.5 < ALIKE:
                continue
            found.append(
                f"{pair[1]}, which is not read, is never above {pair[0]} and "
                f"{percent(y / x, whole=True)} of it in all: "
                "values that were made from it speak of that share only"
            )
        return found


def _unit(name: str) -> str:
    """Return the last word of a column's name, empty when it has one word only."""
    head, _, last = name.lower().rpartition("_")
    return last if head else ""


def is_described(name: str, reading: Reading) -> bool:
    """Whether the user described the table of this name."""
    return bool(mapped_tables(name, reading))


def read_table(dump: Dump, notes: ReadNotes) -> Iterator[Piece]:
    """Yield what every description that fits the file's name makes of it.

    A table of samples gives series named like the column (wide) or like the cell of the metric column (long),
    in the unit of the file, with the labels of ``labels`` and ``fixed``. An empty cell is null. In a wide
    table every cell of a column read is a row of the count; a line that has no time is one.

    Raises
    ------
    InputError
        When no description fits, one names columns that are not there, or not one time carries a zone.
    """
    tables = mapped_tables(dump.name, dump.reading)
    if not tables:
        first = next(records_of(dump, notes))
        names = ", ".join(first.cells.columns[:20])
        raise InputError(f"no mapping for its columns {names}", where=dump.where, hint=HOW_TO_MAP)
    for table in tables:
        yield from _read_as(table, dump, notes)


def records_of(dump: Dump, notes: ReadNotes) -> Iterator[Records]:
    """Yield the rows of a CSV or Parquet file."""
    return read_parquet(dump) if dump.head(len(MAGIC)) == MAGIC else read_delimited(dump, notes)


def _read_as(table: MappedTable, dump: Dump, notes: ReadNotes) -> Iterator[Piece]:
    clock = clock_of(table.row, dump)
    if table.row.holds == "samples" and table.row.time is None:
        raise InputError(f"{table.setting} names no time column", where=dump.where, hint=HOW_TO_MAP)
    fill = fill_of(table, dump.where) if table.row.holds != "samples" else None
    yield from _pieces(table, fill, clock, dump, notes)
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += infos
    if table.row.time_relative and dump.reading.epoch is None:
        notes.warnings.append(_without_start(table))
    clock.require_zone()


def _pieces(
    table: MappedTable, fill: ColumnFill | None, clock: Clock, dump: Dump, notes: ReadNotes
) -> Iterator[Piece]:
    row = table.row
    relative = row.time_relative
    start_us = clock.epoch_us if relative else None
    parts: PartColumns | None = None
    for records in records_of(dump, notes):
        if parts is None:
            require_columns(table, records.cells.columns, dump.where)
            parts = _note_unread(table, records.cells.columns, notes)
        kept = without_skipped(records, table, notes)
        parts.take(kept.cells)
        if fill is None:
            yield from _samples(kept, table, clock, notes)
            continue
        t_us: np.ndarray | None = None
        if row.time is not None and row.holds == "requests":
            kept, t_us = timed(kept, row.time, clock, notes)
            start_us = int(t_us[0]) if start_us is None and t_us.size else start_us
        placed = not relative or dump.reading.epoch is not None
        piece: Piece | None = (
            bench_piece(kept, fill, notes)
            if row.holds == "bench"
            else request_piece(kept, t_us, start_us or 0, fill, notes, placed=placed)
        )
        if piece is not None:
            yield piece
    notes.infos += parts.sentences() if parts else []


def _without_start(table: MappedTable) -> str:
    placed = "placed at 1970-01-01" if table.row.holds == "samples" else "left without an arrival time"
    return f"times count from the start of the log and are {placed}: --epoch joins them with other files"


def _note_unread(table: MappedTable, columns: Sequence[str], notes: ReadNotes) -> PartColumns:
    """Note the columns that are not read; return what finds out whether they are parts of those that are."""
    row, held = table.row, _value_columns(table, columns)
    read = {row.time, row.metric, row.value, *row.labels, *row.skip_where, *held}
    unread = [name for name in columns if name not in read]
    if unread:
        notes.infos.append(f"columns that {table.setting} does not read: {', '.join(unread[:20])}")
    return PartColumns(held if row.holds == "samples" else (), unread)


def _value_columns(table: MappedTable, columns: Sequence[str]) -> list[str]:
    """Return the columns of a wide table that hold values: those named, else all that say nothing else."""
    row = table.row
    if row.metric is not None:
        return []
    if row.columns:
        return list(row.columns)
    other = {row.time, *row.labels, *row.skip_where}
    return [name for name in columns if name not in other]


def _samples(records: Records, table: MappedTable, clock: Clock, notes: ReadNotes) -> Iterator[RawSeries]:
    assert table.row.time is not None  # noqa: S101 - checked where the table is opened
    kept, t_us = timed(records, table.row.time, clock, notes)
    groups = list(_groups(kept.cells, [*_metric(table), *table.row.labels]))
    if table.row.metric is not None:
        if table.row.value is None:
            raise InputError(f"{table.setting} names no value column", where=clock.where, hint=HOW_TO_MAP)
        yield from _column(kept, table, table.row.value, t_us, groups, notes)
        return
    for column in _value_columns(table, kept.cells.columns):
        yield from _column(kept, table, column, t_us, groups, notes)


def _metric(table: MappedTable) -> list[str]:
    return [table.row.metric] if table.row.metric is not None else []


def _column(
    records: Records,
    table: MappedTable,
    column: str,
    t_us: np.ndarray,
    groups: Sequence[tuple[dict[str, str], np.ndarray]],
    notes: ReadNotes,
) -> Iterator[RawSeries]:
    """Yield the series of one value column, and set aside the cells that are no numbers."""
    found = numbers(records.cells[column])
    metric = table.row.metric
    for cells, at in groups:
        name = cells.get(metric, "") if metric is not None else column
        labels, capture = _labels(cells, table, name)
        text = series_text(labels)
        bad = found.bad[at] if name else np.ones(at.size, bool)
        for i in at[bad].tolist():
            what = f"{records.cells[column][i]!r} is no number" if name else f"no name in {metric!r}"
            reject_row(records, i, "bad_value", what[:120], notes, column, text)
        use = at[~bad]
        notes.rows += use.size
        notes.last_series = text if use.size else notes.last_series
        if use.size:
            yield RawSeries(
                labels, t_us[use], found.values[use], found.flags[use], int(records.lines[use[0]]), capture
            )


def _labels(cells: Mapping[str, str], table: MappedTable, name: str) -> tuple[dict[str, str], str]:
    """Return the labels of a series and its capture; an empty cell is no label."""
    named = {label: cells[column] for column, label in table.row.labels.items() if cells.get(column)}
    fixed = {label: text.replace(FILE, table.stem) for label, text in table.row.fixed.items()}
    labels = {**fixed, **named, "__name__": name}
    return labels, labels.pop(CAPTURE, "")


def _groups(cells: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """Yield the rows that share the cells of some columns, in the order they first come."""
    if not cells.height:
        return
    if not by:
        yield {}, np.arange(cells.height)
        return
    keyed = cells.select(pl.col(list(dict.fromkeys(by))).cast(pl.String, strict=False)).with_row_index("row#")
    grouped = keyed.group_by(list(dict.fromkeys(by)), maintain_order=True).agg("row#")
    for row in grouped.iter_rows(named=True):
        rows = np.array(row.pop("row#"), np.int64)
        yield {name: text for name, text in row.items() if text is not None}, rows

"""Tables that the user described: long or wide, of samples, requests or benchmark points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from hs_analysis.errors import InputError
from hs_analysis.ingest.cells import numbers
from hs_analysis.ingest.delimited import Records, read_delimited
from hs_analysis.ingest.mapped import (
    CAPTURE,
    FILE,
    HOW_TO_MAP,
    Mapped,
    clock_of,
    kept_rows,
    mapped_tables,
    reject_row,
    require_columns,
    timed,
)
from hs_analysis.ingest.parquet_rows import MAGIC, read_parquet
from hs_analysis.ingest.parts import Parts
from hs_analysis.ingest.raw import Dump, Piece, RawSeries, ReadNotes, series_text
from hs_analysis.ingest.table_rows import Fill, bench_piece, fill_of, request_piece
from hs_analysis.ingest.times import Clock
from hs_analysis.schema.settings import Reading


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


def _read_as(table: Mapped, dump: Dump, notes: ReadNotes) -> Iterator[Piece]:
    clock = clock_of(table.row, dump)
    if table.row.holds == "samples" and table.row.time is None:
        raise InputError(f"{table.setting} names no time column", where=dump.where, hint=HOW_TO_MAP)
    fill = fill_of(table, dump.where) if table.row.holds != "samples" else None
    yield from _pieces(table, fill, clock, dump, notes)
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += infos
    if table.row.time_relative and dump.reading.epoch is None:
        notes.warnings.append(_unplaced(table))
    clock.require_zone()


def _pieces(table: Mapped, fill: Fill | None, clock: Clock, dump: Dump, notes: ReadNotes) -> Iterator[Piece]:
    row = table.row
    relative = row.time_relative
    start_us = clock.epoch_us if relative else None
    parts: Parts | None = None
    for records in records_of(dump, notes):
        if parts is None:
            require_columns(table, records.cells.columns, dump.where)
            parts = _say_unread(table, records.cells.columns, notes)
        kept = kept_rows(records, table, notes)
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


def _unplaced(table: Mapped) -> str:
    placed = "placed at 1970-01-01" if table.row.holds == "samples" else "left without an arrival time"
    return f"times count from the start of the log and are {placed}: --epoch joins them with other files"


def _say_unread(table: Mapped, columns: Sequence[str], notes: ReadNotes) -> Parts:
    """Note the columns that are not read; return what finds out whether they are parts of those that are."""
    row, held = table.row, _value_columns(table, columns)
    read = {row.time, row.metric, row.value, *row.labels, *row.skip_where, *held}
    unread = [name for name in columns if name not in read]
    if unread:
        notes.infos.append(f"columns that {table.setting} does not read: {', '.join(unread[:20])}")
    return Parts(held if row.holds == "samples" else (), unread)


def _value_columns(table: Mapped, columns: Sequence[str]) -> list[str]:
    """Return the columns of a wide table that hold values: those named, else all that say nothing else."""
    row = table.row
    if row.metric is not None:
        return []
    if row.columns:
        return list(row.columns)
    other = {row.time, *row.labels, *row.skip_where}
    return [name for name in columns if name not in other]


def _samples(records: Records, table: Mapped, clock: Clock, notes: ReadNotes) -> Iterator[RawSeries]:
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


def _metric(table: Mapped) -> list[str]:
    return [table.row.metric] if table.row.metric is not None else []


def _column(
    records: Records,
    table: Mapped,
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


def _labels(cells: Mapping[str, str], table: Mapped, name: str) -> tuple[dict[str, str], str]:
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

"""Stored samples series by series: how a table that is larger than memory is read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from heapq import merge
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hs_analysis.schema.frames import arrow

READ_BYTES = 1 << 20
"""Buffer of a column that is read [byte]; with the default a whole column chunk is held beside its values."""

Samples = tuple[int, np.ndarray, np.ndarray]
"""Number of a series, its times [us UTC] and its values, NaN where missing; shape (n,) each."""

Flagged = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""The same, and which values the server repeated across a gap."""

_Run = tuple[int, list[np.ndarray]]
"""Number of a series, and its columns."""


def series_samples(place: Path, wanted: Iterable[int]) -> Iterator[Samples]:
    """Yield the samples of some series; memory is one series and one row group of each file.

    Parameters
    ----------
    place
        The samples, sorted by series and time; the last part of the path may be a glob. What several files
        hold of a series follows one another in time, in the order of `sample_parts`.
    wanted
        Numbers of series; those without a sample are left out.

    Yields
    ------
    Series in the order of the table.
    """
    for number, (t_us, values) in _series(place, wanted, ["t", "value"]):
        yield number, t_us, values


def sample_parts(place: Path) -> list[Path]:
    """Return the files of a table of samples, earlier samples of a series first: by number, not by text."""
    return sorted(place.parent.glob(place.name), key=lambda path: (len(path.name), path.name))


def renumbered(
    place: Path,
    numbers: np.ndarray,
    restored: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield a table of samples with other numbers of series.

    Parameters
    ----------
    place
        The samples, one file.
    numbers
        New number of each series by its old one; they must keep the order.
    restored
        Old number → times [us UTC] and values of samples that were made null: they are put back.
    """
    with pq.ParquetFile(place, buffer_size=READ_BYTES, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            old = _plain(table.column("series_id"))
            table = _restored(table, old, restored or {})
            at = table.schema.get_field_index("series_id")
            fresh = arrow(numbers[old], pa.int64())
            yield from table.set_column(at, table.schema.field("series_id"), fresh).to_batches()


def _restored(
    table: pa.Table, numbers: np.ndarray, restored: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> pa.Table:
    """Return the rows with some values put back; what was there before had no flag."""
    here = [number for number in np.unique(numbers).tolist() if number in restored]
    if not here:
        return table
    t_us, values = (_plain(table.column(name)) for name in ("t", "value"))
    values, back = values.copy(), np.zeros(numbers.size, bool)
    for number in here:
        first, after = np.searchsorted(numbers, (number, number + 1))
        times, own = restored[number]
        inside = np.isin(times, t_us[first:after])
        places = first + np.searchsorted(t_us[first:after], times[inside])
        values[places], back[places] = own[inside], True
    mask = arrow(back, pa.bool_())
    columns = {
        "value": pc.if_else(mask, arrow(values, pa.float64()), table.column("value")),
        "flag": pc.if_else(mask, pa.scalar(None, pa.string()), table.column("flag")),
    }
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), column)
    return table


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody changes a second name, or copy it where the disk knows no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def flagged_samples(place: Path, wanted: Iterable[int]) -> Iterator[Flagged]:
    """Yield the samples of some series as `series_samples` does, with which of them are repeats."""
    for number, (t_us, values, repeated) in _series(place, wanted, ["t", "value", "flag"]):
        yield number, t_us, values, repeated


def without_stretches(
    place: Path, stretches: Mapping[int, Sequence[tuple[int, int]]], flag: str
) -> Iterator[pa.RecordBatch]:
    """Yield a table of samples with the values of some stretches as null.

    Parameters
    ----------
    place
        The samples, one file, sorted by series and time.
    stretches
        Series → (after, until) [us UTC]: samples later than the first, up to the second.
    flag
        Why they are null; a sample that is null already keeps its flag.
    """
    wanted = np.array(sorted(stretches), np.int64)
    with pq.ParquetFile(place, buffer_size=READ_BYTES, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            numbers, t_us = (_plain(table.column(name)) for name in ("series_id", "t"))
            hit = np.zeros(numbers.size, bool)
            for number in wanted[np.isin(wanted, np.unique(numbers))].tolist():
                first, after = np.searchsorted(numbers, (number, number + 1))
                own = t_us[first:after]
                for low, high in stretches[number]:
                    begin, end = np.searchsorted(own, (low, high), "right")
                    hit[first + begin : first + end] = True
            yield from _nulled(table, hit, flag).to_batches()


def _nulled(table: pa.Table, hit: np.ndarray, flag: str) -> pa.Table:
    """Return the rows with some values null, and why."""
    if not hit.any():
        return table
    mask = arrow(hit, pa.bool_())
    values, flags = table.column("value"), table.column("flag")
    fresh = pc.and_(mask, pc.is_valid(values))
    flags = pc.if_else(fresh, pa.scalar(flag, flags.type), flags)
    values = pc.if_else(mask, pa.scalar(None, values.type), values)
    places = {name: table.schema.get_field_index(name) for name in ("value", "flag")}
    table = table.set_column(places["value"], table.schema.field("value"), values)
    return table.set_column(places["flag"], table.schema.field("flag"), flags)


def _series(place: Path, wanted: Iterable[int], columns: list[str]) -> Iterator[_Run]:
    numbers = np.unique(np.fromiter(wanted, np.int64))
    with ExitStack() as opened:
        files = [
            opened.enter_context(pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False))
            for path in sample_parts(place)
        ]
        yield from _whole(merge(*(_runs(file, numbers, columns) for file in files), key=lambda run: run[0]))


def _runs(file: pq.ParquetFile, wanted: np.ndarray, columns: list[str]) -> Iterator[_Run]:
    """Yield the wanted series of each row group; one that goes on in the next comes in several parts."""
    place = file.schema_arrow.names.index("series_id")
    for group in range(file.num_row_groups):
        bounds = file.metadata.row_group(group).column(place).statistics
        own = wanted
        if bounds is not None and bounds.has_min_max:
            own = wanted[np.searchsorted(wanted, bounds.min) : np.searchsorted(wanted, bounds.max, "right")]
        if not own.size:
            continue
        table = file.read_row_group(group, columns=["series_id", *columns], use_threads=False)
        numbers = _plain(table.column("series_id"))
        read = [_plain(table.column(name)) for name in columns]
        bounds_of = (np.searchsorted(numbers, own, side).tolist() for side in ("left", "right"))
        for number, start, end in zip(own.tolist(), *bounds_of, strict=True):
            if end > start:
                yield number, [column[start:end] for column in read]


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """Return times in microseconds, values with NaN where missing, and of flags which say a repeat."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_string(column.type):
        column = pc.fill_null(pc.equal(column, "lookback"), fill_value=False)
    return pl.Series(pl.from_arrow(column)).to_numpy()  # Arrow's own brings pandas, as in `arrow`


def _whole(runs: Iterator[_Run]) -> Iterator[_Run]:
    """Put the parts of each series together."""
    for number, parts in groupby(runs, key=lambda run: run[0]):
        columns = zip(*(part for _, part in parts), strict=True)
        yield number, [one[0] if len(one) == 1 else np.concatenate(one) for one in columns]

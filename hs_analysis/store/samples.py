"""Stored samples series by series: how a table that is larger than memory is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

READ_BYTES = 1 << 20
"""Buffer of a column that is read [byte]; with the default a whole column chunk is held beside its values."""

Samples = tuple[int, np.ndarray, np.ndarray]
"""Number of a series, its times [us UTC] and its values, NaN where missing; shape (n,) each."""

Flagged = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""The same, and which values the server repeated across a gap."""

_Run = tuple[int, list[np.ndarray]]
"""Number of a series, and its columns."""


def series_samples(place: Path, wanted: Iterable[int]) -> Iterator[Samples]:
    """Yield the samples of some series; memory is one series and one row group.

    Parameters
    ----------
    place
        The samples, sorted by series and time; the last part of the path may be a glob, whose files hold
        series of their own.
    wanted
        Numbers of series; those without a sample are left out.

    Yields
    ------
    Series in the order of the table.
    """
    for number, (t_us, values) in _series(place, wanted, ["t", "value"]):
        yield number, t_us, values


def flagged_samples(place: Path, wanted: Iterable[int]) -> Iterator[Flagged]:
    """Yield the samples of some series as `series_samples` does, with which of them are repeats."""
    for number, (t_us, values, repeated) in _series(place, wanted, ["t", "value", "flag"]):
        yield number, t_us, values, repeated


def _series(place: Path, wanted: Iterable[int], columns: list[str]) -> Iterator[_Run]:
    numbers = np.unique(np.fromiter(wanted, np.int64))
    for path in sorted(place.parent.glob(place.name)):
        with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            yield from _whole(_runs(file, numbers, columns))


def _runs(file: pq.ParquetFile, wanted: np.ndarray, columns: list[str]) -> Iterator[_Run]:
    """Yield the wanted series of each row group; one that goes on in the next comes in several parts."""
    place = file.schema_arrow.names.index("series_id")
    for group in range(file.num_row_groups):
        bounds = file.metadata.row_group(group).column(place).statistics
        if bounds is not None and bounds.has_min_max:
            first, after = np.searchsorted(wanted, bounds.min), np.searchsorted(wanted, bounds.max, "right")
            if first == after:
                continue
        table = file.read_row_group(group, columns=["series_id", *columns], use_threads=False)
        numbers = table.column("series_id").to_numpy()
        if not numbers.size:
            continue
        read = [_plain(table.column(name)) for name in columns]
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        ends = np.append(starts[1:], numbers.size)
        kept = np.isin(numbers[starts], wanted)
        for start, end in zip(starts[kept].tolist(), ends[kept].tolist(), strict=True):
            yield int(numbers[start]), [column[start:end] for column in read]


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """Return times in microseconds, values with NaN where missing, and of flags which say a repeat."""
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.int64()).to_numpy())
    if pa.types.is_string(column.type):
        return np.asarray(pc.fill_null(pc.equal(column, "lookback"), fill_value=False).to_numpy())
    return np.asarray(column.to_numpy())


def _whole(runs: Iterator[_Run]) -> Iterator[_Run]:
    """Put the parts of each series together."""
    for number, parts in groupby(runs, key=lambda run: run[0]):
        columns = zip(*(part for _, part in parts), strict=True)
        yield number, [one[0] if len(one) == 1 else np.concatenate(one) for one in columns]

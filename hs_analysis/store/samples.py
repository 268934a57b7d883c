"""Stored samples series by series: how a table that is larger than memory is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ["series_id", "t", "value"]

READ_BYTES = 1 << 20
"""Buffer of a column that is read [byte]; with the default a whole column chunk is held beside its values."""

Samples = tuple[int, np.ndarray, np.ndarray]
"""Number of a series, its times [us UTC] and its values, NaN where missing; shape (n,) each."""


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
    numbers = np.unique(np.fromiter(wanted, np.int64))
    for path in sorted(place.parent.glob(place.name)):
        with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            yield from _whole(_runs(file, numbers))


def _runs(file: pq.ParquetFile, wanted: np.ndarray) -> Iterator[Samples]:
    """Yield the wanted series of each row group; one that goes on in the next comes in several parts."""
    column = file.schema_arrow.names.index("series_id")
    for group in range(file.num_row_groups):
        bounds = file.metadata.row_group(group).column(column).statistics
        if bounds is not None and bounds.has_min_max:
            first, after = np.searchsorted(wanted, bounds.min), np.searchsorted(wanted, bounds.max, "right")
            if first == after:
                continue
        table = file.read_row_group(group, columns=COLUMNS, use_threads=False)
        numbers = table.column("series_id").to_numpy()
        if not numbers.size:
            continue
        t_us = table.column("t").cast(pa.int64()).to_numpy()
        values = table.column("value").to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        ends = np.append(starts[1:], numbers.size)
        kept = np.isin(numbers[starts], wanted)
        for start, end in zip(starts[kept].tolist(), ends[kept].tolist(), strict=True):
            yield int(numbers[start]), t_us[start:end], values[start:end]


def _whole(runs: Iterator[Samples]) -> Iterator[Samples]:
    """Put the parts of each series together."""
    number: int | None = None
    times: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for own, t_us, part in runs:
        if number is not None and own != number:
            yield number, np.concatenate(times), np.concatenate(values)
            times, values = [], []
        number = own
        times.append(t_us)
        values.append(part)
    if number is not None:
        yield number, np.concatenate(times), np.concatenate(values)

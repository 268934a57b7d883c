"""Read all files into staged samples and a list of series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.catalogue import metric_kind
from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import ByteStream, open_decompressed
from hs_analysis.ingest.discover import Discovery, InputFile
from hs_analysis.ingest.prometheus_json import (
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    RawSeries,
    ReadNotes,
    Rejection,
    series_text,
)
from hs_analysis.schema.frames import REJECTED, check, empty

STAGED = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("t_us", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("flag", pa.string()),
        pa.field("file_no", pa.int64(), nullable=False),
    ]
)
"""Samples as read, before series are numbered."""

BATCH_ROWS = 1 << 20
NOT_SUPPORTED = 1e15
"""DCGM writes 9223372036854775794 for fields a GPU does not support; anything above this is that sentinel."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A series: its capture and its sorted labels."""


@dataclass(frozen=True)
class FileRecord:
    """What one file gave.

    Rows read = stored + duplicates + rejected; stored and duplicates are known after deduplication.
    """

    name: str
    format: str
    rows_read: int
    rows_rejected: int
    series: int
    warnings: list[str]


@dataclass
class Reading:
    """All files read.

    Attributes
    ----------
    keys
        Number of each series (capture, labels) that a whole file holds.
    records, whole
        Record and number of every file that was read to its end. Samples of a broken file may have been
        written before it broke: only numbers in ``whole`` count.
    rejected
        Frame of contract REJECTED.
    broken
        (file, why) of those that broke.
    """

    keys: dict[Key, int]
    records: list[FileRecord]
    rejected: pl.DataFrame
    broken: list[tuple[str, str]]
    whole: list[int]


def read_files(
    discovery: Discovery, write: Callable[[pa.RecordBatch], None], progress: Callable[[str], None]
) -> Reading:
    """Read every file; samples go to ``write`` in batches.

    A damaged file inside a folder is noted in ``broken`` and none of it counts;
    a damaged file named on the command line is an error.

    Raises
    ------
    InputError
        For a named file that can't be read, or when nothing could be read at all.
    """
    reading = Reading({}, [], empty(REJECTED), [], [])
    numbers: dict[Key, int] = {}
    rejected: list[pl.DataFrame] = []
    first_error: InputError | None = None
    for number, file in enumerate(discovery.files):
        progress(file.name)
        notes = ReadNotes()
        try:
            found = _read_one(file, number, numbers, _Batch(write), notes)
        except InputError as error:
            if file.named:
                raise
            first_error = first_error or error
            reading.broken.append((file.name, error.what))
            continue
        reading.keys.update(found)
        reading.whole.append(number)
        reading.records.append(
            FileRecord(
                file.name, file.format.id, notes.rows, len(notes.rejections), len(found), notes.warnings
            )
        )
        rejected += [_rejected(file.name, notes.rejections)] if notes.rejections else []
    if not reading.records and first_error is not None:
        raise first_error
    if rejected:
        reading.rejected = check(pl.concat(rejected), REJECTED)
    return reading


def _read_one(
    file: InputFile, number: int, numbers: dict[Key, int], batch: _Batch, notes: ReadNotes
) -> dict[Key, int]:
    """Stage one file's samples; return the numbers of its series, new ones counted on in ``numbers``."""
    found: dict[Key, int] = {}
    with open_decompressed(file.path) as handle:
        for raw in file.format.read(ByteStream(handle), str(file.path), notes):
            series = _repaired(raw, notes)
            if not series.t_us.size:
                continue
            key = (file.capture, tuple(sorted(series.labels.items())))
            found[key] = numbers.setdefault(key, len(numbers))
            batch.add(found[key], series, number)
    batch.flush()
    return found


class _Batch:
    """Collects samples and writes them a million rows at a time."""

    def __init__(self, write: Callable[[pa.RecordBatch], None]) -> None:
        self._write = write
        self._columns: list[tuple[np.ndarray, ...]] = []
        self._rows = 0

    def add(self, key: int, series: RawSeries, number: int) -> None:
        size = series.t_us.size
        self._columns.append(
            (np.full(size, key), series.t_us, series.values, series.flags, np.full(size, number))
        )
        self._rows += size
        if self._rows >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._columns:
            return
        key, t_us, values, flags, number = (np.concatenate(part) for part in zip(*self._columns, strict=True))
        arrays = [
            pa.array(key, pa.int64()),
            pa.array(t_us, pa.int64()),
            pa.array(values, pa.float64(), mask=np.isnan(values)),
            pa.array(flags, pa.string()),
            pa.array(number, pa.int64()),
        ]
        self._write(pa.RecordBatch.from_arrays(arrays, schema=STAGED))
        self._columns, self._rows = [], 0


def _repaired(series: RawSeries, notes: ReadNotes) -> RawSeries:
    """Null the exporter's sentinels and quarantine what a counter can't be."""
    metric = series.labels.get("__name__", "")
    values, flags = series.values, series.flags
    if metric.startswith("DCGM_FI_"):
        blank = values > NOT_SUPPORTED
        flags[blank], values[blank] = "sentinel", np.nan
    if metric_kind(metric) != "counter" or not np.any(values < 0):
        return series
    bad = values < 0
    for t, value in zip(series.t_us[bad], values[bad], strict=True):
        notes.rejections.append(
            Rejection(
                series.offset, "negative_counter", f"[{t / 1e6},{value}]", "a counter is never below 0",
                "", series_text(series.labels)[:SERIES_CHARACTERS],
            )
        )  # fmt: skip
    keep = ~bad
    return RawSeries(series.labels, series.t_us[keep], values[keep], flags[keep], series.offset)


def _rejected(name: str, rejections: Sequence[Rejection]) -> pl.DataFrame:
    rows = [
        {
            "file": name, "member": "", "position": r.position, "path": r.path, "series": r.series,
            "reason": r.reason, "raw": r.raw[:RAW_CHARACTERS], "detail": r.detail,
        }
        for r in rejections
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(REJECTED).schema)

"""Read all files into staged samples and a list of series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.catalogue import metric_kind
from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import ByteStream, open_decompressed
from hs_analysis.ingest.discover import Discovery, InputFile
from hs_analysis.ingest.prometheus_json import RawSeries, ReadNotes, Rejection
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


@dataclass
class FileRecord:
    """What one file gave: rows read = stored + duplicates + rejected (stored and duplicates are known later)."""

    name: str
    format: str
    rows_read: int = 0
    rows_rejected: int = 0
    series: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """All files read: series by key (capture, labels), a record and number per whole file, rejected rows, broken files.

    Samples of a broken file may have been written before it broke: only numbers in ``whole`` count.
    """

    keys: dict[tuple[str, Labels], int]
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
    rejected: list[pl.DataFrame] = []
    first_error: InputError | None = None
    for number, file in enumerate(discovery.files):
        progress(file.name)
        batch = _Batch(write)
        notes, record = ReadNotes(), FileRecord(file.name, file.format.id)
        try:
            with open_decompressed(file.path) as handle:
                for series in file.format.read(ByteStream(handle), str(file.path), notes):
                    _stage(series, file, number, reading, batch, notes, record)
            batch.flush()
        except InputError as error:
            if file.named:
                raise
            first_error = first_error or error
            reading.broken.append((file.name, error.what))
            continue
        reading.whole.append(number)
        record.rows_read, record.rows_rejected, record.warnings = (
            notes.rows,
            len(notes.rejections),
            notes.warnings,
        )
        reading.records.append(record)
        rejected += [_rejected(file.name, notes.rejections)] if notes.rejections else []
    if not reading.records and first_error is not None:
        raise first_error
    if rejected:
        reading.rejected = check(pl.concat(rejected), REJECTED)
    return reading


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


def _stage(
    series: RawSeries,
    file: InputFile,
    number: int,
    reading: Reading,
    batch: _Batch,
    notes: ReadNotes,
    record: FileRecord,
) -> None:
    metric = series.labels.get("__name__", "")
    series = _repaired(series, metric, notes)
    if not series.t_us.size:
        return
    labels = tuple(sorted(series.labels.items()))
    key = reading.keys.setdefault((file.capture, labels), len(reading.keys))
    record.series += 1
    batch.add(key, series, number)


def _repaired(series: RawSeries, metric: str, notes: ReadNotes) -> RawSeries:
    """Null the exporter's sentinels and quarantine what a counter can't be."""
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
                "", str(series.labels)[:500],
            )
        )  # fmt: skip
    keep = ~bad
    return RawSeries(series.labels, series.t_us[keep], values[keep], flags[keep], series.offset)


def _rejected(name: str, rejections: Sequence[Rejection]) -> pl.DataFrame:
    rows = [
        {
            "file": name, "member": "", "position": r.position, "path": r.path, "series": r.series,
            "reason": r.reason, "raw": r.raw[:200], "detail": r.detail,
        }
        for r in rejections
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(REJECTED).schema)

"""Rejected rows on their way to disk: any number of them, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hs_analysis.ingest.raw import RAW_CHARACTERS, REJECTED_BATCH, Rejection, Rejections
from hs_analysis.schema.frames import REJECTED

STAGED = pa.schema([pa.field("file_no", pa.int64(), nullable=False), *REJECTED])

Conflict = tuple[int, int, int, float | None]
"""File number, series, time [us] and value of a sample that contradicts another."""


class Quarantine:
    """Takes the rejected rows of all files and gives back those of files that turned out whole.

    Use it as a context manager.

    Parameters
    ----------
    file
        A binary file open for writing and reading, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer = pq.ParquetWriter(file, STAGED, compression="zstd", compression_level=1)

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, *_error: object) -> None:
        self._writer.close()

    def rows_of(self, number: int, name: str) -> Rejections:
        """Return the list that a file's reader appends to; the caller flushes it at the end of the file."""
        return Rejections(partial(self._take, number, name))

    def _take(self, number: int, name: str, rows: Sequence[Rejection]) -> None:
        columns = [
            [number] * len(rows), [name] * len(rows), [r.member for r in rows], [r.position for r in rows],
            [r.path for r in rows], [r.series for r in rows], [r.reason for r in rows],
            [r.raw[:RAW_CHARACTERS] for r in rows], [r.detail for r in rows],
        ]  # fmt: skip
        self._writer.write_batch(_batch(columns, STAGED))

    def batches(self, whole: Collection[int]) -> Iterator[pa.RecordBatch]:
        """Close for writing; yield the rows of the files numbered in ``whole`` in the order they were met."""
        self._writer.close()
        self._file.seek(0)
        for batch in pq.ParquetFile(self._file).iter_batches(REJECTED_BATCH):
            kept = batch.filter(pc.is_in(batch["file_no"], pa.array(sorted(whole), pa.int64())))
            yield kept.select(REJECTED.names).cast(REJECTED)


def conflict_batches(
    conflicts: Sequence[Conflict], texts: Mapping[int, str], names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the rejected rows of contradicting samples, sorted by file, time and series.

    Parameters
    ----------
    conflicts
        All sides of every contradiction.
    texts
        Series number → its text.
    names
        File number → its name.
    """
    detail = "the same series has another value at this time; position is the time in microseconds"
    ordered = sorted(conflicts, key=lambda row: (row[0], row[2], texts[row[1]], repr(row[3])))
    for start in range(0, len(ordered), REJECTED_BATCH):
        rows = ordered[start : start + REJECTED_BATCH]
        size = len(rows)
        columns = [
            [names[number] for number, *_ in rows], [""] * size, [t_us for _, _, t_us, _ in rows],
            [""] * size, [texts[series] for _, series, *_ in rows], ["dup_conflict"] * size,
            [f"[{t_us / 1e6},{value}]" for _, _, t_us, value in rows], [detail] * size,
        ]  # fmt: skip
        yield _batch(columns, REJECTED)


def _batch(columns: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

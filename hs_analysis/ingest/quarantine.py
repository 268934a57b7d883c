"""Rejected rows on their way to disk: any number of them, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hs_analysis.ingest.raw import REJECTED_BATCH, Rejection, Rejections
from hs_analysis.ingest.staging import Samples
from hs_analysis.schema.frames import REJECTED

STAGED = pa.schema([pa.field("file_no", pa.int64(), nullable=False), *REJECTED])

CONTRADICTED = "the same series has another value at this time; position is the time in microseconds"


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
            [r.raw for r in rows], [r.detail for r in rows],
        ]  # fmt: skip
        self._writer.write_batch(_batch(columns, STAGED))

    def contradictions(self, samples: Samples, series: str, names: Sequence[str]) -> None:
        """Take samples of a series that contradict each other.

        Parameters
        ----------
        samples
            All sides of every contradiction.
        series
            The series as text.
        names
            File number → its name.
        """
        for start in range(0, samples.t_us.size, REJECTED_BATCH):
            part = slice(start, start + REJECTED_BATCH)
            numbers, times, values = (x[part].tolist() for x in (samples.files, samples.t_us, samples.values))
            size = len(numbers)
            raws = [
                f"[{t_us / 1e6},{None if value != value else value}]"
                for t_us, value in zip(times, values, strict=True)
            ]
            columns = [
                numbers, [names[number] for number in numbers], [""] * size, times, [""] * size,
                [series] * size, ["dup_conflict"] * size, raws, [CONTRADICTED] * size,
            ]  # fmt: skip
            self._writer.write_batch(_batch(columns, STAGED))

    def batches(self, whole: Collection[int]) -> Iterator[pa.RecordBatch]:
        """Close for writing; yield the rows of the files numbered in ``whole`` in the order they were met."""
        self._writer.close()
        self._file.seek(0)
        for batch in pq.ParquetFile(self._file).iter_batches(REJECTED_BATCH):
            kept = batch.filter(pc.is_in(batch["file_no"], pa.array(sorted(whole), pa.int64())))
            yield kept.select(REJECTED.names).cast(REJECTED)


def _batch(columns: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

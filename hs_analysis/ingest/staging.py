"""Samples and rejected rows on their way to disk: any number of them, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hs_analysis.ingest.rows import REJECTED_BATCH, RawSeries, Rejection, Rejections
from hs_analysis.schema.frames import REJECTED, arrow

BLOCK_ROWS = 1 << 20
"""Samples held before a block is written: what a run holds of its input at once."""

_COLUMNS: tuple[np.dtype[Any], ...] = (np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.uint8))
"""Times [us], values, flag codes: one after the other in a block."""


@dataclass(frozen=True)
class Samples:
    """Samples of one series in the order they were read: arrays of shape (n,).

    ``t_us`` [us UTC], ``values`` with NaN where missing, ``flags`` as codes, ``files`` the number of the file
    each came from.
    """

    t_us: np.ndarray
    values: np.ndarray
    flags: np.ndarray
    files: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one block that belong to one series and file; ``low`` and ``high`` bound times.

    An ``offset`` below 0 is of a run before: its samples are stored, and no block holds them any more.
    """

    offset: int
    block_rows: int
    start: int
    rows: int
    file_no: int
    low_us: int
    high_us: int

    @property
    def is_staged(self) -> bool:
        """Whether a block holds the rows."""
        return self.offset >= 0


class Staging:
    """Takes the samples of all files and gives them back by series; memory is one block.

    Parameters
    ----------
    file
        A binary file open for writing and reading, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._held: list[tuple[int, RawSeries]] = []
        self._rows = 0
        self.pieces: dict[int, list[Piece]] = {}

    def add(self, key: int, series: RawSeries, file_no: int) -> None:
        """Take the samples of one series of one file; blocks never mix files."""
        for start in range(0, series.t_us.size, BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            cut = replace(
                series, t_us=series.t_us[part], values=series.values[part], flags=series.flags[part]
            )
            self._held.append((key, cut))
            self._rows += cut.t_us.size
            if self._rows >= BLOCK_ROWS:
                self.flush(file_no)

    def flush(self, file_no: int) -> None:
        """Write what is held; the caller flushes at the end of each file."""
        if not self._rows:
            return
        keys = np.repeat([key for key, _ in self._held], [s.t_us.size for _, s in self._held])
        t_us = np.concatenate([s.t_us for _, s in self._held]).astype(np.int64, copy=False)
        values = np.concatenate([s.values for _, s in self._held]).astype(np.float64, copy=False)
        flags = np.concatenate([s.flags for _, s in self._held]).astype(np.uint8, copy=False)
        if len({key for key, _ in self._held}) < len(self._held):  # a series in several parts
            order = np.argsort(keys, kind="stable")
            keys, t_us, values, flags = keys[order], t_us[order], values[order], flags[order]
        starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
        sizes = np.diff(starts, append=keys.size)
        low, high = np.minimum.reduceat(t_us, starts), np.maximum.reduceat(t_us, starts)
        for start, size, first, last in zip(
            starts.tolist(), sizes.tolist(), low.tolist(), high.tolist(), strict=True
        ):
            piece = Piece(self._end, keys.size, start, size, file_no, first, last)
            self.pieces.setdefault(int(keys[start]), []).append(piece)
        for column in (t_us, values, flags):
            self._file.write(column.tobytes())
            self._end += column.nbytes
        self._held, self._rows = [], 0

    def drop(self) -> None:
        """Forget what is held and not written: its file broke."""
        self._held, self._rows = [], 0

    def samples(self, pieces: Sequence[Piece]) -> Samples:
        """Return the samples of some pieces, one after the other."""
        self._file.flush()
        columns: list[list[np.ndarray]] = [[], [], []]
        for piece in pieces:
            at = piece.offset
            for part, kind in zip(columns, _COLUMNS, strict=True):
                self._file.seek(at + piece.start * kind.itemsize)
                part.append(np.frombuffer(self._file.read(piece.rows * kind.itemsize), kind))
                at += piece.block_rows * kind.itemsize
        files = np.repeat([piece.file_no for piece in pieces], [piece.rows for piece in pieces])
        t_us, values, flags = (
            part[0] if len(part) == 1 else np.concatenate([*part, np.empty(0, kind)])
            for part, kind in zip(columns, _COLUMNS, strict=True)
        )
        return Samples(t_us, values, flags, files.astype(np.int64))


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
            kept = batch.filter(pc.is_in(batch["file_no"], arrow(sorted(whole), pa.int64())))
            yield kept.select(REJECTED.names).cast(REJECTED)


def _batch(columns: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [arrow(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

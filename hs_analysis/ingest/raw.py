"""What readers are given and what they yield, whatever the format."""

from __future__ import annotations

from collections import UserList
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import numpy as np
import polars as pl

from hs_analysis.ingest.bytestream import ByteStream, open_decompressed
from hs_analysis.schema.settings import Reading

LATEST_S = 4_102_444_800.0
"""Times after 2100-01-01 are not Unix seconds."""

RAW_CHARACTERS = 200
SERIES_CHARACTERS = 500
"""How much of a rejected row and of its labels is kept."""

REJECTED_BATCH = 1 << 14
"""Rejected rows in memory at most: some megabytes, whatever a file holds."""

FLAGS = ("", "null", "nan", "pos_inf", "neg_inf", "stale", "sentinel")
"""Why a value is missing, by code; code 0 is a value that is there."""

NULL, NAN, POS_INF, NEG_INF, STALE, SENTINEL = range(1, len(FLAGS))


@dataclass(frozen=True)
class Dump:
    """A file as a reader sees it: where it lies, how messages name it, and how the user wants files read.

    ``name`` is the path below the input, ``member`` the name inside an archive, empty outside one.
    """

    path: Path
    where: str
    name: str
    reading: Reading = field(default_factory=Reading)
    member: str = ""

    @contextmanager
    def handle(self) -> Iterator[BinaryIO]:
        """Open the decompressed bytes.

        Raises
        ------
        InputError
            When the file can't be opened.
        """
        with open_decompressed(self.path) as handle:
            yield handle

    def head(self, size: int) -> bytes:
        """Return the first decompressed bytes, fewer when the file is short or its archive damaged."""
        with self.handle() as handle:
            return ByteStream(handle, size).head(size)

    @contextmanager
    def stream(self, block_bytes: int | None = None) -> Iterator[ByteStream]:
        """Open the decompressed bytes as a stream that knows its place, read in blocks."""
        with self.handle() as handle:
            yield ByteStream(handle, block_bytes)


@dataclass
class Rejection:
    """One row that can't be stored.

    ``position`` is a byte offset in the decompressed file, or a line where the format has lines; ``member``
    the archive member it lies in.
    """

    position: int
    reason: str
    raw: str
    detail: str
    path: str
    series: str
    member: str = ""


class Rejections(UserList[Rejection]):
    """Rejected rows of one file, a list that stays small: full batches are handed on and forgotten.

    Without ``hand_on`` all rows stay. ``total`` counts the rows of both kinds. ``after_batch`` is called with
    the last row of every full batch, and may refuse to go on.
    """

    def __init__(self, hand_on: Callable[[list[Rejection]], None] | None = None) -> None:
        super().__init__()
        self._hand_on = hand_on
        self._handed = 0
        self.after_batch: Callable[[Rejection], None] | None = None

    @property
    def total(self) -> int:
        """Rows rejected so far."""
        return self._handed + len(self.data)

    def append(self, item: Rejection) -> None:
        """Take one row, of which not more is kept than is shown."""
        item.raw, item.detail = item.raw[:RAW_CHARACTERS], item.detail[:RAW_CHARACTERS]
        item.path, item.series = item.path[:SERIES_CHARACTERS], item.series[:SERIES_CHARACTERS]
        self.data.append(item)
        if len(self.data) % REJECTED_BATCH == 0:
            self.flush()
            if self.after_batch is not None:
                self.after_batch(item)

    def extend(self, other: Iterable[Rejection]) -> None:
        """Take many rows."""
        for item in other:
            self.append(item)

    def __iadd__(self, other: Iterable[Rejection]) -> Self:
        self.extend(other)
        return self

    def flush(self) -> None:
        """Hand on what is there."""
        if self._hand_on is not None and self.data:
            self._hand_on(self.data)
            self._handed += len(self.data)
            self.data = []


@dataclass
class RawSeries:
    """Samples of one series as read, in file order.

    Attributes
    ----------
    labels
        Labels with ``__name__``.
    t_us
        Times [us since 1970, UTC], int64, shape (n,).
    values
        Values, NaN where flagged, float64, shape (n,).
    flags
        Codes into FLAGS, uint8, shape (n,).
    offset
        Where the series starts in the decompressed file.
    capture
        Capture inside the file's own, where the format tells several runs apart.
    """

    labels: dict[str, str]
    t_us: np.ndarray
    values: np.ndarray
    flags: np.ndarray
    offset: int
    capture: str = ""


@dataclass
class RawRequests:
    """Rows of a request log: a frame of contract REQUESTS without ``file``; ``capture`` may be left out."""

    frame: pl.DataFrame


@dataclass
class RawBench:
    """Points of a benchmark or a profile: a frame of BENCH without ``file``; ``capture`` may be left out."""

    frame: pl.DataFrame


Piece: TypeAlias = RawSeries | RawRequests | RawBench
"""What a reader may yield."""


@dataclass
class ReadNotes:
    """What a reader has to say beside what it yields.

    Attributes
    ----------
    rows
        Rows seen: samples, requests or points; every one is yielded or stands in ``rejections``.
    rejections
        Rows that can't be stored.
    warnings
        What the server or the format says about the data: parts may be missing or thinned.
    infos
        Advice on the query, and what the reader had to assume.
    types, helps
        Metric → type and help text, where the format carries them.
    is_time_guessed
        Whether the times are the file's own, because neither its content nor its name says when it was.
    last_series, last_t_us
        Last complete series and its last time, for messages about what is cut.
    """

    rows: int = 0
    rejections: Rejections = field(default_factory=Rejections)
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    is_time_guessed: bool = False
    last_series: str = ""
    last_t_us: int | None = None


def series_text(labels: dict[str, str]) -> str:
    """Return a series as Prometheus writes it: ``name{label="value", …}``, labels sorted."""
    pairs = ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return f"{labels.get('__name__', '')}{{{pairs}}}"


def flagged(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values with NaN for what is no finite number, and the flag codes that say why."""
    flags = np.zeros(values.size, np.uint8)
    finite = np.isfinite(values)
    if finite.all():
        return values, flags
    flags[np.isnan(values)] = NAN
    flags[np.isposinf(values)] = POS_INF
    flags[np.isneginf(values)] = NEG_INF
    return np.where(finite, values, np.nan), flags

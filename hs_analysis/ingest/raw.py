"""What readers are given and what they yield, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import polars as pl

from hs_analysis.ingest.bytestream import ByteStream, open_decompressed
from hs_analysis.schema.settings import Reading

LATEST_S = 4_102_444_800.0
"""Times after 2100-01-01 are not Unix seconds."""

RAW_CHARACTERS = 200
SERIES_CHARACTERS = 500
"""How much of a rejected row and of its labels is kept."""

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
    def stream(self) -> Iterator[ByteStream]:
        """Open the decompressed bytes as a stream that knows its place."""
        with self.handle() as handle:
            yield ByteStream(handle)


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
    last_series
        Last complete series, for messages about what is cut.
    """

    rows: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    last_series: str = ""


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

"""What a large input will take: rows, minutes and disk, told before it is read."""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hs_analysis.errors import RunFolderError
from hs_analysis.ingest.discover import InputFile
from hs_analysis.pipeline.stages import Work

BIG_BYTES = 1_000_000_000
"""Decompressed input from which on the reader wants to know how long it takes [byte]; about ten seconds."""

SAMPLED_BYTES = 1 << 18
"""Compressed bytes from which a file's ratio is told [byte]: an exporter's text is alike all through."""

GREATEST_RATIO = 40
"""No archive of metric text is smaller than this share of it: 27 was the most measured (VictoriaMetrics
lines, 30 bytes a sample plain and 1.1 compressed) [ratio]."""

ROW_BYTES = {"prom-api": 24, "promtool-json": 24, "vm-jsonl": 22, "tsdb-dump": 100, "openmetrics": 81}
"""Decompressed bytes of a sample by format, in the middle of what was measured on vLLM's and dcgm-exporter's
metrics [byte]."""

OTHER_ROW_BYTES = 40
"""The same for every other format: a line of a table [byte]; default of this project."""

READ_BYTES_PER_S = 70e6
"""Decompressed input read and stored a second, about half of the 145 MB/s that one core was measured to
read of query_range JSON without storing it [byte/s]."""

SCRATCH_ROW_BYTES = 17
"""A sample on its way: time, value and flag code (`ingest.staging`) [byte]."""

STORED_ROW_BYTES = 5
"""A sample in Parquet: 1.8 of real counters, 2.4 of the simulated services, more where all values are random
fractions [byte]."""


@dataclass(frozen=True)
class Expected:
    """What an input is expected to be: decompressed bytes, samples, seconds to read, bytes of disk."""

    input_bytes: int
    rows: int
    seconds: float
    disk_bytes: int


def expected(files: Iterable[tuple[Path, str]]) -> Expected:
    """Return what files are expected to take.

    Parameters
    ----------
    files
        Path and format of each.
    """
    sizes = [(decompressed_bytes(path), form) for path, form in files]
    total = sum(size for size, _ in sizes)
    rows = sum(math.ceil(size / ROW_BYTES.get(form, OTHER_ROW_BYTES)) for size, form in sizes)
    disk = rows * (SCRATCH_ROW_BYTES + STORED_ROW_BYTES)
    return Expected(total, rows, total / READ_BYTES_PER_S, disk)


def decompressed_bytes(path: Path) -> int:
    """Return the size of a file, of an archive as its first part extrapolates; 0 when it can't be read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(SAMPLED_BYTES)
    except OSError:
        return 0
    inflated = _inflated(head)
    return size if inflated is None else round(size * inflated / len(head))


def _inflated(head: bytes) -> int | None:
    """Return how many bytes the first part of an archive inflates to, None when it is no archive."""
    try:
        if head[:2] == b"\x1f\x8b":
            return len(zlib.decompressobj(wbits=31).decompress(head))
        if head[:4] == b"\x28\xb5\x2f\xfd":
            return _zstd_inflated(head)
    except (zlib.error, pa.ArrowException):
        return len(head)
    return None


def _zstd_inflated(head: bytes) -> int:
    count = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(head), "zstd") as stream:
            while block := stream.read(1 << 16):
                count += len(block)
    except (pa.ArrowException, OSError):  # the archive goes on where the part ends
        pass
    return max(count, len(head))


def tell_room(work: Work, files: Iterable[InputFile]) -> None:
    """Say what a large input will take; small ones are not even looked at.

    Raises
    ------
    RunFolderError
        When the disk of the run folder can't hold it.
    """
    named = [(file.path, file.format.id) for file in files]
    if sum(path.stat().st_size for path, _ in named) * GREATEST_RATIO < BIG_BYTES:
        return
    most = expected(named)
    if most.input_bytes < BIG_BYTES:
        return
    free = shutil.disk_usage(work.out).free
    need = f"about {_giga(most.disk_bytes)} of disk"
    if most.disk_bytes > free:
        raise RunFolderError(
            f"reading {most.rows:,} samples needs {need}, and {_giga(free)} are free",
            where=str(work.run),
            hint="name a folder on a larger disk with --run-dir, or read a part of the files",
        )
    work.progress.noted(
        f"reading about {_giga(most.input_bytes)} of text, {most.rows:,} samples: about "
        f"{max(1, round(most.seconds / 60))} min, {need} ({_giga(free)} free)"
    )


def _giga(count: float) -> str:
    return f"{count / 1e9:.1f} GB"

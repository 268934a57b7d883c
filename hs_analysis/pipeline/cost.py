"""What a run costs, told before it begins: samples, time, memory and disk, by the first parts of the files.

The time is that of one process on an idle core: reading by sample, the rest by service and window. The
numbers are of `tests/bench/fleet.py`, which measures four sizes and predicts a fifth.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hs_analysis.errors import InputError, RunFolderError
from hs_analysis.ingest.discovery import InputFile
from hs_analysis.ingest.reader_errors import catch_reader_bugs
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes
from hs_analysis.ingest.streams import open_decompressed
from hs_analysis.pipeline.stages import Work
from hs_analysis.schema.settings import Reading

BIG_BYTES = 1_000_000_000
"""Decompressed input from which on the reader wants to know how long it takes [byte]; about ten seconds."""

SAMPLED_BYTES = 1 << 18
"""Compressed bytes from which a file's ratio is told [byte]: an exporter's text is alike all through."""

GREATEST_RATIO = 40
"""No archive of metric text is smaller than this share of it: 27 was the most measured (VictoriaMetrics
lines, 30 bytes a sample plain and 1.1 compressed) [ratio]."""

LOOKED_AT_FILES = 12
"""Files of which the first part is read, evenly spaced by size [count]; default of this project."""

LOOKED_AT_ROWS = 300_000
"""Samples that are read of each [count]: a few series of a week, a tenth of a second."""

HEAD_BYTES = 1 << 22
"""Decompressed bytes that are read of a file of lines [byte]: a few thousand lines."""

MOST_WHOLE_BYTES = 1 << 27
"""Decompressed bytes up to which a document that can't be cut is read as a whole [byte]: some seconds."""

BYTE_OFFSETS = ("prom-api", "promtool-json")
"""Formats of one document whose series tell at which byte they begin."""

SCANNED_BYTES = 128_000_000
"""Decompressed bytes in which names of models are sought [byte]: about half a second."""

OTHER_ROW_BYTES = 40.0
"""Decompressed bytes of a sample where no file could be looked at: a line of a table [byte]."""

TIME_ORDERED = ("otlp-jsonl", "otlp-proto", "cloudwatch-stream")
"""Formats whose files go through time once, so that their first part ends early."""

START_S = 3.0
"""Loading the program and the catalogue [s]; measured."""

ROW_S = 0.4e-6
"""Reading and storing a sample [s]; measured at 0.3 to 83 million samples."""

SERVICE_S = 4.0
"""What judging, selecting and replaying a service take however short its history is [s]; measured."""

SERVICE_DAY_S = 4.0
"""Aligning, judging, deriving, selecting and replaying a day of a service at windows of a minute [s];
measured at 1 to 8 days."""

START_BYTES = 280_000_000
"""Memory of the program and of a block of samples [byte]; measured."""

SERVICE_DAY_BYTES = 60_000_000
"""Memory of a day of a service while it is aligned and replayed [byte]; measured at 1 to 8 days."""

SCRATCH_ROW_BYTES = 17
"""A sample on its way: time, value and flag code (`ingest.staging`) [byte]."""

STORED_ROW_BYTES = 5
"""A sample in Parquet: 1.8 of real counters, 2.4 of the simulated services, more where all values are random
fractions [byte]."""

_MODEL = re.compile(rb'model(?:_name)?"?\s*(?:[:=]|,\s*"value"\s*:\s*\{\s*"stringValue"\s*:)\s*"([^"\\]+)"')
"""A model's name in the labels of every text form."""


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes
    ----------
    input_bytes
        Input, decompressed.
    rows
        Samples.
    services, days
        How many services, and how long the history is.
    reading_s, seconds
        Processor time of reading, and of the whole run.
    memory_bytes, disk_bytes
        Most memory of a process; most disk of the run folder while it is written.
    """

    input_bytes: int
    rows: int
    services: int
    days: float
    reading_s: float
    seconds: float
    memory_bytes: int
    disk_bytes: int


def cost_of(rows: int, services: int, days: float, input_bytes: int = 0) -> Cost:
    """Return what a history takes: it grows with samples, with services, and with services times days."""
    reading_s = START_S + rows * ROW_S
    service_days = services * days
    return Cost(
        input_bytes=input_bytes,
        rows=rows,
        services=services,
        days=days,
        reading_s=reading_s,
        seconds=reading_s + services * SERVICE_S + service_days * SERVICE_DAY_S,
        memory_bytes=round(START_BYTES + service_days * SERVICE_DAY_BYTES),
        disk_bytes=rows * (SCRATCH_ROW_BYTES + STORED_ROW_BYTES),
    )


@dataclass
class _Look:
    """What the first parts of some files show."""

    rows: int = 0
    bytes: float = 0.0
    first_us: float = np.inf
    last_us: float = -np.inf


def expected_cost(files: Sequence[InputFile], how: Reading) -> Cost:
    """Return what files are expected to take, after a look at the first part of some of them."""
    sizes = {file.path: decompressed_bytes(file.path) for file in files}
    total, looks, ordered = sum(sizes.values()), list[_Look](), 1.0
    by_size = sorted(files, key=lambda file: (sizes[file.path], file.name))
    places = np.linspace(0, len(by_size) - 1, min(len(by_size), LOOKED_AT_FILES)).round().astype(int)
    for file in (by_size[place] for place in places.tolist()):
        look = _looked_at(file, sizes[file.path], how)
        if look.rows:
            looks.append(look)
            if file.format.id in TIME_ORDERED:
                ordered = max(ordered, sizes[file.path] / max(look.bytes, 1.0))
    rows_a_byte = sum(one.rows for one in looks) / max(sum(one.bytes for one in looks), 1.0)
    span_us = max((one.last_us for one in looks), default=0.0) - min(
        (one.first_us for one in looks), default=0.0
    )
    days = max(ordered * span_us / 86_400e6, 0.0)
    rows = round(total * (rows_a_byte or 1.0 / OTHER_ROW_BYTES))
    return cost_of(rows, _services(by_size), days, total)


def _looked_at(file: InputFile, size: int, how: Reading) -> _Look:
    """Return what the first part of a file shows; one that can't be read so shows nothing."""
    if file.path.is_dir() or file.format.id in BYTE_OFFSETS or size <= HEAD_BYTES:
        return _read_on(file, file.path, size, how)
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder, file.path.name.removesuffix(".gz").removesuffix(".zst"))
        try:
            with open_decompressed(file.path) as handle:
                text = handle.read(HEAD_BYTES)
        except (InputError, OSError, zlib.error):
            return _Look()
        end = text.rfind(b"\n") + 1
        end += end % 2 if text[:2] == b"\xff\xfe" else 0  # UTF-16 has two bytes for the end of a line
        head.write_bytes(text[:end])
        found = _read_on(file, head, end, how)
    is_document = not found.rows and size <= MOST_WHOLE_BYTES
    return _read_on(file, file.path, size, how) if is_document else found


def _read_on(file: InputFile, path: Path, size: int, how: Reading) -> _Look:
    """Read the samples of a file up to enough of them."""
    found = _Look(bytes=float(size))
    try:
        with catch_reader_bugs(str(path)):
            for piece in file.format.read(Dump(path, str(path), file.name, how), ReadNotes()):
                if not isinstance(piece, RawSeries) or not piece.t_us.size:
                    continue
                if found.rows >= LOOKED_AT_ROWS and file.format.id in BYTE_OFFSETS:
                    found.bytes = float(piece.offset)
                    break
                found.rows += piece.t_us.size
                found.first_us = min(found.first_us, float(piece.t_us.min()))
                found.last_us = max(found.last_us, float(piece.t_us.max()))
    except InputError:
        return _Look()
    return found


def _services(by_size: Sequence[InputFile]) -> int:
    """Return how many models the smallest file that names any holds, at least one."""
    left = SCANNED_BYTES
    for file in by_size:
        if not file.path.is_file() or left <= 0:
            continue
        names = set[bytes]()
        try:
            with open_decompressed(file.path) as handle:
                while left > 0 and (block := handle.read(1 << 23)):
                    left -= len(block)
                    names |= {name.lower() for name in _MODEL.findall(block)}
        except (InputError, OSError, zlib.error):
            continue
        if names:
            return len(names)
    return 1


def decompressed_bytes(path: Path) -> int:
    """Return the size of a file, of an archive as its first part extrapolates; 0 when it can't be read.

    A folder is a database: its files as they are.
    """
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
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
    found = list(files)
    if sum(one.path.stat().st_size for one in found) * GREATEST_RATIO < BIG_BYTES:
        return
    if sum(decompressed_bytes(one.path) for one in found) < BIG_BYTES:
        return
    most = expected_cost(found, work.settings.reading)
    free = shutil.disk_usage(work.out).free
    if most.disk_bytes > free:
        raise RunFolderError(
            f"reading {most.rows:,} samples needs about {_giga(most.disk_bytes)} of disk, and {_giga(free)} "
            "are free",
            where=str(work.run),
            hint="name a folder on a larger disk with --run-dir, or read a part of the files",
        )
    work.progress.noted(f"{in_words(most)} ({_giga(free)} of disk free)")


def in_words(cost: Cost) -> str:
    """Return a cost in one line."""
    return (
        f"about {_giga(cost.input_bytes)} of text, {cost.rows:,} samples, {cost.services} "
        f"service{'s' * (cost.services != 1)}, {cost.days:.1f} days: about {_minutes(cost.reading_s)} min to "
        f"read, {_minutes(cost.seconds)} min in all on one core; {_giga(cost.memory_bytes)} of memory, "
        f"{_giga(cost.disk_bytes)} of disk"
    )


def _minutes(seconds: float) -> int:
    return max(1, round(seconds / 60))


def _giga(count: float) -> str:
    return f"{count / 1e9:.1f} GB"

"""Reader of `promtool tsdb dump`: one sample a line, times in milliseconds, as exact as the TSDB itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hs_analysis.ingest.bytestream import LINE_BLOCK_BYTES, ByteStream
from hs_analysis.ingest.line_samples import Syntax, read_lines, sample_tails
from hs_analysis.ingest.raw import Dump, RawSeries, ReadNotes

SYNTAX = Syntax(go_escapes=True, per_second=1000)

_TAIL = re.compile(rb"(?:\S+|\{.*\}) -?\d+")


def is_tsdb_dump(head: bytes) -> bool:
    """Return whether a file begins with lines of a dump: a series in braces, a value, whole milliseconds."""
    return head[:1] == b"{" and any(_TAIL.fullmatch(tail) for tail in sample_tails(head))


def read_tsdb_dump(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of ``{__name__="name", label="value"} value time_ms`` lines.

    A staleness marker is printed as NaN and can't be told from a measured one: both are null, flag ``nan``.

    Raises
    ------
    InputError
        When a line never ends.
    """
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        yield from read_dump_lines(stream, dump.where, notes)


def read_dump_lines(stream: ByteStream, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of a stream of dump lines; errors name ``where``."""
    yield from read_lines(stream, where, SYNTAX, notes)

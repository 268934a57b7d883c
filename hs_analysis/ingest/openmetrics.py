"""Reader of OpenMetrics text with times in seconds, as `promtool tsdb dump-openmetrics` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hs_analysis.ingest.bytestream import LINE_BLOCK_BYTES
from hs_analysis.ingest.labels import openmetrics_unquoted
from hs_analysis.ingest.line_samples import EARLIEST_S, Syntax, read_lines, sample_tails
from hs_analysis.ingest.numbers import DECIMAL
from hs_analysis.ingest.raw import LATEST_S, Dump, RawSeries, ReadNotes

SAMPLED_TYPES = ("counter", "histogram", "summary")
"""Types whose `_created` line says when the counting began."""

MOST_TEXT_BYTES = 1 << 12
"""What is kept of a HELP text."""

_TIMED = re.compile(rf"\S+[ \t]+({DECIMAL})(?:[ \t]+#.*)?".encode())
_DECLARATION = re.compile(rb"#[ \t]+(TYPE|HELP|UNIT)[ \t]+(\S+)[ \t]*(.*)", re.DOTALL)


@dataclass
class Declarations:
    """What the comment lines of a file declare; fills the notes of the reader."""

    notes: ReadNotes
    ended: bool = False

    def comment(self, line: bytes) -> None:
        """Take one line that begins with ``#``."""
        if line.split() == [b"#", b"EOF"]:
            self.ended = True
            return
        match = _DECLARATION.match(line)
        if match is None:
            return
        self.ended = False  # another document follows in the same file
        name, text = match[2].decode("utf-8", "replace"), match[3].strip()
        if match[1] == b"TYPE":
            self.notes.types[name] = text[:MOST_TEXT_BYTES].decode("utf-8", "replace").lower()
        elif match[1] == b"HELP":
            self.notes.helps[name] = openmetrics_unquoted(text[:MOST_TEXT_BYTES]).decode("utf-8", "replace")

    def is_creation(self, metric: str) -> bool:
        """Return whether a metric only says when a declared counter was created."""
        if not metric.endswith("_created"):
            return False
        family = metric.removesuffix("_created")
        declared = self.notes.types.get(family) or self.notes.types.get(f"{family}_total")
        return declared in SAMPLED_TYPES


def is_openmetrics(head: bytes) -> bool:
    """Return whether a file begins with samples that carry Unix seconds."""
    if head[:1] == b"{":  # a dump's times are milliseconds
        return False
    times = [match[1] for tail in sample_tails(head) if (match := _TIMED.fullmatch(tail))]
    return any(EARLIEST_S <= float(time) < LATEST_S for time in times)


def read_openmetrics(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of ``name{label="value"} value time_s`` lines.

    Exemplars are passed over; samples without a time are rejected (``bad_ts``). Lines that say when a
    declared counter was created (``_created``) are no samples and no rows: their number is an info. A file
    that does not end with ``# EOF`` keeps its rows, with a warning.

    Raises
    ------
    InputError
        When a line never ends.
    """
    declared = Declarations(notes)
    syntax = Syntax(go_escapes=False, per_second=1, comment=declared.comment, dropped=declared.is_creation)
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        yield from read_lines(stream, dump.where, syntax, notes)
        if not declared.ended and not stream.damage:
            notes.warnings.append("truncated: the file does not end with # EOF; export it again")

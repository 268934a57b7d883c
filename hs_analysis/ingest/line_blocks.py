"""Text files in blocks of whole lines that know their line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hs_analysis.ingest.bytestream import BOM, ByteStream
from hs_analysis.ingest.raw import Dump, ReadNotes, Rejection

LONGEST_LINE_BYTES = 1 << 26
"""A line longer than this is no line of a text format: its bytes are set aside, not collected."""


@dataclass(frozen=True)
class LineBlock:
    """Whole lines of a file.

    ``number`` is the first line's, from 1; ``lines`` come without their ends. ``last`` says that the file
    ends here.
    """

    number: int
    lines: list[bytes]
    last: bool


def line_blocks(dump: Dump, notes: ReadNotes) -> Iterator[LineBlock]:
    """Yield the lines of a file; a byte order mark and the ends of lines are taken off.

    An archive that is cut or damaged gives the whole lines before the damage: the rest of its last line is
    set aside with reason ``truncated``, and a warning says so.

    Raises
    ------
    InputError
        When the file can't be opened.
    """
    number, rest, first = 1, b"", True
    with dump.stream() as stream:
        while block := stream.take():
            if first:
                _say_odd(block, notes)
                block, first = block.removeprefix(BOM), False
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if len(rest) > LONGEST_LINE_BYTES:
                lines.append(rest)
                rest = b""
            if lines:
                yield LineBlock(number, _ended(lines), last=False)
                number += len(lines)
        yield LineBlock(number, _remainder(stream, rest, number, notes), last=True)


def _say_odd(block: bytes, notes: ReadNotes) -> None:
    """Note what the first bytes have that other programs stumble over; it is left out here."""
    if block.startswith(BOM):
        notes.infos.append("begins with a byte order mark, which is left out")
    if block.partition(b"\n")[0].endswith(b"\r"):
        notes.infos.append("lines end in CR LF, which is left out")


def _remainder(stream: ByteStream, rest: bytes, number: int, notes: ReadNotes) -> list[bytes]:
    """Return the last line, which has no end; in a damaged archive it is cut and set aside."""
    if not stream.damage:
        return _ended([rest]) if rest else []
    notes.warnings.append(
        f"{stream.damage} after line {number}: what follows is missing; copy the file again"
    )
    if rest:
        notes.rows += 1
        notes.rejections.append(
            Rejection(number, "truncated", shown(rest), "the line is cut by the end of the archive", "", "")
        )
    return []


def _ended(lines: list[bytes]) -> list[bytes]:
    return [line.rstrip(b"\r") for line in lines]


def shown(raw: bytes) -> str:
    """Return bytes as text for the rejected table."""
    return raw[:1000].decode("utf-8", "replace")

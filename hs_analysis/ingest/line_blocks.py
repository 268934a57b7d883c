"""Text files in blocks of whole lines that know their line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import BOM, BrokenStreamError, ByteStream
from hs_analysis.ingest.raw import Dump, ReadNotes, Rejection


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
        When the file can't be opened, or a line never ends.
    """
    number, rest = 1, b""
    with dump.stream() as stream:
        try:
            for read in stream.lines():
                if number == 1:
                    _say_odd(read, notes)
                block = read.removeprefix(BOM) if number == 1 else read
                if not block.endswith(b"\n"):
                    rest = block
                    break
                lines = block[:-1].split(b"\n")
                yield LineBlock(number, _ended(lines), last=False)
                number += len(lines)
        except BrokenStreamError as broken:
            what = f"{broken.what} at byte {broken.offset}"
            raise InputError(what, where=dump.where, hint=broken.hint) from broken
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

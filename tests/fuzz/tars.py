"""Tars of a TSDB for fuzzing: small ones, their checksums mended, and promtool asked only now and then."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hs_analysis.errors import HsError
from hs_analysis.ingest.readers import tsdb
from hs_analysis.ingest.readers.tsdb import read_dump_lines
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes
from hs_analysis.ingest.streams import LINE_BLOCK_BYTES, ByteStream

BLOCK = 512
CHECKSUM = slice(148, 156)
ULID = "01KAV0ZZZZZZZZZZZZZZZZZZZZ"

Member = tuple[str, bytes, bytes]
"""Name, type of tar, and content; of a link what it points at."""


def tar_of(*members: Member, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar without the zeros that fill it up."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = content.decode() if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue().rstrip(b"\0") + bytes(2 * BLOCK)


def small_tars() -> list[bytes]:
    """Return tars that promtool could not read, for what unpacks them."""
    file = tarfile.REGTYPE
    block = ((f"s/{ULID}/meta.json", file, b"{}"), (f"s/{ULID}/index", file, b"i"))
    return [
        tar_of(*block, (f"s/{ULID}/chunks/000001", file, b"c")),
        tar_of(*block, form=tarfile.PAX_FORMAT),
        tar_of((f"{'long/' * 30}{ULID}/index", file, b"i")),
        tar_of((f"{'long/' * 30}{ULID}/index", file, b"i"), form=tarfile.PAX_FORMAT),
        tar_of(("wal/00000000", file, b"w"), ("wal/checkpoint.1/00000000", file, b"w")),
        tar_of((f"../../{ULID}/index", tarfile.SYMTYPE, b"/etc/hosts"), *block),
        tar_of(("a", tarfile.DIRTYPE, b""), ("b", tarfile.LNKTYPE, b"a"), *block),
    ]


def with_checksums(raw: bytes) -> bytes:
    """Return a tar whose headers have the checksum of what they hold: without, no changed one is read."""
    mended = bytearray(raw)
    for at in range(0, len(raw) - BLOCK + 1, BLOCK):
        header = mended[at : at + BLOCK]
        if header[257:262] == b"ustar":
            header[CHECKSUM] = b" " * 8
            mended[at + CHECKSUM.start : at + CHECKSUM.stop] = b"%06o\0 " % sum(header)
    return bytes(mended)


def ask_promtool_once_in(many: int, patch: pytest.MonkeyPatch) -> None:
    """Have the reader of a TSDB run promtool on one input in many, and read lines made up here on the others.

    What a tar was unpacked to holds no links, and is read as a folder, too.
    """
    dumped, count, inside = tsdb._dumped, 0, False

    def one(program: str, folder: Path, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
        nonlocal count, inside
        count += 1
        if not inside:
            assert not [path for path in folder.rglob("*") if path.is_symlink()]
            inside = True
            with contextlib.suppress(HsError):
                list(tsdb.read_tsdb(Dump(folder, where, folder.name), ReadNotes()))
            inside = False
        if count % many == 0:
            yield from dumped(program, folder, where, notes)
        else:
            lines = b'{__name__="m"} 1 1764000000000\n'
            yield from read_dump_lines(ByteStream(io.BytesIO(lines), LINE_BLOCK_BYTES), where, notes)

    patch.setattr(tsdb, "_dumped", one)

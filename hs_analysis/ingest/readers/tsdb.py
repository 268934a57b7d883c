"""Readers of a TSDB itself, a data folder, a snapshot or a tar of one, and of its text dump."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from hs_analysis.errors import InputError
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes
from hs_analysis.ingest.streams import (
    DAMAGED,
    DAMAGES,
    LARGEST_RATIO,
    LINE_BLOCK_BYTES,
    ByteStream,
    most_unpacked_bytes,
)
from hs_analysis.ingest.text_lines import Syntax, read_lines, sample_tails
from hs_analysis.interrupts import temporary_folder, undone

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


_BLOCK_FILE = re.compile(r"(?:^|/)([0-9A-HJKMNP-TV-Z]{26}/(?:meta\.json|index|tombstones|chunks/\d{6}))$")
_WAL_FILE = re.compile(r"(?:^|/)(wal/(?:checkpoint\.\d+/)?\d{8})$")
_BLOCK_NAME = re.compile(rb"(?:^|/)[0-9A-HJKMNP-TV-Z]{26}/(?:\0|chunks/|index\0|meta\.json\0)|(?:^|/)wal/")


def is_block(folder: Path) -> bool:
    """Return whether a folder is one block of a TSDB."""
    return (folder / "meta.json").is_file() and (folder / "index").is_file() and (folder / "chunks").is_dir()


def is_tsdb(folder: Path) -> bool:
    """Return whether a folder is a TSDB: it holds blocks, is one, or is young and has only its log."""
    try:
        if is_block(folder) or ((folder / "wal").is_dir() and (folder / "chunks_head").is_dir()):
            return True
        return any(child.is_dir() and is_block(child) for child in folder.iterdir())
    except PermissionError:
        return False


def is_tsdb_tar(head: bytes) -> bool:
    """Return whether a file begins as a tar with the files of a TSDB."""
    return head[257:262] == b"ustar" and bool(_BLOCK_NAME.search(head))


def read_tsdb(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of a TSDB as ``promtool tsdb dump`` prints them.

    The user's files are only read: promtool gets a folder of links to them with the empty ``wal`` folder it
    asks for, or what a tar was unpacked to. Both are removed at the end.

    Raises
    ------
    InputError
        Without promtool, with the command to run elsewhere; when promtool fails, with its last words; for a
        tar that is damaged or unpacks to far more than a snapshot can.
    """
    program = shutil.which("promtool")
    if program is None:
        folder = dump.path.name if dump.path.is_dir() else "FOLDER (after `tar xf`)"
        raise InputError(
            "a TSDB is read with promtool, which is not on PATH",
            where=dump.where,
            hint=f"install Prometheus, or run `mkdir -p {folder}/wal; promtool tsdb dump {folder} "
            "| gzip > dump.txt.gz` where it is and give the dump",
        )
    beside = Path(tempfile.gettempdir())
    with temporary_folder(beside, "hsa-tsdb-") as made, _prepared(dump, made) as folder_made:
        yield from _dumped(program, folder_made, dump.where, notes)


def _dumped(program: str, folder: Path, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - the program found on PATH, no shell
            [program, "tsdb", "dump", str(folder)], stdout=subprocess.PIPE, stderr=said
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            with undone(process.kill):
                stream = ByteStream(cast(BinaryIO, process.stdout), LINE_BLOCK_BYTES)
                yield from read_dump_lines(stream, where, notes)
                code = process.wait()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if code:
            raise InputError(
                f"promtool could not read it: {_last_line(said)}", where=where, hint="copy the snapshot again"
            )


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"


@contextmanager
def _prepared(dump: Dump, made: Path) -> Iterator[Path]:
    """Yield a folder below ``made`` that promtool can open."""
    try:
        (made / "wal").mkdir()
        if dump.path.is_dir():
            _link(dump.path, made)
        else:
            with dump.handle() as handle:
                limit = most_unpacked_bytes(dump.path)
                _unpack(handle, made, limit, dump.where)
    except OSError as error:
        raise InputError(
            f"can't be prepared for promtool ({error.strerror or error})", where=dump.where,
            hint="check its permissions and the space for temporary files",
        ) from error  # fmt: skip
    yield made


def _link(source: Path, made: Path) -> None:
    """Make folders like those of the blocks, with links to their files; copy the log, which promtool replays.

    A link to a whole block is no folder to promtool.
    """
    blocks = [source] if is_block(source) else sorted(p for p in source.iterdir() if is_block(p))
    for block in blocks:
        for path in sorted(block.rglob("*")):
            target = made / block.resolve().name / path.relative_to(block)
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path.resolve())
    if (source / "wal").is_dir() and not is_block(source):
        shutil.copytree(source / "wal", made / "wal", dirs_exist_ok=True)


class _Bounded:
    """A handle that refuses to give more than ``limit`` bytes."""

    def __init__(self, handle: BinaryIO, limit: int) -> None:
        self._handle = handle
        self._left = limit

    def read(self, size: int) -> bytes:
        """Read on."""
        data = self._handle.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.TarError(f"it unpacks to more than {LARGEST_RATIO} times its size")
        return data


def _unpack(handle: BinaryIO, made: Path, limit: int, where: str) -> None:
    """Unpack the files of blocks and of the log; links, devices and all other names are passed over.

    Files land below ``made`` under the part of their name that the pattern allows, whatever stands before it.
    """
    blocks: set[str] = set()
    try:
        with tarfile.open(fileobj=_Bounded(handle, limit), mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                match = _BLOCK_FILE.search(member.name) or _WAL_FILE.search(member.name)
                if match is None or not member.isreg() or member.issparse():
                    continue
                if member.size > limit:
                    raise tarfile.TarError(f"{match[1]} claims {member.size} bytes")
                target = made / match[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - it is a regular file
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                blocks.add(match[1].partition("/")[0])
    except (
        tarfile.TarError,
        OverflowError,
        ValueError,
    ) as error:  # tarfile lets numbers of damaged headers pass
        raise InputError(f"no whole tar of a snapshot: {error}", where=where, hint="copy it again") from error
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"no whole tar of a snapshot: {DAMAGED}", where=where, hint="copy it again"
        ) from error
    if not blocks:
        raise InputError(
            "the tar holds no block of a TSDB", where=where, hint="pack the snapshot's folder whole"
        )

"""The input files of a run, standard input among them: listed, measured and hashed."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hs_analysis.errors import HsError, InputError, ManyErrors
from hs_analysis.ingest.discovery import NOT_UTF8, is_utf8, printable_path
from hs_analysis.interrupts import temporary_folder, undone

_BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class HashedInput:
    """One input file.

    Attributes
    ----------
    path
        Where it lies.
    name
        Path below the INPUT it came with, ``/`` between folders; the file's own name for a named file.
    named
        Whether the user named the very file, not a folder above it.
    size
        Bytes on disk.
    sha256
        Hash of the bytes on disk.
    """

    path: Path
    name: str
    named: bool
    size: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def list_inputs(arguments: Sequence[Path]) -> tuple[HashedInput, ...]:
    """Return every file of the INPUT arguments, sorted by name and place; hidden files are left out.

    So are files of a folder whose names are no UTF-8: no text file could name them, and none is read.

    Raises
    ------
    InputError, ManyErrors
        For arguments that are not there, can't be read, or are folders without a file.
    """
    errors: list[HsError] = []
    found: dict[Path, HashedInput] = {}
    for argument in arguments:
        try:
            for path, name, named in _walk(argument):
                if named or not is_utf8(argument):
                    _require_text(path)
                elif not is_utf8(Path(name)):
                    continue
                key = path.resolve()
                if key not in found:
                    found[key] = HashedInput(path, name, named, path.stat().st_size, sha256_of(path))
        except InputError as error:
            errors.append(error)
        except OSError as error:
            where = str(error.filename or argument)
            errors.append(InputError(f"can't be read ({error.strerror})", where=where))
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return tuple(one for _, one in sorted(found.items(), key=lambda pair: (pair[1].name, str(pair[0]))))


def _require_text(path: Path) -> None:
    """Raise for a path that no text file could name."""
    if not is_utf8(path.resolve()):
        raise InputError(NOT_UTF8, where=printable_path(path), hint="rename it")


def _walk(argument: Path) -> Iterable[tuple[Path, str, bool]]:
    if argument.is_file():
        return [(argument, argument.name, True)]
    if not argument.exists():
        raise InputError("no such file or folder", where=str(argument), hint="check the path")
    if not argument.is_dir():
        raise InputError("neither a file nor a folder", where=str(argument))
    paths = [path for path in sorted(argument.rglob("*")) if path.is_file()]
    files = [(path, path.relative_to(argument)) for path in paths]
    shown = [(p, r.as_posix(), False) for p, r in files if not any(x.startswith(".") for x in r.parts)]
    if not shown:
        raise InputError(
            "the folder holds no file", where=str(argument), hint="name a file or folder of Prometheus dumps"
        )
    return shown


def inputs_sha256(files: Iterable[HashedInput]) -> str:
    """Return one hash for a set of inputs: names and bytes count, order and place do not."""
    lines = sorted(f"{file.sha256}  {file.name}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def first_difference(recorded: Iterable[tuple[str, str]], files: Iterable[HashedInput]) -> str | None:
    """Return in words what differs between recorded (name, sha256) pairs and files; None if nothing does."""
    before, now = set(recorded), {(file.name, file.sha256) for file in files}
    if before == now:
        return None
    names_before, names_now = {name for name, _ in before}, {name for name, _ in now}
    for name in sorted(names_now - names_before):
        return f"{name} is new"
    for name in sorted(names_before - names_now):
        return f"{name} is gone"
    return f"{min(name for name, _ in now - before)} has other content"


MARK = Path("-")
"""The INPUT that stands for standard input."""

NAME = "stdin"
"""Its name in the manifest and in evidence."""

_PREFIX = ".staging-stdin-"


@contextmanager
def spooled(arguments: Sequence[Path], beside: Path, *, wanted: bool) -> Iterator[tuple[Path, ...]]:
    """Yield the arguments with ``-`` replaced by a file that holds standard input.

    Parameters
    ----------
    arguments
        INPUTs as typed.
    beside
        Folder that gets the file: that of the run folders, whose disk has room for a run.
    wanted
        Whether ``-`` stands for standard input here.

    Raises
    ------
    InputError
        When nothing came in.
    """
    if not (wanted and MARK in arguments):
        yield tuple(arguments)
        return
    made = [folder for folder in (beside, *beside.parents) if not folder.exists()]
    remove_made = partial(_remove_empty, made)
    with undone(remove_made):
        try:
            beside.mkdir(parents=True, exist_ok=True)
            with temporary_folder(beside, _PREFIX) as folder:
                kept = folder / NAME
                with kept.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
                if not kept.stat().st_size:
                    raise InputError("standard input is empty", where="-", hint="pipe a dump into it")
                yield tuple(dict.fromkeys(kept if path == MARK else path for path in arguments))
        finally:
            remove_made()


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def is_spooled(path: Path) -> bool:
    """Whether a path is that of standard input as some command kept it."""
    return path.name == NAME and path.parent.name.startswith(_PREFIX)

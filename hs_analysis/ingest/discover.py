"""From the inputs on the command line to the list of files, each with its format and capture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hs_analysis.errors import HsError, InputError, ManyErrors
from hs_analysis.ingest.bytestream import open_decompressed
from hs_analysis.ingest.formats import HEAD_BYTES, Damage, Format, sniff

HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class InputFile:
    """A file of the input; ``name`` is its path below the input, ``named`` whether it stood on the command line."""

    path: Path
    name: str
    capture: str
    named: bool
    format: Format


@dataclass(frozen=True)
class Passed:
    """A file that is not read: ``skipped`` (no reader knows it) or ``broken`` (a dump that can't be read)."""

    path: Path
    name: str
    state: str
    why: str


@dataclass(frozen=True)
class Discovery:
    """Files to read and files passed over, both in sorted order."""

    files: tuple[InputFile, ...]
    passed: tuple[Passed, ...]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as they lie on disk."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _head(path: Path) -> bytes:
    with open_decompressed(path) as handle:
        try:
            return handle.read(HEAD_BYTES)
        except (EOFError, OSError, ValueError):
            return b""


def _listed(root: Path) -> list[tuple[Path, str]]:
    found = sorted(p for p in root.rglob("*") if p.is_file() and not any(s.startswith(".") for s in p.parts))
    return [(path, str(path.relative_to(root))) for path in found]


def discover(inputs: Sequence[Path]) -> Discovery:
    """Return what the inputs hold.

    A sub-folder that holds dumps is a capture of its own; files directly in an input belong to the nameless one.
    Inside a folder a file no reader knows is skipped and a damaged one is noted; a file named on the command line
    must be readable.

    Raises
    ------
    InputError
        When an input is missing, a named file can't be read, or no file at all can.
    """
    files: list[InputFile] = []
    passed: list[Passed] = []
    errors: list[HsError] = []
    for given in inputs:
        if not given.exists():
            errors.append(InputError("no such file or folder", where=str(given), hint="check the path"))
            continue
        named = given.is_file()
        for path, name in [(given, given.name)] if named else _listed(given):
            kind = sniff(_head(path))
            if isinstance(kind, Format):
                capture = "" if named else str(Path(name).parent).removeprefix(".")
                files.append(InputFile(path, name, capture, named, kind))
            elif named:
                errors.append(_unreadable(path, kind))
            else:
                state, why = (
                    ("broken", kind.what(_head(path))) if isinstance(kind, Damage) else ("skipped", "no dump")
                )
                passed.append(Passed(path, name, state, why))
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    if not files:
        raise _nothing(inputs, passed)
    return Discovery(tuple(files), tuple(passed))


def _unreadable(path: Path, kind: Damage | None) -> InputError:
    if kind is None:
        return InputError(
            "not a metric dump this tool reads",
            where=str(path),
            hint="export it with /api/v1/query_range as JSON",
        )
    return InputError(kind.what(_head(path)), where=str(path), hint=kind.hint)


def _nothing(inputs: Sequence[Path], passed: list[Passed]) -> InputError:
    where = ", ".join(str(path) for path in inputs)
    broken = [p for p in passed if p.state == "broken"]
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        what = f"nothing readable: {broken[0].name} is {broken[0].why}{more}"
    else:
        what = f"no metric dump in {len(passed)} files" if passed else "the folder is empty"
    return InputError(
        what, where=where, hint="export with /api/v1/query_range and save the JSON answers there"
    )

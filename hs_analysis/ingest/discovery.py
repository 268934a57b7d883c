"""From the inputs on the command line to the list of files, each with its format and capture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hs_analysis.errors import HsError, InputError, ManyErrors
from hs_analysis.ingest.formats import (
    HEAD_BYTES,
    NO_DUMP,
    WRAPPED,
    FileStart,
    Format,
    describe_unknown,
    format_named,
    sniff,
)
from hs_analysis.ingest.near_misses import KnownDamage
from hs_analysis.ingest.reader_errors import ReaderBugError, catch_reader_bugs, command_error
from hs_analysis.ingest.readers.prometheus import is_empty_promtool_json
from hs_analysis.ingest.readers.tsdb import is_tsdb
from hs_analysis.ingest.streams import ByteStream, damaged_after, open_decompressed
from hs_analysis.schema.settings import Reading

NOT_UTF8 = "its name is no UTF-8"


def is_utf8(path: Path | str) -> bool:
    """Whether a path is text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_path(path: Path | str) -> str:
    """Return a path with escapes for what is no text in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


EXPORT_ALL = "export with /api/v1/query_range and save the JSON answers there"

NO_INPUT = "no dump"
"""Why a file of a folder is skipped that is nothing a reader might be told to read."""


@dataclass(frozen=True)
class InputFile:
    """A file of the input.

    ``name`` is its path below the input, ``named`` whether it stood on the command line itself.
    """

    path: Path
    name: str
    capture: str
    named: bool
    format: Format


@dataclass(frozen=True)
class PassedOver:
    """A file that is not read: ``skipped`` (no reader knows it) or ``broken`` (a dump that can't be read).

    ``bug`` is there where nobody foresaw that it can't be read, ``then`` where something can be done about a
    file that no reader knows.
    """

    name: str
    state: str
    why: str
    bug: ReaderBugError | None = None
    then: str = ""


@dataclass(frozen=True)
class Discovery:
    """Files to read and files passed over, both in sorted order."""

    files: tuple[InputFile, ...]
    passed: tuple[PassedOver, ...]


def _head(path: Path) -> tuple[bytes, str]:
    """Return a file's first decompressed bytes, and why there are no more when its archive is damaged."""
    with open_decompressed(path) as handle:
        stream = ByteStream(handle, HEAD_BYTES)
        return stream.head(HEAD_BYTES), stream.damage


def _listed(root: Path) -> list[tuple[Path, str]]:
    """Return the files below a folder and their names there, sorted; hidden ones and pipes are left out.

    A TSDB is one input: its folder stands for all files in it.
    """
    found: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
        found += [Path(folder, name) for name in below if is_tsdb(Path(folder, name))]
        below[:] = [name for name in below if Path(folder, name) not in found]
    shown = [(path, path.relative_to(root).as_posix()) for path in found if path.is_file() or path.is_dir()]
    return sorted(shown, key=lambda pair: pair[1])


def discover(inputs: Sequence[Path], how: Reading | None = None) -> Discovery:
    """Return what the inputs hold.

    A sub-folder that holds dumps is a capture of its own, and so is what the user named one; files directly
    in an input belong to the nameless one. A file that two inputs hold counts once. Inside a folder a file no
    reader knows is skipped and a damaged one is noted; a file named on the command line must be readable.

    Raises
    ------
    InputError
        When an input is missing, a named file can't be read, or no file at all can.
    ManyErrors
        When several are missing or can't be read.
    """
    missing: list[HsError] = [
        InputError("no such file or folder", where=str(given), hint="check the path")
        for given in inputs
        if not given.exists()
    ]
    reading = how or Reading()
    looks = [_classified(path, name, named, reading) for path, name, named in _candidates(inputs)]
    errors = missing + [look for look in looks if isinstance(look, HsError)]
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    files = tuple(look for look in looks if isinstance(look, InputFile))
    passed = tuple(look for look in looks if isinstance(look, PassedOver))
    if not files:
        raise _nothing_found(inputs, passed)
    return Discovery(files, passed)


def _candidates(inputs: Sequence[Path]) -> list[tuple[Path, str, bool]]:
    """Return (path, name, named) of every file once, sorted by name; naming a file beats its folder.

    Files of one name are sorted by where they lie, however the inputs were spelt.
    """
    found: dict[Path, tuple[Path, str, bool]] = {}
    whole = {given for given in inputs if given.is_file() or (given.is_dir() and is_tsdb(given))}
    for given in inputs:
        if given in whole:
            found[given.resolve()] = (given, given.resolve().name, True)
    for given in inputs:
        if given.is_dir() and given not in whole:
            for path, name in _listed(given):
                found.setdefault(path.resolve(), (path, name, False))
    return [one for _, one in sorted(found.items(), key=lambda pair: (pair[1][1], str(pair[0])))]


def holds_no_series(path: Path) -> bool:
    """Return whether a file, known to be a server's answer, says that there are none."""
    try:
        head, damage = _head(path)
    except InputError:
        return False
    return not damage and is_empty_promtool_json(head)


def _classified(path: Path, name: str, named: bool, reading: Reading) -> InputFile | PassedOver | HsError:
    """Return what a file is; an error only for a named one."""
    if not is_utf8(name):
        if named:
            return InputError(NOT_UTF8, where=printable_path(path), hint="rename it")
        return PassedOver(printable_path(name), "broken", f"{NOT_UTF8}; rename it")
    try:
        with catch_reader_bugs(str(path)):
            kind = _known_format(path, name, reading)
    except InputError as error:
        bug = error if isinstance(error, ReaderBugError) else None
        return command_error(error) if named else PassedOver(name, "broken", error.what, bug)
    if kind is not None:
        return InputFile(path, name, _capture(path, name, named, kind, reading), named, kind)
    what, hint = describe_unknown(_head(path)[0], path)
    if named:
        return InputError(what, where=str(path), hint=hint)
    unknown = what == NO_DUMP
    return PassedOver(name, "skipped", NO_INPUT if unknown else what, then="" if unknown else hint)


def _capture(path: Path, name: str, named: bool, kind: Format, reading: Reading) -> str:
    """Return the capture of a file: as the user named it, else the folder it lies in."""
    where = path.resolve()
    for capture, given in sorted(reading.captures.items()):
        if where.is_relative_to(Path(given).resolve()):
            return capture
    folder = "" if named else name.rpartition("/")[0]
    return folder.rpartition("/")[0] if kind.momentary else folder


def _known_format(path: Path, name: str, reading: Reading) -> Format | None:
    """Return the format of a file, None when no reader knows it.

    Raises
    ------
    InputError
        When it is a dump that can't be read: empty, a web page, a damaged archive, no permission.
    """
    if path.is_dir():
        return format_named("tsdb")
    head, damage = _head(path)
    kind = sniff(FileStart(head, name, reading, path))
    if reading.format is not None and not isinstance(kind, KnownDamage):
        kind = format_named(reading.format)
    if isinstance(kind, Format):
        return kind
    if damage:
        raise InputError(
            damaged_after(damage, len(head)), where=str(path), hint="copy or export the file again"
        )
    if isinstance(kind, KnownDamage):
        raise InputError(kind.what(head), where=str(path), hint=kind.hint)
    return None


def _nothing_found(inputs: Sequence[Path], passed: Sequence[PassedOver]) -> InputError:
    where = ", ".join(str(path) for path in inputs)
    broken = [p for p in passed if p.state == "broken"]
    if broken and (bug := broken[0].bug):
        return command_error(bug)
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        what = f"nothing readable: {broken[0].name}: {broken[0].why}{more}"
        hint = EXPORT_ALL
    elif table := next((p for p in passed if p.why != NO_INPUT), None):
        verb = "" if table.why == WRAPPED else "is "
        what = f"no metric dump in {len(passed)} files; {table.name} {verb}{table.why}"
        hint = table.then
    else:
        what = f"no metric dump in {len(passed)} files" if passed else "the folder is empty"
        hint = EXPORT_ALL
    return InputError(what, where=where, hint=hint)

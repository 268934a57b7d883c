"""What the stages of one command hand on to each other in memory; the run folder has it all as well.

While stages run, what one wrote or read is kept with the files it stands for, and taken as long as those are
the same files. A command that starts in the middle, another process and another machine find nothing kept and
read the files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")

MOST_BYTES = 64 << 20
"""Largest value that is kept [bytes]: a larger one is read again, so that memory does not grow by a stage."""

_Mark = tuple[int, int, int] | None
_KEPT: ContextVar[dict[Hashable, tuple[list[_Mark], Any]] | None] = ContextVar("kept", default=None)


@contextmanager
def handing_on() -> Iterator[None]:
    """Keep what is handed on inside."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def is_handing_on() -> bool:
    """Whether anything is kept here."""
    return _KEPT.get() is not None


def hand_on(key: Hashable, files: Sequence[Path], value: Any, size_bytes: int = 0) -> None:
    """Keep what was written to some files, which may move afterwards but not change."""
    kept = _KEPT.get()
    if kept is not None and size_bytes <= MOST_BYTES:
        kept[key] = [_mark(path) for path in files], value


def handed(
    key: Hashable, files: Sequence[Path], read: Callable[[], T], size_bytes: Callable[[T], int] = lambda _: 0
) -> T:
    """Return what was kept of some files as they are now; else read it, and keep it.

    Parameters
    ----------
    key
        What it is, whatever folder the files lie in.
    files
        The files that it stands for; one that is not there counts as such.
    read
        Reads it.
    size_bytes
        Tells how much memory it takes.
    """
    kept = _KEPT.get()
    if kept is None:
        return read()
    marks = [_mark(path) for path in files]
    found = kept.get(key)
    if found is not None and found[0] == marks:
        return cast("T", found[1])
    value = read()
    hand_on(key, files, value, size_bytes(value))
    return value


def _mark(path: Path) -> _Mark:
    """Return what tells a file from any other under its name: tables are written anew and renamed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

"""Standard input as an input file: kept beside the run folder while a command works on it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hs_analysis.errors import InputError
from hs_analysis.interrupts import temporary_folder, undone

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

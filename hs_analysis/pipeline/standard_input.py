"""Standard input as an input file: kept beside the run folder while a command works on it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hs_analysis.errors import InputError

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
    beside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=beside))
    try:
        kept = folder / NAME
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        if not kept.stat().st_size:
            raise InputError("standard input is empty", where="-", hint="pipe a dump into it")
        yield tuple(dict.fromkeys(kept if path == MARK else path for path in arguments))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def is_spooled(path: Path) -> bool:
    """Whether a path is that of standard input as some command kept it."""
    return path.name == NAME and path.parent.name.startswith(_PREFIX)

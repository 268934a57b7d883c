"""One writer per run folder, held by an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hs_analysis.errors import RunFolderError

LOCK_FILE = ".lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the folder must exist and may be renamed meanwhile.

    Raises
    ------
    RunFolderError
        When another process holds it; the message names the process.
    """
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunFolderError(
                f"another hsa is writing this folder (process {holder})",
                where=str(folder),
                hint="wait for it, or choose another folder with --run-dir",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)

"""One writer per run folder, held by an advisory lock that dies with its process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hs_analysis.errors import RunFolderError

LOCK_FILE = ".lock"

_HOLDER_AT = 1
"""Where the number of the holder begins in the file [bytes]: Windows lets nobody read the first byte."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the folder must exist and may be renamed meanwhile.

    Raises
    ------
    RunFolderError
        When another process holds it; the message names the process.
    """
    held: list[int] = []
    path = folder / LOCK_FILE
    one = FileLock(path, blocking=False, preserve_lock_file=True, on_acquired=held.append)
    try:
        one.acquire()
    except Timeout as error:
        raise RunFolderError(
            f"another hsa is writing this folder (process {_holder(path)})",
            where=str(folder),
            hint="wait for it, or choose another folder with --run-dir",
        ) from error
    try:
        os.ftruncate(held[0], 0)
        os.write(held[0], f"{' ' * _HOLDER_AT}{os.getpid()}\n".encode())
        yield
        os.ftruncate(held[0], 0)
    finally:
        one.release()


def _holder(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        file.seek(_HOLDER_AT)
        return file.read().decode().strip() or "unknown"

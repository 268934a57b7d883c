"""Ctrl-C and requests to end: one place that undoes what is half-done and ends the process.

Raised as an exception, an interrupt is renamed by libraries on its way (`ImportError`, `SystemError`), or
lost in a destructor. So the program's handler raises nothing: it undoes what was announced here, says one
line and ends the process at once. Without a handler, as when the package is a library, nothing here acts.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from uuid import uuid4

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the request to end of a service manager or a queue, and a terminal that went away."""

SHELLS_BASE = 128
"""Shells give a process that a signal ended this plus the signal's number as exit code: 130 for Ctrl-C."""

_CURSOR_BACK = b"\r\x1b[2K\x1b[?25h"
"""Takes a progress bar's line away and shows the cursor that it hid."""

_undoes: list[Callable[[], object]] = []


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Have ``undo`` called if an interrupt ends the process inside the block; the latest is called first."""
    _undoes.append(undo)
    try:
        yield
    finally:
        _undoes.remove(undo)


@contextmanager
def temporary_folder(beside: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder that is gone after the block, whatever ends it.

    Parameters
    ----------
    beside
        The folder that gets it.
    prefix
        What its name begins with.
    """
    folder = beside / f"{prefix}{uuid4().hex[:12]}"
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    with undone(remove):
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            remove()


def install() -> None:
    """Make interrupts end this process; those that it was started to ignore, as by `nohup`, stay ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def finished() -> None:
    """Let Ctrl-C pass from here on: all is done and said, and the interpreter only takes itself down."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the undoing
    kept = bool(_undoes)
    while _undoes:
        with suppress(Exception):
            _undoes.pop()()
    command = " ".join(["hsa", *sys.argv[1:2]])
    more = "; finished stages are kept, the same command goes on after them" if kept else ""
    with suppress(OSError):
        # Not through sys.stderr: the signal may have come while it was written to.
        start = _CURSOR_BACK if os.isatty(2) else b""
        os.write(2, start + f"{command}: interrupted{more}\n".encode("utf-8", "backslashreplace"))
    os._exit(SHELLS_BASE + number)

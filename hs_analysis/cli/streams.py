"""Standard streams that are closed, or that can't take every character."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path
from typing import Any

from hs_analysis.errors import MachineError


class _Closed(io.TextIOBase):
    """Standard output of a process that was started without one."""

    def write(self, _text: str) -> int:
        """Say that nothing can be printed."""
        raise MachineError(
            "standard output is closed, so the result can't be printed",
            hint="give the command a place to print to, e.g. > /dev/null",
        )


def prepare() -> None:
    """Give every standard stream a place, and escape what its encoding does not have.

    A closed one must not stay closed: the next file that is opened would take its number, and get what is
    meant for the stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _Closed()
    elif not takes_all(sys.stdout) and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def takes_all(stream: Any) -> bool:
    """Whether a stream's encoding has every character."""
    try:
        name = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
    except LookupError:
        return False
    return name.startswith("utf")

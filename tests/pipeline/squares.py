"""A task and its function, in a module that other processes import by the name it has here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hs_analysis.errors import UsageError


@dataclass(frozen=True)
class Square:
    """A number to square."""

    number: int


def squared(task: Square) -> tuple[int, int]:
    """Return the square and the process that found it."""
    if task.number < 0:
        raise UsageError("no square of a negative number", hint="give another")
    return task.number**2, os.getpid()

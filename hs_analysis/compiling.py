"""How inner loops over records are compiled: they allocate nothing and call only each other.

Functions that call each other stay in one module: a cached function is compiled anew when its own file
changes, not when another one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without allocations arrays need no counting of their references: that halves the time and more."""


def compiled(function: Function) -> Function:
    """Compile a function that takes records and numbers."""
    made: Function = numba.njit(**OPTIONS)(function)
    return made


def inlined(function: Function) -> Function:
    """Compile a function into its callers: one that takes many arrays."""
    made: Function = numba.njit(inline="always", **OPTIONS)(function)
    return made


def entry(function: Function) -> Function:
    """Compile a function that Python calls, and keep what was compiled on disk."""
    made: Function = numba.njit(cache=True, **OPTIONS)(function)
    return made

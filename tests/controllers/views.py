"""Views of one pool for controller tests, and a walk of a rule over readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hs_analysis.controllers.registry import RULES
from hs_analysis.controllers.view import PoolView


def view(
    values: Sequence[float] | dict[str, Sequence[float]],
    desired: int,
    *,
    ready: float | None = None,
    role: str = "decode",
    window_s: float = 60.0,
) -> PoolView:
    """Return what is seen after the given values, one a row; a plain list is the signal ``load``."""
    readings = values if isinstance(values, dict) else {"load": values}
    rows = len(next(iter(readings.values())))
    return PoolView(
        role, rows * window_s, window_s, desired, desired if ready is None else ready, readings, rows
    )


def walk(
    parameters: Any,
    values: Sequence[float],
    start: int,
    *,
    role: str = "decode",
    window_s: float = 60.0,
    signal: str = "load",
) -> list[int]:
    """Return the counts a rule asks for after each value; what it asks for is ready at once."""
    rule, memory, count, counts = RULES[type(parameters)], None, start, []
    padded = [*values, math.nan]
    for rows in range(1, len(values) + 1):
        seen = PoolView(role, rows * window_s, window_s, count, float(count), {signal: padded}, rows)
        answer = rule(parameters, seen, memory)
        memory, count = answer.memory, answer.count
        counts.append(count)
    return counts

"""Fleets of one pool for controller tests, and walks of a batch over readings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hs_analysis.controllers.hpa import Hpa, HpaBatch, replicas_for
from hs_analysis.controllers.keda import Keda, KedaBatch
from hs_analysis.controllers.kthena import Kthena, KthenaBatch
from hs_analysis.controllers.lanes import Fleet, Scraped, key_of

BATCHES: dict[type, Any] = {Hpa: HpaBatch, Keda: KedaBatch, Kthena: KthenaBatch}


def batch_of(parameters: Sequence[Any], role: str = "decode") -> Any:
    """Return controllers of one kind and structure as a batch."""
    return BATCHES[type(parameters[0])](parameters, role)


def fleet(
    readings: Mapping[str, Sequence[float]],
    desired: Sequence[float],
    ready: Sequence[float] | None = None,
    *,
    rows: int | None = None,
    role: str = "decode",
    window_s: float = 60.0,
) -> Fleet:
    """Return the pools after ``rows`` rows of readings, each shape (rows,) or (rows, lanes)."""
    lanes = len(desired)
    rows = len(next(iter(readings.values()))) if rows is None else rows
    values = {
        key_of(signal, role): np.asarray(column[:rows], float).reshape(rows, -1) * np.ones(lanes)
        for signal, column in readings.items()
    }
    counts = np.asarray(desired, float)
    return Fleet(
        np.full(lanes, rows * window_s),
        window_s,
        {role: counts},
        {role: counts if ready is None else np.asarray(ready, float)},
        Scraped(window_s, values),
    )


def asks(
    parameters: Any,
    values: Sequence[float] | Mapping[str, Sequence[float]],
    desired: int,
    *,
    ready: float | None = None,
    window_s: float = 60.0,
) -> int:
    """Return what a batch of one asks for at first sight of its pool; a plain list is the signal ``load``."""
    readings = values if isinstance(values, Mapping) else {"load": values}
    seen = fleet(readings, [desired], None if ready is None else [ready], window_s=window_s)
    return int(batch_of([parameters]).step(seen).count[0])


def walk(
    parameters: Any,
    values: Sequence[float],
    start: int,
    *,
    role: str = "decode",
    window_s: float = 60.0,
    signal: str = "load",
) -> list[int]:
    """Return the counts a batch of one asks for after each value; what it asks for is ready at once."""
    batch, count, counts = batch_of([parameters], role), start, []
    padded = [*values, math.nan]
    for rows in range(1, len(values) + 1):
        seen = fleet({signal: padded}, [count], rows=rows, role=role, window_s=window_s)
        count = int(batch.step(seen).count[0])
        counts.append(count)
    return counts


def pods(
    levels: Sequence[float | None], unready: int, target: float, current: int, tolerance: float = 0.1
) -> int:
    """Return the count for a metric of single ready pods, each known or None."""
    known = [value for value in levels if value is not None]
    one = [sum(known) / len(known), len(known), len(levels) - len(known), unready, target, current]
    arrays = [np.array([float(value)]) for value in (*one, tolerance, tolerance)]
    return int(replicas_for(*arrays)[0])

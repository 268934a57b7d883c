"""Fleets of lanes for controller tests, and a walk of a batch over readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hs_analysis.controllers.lanes import Fleet, Key, Scraped


def fleet(
    values: Mapping[Key, Any],
    desired: Mapping[str, Any],
    *,
    t_s: Any = 0.0,
    window_s: float = 60.0,
    ready: Mapping[str, Any] | None = None,
    reporting: Mapping[str, Any] | None = None,
) -> Fleet:
    """Return a fleet; rows are numbers (one lane, or all alike) or rows of one number a lane."""
    lanes = max(np.size(one) for one in (t_s, *desired.values()))

    def rows(found: Any) -> np.ndarray:
        table = np.asarray(found, float)
        return np.repeat(table[:, None], lanes, axis=1) if table.ndim == 1 else table

    def counts(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {role: np.broadcast_to(np.asarray(one, float), lanes).copy() for role, one in found.items()}

    return Fleet(
        np.broadcast_to(np.asarray(t_s, float), lanes).copy(),
        window_s,
        counts(desired),
        counts(ready or desired),
        Scraped(window_s, {key: rows(found) for key, found in values.items()}),
        {role: rows(found) for role, found in (reporting or {}).items()},
    )


def walk(
    batch: Any,
    values: Sequence[float],
    start: int,
    *,
    role: str = "decode",
    key: Key = ("load", "decode"),
    window_s: float = 60.0,
) -> list[int]:
    """Return the counts of one lane after each value; what it asks for is ready at once."""
    count, counts = start, []
    for rows in range(1, len(values) + 1):
        seen = fleet({key: values[:rows]}, {role: count}, t_s=rows * window_s, window_s=window_s)
        answer = batch.step(seen)
        asked = answer.counts[role] if hasattr(answer, "counts") else answer.count
        count = int(asked[0])
        counts.append(count)
    return counts

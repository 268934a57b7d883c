"""Limits between two histogram edges: how far between them a limit lies."""

from __future__ import annotations

import math
from collections.abc import Mapping

Edges = Mapping[str, tuple[float, float, float]]
"""Per latency its limit and the histogram edges below and above it [s]; no edge above is infinite."""


def way_between(edges: Edges, latency: str) -> float:
    """Return where the limit lies between its edges, 0 at the lower and 1 at the upper one.

    0 where nothing is known of the edges or none is above: the lower edge then stands for the limit.
    """
    limit, below, above = edges.get(latency, (0.0, 0.0, 0.0))
    if not math.isfinite(above) or above <= below:
        return 0.0
    return min(max((limit - below) / (above - below), 0.0), 1.0)

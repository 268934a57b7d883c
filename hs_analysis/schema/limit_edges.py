"""The histogram edges about a latency limit, and how a limit is judged by them, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LimitEdges:
    """The histogram edges around a latency limit [s]; equal when an edge lies at the limit.

    ``low_s`` is None when the limit lies below the first edge; ``high_s`` is infinite above the last.
    """

    signal: str
    source: str
    limit_s: float
    low_s: float | None
    high_s: float

    @classmethod
    def from_plain(cls, edge: Mapping[str, Any]) -> LimitEdges:
        """Return the edges from JSON, which has no infinity: a ``high_s`` of null is the last bucket's."""
        high = edge.get("high_s")
        return cls(
            str(edge["signal"]),
            str(edge.get("source") or ""),
            float(edge["limit_s"]),
            edge.get("low_s"),
            math.inf if high is None else float(high),
        )

    @property
    def exact(self) -> bool:
        """Whether an edge lies at the limit."""
        return self.low_s == self.high_s

    @property
    def judged(self) -> str:
        """How the limit is judged where no edge lies at it; empty where one does."""
        name, limit = self.signal.upper(), _seconds(self.limit_s)
        if self.exact:
            return ""
        if self.low_s is None:
            first = _seconds(self.high_s)
            return f"{name} can't be judged at {limit}: the first edge of its histogram is {first}"
        if math.isfinite(self.high_s):
            between = f"{_seconds(self.low_s)} and {_seconds(self.high_s)}"
            return f"{name} at {limit} is interpolated between {between}, the edges of its histogram"
        return f"{name} is judged at {_seconds(self.low_s)}, the last edge of its histogram, not at {limit}"

    @property
    def advice(self) -> str:
        """Which edge to add; empty where one lies at the limit."""
        return "" if self.exact else f"add an edge at {_seconds(self.limit_s)}"

    @property
    def sentence(self) -> str:
        """How the limit is judged, and which edge to add; empty where one lies at the limit."""
        return "" if self.exact else f"{self.judged}; {self.advice}"


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1.0 else f"{value * 1000.0:g} ms"

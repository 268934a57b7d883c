"""Quantiles of a latency that an autoscaler asks for: their names, and when they follow the load.

A quantile over a range is a signal of its own, such as ``ttft_p95_300s``: its recorded values are the query's
own answers, and at other counts it follows the load of the pool that the latency answers to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNKNOWN = float("inf")
"""Reading of a quantile whose value the replay does not know: Prometheus has one, so that nothing is missing
to an autoscaler, and a count holds on it."""

_NAME = re.compile(r"(?P<latency>.+)_p(?P<percent>\d+(?:\.\d+)?)_(?P<range>\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Quantile:
    """A quantile of a latency: its signal, the share at or below it [ratio], the range of its query [s]."""

    latency: str
    share: float
    range_s: float

    @property
    def name(self) -> str:
        """Name as a signal, such as ``ttft_p95_300s``."""
        return f"{self.latency}_p{100.0 * self.share:.10g}_{self.range_s:.10g}s"


def quantile_of(signal: str) -> Quantile | None:
    """Return the quantile that a signal's name says; None for other signals."""
    found = _NAME.fullmatch(signal)
    return (
        Quantile(found["latency"], float(found["percent"]) / 100.0, float(found["range"])) if found else None
    )

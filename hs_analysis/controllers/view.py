"""What a controller of one pool may see, what it answers, and how a parameter says where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUNDING = 1e-9
"""Relative slack before a count is rounded up [ratio]: 3 × target ÷ target must stay 3 in floating point."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at the start of a row, from completed rows only.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    t_s, window_s
        Time of the decision [Unix s] and time to the next one [s].
    desired
        Instances asked for now.
    ready
        Instances able to serve now.
    readings
        Per signal, one value a row [unit of the signal], NaN where nothing was scraped; only the first
        ``rows`` entries have happened.
    rows
        Completed rows.
    """

    role: str
    t_s: float
    window_s: float
    desired: int
    ready: float
    readings: Mapping[str, Sequence[float]]
    rows: int

    def last(self, signal: str) -> float | None:
        """Return the value of the last completed row; None when it brought none."""
        values = self.readings.get(signal)
        if values is None or self.rows == 0 or math.isnan(values[self.rows - 1]):
            return None
        return values[self.rows - 1]

    def mean(self, signal: str, seconds: float) -> float | None:
        """Return the mean of the known values of the last ``seconds``; None when there is none.

        As a range query answers: a gap shorter than the range is bridged, a longer one is not.
        """
        values = self.readings.get(signal)
        if values is None:
            return None
        reach = max(1, round(seconds / self.window_s))
        known = [v for v in values[max(0, self.rows - reach) : self.rows] if not math.isnan(v)]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Reply:
    """The count a controller asks for, what it wants to remember, and why."""

    count: int
    memory: Any
    reason: str = ""


def documented(unit: str, source: str) -> dict[str, str]:
    """Return the metadata of a parameter's field: its unit and where its default is documented."""
    return {"unit": unit, "source": source}


def round_up(instances: float) -> int:
    """Return the least whole number that is enough; float noise adds none."""
    return math.ceil(instances * (1 - ROUNDING))

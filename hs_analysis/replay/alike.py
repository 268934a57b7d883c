"""Which pools of a simulation stand as they were recorded: as many ready, and no other queue."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hs_analysis.replay.demand import Demand
from hs_analysis.replay.signals import waited

SAME = 1e-9
"""Part of a row's sum or mean by which its steps differ from it in floating point [ratio]."""


class Rows(Protocol):
    """Rows of a simulation so far, per pool."""

    ready: dict[str, list[float]]
    wait: dict[str, list[float]]


class Alike:
    """Follows row by row which pools are in the state that was recorded (``same``).

    Work and counts that are the same leave the same queues: such a pool reads what was recorded, latencies
    and waits included. A pool is in that state from the first row on, loses it in a row with another count,
    and gets it back after a row in which nothing waited, here or there (``calm``). A decode pool also needs
    its work as it came then: from a prefill pool that is in its recorded state or calm. A gap ends both, and
    so does a row whose demand is altered.
    """

    def __init__(self, demand: Demand) -> None:
        altered = np.zeros(demand.rows, bool) if demand.altered is None else demand.altered
        self.counts = {
            role: np.where(altered, np.nan, demand.column("instances", role)).tolist()
            for role in demand.offered
        }
        self.waited = {role: waited(demand, role).tolist() for role in demand.offered}
        self.same = dict.fromkeys(demand.offered, True)
        self.calm = dict.fromkeys(demand.offered, True)

    def see(self, row: int, log: Rows) -> None:
        """Take in the completed row."""
        for role, counts in self.counts.items():
            ready = log.ready[role][row]
            ran = ready > 0 and abs(ready - counts[row]) <= SAME * ready
            self.same[role] = ran and (self.same[role] or self.calm[role])
            self.calm[role] = log.wait[role][row] == 0 and not self.waited[role][row]
        if "decode" in self.same and "prefill" in self.same:
            self.same["decode"] = self.same["decode"] and self.undisturbed("prefill")

    def take(self, other: Alike) -> None:
        """Take over the state that another replay of the same rows has come to."""
        self.same, self.calm = dict(other.same), dict(other.calm)

    def undisturbed(self, role: str) -> bool:
        """Say whether what a pool hands on came as it was recorded."""
        return self.same[role] or self.calm[role]

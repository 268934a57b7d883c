"""What goes wrong while pools are steered: nine faults and the burst, as data, and when to try them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.workloads import GRID_S, Arrivals

Floats = NDArray[np.float64]

HOUR_S = 3600.0
SPACING = 3.0
"""Lengths of a fault from its start to that of the next one, at least: it is judged over three."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, from a moment on and for a length of time.

    Attributes
    ----------
    name, what
        Its name, and what happens in words.
    length_s
        How long it lasts [s].
    scraped
        Whether targets are scraped meanwhile.
    frozen
        Whether queries repeat what they answered before it.
    late_s
        How old the moment is that queries answer of [s].
    resets_s
        How often counters begin anew [s]; the scrape in which they do is lost. 0 = never.
    starts
        Whether what is asked for meanwhile starts at once; else its start-up time begins at the end.
    stock
        Whether instances can be had; else what is asked for waits, unpaid, until the end.
    lost
        Share of each pool's ready instances that end at its start, at least one [ratio]; what they decode is
        lost, what they have not yet prefilled goes back to the line, and the same number is started anew.
    removed
        Share of the prefill pool that somebody removes at its start, at least one stays [ratio].
    rises_s, more
        How much more traffic there is [ratio], and the time over which it comes [s].
    """

    name: str
    what: str
    length_s: float = HOUR_S
    scraped: bool = True
    frozen: bool = False
    late_s: float = 0.0
    resets_s: float = 0.0
    starts: bool = True
    stock: bool = True
    lost: float = 0.0
    removed: float = 0.0
    rises_s: float = 0.0
    more: float = 0.0


FAULTS: tuple[Fault, ...] = (
    Fault("metric_gap", "nothing is scraped for an hour", scraped=False),
    Fault("stale_metric", "for an hour queries repeat their last answer", frozen=True),
    Fault("stuck_start_up", "what is asked for in the hour starts only after it", starts=False),
    Fault("no_stock", "no instance can be added for an hour", stock=False),
    Fault("lost_group", "a quarter of every pool ends at once and is started anew", lost=0.25),
    Fault("wrong_ratio", "someone removes half of the prefill pool", removed=0.5),
    Fault("doubled_traffic", "twice the requests for an hour", more=1.0),
    Fault("clock_skew", "for an hour what is read is ten minutes old", late_s=600.0),
    Fault("counter_reset", "counters begin anew every ten minutes of the hour", resets_s=600.0),
)

BURST_HOLDS_S = 600.0
"""How long a burst holds what it has risen to [s]."""

BURST = "burst"


def burst(startup_s: float) -> Fault:
    """Return load that doubles within the start-up time, holds for ten minutes and goes."""
    return Fault(
        BURST, "load doubles within the start-up time, holds ten minutes and goes", startup_s + BURST_HOLDS_S,
        rises_s=startup_s, more=1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Spell:
    """A fault from a moment on [s since the start, a whole look]."""

    fault: Fault
    from_s: float

    @property
    def to_s(self) -> float:
        """Its end."""
        return self.from_s + self.fault.length_s

    def __contains__(self, moment_s: float) -> bool:
        """Whether a moment lies in it."""
        return self.from_s <= moment_s < self.to_s

    @property
    def judged(self) -> tuple[float, float]:
        """What it is judged over: until two of its lengths after its end [s]."""
        return self.from_s, self.from_s + SPACING * self.fault.length_s


def steep_spells(fault: Fault, rate: Floats, most: int, look_s: float = 60.0) -> tuple[Spell, ...]:
    """Return a fault in the hours in which load climbs most, at most so many, none within another's.

    Parameters
    ----------
    fault
        What goes wrong.
    rate
        True request rate on the grid of `GRID_S`.
    most
        How many.
    look_s
        What the starts are whole multiples of.
    """
    total = np.r_[0.0, np.cumsum(rate)]
    steps = round(HOUR_S / GRID_S)
    starts = np.arange(steps, rate.size - round(SPACING * fault.length_s / GRID_S), steps // 6)
    climbs = (total[starts + steps] - total[starts]) / (total[starts] - total[starts - steps])
    chosen: list[float] = []
    for start in starts[np.argsort(-climbs, kind="stable")] * GRID_S:
        moment = float(start // look_s * look_s)
        if len(chosen) < most and all(abs(moment - one) >= SPACING * fault.length_s for one in chosen):
            chosen.append(moment)
    return tuple(Spell(fault, moment) for moment in sorted(chosen))


def even_spells(
    fault: Fault, hours: float, count: int, rng: np.random.Generator, look_s: float = 60.0
) -> tuple[Spell, ...]:
    """Return a fault at random in each of equal parts of the hours but the first."""
    part = (hours * HOUR_S - HOUR_S) / count
    room = part - SPACING * fault.length_s
    if room < 0.0:
        raise ValueError(f"{count} times {fault.name} do not fit into {hours:g} h")
    moments = HOUR_S + part * np.arange(count) + rng.uniform(0.0, room, count)
    return tuple(Spell(fault, float(moment // look_s * look_s)) for moment in moments)


def crowded(requests: Arrivals, spells: Sequence[Spell], rng: np.random.Generator) -> Arrivals:
    """Return the requests with those that spells bring on top: like ones of the same minute."""
    chance = np.zeros(len(requests))
    for spell in spells:
        since = requests.time_s - spell.from_s
        risen = np.clip(since / spell.fault.rises_s, 0.0, 1.0) if spell.fault.rises_s else 1.0
        inside = (since >= 0.0) & (since < spell.fault.length_s)
        chance = np.where(inside, spell.fault.more * risen, chance)
    again = np.flatnonzero(rng.random(len(requests)) < chance)
    if not again.size:
        return requests
    time_s = requests.time_s[again] + rng.uniform(-GRID_S, GRID_S, again.size)
    every = np.r_[requests.time_s, np.clip(time_s, 0.0, requests.time_s[-1])]
    order = np.argsort(every, kind="stable")
    columns = (np.r_[v, v[again]][order] for v in (requests.prompt, requests.cached, requests.output))
    return Arrivals(every[order], *columns)

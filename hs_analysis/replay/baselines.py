"""Replica counts that are fixed in advance: static peak, timetable, recorded counts, look-ahead.

The least instance-hours that keep the SLO when the future is known: what no policy can beat.

Minimise Σ instances subject to Σ chance of violating ≤ allowed · rows, by a Lagrange multiplier: each row
takes the count that minimises instances + price · chance, and the price is raised until the sum fits
(Everett 1963, generalised Lagrange multiplier method). The value at the best price bounds every schedule
from below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import DAY_HOURS, DAY_S, daily, planned_counts
from hs_analysis.replay.demand import DemandTrace, answering_load, demands, peak, rows_of
from hs_analysis.replay.fleet import FleetModel, PoolModel, fit_fleet, violation_probability
from hs_analysis.replay.score import needed
from hs_analysis.replay.simulate import Schedule, SimulationResult, combined_violation, simulate
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.clock import DAY_MINUTES, UTC_NAME, wall_clock_s
from hs_analysis.schema.constants import HOUR_S, SUSTAINED_S
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings


def static_peak(history: ServiceFrame, model: FleetModel) -> dict[str, int]:
    """Return constant counts for the peak of a window: see ``BASELINES``. At least 1."""
    parts = demands(history)
    counts = {}
    for role, pool in model.pools.items():
        seen = np.concatenate([part.counts(role) for part in parts])
        most = max(1, math.ceil(float(np.nanmax(seen)))) if not np.isnan(seen).all() else 1
        highest = peak(parts, role)
        if pool.target is None or math.isnan(highest):
            counts[role] = most
            continue
        by_target = max(1, math.ceil(highest / pool.target - 1e-9))
        counts[role] = min(by_target, most) if pool.status == "floor" else by_target
    return counts


def day_plan(
    history: ServiceFrame, model: FleetModel, zone: str = UTC_NAME
) -> tuple[PeriodicEntry, ...] | str:
    """Return the timetable that a window's needs by hour of the day make, or why there is none.

    Hours are those that the clock of ``zone`` shows.

    An hour needs what the highest 5-min load in it on any day does at the target, limited as in
    `static_peak`; the most recorded in it where no target is known.
    """
    if not set(model.pools) <= {"prefill", "decode"}:
        return "a timetable knows prefill and decode pools"
    needs, parts = {}, demands(history)
    for role, pool in model.pools.items():
        shown = [wall_clock_s(part.t_s, zone) for part in parts]
        hours = np.concatenate([t_s % DAY_S // HOUR_S for t_s in shown]).astype(int)
        # A 5-min mean that began in the hour before says what that hour needed.
        own = np.concatenate(
            [t % HOUR_S + p.window_s >= SUSTAINED_S for t, p in zip(shown, parts, strict=True)]
        )
        ran = np.concatenate([part.counts(role) for part in parts])
        counts = ran
        if pool.target is not None:
            counts = np.concatenate([needed(p.offered[role], p.window_s, pool.target) for p in parts])
            if pool.status == "floor":
                counts = np.minimum(counts, np.fmax.reduce(ran, initial=1.0))
        known = own & np.concatenate([part.scored for part in parts]) & ~np.isnan(counts)
        if np.unique(hours[known]).size < DAY_HOURS:
            return "the training window does not hold every hour of a day"
        needs[role] = [max(1, round(float(counts[known & (hours == h)].max()))) for h in range(DAY_HOURS)]
    entries = daily(needs, {role: pool.startup_s for role, pool in model.pools.items()})
    return tuple(replace(entry, zone=zone) for entry in entries)


def day_plan_of(
    history: ServiceFrame, derived: Derived, settings: Settings, zone: str
) -> tuple[PeriodicEntry, ...] | str:
    """Return the timetable of a service by the clock of a zone, or why there is none: see `day_plan`."""
    return day_plan(history, fit_fleet(history, derived, settings), zone)


def by_the_clock(entries: tuple[PeriodicEntry, ...], part: DemandTrace) -> Schedule:
    """Return the counts of a timetable of one zone whose entries hold over the whole of every day."""
    same = tuple(replace(entry, zone=UTC_NAME) for entry in entries)
    day = [planned_counts(same, 60.0 * minute) for minute in range(DAY_MINUTES)]
    minutes = (wall_clock_s(part.t_s, entries[0].zone) % DAY_S // 60).astype(int)
    counts = {role: np.array([planned[role] for planned in day], float)[minutes] for role in day[0]}
    return Schedule(counts, running=False)


def constant(counts: Mapping[str, int], part: DemandTrace) -> Schedule:
    """Return the same counts in every row."""
    return Schedule({role: np.full(part.rows, float(count)) for role, count in counts.items()})


def recorded(model: FleetModel, part: DemandTrace) -> Schedule:
    """Return the counts that ran."""
    return Schedule({role: part.counts(role) for role in model.pools})


def foreseen(model: FleetModel, part: DemandTrace) -> Schedule:
    """Return counts at the target that are ready when their load comes; recorded ones without a target."""
    counts: dict[str, Floats] = {}
    for role, pool in model.pools.items():
        if pool.target is None:
            counts[role] = part.counts(role)
            continue
        need = needed(part.offered[role], part.window_s, pool.target)
        counts[role] = asked_ahead(need, rows_of(pool.startup_s, part.window_s))
    return Schedule(counts, running=False)


def asked_ahead(ready: Floats, start_rows: int) -> Floats:
    """Return the counts to ask for so that ``ready`` ones can serve ``start_rows`` later.

    The highest count of this row and the next ``start_rows``: an instance is asked for that much ahead, and
    one that would be wanted again before a new one could start is kept. No cheaper counts have ``ready`` at
    all times. Shape (rows,); a gap (NaN) wants one instance.
    """
    ahead = start_rows + 1
    padded = np.concatenate([np.nan_to_num(ready, nan=1.0), np.ones(ahead - 1)])
    highest: Floats = np.lib.stride_tricks.sliding_window_view(padded, ahead).max(axis=1)
    return highest


HIGHEST_PRICE = 1e9
"""Instances that one violating window may cost at most; beyond it chances are as small as they get."""

HALVINGS = 30
"""Halvings of the price's interval."""

BUDGETS = (1.0, 0.7, 0.4, 0.2, 0.1, 0.0)
"""Shares of the allowance tried until the simulated schedule, whose queues carry over, keeps the SLO."""


@dataclass(frozen=True)
class OfflineOptimum:
    """Schedules per capture, their replays, and the bound.

    Attributes
    ----------
    schedules, results
        The cheapest schedule found that keeps the SLO in the replay (the safest, if none does).
    least_instance_hours
        No schedule keeps the expected share with fewer, start-up time and queues left out; None when a pool
        has no capacity.
    """

    schedules: tuple[Schedule, ...]
    results: tuple[SimulationResult, ...]
    least_instance_hours: float | None


@dataclass(frozen=True)
class _PoolChoice:
    """Rows of one pool: cost in instances and chance of violating per count, shape (counts, rows)."""

    counts: Floats
    chances: Floats

    def at(self, price: float) -> tuple[Floats, float]:
        """Return the counts that minimise instances + price · chance, and the sum of their chances."""
        best = np.argmin(self.counts[:, None] + price * self.chances, axis=0)
        return self.counts[best], float(self.chances[best, np.arange(best.size)].sum())


def offline_optimum(parts: Sequence[DemandTrace], model: FleetModel) -> OfflineOptimum:
    """Find the fewest instances that keep the expected share of violating windows within the SLO.

    Pools without a capacity follow what their load needs at the target. The allowance is shared by all
    pools and captures. Counts are searched up to the one at which the highest load is at half its capacity.
    """
    known = {role: pool for role, pool in model.pools.items() if pool.capacity is not None}
    base = [foreseen(model, part) for part in parts]
    rows = sum(int(part.scored.sum()) for part in parts)
    if not known or not rows:
        return OfflineOptimum(tuple(base), tuple(_replayed(base, parts, model)), None)
    choices = {
        (index, role): _choice_of(part, role, pool, model.allowed)
        for index, part in enumerate(parts)
        for role, pool in known.items()
    }
    least = None
    found: list[Schedule] = base
    results: list[SimulationResult] = []
    for budget in BUDGETS:
        price, bound = _price(tuple(choices.values()), budget * model.allowed * rows)
        if least is None and set(known) == set(model.pools):
            least = bound * parts[0].window_s / HOUR_S
        found = [
            _asked_for(part, index, base[index], choices, price, model) for index, part in enumerate(parts)
        ]
        results = _replayed(found, parts, model)
        if _share_over(results, tuple(known)) <= model.allowed:
            break
    return OfflineOptimum(tuple(found), tuple(results), least)


def _choice_of(part: DemandTrace, role: str, pool: PoolModel, allowed: float) -> _PoolChoice:
    load = answering_load(part.offered[role], part.window_s)[part.scored]
    highest = float(np.nanmax(load)) if load.size else 0.0
    most = max(1, math.ceil(2.0 * highest / (pool.capacity or math.inf)))
    counts = np.arange(1.0, most + 1.0)
    chances = np.empty((counts.size, load.size))
    for i, count in enumerate(counts):
        chances[i] = violation_probability(
            load / count, np.zeros(load.size), pool, allowed, np.full(load.size, count)
        )
    return _PoolChoice(counts, np.nan_to_num(chances, nan=0.0))


def _price(choices: Sequence[_PoolChoice], budget: float) -> tuple[float, float]:
    """Return the lowest price at which the chances fit the budget, and the best bound of Σ instances."""
    bound = -math.inf

    def fits(price: float) -> bool:
        nonlocal bound
        taken = [choice.at(price) for choice in choices]
        chance = sum(c for _, c in taken)
        bound = max(bound, sum(float(n.sum()) for n, _ in taken) + price * (chance - budget))
        return chance <= budget

    low, high = 0.0, 1.0
    while not fits(high) and high < HIGHEST_PRICE:
        low, high = high, 4.0 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high, bound


def _asked_for(
    part: DemandTrace,
    index: int,
    base: Schedule,
    choices: dict[tuple[int, str], _PoolChoice],
    price: float,
    model: FleetModel,
) -> Schedule:
    counts = dict(base.counts)
    for role, pool in model.pools.items():
        choice = choices.get((index, role))
        if choice is None:
            continue
        ready = np.full(part.rows, np.nan)
        ready[part.scored] = choice.at(price)[0]
        counts[role] = asked_ahead(ready, rows_of(pool.startup_s, part.window_s))
    return Schedule(counts, running=False)


def _replayed(
    schedules: Sequence[Schedule], parts: Sequence[DemandTrace], model: FleetModel
) -> list[SimulationResult]:
    return [simulate(schedule, part, model) for schedule, part in zip(schedules, parts, strict=True)]


def _share_over(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float:
    values = np.concatenate([combined_violation(result, roles)[result.scored] for result in results])
    return float(np.nanmean(values)) if values.size else 0.0

"""The least instance-hours that keep the SLO when the future is known: what no policy can beat.

Minimise Σ instances subject to Σ chance of violating ≤ allowed · rows, by a Lagrange multiplier: each row
takes the count that minimises instances + price · chance, and the price is raised until the sum fits
(Everett 1963, generalised Lagrange multiplier method). The value at the best price bounds every schedule
from below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.replay.demand import Demand, Floats, answering_load, rows_of
from hs_analysis.replay.fleet import FleetModel, PoolModel, violation_probability
from hs_analysis.replay.schedules import asked_ahead, foreseen
from hs_analysis.replay.simulate import Schedule, SimulationResult, combined_violation, simulate
from hs_analysis.schema.constants import HOUR_S

HIGHEST_PRICE = 1e9
"""Instances that one violating window may cost at most; beyond it chances are as small as they get."""

HALVINGS = 30
"""Halvings of the price's interval."""

BUDGETS = (1.0, 0.7, 0.4, 0.2, 0.1, 0.0)
"""Shares of the allowance tried until the simulated schedule, whose queues carry over, keeps the SLO."""


@dataclass(frozen=True)
class Hindsight:
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
class _Choice:
    """Rows of one pool: cost in instances and chance of violating per count, shape (counts, rows)."""

    counts: Floats
    chances: Floats

    def at(self, price: float) -> tuple[Floats, float]:
        """Return the counts that minimise instances + price · chance, and the sum of their chances."""
        best = np.argmin(self.counts[:, None] + price * self.chances, axis=0)
        return self.counts[best], float(self.chances[best, np.arange(best.size)].sum())


def hindsight(parts: Sequence[Demand], model: FleetModel) -> Hindsight:
    """Find the fewest instances that keep the expected share of violating windows within the SLO.

    Pools without a capacity follow what their load needs at the target. The allowance is shared by all
    pools and captures. Counts are searched up to the one at which the highest load is at half its capacity.
    """
    known = {role: pool for role, pool in model.pools.items() if pool.capacity is not None}
    base = [foreseen(model, part) for part in parts]
    rows = sum(int(part.scored.sum()) for part in parts)
    if not known or not rows:
        return Hindsight(tuple(base), tuple(_run(base, parts, model)), None)
    choices = {
        (index, role): _choice(part, role, pool, model.allowed)
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
            _schedule(part, index, base[index], choices, price, model) for index, part in enumerate(parts)
        ]
        results = _run(found, parts, model)
        if _share(results, tuple(known)) <= model.allowed:
            break
    return Hindsight(tuple(found), tuple(results), least)


def _choice(part: Demand, role: str, pool: PoolModel, allowed: float) -> _Choice:
    load = answering_load(part.offered[role], part.window_s)[part.scored]
    highest = float(np.nanmax(load)) if load.size else 0.0
    most = max(1, math.ceil(2.0 * highest / (pool.capacity or math.inf)))
    counts = np.arange(1.0, most + 1.0)
    chances = np.empty((counts.size, load.size))
    for i, count in enumerate(counts):
        chances[i] = violation_probability(
            load / count, np.zeros(load.size), pool, allowed, np.full(load.size, count)
        )
    return _Choice(counts, np.nan_to_num(chances, nan=0.0))


def _price(choices: Sequence[_Choice], budget: float) -> tuple[float, float]:
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


def _schedule(
    part: Demand,
    index: int,
    base: Schedule,
    choices: dict[tuple[int, str], _Choice],
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
        counts[role] = asked_ahead(ready, rows_of(pool.start_up_s, part.window_s))
    return Schedule(counts, running=False)


def _run(schedules: Sequence[Schedule], parts: Sequence[Demand], model: FleetModel) -> list[SimulationResult]:
    return [simulate(schedule, part, model) for schedule, part in zip(schedules, parts, strict=True)]


def _share(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float:
    values = np.concatenate([combined_violation(result, roles)[result.scored] for result in results])
    return float(np.nanmean(values)) if values.size else 0.0

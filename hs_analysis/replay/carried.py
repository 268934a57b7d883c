"""What recorded latencies say of the loads that a policy leads to, where no capacity is known.

A floor is no capacity: every load up to it was carried inside the SLO, so nothing up to it may be told as
broken, and of what lies above nobody knows. The share of windows over the limit at a load is that of the
windows recorded near it, never falling with load (pool adjacent violators, Barlow et al. 1972); above the
highest load that was carried it is not known. A range of a policy's share holds both ends: none of those
windows breaks the SLO, or all do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.replay.constants import BLOCK_HOURS, CALM_REACH
from hs_analysis.replay.demand import DemandTrace, answering_load, demands
from hs_analysis.replay.fleet import FleetModel, PoolModel, fit_fleet, violation_probability
from hs_analysis.replay.simulate import SimulationResult, any_of
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import BACKLOG_S, GROUP_MIN, HOUR_S
from hs_analysis.schema.results import Derived, Interval
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.between_edges import broken
from hs_analysis.statistics.isotonic import rising_shares
from hs_analysis.statistics.queueing import size_factor


@dataclass(frozen=True)
class CarriedLoads:
    """How often windows were over the limit at the loads that a pool carried.

    Attributes
    ----------
    loads
        Loads per instance of the recorded windows, ascending, as of a pool of the reference size
        [tokens/s], shape (windows,).
    shares
        Share of windows over the limit at each of them, never falling [ratio], shape (windows,).
    highest
        Highest load that ``GROUP_MIN`` windows reached [tokens/s].
    """

    loads: Floats
    shares: Floats
    highest: float

    def violation(self, load: Floats) -> Floats:
        """Return the share of windows over the limit at loads, shape of ``load``; NaN above the highest."""
        return np.where(load <= self.highest, np.interp(load, self.loads, self.shares), np.nan)


@dataclass(frozen=True)
class SeenLoads:
    """Windows of a pool that say something: when, at which load per instance, and whether over the limit.

    ``t_s`` are their starts [Unix s], ``load`` [tokens/s] as of a pool of the reference size, ``over`` 0, 1,
    or between where one bucket about the limit holds all samples; shape (windows,) each.
    """

    t_s: Floats
    load: Floats
    over: Floats

    def part(self, rows: Mask) -> SeenLoads:
        """Return some of the windows."""
        return SeenLoads(self.t_s[rows], self.load[rows], self.over[rows])

    def carried(self) -> CarriedLoads | None:
        """Return what they say; None with fewer than ``GROUP_MIN``."""
        if self.load.size < GROUP_MIN:
            return None
        loads, shares = rising_shares(self.load, self.over)
        return CarriedLoads(loads, shares, float(loads[-GROUP_MIN]))


def seen_loads(frame: ServiceFrame, pool: PoolModel, slo: Slo) -> SeenLoads:
    """Return the recorded windows of a pool that show its load and the latencies it answers for.

    A window is over where any latency is. Windows in which demand is hidden are left out.
    """
    parts = [_seen(part, pool, slo) for part in demands(frame, frame.pools)]
    joined = [np.concatenate([one[at] for one in parts]) if parts else np.empty(0) for at in range(3)]
    known = np.isfinite(joined[1]) & ~np.isnan(joined[2])
    return SeenLoads(*(column[known] for column in joined))


def _seen(part: DemandTrace, pool: PoolModel, slo: Slo) -> tuple[Floats, Floats, Floats]:
    count = part.column("instances", pool.role)
    with np.errstate(invalid="ignore", divide="ignore"):
        load = part.offered[pool.role] / count
    load = answering_load(np.where(part.scored, load, np.nan), part.window_s)
    return part.t_s, load / size_factor(count, pool.reference), _over_any(part, pool, slo)


def _over_any(part: DemandTrace, pool: PoolModel, slo: Slo) -> Floats:
    """Return 0, 1 or between per row: over any limit a pool answers for; NaN where nothing was seen."""
    over = np.zeros(part.rows)
    for latency in pool.judged:
        sure, possible = over_limit(part, latency, slo)
        over = np.maximum(over, (sure + possible) / 2.0)
    return over


def over_limit(part: DemandTrace, latency: str, slo: Slo) -> tuple[Floats, Floats]:
    """Return 0/1 per row: surely violating, and not surely meeting the limit; NaN where nothing was seen."""
    nothing = np.full(part.rows, np.nan)

    def share(ending: str) -> Floats | None:
        return next(
            (values for key, values in part.recorded.items() if key[0] == f"{latency}_{ending}"), None
        )

    over, least = share("over"), share("over_least")
    most = over if over is not None else nothing
    least = least if least is not None else most
    sure, possible = (
        np.where(np.isnan(most), np.nan, broken(shares, slo.quantile)) for shares in (least, most)
    )
    return sure, possible


@dataclass(frozen=True)
class Laws:
    """How often windows break the SLO in each pool, as one history tells.

    Attributes
    ----------
    pools
        As fitted on that history.
    seen
        Of pools whose capacity is a floor and whose latency has a limit: what was recorded.
    carried
        What that says of loads; it speaks in place of the pool's capacity.
    reach
        Up to how many times the highest of those loads a pool may be trusted [ratio].
    allowed
        Share of windows allowed at capacity [ratio].
    """

    pools: Mapping[str, PoolModel]
    seen: Mapping[str, SeenLoads]
    carried: Mapping[str, CarriedLoads]
    reach: Mapping[str, float]
    allowed: float

    def far_above(self, results: Sequence[SimulationResult]) -> float | None:
        """Return the share of scored windows in which a pool carries more than it may be trusted with.

        None where every pool has a capacity, and without scored windows.
        """
        scored = sum(int(one.scored.sum()) for one in results)
        if not self.carried or not scored:
            return None
        total = 0
        for one in results:
            above = np.zeros(one.demand.rows, bool)
            for role, carried in self.carried.items():
                load = one.load[role] / size_factor(one.ready[role], self.pools[role].reference)
                above |= load > self.reach[role] * carried.highest
            total += int(above[one.scored].sum())
        return total / scored

    def judge(self, result: SimulationResult) -> SimulationResult:
        """Return a simulated control with windows over the limit as these laws have them."""
        return replace(
            result, violation={role: self._of(result, role, self.carried.get(role)) for role in result.ready}
        )

    def judge_by_blocks(self, result: SimulationResult) -> SimulationResult:
        """Return the same where each block of the time is judged by what the rest of it carried."""
        t_s, judged = result.demand.t_s, self.judge(result)
        for role, seen in self.seen.items():
            chances = judged.violation[role].copy()
            for block, rest in zip(blocks(t_s, t_s), blocks(seen.t_s, t_s), strict=True):
                chances[block] = self._of(result, role, seen.part(~rest).carried())[block]
            judged.violation[role] = chances
        return judged

    def _of(self, result: SimulationResult, role: str, carried: CarriedLoads | None) -> Floats:
        """Return the share of windows over the limit per row, shape (rows,); NaN where it is not known."""
        pool, load, waited, ready = (
            self.pools[role], result.load[role], result.waited[role], result.ready[role],
        )  # fmt: skip
        if role not in self.seen:
            return violation_probability(load, waited, pool, self.allowed, ready)
        shares = np.full(load.size, np.nan)
        if carried is not None:
            shares = carried.violation(load / size_factor(ready, pool.reference))
        # A queue at a ceiling that only a floor gives may not be there at all.
        return np.where(np.isinf(load), 1.0, np.where(waited > BACKLOG_S, np.nan, shares))


def blocks(t_s: Floats, day_s: Floats) -> list[Mask]:
    """Return which of some moments lie in each block that the time of others is cut into."""
    first, span_s = float(day_s.min()), float(np.ptp(day_s))
    length_s = BLOCK_HOURS * HOUR_S
    number = np.floor((t_s - first) / length_s)
    return [number == block for block in range(int(span_s // length_s) + 1)]


def laws_of(history: ServiceFrame, derived: Derived, settings: Settings) -> Laws:
    """Return how often windows break the SLO, as a history and its derived numbers tell."""
    model = fit_fleet(history, derived, settings)
    floors = {role: pool for role, pool in model.pools.items() if pool.status == "floor" and pool.judged}
    seen = {role: seen_loads(history, pool, settings.slo) for role, pool in floors.items()}
    carried = {role: found for role, one in seen.items() if (found := one.carried()) is not None}
    calm = {role: (one := derived.capacity_of(role)) is not None and one.calm is True for role in carried}
    reach = {role: CALM_REACH if calm[role] else 1.0 for role in carried}
    return Laws(model.pools, seen, carried, reach, model.allowed)


def judged_by(model: FleetModel, laws: Laws) -> FleetModel:
    """Return a fleet whose pools break the SLO by laws, and are steered as before.

    A pool of which they give no capacity keeps its own.
    """
    pools = {
        role: pool
        if laws.pools[role].capacity is None
        else replace(laws.pools[role], target=pool.target, max_throughput=pool.max_throughput)
        for role, pool in model.pools.items()
    }
    return replace(model, pools=pools)


def as_seen(ran: SimulationResult, pools: Mapping[str, PoolModel], slo: Slo) -> SimulationResult:
    """Return the counts that ran, with what was recorded in the windows of which the laws say nothing.

    At the highest loads laws are silent, because too few windows were there; those very windows were seen.
    """
    violation = {
        role: np.where(np.isnan(chances), _over_any(ran.demand, pools[role], slo), chances)
        if pools[role].judged
        else chances
        for role, chances in ran.violation.items()
    }
    return replace(ran, violation=violation)


def settled(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> list[SimulationResult]:
    """Return replays in which what is not known violates, where that moves the share by at most a point."""
    bounds = violation_bounds(results, roles)
    if bounds is None or bounds[1] - bounds[0] > SAME_SHARE_POINTS:
        return list(results)
    return [
        replace(
            one,
            violation=one.violation | {role: np.nan_to_num(one.violation[role], nan=1.0) for role in roles},
        )
        for one in results
    ]


def violation_bounds(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> Interval | None:
    """Return the share of scored windows that violate if none of those not known does, and if all do.

    None without roles or scored windows.
    """
    ends = []
    for unknown in (0.0, 1.0):
        chances = [
            any_of(
                {role: np.nan_to_num(one.violation[role], nan=unknown) for role in roles},
                roles,
                one.demand.rows,
            )[one.scored]
            for one in results
        ]
        ends.append(np.concatenate(chances) if chances else np.empty(0))
    low, high = (float(one.mean()) if roles and one.size else None for one in ends)
    return None if low is None or high is None else (low, high)

"""Many policies on one window at once: the fluid of ``simulate`` on arrays, with the figures selection needs.

Policies that differ in numbers only run side by side, time outside, so that thousands of parameter settings
cost about as much as a few. Decisions, counts and figures equal those of ``simulate`` and ``score``; a test
holds them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.policy.model import Policy
from hs_analysis.replay.batch_rule import Controllers, Family, family
from hs_analysis.replay.control import PolicyAtWork
from hs_analysis.replay.demand import LOAD_WINDOW_S, Demand, Floats, Key, rows_of
from hs_analysis.replay.fleet import FleetModel, PoolModel, violation_probability
from hs_analysis.replay.score import DAY_S, HOUR_S, judged_roles
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.simulate import STEP_S

CHUNK = 2048
"""Policies run side by side; more gain nothing and cost memory."""


@dataclass(frozen=True)
class BatchScore:
    """Figures of policies on one window, shape (policies,) each; NaN where a figure can't be had.

    As in ``score``: hours from the moment instances are asked for, expected share of windows over capacity
    (``strain_ratio``) and of those over a limit with an SLO (``slo_violation_ratio``), actions a day,
    tokens unserved.
    """

    instance_hours: Floats
    gpu_hours: Floats
    strain_ratio: Floats
    slo_violation_ratio: Floats
    actions_per_day: Floats
    unserved_tokens: Floats


def score_batch(policies: Sequence[Policy], parts: Sequence[Demand], model: FleetModel) -> BatchScore:
    """Simulate policies that differ in numbers only, and sum their figures up over all captures.

    Raises
    ------
    UsageError
        When they differ in more than numbers.
    """
    chunks = [policies[i : i + CHUNK] for i in range(0, len(policies), CHUNK)]
    found = [_score_chunk(chunk, parts, model) for chunk in chunks]
    return BatchScore(*(np.concatenate([getattr(one, name) for one in found]) for name in _FIGURES))


_FIGURES = tuple(BatchScore.__dataclass_fields__)


def _score_chunk(policies: Sequence[Policy], parts: Sequence[Demand], model: FleetModel) -> BatchScore:
    sums = _Sums(len(policies), model)
    fam = family(policies, tuple(model.pools))
    for part in parts:
        run_batch(fam, part, model, sums)
    return sums.figures()


@dataclass
class _Sums:
    """Sums over captures, shape (policies,)."""

    policies: int
    model: FleetModel
    scored_s: float = 0.0
    hours: dict[str, Floats] = field(default_factory=dict)
    actions: Floats = field(init=False)
    unserved: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.actions, self.unserved = np.zeros(self.policies), np.zeros(self.policies)
        self.hours = {role: np.zeros(self.policies) for role in self.model.pools}
        self.known = tuple(role for role, pool in self.model.pools.items() if pool.capacity is not None)
        self.judged = judged_roles(self.model)
        self.totals = {
            name: [np.zeros(self.policies), np.zeros(self.policies)] for name in ("known", "judged")
        }

    def add_chances(self, chances: Mapping[str, Floats]) -> None:
        """Add the combined chance of violating in one scored row."""
        for name, roles in (("known", self.known), ("judged", self.judged)):
            if not roles:
                continue
            kept = np.ones(self.policies)
            for role in roles:
                kept = kept * (1.0 - chances[role])
            known = ~np.isnan(kept)
            self.totals[name][0] += np.where(known, 1.0 - kept, 0.0)
            self.totals[name][1] += known

    def figures(self) -> BatchScore:
        """Return the figures; NaN without scored rows."""
        nothing = np.full(self.policies, np.nan)
        if self.scored_s == 0:
            return BatchScore(*(nothing,) * len(_FIGURES))
        gpus = self.model.gpus_per_instance
        priced = set(self.hours) <= set(gpus)
        with np.errstate(invalid="ignore", divide="ignore"):
            strain, violation = (total / count for total, count in self.totals.values())
        return BatchScore(
            sum(self.hours.values(), np.zeros(self.policies)),
            sum((h * gpus[role] for role, h in self.hours.items()), np.zeros(self.policies))
            if priced
            else nothing,
            strain if self.known else nothing,
            violation if self.judged else nothing,
            self.actions / (self.scored_s / DAY_S),
            self.unserved,
        )


class _Pools:
    """State of one pool under every policy, shape (policies,); see ``fleet.Pool``."""

    def __init__(self, model: PoolModel, count: float, policies: int) -> None:
        self.model = model
        self.desired, self.ready = np.full(policies, count), np.full(policies, count)
        self.starting: deque[tuple[float, Floats]] = deque()
        self.backlog = np.zeros(policies)
        self.queued = False

    def ask(self, count: Floats, t_s: float, restored: Floats) -> None:
        change = count - self.desired
        more = np.maximum(change, 0.0)
        back = np.minimum(restored, more)
        self.ready = self.ready + back
        anew = more - back
        left = np.maximum(-change, 0.0)
        if left.any():
            for place in range(len(self.starting) - 1, -1, -1):
                at, entry = self.starting[place]
                taken = np.minimum(entry, left)
                self.starting[place] = (at, entry - taken)
                left = left - taken
            self.ready = self.ready - left
        if anew.any():
            self.starting.append((t_s + self.model.start_up_s, anew))
        self.desired = count

    def advance(self, t_s: float) -> None:
        while self.starting and self.starting[0][0] <= t_s + 1e-9:
            self.ready = self.ready + self.starting.popleft()[1]

    def serve(self, arriving: Floats, seconds: float) -> tuple[Floats, Floats | float]:
        """Serve what fits; the share of waiting tokens served is 1 where all of them were."""
        waiting = self.backlog + arriving if self.queued else arriving
        if math.isinf(self.model.ceiling):
            served = np.where(self.ready > 0, waiting, 0.0)
        else:
            served = np.minimum(waiting, self.ready * self.model.ceiling * seconds)
        self.backlog = waiting - served
        self.queued = bool(self.backlog.any())
        if not self.queued:
            return served, 1.0
        return served, np.where(waiting > 0, served / waiting, 1.0)

    def age_s(self) -> Floats | float:
        """Return how long the queue takes to serve [s]; infinite when work waits and nothing is ready."""
        if not self.queued:
            return 0.0
        age = self.backlog / (self.ready * self.model.ceiling)
        return np.where(self.backlog <= 0, 0.0, np.where(np.isnan(age), np.inf, age))


@dataclass
class _Row:
    """What one row brought to one pool, shape (policies,): means, totals and the oldest queue."""

    arrived: Floats
    served: Floats
    ready: Floats
    age: Floats


def run_batch(fam: Family, demand: Demand, model: FleetModel, sums: _Sums | None = None) -> dict[str, Floats]:
    """Run a family on one capture; return the counts asked for, per pool, shape (rows, policies)."""
    runner = _Runner(fam, demand, model)
    asked: dict[str, list[Floats]] = {role: [] for role in model.pools}
    scored = demand.scored
    # Missing values are NaN on purpose, and nothing ready means an infinite load.
    with np.errstate(invalid="ignore", divide="ignore"):
        for row, t_s in enumerate(demand.t_s.tolist()):
            runner.run(row, t_s, sums if sums is not None and scored[row] else None)
            if sums is not None:
                runner.count_actions(sums, scored=bool(scored[row]))
                continue
            for role, pool in runner.pools.items():
                asked[role].append(pool.desired)
    if sums is not None:
        sums.scored_s += float(scored.sum()) * demand.window_s
        for pool in runner.pools.values():
            sums.unserved += pool.backlog
        return {}
    return {role: np.array(counts) for role, counts in asked.items()}


class _Runner:
    """A family at work on one capture."""

    def __init__(self, fam: Family, demand: Demand, model: FleetModel) -> None:
        # The scalar control finds columns, factors and guard curves; none of its state is used.
        scalar = PolicyAtWork(fam.template, demand, model, None)
        self.fam, self.demand, self.model = fam, demand, model
        self.readings, self.curves, self.averaged = scalar.readings, scalar.curves, scalar.averaged
        self.rows, self.load_rows = scalar.rows, rows_of(LOAD_WINDOW_S, demand.window_s)
        roles = tuple(model.pools)
        self.rule = Controllers(fam, roles, scalar.policy.guards)
        first = {role: demand.counts(role) for role in roles}
        self.pools = {
            role: _Pools(
                model.pools[role],
                max(1.0, float(np.round(c[0]))) if c.size and not math.isnan(c[0]) else 1.0,
                fam.policies,
            )
            for role, c in first.items()
        }
        p = fam.policies
        self.nothing = np.full(p, np.nan)
        self.waiting = np.zeros(p)
        self.scraped: dict[Key, deque[Floats]] = {key: deque(maxlen=self.rows) for key in self.readings.keys}
        self.was_ready: dict[str, deque[Floats]] = {role: deque(maxlen=self.rows) for role in self.averaged}
        self.loads: dict[str, deque[Floats]] = {role: deque(maxlen=self.load_rows) for role in roles}
        self.latencies: dict[Key, Floats] = dict.fromkeys(self.curves, self.nothing)
        self.before = {role: pool.desired for role, pool in self.pools.items()}
        self.started = False

    def run(self, row: int, t_s: float, sums: _Sums | None) -> None:
        """Decide, let the row pass, scrape, and sum up when the row is scored."""
        demand, draining = self.demand, dict.fromkeys(self.pools, np.zeros(self.fam.policies))
        rows: dict[str, _Row] = {}
        if not demand.gap[row]:
            self._act(t_s)
            draining = {role: memory.draining for role, memory in self.rule.memory.items()}
            rows = self._pass(row, t_s)
        self._record(row, rows)
        self._load(rows)
        if sums is not None:
            hours = demand.window_s / HOUR_S
            for role, pool in self.pools.items():
                sums.hours[role] += (pool.desired + draining[role]) * hours
            sums.add_chances(
                {
                    role: violation_probability(
                        _mean_of_known(self.loads[role]),
                        rows[role].age,
                        pool,
                        self.model.allowed,
                        rows[role].ready,
                    )
                    for role, pool in self.model.pools.items()
                }
            )

    def count_actions(self, sums: _Sums, *, scored: bool) -> None:
        """Count moments at which any count changed; the first row only sets what is compared with."""
        acted = np.zeros(self.fam.policies, bool)
        for role, pool in self.pools.items():
            if self.started:
                acted |= pool.desired != self.before[role]
            self.before[role] = pool.desired
        self.started = True
        if scored:
            sums.actions += acted

    def _act(self, t_s: float) -> None:
        values = {key: self._mean(self.scraped[key]) for key in self.readings.keys}
        reporting = {role: np.nan_to_num(self._mean(seen), nan=0.0) for role, seen in self.was_ready.items()}
        desired = {role: pool.desired for role, pool in self.pools.items()}
        for role, (count, restored) in self.rule.decide(
            t_s, values, desired, reporting, self.latencies
        ).items():
            self.pools[role].ask(count, t_s, restored)

    def _mean(self, seen: deque[Floats]) -> Floats:
        """Trailing mean over completed rows; NaN when the last one brought no value."""
        if not seen or seen[-1] is self.nothing:
            return self.nothing
        return np.where(np.isnan(seen[-1]), np.nan, _mean_of_known(seen))

    def _pass(self, row: int, t_s: float) -> dict[str, _Row]:
        """Let one row pass in steps, as ``simulate`` does."""
        window_s, p = self.demand.window_s, self.fam.policies
        steps = max(1, math.ceil(window_s / STEP_S - 1e-9))
        seconds = window_s / steps
        rows = {role: _Row(np.zeros(p), np.zeros(p), np.zeros(p), np.zeros(p)) for role in self.pools}
        for step in range(steps):
            handed: Floats | float = 1.0
            for role, pool in self.pools.items():
                pool.advance(t_s + step * seconds)
                arriving = np.full(p, self.demand.offered[role][row] * seconds)
                if role == "decode" and "prefill" in self.pools:
                    self.waiting = self.waiting + arriving
                    arriving = self.waiting * handed
                    self.waiting = self.waiting - arriving
                served, share = pool.serve(arriving, seconds)
                handed = share if role == "prefill" else handed
                total = rows[role]
                total.arrived += arriving
                total.served += served
                total.ready += pool.ready / steps
                total.age = np.maximum(total.age, pool.age_s())
        return rows

    def _record(self, row: int, rows: Mapping[str, _Row]) -> None:
        window_s = self.demand.window_s
        for key in self.readings.keys:
            self.scraped[key].append(self._reading(key, row, rows))
        for role, seen in self.was_ready.items():
            seen.append(rows[role].ready if rows else self.nothing)
        for key, curve in self.curves.items():
            if not rows:
                self.latencies[key] = self.nothing
                continue
            one = rows[key[1]]
            value = curve_at(curve, one.served / window_s / one.ready) + one.age
            self.latencies[key] = np.where(one.ready > 0, value, np.nan)

    def _reading(self, key: Key, row: int, rows: Mapping[str, _Row]) -> Floats:
        model, recorded = self.readings.models[key], self.readings.columns[key][row]
        if model is None or math.isnan(recorded) or not rows:
            return self.nothing
        if model.kind == "recorded":
            return np.full(self.fam.policies, recorded)
        one = rows[model.pool]
        served = one.served / self.demand.window_s
        if model.kind == "served":
            return served * self.readings.factors[key][row]
        value = curve_at(model, served / one.ready) * (one.ready if model.per_instance else 1.0)
        if model.kind == "queue" and model.tokens_per_request:
            value = value + self.pools[model.pool].backlog / model.tokens_per_request
        return np.where(one.ready > 0, value, np.nan)

    def _load(self, rows: Mapping[str, _Row]) -> None:
        """Remember the load per ready instance of the row; NaN in a gap."""
        for role, seen in self.loads.items():
            if not rows:
                seen.append(self.nothing)
                continue
            load = rows[role].arrived / self.demand.window_s / rows[role].ready
            seen.append(np.where(np.isnan(load), 0.0, load))


def _mean_of_known(seen: deque[Floats]) -> Floats:
    """Mean over rows of the values that are known, summed oldest first; NaN where none is."""
    total = sum(seen, np.zeros(seen[0].size))
    if not np.isnan(total).any():
        return total / len(seen)
    known = [~np.isnan(values) for values in seen]
    total = sum(
        (np.where(there, values, 0.0) for there, values in zip(known, seen, strict=True)),
        np.zeros(seen[0].size),
    )
    mean: Floats = total / sum((there.astype(float) for there in known), np.zeros(seen[0].size))
    return mean


def curve_at(model: SignalModel, load: Floats) -> Floats:
    """Return ``model.at`` of every load, by the same arithmetic. NaN stays NaN."""
    loads, values = np.array(model.loads), np.array(model.values)
    right = np.searchsorted(loads, load, side="right")
    inside = np.clip(right, 1, max(1, loads.size - 1))
    if loads.size < 2:
        return np.where(np.isnan(load), np.nan, values[0])
    x0, x1, y0, y1 = loads[inside - 1], loads[inside], values[inside - 1], values[inside]
    found = y0 + (y1 - y0) * (load - x0) / (x1 - x0)
    found = np.where(right == 0, values[0], np.where(right >= loads.size, values[-1], found))
    return np.where(np.isnan(load), np.nan, found)

"""Controls at work: a policy or an autoscaler that reads completed rows and asks the pools for counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hs_analysis.controllers.registry import Autoscaler, step
from hs_analysis.controllers.view import PoolView
from hs_analysis.policy.model import Policy
from hs_analysis.policy.rule import Observation, State, decide
from hs_analysis.replay.demand import Demand, Floats, Key, rows_of
from hs_analysis.replay.fleet import FleetModel, Pool
from hs_analysis.replay.readings import Alter, Readings, Rows, latency
from hs_analysis.replay.waiting import share_of_wait


@dataclass(frozen=True)
class Schedule:
    """Counts per row and pool that need no deciding.

    ``running`` says that they are what was able to serve, as recorded counts are; otherwise they are asked
    for at the start of the row and become ready a start-up time later.
    """

    counts: Mapping[str, Floats]
    running: bool = True


Control = Policy | Autoscaler | Schedule
"""Anything that a replay can run."""


@dataclass(frozen=True, slots=True)
class Act:
    """What was done at the start of a row: direction, reason, and instances under observation per pool."""

    direction: str = ""
    reason: str = ""
    draining: Mapping[str, int] | None = None


class PolicyAtWork:
    """The policy: keeps what has been scraped so far and asks the rule once a row.

    It takes over from what ran: the rows before the first one were seen, at the counts recorded there.
    """

    def __init__(self, policy: Policy, demand: Demand, model: FleetModel, alter: Alter | None) -> None:
        owners = {(g.signal, g.role): _guard_owner(g.signal, g.role, model) for g in policy.guards}
        self.curves = {key: model.signals[key[0], owner] for key, owner in owners.items() if owner}
        seen = tuple(g for g in policy.guards if (g.signal, g.role) in self.curves)
        self.policy = replace(policy, guards=seen)
        self.window_s, self.alter, self.waits = demand.window_s, alter, model.waits
        self.state = State()
        self.rows = rows_of(policy.averaging_s, demand.window_s)
        self.keys = [(p.signal, p.role) for p in policy.primaries]
        self.readings = Readings(self.keys, demand, model, alter)
        self.averaged = tuple(p.role for p in policy.primaries if p.pool == "mean")
        self.ran = {p.role: demand.past("instances", p.role).tolist() for p in policy.primaries}
        self.recorded: dict[Key, list[float]] = {
            key: demand.column(key[0], owners[key]).tolist() for key in self.curves
        }
        self.latencies: dict[Key, float | None] = {
            key: _last(demand.past(key[0], owners[key])) for key in self.curves
        }

    def act(self, row: int, t_s: float, pools: dict[str, Pool], log: Rows) -> Act:
        """Decide at the start of a row from completed rows, and ask the pools for the counts."""
        observation = Observation(
            t_s,
            {k: self._mean(self.readings.before[k], self.readings.scraped[k], row) for k in self.keys},
            {role: round(pool.desired) for role, pool in pools.items()},
            {role: self._mean(self.ran[role], log.ready[role], row) or 0.0 for role in self.averaged},
            self.latencies,
        )  # fmt: skip
        decision, self.state = decide(self.policy, observation, self.state)
        for change in decision.roles:
            if change.after != change.before:
                pools[change.role].ask(change.after, t_s, change.restored)
        draining = {role: memory.draining for role, memory in self.state.roles.items()}
        return Act(decision.direction, decision.reason, draining)

    def record(self, row: int, log: Rows) -> None:
        """Scrape the completed row: what each signal reads at the simulated counts, if it was there."""
        self.readings.record(row, log)
        for key, curve in self.curves.items():
            value = self._recorded(key, row)
            if value is None:
                value = latency(key[0], curve, key[1], row, self.window_s, log, self.waits)
            if self.alter is not None:
                altered = self.alter(key, row, math.nan if value is None else value, ())
                value = None if math.isnan(altered) else altered
            self.latencies[key] = value

    def take(self, other: PolicyAtWork, rows: int) -> None:
        """Take over what the same policy saw and did in the first ``rows``."""
        self.state, self.latencies = other.state, dict(other.latencies)
        self.readings.take(other.readings, rows)

    def _recorded(self, key: Key, row: int) -> float | None:
        """Return the recorded latency where all that it holds is as it was; else None."""
        name, own = key
        alike, value = self.readings.alike, self.recorded[key][row]
        others = (pool for pool in alike.same if pool != own and share_of_wait(self.waits, name, pool) > 0)
        if math.isnan(value) or not alike.same[own] or not all(map(alike.undisturbed, others)):
            return None
        return value

    def _mean(self, before: list[float], values: list[float], row: int) -> float | None:
        """Trailing mean of a signal over completed rows; None when the last row did not bring a value."""
        known = values[max(0, row - self.rows) : row]
        if row < self.rows and before:
            known = before[row - self.rows :] + known
        if not known or math.isnan(known[-1]):
            return None
        total = sum(known)
        if math.isnan(total):
            known = [value for value in known if not math.isnan(value)]
            total = sum(known)
        return total / len(known)


class AutoscalerAtWork:
    """An autoscaler: one rule a pool, each with its own memory, asked once a row."""

    def __init__(self, scaler: Autoscaler, demand: Demand, model: FleetModel, alter: Alter | None) -> None:
        self.scaler = scaler
        self.window_s = demand.window_s
        keys = {
            (signal, role): _key(signal, role) for role, p in scaler.pools.items() for signal in p.signals
        }
        self.readings = Readings(keys.values(), demand, model, alter, waits=True)
        self.by_role = {
            role: {signal: self.readings.scraped[keys[signal, role]] for signal in one.signals}
            for role, one in scaler.pools.items()
        }
        self.memory: dict[str, Any] = {}

    def act(self, row: int, t_s: float, pools: dict[str, Pool], log: Rows) -> Act:  # noqa: ARG002 - one protocol
        """Decide at the start of a row from completed rows, and ask the pools for the counts.

        Nothing is decided before the first row is complete: it would be read as a metric that is missing.
        """
        if row == 0:
            return Act()
        views = {
            role: PoolView(
                role,
                t_s,
                self.window_s,
                round(pools[role].desired),
                pools[role].ready,
                readings,
                row,
            )
            for role, readings in self.by_role.items()
            if role in pools
        }
        counts, self.memory, reason = step(self.scaler, views, self.memory)
        changes = {role: count - round(pools[role].desired) for role, count in counts.items()}
        for role, change in changes.items():
            if change:
                pools[role].ask(counts[role], t_s)
        direction = "out" if max(changes.values()) > 0 else "in" if min(changes.values()) < 0 else "hold"
        return Act(direction, reason)

    def record(self, row: int, log: Rows) -> None:
        """Scrape the completed row."""
        self.readings.record(row, log)

    def take(self, other: AutoscalerAtWork, rows: int) -> None:
        """Take over what the same autoscaler saw and remembers of the first ``rows``."""
        self.memory = dict(other.memory)
        self.readings.take(other.readings, rows)


class ScheduleAtWork:
    """Fixed counts; recorded ones run as they are, others are asked for."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.counts: dict[str, list[float]] = {
            role: np.asarray(counts, float).tolist() for role, counts in schedule.counts.items()
        }

    def act(self, row: int, t_s: float, pools: dict[str, Pool], log: Rows) -> Act:  # noqa: ARG002 - one protocol
        """Set or ask for the counts of the row."""
        change = 0.0
        for role, pool in pools.items():
            count = self.counts[role][row]
            if math.isnan(count) or count == pool.desired:
                continue
            if row:
                change = change if change > 0 else count - pool.desired
            if self.schedule.running or row == 0:
                pool.hold(count)
            else:
                pool.ask(count, t_s)
        return Act("out" if change > 0 else "in" if change < 0 else "")

    def record(self, row: int, log: Rows) -> None:
        """Read nothing."""

    def take(self, other: ScheduleAtWork, rows: int) -> None:
        """Take over nothing: counts need no memory."""


AtWork = PolicyAtWork | AutoscalerAtWork | ScheduleAtWork


def at_work(control: Control, demand: Demand, model: FleetModel, alter: Alter | None = None) -> AtWork:
    """Return a control ready to run on one capture."""
    if isinstance(control, Policy):
        return PolicyAtWork(control, demand, model, alter)
    if isinstance(control, Autoscaler):
        return AutoscalerAtWork(control, demand, model, alter)
    return ScheduleAtWork(control)


def _key(signal: str, role: str) -> Key:
    """Return the reading of a pool's signal; ``signal@role`` is that of another pool."""
    name, _, owner = signal.partition("@")
    return name, owner or role


def _guard_owner(signal: str, role: str, model: FleetModel) -> str:
    """Return whose curve stands for a guard: the pool's own, else the service's; empty without one."""
    found = {owner: model.signals.get((signal, owner)) for owner in (role, "service")}
    return next((owner for owner, one in found.items() if one is not None and one.kind == "curve"), "")


def _last(values: Floats) -> float | None:
    return float(values[-1]) if values.size and not math.isnan(values[-1]) else None

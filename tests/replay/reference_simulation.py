"""A replay of one schedule or autoscaler, one number at a time: slow, obvious, the measure of the lanes.

Times are seconds, not rows; nothing is shared between controls, nothing is an array. HPAs are asked by the
reference of the controllers. Signals are read as served work, curves, queues or as recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from controllers.reference import Controller, PoolView

from hs_analysis.controllers import Autoscaler
from hs_analysis.replay.demand import DemandTrace, Key
from hs_analysis.replay.fleet import FleetModel, PoolModel
from hs_analysis.replay.readings import uneven_parts
from hs_analysis.replay.signals import factors, kept_ratio, waited
from hs_analysis.replay.simulate import STEP_S, Schedule
from hs_analysis.statistics.queueing import size_factor, steepness_factor

SAME = 1e-9
FIELDS = ("desired", "ready", "paid", "arrived", "served", "queued", "age", "wait")


class ScalarPool:
    """One pool: launches with the time at which each becomes ready, instances without stock, a queue."""

    def __init__(self, model: PoolModel, count: float, step_s: float) -> None:
        self.model, self.desired, self.ready = model, count, count
        self.startup_s = math.ceil(model.startup_s / step_s - 1e-9) * step_s
        self.starting: list[tuple[float, float]] = []
        self.pending, self.backlog, self.stock, self.blocked = 0.0, 0.0, math.inf, False
        self.leaving: list[tuple[float, float]] = []

    def ask(self, count: float, t_s: float) -> None:
        """Add what is missing, or take what waits, then the latest that starts, then what is ready."""
        more, fewer = max(0.0, count - self.desired), max(0.0, self.desired - count)
        self.desired, self.pending = count, self.pending + more
        gone = min(fewer, self.pending)
        self.pending, fewer = self.pending - gone, fewer - gone
        while fewer > 0 and self.starting:
            at, last = self.starting.pop()
            if last > fewer:
                self.starting.append((at, last - fewer))
            fewer = max(0.0, fewer - last)
        self.ready -= fewer
        self.leaving.append((t_s + self.model.drain_s, fewer))
        self.launch(t_s)

    def paid(self, t_s: float, window_s: float) -> float:
        """Return what is paid for: what runs and starts, and the part of the row in which others leave."""
        parts = [count * min(max((until - t_s) / window_s, 0.0), 1.0) for until, count in self.leaving]
        return self.desired - self.pending + sum(parts)

    def lose(self, count: float, t_s: float) -> None:
        """Lose what runs; it is started anew."""
        lost = min(count, self.ready)
        self.ready, self.pending = self.ready - lost, self.pending + lost
        self.launch(t_s)

    def unblock(self, t_s: float) -> None:
        """Start anew what would never have become ready."""
        self.blocked = False
        self.pending += sum(count for at, count in self.starting if math.isinf(at))
        self.starting = [one for one in self.starting if math.isfinite(one[0])]
        self.launch(t_s)

    def launch(self, t_s: float) -> None:
        """Start what finds stock."""
        started = min(self.pending, max(0.0, self.stock - self.ready - sum(n for _, n in self.starting)))
        if started > 0:
            self.pending -= started
            self.starting.append((math.inf if self.blocked else t_s + self.startup_s, started))

    def advance(self, t_s: float) -> None:
        """Make ready what has started by now."""
        while self.starting and self.starting[0][0] <= t_s + 1e-6:
            self.ready += self.starting.pop(0)[1]

    def serve(self, arriving: float, seconds: float) -> tuple[float, float]:
        """Serve what fits; return the tokens, and their share of all that waited."""
        unlimited = math.isinf(self.model.max_throughput)
        room = (
            (math.inf if self.ready > 0 else 0.0)
            if unlimited
            else self.ready * self.model.max_throughput * seconds
        )
        waiting = self.backlog + arriving
        served = min(waiting, room)
        self.backlog = waiting - served
        return served, served / waiting if waiting > 0 else 1.0

    def age_s(self) -> float:
        """Return how long the queue takes to serve."""
        rate = self.ready * self.model.max_throughput
        return 0.0 if self.backlog <= 0 else self.backlog / rate if rate > 0 else math.inf


@dataclass
class Trouble:
    """What goes wrong: factor on the demand per row, what happens to pools, what is scraped instead."""

    factor: Callable[[int], float] = lambda _: 1.0
    strike: Callable[[int, float, dict[str, ScalarPool]], None] = lambda *_: None
    scraped: Callable[[Key, int, float, list[float]], float] = lambda _key, _row, true, _before: true


@dataclass
class Rows:
    """What passed, per field and pool, one number a row."""

    of: dict[str, dict[str, list[float]]]
    violation: dict[str, list[float]] = field(default_factory=dict)


class ScalarSimulation:
    """One control on one capture without history before it."""

    def __init__(
        self, control: Autoscaler | Schedule, demand: DemandTrace, model: FleetModel, trouble: Trouble
    ) -> None:
        self.control, self.demand, self.model, self.trouble = control, demand, model, trouble
        counts = {role: demand.column("instances", role) for role in model.pools}
        first = {role: 1.0 if np.isnan(n[0]) else max(1.0, round(float(n[0]))) for role, n in counts.items()}
        self.steps = max(1, math.ceil(demand.window_s / STEP_S - 1e-9))
        step_s = demand.window_s / self.steps
        self.pools = {role: ScalarPool(one, first[role], step_s) for role, one in model.pools.items()}
        self.rows = Rows({name: {role: [] for role in model.pools} for name in FIELDS})
        self.held_back = 0.0
        self.recorded = counts
        self.late = {role: waited(demand, role).tolist() for role in model.pools}
        self.same = dict.fromkeys(model.pools, True)
        self.calm = dict.fromkeys(model.pools, True)
        self.was_altered = False
        self.controllers: dict[str, Controller] = {}
        self.scraped: dict[Key, list[float]] = {}
        self.parts: dict[Key, list[list[float]]] = {}
        self.uneven = uneven_parts(demand.rows, self.steps, model.seed)
        if isinstance(control, Autoscaler):
            self.controllers = {role: Controller(one) for role, one in control.pools.items()}
            self.scraped = {(m.signal, role): [] for role, one in control.pools.items() for m in one.metrics}
            self.parts = {key: [] for key in self.scraped}
        read = {key: model.signals[key] for key in self.scraped}
        self.kept = {key: kept_ratio(one, key, demand).tolist() for key, one in read.items()}
        self.factors = {key: factors(one, key, demand).tolist() for key, one in read.items()}

    def run(self, last: int) -> Rows:
        """Let the rows before one pass."""
        for row in range(last):
            t_s, gap = float(self.demand.t_s[row]), bool(self.demand.gap[row])
            factor = self.trouble.factor(row)
            for pool in self.pools.values():
                pool.advance(t_s - 1e-3)  # what was due in a row before, a gap too
            self.trouble.strike(row, t_s, self.pools)
            if not gap:
                self._act(row, t_s)
                self._serve(row, t_s, factor)
            for role, pool in self.pools.items():
                for name in ("ready", "arrived", "served", "age", "wait") if gap else ():
                    self.rows.of[name][role].append(math.nan)
                self.rows.of["desired"][role].append(pool.desired)
                self.rows.of["paid"][role].append(pool.paid(t_s, self.demand.window_s))
                self.rows.of["queued"][role].append(pool.backlog)
            self._scrape(row, factor)
        self.rows.violation = {role: self._violations(role) for role in self.pools}
        return self.rows

    def _act(self, row: int, t_s: float) -> None:
        if isinstance(self.control, Schedule):
            for role, pool in self.pools.items():
                count = float(self.control.counts[role][row])
                if math.isnan(count) or count == pool.desired:
                    continue
                if self.control.running or row == 0:
                    pool.desired = pool.ready = count
                    pool.pending, pool.starting = 0.0, []
                else:
                    pool.ask(count, t_s)
            return
        if row == 0:
            return
        asked = {}
        for role, controller in self.controllers.items():
            pool = self.pools[role]
            read = {signal: values for (signal, owner), values in self.scraped.items() if owner == role}
            parts = {signal: values for (signal, owner), values in self.parts.items() if owner == role}
            window_s = self.demand.window_s
            asked[role] = controller.step(
                PoolView(role, t_s, window_s, round(pool.desired), pool.ready, read, row, parts)
            )
        for role, count in asked.items():
            if count != self.pools[role].desired:
                self.pools[role].ask(float(count), t_s)

    def _serve(self, row: int, t_s: float, factor: float) -> None:
        seconds = self.demand.window_s / self.steps
        for name in ("arrived", "served", "ready", "age", "wait"):
            for role in self.pools:
                self.rows.of[name][role].append(0.0)
        for step in range(self.steps):
            handed = 1.0
            for role, pool in self.pools.items():
                pool.advance(t_s + step * seconds)
                arriving = float(self.demand.offered[role][row]) * seconds * factor
                if role == "decode" and "prefill" in self.pools:
                    self.held_back += arriving
                    arriving = self.held_back * handed
                    self.held_back -= arriving
                served, share = pool.serve(arriving, seconds)
                handed = share if role == "prefill" else handed
                age_s = pool.age_s()
                self.rows.of["arrived"][role][row] += arriving
                self.rows.of["served"][role][row] += served
                self.rows.of["ready"][role][row] += pool.ready / self.steps
                self.rows.of["age"][role][row] = max(self.rows.of["age"][role][row], age_s)
                self.rows.of["wait"][role][row] += age_s / self.steps

    def _scrape(self, row: int, factor: float) -> None:
        altered, of = factor != 1.0, self.rows.of
        for role in self.pools:
            ready, ran = of["ready"][role][row], float(self.recorded[role][row])
            as_ran = ready > 0 and abs(ready - ran) <= SAME * ready and not altered
            self.same[role] = as_ran and (self.same[role] or self.calm[role])
            self.calm[role] = of["wait"][role][row] == 0 and not altered and not self.late[role][row]
        if {"prefill", "decode"} <= set(self.pools):
            self.same["decode"] = self.same["decode"] and (self.same["prefill"] or self.calm["prefill"])
        for (signal, role), values in self.scraped.items():
            true = self._reading(signal, role, row, factor)
            seen = self.trouble.scraped((signal, role), row, true, values)
            values.append(seen)
            noise = self.model.signals[signal, role].noise
            spread = math.sqrt(max(noise * seen, 0.0)) if seen == true and noise == noise else 0.0
            over = [0.0, *(spread * one for one in self.uneven[row].tolist()), 0.0]
            self.parts[signal, role].append([seen + self.steps * (b - a) for a, b in pairwise(over)])
        self.was_altered = altered

    def _reading(self, signal: str, role: str, row: int, factor: float) -> float:
        model = self.model.signals[signal, role]
        pool, recorded = model.pool, float(self.demand.column(signal, role)[row])
        if math.isnan(recorded) or model.kind == "recorded" or self.same[pool]:
            return recorded
        served, ready = self.rows.of["served"][pool][row], self.rows.of["ready"][pool][row]
        offered = float(self.demand.offered[pool][row]) * self.demand.window_s * factor
        kept = self.kept[signal, role][row]
        known = not (math.isnan(kept) or factor != 1.0 or self.was_altered)
        known = known and abs(served - offered) <= SAME * offered
        rate = served / self.demand.window_s
        if model.kind == "served":
            return rate * (kept if known else self.factors[signal, role][row])
        if not ready > 0:
            return math.nan
        value = model.at(rate / ready) * (ready if model.per_instance else 1.0)
        if model.kind == "queue" and model.tokens_per_request:
            value += self.rows.of["queued"][pool][row] / model.tokens_per_request
        return value * kept if known else value

    def _violations(self, role: str) -> list[float]:
        pool, of, found = self.model.pools[role], self.rows.of, []
        width_s = self.demand.window_s
        rows = {s: max(1, round(s / width_s)) for s in (60.0, 300.0)}
        loads = []
        for arrived, ready in zip(of["arrived"][role], of["ready"][role], strict=True):
            empty = 0.0 if arrived == 0 else math.inf
            loads.append(
                math.nan if math.isnan(arrived) else arrived / width_s / ready if ready > 0 else empty
            )
        before_first = self.model.waits.get("ttft", {}).get("decode", 0.0)
        for row, load in enumerate(loads):
            age_s = of["age"][role][row]
            if role == "prefill" and "decode" in self.pools and before_first:
                age_s += before_first * of["age"]["decode"][row]
            means = {}
            for seconds, count in rows.items():
                known = [x for x in loads[max(0, row + 1 - count) : row + 1] if not math.isnan(x)]
                means[seconds] = math.nan if math.isnan(load) else sum(known) / len(known)
            answered = means[60.0] if math.isinf(means[300.0]) else math.sqrt(means[60.0] * means[300.0])
            found.append(self._chance(answered, age_s, pool, of["ready"][role][row]))
        return found

    def _chance(self, load: float, age_s: float, pool: PoolModel, ready: float) -> float:
        if age_s > 1.0:
            return 1.0
        if pool.capacity is None or math.isnan(load):
            return math.nan
        size = float(size_factor(np.array([ready]), pool.reference)[0])
        slope = pool.slope * float(steepness_factor(np.array([ready]), pool.reference)[0])
        odds = math.log(self.model.allowed / (1 - self.model.allowed))
        if load in (0.0, math.inf):
            return float(load > 0)
        exponent = slope * math.log(load / (pool.capacity * size)) + odds
        return 1.0 / (1.0 + math.exp(min(700.0, -exponent)))


def simulate_slowly(
    control: Autoscaler | Schedule,
    demand: DemandTrace,
    model: FleetModel,
    trouble: Trouble | None = None,
    last: int | None = None,
) -> Rows:
    """Replay one control on one capture, up to a row."""
    return ScalarSimulation(control, demand, model, trouble or Trouble()).run(
        demand.rows if last is None else last
    )

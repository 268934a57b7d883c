"""Run a policy, or fixed counts, against recorded demand: one decision a row, and no look-ahead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.replay.control import Control, at_work
from hs_analysis.replay.demand import Demand, Floats, Mask, answering_load
from hs_analysis.replay.fleet import FleetModel, Pool, violation_probability
from hs_analysis.replay.trouble import NO_TROUBLE, Trouble
from hs_analysis.replay.waiting import share_of_wait
from hs_analysis.schema.frames import TIMELINE, check

STEP_S = 15.0
"""Longest step of the fluid [s]; default of this project."""


@dataclass(frozen=True)
class SimulationResult:
    """One capture replayed. Arrays have shape (rows,), the dicts one array per pool.

    Attributes
    ----------
    demand
        What was offered.
    desired, ready, paid
        Instances asked for, able to serve (mean of the row), and paid for: asked for plus under observation.
    arrived, served, queued
        Work that reached the pool and left it in the row, and its queue at the end of the row [tokens].
    violation
        Expected share of violating windows per pool; NaN where it can't be said.
    direction, reason
        What the controller did at the start of the row, and why; empty for a schedule without change.
    """

    demand: Demand
    desired: dict[str, Floats]
    ready: dict[str, Floats]
    paid: dict[str, Floats]
    arrived: dict[str, Floats]
    served: dict[str, Floats]
    queued: dict[str, Floats]
    violation: dict[str, Floats]
    direction: tuple[str, ...]
    reason: tuple[str, ...]

    @property
    def scored(self) -> Mask:
        """Rows that count."""
        return self.demand.scored


def simulate(
    control: Control, demand: Demand, model: FleetModel, trouble: Trouble = NO_TROUBLE
) -> SimulationResult:
    """Replay one capture.

    Parameters
    ----------
    control
        A policy or an autoscaler, started from the recorded counts of the first row; or a schedule.
    demand
        Offered work per row. In a gap the state is held: nothing arrives, is served, decided or scored.
    model
        Capacities, ceilings, start-up times and signal curves; learnt on other rows for an honest backtest.
    trouble
        What goes wrong with the fleet and with what is scraped; nothing by default.

    Returns
    -------
    SimulationResult
        Row ``i`` is decided on rows before ``i`` only. Work is kept: arrived + queued = served + left.
    """
    run = Simulation(control, demand, model, trouble)
    run.advance(demand.rows)
    return run.result()


class Simulation:
    """A replay while time runs: rows before ``row`` have passed.

    ``branch`` goes on from there under other demand or trouble, so that what several faults share runs once.
    """

    def __init__(
        self, control: Control, demand: Demand, model: FleetModel, trouble: Trouble = NO_TROUBLE
    ) -> None:
        self.control, self.demand, self.model, self.trouble = control, demand, model, trouble
        roles = tuple(model.pools)
        start = {role: max(1.0, float(np.round(_first(demand.counts(role))))) for role in roles}
        self.pools = {role: Pool(model.pools[role], start[role]) for role in roles}
        self.log = _Log(roles, demand.rows)
        self.worker = at_work(control, demand, model, trouble.alter)
        self.times, self.gaps = demand.t_s.tolist(), demand.gap.tolist()
        self.steps = max(1, math.ceil(demand.window_s / STEP_S - 1e-9))
        self.step_s = demand.window_s / self.steps
        work = {role: demand.offered[role] * self.step_s for role in roles}
        self.work = {role: tokens.tolist() for role, tokens in work.items()}
        self.row_work = {role: _added(tokens, self.steps).tolist() for role, tokens in work.items()}
        self.row, self.waiting = 0, 0.0

    def advance(self, last: int) -> None:
        """Let the rows before ``last`` pass."""
        while self.row < last:
            self._pass(self.row)
            self.row += 1

    def branch(self, demand: Demand, trouble: Trouble = NO_TROUBLE) -> Simulation:
        """Return a simulation that stands where this one does, and goes on with ``demand`` and ``trouble``.

        ``demand`` has the same rows as this one's up to here; it may end elsewhere.
        """
        other = Simulation(self.control, demand, self.model, trouble)
        other.pools = {role: pool.copy() for role, pool in self.pools.items()}
        other.log.take(self.log, self.row)
        other.worker.take(self.worker, self.row)  # type: ignore[arg-type]  # of the same control
        other.row, other.waiting = self.row, self.waiting
        return other

    def result(self) -> SimulationResult:
        """Return all rows, once they have passed."""
        return _result(self.demand, self.model, self.log)

    def _pass(self, row: int) -> None:
        t_s, pools, log = self.times[row], self.pools, self.log
        draining: Mapping[str, int] = {}
        if self.trouble.strike is not None:
            self.trouble.strike(row, t_s, pools)
        if not self.gaps[row]:
            act = self.worker.act(row, t_s, pools, log)
            log.direction[row], log.reason[row], draining = act.direction, act.reason, act.draining or {}
            if self._is_calm(row, t_s):
                self._run_calm_row(row)
            else:
                self._run_row(row, t_s)
        for role, pool in pools.items():
            log.desired[role][row] = pool.desired
            log.paid[role][row] = pool.desired - pool.pending + draining.get(role, 0)
            log.queued[role][row] = pool.backlog
        self.worker.record(row, log)

    def _is_calm(self, row: int, t_s: float) -> bool:
        """Say whether nothing becomes ready in a row and every pool serves what comes as it comes."""
        if self.waiting:
            return False
        last_s = t_s + (self.steps - 1) * self.step_s
        return all(
            pool.is_calm(last_s) and self.work[role][row] <= pool.room(self.step_s)
            for role, pool in self.pools.items()
        )

    def _run_calm_row(self, row: int) -> None:
        """Let such a row pass: all of its steps are the same, and leave no queue."""
        log = self.log
        for role, pool in self.pools.items():
            log.arrived[role][row] = log.served[role][row] = self.row_work[role][row]
            share, ready = pool.ready / self.steps, 0.0
            for _ in range(self.steps):
                ready += share
            log.ready[role][row] = ready
            log.age[role][row] = log.wait[role][row] = 0.0

    def _run_row(self, row: int, t_s: float) -> None:
        """Let a row pass in steps; decode work whose prompts still wait for prefill is kept back [tokens]."""
        pools, log, waiting, steps, seconds = self.pools, self.log, self.waiting, self.steps, self.step_s
        totals = {role: [0.0, 0.0, 0.0, 0.0, 0.0] for role in pools}
        after_prefill = "prefill" in pools
        parts = [
            (pool, self.work[role][row], role == "decode" and after_prefill, role == "prefill", totals[role])
            for role, pool in pools.items()
        ]
        for step in range(steps):  # the innermost loop of every replay: no call that would change nothing
            handed = 1.0
            for pool, offered, is_fed, feeds, total in parts:
                if pool.starting or pool.pending:
                    pool.advance(t_s + step * seconds)
                arriving = offered
                if is_fed:
                    waiting += offered
                    arriving = waiting * handed
                    waiting -= arriving
                served, share = pool.serve(arriving, seconds)
                if feeds:
                    handed = share
                total[0] += arriving
                total[1] += served
                total[2] += pool.ready / steps
                if pool.backlog > 0:
                    age_s = pool.age_s()
                    total[3] = max(total[3], age_s)
                    total[4] += age_s / steps
        for role, total in totals.items():
            log.arrived[role][row], log.served[role][row], log.ready[role][row] = total[:3]
            log.age[role][row], log.wait[role][row] = total[3:]
        self.waiting = waiting


def _added(tokens: Floats, steps: int) -> Floats:
    """Return what comes in the steps of each row, added step by step as the pools add it [tokens]."""
    total = np.zeros_like(tokens)
    for _ in range(steps):
        total = total + tokens
    return total


class _Log:
    """Rows of one simulation while it runs; lists, because single elements of arrays are slow."""

    def __init__(self, roles: tuple[str, ...], rows: int) -> None:
        def blank() -> dict[str, list[float]]:
            return {role: [math.nan] * rows for role in roles}

        self.desired, self.ready, self.paid = blank(), blank(), blank()
        self.age, self.wait = blank(), blank()  # of a backlog: highest and mean of the row [s]
        self.arrived, self.served, self.queued = blank(), blank(), blank()
        self.direction, self.reason = [""] * rows, [""] * rows

    def take(self, other: _Log, rows: int) -> None:
        """Take over the first ``rows`` of another log of the same pools."""
        self.direction[:rows], self.reason[:rows] = other.direction[:rows], other.reason[:rows]
        for name in ("desired", "ready", "paid", "age", "wait", "arrived", "served", "queued"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for role, values in mine.items():
                values[:rows] = theirs[role][:rows]


def _result(demand: Demand, model: FleetModel, log: _Log) -> SimulationResult:
    def arrays(lists: Mapping[str, list[float]]) -> dict[str, Floats]:
        return {role: np.array(values, float) for role, values in lists.items()}

    arrived, ready, age = arrays(log.arrived), arrays(log.ready), arrays(log.age)
    violation = {}
    before_first = share_of_wait(model.waits, "ttft", "decode")
    for role, pool in model.pools.items():
        waited = age[role]
        if role == "prefill" and "decode" in age and before_first:
            waited = waited + before_first * age["decode"]
        with np.errstate(invalid="ignore", divide="ignore"):
            load = arrived[role] / demand.window_s / ready[role]
        # Work with nothing ready is an infinite load; no work with nothing ready is none.
        load = np.where(np.isnan(load) & ~demand.gap, 0.0, load)
        answered = answering_load(load, demand.window_s)
        violation[role] = violation_probability(answered, waited, pool, model.allowed, ready[role])
    return SimulationResult(
        demand,
        arrays(log.desired),
        ready,
        arrays(log.paid),
        arrived,
        arrays(log.served),
        arrays(log.queued),
        violation,
        tuple(log.direction),
        tuple(log.reason),
    )


def _first(values: Floats) -> float:
    return float(values[0]) if values.size and not math.isnan(values[0]) else 1.0


def combined_violation(result: SimulationResult, roles: tuple[str, ...]) -> Floats:
    """Return the share of windows that violate in any of the pools, taken as independent: an upper estimate.

    Shape (rows,); NaN where no pool can say or in a gap; NaN everywhere without roles.
    """
    kept = np.ones(result.demand.rows)
    for role in roles:
        kept = kept * (1.0 - result.violation[role])
    return 1.0 - kept if roles else np.full(result.demand.rows, np.nan)


def output_pool(pools: Iterable[str]) -> str | None:
    """Return the pool whose work is output tokens: decode, or the one that does both; None without."""
    known = tuple(pools)
    return next((role for role in ("decode", "mixed") if role in known), None)


def timeline(service: str, name: str, result: SimulationResult, judged: tuple[str, ...]) -> pl.DataFrame:
    """Return the ``timeline`` rows of one capture; a single pool stands in the decode columns."""
    prefill = "prefill" if "prefill" in result.desired else None
    decode = output_pool(result.desired)

    def values(per_role: Mapping[str, Floats], role: str | None) -> pl.Series:
        data = per_role[role] if role else np.full(result.demand.rows, np.nan)
        return pl.Series(np.asarray(data, float), nan_to_null=True)

    t = pl.Series((result.demand.t_s * 1e6).round().astype(np.int64)).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "service": [service] * result.demand.rows,
            "policy": [name] * result.demand.rows,
            "capture": [result.demand.capture] * result.demand.rows,
            "t": t,
            "load_prefill": values(result.demand.offered, prefill),
            "load_decode": values(result.demand.offered, decode),
            "desired_prefill": values(result.desired, prefill),
            "desired_decode": values(result.desired, decode),
            "ready_prefill": values(result.ready, prefill),
            "ready_decode": values(result.ready, decode),
            "violation_probability": pl.Series(combined_violation(result, judged), nan_to_null=True),
            "action": pl.Series(list(result.direction), dtype=pl.String),
            "reason": pl.Series(list(result.reason), dtype=pl.String),
        }
    )
    return check(frame, TIMELINE)

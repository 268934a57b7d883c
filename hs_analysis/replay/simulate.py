"""Run controllers, or fixed counts, against recorded demand: one decision a row, and no look-ahead.

All that run on one capture run at once: a lane each. Lanes whose controllers have one structure share a batch
(`controllers.registry`), and a lane may be struck by a fault that the others know nothing of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import polars as pl

from hs_analysis.controllers import Autoscaler, HeteroScale, Slotted, batch_of, sharing_slots, structure
from hs_analysis.controllers.lanes import Batch, Fleet, Orders, in_words, some
from hs_analysis.replay.demand import DemandTrace, Key, answering_load, rows_of
from hs_analysis.replay.fleet import FleetModel, PoolLanes, violation_probability
from hs_analysis.replay.queue_attribution import wait_share
from hs_analysis.replay.readings import (
    Passed,
    Readings,
    Row,
    SameState,
    Slots,
    read_from,
    uneven_parts,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.frames import TIMELINE, check

STEP_S = 15.0
"""Longest step of the fluid [s]; default of this project."""


@dataclass(frozen=True)
class Schedule:
    """Counts per row and pool that need no deciding.

    ``running`` says that they are what was able to serve, as recorded counts are; otherwise they are asked
    for at the start of the row and become ready a start-up time later.
    """

    counts: Mapping[str, Floats]
    running: bool = True


Control = Autoscaler | HeteroScale | Schedule
"""Anything that a replay can run."""


@dataclass(frozen=True)
class SimulationResult:
    """One control on one capture. Arrays have shape (rows,), the dicts one array per pool.

    Attributes
    ----------
    demand
        What was offered.
    desired, ready, paid
        Instances asked for, able to serve (mean of the row), and paid for: asked for plus those that leave.
    arrived, served, queued
        Work that reached the pool and left it in the row, and its queue at the end of the row [tokens].
    load, waited
        What the latency of a row answers to: work per ready instance (``answering_load``, infinite where none
        is ready) [tokens/s], and the oldest backlog that the pool's latency waits for [s].
    violation
        Expected share of violating windows per pool; NaN where it can't be said.
    code, wanted
        `Why` each pool was asked for its count, and the instances that the signal asked for; NaN without.
    decides
        Whether something decided: a schedule does not.
    """

    demand: DemandTrace
    desired: dict[str, Floats]
    ready: dict[str, Floats]
    paid: dict[str, Floats]
    arrived: dict[str, Floats]
    served: dict[str, Floats]
    queued: dict[str, Floats]
    load: dict[str, Floats]
    waited: dict[str, Floats]
    violation: dict[str, Floats]
    code: dict[str, Integers]
    wanted: dict[str, Floats]
    decides: bool = True

    @property
    def scored(self) -> Mask:
        """Rows that count."""
        return self.demand.scored

    def directions(self) -> list[str]:
        """Return per row ``out`` if any pool grew, else ``in`` if any shrank, else ``hold``."""
        change = [np.diff(counts, prepend=counts[:1]) for counts in self.desired.values()]
        highest, lowest = np.max(change, axis=0), np.min(change, axis=0)
        still = "hold" if self.decides else ""
        words = np.where(highest > 0, "out", np.where(lowest < 0, "in", still))
        found: list[str] = np.where(self.demand.gap, "", words).tolist()
        return found

    def reasons(self) -> list[str]:
        """Return per row why the pools were asked for their counts, in words."""
        if not self.decides:
            return [""] * self.demand.rows
        texts = [
            [
                f"{role}: {in_words(code, wanted, after)}" if code else ""
                for code, wanted, after in zip(
                    codes.tolist(), self.wanted[role].tolist(), self.desired[role].tolist(), strict=True
                )
            ]
            for role, codes in self.code.items()
        ]
        return ["; ".join(filter(None, row)) for row in zip(*texts, strict=True)]


def simulate(control: Control, demand: DemandTrace, model: FleetModel) -> SimulationResult:
    """Replay one control on one capture: see `simulate_all`."""
    return simulate_all([control], demand, model)[0]


def simulate_all(
    controls: Sequence[Control], demand: DemandTrace, model: FleetModel
) -> tuple[SimulationResult, ...]:
    """Replay controls on one capture, each as if it were alone.

    Parameters
    ----------
    controls
        Autoscalers or policies, started from the recorded counts of the first row; or schedules.
    demand
        Offered work per row. In a gap the state is held: nothing arrives, is served, decided or scored.
    model
        Capacities, ceilings, start-up times and signal curves; learnt on other rows for an honest backtest.

    Returns
    -------
    tuple
        In the order of ``controls``. Row ``i`` is decided on rows before ``i`` only. Work is kept:
        arrived + queued = served + left.
    """
    run = Run(controls, demand, model)
    run.advance(demand.rows)
    return run.results()


@dataclass
class Lot:
    """Lanes that share a batch, side by side: where they stand, their controllers, and what these read."""

    where: slice
    batch: Batch
    slots: Slots

    def take(self, where: slice, lanes: Integers) -> Lot:
        """Return the same controllers on other lanes."""
        return Lot(where, self.batch.take(lanes), self.slots.take(lanes))

    def beside(self, where: slice, others: Sequence[Lot]) -> Lot:
        """Return the lanes of this lot, then those of others with the same controllers, at their places."""
        batches, slots = ([getattr(one, name) for one in others] for name in ("batch", "slots"))
        return Lot(where, self.batch.beside(batches), self.slots.beside(slots))


@dataclass(frozen=True)
class Fixed:
    """Lanes whose counts need no deciding, side by side."""

    where: slice
    schedules: tuple[Schedule, ...]


class Strike:
    """What goes wrong in some lanes; nothing by default. A fault overrides what it touches."""

    def demand_factor(self, row: int) -> Floats | None:
        """Return what the demand of a row is multiplied by, shape (lanes,); None for nothing."""

    def before_row(self, row: int, pools: Mapping[str, PoolLanes]) -> None:
        """Act on the pools before a row is decided."""

    def scraped(self, row: int, true: Floats, lot: Lot) -> Floats:  # noqa: ARG002 - overridden
        """Return what is scraped instead of what is true, shape (slots of the lot, its lanes)."""
        return true


@dataclass
class Log:
    """Rows that have passed, per pool, shape (rows, lanes)."""

    desired: dict[str, Floats] = field(default_factory=dict)
    ready: dict[str, Floats] = field(default_factory=dict)
    paid: dict[str, Floats] = field(default_factory=dict)
    arrived: dict[str, Floats] = field(default_factory=dict)
    served: dict[str, Floats] = field(default_factory=dict)
    queued: dict[str, Floats] = field(default_factory=dict)
    age: dict[str, Floats] = field(default_factory=dict)
    wait: dict[str, Floats] = field(default_factory=dict)
    wanted: dict[str, Floats] = field(default_factory=dict)
    code: dict[str, Integers] = field(default_factory=dict)

    @classmethod
    def blank(cls, roles: Iterable[str], rows: int, lanes: int) -> Self:
        """Return a log that nothing was written in yet."""
        log = cls()
        for role in roles:
            for name in ("desired", "ready", "paid", "arrived", "served", "queued", "age", "wait", "wanted"):
                getattr(log, name)[role] = np.full((rows, lanes), math.nan)
            log.code[role] = np.zeros((rows, lanes), np.int64)
        return log

    def take(self, lanes: Integers) -> Log:
        """Return the rows of some lanes."""
        return Log(**{
            name: {role: rows[:, lanes] for role, rows in values.items()}
            for name, values in vars(self).items()
        })  # fmt: skip


class Run:
    """Lanes on one capture while time runs: rows from ``first`` on before ``row`` have passed.

    A lane is ``ahead`` of ``row`` by so many rows, shape (lanes,): 0 but where runs go on `beside` each
    other from different rows.
    """

    def __init__(self, controls: Sequence[Control], demand: DemandTrace, model: FleetModel) -> None:
        self.demand, self.model, self.strike = demand, model, Strike()
        self.controls = tuple(_seen(control, model) for control in controls)
        slotted, groups = _by_structure(self.controls)
        self.order = np.array([lane for group in groups for lane in group], np.int64)
        lanes, roles = len(controls), tuple(model.pools)
        self.steps = max(1, math.ceil(demand.window_s / STEP_S - 1e-9))
        self.step_s = demand.window_s / self.steps
        start = {role: max(1.0, float(np.round(_first(demand.counts(role))))) for role in roles}
        self.pools = {
            role: PoolLanes(model.pools[role], np.full(lanes, start[role]), demand.window_s, self.steps)
            for role in roles
        }
        self.first = self.row = 0
        self.ahead: Row = 0
        self.waiting = np.zeros(lanes)
        self.state = SameState(demand, lanes)
        self.draining = {role: np.zeros(lanes) for role in roles}
        self.uneven = uneven_parts(demand.rows, self.steps, model.seed)
        self.lots, self.fixed, self.readings = self._placed(slotted, groups)
        self.log = Log.blank(roles, demand.rows, lanes)

    @property
    def lanes(self) -> int:
        """How many run."""
        return self.waiting.size

    def advance(self, last: int) -> None:
        """Let the rows before ``last`` pass."""
        while self.row < last:
            self._pass(self.row)
            self.row += 1

    def branch(self, copies: int, last: int, strike: Strike, controls: Sequence[int] | None = None) -> Run:
        """Return a run that stands where this one does, each lane several times, and goes on to ``last``.

        ``controls`` are the numbers of those that it goes on with; None for all. Lanes of one lot stay side
        by side: all of the first copy, then all of the second. Schedules are left as they are. Rows that
        have passed are not in its log.
        """
        kept = np.ones(self.lanes, bool) if controls is None else np.isin(self.order, list(controls))
        other = copy(self)
        other.lots, other.fixed = [], []
        taken, begin = [np.zeros(0, np.int64)], 0
        every: list[Lot | Fixed] = [*self.lots, *self.fixed]
        for group in every:
            lanes = np.tile(np.flatnonzero(kept[group.where]), copies)
            there = slice(begin, begin + lanes.size)
            if not lanes.size:
                continue
            if isinstance(group, Lot):
                other.lots.append(group.take(there, lanes))
            else:
                other.fixed.append(Fixed(there, tuple(group.schedules[lane] for lane in lanes)))
            taken.append(group.where.start + lanes)
            begin = there.stop
        own = np.concatenate(taken)
        other.ahead = np.broadcast_to(self.ahead, (self.lanes,))[own]
        other.pools = {role: pool.take(own) for role, pool in self.pools.items()}
        other.draining = {role: counts[own] for role, counts in self.draining.items()}
        other.waiting, other.order = self.waiting[own], self.order[own]
        other.state, other.readings = self.state.take(own), self.readings.take(own)
        other.first, other.strike = self.row, strike
        other.log = Log.blank(self.pools, last - self.row, own.size)
        return other

    def beside(self, others: Sequence[Run]) -> Run:
        """Return the lanes of this run and of others in step, each going on from the row that its run is at.

        All are branches of one run. No row that follows may be a gap in one lane and none in another; rows
        that have passed are not in its log.
        """
        every = (self, *others)
        joined = copy(self)
        joined.lots, joined.fixed = [], []
        begins = np.cumsum([0, *(one.lanes for one in every)]).tolist()
        taken, begin = [np.zeros(0, np.int64)], 0
        groups: list[list[Lot | Fixed]] = [[*one.lots, *one.fixed] for one in every]
        for number, group in enumerate(groups[0]):
            alike = [one[number] for one in groups]
            taken += [
                first + np.arange(one.where.start, one.where.stop)
                for first, one in zip(begins, alike, strict=False)
            ]
            where = slice(begin, begin + sum(one.where.stop - one.where.start for one in alike))
            begin = where.stop
            if isinstance(group, Lot):
                joined.lots.append(group.beside(where, [one for one in alike[1:] if isinstance(one, Lot)]))
            else:
                schedules = [one for fixed in alike if isinstance(fixed, Fixed) for one in fixed.schedules]
                joined.fixed.append(Fixed(where, tuple(schedules)))
        own = np.concatenate(taken)
        joined.ahead = np.concatenate(
            [np.broadcast_to(one.row - self.row + one.ahead, (one.lanes,)) for one in every]
        )[own]
        joined.pools = {
            role: pool.beside([one.pools[role] for one in others]).take(own)
            for role, pool in self.pools.items()
        }
        joined.draining = {
            role: np.concatenate([one.draining[role] for one in every])[own] for role in self.draining
        }
        joined.waiting = np.concatenate([one.waiting for one in every])[own]
        joined.order = np.concatenate([one.order for one in every])[own]
        joined.state = self.state.beside([one.state for one in others]).take(own)
        joined.readings = self.readings.beside([one.readings for one in others]).take(own)
        joined.first = self.row
        joined.log = Log.blank(self.pools, 0, own.size)
        return joined

    def results(self) -> tuple[SimulationResult, ...]:
        """Return all rows, once they have passed, in the order of the controls."""
        answers = answered(self.log, self.model, self.demand)
        violation = violations(answers, self.log, self.model)
        back = np.argsort(self.order)
        return tuple(
            _result(self.demand, self.log, answers, violation, int(lane), isinstance(control, Schedule))
            for control, lane in zip(self.controls, back, strict=True)
        )

    def _placed(
        self, slotted: Mapping[int, Slotted], groups: Sequence[Sequence[int]]
    ) -> tuple[list[Lot], list[Fixed], Readings]:
        """Give each group of controls its lanes, side by side."""
        fixed, begin = [], 0
        batches: list[tuple[slice, Batch, dict[Key, list[Key]]]] = []
        for group in groups:
            where = slice(begin, begin + len(group))
            begin = where.stop
            members = [self.controls[number] for number in group]
            schedules = tuple(one for one in members if isinstance(one, Schedule))
            if schedules:
                fixed.append(Fixed(where, schedules))
                continue
            alike = [slotted[number] for number in group]
            held = {slot: [slots[slot] for _, slots in alike] for slot in alike[0][1]}
            batches.append((where, batch_of([one for one, _ in alike]), held))
        keys = tuple(dict.fromkeys(k for *_, held in batches for slot in held.values() for k in slot))
        # A range that ends within a row begins within one, too.
        depths = [rows_of(batch.reach_s, self.demand.window_s) + 1 for _, batch, _ in batches]
        readings = Readings(keys, max(depths, default=1), self.demand, self.model, len(self.controls))
        before = [self.demand.past(*readings.at[key]) for key in keys]
        lots = []
        for (where, batch, held), depth in zip(batches, depths, strict=True):
            numbers = {slot: np.array([keys.index(key) for key in one]) for slot, one in held.items()}
            slots = Slots(numbers, depth, before, self.demand.window_s, readings.noise, self.steps)
            lots.append(Lot(where, batch, slots))
        return lots, fixed, readings

    def _pass(self, row: int) -> None:
        at, rows = row - self.first, row + self.ahead
        factor = self.strike.demand_factor(row)
        altered = np.zeros(self.lanes, bool) if factor is None else factor != 1.0
        factor = np.ones(self.lanes) if factor is None else factor
        for pool in self.pools.values():
            pool.begin_row()
        self.strike.before_row(row, self.pools)
        if not some(self.demand.gap[rows]):
            self._act(rows, at)
            self._serve(rows, at, factor)
        for role, pool in self.pools.items():
            self.log.desired[role][at] = pool.desired
            self.log.paid[role][at] = pool.paid(self.draining[role])
            self.log.queued[role][at] = pool.backlog
        if self.lots:
            self._scrape(row, at, factor, altered)

    def _act(self, rows: Row, at: int) -> None:
        """Let every lane decide on completed rows, and ask its pools for the counts."""
        for group in self.fixed:
            self._follow(rows, group.where, group.schedules)
        if not self.lots:
            return
        if not some(np.asarray(rows != 0)) and not self.demand.before:
            return  # nothing was scraped yet, which is not the same as a metric that is missing
        asked = {role: pool.desired.copy() for role, pool in self.pools.items()}
        restored = {role: np.zeros(self.lanes) for role in self.pools}
        t_s = np.full(self.lanes, self.demand.t_s[rows])
        reporting = {role: history.last() for role, history in self.readings.reporting.items()}
        for lot in self.lots:
            orders = lot.batch.step(self._fleet(lot, t_s, reporting))
            self._note(at, lot.where, orders)
            for role, counts in orders.counts.items():
                asked[role][lot.where] = counts
            for role, counts in orders.restored.items():
                restored[role][lot.where] = counts
            for role, counts in orders.draining.items():
                self.draining[role][lot.where] = counts
        for role, pool in self.pools.items():
            pool.ask(asked[role], restored[role])

    def _fleet(self, lot: Lot, t_s: Floats, reporting: Mapping[str, Floats]) -> Fleet:
        """Return what the controllers of a lot see."""
        return Fleet(
            t_s[lot.where],
            self.demand.window_s,
            {role: pool.desired[lot.where] for role, pool in self.pools.items()},
            {role: pool.ready[lot.where] for role, pool in self.pools.items()},
            lot.slots.seen(),
            {role: rows[-lot.slots.depth :, lot.where] for role, rows in reporting.items()},
        )

    def _note(self, at: int, where: slice, orders: Orders) -> None:
        for role, codes in orders.code.items():
            self.log.code[role][at, where] = codes
            self.log.wanted[role][at, where] = orders.wanted[role]

    def _follow(self, rows: Row, where: slice, schedules: tuple[Schedule, ...]) -> None:
        """Set, or ask for, the counts of the row."""
        own = np.broadcast_to(rows, (self.lanes,))[where].tolist()
        for role, pool in self.pools.items():
            wanted = np.array([one.counts[role][row] for one, row in zip(schedules, own, strict=True)])
            wanted = np.where(np.isnan(wanted), pool.desired[where], wanted)
            if schedules[0].running or not some(np.asarray(rows != 0)):
                change = wanted != pool.desired[where]
                if some(change):
                    lanes = np.arange(where.start, where.stop)[change]
                    pool.hold(wanted[change], lanes)
            else:
                counts = pool.desired.copy()
                counts[where] = wanted
                pool.ask(counts)

    def _serve(self, rows: Row, at: int, factor: Floats) -> None:
        """Let a row pass; decode work whose prompts still wait for prefill is kept back [tokens]."""
        work = {role: self.demand.offered[role][rows] * self.step_s * factor for role in self.pools}
        calm = not some(self.waiting != 0) and all(
            pool.is_calm(work[role], self.step_s) for role, pool in self.pools.items()
        )
        log = self.log
        if calm:
            for role, pool in self.pools.items():
                log.arrived[role][at] = log.served[role][at] = work[role] * self.steps
                log.ready[role][at] = pool.ready
                log.age[role][at] = log.wait[role][at] = 0.0
            return
        columns = (log.arrived, log.served, log.ready, log.wait, log.age)
        sums = {role: [one[role][at] for one in columns] for role in self.pools}
        for passed in sums.values():
            for one in passed:
                one.fill(0.0)
        after_prefill = "prefill" in self.pools
        for step in range(self.steps):
            handed = np.ones(self.lanes)
            for role, pool in self.pools.items():
                pool.become_ready(step)
                arriving = work[role]
                if role == "decode" and after_prefill:
                    waiting = self.waiting + arriving
                    arriving = waiting * handed
                    self.waiting = waiting - arriving
                served, waited = pool.serve(arriving, self.step_s)
                if role == "prefill":
                    handed = np.divide(served, waited, out=np.ones(self.lanes), where=waited > 0)
                all_arrived, all_served, ready, wait, age = sums[role]
                all_arrived += arriving
                all_served += served
                ready += pool.ready / self.steps
                if some(pool.backlog != 0):
                    age_s = pool.age_s()
                    wait += age_s / self.steps
                    np.maximum(age, age_s, out=age)

    def _scrape(self, row: int, at: int, factor: Floats, altered: Mask) -> None:
        """Let the controllers' signals be scraped, as far as they are there."""
        log = self.log

        def of(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {role: rows[at] for role, rows in values.items()}

        passed = Passed(of(log.served), of(log.queued), of(log.ready), of(log.wait), factor, altered)
        rows = row + self.ahead
        self.state.see(rows, passed)
        table = self.readings.read(rows, passed, self.state)
        uneven = np.atleast_2d(self.uneven[rows]).T
        for lot in self.lots:
            true = lot.slots.of(table[:, lot.where])
            came = uneven if uneven.shape[1] == 1 else uneven[:, lot.where]
            lot.slots.add(self.strike.scraped(row, true, lot), true, came)


def _by_structure(controls: Sequence[Control]) -> tuple[dict[int, Slotted], list[list[int]]]:
    """Return controls that decide, on slots, and the numbers of those that share a batch; schedules last."""
    deciding = {number: one for number, one in enumerate(controls) if not isinstance(one, Schedule)}
    slotted = dict(zip(deciding, sharing_slots(tuple(deciding.values())), strict=True))
    groups: dict[object, list[int]] = {}
    for number, (control, _) in slotted.items():
        groups.setdefault(structure(control), []).append(number)
    fixed: dict[object, list[int]] = {}
    for number, one in enumerate(controls):
        if isinstance(one, Schedule):
            fixed.setdefault(one.running, []).append(number)
    return slotted, [*groups.values(), *fixed.values()]


def _seen(control: Control, model: FleetModel) -> Control:
    """Return a control without pools that are not there, and guards that can't be said at other counts."""
    if isinstance(control, Schedule):
        return control
    if isinstance(control, Autoscaler):
        return replace(control, pools={r: one for r, one in control.pools.items() if r in model.pools})

    def known(key: Key) -> bool:
        at = read_from(key, model)
        return at is not None and model.signals[at].kind == "curve"

    pools = {
        role: replace(one, guards=tuple(guard for guard in one.guards if known((guard.signal, guard.role))))
        for role, one in control.pools.items()
    }
    return replace(control, pools=pools)


Answers = Mapping[str, tuple[Floats, Floats]]
"""Per pool what the latency of a row answers to: load per instance [tokens/s], and backlog [s]."""


def answered(log: Log, model: FleetModel, demand: DemandTrace) -> Answers:
    """Return per pool the load that the latency answers to, and the backlog it waits for, (rows, lanes)."""
    found = {}
    before_first = wait_share(model.waits, "ttft", "decode")
    for role in model.pools:
        waited = log.age[role]
        if role == "prefill" and "decode" in log.age and before_first:
            waited = waited + before_first * log.age["decode"]
        with np.errstate(invalid="ignore", divide="ignore"):
            load = log.arrived[role] / demand.window_s / log.ready[role]
        # Work with nothing ready is an infinite load; no work with nothing ready is none.
        load = np.where(np.isnan(load) & ~np.isnan(log.arrived[role]), 0.0, load)
        found[role] = (answering_load(load, demand.window_s), waited)
    return found


def violations(answers: Answers, log: Log, model: FleetModel) -> dict[str, Floats]:
    """Return the expected share of violating windows per pool, shape (rows, lanes)."""
    return {
        role: violation_probability(*answers[role], pool, model.allowed, log.ready[role])
        for role, pool in model.pools.items()
    }


def _result(
    demand: DemandTrace, log: Log, answers: Answers, violation: Mapping[str, Floats], lane: int, fixed: bool
) -> SimulationResult:
    def of(values: Mapping[str, Floats]) -> dict[str, Floats]:
        return {role: np.ascontiguousarray(rows[:, lane]) for role, rows in values.items()}

    code = {role: np.ascontiguousarray(rows[:, lane]) for role, rows in log.code.items()}
    load, waited = (of({role: both[at] for role, both in answers.items()}) for at in (0, 1))
    return SimulationResult(
        demand, of(log.desired), of(log.ready), of(log.paid), of(log.arrived), of(log.served),
        of(log.queued), load, waited, of(violation), code, of(log.wanted), not fixed,
    )  # fmt: skip


def _first(values: Floats) -> float:
    return float(values[0]) if values.size and not math.isnan(values[0]) else 1.0


def combined_violation(result: SimulationResult, roles: tuple[str, ...]) -> Floats:
    """Return the share of windows that violate in any of the pools, taken as independent: an upper estimate.

    Shape (rows,); NaN where no pool can say or in a gap; NaN everywhere without roles.
    """
    return any_of(result.violation, roles, result.demand.rows)


def any_of(violation: Mapping[str, Floats], roles: tuple[str, ...], rows: int) -> Floats:
    """Return the chance that any of some pools violates; shape of the arrays, NaN (rows,) without roles.

    A pool of which nothing is known leaves it open, unless another one is sure to violate.
    """
    if not roles:
        return np.full(rows, np.nan)
    kept, sure = np.ones_like(violation[roles[0]]), np.zeros(violation[roles[0]].shape, bool)
    for role in roles:
        kept = kept * (1.0 - violation[role])
        sure |= violation[role] >= 1.0
    return np.where(sure, 1.0, 1.0 - kept)


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
            "action": pl.Series(result.directions(), dtype=pl.String),
            "reason": pl.Series(result.reasons(), dtype=pl.String),
        }
    )
    return check(frame, TIMELINE)

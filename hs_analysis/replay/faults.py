"""What can go wrong, and how controllers bear it: a table of control × fault.

Each fault is tried in several hours in which the load climbs steeply, when a held or shrunken fleet hurts
most. A pool of whole instances has up to one to spare when a fault hits, by chance; in a single hour that
decides more than the policy does. All controls run undisturbed once; what a fault makes of them goes on from
there, each fault in lanes of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.errors import UsageError
from hs_analysis.replay.constants import (
    BURST_S,
    LOST_SHARE,
    RATIO_SHARE,
    SETTLING_S,
    SKEW_S,
    STEEP,
    WATCHED,
)
from hs_analysis.replay.demand import DemandTrace, fill, rows_of
from hs_analysis.replay.fleet import FleetModel, PoolLanes
from hs_analysis.replay.simulate import Control, Log, Lot, Run, Strike, answered, any_of, violations
from hs_analysis.schema import names as choices
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import MAJORITY

PLACES = 12
"""At how many hours a fault is tried at most; default of this project: on simulated days mean shares under a
metric gap at 6, 12 and 24 hours were 7.6, 6.5 and 8.2 %, those of single hours 0 to 20 %."""

PLACES_TO_SELECT = 6
"""The same where candidates are ranked, all by the same hours; default of this project."""

LANES_IN_STEP = 3000
"""Most lanes that are run at once under faults; default of this project: a row of a run costs the same up to
some hundred lanes, and the log of 3,000 lanes over three hours takes 90 MB."""

LEAD_S = 2 * SETTLING_S
"""Time that policies run before the first fault can hit, so that they run counts of their own and not what
they took over [s]; default of this project."""


@dataclass(frozen=True)
class FaultRows:
    """Rows of a fault: from ``first`` on, before ``last``."""

    first: int
    last: int

    def __contains__(self, row: int) -> bool:
        """Whether a row lies in it."""
        return self.first <= row < self.last


@dataclass(frozen=True)
class Scrape:
    """The readings of a lot in a fault.

    Attributes
    ----------
    true, before, late
        What is true now, was scraped in the row before, and was true some time ago; shape (slots, lanes).
    rows, every
        How many rows the fault has lasted, and after how many its counters restart.
    """

    true: Floats
    before: Floats
    late: Floats
    rows: int
    every: int


@dataclass(frozen=True)
class Fault:
    """A fault: its name, what happens in words, and what it changes.

    Attributes
    ----------
    scrape
        What is scraped in the fault instead of what is true.
    begins, ends
        What happens to a pool before the first row of the fault, and before the first row after it, in the
        lanes that it strikes.
    roles
        Pools that it strikes; empty for all. The only pool is always struck.
    demand
        (seconds since the fault began, start-up time [s]) → factor on the demand in the fault.
    """

    name: str
    text: str
    scrape: Callable[[Scrape], Floats] | None = None
    begins: Callable[[PoolLanes, Mask], None] | None = None
    ends: Callable[[PoolLanes, Mask], None] | None = None
    roles: tuple[str, ...] = ()
    demand: Callable[[float, float], float] | None = None


def _block(pool: PoolLanes, lanes: Mask) -> None:
    pool.blocked = pool.blocked | lanes


def _unblock(pool: PoolLanes, lanes: Mask) -> None:
    pool.blocked = pool.blocked & ~lanes
    pool.restart(lanes)


def _sell_out(pool: PoolLanes, lanes: Mask) -> None:
    pool.stock = np.where(lanes, pool.ready + pool.starting.sum(axis=0) + pool.stuck, pool.stock)


def _restock(pool: PoolLanes, lanes: Mask) -> None:
    pool.stock = np.where(lanes, math.inf, pool.stock)
    pool.launch()


def _lose(pool: PoolLanes, lanes: Mask) -> None:
    pool.lose(np.where(lanes, np.maximum(1.0, np.floor(LOST_SHARE * pool.ready)), 0.0))


def _misjudge(pool: PoolLanes, lanes: Mask) -> None:
    fewer = np.maximum(1.0, np.floor(RATIO_SHARE * pool.desired))
    pool.ask(np.where(lanes, fewer, pool.desired))


def _burst(since_s: float, startup_s: float) -> float:
    """Double within the start-up time, stay so for ten minutes, and go as it came."""
    rise = max(startup_s, 1.0)
    return 1.0 + min(max(min(since_s / rise, (2.0 * rise + BURST_S - since_s) / rise), 0.0), 1.0)


def _row(name: str, **changes: object) -> Fault:
    return Fault(name, choices.FAULTS[name], **changes)  # type: ignore[arg-type]


FAULTS: tuple[Fault, ...] = (
    _row("metric_gap", scrape=lambda seen: np.full_like(seen.true, math.nan)),
    _row("stale_metric", scrape=lambda seen: np.where(np.isnan(seen.before), seen.true, seen.before)),
    _row("stuck_start_up", begins=_block, ends=_unblock),
    _row("no_stock", begins=_sell_out, ends=_restock),
    _row("lost_group", begins=_lose),
    _row("wrong_ratio", begins=_misjudge, roles=("prefill",)),
    _row("doubled_traffic", demand=lambda since_s, startup_s: 2.0),  # noqa: ARG005 - one signature for all
    _row("clock_skew", scrape=lambda seen: seen.late),
    _row(
        "counter_reset",
        scrape=lambda seen: np.zeros_like(seen.true) if seen.rows % seen.every == 0 else seen.true,
    ),
    _row("burst", demand=_burst),
)
"""What can go wrong, for ``--fault NAME``."""

NO_FAULT = Fault("none", "nothing goes wrong")


def faults_named(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return faults by name, in the order of ``FAULTS``; ``all`` stands for every one.

    Raises
    ------
    UsageError
        When there is no such fault.
    """
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known and name != "all":
            raise UsageError(f"there is no fault {name!r}", hint=f"one of: all, {', '.join(known)}")
    return tuple(fault for fault in FAULTS if fault.name in names or "all" in names)


class FaultStrike(Strike):
    """Faults in one stretch, one per copy of the lanes of a run.

    ``of_lane`` says which fault strikes a lane, as a number in ``faults``; shape (lanes,).
    """

    def __init__(self, faults: Sequence[Fault], stretch: FaultRows, run: Run) -> None:
        self.faults, self.stretch, self.model = tuple(faults), stretch, run.model
        self.window_s, self.t_s = run.demand.window_s, run.demand.t_s
        places = [lot.where for lot in run.lots] + [fixed.where for fixed in run.fixed]
        sizes = [where.stop - where.start for where in places]
        parts = [np.repeat(np.arange(len(self.faults)), size) for size in sizes]
        self.of_lane: Integers = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        self.lag = rows_of(SKEW_S, self.window_s)
        self.true: dict[int, list[Floats]] = {}

    def demand_factor(self, row: int) -> Floats | None:
        """Return what faults of the demand make of a row, shape (lanes,)."""
        if row not in self.stretch or not any(fault.demand for fault in self.faults):
            return None
        since_s = (row - self.stretch.first) * self.window_s
        startup_s = max(pool.startup_s for pool in self.model.pools.values())
        factors = [fault.demand(since_s, startup_s) if fault.demand else 1.0 for fault in self.faults]
        return np.array(factors)[self.of_lane]

    def before_row(self, row: int, pools: Mapping[str, PoolLanes]) -> None:
        """Strike the pools before the first row of the fault, and let go before the first after it."""
        if row not in (self.stretch.first, self.stretch.last):
            return
        for number, fault in enumerate(self.faults):
            act = fault.begins if row == self.stretch.first else fault.ends
            for role, pool in pools.items():
                if act is not None and (not fault.roles or role in fault.roles or len(pools) == 1):
                    act(pool, self.of_lane == number)

    def scraped(self, row: int, true: Floats, lot: Lot) -> Floats:
        """Return what is scraped of a row instead of what is true."""
        past = self.true.setdefault(lot.where.start, [])
        if not past:
            past.extend(lot.slots.scraped.last().swapaxes(0, 1)[-self.lag - 1 :])
        past.append(true)
        if row not in self.stretch:
            return true
        shown, own = true.copy(), self.of_lane[lot.where]
        before = lot.slots.scraped.last()[:, -1]
        late = past[max(0, len(past) - 1 - self.lag)]
        for number, fault in enumerate(self.faults):
            if fault.scrape is not None:
                lanes = own == number
                rows = row - self.stretch.first
                seen = Scrape(true[:, lanes], before[:, lanes], late[:, lanes], rows, self.lag)
                shown[:, lanes] = fault.scrape(seen)
        return shown


@dataclass(frozen=True)
class FaultOutcome:
    """One policy under one fault, at all hours that it was tried at.

    Attributes
    ----------
    policy, fault
        Names; fault ``none`` is the same stretches undisturbed.
    places
        At how many hours it was tried.
    slo_violation_ratio, worst_violation_ratio
        Chance of violating in the scored rows from the start of the fault to two fault lengths after its
        end: mean of each hour's mean, and the highest of them; None without a capacity.
    lowest
        Fewest instances asked for in the fault, per pool.
    lowest_ready
        Fewest instances able to serve in the fault, per pool.
    recovery_s
        From the end of the fault to the last window that violates though it does not undisturbed, the longest
        [s]; 0 if there is none; None when it has not recovered once after two fault lengths.
    unserved_tokens
        Most work still waiting two fault lengths after a fault.
    """

    policy: str
    fault: str
    places: int
    slo_violation_ratio: float | None
    worst_violation_ratio: float | None
    lowest: dict[str, float]
    lowest_ready: dict[str, float]
    recovery_s: float | None
    unserved_tokens: float


def steep_stretches(demand: DemandTrace, model: FleetModel, places: int = PLACES) -> tuple[FaultRows, ...]:
    """Return the hours that faults are tried at, in order: at most ``places``, spread evenly over all starts.

    A start is a row from which the load climbs in an hour at least ``STEEP`` of the steepest climb, in
    instances at capacity or target. None lies in the first ``LEAD_S``, or quarter of fewer rows.
    """
    rows = rows_of(SETTLING_S, demand.window_s)
    need = np.zeros(demand.rows)
    for role, pool in model.pools.items():
        per_instance = (
            pool.capacity or pool.target or float(np.nanmax(demand.offered[role], initial=1.0)) or 1.0
        )
        need += fill(demand.offered[role]) / per_instance
    smooth = _ahead(need, max(1, rows // 6))
    last = max(1, demand.rows - (1 + WATCHED) * rows)
    climb = smooth[np.minimum(np.arange(last) + rows, demand.rows - 1)] - smooth[:last]
    climb[: min(rows_of(LEAD_S, demand.window_s), demand.rows // 4, last - 1)] = -math.inf
    climb = np.where(np.isnan(climb), -math.inf, climb)
    steepest = climb.max()
    starts = np.flatnonzero(climb >= STEEP * steepest) if steepest > 0 else np.array([climb.argmax()])
    # Row 0 has nothing scraped before it.
    starts = np.unique(np.maximum(starts, min(2, demand.rows - 1)))
    picked = np.unique(np.linspace(0, starts.size - 1, min(places, starts.size)).round().astype(int))
    return tuple(FaultRows(int(at), int(min(at + rows, demand.rows))) for at in starts[picked])


def _ahead(values: Floats, rows: int) -> Floats:
    padded = np.concatenate([values, np.full(rows - 1, values[-1])])
    means: Floats = np.lib.stride_tricks.sliding_window_view(padded, rows).mean(axis=1)
    return means


def watched_until(stretch: FaultRows, demand: DemandTrace) -> int:
    """Return the row at which a fault in a stretch is no longer looked at."""
    return min(demand.rows, stretch.last + WATCHED * rows_of(SETTLING_S, demand.window_s))


@dataclass(frozen=True)
class _Watched:
    """The lanes of one stretch while they are watched: chance of violating and counts, shape (rows, lanes).

    ``before`` rows of ``chance`` come before the fault. ``scored`` has shape (rows,).
    """

    chance: Floats
    scored: Mask
    desired: dict[str, Floats]
    ready: dict[str, Floats]
    queued: dict[str, Floats]
    hit_rows: int

    def shares(self) -> Floats:
        """Return the mean chance of violating from the start of the fault on, shape (lanes,)."""
        chance = self.chance[self.scored]
        known = ~np.isnan(chance)
        count = known.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, np.where(known, chance, 0.0).sum(axis=0) / count, math.nan)

    def lane(self, lane: int) -> _Watched:
        """Return one lane."""

        def of(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {role: rows[:, lane : lane + 1] for role, rows in values.items()}

        return _Watched(
            self.chance[:, lane : lane + 1], self.scored, of(self.desired), of(self.ready), of(self.queued),
            self.hit_rows,
        )  # fmt: skip

    def recovery_rows(self, usual: Floats) -> int | None:
        """Return the rows from the end to the last that violates though it does not undisturbed."""
        hit, calm = (np.nan_to_num(chance) > MAJORITY for chance in (self.chance[:, 0], usual))
        late = np.flatnonzero((hit & ~calm)[self.hit_rows :])
        if late.size == 0:
            return 0
        return None if late[-1] == self.chance.shape[0] - self.hit_rows - 1 else int(late[-1]) + 1


@dataclass(frozen=True)
class Hit:
    """What became of the lanes of a run in a stretch in which each was struck by a fault.

    Attributes
    ----------
    stretch
        The stretch.
    demand, model
        Those of the run.
    log
        Rows from ``first`` on.
    order, of_lane
        Which control is in a lane, and which fault strikes it; shape (lanes,).
    """

    stretch: FaultRows
    demand: DemandTrace
    model: FleetModel
    log: Log
    first: int
    order: Integers
    of_lane: Integers

    @property
    def lanes(self) -> int:
        """How many there are."""
        return self.order.size


def _chances(run: Run | Hit) -> Floats:
    """Return the chance of violating in any pool with a capacity, shape (rows of the log, lanes)."""
    known = tuple(role for role, pool in run.model.pools.items() if pool.capacity is not None)
    rows = len(next(iter(run.log.desired.values())))
    if not known:
        return np.full((rows, run.lanes), math.nan)
    answers = answered(run.log, run.model, run.demand)
    return any_of(violations(answers, run.log, run.model), known, rows)


def _watch(run: Run | Hit, chance: Floats, stretch: FaultRows) -> _Watched:
    """Return what came of the lanes of a run from the start of a stretch to the end of the watch."""
    last = watched_until(stretch, run.demand)
    rows = slice(stretch.first - run.first, last - run.first)

    def of(values: Mapping[str, Floats]) -> dict[str, Floats]:
        return {role: one[rows] for role, one in values.items()}

    return _Watched(
        chance[rows], run.demand.scored[stretch.first : last], of(run.log.desired), of(run.log.ready),
        of(run.log.queued), stretch.last - stretch.first,
    )  # fmt: skip


def struck(
    run: Run,
    faults: Sequence[Fault],
    stretches: Sequence[FaultRows],
    controls: Sequence[int] | None = None,
) -> Iterator[Hit]:
    """Let a run pass undisturbed up to the last stretch and, from some time before each, under every fault.

    Only ``controls`` are struck, by number; None for all.

    Stretches are run in step, side by side, where nothing but the time tells them apart: what costs time is a
    row of a run, not a lane of it.

    Yields
    ------
    Hit
        Each stretch under the faults as far as it is watched, in the order given.
    """
    found: dict[FaultRows, Hit] = {}
    together: dict[object, list[tuple[FaultRows, Run]]] = {}
    for stretch in stretches:
        begin = _begin(stretch, run.demand)
        run.advance(begin)
        branch = run.branch(1, begin, Strike(), controls)
        together.setdefault(_alike(stretch, run), []).append((stretch, branch))
    lanes = run.lanes if controls is None else len(controls)
    most = max(1, LANES_IN_STEP // max(1, len(faults) * lanes))
    for group in together.values():
        for number in range(0, len(group), most):
            found |= {hit.stretch: hit for hit in _in_step(group[number : number + most], faults)}
    yield from (found[stretch] for stretch in stretches)


def _begin(stretch: FaultRows, demand: DemandTrace) -> int:
    """Return the row from which a stretch is run under faults: a clock that is late has what it shows."""
    return max(0, stretch.first - rows_of(SKEW_S, demand.window_s))


def _alike(stretch: FaultRows, run: Run) -> object:
    """Return what stretches have in common that can be run in step; one that can't has it for itself.

    In the rows of one there is no gap, and as much has passed before it as any reading looks back.
    """
    demand, begin = run.demand, _begin(stretch, run.demand)
    last = watched_until(stretch, demand)
    rows = slice(max(0, begin - 1), last)
    even = np.allclose(np.diff(demand.t_s[rows]), demand.window_s)
    if demand.gap[rows].any() or not even or begin < run.readings.reach_rows:
        return stretch
    return stretch.first - begin, stretch.last - begin, last - begin


def _in_step(group: Sequence[tuple[FaultRows, Run]], faults: Sequence[Fault]) -> Iterator[Hit]:
    """Strike the lanes of runs at the starts of their stretches, all at once."""
    first, run = group[0]
    run = run.beside([other for _, other in group[1:]]) if len(group) > 1 else run
    last = watched_until(first, run.demand)
    strike = FaultStrike(faults, first, run)
    hit = run.branch(len(faults), last, strike)
    hit.advance(last)
    for stretch, _ in group:
        ahead = stretch.first - first.first
        own = np.flatnonzero(hit.ahead == ahead)
        yield Hit(
            stretch, run.demand, run.model, hit.log.take(own), hit.first + ahead, hit.order[own],
            strike.of_lane[own],
        )  # fmt: skip


def fault_shares(
    run: Run, faults: Sequence[Fault], places: int = PLACES, controls: Sequence[int] | None = None
) -> Floats:
    """Return the mean chance of violating of each control under each fault, shape (controls, faults).

    The run passes up to the last hour that faults are tried at. NaN where no pool has a capacity, and of
    controls that are not struck: ``controls`` are the numbers of those that are, None for all. See
    `FaultOutcome.slo_violation_ratio`.
    """
    stretches = steep_stretches(run.demand, run.model, places)
    total = np.full((run.lanes, len(faults)), math.nan)
    total[slice(None) if controls is None else list(controls)] = 0.0
    for hit in struck(run, faults, stretches, controls):
        total[hit.order, hit.of_lane] += _watch(hit, _chances(hit), hit.stretch).shares()
    return total / len(stretches)


def replay_faults(
    policies: Mapping[str, Control],
    demand: DemandTrace,
    model: FleetModel,
    faults: Sequence[Fault] = FAULTS,
) -> tuple[FaultOutcome, ...]:
    """Replay each policy under each fault, and undisturbed.

    Parameters
    ----------
    policies
        Policies, autoscalers or schedules by name.
    demand
        One capture; faults hit ``steep_stretches`` of it, each by itself.
    model
        The fleet.
    faults
        Rows of ``FAULTS``.

    Returns
    -------
    tuple
        Per policy in the order given: first the row ``none``, then one per fault.
    """
    stretches = steep_stretches(demand, model)
    known = any(pool.capacity is not None for pool in model.pools.values())
    run = Run(tuple(policies.values()), demand, model)
    hits: dict[tuple[int, str], list[_Watched]] = {}
    for hit in struck(run, faults, stretches) if faults else ():
        watched = _watch(hit, _chances(hit), hit.stretch)
        for lane, control in enumerate(hit.order.tolist()):
            name = faults[hit.of_lane[lane]].name
            hits.setdefault((control, name), []).append(watched.lane(lane))
    run.advance(demand.rows)
    chance, calm = _chances(run), dict[int, list[_Watched]]()
    for stretch in stretches:
        watched = _watch(run, chance, stretch)
        for lane, control in enumerate(run.order.tolist()):
            calm.setdefault(control, []).append(watched.lane(lane))
    outcomes = []
    for number, name in enumerate(policies):
        usual = calm[number]
        outcomes.append(_outcome(name, NO_FAULT, usual, usual, demand.window_s, known=known))
        for fault in faults:
            found = hits[number, fault.name]
            outcomes.append(_outcome(name, fault, found, usual, demand.window_s, known=known))
    return tuple(outcomes)


def _outcome(
    name: str,
    fault: Fault,
    hits: Sequence[_Watched],
    usual: Sequence[_Watched],
    window_s: float,
    *,
    known: bool,
) -> FaultOutcome:
    shares = [share for hit in hits if not math.isnan(share := float(hit.shares()[0]))]
    rows = [hit.recovery_rows(calm.chance[:, 0]) for hit, calm in zip(hits, usual, strict=True)]
    recovered = None if None in rows or not known else max(one for one in rows if one is not None) * window_s
    return FaultOutcome(
        name,
        fault.name,
        len(hits),
        sum(shares) / len(shares) if shares else None,
        max(shares, default=None),
        _fewest([hit.desired for hit in hits], hits[0].hit_rows),
        _fewest([hit.ready for hit in hits], hits[0].hit_rows),
        recovered,
        max(sum(float(queue[-1, 0]) for queue in hit.queued.values()) for hit in hits),
    )


def _fewest(counts: Sequence[Mapping[str, Floats]], rows: int) -> dict[str, float]:
    """Return the fewest instances in the fault, per pool."""
    return {role: min(float(np.nanmin(one[role][:rows])) for one in counts) for role in counts[0]}

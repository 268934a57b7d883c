"""The fleet as a fluid: pools that start late, serve up to a ceiling, queue the rest, and hand work on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.special import digamma

from hs_analysis.controllers.lanes import some
from hs_analysis.policy.build import work_target
from hs_analysis.replay.constants import (
    CARRIED,
    CARRIED_COUNT_QUANTILE,
    CEILING_OVER_CAPACITY,
    FULLEST,
    NEAR_CAPACITY,
    SLOPE_RANGE,
)
from hs_analysis.replay.demand import Key, demands
from hs_analysis.replay.queue_attribution import FIRST_TOKEN_FROM_DECODE, Waits, fit_waits
from hs_analysis.replay.signals import (
    SignalModel,
    batch_limit,
    fit_signals,
    to_ceiling,
    tokens_per_request,
    work_signal,
)
from hs_analysis.schema.aligned import LATENCIES, ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import BACKLOG_S, GRACE_S, STARTUP_S, VIOLATION_SLOPE
from hs_analysis.schema.results import Capacity, Derived
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.queueing import size_factor, steepness_factor


def max_throughput(
    history: ServiceFrame, capacity: Capacity | None, role: str, signals: Mapping[Key, SignalModel]
) -> float:
    """Return the highest rate at which an instance of a pool is taken to serve [tokens/s].

    The highest work per instance of any row, at least the upper end of capacity and a little more. A floor
    says where the load ended, not where a queue begins: there it is at least what the latencies say an
    instance can do, ``by_latency``. Infinite when nothing is known.

    Parameters
    ----------
    history
        What is learnt from.
    capacity
        Of the pool; None when nothing was derived.
    role
        prefill, decode or mixed.
    signals
        Curves of the same history (``fit_signals``).
    """
    highest = -math.inf
    signal = work_signal(history, role)
    for part in demands(history) if signal else ():
        with np.errstate(invalid="ignore", divide="ignore"):
            per_instance = part.column(signal, role) / part.column("instances", role)
        finite = per_instance[np.isfinite(per_instance)]
        highest = max(highest, float(finite.max())) if finite.size else highest
    if capacity is not None and capacity.per_instance:
        upper = capacity.ci[1] if capacity.ci else capacity.per_instance
        highest = max(highest, CEILING_OVER_CAPACITY * upper)
        if capacity.status == "floor":
            highest = max(highest, throughput_by_latency(history, role, signals))
    return highest if highest > 0 else math.inf


def throughput_by_latency(history: ServiceFrame, role: str, signals: Mapping[Key, SignalModel]) -> float:
    """Return what latencies far below their limit say an instance can serve [tokens/s]; 0 when nothing.

    Prefill: one prompt after the other, each in the time to first token of the lowest load. That time holds
    more than the computation, so the true rate is higher. Decode: the load at which its batch grows without
    end (``batch_limit``), less a little. A pool that does both has neither law.
    """
    for (signal, _), curve in signals.items():
        if curve.kind != "curve" or curve.pool != role:
            continue
        if signal == "ttft" and role == "prefill" and curve.values[0] > 0:
            return (tokens_per_request(demands(history), role) or 0.0) / curve.values[0]
        if signal == "tbt" and role == "decode":
            return FULLEST * (batch_limit(curve) or 0.0)
    return 0.0


@dataclass(frozen=True)
class PoolModel:
    """How one pool behaves.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    capacity
        Work per instance at which the SLO just holds [tokens/s]; None when it was refused.
    status
        ``ok``; ``floor`` = capacity is at least this, so that violations are over-predicted; ``refused``.
    slope
        Steepness of ln odds of violation in ln(load ÷ capacity).
    max_throughput
        Most an instance can serve, whatever the latency [tokens/s]; infinite when nothing is known.
    startup_s
        From asking for an instance to its first request [s].
    startup_from
        What gives ``startup_s``: ``settings``, ``measured`` or ``default``.
    judged
        Latencies with an SLO limit that this pool answers for; empty when none.
    target
        Work per instance to steer to [tokens/s]; None when unknown.
    drain_s
        How long an instance that leaves is paid for, on average: until its requests end or its grace period
        does [s].
    reference
        Instances of the pool whose capacity was measured, or that carried the floor, where capacity depends
        on the size (prefill); else None.
    """

    role: str
    capacity: float | None
    status: str
    slope: float
    max_throughput: float
    startup_s: float
    startup_from: str
    judged: tuple[str, ...]
    target: float | None
    reference: float | None = None
    drain_s: float = 0.0


@dataclass(frozen=True)
class FleetModel:
    """The pools of a service, how its signals answer to load, and the SLO's ``allowed`` share of windows.

    ``instance_prices`` are those of an instance-hour per role, of roles whose GPUs and their price are known.
    ``waits`` says which latency holds the wait of which pool, ``seed`` how rows that are recorded as
    a whole came in parts.
    """

    pools: dict[str, PoolModel]
    signals: dict[Key, SignalModel]
    allowed: float
    gpus_per_instance: dict[str, float] = field(default_factory=dict)
    instance_prices: dict[str, float] = field(default_factory=dict)
    waits: Waits = field(default_factory=lambda: FIRST_TOKEN_FROM_DECODE)
    seed: int = 0


def fit_fleet(history: ServiceFrame, derived: Derived, settings: Settings) -> FleetModel:
    """Learn the fleet from one window: nothing outside ``history`` and what was derived from it is used.

    Prices are left out: only what is shown of a replay has a cost.
    """
    signals = fit_signals(history)
    pools = {role: _pool(history, derived, role, settings, signals) for role in history.pools}
    measured = "decode" in pools and pools["decode"].status == "ok"
    waits = fit_waits(history, signals, measured=measured)
    for key, curve in signals.items():
        if key[0] == "tbt" and curve.pool == "decode":
            signals[key] = to_ceiling(curve, pools["decode"].max_throughput)
    gpus = dict(history.gpus_per_instance)
    return FleetModel(pools, signals, settings.slo.allowed_window_share, gpus, {}, waits, settings.seed)


def instance_prices(history: ServiceFrame, prices: Mapping[str, float]) -> dict[str, float]:
    """Return the price of an instance-hour per role: GPUs of an instance × price of a GPU-hour.

    A role on GPU types of several prices has none: which of them a policy would add is not known.
    """
    found = {}
    for role, gpus in history.gpus_per_instance.items():
        per_gpu = {prices.get(kind) for kind in history.gpu_types.get(role, ())}
        if len(per_gpu) == 1 and (price := per_gpu.pop()) is not None:
            found[role] = gpus * price
    return found


def _pool(
    history: ServiceFrame,
    derived: Derived,
    role: str,
    settings: Settings,
    signals: Mapping[Key, SignalModel],
) -> PoolModel:
    capacity = derived.capacity_of(role)
    value = capacity.per_instance if capacity and capacity.status != "refused" else None
    slope = (
        min(max(capacity.slope, SLOPE_RANGE[0]), SLOPE_RANGE[1])
        if capacity and capacity.slope
        else VIOLATION_SLOPE
    )
    return PoolModel(
        role,
        value,
        capacity.status if capacity and value else "refused",
        slope,
        max_throughput(history, capacity, role, signals),
        *_startup(derived, role, settings),
        tuple(name for name in LATENCIES[role] if settings.slo.limit_s(name) is not None),
        work_target(derived, role, settings),
        _reference(history, role, value, floor=capacity is not None and capacity.status == "floor"),
        drain_s(history, role, settings),
    )


def _startup(derived: Derived, role: str, settings: Settings) -> tuple[float, str]:
    """Return the start-up time [s] and what gives it: the user, else the dump, else the default."""
    if role in settings.startup_s:
        return settings.startup_s[role], "settings"
    measured = derived.measured_startup_s.get(role)
    return (STARTUP_S, "default") if measured is None else (measured, "measured")


def drain_s(history: ServiceFrame, role: str, settings: Settings) -> float:
    """Return how long an instance that leaves is paid for [s]: until the last of its requests ends.

    Requests in a prefill pool end with their first token, in others with their last. Where their lengths are
    taken as exponential the last of n ends after their mean × (1 + 1/2 + … + 1/n); n is Little's, requests
    in the pool ÷ instances, over the windows in which all is known. No pod outlives its grace period, which
    also stands in where that time is not recorded.
    """
    grace_s = settings.grace_s.get(role, GRACE_S)
    signal = "ttft" if role == "prefill" else "e2e_latency"
    owner = "service" if history.has(signal, "service") else role
    mean_s, rate = history.values(signal, owner), history.values("request_rate", "service")
    with np.errstate(invalid="ignore", divide="ignore"):
        running = rate * mean_s / history.values("instances", role)
    known = np.isfinite(running) & np.isfinite(mean_s)
    if not known.any():
        return grace_s
    last_s = mean_s[known] * (digamma(np.maximum(running[known], 1.0) + 1.0) + np.euler_gamma)
    return float(min(grace_s, last_s.mean()))


def _reference(history: ServiceFrame, role: str, capacity: float | None, *, floor: bool) -> float | None:
    """Return the mean recorded count near the limit, else of all rows; prefill pools only.

    Of a floor, a small one of the counts that carried it: a pool that moved may have carried it at any size.
    """
    if role != "prefill" or capacity is None:
        return None
    counts = [part.column("instances", role) for part in demands(history)]
    with np.errstate(invalid="ignore", divide="ignore"):
        loads = [part.offered[role] / n for part, n in zip(demands(history), counts, strict=True)]
    count, load = np.concatenate(counts), np.concatenate(loads)
    seen = np.isfinite(count) & (count > 0)
    near = seen & (load >= (CARRIED if floor else NEAR_CAPACITY) * capacity)
    chosen = count[near] if near.any() else count[seen]
    if not chosen.size:
        return None
    return float(np.quantile(chosen, CARRIED_COUNT_QUANTILE) if floor else chosen.mean())


def log_odds(allowed: float) -> float:
    """Return the log odds of violating at capacity: those of the allowed share, of 5 % where it is 0 or 1."""
    share = allowed if 0 < allowed < 1 else Slo.allowed_window_share
    return math.log(share / (1 - share))


def violation_probability(
    load: Floats, age_s: Floats, pool: PoolModel, allowed: float, ready: Floats | None = None
) -> Floats:
    """Return the expected share of violating windows of a pool, per row.

    logistic(slope · ln(load ÷ capacity) + logit(allowed)): the allowed share at capacity; 1 while the backlog
    is older than a second. A prefill pool smaller than the one measured has less capacity an instance and a
    flatter law (``statistics.queueing``).

    Parameters
    ----------
    load
        Work per ready instance, ``answering_load`` [tokens/s], shape (rows,); infinite if none is ready.
    age_s
        Oldest backlog that the pool's latency waits for in the row [s], shape (rows,).
    pool
        Its capacity and slope; without a capacity only the backlog speaks.
    allowed
        Share of windows allowed at capacity [ratio].
    ready
        Instances able to serve, shape (rows,); without them the size of the pool is not looked at.

    Returns
    -------
    ndarray
        Shape (rows,), 0..1; NaN where the load is NaN or the capacity unknown and no backlog speaks.
    """
    if pool.capacity is None:
        return np.where(age_s > BACKLOG_S, 1.0, np.nan)
    odds = log_odds(allowed)
    capacity, slope = np.full_like(load, pool.capacity), np.full_like(load, pool.slope)
    if ready is not None:
        capacity = capacity * size_factor(ready, pool.reference)
        slope = slope * steepness_factor(ready, pool.reference)
    with np.errstate(divide="ignore", over="ignore"):
        exponent = np.clip(-(slope * np.log(load / capacity) + odds), -700.0, 700.0)
        probability = 1.0 / (1.0 + np.exp(exponent))
    return np.where(age_s > BACKLOG_S, 1.0, probability)


def _take_latest(rows: Floats, counts: Floats) -> Floats:
    """Take counts out of rows, shape (rows, lanes), the latest first; return what was not in them."""
    if not some(rows != 0):
        return counts
    later = np.cumsum(rows, axis=0) - rows
    went = np.clip(counts - later, 0.0, rows)
    rows -= went
    left: Floats = counts - went.sum(axis=0)
    return left


class PoolLanes:
    """One pool of every lane while time runs: what is asked for, starts, is ready, and waits to be served.

    All state is of shape (lanes,), but for ``starting``, shape (rows that a start takes + 1, lanes): what was
    launched in this row comes first, and ``leaving``, shape (rows that leaving takes, lanes): what was ready
    and was taken out in this row comes first. Removal takes what waits for stock, then the latest that
    starts, then what is ready. Restored instances never stopped running, so that they are ready at once. What
    there is no ``stock`` for is ``pending`` and starts as soon as there is some; what is launched while a
    lane is ``blocked`` is ``stuck`` until `restart`. Counts change at the start of a row alone.
    """

    def __init__(self, model: PoolModel, counts: Floats, window_s: float, steps: int) -> None:
        self.model, self.window_s = model, window_s
        took = math.ceil(model.startup_s * steps / window_s - 1e-9)
        self.rows_to_start, self.step_to_start = divmod(took, steps)
        lanes = counts.size
        self.desired, self.ready = counts.copy(), counts.copy()
        self.starting = np.zeros((self.rows_to_start + 1, lanes))
        rows_to_leave = max(1, math.ceil(model.drain_s / window_s - 1e-9))
        self.leaving = np.zeros((rows_to_leave, lanes))
        self.paid_share = np.clip(model.drain_s / window_s - np.arange(rows_to_leave), 0.0, 1.0)
        self.pending, self.stuck, self.backlog = (np.zeros(lanes) for _ in range(3))
        self.stock = np.full(lanes, math.inf)
        self.blocked = np.zeros(lanes, bool)

    def take(self, lanes: Integers) -> Self:
        """Return a pool in the state that this one has in some lanes, which goes its own way from here."""
        other = copy(self)
        for name in ("desired", "ready", "pending", "stuck", "backlog", "stock", "blocked"):
            setattr(other, name, getattr(self, name)[lanes])
        other.starting, other.leaving = (
            np.take(rows, lanes, axis=1) for rows in (self.starting, self.leaving)
        )
        return other

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of this pool, then those of others in states of their own."""
        joined = copy(self)
        for name in (
            "desired", "ready", "pending", "stuck", "backlog", "stock", "blocked", "starting", "leaving",
        ):  # fmt: skip
            parts = [getattr(one, name) for one in (self, *others)]
            setattr(joined, name, np.concatenate(parts, axis=-1))
        return joined

    def paid(self, observed: Floats) -> Floats:
        """Return the instances paid for in this row: running, starting, and those that leave.

        ``observed`` are those taken out that run on under observation: their requests end meanwhile.
        """
        leaving: Floats = self.paid_share @ self.leaving
        return self.desired - self.pending + np.maximum(observed, leaving)

    def begin_row(self) -> None:
        """Let the time of a row pass for what starts; what was due before is ready."""
        if some(self.starting != 0):
            self.ready += self.starting[-1]
            self.starting[1:] = self.starting[:-1].copy()
            self.starting[0] = 0.0
        if some(self.leaving != 0):
            self.leaving[1:] = self.leaving[:-1].copy()
            self.leaving[0] = 0.0

    def ask(self, counts: Floats, restored: Floats | None = None) -> None:
        """Change the counts asked for; ``restored`` of an increase are ready at once."""
        change = counts - self.desired
        if not some(change != 0):
            return
        more = np.maximum(change, 0.0)
        if restored is not None:
            back = np.minimum(restored, more)
            self.ready += back
            more -= back
            _take_latest(self.leaving, back)
        self.pending += more
        self._remove(np.maximum(-change, 0.0))
        self.desired = counts.copy()
        self.launch()

    def lose(self, counts: Floats) -> None:
        """Lose running instances; those asked for are started anew."""
        lost = np.minimum(counts, self.ready)
        self.ready -= lost
        self.pending += lost
        self.launch()

    def restart(self, lanes: Mask) -> None:
        """Start anew what would never become ready."""
        self.pending += np.where(lanes, self.stuck, 0.0)
        self.stuck = np.where(lanes, 0.0, self.stuck)
        self.launch()

    def hold(self, counts: Floats, lanes: Integers) -> None:
        """Set counts of some lanes that are known to be running already, as recorded ones are."""
        for values in (self.desired, self.ready):
            values[lanes] = counts
        for values in (self.pending, self.stuck):
            values[lanes] = 0.0
        for rows in (self.starting, self.leaving):
            rows[:, lanes] = 0.0

    def launch(self) -> None:
        """Start what waits and finds stock."""
        if not some(self.pending != 0):
            return
        running = self.ready + self.starting.sum(axis=0) + self.stuck
        started = np.minimum(self.pending, np.maximum(0.0, self.stock - running))
        self.pending -= started
        self.stuck += np.where(self.blocked, started, 0.0)
        self.starting[0] += np.where(self.blocked, 0.0, started)

    def _remove(self, counts: Floats) -> None:
        for waits in (self.pending, self.stuck):
            gone = np.minimum(counts, waits)
            np.subtract(waits, gone, out=waits)
            counts = counts - gone
        counts = _take_latest(self.starting, counts)
        self.ready -= counts
        self.leaving[0] += counts

    def become_ready(self, step: int) -> None:
        """Make ready what has started by a step of the row."""
        if step == self.step_to_start:
            self.ready += self.starting[-1]
            self.starting[-1] = 0.0

    def serve(self, arriving: Floats, seconds: float) -> tuple[Floats, Floats]:
        """Take in tokens, serve what fits, queue the rest.

        Returns
        -------
        tuple
            Tokens served, and those that waited to be, shape (lanes,) each.
        """
        waiting = self.backlog + arriving
        served = np.minimum(waiting, self.room(seconds))
        self.backlog = waiting - served
        return served, waiting

    def room(self, seconds: float) -> Floats:
        """Return the most that can be served [tokens], shape (lanes,)."""
        if math.isinf(self.model.max_throughput):
            return np.where(self.ready > 0, math.inf, 0.0)
        return self.ready * (self.model.max_throughput * seconds)

    def is_calm(self, arriving: Floats, seconds: float) -> bool:
        """Say whether in no lane anything waits, becomes ready in this row, or would have to wait."""
        if some(self.backlog != 0) or some(self.starting[-1] != 0):
            return False
        return not some(arriving > self.room(seconds))

    def age_s(self) -> Floats:
        """Return how long the queue takes to serve [s], shape (lanes,); infinite when nothing is ready."""
        rate = self.ready * self.model.max_throughput
        age = np.divide(self.backlog, rate, out=np.full_like(rate, math.inf), where=rate > 0)
        return np.where(self.backlog > 0, age, 0.0)

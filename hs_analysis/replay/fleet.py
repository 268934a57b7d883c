"""The fleet as a fluid: pools that start late, serve up to a ceiling, queue the rest, and hand work on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.policy.build import work_target
from hs_analysis.replay.ceilings import ceiling
from hs_analysis.replay.constants import CARRIED, CARRIED_COUNT_QUANTILE, NEAR_CAPACITY, SLOPE_RANGE
from hs_analysis.replay.demand import Floats, Key, demands
from hs_analysis.replay.signals import SignalModel, fit_signals, to_ceiling
from hs_analysis.replay.waiting import FIRST_TOKEN_FROM_DECODE, Waits, fit_waits
from hs_analysis.schema.aligned import LATENCIES, ServiceFrame
from hs_analysis.schema.constants import BACKLOG_S, STARTUP_S, VIOLATION_SLOPE
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.queueing import size_factor, steepness_factor


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
    ceiling
        Most an instance can serve, whatever the latency [tokens/s]; infinite when nothing is known.
    start_up_s
        From asking for an instance to its first request [s].
    start_up_from
        What gives ``start_up_s``: ``settings``, ``measured`` or ``default``.
    judged
        Latencies with an SLO limit that this pool answers for; empty when none.
    target
        Work per instance to steer to [tokens/s]; None when unknown.
    reference
        Instances of the pool whose capacity was measured, or that carried the floor, where capacity depends
        on the size (prefill); else None.
    """

    role: str
    capacity: float | None
    status: str
    slope: float
    ceiling: float
    start_up_s: float
    start_up_from: str
    judged: tuple[str, ...]
    target: float | None
    reference: float | None = None


@dataclass(frozen=True)
class FleetModel:
    """The pools of a service, how its signals answer to load, and the SLO's ``allowed`` share of windows.

    ``instance_prices`` are those of an instance-hour per role, of roles whose GPUs and their price are known.
    ``waits`` says which latency holds the wait of which pool.
    """

    pools: dict[str, PoolModel]
    signals: dict[Key, SignalModel]
    allowed: float
    gpus_per_instance: dict[str, float] = field(default_factory=dict)
    instance_prices: dict[str, float] = field(default_factory=dict)
    waits: Waits = field(default_factory=lambda: FIRST_TOKEN_FROM_DECODE)


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
            signals[key] = to_ceiling(curve, pools["decode"].ceiling)
    gpus = dict(history.gpus_per_instance)
    return FleetModel(pools, signals, settings.slo.allowed_window_share, gpus, waits=waits)


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
        ceiling(history, capacity, role, signals),
        *_start_up(derived, role, settings),
        tuple(name for name in LATENCIES[role] if settings.slo.limit_s(name) is not None),
        work_target(derived, role, settings),
        _reference(history, role, value, floor=capacity is not None and capacity.status == "floor"),
    )


def _start_up(derived: Derived, role: str, settings: Settings) -> tuple[float, str]:
    """Return the start-up time [s] and what gives it: the user, else the dump, else the default."""
    if role in settings.startup_s:
        return settings.startup_s[role], "settings"
    measured = derived.measured_startup_s.get(role)
    return (STARTUP_S, "default") if measured is None else (measured, "measured")


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


class Pool:
    """State of one pool while time runs: instances asked for, starting, ready, and the work in its queue.

    Ready instances are the least of those asked for over the last start-up time: removal takes the latest
    still-starting instance first. Restored instances never stopped running, so they are ready at once. What
    there is no ``stock`` for waits (``pending``) and starts as soon as there is some.
    """

    def __init__(self, model: PoolModel, count: float) -> None:
        self.model = model
        self.desired = self.ready = count
        self.starting: list[tuple[float, float]] = []
        self.pending = 0.0
        self.stock = math.inf
        self.start_up_s = model.start_up_s
        self.backlog = 0.0

    def copy(self) -> Pool:
        """Return a pool in the same state, which goes its own way from here."""
        other = copy(self)
        other.starting = list(self.starting)
        return other

    def ask(self, count: float, t_s: float, restored: float = 0.0) -> None:
        """Change the count asked for; ``restored`` of an increase are ready at once."""
        change = count - self.desired
        if change > 0:
            self.ready += min(restored, change)
            self.pending += max(0.0, change - restored)
            self._launch(t_s)
        elif change < 0:
            self._remove(-change)
        self.desired = count

    def lose(self, count: float, t_s: float) -> None:
        """Lose running instances; those asked for are started anew."""
        lost = min(count, self.ready)
        self.ready -= lost
        self.pending += lost
        self._launch(t_s)

    def restart(self, t_s: float) -> None:
        """Start anew what would never become ready."""
        self.pending += sum(count for at, count in self.starting if math.isinf(at))
        self.starting = [entry for entry in self.starting if math.isfinite(entry[0])]
        self._launch(t_s)

    def hold(self, count: float) -> None:
        """Set counts that are known to be running already, as recorded ones are."""
        self.desired = self.ready = count
        self.pending = 0.0
        self.starting.clear()

    def advance(self, t_s: float) -> None:
        """Make ready what has started by now, and start what now finds stock."""
        while self.starting and self.starting[0][0] <= t_s + 1e-9:
            self.ready += self.starting.pop(0)[1]
        if self.pending:
            self._launch(t_s)

    def _launch(self, t_s: float) -> None:
        running = self.ready + sum(n for _, n in self.starting) if math.isfinite(self.stock) else 0.0
        started = min(self.pending, max(0.0, self.stock - running))
        if started > 0:
            self.pending -= started
            self.starting.append((t_s + self.start_up_s, started))
            if len(self.starting) > 1 and self.starting[-1][0] < self.starting[-2][0]:
                self.starting.sort()

    def _remove(self, count: float) -> None:
        """Take what waits first, then the latest that starts, then what is ready."""
        waiting = min(count, self.pending)
        self.pending -= waiting
        count -= waiting
        while count > 0 and self.starting:
            at, last = self.starting.pop()
            if last > count:
                self.starting.append((at, last - count))
            count = max(0.0, count - last)
        self.ready -= count

    def serve(self, arriving: float, seconds: float) -> tuple[float, float]:
        """Take in tokens, serve what fits, queue the rest.

        Returns
        -------
        tuple
            Tokens served, and the share of all waiting tokens that this was (1 when nothing waited).
        """
        waiting = self.backlog + arriving
        served = min(waiting, self.room(seconds))
        self.backlog = waiting - served
        return served, served / waiting if waiting > 0 else 1.0

    def room(self, seconds: float) -> float:
        """Return the most that can be served [tokens]."""
        if math.isinf(self.model.ceiling):
            return math.inf if self.ready > 0 else 0.0
        return self.ready * self.model.ceiling * seconds

    def is_calm(self, until_s: float) -> bool:
        """Say whether nothing waits, for service or for stock, and nothing becomes ready until then."""
        starting = bool(self.starting) and self.starting[0][0] <= until_s + 1e-9
        return not (self.backlog or self.pending or starting)

    def age_s(self) -> float:
        """Return how long the queue takes to serve [s]; infinite when work waits and nothing is ready."""
        if self.backlog <= 0:
            return 0.0
        rate = self.ready * self.model.ceiling
        return self.backlog / rate if rate > 0 else math.inf

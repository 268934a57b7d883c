"""HeteroScale's rule: one signal sizes a pool in proportion, a ratio sizes the other, guards add and veto.

Proportional control after HeteroScale (arXiv:2508.19559, section on scaling policies). Growth follows the
newest reading, shrinking the highest of the last minutes: what freezes or delays one mean in both directions
holds a shortage. The rule sizes on the instances asked for, so that those which are still starting count. All
constants are parameters, none is in the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from hs_analysis.controllers.hpa import Operand, Surge
from hs_analysis.controllers.lanes import (
    BLIND,
    BOUND,
    DISABLED,
    GPU_LIMIT,
    GROWS,
    GUARD,
    HOLDS,
    MISSING,
    NO_PLAN,
    NOTHING,
    ON_HOLD,
    PLANNED,
    RATIO,
    RESTORED,
    RESTS,
    ROUNDING,
    SHRINKS,
    STEP_LIMIT,
    VETOED,
    ByLane,
    Fleet,
    Key,
    Orders,
    PerLane,
    PoolOrders,
    Scraped,
    documented,
    key_of,
    round_up,
    some,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.clock import UTC_NAME, WEEK_MINUTES, minute_of_week, wall_clock_s
from hs_analysis.schema.constants import DAY_S, HOUR_S
from hs_analysis.schema.declare import Field

Mode = Literal["metric", "periodic", "hold"]

PAPER = "HeteroScale, arXiv:2508.19559"
MEASURED = "measured on simulated services (hsa help capacity)"


SLACK_GPUS = 1e-9
"""What a sum of GPUs may lie above its limit [GPUs]: shares of a GPU add up in floating point."""


@dataclass(frozen=True)
class GpuLimit:
    """GPUs that all pools of a service may hold together.

    Attributes
    ----------
    limit
        Most GPUs of the service.
    per_instance
        GPUs of an instance, per role of every pool.
    most
        Most instances per role where pools are scaled together: what the others leave at their least.
    """

    limit: Annotated[int, Field("most GPUs of the service", "GPUs")]
    per_instance: Annotated[Mapping[str, float], Field("GPUs of an instance, by role", "GPUs", above=0)]
    most: Annotated[
        Mapping[str, int],
        Field("most instances by role where pools are scaled together", "instances"),
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class LatencyGuard:
    """A latency that may add instances to a pool and forbid removal, never size it.

    Attributes
    ----------
    signal, role
        The reading [s].
    limit_s
        Its limit [s]; infinite where nothing is watched.
    tiers
        (above [× limit], share of the pool that is added): the largest share whose tier is passed counts.
    """

    signal: str
    role: str
    limit_s: float
    tiers: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PoolRule:
    """How one pool is scaled.

    Attributes
    ----------
    signal
        What sizes it; empty for a pool that follows the ratio or that nothing sizes. ``signal@role`` is the
        reading of another pool.
    target
        What one instance should carry [unit of the signal].
    adds_up
        ``sum``: the signal is a pool total, total ÷ target instances. ``mean``: it is a mean over instances,
        those that report × mean ÷ target.
    scale_out_ratio, scale_in_ratio
        Out above the first, in below the second [wanted ÷ current].
    rest_out_s
        Rest before a scale-out, from the last one [s].
    rest_in_s
        Rest before a scale-in, from the last action of either direction [s]; None = scale-in is off.
    dampening
        Share of the wanted change that one action takes [ratio].
    max_out_fraction, max_in_fraction
        Largest share of the pool that one action adds or removes, one instance at least; None = no limit.
    least, most
        Bounds [instances]; ``most`` None = none.
    start_up_s
        From asking for an instance to its first request [s]: so long a guard waits for what was asked for.
    guards
        Latencies that speak of this pool.
    others
        More readings that are added to the signal, in units of it.
    is_strict
        Whether a pool that stands above ``most`` comes down to it at once, as a limit of the user's own asks;
        else it keeps its count until the signal asks for less.
    """

    signal: str = ""
    target: float = float("nan")
    adds_up: Literal["sum", "mean"] = "sum"
    scale_out_ratio: float = field(default=1.05, metadata=documented("ratio", MEASURED))
    scale_in_ratio: float = field(default=0.8, metadata=documented("ratio", MEASURED))
    rest_out_s: float = field(default=0.0, metadata=documented("s", MEASURED))
    rest_in_s: float | None = field(default=300.0, metadata=documented("s", MEASURED))
    dampening: float = field(default=1.0, metadata=documented("ratio", "no dampening"))
    max_out_fraction: float | None = field(default=None, metadata=documented("ratio", MEASURED))
    max_in_fraction: float | None = field(default=None, metadata=documented("ratio", "no limit"))
    least: int = field(default=1, metadata=documented("instances", "one instance"))
    most: int | None = field(default=None, metadata=documented("instances", "no limit"))
    start_up_s: float = field(default=0.0, metadata=documented("s", "not known"))
    guards: tuple[LatencyGuard, ...] = ()
    others: tuple[Operand, ...] = ()
    is_strict: bool = field(default=False, metadata=documented("flag", "a guessed bound removes nothing"))


@dataclass(frozen=True)
class PoolWork:
    """The reading that holds a pool's work [tokens/s]."""

    signal: str
    role: str


NOT_FOLLOWED = math.nan
"""Factor of a mix that is not followed, in a lane beside others that follow one."""


@dataclass(frozen=True)
class ObservedMix:
    """The ratio that the newest mix needs: ``factor`` × prefill work ÷ decode work.

    ``factor`` is the decode work ÷ prefill work that one instance carries, and both works are means of the
    last ``over_s`` [s].
    """

    prefill: PoolWork
    decode: PoolWork
    factor: float
    over_s: float


@dataclass(frozen=True)
class RatioUpkeep:
    """The pool ``leader`` is sized by its signal, the other one by prefill ÷ decode.

    Attributes
    ----------
    leader
        The pool that is sized by its signal.
    value
        Prefill ÷ decode [instances per instance].
    max_deviation
        How far the ratio of the two may be off while the leader stays as it is.
    by_hour
        The ratio of each hour of the day by the clock of the zone, 24 values, in the place of ``value``;
        empty where it stands still.
    observed
        What the ratio follows; ``value`` where a reading is missing. None where it follows no reading.
    """

    leader: Literal["prefill", "decode"]
    value: float
    max_deviation: float = 0.0
    by_hour: tuple[float, ...] = ()
    observed: ObservedMix | None = None

    @property
    def follower(self) -> str:
        """The pool that follows."""
        return "prefill" if self.leader == "decode" else "decode"


@dataclass(frozen=True)
class HeteroScale:
    """HeteroScale's rule set up for one service.

    Attributes
    ----------
    pools
        Per role; a pool that is absent keeps its count.
    upkeep
        What keeps the ratio; None where each pool has a signal of its own, or no ratio is known.
    window_s, over_s
        Width of the reading that growth follows, and how far back the highest of them is taken for
        shrinking [s].
    observe_s
        How long instances taken out run on and may come back [s]; None = they end at once.
    mode
        ``metric``: follow the signals. ``periodic``: follow ``plan``. ``hold``: change nothing.
    plan
        Per role the count of each minute of the week from Monday 00:00, 10,080 values; NaN = keep it.
    zone
        Whose clock tells the minute (IANA name).
    gpus
        GPUs that the pools may hold together; None = no limit.
    surge
        When the signals are read over another width than ``window_s``; None = never.
    """

    pools: Mapping[str, PoolRule]
    upkeep: RatioUpkeep | None = None
    window_s: float = field(default=60.0, metadata=documented("s", MEASURED))
    over_s: float = field(default=300.0, metadata=documented("s", MEASURED))
    observe_s: float | None = field(default=None, metadata=documented("s", PAPER))
    mode: Mode = "metric"
    plan: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    zone: str = UTC_NAME
    gpus: GpuLimit | None = None
    surge: Surge | None = None


def structure(control: HeteroScale) -> Hashable:
    """Return what controls have to have in common to share a batch: all that is not a number."""
    if control.mode != "metric":
        return control.mode, control.zone, tuple(sorted(control.pools))
    pools = tuple(
        (
            role,
            pool.signal,
            tuple((g.signal, g.role, len(g.tiers)) for g in pool.guards),
            tuple((o.signal, o.averaging_s) for o in pool.others),
        )
        for role, pool in sorted(control.pools.items())
    )
    keeps = control.upkeep
    mix = keeps.observed if keeps else None
    read = (mix.prefill, mix.decode) if mix else ()
    return control.mode, control.zone, pools, keeps.leader if keeps else None, read


def follower_count(leader: str, leader_count: Floats, ratio: Floats) -> Floats:
    """Return the size of the other pool: ⌈D × ratio⌉ when decode leads, ⌈P ÷ ratio⌉ when prefill leads."""
    exact = leader_count * ratio if leader == "decode" else leader_count / ratio
    return np.maximum(1.0, round_up(exact))


def within_gpus(
    wanted: Mapping[str, Floats],
    kept: Mapping[str, Floats],
    gpus_per_instance: Mapping[str, Floats],
    limit: Floats,
) -> dict[str, Floats]:
    """Return wanted counts that hold no more GPUs than the limit: all pools give the same share of growth.

    Parameters
    ----------
    wanted
        Instances per role (whole numbers), shape (lanes,) each. What fits comes back as it is.
    kept
        Instances per role that no pool goes below; at most what is wanted. Where these alone are beyond the
        limit they come back.
    gpus_per_instance, limit
        GPUs of an instance per role, and of all pools, shape (lanes,) each.

    Returns
    -------
    dict
        Per role ⌊kept + share × (wanted − kept)⌋ with one share for all pools of a lane, then what the
        rounding left, one instance a pool in the order of ``wanted``.
    """
    growth = {role: count - kept[role] for role, count in wanted.items()}
    used = np.sum([kept[role] * gpus_per_instance[role] for role in wanted], axis=0)
    total = np.sum([growth[role] * gpus_per_instance[role] for role in wanted], axis=0)
    share = np.divide(limit - used, total, out=np.ones_like(total), where=total > 0)
    share = np.clip(share, 0.0, 1.0)
    counts = {role: kept[role] + np.floor(share * growth[role] + SLACK_GPUS) for role in wanted}
    held = np.sum([count * gpus_per_instance[role] for role, count in counts.items()], axis=0)
    for role, count in wanted.items():
        more = (counts[role] < count) & (held + gpus_per_instance[role] <= limit + SLACK_GPUS)
        counts[role] = counts[role] + more
        held = held + more * gpus_per_instance[role]
    return counts


def _limit(value: float | None) -> float:
    return np.inf if value is None else value


_NUMBERS: Mapping[str, Callable[[PoolRule], float]] = {
    "target": lambda pool: pool.target,
    "above": lambda pool: pool.scale_out_ratio,
    "below": lambda pool: pool.scale_in_ratio,
    "rest_out": lambda pool: pool.rest_out_s,
    "rest_in": lambda pool: _limit(pool.rest_in_s),
    "dampening": lambda pool: pool.dampening,
    "max_out": lambda pool: _limit(pool.max_out_fraction),
    "max_in": lambda pool: _limit(pool.max_in_fraction),
    "least": lambda pool: pool.least,
    "most": lambda pool: _limit(pool.most),
    "is_strict": lambda pool: pool.is_strict,
    "start_up": lambda pool: pool.start_up_s,
}
"""What a pool is in numbers; infinite where there is none: no limit, or a rest that never ends."""


class _Guard(PerLane):
    """One guard of all lanes."""

    def __init__(self, guards: Sequence[LatencyGuard]) -> None:
        self.key = (guards[0].signal, guards[0].role)
        self.limit = np.array([guard.limit_s for guard in guards])
        self.watches = np.isfinite(self.limit)
        self.above, self.add = (
            np.array([[tier[part] for tier in guard.tiers] for guard in guards]).reshape(len(guards), -1).T
            for part in (0, 1)
        )


class _Ratio(PerLane):
    """What keeps the ratio in all lanes; NaN where nothing does."""

    def __init__(self, controls: Sequence[HeteroScale]) -> None:
        ups = [c.upkeep for c in controls]
        hours = round(DAY_S / HOUR_S)
        self.zone = controls[0].zone
        self.value = np.array([up.value if up else np.nan for up in ups])
        self.deviation = np.array([up.max_deviation if up else 0.0 for up in ups])
        self.by_hour: Floats | None = None
        if any(up and up.by_hour for up in ups):
            self.by_hour = np.array([(up.by_hour or (up.value,) * hours) for up in ups if up], float).T
        mixes = [up.observed if up else None for up in ups]
        first = mixes[0]
        works = (first.prefill, first.decode) if first else ()
        self.keys = tuple((work.signal, work.role) for work in works)
        self.factor = np.array([one.factor if one else np.nan for one in mixes])
        self.over = ByLane([one.over_s if one else 0.0 for one in mixes])

    def now(self, fleet: Fleet) -> Floats:
        """Return prefill ÷ decode as it is to be kept, shape (lanes,)."""
        ratio = self.value
        if self.by_hour is not None:
            hour = (wall_clock_s(fleet.t_s, self.zone) % DAY_S // HOUR_S).astype(np.int64)
            ratio = self.by_hour[hour, np.arange(fleet.lanes)]
        if not self.keys:
            return ratio
        prefill, decode = (
            self.over.read(lambda over_s, key=key: fleet.scraped.mean(key, over_s)) for key in self.keys
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            observed = self.factor * prefill / decode
        return np.where((prefill > 0) & (decode > 0) & (self.factor > 0), observed, ratio)


class _Lanes(PerLane):
    """One pool of all lanes: its numbers, and what was done to it."""

    def __init__(self, pools: Sequence[PoolRule], role: str) -> None:
        self.key = key_of(pools[0].signal, role) if pools[0].signal else None
        self.role = role
        self.is_mean = np.array([pool.adds_up == "mean" for pool in pools])
        self.others = [
            (key_of(one.signal, role), one.averaging_s, np.array([p.others[n].weight for p in pools]))
            for n, one in enumerate(pools[0].others)
        ]
        self.guards = [_Guard(found) for found in zip(*(pool.guards for pool in pools), strict=True)]
        self.of = {name: np.array([read(p) for p in pools], float) for name, read in _NUMBERS.items()}
        self.last_out_s = np.full(len(pools), -np.inf)
        self.last_in_s = np.full(len(pools), -np.inf)
        self.draining = np.zeros(len(pools))
        self.since_s = np.full(len(pools), -np.inf)


@dataclass(slots=True)
class _Alarm:
    """The worst guard of a pool: latency ÷ limit (0 without), share to add (-inf without); one is unseen."""

    ratio: Floats
    add: Floats
    blind: Mask


class HeteroScaleBatch(PerLane):
    """HeteroScale's rule in many lanes.

    Order of a decision: size by the signals inside dead band, rests and step limits; keep the ratio; let
    guards add; restore instances under observation where a guard is over its limit; hold the bounds, and the
    GPUs of all pools together. A signal that is missing holds its pools: a guard may grow them, nothing
    shrinks them.
    """

    def __init__(self, controls: Sequence[HeteroScale]) -> None:
        first = controls[0]
        self._mode = first.mode
        self._zone = first.zone
        self._pools = {role: _Lanes([c.pools[role] for c in controls], role) for role in first.pools}
        self._leader = first.upkeep.leader if first.upkeep else None
        self._follower = first.upkeep.follower if first.upkeep else None
        self._ratio = _Ratio(controls)
        self._window = ByLane([c.window_s for c in controls])
        self._window_and_over = ByLane([c.window_s for c in controls], [c.over_s for c in controls])
        fresh = [c.surge or Surge(c.window_s, math.inf) for c in controls]
        read = [c.window_s for c in controls], [s.window_s for s in fresh], [s.above_ratio for s in fresh]
        self._reading, self._reading_over = ByLane(*read), ByLane(*read, [c.over_s for c in controls])
        self._surges = any(c.surge for c in controls)
        self._observe_s = np.array([np.nan if c.observe_s is None else c.observe_s for c in controls])
        self._observes = any(c.observe_s is not None for c in controls)
        self._shares_gpus = any(c.gpus for c in controls)
        self._gpus_limit = np.array([c.gpus.limit if c.gpus else np.inf for c in controls])
        self._gpus = {
            role: np.array([c.gpus.per_instance.get(role, 0.0) if c.gpus else 0.0 for c in controls])
            for role in first.pools
        }
        nothing = (np.nan,) * WEEK_MINUTES
        self._plans = {
            role: np.array([c.plan.get(role, nothing) for c in controls], float).T
            for role in (first.pools if first.mode == "periodic" else ())
        }

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        if self._mode != "metric":
            return ()
        found = [pool.key for pool in self._pools.values() if pool.key]
        found += [key for pool in self._pools.values() for key, *_ in pool.others]
        found += [guard.key for pool in self._pools.values() for guard in pool.guards]
        return tuple(dict.fromkeys([*found, *self._ratio.keys]))

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        if self._mode != "metric":
            return 0.0
        over_s = max(over_s for _, over_s in self._window_and_over.distinct)
        added = [over_s + range_s for pool in self._pools.values() for _, range_s, _ in pool.others]
        return float(max(self._window_and_over.longest_s, self._ratio.over.longest_s, *added))

    def step(self, fleet: Fleet) -> Orders:
        """Decide in every lane, and remember what was done."""
        pools = {role: self._pools[role] for role in fleet.desired if role in self._pools}
        alarms = {role: self._alarm(pool, fleet) for role, pool in pools.items()}
        asked: dict[str, PoolOrders] = {}
        if self._mode == "hold":
            asked = {role: _keep(fleet.desired[role], ON_HOLD) for role in pools}
        elif self._mode == "periodic":
            asked = {role: self._planned(role, fleet) for role in pools}
        else:
            self._by_signals(pools, alarms, asked, fleet)
            for role, pool in pools.items():
                if role not in asked:
                    asked[role] = _keep(fleet.desired[role], NOTHING)
                _guard_step(pool, alarms[role], fleet.t_s, fleet.desired[role], asked[role])
        for role, pool in pools.items():
            asked[role] = self._bounded(pool, alarms[role], asked[role], fleet)
        if self._shares_gpus:
            self._keep_gpus(pools, asked, fleet)
        orders = Orders({}, {}, {})
        for role, pool in pools.items():
            self._remember(pool, asked[role], fleet, orders)
        return orders

    def _by_signals(
        self,
        pools: Mapping[str, _Lanes],
        alarms: Mapping[str, _Alarm],
        asked: dict[str, PoolOrders],
        fleet: Fleet,
    ) -> None:
        """Size the pools that have a signal, and the one that follows."""
        for role, pool in pools.items():
            if pool.key is None:
                continue
            paired = pools.get(self._follower or "") if role == self._leader else None
            watched = [alarms[role]] + ([alarms[paired.role]] if paired else [])
            newest, highest = self._readings(pool, fleet)
            asked[role] = _size(pool, newest, highest, watched, fleet)
            if paired:
                asked[paired.role] = self._follow(pool, paired, asked[role], alarms[paired.role], fleet)

    def _planned(self, role: str, fleet: Fleet) -> PoolOrders:
        """Return the count of the minute of the week; where none is planned the pool keeps its own."""
        planned = self._plans[role][minute_of_week(fleet.t_s, self._zone), np.arange(fleet.lanes)]
        known = ~np.isnan(planned)
        count = np.where(known, planned, fleet.desired[role])
        return PoolOrders(count, np.where(known, PLANNED, NO_PLAN), planned)

    def _readings(self, pool: _Lanes, fleet: Fleet) -> tuple[Floats, Floats]:
        """Return the newest and the highest recent total of a pool's signal."""
        key, scraped = pool.key or ("", ""), fleet.scraped
        if some(pool.is_mean):
            running = fleet.reporting.get(pool.role, fleet.desired[pool.role])
            total = np.where(pool.is_mean, scraped.values[key] * running, scraped.values[key])
            scraped = Scraped(scraped.window_s, {key: total})
        if pool.others or self._surges:
            return self._readings_of_several(pool, key, scraped)
        newest = self._window.read(lambda window_s: scraped.mean(key, window_s))
        highest = self._window_and_over.read(lambda window_s, over_s: scraped.highest(key, window_s, over_s))
        return newest, highest

    def _readings_of_several(self, pool: _Lanes, key: Key, scraped: Scraped) -> tuple[Floats, Floats]:
        """Return the newest and the highest recent sum of a pool's signal and of what is added to it."""

        def total(
            mean: Callable[[Key, float], Floats], window_s: float, fresh_s: float, above_ratio: float
        ) -> Floats:
            found = mean(key, window_s)
            if above_ratio < math.inf:
                fresh = mean(key, fresh_s)
                found = np.where(fresh > above_ratio * found, fresh, found)
            for other, averaging_s, weight in pool.others:
                found = found + weight * mean(other, averaging_s)
            return found

        def highest(window_s: float, fresh_s: float, above_ratio: float, over_s: float) -> Floats:
            read = window_s, fresh_s, above_ratio
            found: Floats = np.fmax.reduce(total(lambda k, s: scraped.means(k, s, over_s), *read))
            return found

        newest = self._reading.read(lambda *read: total(scraped.mean, *read))
        return newest, self._reading_over.read(highest)

    def _alarm(self, pool: _Lanes, fleet: Fleet) -> _Alarm:
        worst = _Alarm(np.zeros(fleet.lanes), np.full(fleet.lanes, -np.inf), np.zeros(fleet.lanes, bool))
        if self._mode != "metric":
            return worst
        for guard in pool.guards:
            key = guard.key
            latency_s = self._window.read(lambda s, key=key: fleet.scraped.mean(key, s))
            with np.errstate(invalid="ignore"):  # a latency that is not known, where nothing is watched
                ratio = latency_s / guard.limit
            known = np.isfinite(ratio)
            passed, add = ratio > guard.above, np.float64(-np.inf)
            if some(passed):
                add = np.where(passed, guard.add, -np.inf).max(axis=0, initial=-np.inf)
            worse = known & (ratio > worst.ratio)
            worst.blind |= ~known & guard.watches
            worst.add = np.where(worse, add, worst.add)
            worst.ratio = np.where(worse, ratio, worst.ratio)
        return worst

    def _follow(
        self, leader: _Lanes, pool: _Lanes, led: PoolOrders, alarm: _Alarm, fleet: Fleet
    ) -> PoolOrders:
        """Size the other pool: with the leader in its direction, else back inside the tolerance."""
        before, current = fleet.desired[leader.role], fleet.desired[pool.role]
        count = np.minimum(np.maximum(led.count, leader.of["least"]), _most(leader, before))
        ratio = self._ratio.now(fleet)
        goal = follower_count(leader.role, count, ratio)
        grows, shrinks, blind = count > before, count < before, led.code == MISSING
        together = np.where(grows, np.maximum(current, goal), np.minimum(current, goal))
        moves = (grows | shrinks) & ~blind
        asked = PoolOrders(
            np.where(moves, together, current),
            np.where(blind, MISSING, np.where(moves, RATIO, NOTHING)),
            np.where(moves, goal, np.nan),
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            prefill, decode = (current, before) if pool.role == "prefill" else (before, current)
            now = prefill / (decode if pool.role == "prefill" else np.maximum(decode, 1.0))
        off = ~blind & ~moves & (goal != current) & (np.abs(now - ratio) > self._ratio.deviation)
        _step_out(pool, fleet.t_s, current, goal, off & (goal > current), asked)
        into = off & (goal < current)
        if some(into):
            veto = _veto([alarm], np.zeros(fleet.lanes, bool))
            _step_in(pool, fleet.t_s, current, goal, into, veto, asked)
        if some(off):
            asked.code = np.where(off & (asked.count != current), RATIO, asked.code)
            asked.wanted = np.where(off, goal, asked.wanted)
        return asked

    def _bounded(self, pool: _Lanes, alarm: _Alarm, asked: PoolOrders, fleet: Fleet) -> PoolOrders:
        """Restore or end observations, and hold the bounds."""
        before, after, code = fleet.desired[pool.role], asked.count, asked.code
        if self._observes:
            soft = ~np.isnan(self._observe_s)
            over = fleet.t_s - pool.since_s >= np.where(soft, self._observe_s, 0.0)
            pool.draining = np.where(over, 0.0, pool.draining)
            back = before + pool.draining
            comes_back = (pool.draining > 0) & (alarm.ratio > 1.0) & (back >= asked.count)
            after = np.where(comes_back, back, asked.count)
            code = np.where(comes_back, RESTORED, asked.code)
        bounded = np.maximum(np.minimum(after, _most(pool, before)), pool.of["least"])
        return PoolOrders(bounded, np.where(bounded == after, code, BOUND), asked.wanted)

    def _keep_gpus(self, pools: Mapping[str, _Lanes], asked: dict[str, PoolOrders], fleet: Fleet) -> None:
        """Let the pools grow into the GPUs that are left, each by the same share of what it asks for.

        No pool loses running instances so that another may grow. What is under observation still holds its
        GPUs. Only a fleet that stands above the limit is cut, each pool by the same share above its least.
        """
        soft = ~np.isnan(self._observe_s)
        held, wanted = {}, {}
        for role, pool in pools.items():
            before, count = fleet.desired[role], asked[role].count
            held[role] = np.where(soft, before + pool.draining, np.minimum(before, count))
            wanted[role] = np.maximum(held[role], count)
        found = within_gpus(wanted, held, self._gpus, self._gpus_limit)
        counts = {role: asked[role].count - (wanted[role] - found[role]) for role in pools}
        least = {role: np.minimum(counts[role], pool.of["least"]) for role, pool in pools.items()}
        counts = within_gpus(counts, least, self._gpus, self._gpus_limit)
        for role, one in asked.items():
            cut = counts[role] < one.count
            asked[role] = PoolOrders(counts[role], np.where(cut, GPU_LIMIT, one.code), one.wanted)

    def _remember(self, pool: _Lanes, asked: PoolOrders, fleet: Fleet, orders: Orders) -> None:
        """Remember what was done, and write the orders of a pool."""
        t_s, before, after = fleet.t_s, fleet.desired[pool.role], asked.count
        role, out, into = pool.role, after > before, after < before
        orders.counts[role], orders.code[role], orders.wanted[role] = after, asked.code, asked.wanted
        if some(out):
            pool.last_out_s = np.where(out, t_s, pool.last_out_s)
        if some(into):
            pool.last_in_s = np.where(into, t_s, pool.last_in_s)
        if not self._observes:
            return
        restored = np.minimum(pool.draining, np.maximum(0.0, after - before))
        leaves = into & ~np.isnan(self._observe_s)
        pool.draining = np.where(leaves, pool.draining + before - after, pool.draining - restored)
        pool.since_s = np.where(leaves, t_s, pool.since_s)
        orders.restored[role], orders.draining[role] = restored, pool.draining.copy()


def _most(pool: _Lanes, before: Floats) -> Floats:
    """Return the most instances of a pool, where it stands now."""
    most = pool.of["most"]
    return np.where(pool.of["is_strict"] > 0, most, np.maximum(most, before))


def _keep(count: Floats, why: int) -> PoolOrders:
    return PoolOrders(count, np.full(count.size, why, np.int64), np.full(count.size, np.nan))


def _size(
    pool: _Lanes, newest: Floats, highest: Floats, alarms: Sequence[_Alarm], fleet: Fleet
) -> PoolOrders:
    """Size one pool in proportion: dead band on wanted ÷ current, then rests and step limits."""
    current, target = fleet.desired[pool.role], pool.of["target"]
    with np.errstate(divide="ignore", invalid="ignore"):
        need, peak = newest / target, highest / target
        running = np.maximum(current, 1.0)
        seen = np.isfinite(need) & (newest >= 0) & (target > 0)
        goal, low = np.maximum(1.0, round_up(need)), np.maximum(1.0, round_up(peak))
        none = seen & (current <= 0)
        out = seen & ~none & (need / running > pool.of["above"]) & (goal > current)
        into = seen & ~none & ~out & (peak / running < pool.of["below"]) & (low < current)
    asked = PoolOrders(
        np.where(none, goal, current),
        np.where(none, GROWS, np.where(seen, HOLDS, MISSING)),
        np.where(into, peak, np.where(seen, need, np.nan)),
    )
    if some(out):
        _step_out(pool, fleet.t_s, current, goal, out, asked)
    if some(into):
        _step_in(pool, fleet.t_s, current, low, into, _veto(alarms, newest == 0), asked)
    return asked


def _veto(alarms: Sequence[_Alarm], idle: Mask) -> Integers:
    """Return why a pool may not shrink, `NOTHING` where it may. An idle pool has no latency to see."""
    blind = np.logical_or.reduce([alarm.blind for alarm in alarms]) & ~idle
    over = np.logical_or.reduce([alarm.ratio > 1.0 for alarm in alarms])
    return np.where(over, VETOED, np.where(blind, BLIND, NOTHING))


def _share(fraction: Floats, current: Floats, *, up: bool) -> Floats:
    """Return how many instances one action may move: rounded to the larger step out, the smaller one in."""
    with np.errstate(invalid="ignore"):
        exact = fraction * current
        whole = np.ceil(exact - ROUNDING) if up else np.floor(exact + ROUNDING)
    return np.where(np.isinf(fraction), np.inf, np.maximum(1.0, whole))


def _step_out(
    pool: _Lanes, t_s: Floats, current: Floats, goal: Floats, wants: Mask, asked: PoolOrders
) -> None:
    """Grow towards the goal: rounded up, so that a small pool is never slower than its fraction."""
    if not some(wants):
        return
    rests = wants & (t_s - pool.last_out_s < pool.of["rest_out"])
    change = np.maximum(1.0, np.ceil(pool.of["dampening"] * (goal - current) - ROUNDING))
    after = current + np.minimum(change, _share(pool.of["max_out"], current, up=True))
    acts = wants & ~rests
    asked.count = np.where(acts, after, asked.count)
    grows = np.where(after < goal, STEP_LIMIT, GROWS)
    asked.code = np.where(rests, RESTS, np.where(acts, grows, asked.code))


def _step_in(
    pool: _Lanes, t_s: Floats, current: Floats, goal: Floats, wants: Mask, veto: Integers, asked: PoolOrders
) -> None:
    """Shrink towards the goal: rounded down, one instance at least, unless a guard or a rest forbids it."""
    if not some(wants):
        return
    off = np.isinf(pool.of["rest_in"])
    rests = t_s - np.maximum(pool.last_in_s, pool.last_out_s) < pool.of["rest_in"]
    change = np.maximum(1.0, np.floor(pool.of["dampening"] * (current - goal) + ROUNDING))
    after = current - np.minimum(change, _share(pool.of["max_in"], current, up=False))
    acts = wants & (veto == NOTHING) & ~off & ~rests
    asked.count = np.where(acts, after, asked.count)
    shrinks = np.where(after > goal, STEP_LIMIT, SHRINKS)
    held = np.where(veto != NOTHING, veto, np.where(off, DISABLED, RESTS))
    asked.code = np.where(acts, shrinks, np.where(wants, held, asked.code))


def _guard_step(pool: _Lanes, alarm: _Alarm, t_s: Floats, current: Floats, asked: PoolOrders) -> None:
    """Let the worst guard of a pool add instances, unless those asked for before can't have started yet."""
    if not some(alarm.add > -np.inf):
        return
    waits = t_s - pool.last_out_s < np.maximum(pool.of["rest_out"], pool.of["start_up"])
    share = np.where(alarm.add > -np.inf, alarm.add, 0.0)
    add = np.maximum(1.0, np.ceil(share * current - ROUNDING))
    goal = current + np.minimum(add, _share(pool.of["max_out"], current, up=True))
    acts = (alarm.add > -np.inf) & ~waits & (goal > asked.count)
    asked.count = np.where(acts, goal, asked.count)
    asked.code = np.where(acts, GUARD, asked.code)

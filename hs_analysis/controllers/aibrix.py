"""AIBrix PodAutoscaler: APA (use of a pod against its target) and KPA (a value over two windows).

After https://github.com/vllm-project/aibrix at e3e10f9 (August 2026, between 0.7 and 0.8), pkg/controller/
podautoscaler, and its documentation. Both decide every 10 s. A count outside the bounds goes to the bound
without a look at the metrics, and a pool of zero stays there unless zero is allowed. Then:

- APA scrapes its pods. A pod that does not answer counts as zero and is not left out, so that a metric that
  is missing reads as an idle pool and shrinks it. It follows the mean of what it found in the window, in
  proportion to the count of now.
- KPA is used on an external metric, one value for the pool. Where that can't be read, nothing changes. Its
  panic has no memory: it is on while the mean of the short window is more than so many times that of the long
  one, and then the larger of the two decides.
- Within the cooldown window of the direction taken, the highest recommendation is used to grow and the lowest
  to shrink.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hs_analysis.controllers.hpa import Metric, MetricLanes, Moments, NewestFirst, Operand, Surge
from hs_analysis.controllers.lanes import (
    BOUND,
    HOLDS,
    IDLE,
    MISSING,
    PANIC,
    ByLane,
    Fleet,
    Key,
    PerLane,
    PoolOrders,
    Scraped,
    changes,
    decisions,
    documented,
    key_of,
    mean_known,
    round_up,
    some,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask

DOC = "https://aibrix.readthedocs.io/latest/features/autoscaling/metric-based-autoscaling.html"
SOURCES = "https://github.com/vllm-project/aibrix/tree/e3e10f9/pkg/controller/podautoscaler"

CYCLE_S = 10.0
"""Time between two decisions [s]; podautoscaler_controller.go, not a setting of its objects."""
INSTANT_S = 1e-6
"""Slack of an age beside a window [s]."""


@dataclass(frozen=True, kw_only=True)
class _Paced:
    """Tolerances, paces, rests and bounds, which both strategies have."""

    up_tolerance: float = field(default=0.1, metadata=documented("ratio", DOC))
    down_tolerance: float = field(default=0.1, metadata=documented("ratio", DOC))
    max_scale_up_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_down_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    up_cooldown_s: float = field(default=0.0, metadata=documented("s", DOC))
    down_cooldown_s: float = field(default=300.0, metadata=documented("s", DOC))
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )


@dataclass(frozen=True)
class Apa(_Paced):
    """``scalingStrategy: APA``: mean use of a pod against its target, scraped from the pods."""

    signal: str
    target: float
    total: bool = field(default=True, metadata=documented("", "whether the signal is a pool total"))
    observe_window_s: float = field(default=180.0, metadata=documented("s", DOC))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


@dataclass(frozen=True)
class Kpa(_Paced):
    """``scalingStrategy: KPA``: a pool total against the target of a pod, over two windows.

    ``averaging_s`` is the range of a query behind an external metric, ``surge`` says when it is another,
    ``others`` are more readings of it in units of the first, and ``highest_s`` is the time whose highest
    value it gives; 0 s and none where the signal is what each scrape finds. The tolerances are of the whole
    value against the target of one pod.
    """

    signal: str
    target: float
    stable_window_s: float = field(default=180.0, metadata=documented("s", DOC))
    panic_window_s: float = field(default=60.0, metadata=documented("s", DOC))
    panic_threshold: float = field(default=2.0, metadata=documented("ratio", DOC))
    averaging_s: float = field(default=0.0, metadata=documented("s", "the query of an adapter"))
    others: tuple[Operand, ...] = field(default=(), metadata=documented("", "the query of an adapter"))
    surge: Surge | None = field(default=None, metadata=documented("", "the query of an adapter"))
    highest_s: float = field(default=0.0, metadata=documented("s", "the query of an adapter"))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal, *(other.signal for other in self.others))

    @property
    def metric(self) -> Metric | None:
        """The query behind its metric; None where the signal is what each scrape finds."""
        if not self.averaging_s and not self.others and not self.highest_s:
            return None
        return Metric(
            self.signal, self.target, "AverageValue", self.averaging_s, self.others, surge=self.surge,
            highest_s=self.highest_s,
        )  # fmt: skip


def structure(parameters: Apa | Kpa) -> Hashable:
    """Return what parameters have to have in common to share a batch."""
    if isinstance(parameters, Apa):
        return parameters.signal, parameters.total
    others = tuple((other.signal, other.averaging_s) for other in parameters.others)
    return parameters.signal, others, parameters.metric is None


def cycles(window_s: float) -> int:
    """Return how many decisions lie in a row."""
    return decisions(window_s, CYCLE_S)


class _Memory(PerLane):
    """Values of the newest decisions of all lanes, by their age; NaN where a lane had none."""

    def __init__(self, lanes: int, reach_s: float) -> None:
        self.reach_s = reach_s
        self.values = NewestFirst(0, lanes, np.nan)
        self.times = Moments(0)

    def add(self, values: Floats, clock_s: float, spacing_s: float) -> None:
        """Remember values of now."""
        if not self.values.depth:
            depth = math.ceil(self.reach_s / spacing_s) + 2
            self.values, self.times = NewestFirst(depth, values.size, np.nan), Moments(depth)
        self.values.add(values)
        self.times.add(clock_s)

    def within(self, window_s: Floats, clock_s: float) -> Floats:
        """Return the values younger than a window of each lane, the others NaN. Shape (decisions, lanes).

        What no window reaches is left out, but for the newest.
        """
        ages = clock_s - self.times.newest(self.times.depth)
        rows = max(1, int(ages[:, 0].searchsorted(window_s.max())))
        found: Floats = np.where(ages[:rows] < window_s, self.values.newest(rows), np.nan)
        return found


class _Cycles(PerLane):
    """What APA and KPA have in common: a decision every 10 s, bounds, rates and cooldown windows."""

    def __init__(self, parameters: Sequence[Apa | Kpa], role: str) -> None:
        self._role = role
        self._target = np.array([one.target for one in parameters], float)
        self._up = np.array([1 + one.up_tolerance for one in parameters])
        self._down = np.array([1 - one.down_tolerance for one in parameters])
        self._up_rate = np.array([one.max_scale_up_rate for one in parameters], float)
        self._down_rate = np.array([one.max_scale_down_rate for one in parameters], float)
        self._least = np.array([one.min_replicas for one in parameters], float)
        self._most = np.array([one.max_replicas for one in parameters], float)
        self._up_s = np.array([one.up_cooldown_s for one in parameters], float)
        self._down_s = np.array([one.down_cooldown_s for one in parameters], float)
        reach_s = float(max(self._up_s.max(), self._down_s.max()))
        self._asked = _Memory(len(parameters), reach_s)
        self._last_s = np.full(len(parameters), np.nan)
        self._clock_s = 0.0

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane: the cycles of a row, evenly spread over it."""
        start = count = fleet.desired[self._role]
        left = cycles(fleet.window_s)
        spacing_s = fleet.window_s / left
        self._clock_s += 0.0 if np.isnan(self._last_s).all() else float(fleet.t_s[0] - self._last_s[0])
        self._last_s = fleet.t_s
        known = self._read(fleet)
        why: Integers = np.full(start.shape, HOLDS)
        place = 0
        while place < left:
            clock_s = self._clock_s + place * spacing_s
            before = count
            count, code, goal = self._decide(before, known, clock_s, spacing_s)
            moved = count != before
            why = code if place == 0 else np.where(moved, code, why)
            place += 1
            if place < left and not some(moved):
                stays = self._stays(count, goal, np.arange(1.0, left - place + 1), spacing_s)
                for cycle in range(1, stays + 1):
                    self._repeat(goal, clock_s + cycle * spacing_s, spacing_s)
                place += stays
        return PoolOrders(count, changes(why, start, count), goal)

    def _decide(
        self, current: Floats, known: Mask, clock_s: float, spacing_s: float
    ) -> tuple[Floats, Integers, Floats]:
        """Decide once: return the counts, why, and the recommendations, NaN without one."""
        inside = np.minimum(np.maximum(current, self._least), self._most)
        asleep = (current == 0) & (self._least > 0)
        runs = known & (inside == current)
        self._scrape(np.where(runs, current, np.nan), clock_s, spacing_s)
        wanted, panics = self._wanted(current)
        goal = np.where(runs, np.minimum(np.maximum(wanted, self._least), self._most), np.nan)
        self._asked.add(goal, clock_s, spacing_s)
        grows, shrinks, after = goal > current, goal < current, current
        if some(grows):
            highest = np.fmax.reduce(self._asked.within(self._up_s - INSTANT_S, clock_s))
            after = np.where(grows, np.fmax(goal, highest), after)
        if some(shrinks):
            lowest = np.fmin.reduce(self._asked.within(self._down_s - INSTANT_S, clock_s))
            after = np.where(shrinks, np.fmin(goal, lowest), after)
        code = np.full(current.shape, HOLDS)
        if not some(~runs):
            code[panics & (after > current)] = PANIC
            return after, code, goal
        count = np.where(runs, after, np.where(asleep, 0.0, inside))
        code[~known] = MISSING
        code[inside != current] = BOUND
        code[asleep] = IDLE
        code[runs & panics & (count > current)] = PANIC
        return count, code, goal

    def _read(self, fleet: Fleet) -> Mask:
        """Look at the readings of a row; return where there is something to decide by."""
        raise NotImplementedError

    def _scrape(self, current: Floats, clock_s: float, spacing_s: float) -> None:
        """Remember what this cycle finds, where a pool is not NaN."""

    def _wanted(self, current: Floats) -> tuple[Floats, Mask]:
        """Return what is recommended before bounds and cooldown windows, and where panic is on."""
        raise NotImplementedError

    def _stays(self, current: Floats, goal: Floats, later: Floats, spacing_s: float) -> int:  # noqa: ARG002
        """Return in how many of the next cycles, 1, 2, … later, a decision that moved no pool is the same."""
        return later.size

    def _repeat(self, goal: Floats, clock_s: float, spacing_s: float) -> None:
        """Remember one of them."""
        self._asked.add(goal, clock_s, spacing_s)


class ApaBatch(_Cycles):
    """APA in many lanes: current × use ÷ target outside the tolerances, at most doubled or halved a cycle."""

    def __init__(self, parameters: Sequence[Apa], role: str) -> None:
        super().__init__(parameters, role)
        self._key, self._total = key_of(parameters[0].signal, role), parameters[0].total
        self._window_s = np.array([one.observe_window_s for one in parameters], float)
        self._used = _Memory(len(parameters), float(self._window_s.max()))
        self._seen = np.zeros(len(parameters), bool)
        self._row = self._use = np.zeros(len(parameters))

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]: each cycle scrapes once, and remembers it itself."""
        return 0.0

    def _read(self, fleet: Fleet) -> Mask:
        """Take what the pods answer, nothing as zero; starting pods answer, too, and have no use yet."""
        value = fleet.scraped.last(self._key)
        self._seen = self._seen | ~np.isnan(value)
        share = 1.0 if self._total else np.minimum(fleet.ready[self._role], fleet.desired[self._role])
        self._row = np.where(np.isnan(value), 0.0, value) * share
        return self._seen

    def _scrape(self, current: Floats, clock_s: float, spacing_s: float) -> None:
        """Remember the use per pod, and take its mean over the window."""
        self._used.add(self._row / np.maximum(1.0, current), clock_s, spacing_s)
        # A value as old as the window is still in it: both ends are of the same second.
        self._use = mean_known(self._used.within(self._window_s + INSTANT_S, clock_s))

    def _wanted(self, current: Floats) -> tuple[Floats, Mask]:
        return self._sized(self._use, current), np.zeros(current.shape, bool)

    def _sized(self, use: Floats, current: Floats) -> Floats:
        """Return what mean uses per pod ask for, shape (…, lanes)."""
        ratio = use / self._target
        needed = round_up(current * ratio)
        most, least = np.ceil(self._up_rate * current), np.floor(current / self._down_rate)
        out, into = ratio > self._up, ratio < self._down
        return np.where(out, np.minimum(needed, most), np.where(into, np.maximum(needed, least), current))

    def _stays(self, current: Floats, goal: Floats, later: Floats, spacing_s: float) -> int:
        """Look at the means that the cycles left in the row find as long as no count moves."""
        asks = ~np.isnan(goal)
        if some(asks & (goal != current)):
            return 0
        used, times = (one.newest(one.depth) for one in (self._used.values, self._used.times))
        ages = times[:1] - times + (later * spacing_s)[:, None, None]
        inside = (ages < self._window_s + INSTANT_S) & ~np.isnan(used)
        total = np.where(inside, used, 0.0).sum(axis=1) + later[:, None] * used[0]
        wanted = self._sized(total / (inside.sum(axis=1) + later[:, None]), current)
        kept = np.minimum(np.maximum(wanted, self._least), self._most) == current
        moves = (asks & ~kept).any(axis=1)
        return int(moves.argmax()) if some(moves) else later.size

    def _repeat(self, goal: Floats, clock_s: float, spacing_s: float) -> None:
        """Remember one of them, and what it scrapes."""
        super()._repeat(goal, clock_s, spacing_s)
        self._used.add(self._used.values.newest(1)[0].copy(), clock_s, spacing_s)


class KpaBatch(_Cycles):
    """KPA in many lanes: what the stable window needs, in panic what the larger of both windows needs."""

    def __init__(self, parameters: Sequence[Kpa], role: str) -> None:
        super().__init__(parameters, role)
        self._key = key_of(parameters[0].signal, role)
        asked = [one.metric for one in parameters if one.metric is not None]
        self._metric = MetricLanes.of(asked) if asked else None
        self._stable_of = ByLane([one.stable_window_s for one in parameters])
        self._panic_of = ByLane([one.panic_window_s for one in parameters])
        self._threshold = np.array([one.panic_threshold for one in parameters], float)
        self._stable = self._panic = np.full(len(parameters), np.nan)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,) if self._metric is None else self._metric.keys(self._role)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        window_s = max(self._stable_of.longest_s, self._panic_of.longest_s)
        return window_s + (0.0 if self._metric is None else self._metric.reach_s)

    def _read(self, fleet: Fleet) -> Mask:
        """Take the means of both windows; a value that is missing now ends the decision."""
        scraped = fleet.scraped
        newest = scraped.last(self._key) if self._metric is None else self._metric.read(scraped, self._role)
        mean = cache(lambda seconds: self._mean(scraped, seconds))  # both windows may be of one width
        self._stable, self._panic = self._stable_of.read(mean), self._panic_of.read(mean)
        known: Mask = ~np.isnan(newest)
        return known

    def _mean(self, scraped: Scraped, seconds: float) -> Floats:
        """Return the mean of what the metric was in the last ``seconds``, NaN where it never was known."""
        if self._metric is None:
            return scraped.mean(self._key, seconds)
        return mean_known(np.ascontiguousarray(self._metric.history(scraped, self._role, seconds)))

    def _wanted(self, current: Floats) -> tuple[Floats, Mask]:
        most = np.maximum(1.0, np.ceil(self._up_rate * current))
        least = np.floor(current / self._down_rate)
        calm, urgent = (
            np.minimum(np.maximum(self._needed(value, current), least), most)
            for value in (self._stable, self._panic)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            panics = (self._stable <= 0) | (self._panic / self._stable > self._threshold)
        return np.where(panics, np.maximum(calm, urgent), calm), panics

    def _needed(self, value: Floats, current: Floats) -> Floats:
        """Return the instances for a value, the current ones where it is as near the target as tolerated."""
        off = (value > self._target * self._up) | (value < self._target * self._down)
        return np.where(off, round_up(value / self._target), current)

"""AIBrix PodAutoscaler: APA (tolerances and rates) and KPA (Knative's stable and panic windows).

After https://aibrix.readthedocs.io/latest/features/autoscaling/metric-based-autoscaling.html, the project's
``pkg/controller/podautoscaler`` as of 0.5 to 0.7, and Knative's
https://knative.dev/docs/serving/autoscaling/kpa-specific/. The cooldown windows are read from the sources
alone: within the window of the direction taken, the highest recommendation is used to grow and the lowest to
shrink.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.controllers.hpa import Metric, MetricLanes, Operand
from hs_analysis.controllers.lanes import (
    ByLane,
    Fleet,
    Floats,
    Key,
    Mask,
    PerLane,
    PoolOrders,
    Scraped,
    Why,
    documented,
    key_of,
    mean_known,
    round_up,
)

DOC = "https://aibrix.readthedocs.io/latest/features/autoscaling/metric-based-autoscaling.html"
SOURCES = "https://github.com/vllm-project/aibrix, pkg/controller/podautoscaler (not in its documentation)"


@dataclass(frozen=True)
class Apa:
    """``scalingStrategy: APA``: mean use of a pod against its target."""

    signal: str
    target: float
    total: bool = field(default=True, metadata=documented("", "whether the signal is a pool total"))
    averaging_s: float = field(default=60.0, metadata=documented("s", "not documented: the last scrape"))
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

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


@dataclass(frozen=True)
class Kpa:
    """``scalingStrategy: KPA``: a pool total against the target of a pod, over two windows.

    ``averaging_s`` is the range of a query behind an external metric, and ``others`` are more readings of it
    in units of the first; 0 s and none where the signal is what each scrape finds.
    """

    signal: str
    target: float
    stable_window_s: float = field(default=180.0, metadata=documented("s", f"{SOURCES}; Knative: 60 s"))
    panic_window_s: float = field(
        default=60.0, metadata=documented("s", f"{SOURCES}; Knative: a tenth of the stable window")
    )
    panic_threshold: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_up_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_down_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    up_cooldown_s: float = field(default=0.0, metadata=documented("s", DOC))
    down_cooldown_s: float = field(default=300.0, metadata=documented("s", DOC))
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )

    averaging_s: float = field(default=0.0, metadata=documented("s", "the query of an adapter"))
    others: tuple[Operand, ...] = field(default=(), metadata=documented("", "the query of an adapter"))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal, *(other.signal for other in self.others))

    @property
    def metric(self) -> Metric | None:
        """The query behind its metric; None where the signal is what each scrape finds."""
        if not self.averaging_s and not self.others:
            return None
        return Metric(self.signal, self.target, "AverageValue", self.averaging_s, self.others)


def structure(parameters: Apa | Kpa) -> Hashable:
    """Return what parameters have to have in common to share a batch."""
    if isinstance(parameters, Apa):
        return parameters.signal, parameters.total
    others = tuple((other.signal, other.averaging_s) for other in parameters.others)
    return parameters.signal, others, parameters.metric is None


class _Cooled(PerLane):
    """Bounds and cooldown windows: within the window of a direction its extreme recommendation counts."""

    def __init__(self, parameters: Sequence[Apa | Kpa]) -> None:
        self.least = np.array([one.min_replicas for one in parameters], float)
        self.most = np.array([one.max_replicas for one in parameters], float)
        self.up_s = np.array([one.up_cooldown_s for one in parameters], float)
        self.down_s = np.array([one.down_cooldown_s for one in parameters], float)
        self.seen: list[tuple[Floats, Floats]] = []

    def count(self, goal: Floats, current: Floats, t_s: Floats, known: Mask) -> PoolOrders:
        """Return what is asked for where a goal is known, and remember it; elsewhere the count holds."""
        bounded = np.minimum(np.maximum(goal, self.least), self.most)
        reach = np.maximum(self.up_s, self.down_s)
        self.seen = [one for one in self.seen if (t_s - one[0] < reach).any()]
        highest = lowest = bounded
        for then, asked in self.seen:
            age = t_s - then  # NaN where nothing was recommended then
            highest = np.where(age < self.up_s, np.maximum(highest, asked), highest)
            lowest = np.where(age < self.down_s, np.minimum(lowest, asked), lowest)
        self.seen.append((np.where(known, t_s, np.nan), bounded))
        after = np.where(bounded > current, highest, np.where(bounded < current, lowest, current))
        count = np.where(known, after, current)
        code = np.where(count > current, Why.GROWS, np.where(count < current, Why.SHRINKS, Why.HOLDS))
        return PoolOrders(count, np.where(known, code, Why.MISSING), np.where(known, bounded, np.nan))


class ApaBatch(PerLane):
    """APA in many lanes: current × use ÷ target outside the tolerances, at most doubled or halved at once."""

    def __init__(self, parameters: Sequence[Apa], role: str) -> None:
        first = parameters[0]
        self._role, self._key, self._total = role, key_of(first.signal, role), first.total
        self._target = np.array([one.target for one in parameters], float)
        self._averaging = ByLane([one.averaging_s for one in parameters])
        self._up = np.array([1 + one.up_tolerance for one in parameters])
        self._down = np.array([1 - one.down_tolerance for one in parameters])
        self._up_rate = np.array([one.max_scale_up_rate for one in parameters], float)
        self._down_rate = np.array([one.max_scale_down_rate for one in parameters], float)
        self._cooled = _Cooled(parameters)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        return self._averaging.longest_s

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane."""
        value = self._averaging.read(lambda seconds: fleet.scraped.mean(self._key, seconds))
        current = fleet.desired[self._role]
        running = np.maximum(1.0, np.minimum(fleet.ready[self._role], current))
        ratio = (value / running if self._total else value) / self._target
        out, into = ratio > self._up, ratio < self._down
        needed = round_up(current * ratio)
        most, least = np.ceil(self._up_rate * current), np.floor(current / self._down_rate)
        goal = np.where(out, np.minimum(needed, most), np.where(into, np.maximum(needed, least), current))
        return self._cooled.count(goal, current, fleet.t_s, ~np.isnan(value))


class KpaBatch(PerLane):
    """KPA in many lanes: what the stable window needs, in panic the most that either window asked for."""

    def __init__(self, parameters: Sequence[Kpa], role: str) -> None:
        self._role, self._key = role, key_of(parameters[0].signal, role)
        asked = [one.metric for one in parameters if one.metric is not None]
        self._metric = MetricLanes.of(asked) if asked else None
        self._target = np.array([one.target for one in parameters], float)
        self._stable_s = np.array([one.stable_window_s for one in parameters], float)
        self._stable = ByLane(self._stable_s.tolist())
        self._panic = ByLane([one.panic_window_s for one in parameters])
        self._threshold = np.array([one.panic_threshold for one in parameters], float)
        self._up_rate = np.array([one.max_scale_up_rate for one in parameters], float)
        self._down_rate = np.array([one.max_scale_down_rate for one in parameters], float)
        self._cooled = _Cooled(parameters)
        self._since_s = np.full(len(parameters), np.nan)  # when panic was last due
        self._most = np.zeros(len(parameters))

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,) if self._metric is None else self._metric.keys(self._role)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        window_s = max(self._stable.longest_s, self._panic.longest_s)
        return window_s + (0.0 if self._metric is None else self._metric.reach_s)

    def _mean(self, scraped: Scraped, seconds: float) -> Floats:
        """Return the mean of what the metric was in the last ``seconds``, NaN where it never was known."""
        if self._metric is None:
            return scraped.mean(self._key, seconds)
        found = [self._metric.read(one, self._role) for one in scraped.ended_in(seconds)]
        return mean_known(np.array(found))

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane."""
        scraped, current = fleet.scraped, fleet.desired[self._role]
        stable = self._stable.read(lambda seconds: self._mean(scraped, seconds))
        panic = self._panic.read(lambda seconds: self._mean(scraped, seconds))
        known = ~(np.isnan(stable) | np.isnan(panic))
        ready = np.maximum(1.0, np.floor(np.minimum(fleet.ready[self._role], current) + 1e-9))
        most = np.maximum(1.0, np.ceil(self._up_rate * ready))
        least = np.floor(ready / self._down_rate)
        calm, urgent = round_up(stable / self._target), round_up(panic / self._target)
        wanted, rush = (np.minimum(np.maximum(one, least), most) for one in (calm, urgent))
        over = urgent / ready >= self._threshold
        since_s = np.where(over, fleet.t_s, self._since_s)
        since_s = np.where(fleet.t_s - since_s > self._stable_s, np.nan, since_s)
        panics = ~np.isnan(since_s)
        held = np.where(panics, np.maximum(np.maximum(self._most, wanted), rush), 0.0)
        self._since_s = np.where(known, since_s, self._since_s)
        self._most = np.where(known, held, self._most)
        goal = np.where(panics, held, wanted)
        orders = self._cooled.count(goal, current, fleet.t_s, known)
        orders.code = np.where(known & panics, Why.PANIC, orders.code)
        return orders

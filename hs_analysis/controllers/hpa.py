"""Kubernetes' HorizontalPodAutoscaler, version autoscaling/v2: ratio, starting pods, windows, rate policies.

After the documentation, https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
("Algorithm details", "Configurable scaling behavior"), and KEP-853 for the order of stabilisation and rate
(https://github.com/kubernetes/enhancements, keps/sig-autoscaling/853-configurable-hpa-scale-velocity).
What they leave open is after https://github.com/kubernetes/kubernetes, pkg/controller/podautoscaler: the
count that is found counts as a recommendation, a count outside the bounds goes to the bound without a look at
the metrics, and a pool of zero is left alone unless zero is allowed.

The rules are written for arrays, one lane a controller (`hs_analysis.controllers.lanes`). A row holds several
syncs, each with a reading of its own; windows and rate policies are followed sync by sync.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import numpy as np

from hs_analysis.controllers.lanes import (
    BOUND,
    GROWS,
    HOLDS,
    IDLE,
    MISSING,
    NOTHING,
    SHRINKS,
    STEP_LIMIT,
    ByLane,
    Fleet,
    Key,
    PerLane,
    PoolOrders,
    Scraped,
    decisions,
    documented,
    key_of,
    round_up,
    some,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.declare import Field

DOC = "https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/"

SLACK = 1e-12
"""Slack of a tolerance [ratio]: 1.1 is within 0.1 of 1 in floating point, too."""

INSTANT_S = 1e-9
"""Slack of an age beside a window or a period [s]."""

TOLERANCE_KNOWN = (1, 33)
"""First version of Kubernetes that knows the field ``tolerance``; before it has the cluster's 10 % alone."""

ADDS_NOTHING = math.nan
"""Weight of an operand that is not there, in a lane beside others that have one."""

Tolerances = tuple[float, float]
"""How far below and above 1 a ratio may be without a change."""


@dataclass(frozen=True)
class RatePolicy:
    """At most ``value`` pods, or percent of them, may change within ``period_s``."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Rules:
    """``behavior.scaleUp`` or ``behavior.scaleDown``; a ``tolerance`` of None is that of the whole object."""

    stabilization_s: float
    policies: tuple[RatePolicy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float | None = None


SCALE_UP = Rules(0.0, (RatePolicy("Percent", 100, 15.0), RatePolicy("Pods", 4, 15.0)))
SCALE_DOWN = Rules(300.0, (RatePolicy("Percent", 100, 15.0),))
"""Defaults of the two directions, as documented under "Default behavior"."""


@dataclass(frozen=True)
class Operand:
    """One more reading of a metric: its name, averaging [s], and units of the first per unit of this one."""

    signal: str
    averaging_s: float
    weight: float = 1.0


@dataclass(frozen=True)
class Surge:
    """When a fresher mean is read in place of the usual one: while it is so much higher.

    A long range is calm and a short one fresh. In PromQL ``short > above_ratio * long or long``.
    """

    window_s: Annotated[float, Field("width of the fresher mean", "s", above=0)]
    above_ratio: Annotated[float, Field("fresher ÷ usual mean above which it is read", "ratio", above=0)]


@dataclass(frozen=True)
class Metric:
    """One entry of ``spec.metrics``.

    Attributes
    ----------
    signal
        Name of the reading: a pool total for AverageValue and Value, a pool mean for Pods. Empty where its
        value is no reading.
    target
        ``averageValue`` per pod, or ``value`` of the whole [unit of the signal].
    kind
        ``AverageValue``: total ÷ target pods. ``Value``: ready pods × total ÷ target. ``Pods``: mean of the
        pods ÷ target, with the rules for missing and unready pods (also resource utilisation).
    averaging_s
        Range over which the query behind the metric averages [s].
    others
        More readings of the same metric, in units of the first.
    how
        What is made of the readings where there are several.
    each
        Whether an empty reading is empty alone, as in a formula over triggers; else all are, as in PromQL.
    surge
        When ``signal`` is read over a shorter range; None = never.
    highest_s
        Time whose highest value is followed [s], as ``max_over_time`` gives it; 0 = the value of now.
    """

    signal: str
    target: float
    kind: Literal["AverageValue", "Value", "Pods"] = "AverageValue"
    averaging_s: float = 60.0
    others: tuple[Operand, ...] = ()
    how: Literal["sum", "max", "min"] = "sum"
    each: bool = False
    surge: Surge | None = None
    highest_s: float = 0.0


@dataclass(frozen=True)
class Hpa:
    """One HorizontalPodAutoscaler; the largest of its metrics' counts wins."""

    metrics: tuple[Metric, ...]
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )
    tolerance: float = field(default=0.1, metadata=documented("ratio", DOC))
    sync_s: float = field(default=15.0, metadata=documented("s", DOC))
    up: Rules = field(default=SCALE_UP, metadata=documented("", DOC))
    down: Rules = field(default=SCALE_DOWN, metadata=documented("", DOC))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        own = (metric.signal for metric in self.metrics if metric.signal)
        return (*own, *(other.signal for metric in self.metrics for other in metric.others))

    @property
    def tolerances(self) -> Tolerances:
        """Tolerance below and above a ratio of 1."""
        down, up = (self.tolerance if r.tolerance is None else r.tolerance for r in (self.down, self.up))
        return down, up


def structure(parameters: Hpa) -> Hashable:
    """Return what controllers of one batch have in common; they may differ in every other number.

    Common are the metrics' readings, the sync period, and per direction how many rate policies of which kind
    there are and which one is selected.
    """
    metrics = tuple(
        (m.signal, tuple((o.signal, o.averaging_s) for o in m.others), m.how, m.each)
        for m in parameters.metrics
    )
    directions = tuple(
        (r.select, tuple(p.kind for p in by_kind(r))) for r in (parameters.up, parameters.down)
    )
    return metrics, parameters.sync_s, directions


def by_kind(rules: Rules) -> list[RatePolicy]:
    """Return the rate policies of a direction in an order that their own does not tell: it has no effect."""
    return sorted(rules.policies, key=lambda policy: policy.kind)


def numbers(values: Sequence[float]) -> Floats:
    """Return numbers of lanes as an array."""
    return np.asarray(values, dtype=float)


def in_tolerance(ratio: Floats, below: Floats, above: Floats) -> Mask:
    """Whether a ratio is near enough to 1 for no change; NaN is not."""
    found: Mask = (ratio >= 1.0 - below - SLACK) & (ratio <= 1.0 + above + SLACK)
    return found


def replicas_for(
    mean: Floats, known: Floats, missing: Floats, unready: Floats, target: Floats, current: Floats,
    below: Floats, above: Floats,
) -> Floats:  # fmt: skip
    """Return the counts for a metric of single pods.

    Parameters
    ----------
    mean
        Mean of the ready pods that have a value; NaN stays NaN.
    known, missing
        Ready pods with a value (at least one) and without.
    unready
        Pods not yet ready.
    target, current, below, above
        Mean to keep, pods now, and how near 1 the ratio must be to change nothing.

    Notes
    -----
    Missing pods count as being at the target when the others ask for fewer, and at zero when they ask for
    more; pods not yet ready count at zero when more are asked for. If that turns the direction round or comes
    within the tolerance, the count stays.
    """
    ratio = mean / target
    low = ratio < 1.0
    rebalance = (unready > 0) & (ratio > 1.0)
    plain = np.where(in_tolerance(ratio, below, above), current, round_up(ratio * known))
    pods = known + missing + np.where(rebalance, unready, 0.0)
    total = mean * known + np.where(low, missing * target, 0.0)
    new = total / pods / target
    count = round_up(new * pods)
    turned = (low != (new < 1.0)) | ((new < 1.0) == (count > current))
    filled = np.where(in_tolerance(new, below, above) | turned, current, count)
    # No comparison may turn a mean that is not known into a count.
    return np.where(np.isnan(mean), np.nan, np.where((missing > 0) | rebalance, filled, plain))


class NewestFirst:
    """The newest rows of an array first: a window on a longer one, so that a new row moves nothing."""

    def __init__(self, depth: int, lanes: int, fill: float) -> None:
        self.depth = depth
        self._rows = np.full((2 * depth + 64, lanes), fill)
        self._first = len(self._rows) - depth

    def add(self, row: Floats | float) -> None:
        """Put a row before the others; the oldest one may go."""
        if not self.depth:
            return
        if not self._first:
            kept = self.depth - 1
            self._first = len(self._rows) - kept
            self._rows[self._first :] = self._rows[:kept]
        self._first -= 1
        self._rows[self._first] = row

    def newest(self, rows: int) -> Floats:
        """Return the newest rows, newest first, as a view. Shape (rows, lanes)."""
        found: Floats = self._rows[self._first : self._first + rows]
        return found

    def take(self, lanes: Integers) -> NewestFirst:
        """Return the same for some lanes, in memory of its own."""
        taken = NewestFirst(self.depth, lanes.size, 0.0)
        taken._rows, taken._first = np.take(self._rows, lanes, axis=1), self._first
        return taken

    def beside(self, others: Sequence[NewestFirst]) -> NewestFirst:
        """Return the rows of this one and of others by their age, in memory of its own."""
        every = [one.newest(self.depth) for one in (self, *others)]
        joined = NewestFirst(self.depth, sum(rows.shape[1] for rows in every), 0.0)
        joined._rows[joined._first :] = np.concatenate(every, axis=1)
        return joined


class Moments(NewestFirst):
    """Times of the newest decisions, the same for all lanes: what is taken or joined is of one age."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth, 1, -np.inf)

    def take(self, lanes: Integers) -> Moments:
        """Return the same, in memory of its own."""
        taken = Moments(self.depth)
        taken._rows, taken._first = self._rows[:, lanes[:1] * 0], self._first
        return taken

    def beside(self, others: Sequence[NewestFirst]) -> Moments:
        """Return the same: the others are as old by their own clocks.

        Raises
        ------
        ValueError
            Where they remember more or less.
        """
        if any(one.depth != self.depth for one in others):
            raise ValueError("memories of one age are joined")
        return self.take(np.zeros(1, int))


@dataclass
class MetricLanes(PerLane):
    """One metric of all lanes: what they have in common, and their numbers, shape (lanes,) each."""

    like: Metric
    target: Floats
    averaging: ByLane
    kinds: Mapping[str, Mask]
    weights: tuple[Floats, ...]
    surge: ByLane
    surge_above: Floats
    surges: bool
    highest: ByLane

    @staticmethod
    def of(metrics: Sequence[Metric]) -> MetricLanes:
        """Return metrics that have readings in common, one a lane."""
        weights = zip(*([other.weight for other in metric.others] for metric in metrics), strict=True)
        kinds = np.array([metric.kind for metric in metrics])
        return MetricLanes(
            metrics[0],
            numbers([metric.target for metric in metrics]),
            ByLane([metric.averaging_s for metric in metrics]),
            {str(kind): kinds == kind for kind in np.unique(kinds)},
            tuple(map(numbers, weights)),
            ByLane([metric.surge.window_s if metric.surge else metric.averaging_s for metric in metrics]),
            numbers([metric.surge.above_ratio if metric.surge else np.inf for metric in metrics]),
            any(metric.surge for metric in metrics),
            ByLane([metric.highest_s for metric in metrics]),
        )

    def keys(self, role: str) -> tuple[Key, ...]:
        """Return its readings."""
        others = (key_of(other.signal, role) for other in self.like.others)
        return (key_of(self.like.signal, role), *others)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        others = (other.averaging_s for other in self.like.others)
        return max(self.averaging.longest_s, self.surge.longest_s, *others, 0.0) + self.highest.longest_s

    def read_within(self, scraped: Scraped, role: str, looks: int, empty: Floats | None = None) -> Floats:
        """Return what it reads at each of the evenly spaced looks of the newest row, as `read` does.

        Shape (looks, lanes). The highest value of a time is that of whole rows: the same at every look.
        """
        if self.highest.longest_s:
            return np.broadcast_to(self.read(scraped, role, empty), (looks, self.target.size))
        return self._now(lambda key, averaging_s: scraped.means_within(key, averaging_s, looks), role, empty)

    def read(self, scraped: Scraped, role: str, empty: Floats | None = None) -> Floats:
        """Return what it reads [unit of the first signal]; ``empty`` (or NaN) where nothing was scraped."""
        if not self.highest.longest_s:
            return self._now(scraped.mean, role, empty)
        value = self.history(scraped, role, scraped.window_s)[0]
        return value if empty is None else np.where(np.isnan(value), empty, value)

    def history(self, scraped: Scraped, role: str, over_s: float) -> Floats:
        """Return what it read at the end of each row of the last ``over_s``, the newest first.

        Shape (rows, lanes), NaN where nothing was scraped.
        """
        span_s = over_s + self.highest.longest_s
        values = self._now(lambda key, averaging_s: scraped.means(key, averaging_s, span_s), role)
        if not self.highest.longest_s:
            return values
        ends = range(min(scraped.rows(over_s), len(values)))

        def highest(back_s: float) -> Floats:
            width = scraped.rows(back_s)
            return np.array([np.fmax.reduce(values[end : end + width]) for end in ends])

        return self.highest.read(highest)

    def _now(self, mean: Callable[[Key, float], Floats], role: str, empty: Floats | None = None) -> Floats:
        """Return what its operands come to, of means that are told, whose last axis are the lanes."""
        keys = self.keys(role)
        value = self.averaging.read(lambda over_s: mean(keys[0], over_s))
        if self.surges:
            fresher = self.surge.read(lambda over_s: mean(keys[0], over_s))
            with np.errstate(invalid="ignore"):
                value = np.where(fresher > self.surge_above * value, fresher, value)
        for key, other, weight in zip(keys[1:], self.like.others, self.weights, strict=True):
            more = weight * mean(key, other.averaging_s)
            if self.like.each and empty is not None:
                value, more = (np.where(np.isnan(one), empty, one) for one in (value, more))
            if self.like.how == "sum":
                absent = np.isnan(weight)
                more = np.where(absent, 0.0, more) if some(absent) else more
                value = value + more
            else:
                value = (np.maximum if self.like.how == "max" else np.minimum)(value, more)
        return value if empty is None else np.where(np.isnan(value), empty, value)

    def counts(self, value: Floats, current: Floats, ready: Floats, below: Floats, above: Floats) -> Floats:
        """Return the instances that its value asks for, NaN where it can't be read. Shape (lanes,).

        ``ready`` are whole pods, at least one. A pool of zero has no pods to read a metric of kind Pods from.
        """
        value = np.where(np.isfinite(value), value, np.nan)
        found: Floats | None = None
        for kind, own in self.kinds.items():
            count = self._of_kind(kind, value, current, ready, below, above)
            found = count if found is None else np.where(own, count, found)
        return np.full_like(value, np.nan) if found is None else found

    def _of_kind(
        self, kind: str, value: Floats, current: Floats, ready: Floats, below: Floats, above: Floats
    ) -> Floats:
        """Return the instances that its value asks for as a metric of one kind."""
        target = self.target
        with np.errstate(divide="ignore", invalid="ignore"):
            if kind == "Pods":
                none = np.zeros_like(value)
                found = replicas_for(value, ready, none, current - ready, target, current, below, above)
            else:
                share = value / target
                ratio = share / current if kind == "AverageValue" else share
                asked = share if kind == "AverageValue" else share * ready
                found = np.where(in_tolerance(ratio, below, above), current, round_up(asked))
        empty = current == 0
        if some(empty):
            woken = np.where(value > 0, np.maximum(1.0, round_up(value / target)), value * 0.0)
            found = np.where(empty, np.nan if kind == "Pods" else woken, found)
        return found


@dataclass
class PolicyLanes(PerLane):
    """One rate policy of all lanes, shape (lanes,) each."""

    kind: str
    value: Floats
    period_s: Floats

    def end(self, began: Floats, sign: int) -> Floats:
        """Return the count that it allows, from where its period began, in one direction (1 or −1).

        Kubernetes rounds a percentage in favour of the change (up: ceil, down: truncated), in the floating
        point of its source.
        """
        if self.kind == "Pods":
            return began + sign * self.value
        exact: Floats = began * (1.0 + sign * (self.value / 100.0))
        end: Floats = np.ceil(exact) if sign > 0 else np.trunc(exact)
        return end


@dataclass
class DirectionLanes(PerLane):
    """``scaleUp`` or ``scaleDown`` of all lanes."""

    sign: int
    select: str
    window_s: Floats
    policies: tuple[PolicyLanes, ...]

    @staticmethod
    def of(rules: Sequence[Rules], sign: int) -> DirectionLanes:
        """Return rules that have kinds of policies in common, one a lane."""
        policies = tuple(
            PolicyLanes(
                column[0].kind, numbers([p.value for p in column]), numbers([p.period_s for p in column])
            )
            for column in zip(*map(by_kind, rules), strict=True)
        )
        windows = numbers([one.stabilization_s for one in rules])
        return DirectionLanes(sign, rules[0].select, windows, policies)

    def limit(self, before: Floats, began: Sequence[Floats]) -> Floats:
        """Return the farthest count that the policies allow; ``began`` is one count a policy."""
        if self.select == "Disabled":
            return before
        if not self.policies:
            return np.full_like(before, self.sign * np.inf)
        ends = [policy.end(start, self.sign) for policy, start in zip(self.policies, began, strict=True)]
        farthest = (self.select == "Max") == (self.sign > 0)
        found = ends[0]
        for end in ends[1:]:
            found = np.maximum(found, end) if farthest else np.minimum(found, end)
        return np.maximum(before, found) if self.sign > 0 else np.minimum(before, found)


@dataclass
class SyncGrid(PerLane):
    """How windows and periods fall onto rows and syncs of one width; arrays per sync of a row, then lane.

    Attributes
    ----------
    window_s, syncs
        Width of a row [s] and syncs in it.
    within
        Earlier syncs that lie within the stabilisation window, up and down.
    reach
        The most of them in any lane, up and down.
    back
        Per policy, up and down: syncs back to the last one that its period does not reach (1 = the one
        before). The count that it left is where the period began.
    """

    window_s: float
    syncs: int
    within: tuple[Integers, Integers]
    reach: tuple[int, int]
    back: tuple[tuple[Integers, ...], tuple[Integers, ...]]

    @staticmethod
    def of(window_s: float, sync_s: float, up: DirectionLanes, down: DirectionLanes) -> SyncGrid:
        """Return the grid of two directions."""
        syncs = decisions(window_s, sync_s)
        directions = (up, down)
        reaches = [d.window_s for d in directions] + [p.period_s for d in directions for p in d.policies]
        longest = max(float(one.max(initial=0.0)) for one in reaches)
        slots = np.arange(1, syncs * (int(longest / window_s) + 3))
        ages = [_sync_ages(slots, at, syncs, sync_s, window_s) for at in range(syncs)]
        up_within, down_within = (
            np.stack([np.searchsorted(age, d.window_s - INSTANT_S) for age in ages]) for d in directions
        )
        back = tuple(
            tuple(
                np.stack([np.searchsorted(age, p.period_s - INSTANT_S) + 1 for age in ages])
                for p in d.policies
            )
            for d in directions
        )
        reach = int(up_within.max(initial=0)), int(down_within.max(initial=0))
        return SyncGrid(window_s, syncs, (up_within, down_within), reach, (back[0], back[1]))


def _is_settled(count: Floats, able: Mask, low: Floats, high: Floats) -> bool:
    """Say whether no sync of the rest of a row, shape (syncs, lanes), changes a count within its bounds."""
    return not some(~((low <= count) & (count <= high)) & able)


def _why(count: Floats, start: Floats, limited: Mask, bounded: Mask) -> Integers:
    """Return the codes of counts after a row."""
    code = np.full(count.shape, HOLDS)
    code[count > start] = GROWS
    code[count < start] = SHRINKS
    code[limited] = STEP_LIMIT
    code[bounded] = BOUND
    return code


def _sync_ages(slots: Integers, at: int, syncs: int, sync_s: float, window_s: float) -> Floats:
    """Return how long before sync ``at`` of a row the syncs lie that are ``slots`` back [s]."""
    rows = np.maximum(0, slots - at - 1) // syncs + (slots > at)
    ages: Floats = rows * window_s + (slots - rows * syncs) * sync_s
    return ages


class Targets(PerLane):
    """Metrics, targets, and bounds of one pool, one set a lane; what decides by them is up to the subclass.

    Parameters
    ----------
    parameters
        One a lane, of one `structure`.
    role
        The pool that they scale.
    """

    def __init__(self, parameters: Sequence[Hpa], role: str) -> None:
        if len({structure(one) for one in parameters}) != 1:
            raise ValueError("controllers of one batch need one structure")
        self.role, self.sync_s = role, parameters[0].sync_s
        self.metrics = tuple(map(MetricLanes.of, zip(*(one.metrics for one in parameters), strict=True)))
        self.least = numbers([one.min_replicas for one in parameters])
        self.most = numbers([one.max_replicas for one in parameters])
        self.below = numbers([one.tolerances[0] for one in parameters])
        self.above = numbers([one.tolerances[1] for one in parameters])

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""
        reading = [metric for metric in self.metrics if metric.like.signal]
        return tuple(dict.fromkeys(key for metric in reading for key in metric.keys(self.role)))

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return max(metric.reach_s for metric in self.metrics)


class HpaBatch(Targets):
    """HorizontalPodAutoscalers of one pool, one a lane, with what they remember.

    They remember the count that was found and, of each sync, what was recommended and the sum of their own
    changes. Memory is changed in place by `step`. Steps follow each other by whole rows of one width; rows
    that were left out are rows without a sync. Parameters as for `Targets`.
    """

    def __init__(self, parameters: Sequence[Hpa], role: str) -> None:
        super().__init__(parameters, role)
        self.up = DirectionLanes.of([one.up for one in parameters], 1)
        self.down = DirectionLanes.of([one.down for one in parameters], -1)
        lanes = len(parameters)
        self.lanes = np.arange(lanes)
        self.found, self.found_s = np.full(lanes, np.nan), np.full(lanes, np.nan)
        self.changed = np.zeros(lanes)
        self.last_s = np.full(lanes, np.nan)
        self.grid: SyncGrid | None = None
        self.recommended = NewestFirst(0, lanes, np.nan)
        self.changes = NewestFirst(0, lanes, 0.0)

    def take(self, lanes: Integers) -> Self:
        """Return the same controllers, with all that they remember, for some lanes; one may come twice."""
        taken = super().take(lanes)
        taken.lanes = np.arange(lanes.size)
        return taken

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of these controllers, then those of others, which came from them by `take`."""
        joined = super().beside(others)
        joined.lanes = np.arange(joined.found.size)
        return joined

    def step(self, fleet: Fleet) -> PoolOrders:
        """Ask for the count of every pool.

        A metric that can't be read holds the count; when others can, they may grow the pool but not shrink
        it.
        """
        looks = self.syncs(fleet.window_s)
        values = [metric.read_within(fleet.scraped, self.role, looks) for metric in self.metrics]
        return self.follow(self.recommend(values, fleet), fleet)

    def syncs(self, window_s: float) -> int:
        """Return how often they decide in a row of a width."""
        return decisions(window_s, self.sync_s)

    def recommend(self, values: Sequence[Floats], fleet: Fleet) -> Floats:
        """Return the largest count of the metrics that can be read, NaN where it can't be told.

        Values are those of each sync of a row, shape (syncs, lanes), or of all of them, shape (lanes,). With
        one metric missing a smaller count than the current one is not recommended.
        """
        current = fleet.desired[self.role]
        ready = np.maximum(1.0, np.minimum(current, np.floor(fleet.ready[self.role] + 1e-9)))
        counts = [
            metric.counts(value, current, ready, self.below, self.above)
            for metric, value in zip(self.metrics, values, strict=True)
        ]
        if len(counts) == 1:
            return counts[0]
        largest: Floats = np.fmax.reduce(counts)
        partly = np.isnan(np.stack(counts)).any(axis=0)
        return np.where(partly & (largest < current), np.nan, largest)

    def follow(self, wanted: Floats, fleet: Fleet, *, on: Mask | None = None) -> PoolOrders:
        """Ask for counts, given what the metrics ask for.

        Parameters
        ----------
        wanted
            Instances at each sync of the row, shape (syncs, lanes), or at all of them, shape (lanes,); NaN
            where it can't be told.
        fleet
            The pools; of the readings nothing is used.
        on
            Lanes in which the controller runs in this row; absent = all.
        """
        grid = self._in_time(fleet)
        start = fleet.desired[self.role]
        wanted = np.broadcast_to(wanted, (grid.syncs, start.size))
        runs = start > 0
        outside = runs & ((start < self.least) | (start > self.most))
        if on is not None:
            wanted, outside = np.where(on, wanted, np.nan), outside & on
        self._find(start, fleet.t_s, on)
        able = ~np.isnan(wanted) & (runs | (self.least == 0))
        count, code = self._row(grid, wanted, start, able, outside, fleet.t_s - self.found_s)
        if some(outside):  # to the bound, without a look at the metrics
            recorded = able.copy()
            recorded[0] &= ~outside
        else:
            recorded = able
        kept = wanted
        if some(~recorded):
            kept = np.where(recorded, wanted, np.nan)
            code[~able[-1] & ~outside] = MISSING
            code[~runs & (self.least > 0)] = IDLE
            if on is not None:
                code[~on] = NOTHING
        for row in kept if self.recommended.depth else ():
            self.recommended.add(row)
        return PoolOrders(count, code, wanted[-1])

    def _find(self, start: Floats, t_s: Floats, on: Mask | None) -> None:
        """Remember the count that is found at the first run, metrics known or not: windows keep it."""
        new = np.isnan(self.found_s)
        if some(new):
            new = new if on is None else new & on
            self.found[new], self.found_s[new] = start[new], t_s[new]

    def _in_time(self, fleet: Fleet) -> SyncGrid:
        """Return the grid of the rows, and let rows pass that were left out."""
        lanes = self.found.size
        if self.grid is None:
            self.grid = SyncGrid.of(fleet.window_s, self.sync_s, self.up, self.down)
            back = max((int(one.max(initial=1)) for both in self.grid.back for one in both), default=1)
            self.recommended = NewestFirst(max(self.grid.reach), lanes, np.nan)
            self.changes = NewestFirst(back if back > 1 else 0, lanes, 0.0)
        elif fleet.window_s != self.grid.window_s:
            raise ValueError(f"rows of {self.grid.window_s:g} s were followed by one of {fleet.window_s:g} s")
        elif lanes:
            passed = round(float(fleet.t_s[0] - self.last_s[0]) / self.grid.window_s)
            for _ in range(min(passed - 1, max(self.recommended.depth, self.changes.depth))):
                for _ in range(self.grid.syncs):
                    self.recommended.add(np.nan)
                    self.changes.add(self.changed)
        self.last_s = fleet.t_s
        return self.grid

    def _row(
        self, grid: SyncGrid, wanted: Floats, start: Floats, able: Mask, outside: Mask, age_s: Floats,
    ) -> tuple[Floats, Integers]:  # fmt: skip
        """Run the syncs of a row; return the counts after it and why."""
        low = self._windowed(grid, 0, wanted, np.fmin)
        high = self._windowed(grid, 1, wanted, np.fmax)
        if not some(outside) and _is_settled(start, able, low, high):
            self._let_pass(grid.syncs)
            return start, np.full(start.shape, HOLDS)
        if some(age_s < max(self.up.window_s.max(), self.down.window_s.max())):
            age = age_s + self.sync_s * np.arange(grid.syncs)[:, None]
            low = np.where(age < self.up.window_s, np.minimum(low, self.found), low)
            high = np.where(age < self.down.window_s, np.maximum(high, self.found), high)
        count, limited = start, np.zeros(start.shape, bool)
        bounded = outside.copy()
        for at in range(grid.syncs):
            if at and _is_settled(count, able[at:], low[at:], high[at:]):
                self._let_pass(grid.syncs - at)
                break
            before = count
            asked = np.where(able[at], np.minimum(np.maximum(before, low[at]), high[at]), before)
            allowed = self._limited(grid, at, asked, before)
            if at == 0:
                allowed = np.where(outside, before, allowed)
            limited = np.where(asked != before, allowed != asked, limited)
            count = np.where(
                able[at] | outside, np.minimum(np.maximum(allowed, self.least), self.most), before
            )
            bounded |= able[at] & (count != allowed)
            self.changed = self.changed + (count - before)
            self.changes.add(self.changed)
        return count, _why(count, start, limited, bounded)

    def _let_pass(self, syncs: int) -> None:
        """Let syncs pass without a change."""
        for _ in range(syncs if self.changes.depth else 0):
            self.changes.add(self.changed)

    def _windowed(self, grid: SyncGrid, side: int, wanted: Floats, which: np.ufunc) -> Floats:
        """Return the extreme recommendation of one side's window at each sync of the row.

        Shape (syncs, lanes); up is side 0, down side 1.
        """
        within, reach, found = grid.within[side], grid.reach[side], wanted
        if not reach:
            return found
        for back in range(1, grid.syncs):
            extreme = which(found[back:], wanted[:-back])
            found = np.concatenate([found[:back], np.where(within[back:] >= back, extreme, found[back:])])
        earlier = np.maximum(within - np.arange(grid.syncs)[:, None], 0)
        extremes = which.accumulate(self.recommended.newest(reach), axis=0)
        nothing = np.full((1, extremes.shape[1]), np.nan)
        seen: Floats = which(found, np.concatenate([nothing, extremes])[earlier, self.lanes])
        return seen

    def _limited(self, grid: SyncGrid, at: int, asked: Floats, before: Floats) -> Floats:
        """Hold the rate policies of the direction taken."""
        result = asked
        for direction, back in ((self.up, grid.back[0]), (self.down, grid.back[1])):
            moving = asked > before if direction.sign > 0 else asked < before
            if not some(moving):
                continue
            end = direction.limit(before, [self._began(slots[at], before) for slots in back])
            nearest = np.minimum(asked, end) if direction.sign > 0 else np.maximum(asked, end)
            result = np.where(moving, nearest, result)
        return result

    def _began(self, back: Integers, before: Floats) -> Floats:
        """Return the counts where a period began: the own changes since then are taken back."""
        reach = int(back.max(initial=1))
        if reach == 1:
            return before
        left: Floats = self.changes.newest(reach)[back - 1, self.lanes]
        return before - (self.changed - left)

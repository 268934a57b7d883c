"""Kubernetes' HorizontalPodAutoscaler, version autoscaling/v2: ratio, missing pods, windows, rate policies.

After the documentation, https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
("Algorithm details", "Configurable scaling behavior"), and KEP-853 for the order of stabilisation and rate:
https://github.com/kubernetes/enhancements/tree/master/keps/sig-autoscaling/853-configurable-hpa-scale-velocity.
The count it starts from counts as a recommendation, ``recordInitialRecommendation`` of
https://github.com/kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal.go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from hs_analysis.controllers.view import PoolView, Reply, documented, round_up

DOC = "https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/"
NEVER = -math.inf

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
class Metric:
    """One entry of ``spec.metrics``.

    Attributes
    ----------
    signal
        Name of the reading: a pool total for AverageValue and Value, a pool mean for Pods.
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
    """

    signal: str
    target: float
    kind: Literal["AverageValue", "Value", "Pods"] = "AverageValue"
    averaging_s: float = 60.0
    others: tuple[Operand, ...] = ()
    how: Literal["sum", "max", "min"] = "sum"
    each: bool = False

    def value(self, view: PoolView, empty: float | None = None) -> float | None:
        """Return what the metric reads [unit of the first signal]; ``empty`` where nothing was scraped."""
        first = view.mean(self.signal, self.averaging_s)
        if not self.others:
            return empty if first is None else first
        rest = [(one.weight, view.mean(one.signal, one.averaging_s)) for one in self.others]
        readings = [first, *(None if value is None else weight * value for weight, value in rest)]
        if self.each:
            readings = [empty if value is None else value for value in readings]
        known = [value for value in readings if value is not None]
        if len(known) < len(readings):
            return empty
        return sum(known) if self.how == "sum" else max(known) if self.how == "max" else min(known)


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
        own = (metric.signal for metric in self.metrics)
        return (*own, *(other.signal for metric in self.metrics for other in metric.others))

    @property
    def tolerances(self) -> Tolerances:
        """Tolerance below and above a ratio of 1."""
        down, up = (self.tolerance if r.tolerance is None else r.tolerance for r in (self.down, self.up))
        return down, up


@dataclass(frozen=True, slots=True)
class HpaMemory:
    """Recommendations and changes that a window or a period still reaches: (time [Unix s], instances).

    The first recommendation is the count that the controller found when it first saw its pool.
    """

    recommended: tuple[tuple[float, int], ...]
    changes: tuple[tuple[float, int], ...] = ()


def decide(parameters: Hpa, view: PoolView, memory: HpaMemory | None) -> Reply:
    """Ask for the count of one HorizontalPodAutoscaler.

    A metric that can't be read holds the count; when others can, they may grow the pool but not shrink it.
    """
    values = tuple(metric.value(view) for metric in parameters.metrics)
    return decide_on(parameters, values, view, memory)


def decide_on(
    parameters: Hpa, values: Sequence[float | None], view: PoolView, memory: HpaMemory | None
) -> Reply:
    """Ask for a count, given one value per metric. The controller syncs several times within a row."""
    # Metrics known or not: within its windows a start keeps what it found.
    memory = memory or HpaMemory(((view.t_s, view.desired),))
    count = view.desired
    wanted = recommendation(parameters, values, view)
    for sync in range(max(1, round(view.window_s / parameters.sync_s))):
        t_s = view.t_s + sync * parameters.sync_s
        before = count
        if wanted is not None:
            count, memory = _stabilised(parameters, wanted, before, t_s, memory)
            count = _limited(parameters, count, before, t_s, memory)
        count = min(max(count, parameters.min_replicas), parameters.max_replicas)
        if count != before:
            kept = tuple(c for c in memory.changes if t_s - c[0] < _longest(parameters))
            memory = HpaMemory(memory.recommended, (*kept, (t_s, count - before)))
    why = "metric is missing" if wanted is None else f"wants {wanted} of {view.desired}"
    return Reply(count, memory, f"{why}: {_direction(count, view.desired)}")


def recommendation(parameters: Hpa, values: Sequence[float | None], view: PoolView) -> int | None:
    """Return the largest count of the metrics that can be read; None when it can't be told.

    With one metric missing a smaller count than the current one is not recommended.
    """
    counts = [
        _of_metric(metric, value, view, parameters.tolerances)
        for metric, value in zip(parameters.metrics, values, strict=True)
    ]
    known = [count for count in counts if count is not None]
    if not known or (len(known) < len(counts) and max(known) < view.desired):
        return None
    return max(known)


def _of_metric(metric: Metric, value: float | None, view: PoolView, tolerance: Tolerances) -> int | None:
    if value is None or not math.isfinite(value):
        return None
    current, ready = view.desired, max(1, min(view.desired, int(view.ready + 1e-9)))
    if current == 0:
        return max(1, round_up(value / metric.target)) if value > 0 else 0
    if metric.kind == "AverageValue":
        return (
            current if _near(value / metric.target / current, tolerance) else round_up(value / metric.target)
        )
    if metric.kind == "Value":
        ratio = value / metric.target
        return current if _near(ratio, tolerance) else round_up(ratio * ready)
    return replicas_for([value] * ready, current - ready, metric.target, current, tolerance)


def replicas_for(
    metrics: Sequence[float | None],
    unready: int,
    target: float,
    current: int,
    tolerance: Tolerances = (0.1, 0.1),
) -> int:
    """Return the count for a metric of single pods.

    Parameters
    ----------
    metrics
        Value of each ready pod; None = missing. At least one must be known.
    unready
        Pods not yet ready.
    target, current, tolerance
        Reply mean, pods now, and how near 1 the ratio must be to change nothing.

    Notes
    -----
    Missing pods count as being at the target when the others ask for fewer, and at zero when they ask for
    more; pods not yet ready count at zero when more are asked for. If that turns the direction round or comes
    within the tolerance, the count stays.
    """
    known = [value for value in metrics if value is not None]
    missing = len(metrics) - len(known)
    ratio = sum(known) / len(known) / target
    rebalance = unready > 0 and ratio > 1
    if not missing and not rebalance:
        return current if _near(ratio, tolerance) else round_up(ratio * len(known))
    pods = len(known) + missing + (unready if rebalance else 0)
    new = (sum(known) + (missing * target if ratio < 1 else 0.0)) / pods / target
    if _near(new, tolerance) or (ratio < 1) != (new < 1):
        return current
    count = round_up(new * pods)
    return current if (new < 1) == (count > current) else count


def _near(ratio: float, tolerance: Tolerances) -> bool:
    down, up = tolerance
    return 1.0 - down - 1e-12 <= ratio <= 1.0 + up + 1e-12


def _stabilised(
    parameters: Hpa, wanted: int, current: int, t_s: float, memory: HpaMemory
) -> tuple[int, HpaMemory]:
    """Take the lowest recommendation of the scale-up window, the highest of the scale-down window."""
    up_s, down_s = parameters.up.stabilization_s, parameters.down.stabilization_s
    seen = [r for r in memory.recommended if t_s - r[0] < up_s or t_s - r[0] < down_s]
    lowest = highest = wanted
    for t, count in seen:  # decided tens of thousands of times in a run
        if count < lowest and t_s - t < up_s:
            lowest = count
        elif count > highest and t_s - t < down_s:
            highest = count
    return min(max(current, lowest), highest), HpaMemory((*seen, (t_s, wanted)), memory.changes)


def _limited(parameters: Hpa, wanted: int, current: int, t_s: float, memory: HpaMemory) -> int:
    """Hold the rate policies of the direction taken."""
    if wanted == current:
        return current
    up = wanted > current
    rules = parameters.up if up else parameters.down
    if rules.select == "Disabled":
        return current
    ends = [_end_of(policy, current, t_s, memory, up=up) for policy in rules.policies]
    widest = rules.select == "Max"
    if up:
        return max(current, min(wanted, max(ends) if widest else min(ends))) if ends else wanted
    return min(current, max(wanted, min(ends) if widest else max(ends))) if ends else wanted


def _end_of(policy: RatePolicy, current: int, t_s: float, memory: HpaMemory, *, up: bool) -> int:
    """Return the count a policy allows, counted from where its period began."""
    began = current - sum(change for t, change in memory.changes if t_s - t < policy.period_s)
    sign = 1 if up else -1
    if policy.kind == "Pods":
        return began + sign * policy.value
    exact = began * (100 + sign * policy.value) / 100
    return math.ceil(exact - 1e-9) if up else math.floor(exact + 1e-9)


def _longest(parameters: Hpa) -> float:
    return max(
        (p.period_s for rules in (parameters.up, parameters.down) for p in rules.policies), default=0.0
    )


def _direction(after: int, before: int) -> str:
    return f"out to {after}" if after > before else f"in to {after}" if after < before else "hold"

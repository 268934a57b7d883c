"""Kubernetes' HorizontalPodAutoscaler and KEDA on top of it, as plain as their source.

Written from kubernetes/kubernetes pkg/controller/podautoscaler (horizontal.go, replica_calculator.go; the
behaviour path of autoscaling/v2) and kedacore/keda pkg/fallback (2.18 and newer) for one object and one
moment at a time. Nothing is shared with what the package itself simulates. Not here: resource and pod
metrics, scale to zero, formulas of several triggers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from simulator.steering import Order, Sight, Steering

SYNC_S = 15
"""Time between two decisions of an HPA [s]: the default of --horizontal-pod-autoscaler-sync-period."""

TOLERANCE = 0.1
"""The default of --horizontal-pod-autoscaler-tolerance [ratio]."""

MILLI = 1000
"""Metric values are whole thousandths."""

Reading = float | None
"""What a query answered; None when it failed or was empty."""


@dataclass(frozen=True)
class Policy:
    """At most this many pods, or percent of the pods there were, within a period [s]."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True)
class Rules:
    """One direction: stabilization window [s], policies, which of them counts, and tolerance [ratio]."""

    window_s: int
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = TOLERANCE


UP = Rules(0, (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))
DOWN = Rules(300, (Policy("Percent", 100, 15),))
"""Kubernetes' defaults (autoscaling/v2 defaults.go)."""


@dataclass(frozen=True)
class Target:
    """What one metric is held at: per pod (AverageValue), or as it is (Value)."""

    value: float
    kind: Literal["AverageValue", "Value"] = "AverageValue"


@dataclass
class Hpa:
    """One HorizontalPodAutoscaler with what its controller remembers; changed in place.

    ``targets`` has one entry per external metric, ``least`` and ``most`` bound the count, ``up`` and ``down``
    are the rules of the two directions.
    """

    targets: tuple[Target, ...]
    least: int
    most: int
    up: Rules = UP
    down: Rules = DOWN
    wanted: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    deleted: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now_s: float, pods: int, readings: Sequence[Reading], ready: int | None = None) -> int:
        """Decide once.

        Parameters
        ----------
        now_s
            Now; never before an earlier decision.
        pods
            Pods of the scaled object, those that are not ready too.
        readings
            One per target.
        ready
            Ready pods, which targets of kind Value multiply; all of them without it.
        """
        if not self.wanted:
            self.wanted.append((now_s, pods))
        count = self._count(now_s, pods, readings, pods if ready is None else ready)
        change = count - pods
        if change:
            (self.added if change > 0 else self.deleted).append((now_s, abs(change)))
        return count

    def _count(self, now_s: float, pods: int, readings: Sequence[Reading], ready: int) -> int:
        if pods == 0 and self.least != 0:
            return 0  # somebody switched it off
        if pods > self.most:
            return self.most
        if pods < self.least:
            return self.least
        proposed = self._of_metrics(pods, readings, ready)
        if proposed is None:
            return pods
        return self._limited(now_s, pods, self._stabilized(now_s, pods, proposed))

    def _of_metrics(self, pods: int, readings: Sequence[Reading], ready: int) -> int | None:
        """Return the largest count that a metric asks for; None when it can't be known."""
        known = [
            self._of_metric(pods, target, reading, ready)
            for target, reading in zip(self.targets, readings, strict=True)
            if reading is not None and math.isfinite(reading)
        ]
        if not known or (len(known) < len(readings) and max(known) < pods):
            return None
        return max(known)

    def _of_metric(self, pods: int, target: Target, reading: float, ready: int) -> int:
        value, goal = round(reading * MILLI), round(target.value * MILLI)
        ratio = value / (goal * pods) if target.kind == "AverageValue" else value / goal
        if 1.0 - self.down.tolerance <= ratio <= 1.0 + self.up.tolerance:
            return pods
        return math.ceil(value / goal) if target.kind == "AverageValue" else math.ceil(ratio * ready)

    def _stabilized(self, now_s: float, pods: int, proposed: int) -> int:
        """Return the pods there are, or as near to them as all recent proposals are."""
        floor = min([proposed, *_since(self.wanted, now_s - self.up.window_s)])
        ceiling = max([proposed, *_since(self.wanted, now_s - self.down.window_s)])
        oldest = now_s - max(self.up.window_s, self.down.window_s)
        self.wanted = [one for one in self.wanted if one[0] >= oldest]
        self.wanted.append((now_s, proposed))
        return min(max(pods, floor), ceiling)

    def _limited(self, now_s: float, pods: int, count: int) -> int:
        """Return the count as far as policies and bounds let it go."""
        if count > pods:
            return min(count, self.most, max(pods, self._limit(now_s, pods, self.up, 1)))
        if count < pods:
            return max(count, self.least, min(pods, self._limit(now_s, pods, self.down, -1)))
        return count

    def _limit(self, now_s: float, pods: int, rules: Rules, sign: int) -> int:
        if rules.select == "Disabled":
            return pods
        limits = []
        for policy in rules.policies:
            since = now_s - policy.period_s
            before = pods - sum(_since(self.added, since)) + sum(_since(self.deleted, since))
            if policy.kind == "Pods":
                limits.append(before + sign * policy.value)
            else:  # up it is rounded up and down it is cut off: a step is never none
                share = before * (1.0 + sign * policy.value / 100.0)
                limits.append(math.ceil(share) if sign > 0 else int(share))
        return max(limits) if (rules.select == "Max") == (sign > 0) else min(limits)


def _since(events: Sequence[tuple[float, int]], moment_s: float) -> list[int]:
    """Return the counts of the events after a moment."""
    return [count for at_s, count in events if at_s > moment_s]


@dataclass
class Fallback:
    """KEDA's answer to a query that failed more often in a row than the threshold; changed in place.

    Requests of the HPA are counted, not polls of KEDA's own: those would bring it some seconds earlier.
    """

    threshold: int
    replicas: int
    behavior: str = "static"
    failures: int = 0

    def answer(self, reading: Reading, target: Target, pods: int) -> Reading:
        """Return what the HPA is told for a reading."""
        if reading is not None:
            self.failures = 0
            return reading
        self.failures += 1
        if self.failures <= self.threshold or target.kind != "AverageValue":
            return None
        counts = {
            "static": self.replicas,
            "currentReplicas": pods,
            "currentReplicasIfHigher": max(pods, self.replicas),
            "currentReplicasIfLower": min(pods, self.replicas),
        }
        return target.value * counts[self.behavior]


Query = Callable[[float], Reading]
"""Answers as of a moment [s]."""


Autoscaler = Callable[[Sight, str], int]
"""Decides the count of a pool, by what is seen and its role."""


@dataclass
class Scaled:
    """An HPA at work, made by KEDA or by hand.

    Attributes
    ----------
    hpa
        The object.
    queries
        One per target.
    fallbacks
        One per target, as KEDA keeps them; None without.
    zero
        Whether an empty answer is read as 0, per target (KEDA's ``ignoreNullValues``).
    """

    hpa: Hpa
    queries: tuple[Query, ...]
    fallbacks: tuple[Fallback | None, ...]
    zero: tuple[bool, ...]

    def __call__(self, sight: Sight, role: str) -> int:
        """Ask the queries and decide."""
        pods, told = sight.asked[role], []
        for query, target, fallback, zero in zip(
            self.queries, self.hpa.targets, self.fallbacks, self.zero, strict=True
        ):
            reading = query(sight.t_s)
            reading = 0.0 if reading is None and zero else reading
            told.append(fallback.answer(reading, target, pods) if fallback else reading)
        return self.hpa.sync(sight.t_s, pods, told, sight.ready[role])


def steering_of(autoscalers: Mapping[str, Autoscaler]) -> Steering:
    """Return what steers each pool by its own autoscaler; a pool without one keeps its count."""
    return lambda sight: {role: Order(one(sight, role)) for role, one in autoscalers.items()}


def static(counts: Mapping[str, int]) -> Steering:
    """Return what asks for the same counts at all times."""
    return lambda sight: {role: Order(count) for role, count in counts.items()}

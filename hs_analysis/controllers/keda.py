"""KEDA's ScaledObject: a HorizontalPodAutoscaler, activation from and to zero, fallback, empty queries.

After https://keda.sh/docs/latest/reference/scaledobject-spec/ and, for ``ignoreNullValues``,
https://keda.sh/docs/latest/scalers/prometheus/; what they leave open (a trigger in error is not active and
does not renew the cooldown, one that falls back is active, both polls and the HPA's requests count as
failures) after https://github.com/kedacore/keda, pkg/scaling and pkg/fallback. KEDA's metrics server asks the
source whenever the HPA does, so that ``pollingInterval`` governs zero and failures alone; cached metrics are
not modelled.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from hs_analysis.controllers import hpa
from hs_analysis.controllers.hpa import Hpa, HpaBatch, Metric, numbers
from hs_analysis.controllers.lanes import (
    FALLBACK,
    GROWS,
    HOLDS,
    IDLE,
    STEP_LIMIT,
    Fleet,
    Key,
    PerLane,
    PoolOrders,
    documented,
    some,
)
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.clock import UTC_NAME, minute_of_week

DOC = "https://keda.sh/docs/latest/reference/scaledobject-spec/"
PROMETHEUS_DOC = "https://keda.sh/docs/latest/scalers/prometheus/"
CRON_DOC = "https://keda.sh/docs/latest/scalers/cron/"

CRON = Metric("", 1.0, averaging_s=0.0)
"""What the cron triggers of an object ask for together: read off the clock, no reading is behind it."""

NO_CRON = 1.0
"""Instances that an inactive cron trigger asks for: ``defaultDesiredReplicas`` of KEDA's source."""


@dataclass(frozen=True)
class Fallback:
    """What stands in for a trigger that failed more than ``failure_threshold`` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = (
        "static"
    )


@dataclass(frozen=True)
class Keda:
    """One ScaledObject.

    ``hpa`` holds the triggers (AverageValue or Value) and ``horizontalPodAutoscalerConfig``; its own bounds
    are not used. ``ignore_null_values``: an empty answer of Prometheus counts as zero.
    """

    hpa: Hpa
    min_replica_count: int = field(default=0, metadata=documented("instances", DOC))
    max_replica_count: int = field(default=100, metadata=documented("instances", DOC))
    idle_replica_count: int | None = field(default=None, metadata=documented("instances", DOC))
    polling_interval_s: float = field(default=30.0, metadata=documented("s", DOC))
    cooldown_period_s: float = field(default=300.0, metadata=documented("s", DOC))
    activation_threshold: float = field(
        default=0.0, metadata=documented("unit of the signal", PROMETHEUS_DOC)
    )
    ignore_null_values: bool = field(default=True, metadata=documented("", PROMETHEUS_DOC))
    fallback: Fallback | None = field(default=None, metadata=documented("", DOC))
    plan: tuple[float, ...] = field(default=(), metadata=documented("instances", CRON_DOC))
    zone: str = field(default=UTC_NAME, metadata=documented("", CRON_DOC))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return self.hpa.signals


def structure(parameters: Keda) -> Hashable:
    """Return what ScaledObjects of one batch have in common; they may differ in every other number."""
    zone = parameters.zone if parameters.plan else ""
    return hpa.structure(parameters.hpa), parameters.idle_replica_count is not None, zone


class KedaBatch(PerLane):
    """ScaledObjects of one pool, one a lane, with what they remember.

    They remember the HPA's memory, failures in a row of each trigger, and when one was last active [Unix s].
    Memory is changed in place by `step`.

    Parameters
    ----------
    parameters
        One ScaledObject a lane, of one `structure`.
    role
        The pool that they scale.
    """

    def __init__(self, parameters: Sequence[Keda], role: str) -> None:
        if len({structure(one) for one in parameters}) != 1:
            raise ValueError("controllers of one batch need one structure")
        self.role = role
        bounded = [
            replace(one.hpa, min_replicas=max(1, one.min_replica_count), max_replicas=one.max_replica_count)
            for one in parameters
        ]
        self.hpa = HpaBatch(bounded, role)
        self.idles = parameters[0].idle_replica_count is not None
        self.least = numbers([one.min_replica_count for one in parameters])
        self.rest = numbers([one.idle_replica_count or 0 for one in parameters])
        self.polling_s = numbers([one.polling_interval_s for one in parameters])
        self.cooldown_s = numbers([one.cooldown_period_s for one in parameters])
        self.activation = numbers([one.activation_threshold for one in parameters])
        self.empty = numbers([0.0 if one.ignore_null_values else np.nan for one in parameters])
        self.falls = np.array([one.fallback is not None for one in parameters])
        fallbacks = [one.fallback or Fallback(0, 0) for one in parameters]
        behaviors = np.array([one.behavior for one in fallbacks])
        self.behaviors = {str(one): behaviors == one for one in np.unique(behaviors)}
        self.threshold = numbers([one.failure_threshold for one in fallbacks])
        self.replicas = numbers([one.replicas for one in fallbacks])
        self.failures = np.zeros((len(self.hpa.metrics), len(parameters)))
        self.active_s = np.full(len(parameters), np.nan)
        self.zone = parameters[0].zone
        self.plan = np.array([one.plan for one in parameters], float).T  # no rows without cron triggers

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""
        return self.hpa.keys

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return self.hpa.reach_s

    def step(self, fleet: Fleet) -> PoolOrders:
        """Ask for the count of every pool."""
        desired = fleet.desired[self.role]
        read = self.hpa.metrics[:-1] if self.plan.size else self.hpa.metrics
        looks = self.hpa.syncs(fleet.window_s)
        values = [metric.read_within(fleet.scraped, self.role, looks, self.empty) for metric in read]
        calls = [value[-1] > self.activation for value in values]
        if self.plan.size:
            planned = self.plan[minute_of_week(fleet.t_s, self.zone), np.arange(fleet.lanes)]
            calls.append(planned > 0)
            values.append(np.broadcast_to(np.where(planned > 0, planned, NO_CRON), (looks, fleet.lanes)))
        failed = np.isnan(np.array([value[-1] for value in values]))
        steady = not self.idles and not some(failed) and not some((self.least <= 0) | (desired < self.least))
        if steady:
            # Nothing fails, rests or wakes: the HPA alone decides.
            self.failures = np.zeros_like(self.failures)
            return self.hpa.follow(self.hpa.recommend(values, fleet), fleet)
        fallen = self._fallen(failed, desired, fleet.window_s)
        # A trigger that falls back is active; one in error is not, and does not renew the cooldown.
        active = np.any(calls, axis=0) | fallen.any(axis=0)
        error = (failed & ~fallen).any(axis=0)
        wakes = active & ((desired == 0) | (self.idles & (desired < self.least)))
        self.active_s = np.where(
            np.isnan(self.active_s) | (active & (wakes | ~error)), fleet.t_s, self.active_s
        )
        quiet = ~active & ~(error & (~self.falls | (self.replicas != 0)))
        rests = self._rests(quiet, desired, fleet.t_s)
        raised = quiet & (not self.idles) & (desired < self.least)
        wanted = self.hpa.recommend(self._with_fallback(values, fallen, fleet), fleet)
        orders = self.hpa.follow(wanted, fleet, on=~(wakes | rests | raised))
        lifted = wakes | raised
        orders.count = np.where(lifted, np.maximum(1.0, self.least), np.where(rests, self.rest, orders.count))
        orders.code[lifted] = np.where(orders.count > desired, GROWS, HOLDS)[lifted]
        orders.code[rests] = IDLE
        replaced = fallen.any(axis=0) & ~lifted & ~rests & (orders.code != STEP_LIMIT)
        orders.code[replaced] = FALLBACK
        return orders

    def _fallen(self, failed: Mask, desired: Floats, window_s: float) -> Mask:
        """Count failures; return the triggers that fall back, shape (triggers, lanes).

        KEDA counts its own polls and, while there are pods, the HPA's requests of the row that was empty.
        """
        asked = np.maximum(1.0, np.round(window_s / self.polling_s))
        asked = asked + np.where(desired > 0, max(1, round(window_s / self.hpa.sync_s)), 0)
        self.failures = np.where(failed, self.failures + asked, 0.0)
        found: Mask = failed & self.falls & (self.failures > self.threshold)
        for row, metric in enumerate(self.hpa.metrics):
            found[row] &= ~metric.kinds.get("Pods", np.zeros(desired.size, bool))
        return found

    def _rests(self, quiet: Mask, desired: Floats, t_s: Floats) -> Mask:
        """Return the lanes that go to, or stay at, their count without activity."""
        cooled = quiet & (t_s - self.active_s >= self.cooldown_s)
        found: Mask = cooled & ((desired > self.rest) if self.idles else (desired > 0) & (self.least == 0))
        return found

    def _with_fallback(self, values: Sequence[Floats], fallen: Mask, fleet: Fleet) -> list[Floats]:
        """Replace the value of a trigger that falls back by the one that asks for the fallback's count."""
        if not some(fallen):
            return list(values)
        desired = fleet.desired[self.role]
        ways = {
            "static": self.replicas,
            "currentReplicas": desired,
            "currentReplicasIfHigher": np.maximum(desired, self.replicas),
            "currentReplicasIfLower": np.minimum(desired, self.replicas),
        }
        wanted = desired
        for behavior, own in self.behaviors.items():
            wanted = np.where(own, ways[behavior], wanted)
        ready = np.minimum(desired, np.floor(fleet.ready[self.role] + 1e-9))
        found = []
        for value, metric, down in zip(values, self.hpa.metrics, fallen, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                of_whole = metric.kinds.get("Value", np.zeros(desired.size, bool))
                pods = np.where(of_whole, wanted / np.where(ready > 0, ready, np.nan), wanted)
            found.append(np.where(down, metric.target * pods, value))
        return found

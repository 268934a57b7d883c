"""KEDA's ScaledObject: a HorizontalPodAutoscaler, activation from and to zero, fallback, empty queries.

After https://keda.sh/docs/latest/reference/scaledobject-spec/ and, for ``ignoreNullValues``,
https://keda.sh/docs/latest/scalers/prometheus/. KEDA's metrics server asks the source whenever the HPA does,
so that ``pollingInterval`` governs zero and failures alone; cached metrics are not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hs_analysis.controllers import hpa
from hs_analysis.controllers.hpa import Hpa, HpaMemory
from hs_analysis.controllers.view import PoolView, Reply, documented

DOC = "https://keda.sh/docs/latest/reference/scaledobject-spec/"
PROMETHEUS_DOC = "https://keda.sh/docs/latest/scalers/prometheus/"


@dataclass(frozen=True)
class Fallback:
    """What stands in for a trigger that failed more than ``failure_threshold`` polls in a row."""

    failure_threshold: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = (
        "static"
    )


@dataclass(frozen=True)
class Keda:
    """One ScaledObject.

    ``hpa`` holds the triggers (a fallback needs AverageValue) and ``horizontalPodAutoscalerConfig``; its own
    bounds are not used. ``ignore_null_values``: an empty answer of Prometheus counts as zero.
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

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return self.hpa.signals


@dataclass(frozen=True, slots=True)
class KedaMemory:
    """The HPA's memory, failed polls in a row, and when a trigger was last active [Unix s]."""

    hpa: HpaMemory | None = None
    failures: int = 0
    active_s: float | None = None


def decide(parameters: Keda, view: PoolView, memory: KedaMemory | None) -> Reply:
    """Ask for the count of one ScaledObject."""
    memory = memory or KedaMemory(active_s=view.t_s)
    empty = 0.0 if parameters.ignore_null_values else None
    values = [metric.value(view, empty) for metric in parameters.hpa.metrics]
    failed = None in values
    polls = max(1, round(view.window_s / parameters.polling_interval_s))
    failures = memory.failures + polls if failed else 0
    active = failed or any(v is not None and v > parameters.activation_threshold for v in values)
    memory = KedaMemory(memory.hpa, failures, view.t_s if active else memory.active_s)
    resting = _resting(parameters)
    if (
        resting is not None
        and not active
        and view.t_s - (memory.active_s or 0.0) >= parameters.cooldown_period_s
    ):
        return Reply(resting, memory, f"no trigger is active: rests at {resting}")
    least = max(1, parameters.min_replica_count)
    if view.desired < least and active:
        return Reply(least, memory, f"a trigger is active: out to {least}")
    if view.desired < least:
        return Reply(view.desired, memory, "no trigger is active: hold")
    scaler = replace(parameters.hpa, min_replicas=least, max_replicas=parameters.max_replica_count)
    answer = hpa.decide_on(scaler, _with_fallback(parameters, values, view, failures), view, memory.hpa)
    return Reply(answer.count, replace(memory, hpa=answer.memory), answer.reason)


def _resting(parameters: Keda) -> int | None:
    """Return the count without activity, None when it is the minimum of the HPA."""
    if parameters.idle_replica_count is not None:
        return parameters.idle_replica_count
    return 0 if parameters.min_replica_count == 0 else None


def _with_fallback(
    parameters: Keda, values: Sequence[float | None], view: PoolView, failures: int
) -> tuple[float | None, ...]:
    """Replace the value of a failed trigger by target × fallback replicas, once it failed often enough."""
    fallback = parameters.fallback
    if fallback is None or failures <= fallback.failure_threshold:
        return tuple(values)
    wanted = {
        "static": fallback.replicas,
        "currentReplicas": view.desired,
        "currentReplicasIfHigher": max(view.desired, fallback.replicas),
        "currentReplicasIfLower": min(view.desired, fallback.replicas),
    }[fallback.behavior]
    return tuple(
        metric.target * wanted if value is None and metric.kind == "AverageValue" else value
        for metric, value in zip(parameters.hpa.metrics, values, strict=True)
    )

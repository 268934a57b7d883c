"""HorizontalPodAutoscalers and KEDA ScaledObjects as parameters of the replay's controllers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs_analysis.catalogue import Catalogue
from hs_analysis.current.definitions import Definitions, external_query, pods_query
from hs_analysis.current.model import Known, MetricRead
from hs_analysis.current.queries import Query, read_query
from hs_analysis.current.targets import metric_read, quantity
from hs_analysis.errors import InputError
from hs_analysis.promql import Refused
from hs_analysis.replay.controllers import hpa
from hs_analysis.replay.controllers.keda import Fallback, Keda


@dataclass(frozen=True)
class Reader:
    """What queries are read with: the service, the catalogue, and the rules behind names."""

    known: Known
    catalogue: Catalogue
    definitions: Definitions

    def query(self, text: str, pool: str) -> Query | str:
        """Return what a query reads for a pool, or why it is not read."""
        return read_query(text, pool, self.known, self.catalogue, self.definitions)

    def metric(self, kind: str, name: str, labels: Mapping[str, str], pool: str) -> str:
        """Return the query behind an External metric, or behind one of a pool's pods summed over them."""
        if kind == "External":
            return external_query(name, labels, self.definitions)
        return pods_query(name, labels, self.known.series, pool, self.definitions)


Read = tuple[Any, tuple[MetricRead, ...], tuple[str, ...]]
"""Parameters or None, metrics, notes."""


def read_hpa(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return an HPA's parameters; None when not one of its metrics can be replayed."""
    spec = _mapping(body, "spec", where)
    metrics, notes = [], []
    for number, entry in enumerate(spec.get("metrics") or []):
        read, said = _hpa_metric(entry, pool, reader)
        metrics += [read] if read else []
        notes += [f"metrics[{number}]: {text}" for text in said]
    if not metrics:
        return None, (), tuple(notes)
    up, down = _behaviour(spec.get("behavior") or {}, where)
    least, most = _whole(spec, "minReplicas", 1, where), _whole(spec, "maxReplicas", None, where)
    parameters = hpa.Hpa(_for_replay(metrics, pool), least, most, up=up, down=down)
    return parameters, tuple(metrics), tuple(notes)


def read_scaled_object(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return a ScaledObject's parameters; None when not one of its triggers can be replayed."""
    spec = _mapping(body, "spec", where)
    advanced = spec.get("advanced") or {}
    if advanced.get("scalingModifiers"):
        return None, (), ("scalingModifiers: a formula over triggers is not read",)
    metrics, notes, active, ignored = [], [], [], []
    for number, trigger in enumerate(spec.get("triggers") or []):
        read, said = _trigger(trigger, pool, reader)
        notes += [f"triggers[{number}]: {text}" for text in said]
        if read is not None:
            metrics.append(read)
            metadata = trigger.get("metadata") or {}
            active.append((quantity(metadata.get("activationThreshold", "0")) or 0.0) * read.scale)
            ignored.append(str(metadata.get("ignoreNullValues", "true")).lower() == "true")
    if not metrics:
        return None, (), tuple(notes)
    up, down = _behaviour((advanced.get("horizontalPodAutoscalerConfig") or {}).get("behavior") or {}, where)
    if len(set(active)) > 1 or len(set(ignored)) > 1:
        notes.append("triggers differ in activationThreshold or ignoreNullValues: the first one's are used")
    parameters = Keda(
        hpa.Hpa(_for_replay(metrics, pool), up=up, down=down),
        min_replica_count=_whole(spec, "minReplicaCount", 0, where),
        max_replica_count=_whole(spec, "maxReplicaCount", 100, where),
        idle_replica_count=_whole(spec, "idleReplicaCount", None, where)
        if "idleReplicaCount" in spec
        else None,
        polling_interval_s=float(_whole(spec, "pollingInterval", 30, where)),
        cooldown_period_s=float(_whole(spec, "cooldownPeriod", 300, where)),
        activation_threshold=active[0],
        ignore_null_values=ignored[0],
        fallback=_fallback(spec.get("fallback"), notes, where),
    )
    return parameters, tuple(metrics), tuple(notes)


def _for_replay(metrics: Sequence[MetricRead], pool: str) -> tuple[hpa.Metric, ...]:
    return tuple(
        hpa.Metric(one.name_in(pool), one.target, one.kind, one.averaging_s)  # type: ignore[arg-type]
        for one in metrics
    )


def _hpa_metric(
    entry: Mapping[str, Any], pool: str, reader: Reader
) -> tuple[MetricRead | None, tuple[str, ...]]:
    kind = str(entry.get("type", ""))
    part = entry.get({"External": "external", "Pods": "pods"}.get(kind, ""))
    if not isinstance(part, Mapping):
        return None, (f"type {kind or 'missing'} is not in this history",)
    metric = part.get("metric") or {}
    name, target = str(metric.get("name", "")), part.get("target") or {}
    selector = metric.get("selector") or {}
    if selector.get("matchExpressions"):
        return None, (f"{name}: matchExpressions are not read",)
    try:
        text = reader.metric(kind, name, selector.get("matchLabels") or {}, pool)
    except Refused as refused:
        return None, (refused.line(),)
    query = reader.query(text, pool)
    if isinstance(query, str):
        return None, (f"{name}: {query}",)
    said = str(target.get("type", "AverageValue"))
    value = quantity(target.get("averageValue", target.get("value", "")))
    if value is None or value <= 0:
        return None, (f"{name}: no target above 0",)
    return metric_read(query, said, value, name)


def _trigger(
    trigger: Mapping[str, Any], pool: str, reader: Reader
) -> tuple[MetricRead | None, tuple[str, ...]]:
    kind, metadata = str(trigger.get("type", "")), trigger.get("metadata") or {}
    if kind != "prometheus":
        return None, (f"type {kind or 'missing'}: what it counts is not in this history",)
    text = str(metadata.get("query", ""))
    query = reader.query(text, pool)
    if isinstance(query, str):
        return None, (f"{text}: {query}",)
    value = quantity(metadata.get("threshold", ""))
    if value is None or value <= 0:
        return None, (f"{text}: no threshold above 0",)
    return metric_read(query, str(trigger.get("metricType", "AverageValue")), value, text)


def _behaviour(body: Mapping[str, Any], where: str) -> tuple[hpa.Rules, hpa.Rules]:
    return (
        _rules(body.get("scaleUp") or {}, hpa.SCALE_UP, where),
        _rules(body.get("scaleDown") or {}, hpa.SCALE_DOWN, where),
    )


def _rules(body: Mapping[str, Any], default: hpa.Rules, where: str) -> hpa.Rules:
    """Return one direction; what is not said is Kubernetes' own."""
    tolerance = quantity(body["tolerance"]) if body.get("tolerance") is not None else None
    policies = tuple(
        hpa.RatePolicy(
            "Percent" if one.get("type") == "Percent" else "Pods",
            _whole(one, "value", None, where),
            float(_whole(one, "periodSeconds", None, where)),
        )
        for one in body.get("policies") or []
    )
    window = _whole(body, "stabilizationWindowSeconds", round(default.stabilization_s), where)
    select = str(body.get("selectPolicy", "Max"))
    if select not in ("Max", "Min", "Disabled"):
        raise InputError(f"selectPolicy {select!r} is not Max, Min or Disabled", where=where)
    return hpa.Rules(float(window), policies or default.policies, select, tolerance)  # type: ignore[arg-type]


def _fallback(body: Any, notes: list[str], where: str) -> Fallback | None:
    if not isinstance(body, Mapping):
        return None
    behaviour = str(body.get("behavior", "static"))
    if behaviour not in ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"):
        notes.append(f"fallback.behavior {behaviour} is not read: taken as static")
        behaviour = "static"
    return Fallback(
        _whole(body, "failureThreshold", None, where),
        _whole(body, "replicas", None, where),
        behaviour,  # type: ignore[arg-type]
    )


def _mapping(body: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = body.get(key)
    if not isinstance(found, Mapping):
        raise InputError(f"{key} is missing", where=where)
    return found


def _whole(body: Mapping[str, Any], key: str, default: int | None, where: str) -> int:
    value = body.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        what = f"{key} is missing" if value is None else f"{key}: expected a whole number, found {value!r}"
        raise InputError(what, where=where)
    return value

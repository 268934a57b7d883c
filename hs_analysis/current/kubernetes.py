"""HorizontalPodAutoscalers and KEDA ScaledObjects as parameters of the replay's controllers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hs_analysis.catalogue import Catalogue
from hs_analysis.controllers import hpa
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.current.adapter import Asked, external_query, object_query, pods_query
from hs_analysis.current.definitions import Definitions
from hs_analysis.current.formulas import read_formula
from hs_analysis.current.model import Known, MetricRead, name_in
from hs_analysis.current.queries import Answer, Query, read_query
from hs_analysis.current.targets import metric_read, quantity
from hs_analysis.errors import InputError
from hs_analysis.promql import Refused


@dataclass(frozen=True)
class Reader:
    """What queries are read with: the service, the catalogue, and the rules behind names.

    ``answers`` holds the expression of each quantile that was read, by its (signal, role).
    """

    known: Known
    catalogue: Catalogue
    definitions: Definitions
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def query(self, text: str, pool: str) -> Query | str:
        """Return what a query reads for a pool, or why it is not read."""
        found = read_query(text, pool, self.known, self.catalogue, self.definitions)
        if isinstance(found, Query) and found.answer is not None:
            first = self.answers.setdefault((found.signal, found.role), found.answer)
            if first != found.answer:
                return f"another query of {found.signal}@{found.role} on other series is read already"
        return found

    def metric(self, kind: str, part: Mapping[str, Any], pool: str, namespace: str) -> str:
        """Return the query behind an External metric, one of an object, or one of a pool's pods, summed.

        Raises
        ------
        Refused
            When no rule of the adapter serves it.
        """
        metric = part.get("metric") or {}
        labels = (metric.get("selector") or {}).get("matchLabels") or {}
        asked, rules = Asked(str(metric.get("name", "")), labels, namespace), self.definitions.adapter
        if kind == "External":
            return external_query(asked, self.known.series, rules)
        if kind == "Object":
            described = part.get("describedObject") or {}
            kind_of, name = (str(described.get(key, "")) for key in ("kind", "name"))
            return object_query(asked, kind_of, name, self.known.series, rules)
        return pods_query(asked, self.known.series, pool, rules)


Read = tuple[Any, tuple[MetricRead, ...], tuple[str, ...]]
"""Parameters or None, metrics, notes."""


def read_hpa(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return an HPA's parameters; None when not one of its metrics can be replayed."""
    spec = _mapping(body, "spec", where)
    metrics, notes = [], []
    for number, entry in enumerate(spec.get("metrics") or []):
        namespace = str((body.get("metadata") or {}).get("namespace") or "")
        read, said = _hpa_metric(entry, pool, reader, namespace)
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
    modifiers, triggers = advanced.get("scalingModifiers") or {}, spec.get("triggers") or []
    formula = str(modifiers.get("formula") or "")
    read, notes = (
        _composed(formula, modifiers, triggers, pool, reader) if formula else _alone(triggers, pool, reader)
    )
    if not read:
        return None, (), tuple(notes)
    metrics = tuple(one.metric for one in read)
    up, down = _behaviour((advanced.get("horizontalPodAutoscalerConfig") or {}).get("behavior") or {}, where)
    if len({(one.active, one.ignored) for one in read}) > 1:
        notes.append("triggers differ in activationThreshold or ignoreNullValues: the first one's are used")
    parameters = Keda(
        hpa.Hpa(_for_replay(metrics, pool, each=bool(formula)), up=up, down=down),
        min_replica_count=_whole(spec, "minReplicaCount", 0, where),
        max_replica_count=_whole(spec, "maxReplicaCount", 100, where),
        idle_replica_count=_whole(spec, "idleReplicaCount", None, where)
        if "idleReplicaCount" in spec
        else None,
        polling_interval_s=float(_whole(spec, "pollingInterval", 30, where)),
        cooldown_period_s=float(_whole(spec, "cooldownPeriod", 300, where)),
        activation_threshold=read[0].active,
        ignore_null_values=read[0].ignored,
        fallback=_fallback(spec.get("fallback"), notes, where),
    )
    return parameters, metrics, tuple(notes)


def left_out(body: Mapping[str, Any], is_hpa: bool, read: int) -> int:
    """Return how many metrics or triggers of an object stand beside the ``read`` ones and are not replayed.

    A formula takes the place of the triggers that it names; only CPU and memory stay beside it.
    """
    spec = body.get("spec") or {}
    triggers = spec.get("metrics" if is_hpa else "triggers") or []
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers") or {}
    if read and not is_hpa and modifiers.get("formula"):
        return sum(1 for trigger in triggers if trigger.get("type") in _RESOURCES)
    return len(triggers) - read


@dataclass(frozen=True)
class _Trigger:
    """A metric of a ScaledObject, from which value on it is active, and whether it takes nothing for zero."""

    metric: MetricRead
    active: float
    ignored: bool


def _alone(
    triggers: Sequence[Mapping[str, Any]], pool: str, reader: Reader
) -> tuple[list[_Trigger], list[str]]:
    """Return the triggers that can be replayed, each a metric of its own, and what to note."""
    read, notes = [], []
    for number, trigger in enumerate(triggers):
        metadata = trigger.get("metadata") or {}
        found = _query_of(trigger, pool, reader)
        said: tuple[str, ...] = (found,) if isinstance(found, str) else ()
        if isinstance(found, Query):
            kind, text = str(trigger.get("metricType", "AverageValue")), str(metadata.get("query", ""))
            metric, said = _with_target(found, kind, metadata.get("threshold", ""), "threshold", text)
            if metric is not None:
                read.append(_activated(metric, metadata.get("activationThreshold", "0"), [trigger]))
        notes += [f"triggers[{number}]: {text}" for text in said]
    return read, notes


def _composed(
    formula: str,
    modifiers: Mapping[str, Any],
    triggers: Sequence[Mapping[str, Any]],
    pool: str,
    reader: Reader,
) -> tuple[list[_Trigger], list[str]]:
    """Return the one metric that a formula makes of the triggers it names, and what to note.

    A target, type and activation of a single trigger are not used. CPU and memory stay beside the formula.
    """
    notes = [
        f"triggers[{number}]: {_not_held(str(trigger.get('type')))}"
        for number, trigger in enumerate(triggers)
        if trigger.get("type") in _RESOURCES
    ]
    named = {str(one["name"]): one for one in triggers if one.get("name")}
    found: list[Query] = []
    try:
        weighed = read_formula(formula, named)
        for name, weight in weighed.terms:
            query = _query_of(named[name], pool, reader)
            if isinstance(query, str):
                raise Refused(f"{name}: {query}")
            if query.answer is not None and weighed.how == "min":
                raise Refused(f"{name}: a quantile in a min is not read: the replay does not always know it")
            if query.others and weighed.how != "sum":
                raise Refused(f"{name}: a sum of signals in a {weighed.how} is not read")
            parts = (replace(query, others=()), *query.others)
            found += [replace(part, scale=part.scale / weight) for part in parts]
    except Refused as refused:
        return [], [*notes, f"scalingModifiers.formula: {refused.line()}"]
    notes += [f"scalingModifiers.formula: {text}" for part in found for text in part.notes]
    whole = replace(found[0], others=tuple(found[1:]), how=weighed.how, notes=())
    kind = str(modifiers.get("metricType", "AverageValue"))
    metric, said = _with_target(whole, kind, modifiers.get("target", ""), "target", formula)
    notes += [f"scalingModifiers: {text}" for text in said]
    used = [named[name] for name, _ in weighed.terms]
    if len(set(map(_ignores, used))) > 1:
        notes.append("triggers of the formula differ in ignoreNullValues: the first one's is used")
    active = modifiers.get("activationTarget", "0")
    return ([_activated(metric, active, used)] if metric is not None else []), notes


def _activated(metric: MetricRead, threshold: Any, triggers: Sequence[Mapping[str, Any]]) -> _Trigger:
    return _Trigger(metric, (quantity(threshold) or 0.0) * metric.scale, _ignores(triggers[0]))


def _ignores(trigger: Mapping[str, Any]) -> bool:
    return str((trigger.get("metadata") or {}).get("ignoreNullValues", "true")).lower() == "true"


def _for_replay(metrics: Sequence[MetricRead], pool: str, *, each: bool = False) -> tuple[hpa.Metric, ...]:
    return tuple(
        hpa.Metric(
            name_in(pool, one), one.target, one.kind, one.averaging_s,  # type: ignore[arg-type]
            tuple(hpa.Operand(name_in(pool, o), o.averaging_s, o.weight) for o in one.others), one.how, each,
        )
        for one in metrics
    )  # fmt: skip


_ADAPTED = {"External": "external", "Pods": "pods", "Object": "object"}
"""Types of an HPA's metrics that a metrics adapter serves → the key of their fields."""


def _hpa_metric(
    entry: Mapping[str, Any], pool: str, reader: Reader, namespace: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    kind = str(entry.get("type", ""))
    part = entry.get(_ADAPTED.get(kind, ""))
    if not isinstance(part, Mapping):
        return None, (_not_held_by_hpa(kind, entry),)
    metric = part.get("metric") or {}
    name, target = str(metric.get("name", "")), part.get("target") or {}
    if (metric.get("selector") or {}).get("matchExpressions"):
        return None, (f"{name}: matchExpressions are not read",)
    try:
        text = reader.metric(kind, part, pool, namespace)
    except Refused as refused:
        return None, (_reported(kind, part) + refused.line(),)
    query = reader.query(text, pool)
    if isinstance(query, str):
        return None, (f"{name}: {query}",)
    said = str(target.get("type", "AverageValue"))
    return _with_target(query, said, target.get("averageValue", target.get("value", "")), "target", name)


def _reported(kind: str, part: Mapping[str, Any]) -> str:
    """Return which object a metric of type Object is of, empty for other types."""
    if kind != "Object":
        return ""
    described = part.get("describedObject") or {}
    what = f"{described.get('kind', 'object')} {described.get('name', 'without name')}"
    return f"type Object: what the {what} reports: "


_RESOURCES = ("cpu", "memory")
"""Triggers of KEDA that are Resource metrics of its HPA."""


def _not_held(kind: str) -> str:
    """Return why a trigger of KEDA that asks no Prometheus is not replayed."""
    if kind in _RESOURCES:
        return f"type {kind}: the {kind} use of pods is not in this history"
    if kind == "cron":
        return "type cron: a schedule is not in this history and is not replayed"
    return f"type {kind or 'missing'}: what it counts is not in this history"


def _not_held_by_hpa(kind: str, entry: Mapping[str, Any]) -> str:
    """Return why a metric of an HPA that no adapter serves is not replayed."""
    part = entry.get({"Resource": "resource", "ContainerResource": "containerResource"}.get(kind, ""))
    if isinstance(part, Mapping):
        return f"type {kind}: the {part.get('name', 'resource')} use of pods is not in this history"
    return f"type {kind or 'missing'} is not in this history"


def _query_of(trigger: Mapping[str, Any], pool: str, reader: Reader) -> Query | str:
    """Return what a trigger of KEDA reads, or why it is not read."""
    kind, metadata = str(trigger.get("type", "")), trigger.get("metadata") or {}
    if kind != "prometheus":
        return _not_held(kind)
    text = str(metadata.get("query", ""))
    query = reader.query(text, pool)
    return f"{text}: {query}" if isinstance(query, str) else query


def _with_target(
    query: Query, kind: str, written: Any, called: str, text: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    value = quantity(written)
    if value is None or value <= 0:
        return None, (f"{text}: no {called} above 0",)
    return metric_read(query, kind, value, text)


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

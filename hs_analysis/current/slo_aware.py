"""llm-d's SLO-aware ScaledObjects as parameters of the replay: thresholds, limits, bounds and behaviour.

Read is the formula of its guide, of which the two thresholds may be any, over triggers that are named as
there: ``saturation``, ``replicas``, ``readyReplicas``. The saturation is the worse P90 ÷ limit, smoothed. The
P90s are those that the history records, whoever exports them: the object may ask a router's histograms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hs_analysis.controllers.slo_aware import SCALER, Latency, SloAware
from hs_analysis.current.documents import KEDA, resolved
from hs_analysis.current.kubernetes import Read, Reader, behaviour_of, mapping_of, whole_number
from hs_analysis.current.model import MetricRead
from hs_analysis.export.slo_aware import MEASURED, PREDICTED, QUANTILE, REPLICAS, TRIGGERS, read_formula
from hs_analysis.promql import Form, Refused, Selector, parse
from hs_analysis.promql.forms import (
    Aggregate,
    AsVector,
    Binary,
    Clamp,
    HistogramQuantile,
    Number,
    OverTime,
    Subquery,
    Union,
    walk,
)
from hs_analysis.replay.signals import Quantile

AS_RECORDED = "its P90s are those that this history records, whatever histograms it asks"

_COUNTED = {
    "replicas": {counts[0] for counts in REPLICAS.values()},
    "readyReplicas": {counts[1] for counts in REPLICAS.values()},
}
"""Trigger → the metrics of kube-state-metrics that it counts by."""


def follows_slo(kind: str, body: Mapping[str, Any]) -> bool:
    """Whether an object is a ScaledObject whose formula is over the triggers of llm-d's SLO-aware guide."""
    spec = body.get("spec") or {}
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers") or {}
    named = {one.get("name") for one in spec.get("triggers") or () if isinstance(one, Mapping)}
    return kind == KEDA and bool(modifiers.get("formula")) and set(TRIGGERS) <= named


def read_slo_aware(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return an SLO-aware ScaledObject's parameters; None, and a reason, where it can't be replayed."""
    spec = mapping_of(body, "spec", where)
    advanced = mapping_of(spec, "advanced", where)
    asked = {
        str(one.get("name")): str((one.get("metadata") or {}).get("query", "")) for one in spec["triggers"]
    }
    try:
        up, down = _thresholds(advanced["scalingModifiers"])
        for name, counts in _COUNTED.items():
            _require_counts(name, asked[name], counts)
        form = parse(asked["saturation"])
        for _ in range(1 + len(reader.definitions.records)):  # the guide's rules are made of one another
            form = resolved(form, reader.definitions)
        latencies = _latencies(form, pool, reader)
    except Refused as refused:
        return None, (), (refused.line(),)
    limits = advanced.get("horizontalPodAutoscalerConfig") or {}
    out, inward = behaviour_of(limits.get("behavior") or {}, where)
    least = whole_number(spec, "minReplicaCount", 0, where)
    most = whole_number(spec, "maxReplicaCount", 100, where)
    clamped = [one.most for one in walk(form) if isinstance(one, Clamp)]
    parameters = SloAware(
        latencies,
        up=up,
        down=down,
        most=min(clamped, default=math.inf),
        smoothing_s=max((one.range_s for one in _smoothed(form)), default=0.0),
        scaler=replace(SCALER, min_replicas=least, max_replicas=most, up=out, down=inward),
        missing_is_idle=any(
            isinstance(one, Union) and one.right == AsVector(Number(0.0)) for one in walk(form)
        ),
    )
    read = []
    for one in latencies:
        signal, _, owner = one.signal.partition("@")
        read.append(MetricRead(signal, owner, up * one.slo_s, "Value", 0.0, 1.0, asked["saturation"]))
    return parameters, tuple(read), (AS_RECORDED,)


def _thresholds(modifiers: Mapping[str, Any]) -> tuple[float, float]:
    """Return the thresholds of the formula.

    Raises
    ------
    Refused
        When it is another formula, or its answer is not taken for the count.
    """
    found = read_formula(str(modifiers["formula"]))
    if isinstance(found, str):
        raise Refused(f"scalingModifiers.formula: {found}")
    target, kind = str(modifiers.get("target", "")), str(modifiers.get("metricType", "AverageValue"))
    if target not in ("1", "1.0") or kind != "AverageValue":
        raise Refused(
            f"scalingModifiers: the formula gives a count: target 1 and AverageValue, not {target} {kind}"
        )
    return found


def _require_counts(name: str, query: str, metrics: set[str]) -> None:
    """Refuse a count of pods that is none of kube-state-metrics."""
    found = {one.metric for one in walk(parse(query)) if isinstance(one, Selector)}
    if len(found) != 1 or not found <= metrics:
        raise Refused(f"{name}: {query}: a count is read of {' or '.join(sorted(metrics))} alone")


def _smoothed(form: Form) -> Iterator[OverTime]:
    for one in walk(form):
        if isinstance(one, OverTime) and isinstance(one.of, Subquery):
            yield one


def _latencies(form: Form, pool: str, reader: Reader) -> tuple[Latency, ...]:
    """Return the latencies of a saturation with their limits, as signals that a replay knows.

    Raises
    ------
    Refused
        When something else is made of them, a limit is no number, or one is not recorded.
    """
    for one in walk(form):
        _require_read(one)
    found: dict[str, set[Form]] = {}
    for quotient in walk(form):
        if not isinstance(quotient, Binary) or quotient.sign != "/":
            continue
        for one in walk(quotient.left):
            if isinstance(one, HistogramQuantile):
                found.setdefault(_signal(one, pool, reader), set()).add(quotient.right)
    every = {_signal(one, pool, reader) for one in walk(form) if isinstance(one, HistogramQuantile)}
    if not every:
        raise Refused("saturation: it asks for no quantile of a latency")
    latencies = []
    for signal in sorted(every):
        limits = found.get(signal, set())
        limit = limits.pop() if len(limits) == 1 else None
        if not isinstance(limit, Number) or not limit.value > 0:
            raise Refused(f"saturation: {signal} is not divided by one number, its limit")
        latencies.append(Latency(signal, limit.value))
    return tuple(sorted(latencies, key=lambda one: not one.signal.startswith("ttft")))


def _require_read(one: Form | Subquery) -> None:
    """Refuse what the guide's saturation is not made of."""
    match one:
        case Binary(sign="/" | ">="):
            return
        case Binary(sign="*", left=Number(value=0.0)):
            return
        case Binary(sign=sign):
            raise Refused(f"saturation: {sign} in it is not read", where=one.place)
        case Aggregate(function="sum" | "max") | OverTime(function="rate"):
            return
        case Aggregate(function=function):
            raise Refused(f"saturation: {function} in it is not read", where=one.place)
        case OverTime(function=function) if not (
            function == "avg_over_time" and isinstance(one.of, Subquery)
        ):
            raise Refused(f"saturation: {function} in it is not read", where=one.place)


def _signal(one: HistogramQuantile, pool: str, reader: Reader) -> str:
    """Return a quantile as a signal of the replay with its owner, such as ``ttft_p90_60s@service``.

    Raises
    ------
    Refused
        When it is no P90 of a latency, or not known at other counts.
    """
    metric = next((s.metric or "" for s in walk(one) if isinstance(s, Selector)), "")
    latency = next(
        (name for name in PREDICTED if metric.removesuffix("_bucket") in _families(name, reader)), ""
    )
    if not latency:
        raise Refused(f"saturation: {metric or one.quantile} is no latency that llm-d's formula follows")
    if one.quantile != QUANTILE:
        raise Refused(f"saturation: the {one.quantile:g} quantile in place of {QUANTILE:g} is not replayed")
    range_s = next((s.range_s for s in walk(one) if isinstance(s, OverTime)), 0.0)
    name = Quantile(latency, QUANTILE, range_s).name
    known = reader.known
    owner = next((own for own in ("service", pool) if (name, own) in known.readable), None)
    if owner is None:
        why = next(
            (known.unmodelled[name, own] for own in ("service", pool) if (name, own) in known.unmodelled), ""
        )
        over = f"saturation: the P90 of {latency.upper()} over {range_s:g} s"
        raise Refused(
            f"{over} has no value at counts that never ran: {why}" if why else f"{over} is not recorded"
        )
    return f"{name}@{owner}"


def _families(latency: str, reader: Reader) -> set[str]:
    """Return the histograms of a latency: the router's, and those of the catalogue."""
    known = reader.catalogue.signal(latency)
    names = (one for source in (known.sources if known else ()) for one in source.names)
    return {PREDICTED[latency], MEASURED[latency], *(one.histogram for one in names if one.histogram)}

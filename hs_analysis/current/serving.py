"""Autoscalers of serving stacks as parameters of the replay's controllers: Kthena, AIBrix, KServe, OME.

KServe and OME hand what their objects hold to KEDA, so that they are read as ScaledObjects. What an object
holds that the replay does not know, schedules of a PodAutoscaler among it, leaves the pool as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hs_analysis.controllers.aibrix import Kpa
from hs_analysis.controllers.hpa import Metric, Operand, RatePolicy, Rules
from hs_analysis.controllers.kthena import SCALE_DOWN, SCALE_UP, Kthena, RatioConstraint
from hs_analysis.current.kubernetes import Reader, metric_read, quantity, read_scaled_object
from hs_analysis.current.model import Known, MetricRead, name_in
from hs_analysis.current.queries import Query
from hs_analysis.errors import InputError
from hs_analysis.promql import Refused

COMPONENTS = {"engine": ("prefill", "mixed"), "decoder": ("decode",)}
"""Component of OME → the pools that it may be."""

Read = tuple[str, Any, tuple[MetricRead, ...], tuple[str, ...]]
"""Pool, parameters or None, metrics, notes."""

_DURATION = re.compile(r"(\d+)(h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_ANNOTATION = "autoscaling.aibrix.ai/"


def _seconds(text: object, default: float, where: str) -> float:
    """Return a duration such as ``1m30s`` [s]; the default where it is not said."""
    if text is None:
        return default
    found = _DURATION.findall(str(text))
    if "".join(number + unit for number, unit in found) != str(text):
        raise InputError(f"expected a duration such as 90s, found {text!r}", where=where)
    return sum(float(number) * _SECONDS[unit] for number, unit in found)


def _count(body: Mapping[str, Any], key: str, default: int | None, where: str) -> int:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        what = f"{key} is missing" if value is None else f"{key}: expected a whole number, found {value!r}"
        raise InputError(what, where=where)
    return value


def _rate(given: Mapping[str, str], name: str, where: str) -> float:
    found = quantity(given.get(name, "2"))
    if found is None or found < 1.0:
        raise InputError(f"{name}: expected a number of at least 1, found {given[name]!r}", where=where)
    return found


def _tolerance(given: Mapping[str, str], name: str, where: str) -> float:
    found = quantity(given.get(name, "0.1"))
    if found is None or found < 0.0:
        raise InputError(f"{name}: expected a number of at least 0, found {given[name]!r}", where=where)
    return found


def _metric(
    query: str, target: object, role: str, reader: Reader
) -> tuple[MetricRead | None, tuple[str, ...]]:
    """Return a total against a target per instance, or why it is not read."""
    value = quantity(target)
    if value is None or value <= 0:
        return None, (f"{query}: no target above 0",)
    asked = reader.query(query, role)
    if not isinstance(asked, Query):
        return None, (f"{query}: {asked}",)
    found, notes = metric_read(asked, "AverageValue", value, query, role)
    if found is not None and found.kind != "AverageValue":
        return None, (*notes, f"{query}: no total of the pool")
    return found, notes


def _for_replay(read: MetricRead, role: str) -> Metric:
    others = tuple(Operand(name_in(role, one), one.averaging_s, one.weight) for one in read.others)
    return Metric(
        name_in(role, read), read.target, "AverageValue", read.averaging_s, others, read.how,
        surge=read.surge, highest_s=read.highest_s,
    )  # fmt: skip


def read_kthena(
    body: Mapping[str, Any], known: Known, reader: Reader, where: str
) -> tuple[list[Read], RatioConstraint | None]:
    """Return what each role of an AutoscalingPolicy is set up with, and the band of prefill ÷ decode.

    Raises
    ------
    InputError
        When a duration is none.
    """
    spec = body.get("spec") or {}
    target = spec.get("disaggregatedTarget") or {}
    behavior = spec.get("behavior") or {}
    up = behavior.get("scaleUp") or {}
    common = replace(
        _panic(up.get("panicPolicy") or {}, where),
        tolerance=_count(spec, "tolerancePercent", 10, where) / 100.0,
        up=_limits(up.get("stablePolicy"), SCALE_UP, where),
        down=_limits(behavior.get("scaleDown"), SCALE_DOWN, where),
    )
    found: list[Read] = []
    bounds: dict[str, tuple[int, int]] = {}
    for role, part in (target.get("roles") or {}).items():
        if role not in known.pools:
            found.append((role, None, (), (f"the service has no {role} pool",)))
            continue
        least, most = _count(part, "minReplicas", None, where), _count(part, "maxReplicas", None, where)
        bounds[role] = least, most
        sources = part.get("metricSources") or {}
        reads: list[MetricRead] = []
        notes: list[str] = []
        for metric in part.get("metrics") or []:
            query = str(((sources.get(metric.get("name")) or {}).get("prometheus") or {}).get("query", ""))
            read, said = _metric(query, metric.get("targetValue"), role, reader)
            reads += [read] if read else []
            notes += said
        metrics = tuple(_for_replay(read, role) for read in reads)
        parameters = replace(common, metrics=metrics, min_replicas=least, max_replicas=most)
        found.append((role, parameters if metrics else None, tuple(reads), tuple(notes)))
    given = target.get("ratioConstraint")
    if not given or set(bounds) != {"prefill", "decode"}:
        return found, None
    low, high = (quantity(given.get(key)) or 0.0 for key in ("minRatio", "maxRatio"))
    return found, RatioConstraint(low, high, bounds["prefill"], bounds["decode"])


def _limits(body: Mapping[str, Any] | None, default: Rules, where: str) -> Rules:
    """Return one direction: the webhook's where it is not given, else with the defaults of the CRD.

    Without a window it has the webhook's. A limit of 0 counts: with And it stops the direction; 0 of both is
    off.
    """
    if body is None:
        return default
    period_s = _seconds(body.get("period"), 15.0, where)
    percent, instances = _count(body, "percent", 100, where), _count(body, "instances", 1, where)
    policies = RatePolicy("Percent", percent, period_s), RatePolicy("Pods", instances, period_s)
    window_s = _seconds(body.get("stabilizationWindow"), default.stabilization_s, where)
    if not percent and not instances:
        return Rules(window_s, policies, "Disabled")
    return Rules(window_s, policies, "Min" if body.get("selectPolicy") == "And" else "Max")


def _panic(body: Mapping[str, Any], where: str) -> Kthena:
    """Return a role that panics as given, with the defaults of the CRD; not given is no panic."""
    if not body:
        return Kthena(())
    return Kthena(
        (),
        panic_threshold=_count(body, "panicThresholdPercent", 200, where) / 100.0,
        panic_percent=_count(body, "percent", 1000, where),
        panic_period_s=_seconds(body.get("period"), 0.0, where),
        panic_hold_s=_seconds(body.get("panicModeHold"), 60.0, where),
    )


def read_pod_autoscaler(body: Mapping[str, Any], role: str, reader: Reader, where: str) -> Read:
    """Return what a PodAutoscaler of AIBrix sets up: strategy KPA on one external metric.

    Raises
    ------
    InputError
        When a duration is none.
    """
    spec, meta = body.get("spec") or {}, body.get("metadata") or {}
    sources = spec.get("metricsSources") or []
    strategy = str(spec.get("scalingStrategy", ""))
    if spec.get("schedules"):
        return role, None, (), ("schedules are not replayed",)
    if strategy != "KPA" or len(sources) != 1 or sources[0].get("metricSourceType") != "external":
        what = f"strategy {strategy or 'missing'}: only KPA on one external metric is read"
        return role, None, (), (what,)
    asked = {"metric": {"name": str(sources[0].get("targetMetric", ""))}}
    try:
        query = reader.metric("External", asked, role, str(meta.get("namespace") or ""))
    except Refused as refused:
        return role, None, (), (refused.line(),)
    read, notes = _metric(query, sources[0].get("targetValue"), role, reader)
    if read is None:
        return role, None, (), notes
    written = meta.get("annotations") or {}
    given = {str(name).removeprefix(_ANNOTATION): str(text) for name, text in written.items()}
    metric = _for_replay(read, role)
    parameters = Kpa(
        metric.signal,
        metric.target,
        stable_window_s=float(_count(spec, "observeWindowSeconds", 180, where)),
        panic_window_s=float(_count(spec, "panicWindowSeconds", 60, where)),
        panic_threshold=_rate(given, "panic-threshold", where),
        max_scale_up_rate=_rate(given, "max-scale-up-rate", where),
        max_scale_down_rate=_rate(given, "max-scale-down-rate", where),
        up_tolerance=_tolerance(given, "scale-up-tolerance", where),
        down_tolerance=_tolerance(given, "scale-down-tolerance", where),
        up_cooldown_s=_seconds(given.get("scale-up-cooldown-window"), 0.0, where),
        down_cooldown_s=_seconds(given.get("scale-down-cooldown-window"), 300.0, where),
        min_replicas=_count(spec, "minReplicas", 1, where),
        max_replicas=_count(spec, "maxReplicas", None, where),
        averaging_s=metric.averaging_s,
        others=metric.others,
        surge=metric.surge,
        highest_s=metric.highest_s,
    )
    return role, parameters, (read,), notes


def read_inference_service(body: Mapping[str, Any], known: Known, reader: Reader, where: str) -> list[Read]:
    """Return what KServe makes of the scaling of each role of an LLMInferenceService."""
    spec = body.get("spec") or {}
    decode = "decode" if "decode" in known.pools else known.pools[0]
    places = {decode: spec, "prefill": spec.get("prefill") or {}}
    scaled = {role: part["scaling"] for role, part in places.items() if part.get("scaling")}
    return [
        _as_scaled_object(body, one, one.get("keda"), role, reader, where) for role, one in scaled.items()
    ]


def read_components(
    body: Mapping[str, Any],
    policies: Mapping[str, Mapping[str, Any]],
    known: Known,
    reader: Reader,
    where: str,
) -> list[Read]:
    """Return what OME makes of the policies that the components of an InferenceService name."""
    found: list[Read] = []
    for component, roles in COMPONENTS.items():
        part = (body.get("spec") or {}).get(component) or {}
        name = str((part.get("autoscalerPolicyRef") or {}).get("name") or "")
        role = next((one for one in roles if one in known.pools), "")
        if not name or not role:
            continue
        policy = policies.get(name)
        if policy is None:
            found.append((role, None, (), (f"AutoscalerPolicy {name} is in none of the files",)))
            continue
        given = (policy.get("spec") or {}).get("keda")
        found.append(_as_scaled_object(policy, part, given, role, reader, where))
    return found


def _as_scaled_object(
    body: Mapping[str, Any],
    bounds: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    role: str,
    reader: Reader,
    where: str,
) -> Read:
    """Return a ScaledObject of bounds and of what stands under ``keda``."""
    if not isinstance(given, Mapping):
        return role, None, (), ("it has no keda, and nothing else is read",)
    least, most = bounds.get("minReplicas", 1), bounds.get("maxReplicas")
    counts = {"minReplicaCount": least, "maxReplicaCount": most}
    spec = {"spec": {**given, **counts}, "metadata": body.get("metadata")}
    return role, *read_scaled_object(spec, role, reader, where)


def policies_by_name(bodies: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return AutoscalerPolicies by name."""
    return {str((body.get("metadata") or {}).get("name") or ""): body for body in bodies}

"""KEDA ScaledObjects: one a pool, driven by the recorded signal of its primary or by a timetable.

JSON schemas leave a trigger's metadata open and know no rule across fields, so the check here repeats what
KEDA's own trigger list, its validation rules and its documentation say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.export import kubernetes, model, rules
from hs_analysis.export.kubernetes import LEAST_THRESHOLD, behaviour, number, object_problems
from hs_analysis.export.model import Export, ExportOptions, Loss, concerning
from hs_analysis.policy.model import Bounds, PeriodicEntry, Policy
from hs_analysis.policy.timetable import DAYS


def cron_triggers(entries: Sequence[PeriodicEntry], role: str) -> list[dict[str, Any]]:
    """Return one cron trigger per entry that fixes a count for the role; metadata values are strings."""
    found = []
    for place, entry in enumerate(entries):
        count = {"prefill": entry.prefill, "decode": entry.decode}.get(role)
        if count is None:
            continue
        metadata = {
            "timezone": "UTC",
            "start": _cron(entry.start, entry.days, 0),
            "end": _cron(entry.end, entry.days, int(_past_midnight(entry))),
            "desiredReplicas": str(count),
        }
        found.append({"type": "cron", "name": f"timetable-{place}", "metadata": metadata})
    return found


def _past_midnight(entry: PeriodicEntry) -> bool:
    return _clock(entry.end) <= _clock(entry.start)


def _clock(text: str) -> tuple[int, int]:
    hours, _, minutes = text.partition(":")
    return int(hours), int(minutes or 0)


def _cron(clock: str, days: Sequence[str], shift: int) -> str:
    """Return ``minute hour * * days``; an end past midnight falls on the day after."""
    hours, minutes = _clock(clock)
    numbers = sorted({(DAYS.index(day[:3].lower()) + shift) % 7 for day in days})
    names = ",".join(DAYS[number] for number in numbers) or "*"
    return f"{minutes} {hours % 24} * * {names}"


TARGET = "KEDA ScaledObject keda.sh/v1alpha1 (checked against KEDA 2.20)"
# Failed queries in a row before the fallback holds the pool (the value of KEDA's own examples).
FAILURE_THRESHOLD = 3
KIND = ("keda.sh/v1alpha1", "ScaledObject")
KEDA_SUFFIX = "scaledobjects.yaml"
_POLLING = "Kubernetes decides every 15 s, whatever the polling interval"

# Objects, where their numbers come from in words, and losses.
_Built = tuple[list[dict[str, Any]], list[str], list[Loss]]


def export_keda(policy: Policy, options: ExportOptions) -> Export:
    """Return the ScaledObjects and recording rules of a policy, with everything they do not say.

    In mode hold no object is written; the refusals are the losses.
    """
    files = _rules_file(policy, options)
    if policy.mode == "hold":
        why = "; ".join(policy.refusals) or "the policy is on hold"
        return Export("keda", files, (Loss("*", "refused", f"no object is written: {why}"),))
    known = [*kubernetes.known_losses(), Loss("window_s", "approximated", _POLLING)]
    build = _timetable_objects if policy.mode == "periodic" else _metric_objects
    objects, origins, more = build(policy, options)
    losses = concerning([*known, *more], policy)
    if objects:
        text = model.header(policy, options, TARGET, losses)
        text += model.comment(["", *origins, *_check_lines(objects)])
        text += model.dump_documents(objects)
        files[f"{model.file_stem(policy.service)}.{KEDA_SUFFIX}"] = text
    return Export("keda", files, losses)


def _rules_file(policy: Policy, options: ExportOptions) -> dict[str, str]:
    return dict(rules.export_rules(policy, options).files)


def _metric_objects(policy: Policy, options: ExportOptions) -> _Built:
    losses = rules.missing_expressions(policy)
    losses.append(Loss("periodic", "dropped", "a policy in mode metric keeps no timetable"))
    if policy.on_missing_metric != "hold":
        losses.append(Loss("on_missing_metric", "approximated", "the pool goes to its largest count"))
    pools, more = kubernetes.sizings(policy)
    losses += more
    objects = []
    for pool in pools:
        scaling, lost = behaviour(policy, pool.role, pool.primary.role, options.kubernetes)
        losses += lost
        bounds = policy.bounds.get(pool.role)
        trigger = {
            "type": "prometheus",
            "name": _trigger_name(pool.primary.signal),
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": options.server_address,
                "query": model.recorded(policy, pool.primary, total=pool.total),
                "threshold": model.plain_number(pool.threshold),
                # KEDA's own default reads an empty answer as 0 and scales in (kedacore/keda#3065).
                "ignoreNullValues": "false",
            },
        }
        spec = _spec(policy, pool.role, options, bounds)
        spec["fallback"] = _fallback(policy, bounds)
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": scaling}}
        spec["triggers"] = [trigger]
        objects.append(kubernetes.manifest(policy, pool.role, options, KIND, spec))
    losses += kubernetes.unsized(policy, {pool.role for pool in pools})
    return objects, [pool.origin for pool in pools], losses


def _timetable_objects(policy: Policy, options: ExportOptions) -> _Built:
    text = "a timetable policy sizes no pool by a signal"
    losses = [
        Loss(item, "dropped", text) for item in ("primaries", "pd_ratio", "hysteresis", "cooldown", "step")
    ]
    losses.append(Loss("on_missing_metric", "dropped", "a timetable reads no metric"))
    losses.append(
        Loss(
            "periodic",
            "approximated",
            "between entries the minimum holds, and of two entries the larger wins",
        )
    )
    objects, covered = [], set()
    for role in ("prefill", "decode"):
        triggers = cron_triggers(policy.periodic, role)
        if not triggers:
            continue
        covered.add(role)
        spec = _spec(policy, role, options, policy.bounds.get(role))
        spec["triggers"] = triggers
        objects.append(kubernetes.manifest(policy, role, options, KIND, spec))
    return objects, [], losses + kubernetes.unsized(policy, covered)


def _spec(policy: Policy, role: str, options: ExportOptions, bounds: Bounds | None) -> dict[str, Any]:
    return {
        "scaleTargetRef": kubernetes.scaled_object(policy, role, options),
        "pollingInterval": max(1, round(policy.window_s)),
        # Never left out: KEDA's own minimum is 0.
        "minReplicaCount": bounds.min if bounds else 1,
        **({"maxReplicaCount": bounds.max} if bounds else {}),
    }


def _fallback(policy: Policy, bounds: Bounds | None) -> dict[str, Any]:
    # The largest count is the safe one, for a KEDA that is too old to know currentReplicas as well.
    fallback = {"failureThreshold": FAILURE_THRESHOLD, "replicas": bounds.max if bounds else 1}
    return {**fallback, "behavior": "currentReplicas" if policy.on_missing_metric == "hold" else "static"}


def _trigger_name(signal: str) -> str:
    return signal.replace("_", "-")


def _check_lines(objects: list[dict[str, Any]]) -> list[str]:
    names = kubernetes.workload_names(objects)
    return [f"Check before applying: serverAddress, namespace, and the scaled objects ({names})."]


REQUIRED_METADATA = {
    "prometheus": ("serverAddress", "query", "threshold", "ignoreNullValues"),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
}
KNOWN_METADATA = {
    "prometheus": {
        *REQUIRED_METADATA["prometheus"],
        "activationThreshold",
        "timeout",
        "namespace",
        "customHeaders",
        "queryParameters",
        "unsafeSsl",
    },
    "cron": set(REQUIRED_METADATA["cron"]),
}
# Where maxReplicaCount is left out KEDA takes this.
DEFAULT_MAX_REPLICAS = 100


def lint_scaled_object(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a KEDA ScaledObject, one sentence a problem; empty when nothing is."""
    spec = manifest.get("spec") or {}
    found = object_problems(manifest, ("keda.sh/v1alpha1", "ScaledObject"))
    triggers = spec.get("triggers") or []
    if not triggers:
        found.append("spec.triggers is empty")
    for place, trigger in enumerate(triggers):
        found += [f"spec.triggers[{place}]: {text}" for text in _trigger_problems(trigger)]
    return found + _replica_problems(spec) + _fallback_problems(spec, triggers)


def _trigger_problems(trigger: Mapping[str, Any]) -> list[str]:
    kind, metadata = str(trigger.get("type")), trigger.get("metadata") or {}
    if kind not in REQUIRED_METADATA:
        return [f"type {kind!r} is not one we write"]
    found = [f"metadata.{key} is missing" for key in REQUIRED_METADATA[kind] if not metadata.get(key)]
    found += [f"metadata.{key} is unknown" for key in sorted(set(metadata) - KNOWN_METADATA[kind])]
    found += [f"metadata.{key} is not a string" for key, v in metadata.items() if not isinstance(v, str)]
    if kind == "prometheus" and not found:
        if metadata["ignoreNullValues"] != "false":
            found.append("metadata.ignoreNullValues is not 'false': an empty answer would scale in")
        if number(metadata["threshold"]) < LEAST_THRESHOLD:
            found.append(
                f"metadata.threshold {metadata['threshold']!r} is not a number of at least {LEAST_THRESHOLD}"
            )
        if trigger.get("metricType") == "AverageValue" and not metadata["query"].startswith("sum("):
            found.append("metadata.query is not a sum, so an average per replica of it means nothing")
    return found


def _replica_problems(spec: Mapping[str, Any]) -> list[str]:
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", DEFAULT_MAX_REPLICAS)
    if least < 0 or most < 1 or least > most:
        return [f"replica counts {least} to {most} are not 0 ≤ min ≤ max and max ≥ 1"]
    return []


def _fallback_problems(spec: Mapping[str, Any], triggers: list[Mapping[str, Any]]) -> list[str]:
    fallback = spec.get("fallback")
    if fallback is None:
        wants = any(trigger.get("type") == "prometheus" for trigger in triggers)
        return ["spec.fallback is missing: a failing query would hold nothing"] if wants else []
    found = [
        f"spec.fallback.{key} is missing" for key in ("failureThreshold", "replicas") if key not in fallback
    ]
    if not any(trigger.get("metricType", "AverageValue") == "AverageValue" for trigger in triggers):
        found.append("spec.fallback needs a trigger of metricType AverageValue")
    return found

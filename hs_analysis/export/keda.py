"""KEDA ScaledObjects: one a pool, driven by the recorded signal of its primary or by a timetable.

JSON schemas leave a trigger's metadata open and know no rule across fields, so the check here repeats what
KEDA's own trigger list, its validation rules and its documentation say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hs_analysis.controllers.keda import Keda
from hs_analysis.errors import ContractError
from hs_analysis.export import kubernetes, model, queries, rules, shape
from hs_analysis.export.kubernetes import LEAST_THRESHOLD, PoolSizing, number, object_problems
from hs_analysis.export.model import Export, ExportOptions, Loss, PrometheusAccess, concerning
from hs_analysis.policy.controls import AT_ONCE, timetable_pools
from hs_analysis.policy.model import PeriodicEntry, Policy
from hs_analysis.policy.timetable import DAYS, cron_entries

TITLE = "KEDA ScaledObject keda.sh/v1alpha1 (checked against KEDA 2.20)"
CONTROLLER: Final = "keda"
KIND = ("keda.sh/v1alpha1", "ScaledObject")
KEDA_SUFFIX = "scaledobjects.yaml"
_SYNC = "Kubernetes decides every 15 s"

Built = tuple[dict[str, dict[str, Any]], list[str], list[Loss]]
"""Objects by role, where their numbers come from in words, and losses."""


def export_keda(policy: Policy, options: ExportOptions) -> Export:
    """Return the ScaledObjects of a policy, with everything they do not say, and its recording rules.

    The objects ask for the metrics themselves. The rules are for charts and alerts: no object needs them.

    In mode hold no object is written; the refusals are the losses.
    """
    files = _rules_file(policy, options)
    if policy.mode == "hold":
        why = "; ".join(policy.refusals) or "the policy is on hold"
        return Export("keda", files, (Loss("*", "refused", f"no object is written: {why}"),))
    objects, origins, found = objects_of(policy, options)
    losses = concerning(found, policy, options.costs)
    if objects:
        bodies = list(objects.values())
        said = [*(["; ".join(origins)] if origins else []), _check_line(bodies)]
        text = model.header(policy, options, TITLE, losses, said) + model.dump_documents(bodies)
        files[f"{model.file_stem(policy.service)}.{KEDA_SUFFIX}"] = text
    return Export("keda", files, losses)


def objects_of(policy: Policy, options: ExportOptions) -> Built:
    """Return the ScaledObjects of a policy in mode metric or periodic, where their numbers come from, losses.

    The losses speak of all that a ScaledObject can't say, whether the policy sets it or not.
    """
    known = [*kubernetes.known_losses(policy, CONTROLLER), Loss("window_s", "approximated", _SYNC)]
    build = _timetable_objects if policy.mode == "periodic" else _metric_objects
    objects, origins, more = build(policy, options)
    return objects, origins, [*known, *more]


def _rules_file(policy: Policy, options: ExportOptions) -> dict[str, str]:
    return dict(rules.export_rules(policy, options).files)


def _metric_objects(policy: Policy, options: ExportOptions) -> Built:
    losses = rules.missing_expressions(policy)
    losses.append(Loss("periodic", "dropped", "a policy in mode metric keeps no timetable"))
    pools, more = kubernetes.sizings(policy, CONTROLLER)
    losses += more
    objects = {}
    for pool in pools:
        objects[pool.role], lost = _object(policy, pool, options)
        losses += lost
    losses += kubernetes.unsized(policy, {pool.role for pool in pools})
    return objects, [pool.origin for pool in pools], losses


def _object(policy: Policy, pool: PoolSizing, options: ExportOptions) -> tuple[dict[str, Any], list[Loss]]:
    """Return one ScaledObject, every field of the parameters that is not KEDA's own default among it.

    Raises
    ------
    ContractError
        When the parameters are those of another controller.
    """
    scaler = pool.scaler
    if not isinstance(scaler, Keda):
        raise ContractError(f"{pool.role}: {type(scaler).__name__} is no ScaledObject")
    scaling, losses = kubernetes.behavior(policy, pool, options.kubernetes)
    metadata = {
        # Asked of the metrics themselves: a recorded answer is as old as its rule, and has to be installed.
        "query": pool.query,
        "threshold": model.plain_number(pool.threshold),
        # KEDA's own default reads an empty answer as 0 and scales in (kedacore/keda#3065).
        "ignoreNullValues": str(scaler.ignore_null_values).lower(),
    }
    if scaler.activation_threshold:
        metadata["activationThreshold"] = model.plain_number(scaler.activation_threshold)
    trigger = prometheus_trigger(_trigger_name(pool.primary.signal), metadata, options.access(pool.role))
    spec = {
        "scaleTargetRef": kubernetes.scaled_object(policy, pool.role, options),
        **_counts(scaler),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": scaling}},
        "triggers": [trigger],
    }
    return kubernetes.manifest(policy, pool.role, options, KIND, spec), losses


def prometheus_trigger(name: str, metadata: Mapping[str, str], access: PrometheusAccess) -> dict[str, Any]:
    """Return a trigger that asks Prometheus for an average per replica, on the way that today's goes."""
    return {
        "type": "prometheus",
        "name": name,
        "metricType": "AverageValue",
        "metadata": {"serverAddress": access.server_address or "", **metadata, **access.metadata},
        **({"authenticationRef": dict(access.authentication)} if access.authentication else {}),
    }


def _counts(scaler: Keda) -> dict[str, Any]:
    """Return bounds and fallback; polling and cooldown only where the pool can go to zero.

    KEDA uses neither above zero, and its webhook warns of both.
    """
    found: dict[str, Any] = {}
    if scaler.min_replica_count == 0 or scaler.idle_replica_count is not None:
        found["pollingInterval"] = round(scaler.polling_interval_s)
        found["cooldownPeriod"] = round(scaler.cooldown_period_s)
    if scaler.idle_replica_count is not None:
        found["idleReplicaCount"] = scaler.idle_replica_count
    # Never left out: KEDA's own minimum is 0.
    found["minReplicaCount"] = scaler.min_replica_count
    found["maxReplicaCount"] = scaler.max_replica_count
    if scaler.fallback is not None:
        found["fallback"] = {
            "failureThreshold": scaler.fallback.failure_threshold,
            "replicas": scaler.fallback.replicas,
            "behavior": scaler.fallback.behavior,
        }
    return found


def _timetable_objects(policy: Policy, options: ExportOptions) -> Built:
    text = "a timetable policy sizes no pool by a signal"
    losses = [
        Loss(item, "dropped", text)
        for item in ("primaries", "pd_ratio", "reading", "hysteresis", "cooldown", "step", "controller")
    ]
    losses.append(Loss("on_missing_metric", "dropped", "a timetable reads no metric"))
    losses.append(
        Loss(
            "periodic",
            "approximated",
            "between entries the minimum holds, of two entries the larger wins, and where the zone changes "
            "its clock in the night an entry that ends then ends up to an hour later",
        )
    )
    scaling, lost = kubernetes.behavior_of(*AT_ONCE, options.kubernetes, "periodic")
    entries, pools, objects = cron_entries(policy), timetable_pools(policy), {}
    for role, scaler in pools.items():
        spec = {
            "scaleTargetRef": kubernetes.scaled_object(policy, role, options),
            # Never left out: KEDA's own minimum is 0.
            "minReplicaCount": scaler.min_replica_count,
            **({"maxReplicaCount": scaler.max_replica_count} if role in policy.bounds else {}),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": scaling}},
            "triggers": cron_triggers(entries, role),
        }
        objects[role] = kubernetes.manifest(policy, role, options, KIND, spec)
    return objects, [], losses + lost + kubernetes.unsized(policy, set(pools))


def _trigger_name(signal: str) -> str:
    return signal.replace("_", "-")


def _check_line(objects: list[dict[str, Any]]) -> str:
    names = kubernetes.workload_names(objects)
    return f"Check before applying: serverAddress, namespace, and the scaled objects ({names})."


def cron_triggers(entries: Sequence[PeriodicEntry], role: str) -> list[dict[str, Any]]:
    """Return one cron trigger per entry that fixes a count for the role; metadata values are strings."""
    found = []
    for place, entry in enumerate(entries):
        count = {"prefill": entry.prefill, "decode": entry.decode}.get(role)
        if count is None:
            continue
        metadata = {
            "timezone": entry.zone,
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


REQUIRED_METADATA = {
    "prometheus": ("serverAddress", "query", "threshold", "ignoreNullValues"),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
}
ACCESS = ("authModes", "customHeaders", "namespace", "queryParameters", "unsafeSsl")
"""Metadata of a trigger on Prometheus that is about the way to it."""
KNOWN_METADATA = {
    "prometheus": {
        *REQUIRED_METADATA["prometheus"],
        "activationThreshold",
        "timeout",
        *ACCESS,
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
        found += [f"spec.triggers[{place}]: {text}" for text in trigger_problems(trigger)]
    return found + _replica_problems(spec) + fallback_problems(spec, triggers)


def trigger_problems(trigger: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a trigger: its type, its metadata, and what KEDA would misread."""
    kind, metadata = str(trigger.get("type")), trigger.get("metadata") or {}
    if kind not in REQUIRED_METADATA:
        return [f"type {kind!r} is not one we write"]
    found = [f"metadata.{key} is missing" for key in REQUIRED_METADATA[kind] if not metadata.get(key)]
    known = KNOWN_METADATA[kind]
    found += [shape.unknown(f"metadata.{key}", key, known) for key in sorted(set(metadata) - known)]
    found += [f"metadata.{key} is not a string" for key, v in metadata.items() if not isinstance(v, str)]
    if kind == "cron" and not found and metadata["start"] == metadata["end"]:
        found.append("metadata.start is metadata.end, which KEDA refuses")
    if kind == "prometheus" and not found:
        if metadata["ignoreNullValues"] != "false":
            found.append("metadata.ignoreNullValues is not 'false': an empty answer would scale in")
        if number(metadata["threshold"]) < LEAST_THRESHOLD:
            found.append(
                f"metadata.threshold {metadata['threshold']!r} is not a number of at least {LEAST_THRESHOLD}"
            )
        if trigger.get("metricType") == "AverageValue" and not queries.is_sum(metadata["query"]):
            found.append("metadata.query is not a sum, so an average per replica of it means nothing")
    return found


def _replica_problems(spec: Mapping[str, Any]) -> list[str]:
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", DEFAULT_MAX_REPLICAS)
    if least < 0 or most < 1 or least > most:
        return [f"spec.minReplicaCount: replica counts {least} to {most} are not 0 ≤ min ≤ max and max ≥ 1"]
    if least == 0 or "idleReplicaCount" in spec:
        return []
    idle = ("pollingInterval", "cooldownPeriod")
    return [f"spec.{key} does nothing where the minimum is above 0" for key in idle if key in spec]


def fallback_problems(spec: Mapping[str, Any], triggers: list[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with ``fallback``, which a trigger on Prometheus needs."""
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

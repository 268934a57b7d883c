"""KEDA ScaledObjects: one a pool, driven by the recorded signal of its primary or by a timetable."""

from __future__ import annotations

from typing import Any

from hs_analysis.export import cron, document, naming, rules, sizing
from hs_analysis.export.behaviour import behaviour
from hs_analysis.export.items import concerning
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Bounds, Policy

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
    known = [*sizing.known_losses(), Loss("window_s", "approximated", _POLLING)]
    build = _timetable_objects if policy.mode == "periodic" else _metric_objects
    objects, origins, more = build(policy, options)
    losses = concerning([*known, *more], policy)
    if objects:
        text = naming.header(policy, options, TARGET, losses)
        text += naming.comment(["", *origins, *_check_lines(objects)])
        text += document.dump(objects)
        files[f"{naming.file_stem(policy.service)}.{KEDA_SUFFIX}"] = text
    return Export("keda", files, losses)


def _rules_file(policy: Policy, options: ExportOptions) -> dict[str, str]:
    return dict(rules.export_rules(policy, options).files)


def _metric_objects(policy: Policy, options: ExportOptions) -> _Built:
    losses = rules.missing_expressions(policy)
    losses.append(Loss("periodic", "dropped", "a policy in mode metric keeps no timetable"))
    if policy.on_missing_metric != "hold":
        losses.append(Loss("on_missing_metric", "approximated", "the pool goes to its largest count"))
    pools, more = sizing.sizings(policy)
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
                "query": naming.recorded(policy, pool.primary, total=pool.total),
                "threshold": naming.plain_number(pool.threshold),
                # KEDA's own default reads an empty answer as 0 and scales in (kedacore/keda#3065).
                "ignoreNullValues": "false",
            },
        }
        spec = _spec(policy, pool.role, options, bounds)
        spec["fallback"] = _fallback(policy, bounds)
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": scaling}}
        spec["triggers"] = [trigger]
        objects.append(sizing.manifest(policy, pool.role, options, KIND, spec))
    losses += sizing.unsized(policy, {pool.role for pool in pools})
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
        triggers = cron.triggers(policy.periodic, role)
        if not triggers:
            continue
        covered.add(role)
        spec = _spec(policy, role, options, policy.bounds.get(role))
        spec["triggers"] = triggers
        objects.append(sizing.manifest(policy, role, options, KIND, spec))
    return objects, [], losses + sizing.unsized(policy, covered)


def _spec(policy: Policy, role: str, options: ExportOptions, bounds: Bounds | None) -> dict[str, Any]:
    return {
        "scaleTargetRef": sizing.scaled_object(policy, role, options),
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
    names = sizing.workload_names(objects)
    return [f"Check before applying: serverAddress, namespace, and the scaled objects ({names})."]

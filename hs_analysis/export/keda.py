"""KEDA ScaledObjects: one a pool, driven by the recorded signal of its primary or by a timetable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hs_analysis.export import cron, document, naming, promql, rules
from hs_analysis.export.behaviour import behaviour
from hs_analysis.export.items import concerning
from hs_analysis.export.model import Export, ExportOptions, Loss, Workload
from hs_analysis.policy.model import Bounds, Policy, Primary

TARGET = "KEDA ScaledObject keda.sh/v1alpha1 (checked against KEDA 2.20)"
# Failed queries in a row before the fallback holds the pool (the value of KEDA's own examples).
FAILURE_THRESHOLD = 3
GROUP_WORKLOAD = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")

# Items that no field of a ScaledObject can hold, and what follows from that.
_DROPPED = {
    "pd_ratio.low": "one fixed ratio only",
    "pd_ratio.high": "one fixed ratio only",
    "pd_ratio.max_deviation": "nothing watches the ratio of the two pools",
    "pd_ratio.prefill": "the thresholds hold the ratio as a number, not as a pair",
    "pd_ratio.decode": "the thresholds hold the ratio as a number, not as a pair",
    "step.dampening": "each step takes all of the wanted change",
    "soft_scale_in": "instances taken out are not watched before they stop",
    "placement": "placement is the scheduler's",
    "start_up_s": "instances that start are not waited for beyond their readiness",
    "replay": "a status, not a setting",
    "confidence": "a status, not a setting",
    "refusals": "a status, not a setting",
    "*.target_per_instance.low": "a threshold is one number",
    "*.target_per_instance.high": "a threshold is one number",
    "*.gpu_types": "every instance counts the same, whatever its GPU",
    "*.unit": "thresholds carry no unit",
    "*.source": "named by the query only",
    "*.status": "objects hold no status of a number",
    "*.evidence": "objects hold no links",
    "*.provenance": "objects hold no provenance",
}
_APPROXIMATED = {
    "guards": "recorded, but nothing acts on it: a latency divided by instances is no target; alert on it",
    "window_s": "Kubernetes decides every 15 s, whatever the polling interval",
    "averaging_s": "the range inside the recorded expression decides",
}


# Objects, where their numbers come from in words, and losses.
_Built = tuple[list[dict[str, Any]], list[str], list[Loss]]


@dataclass(frozen=True)
class _Sizing:
    """What one pool's threshold is made of."""

    role: str
    primary: Primary
    query: str
    threshold: float
    origin: str


def export_keda(policy: Policy, options: ExportOptions) -> Export:
    """Return the ScaledObjects and recording rules of a policy, with everything they do not say.

    In mode hold no object is written; the refusals are the losses.
    """
    files = _rules_file(policy, options)
    if policy.mode == "hold":
        why = "; ".join(policy.refusals) or "the policy is on hold"
        return Export("keda", files, (Loss("*", "refused", f"no object is written: {why}"),))
    known = [Loss(item, "dropped", text) for item, text in _DROPPED.items()]
    known += [Loss(item, "approximated", text) for item, text in _APPROXIMATED.items()]
    build = _timetable_objects if policy.mode == "periodic" else _metric_objects
    objects, origins, more = build(policy, options)
    losses = concerning([*known, *more], policy)
    if objects:
        text = naming.header(policy, options, TARGET, losses)
        text += naming.comment(["", *origins, *_check_lines(objects)])
        text += document.dump(objects)
        files[f"{naming.file_stem(policy.service)}.scaledobjects.yaml"] = text
    return Export("keda", files, losses)


def _rules_file(policy: Policy, options: ExportOptions) -> dict[str, str]:
    return dict(rules.export_rules(policy, options).files)


def _metric_objects(policy: Policy, options: ExportOptions) -> _Built:
    losses = rules.missing_expressions(policy)
    losses.append(Loss("periodic", "dropped", "a policy in mode metric keeps no timetable"))
    if policy.on_missing_metric != "hold":
        losses.append(Loss("on_missing_metric", "approximated", "the pool goes to its largest count"))
    sizings, more = _sizings(policy)
    losses += more
    objects = []
    for sizing in sizings:
        scaling, lost = behaviour(policy, sizing.role, sizing.primary.role, options.kubernetes)
        losses += lost
        bounds = policy.bounds.get(sizing.role)
        trigger = {
            "type": "prometheus",
            "name": _trigger_name(sizing.primary.signal),
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": options.server_address,
                "query": sizing.query,
                "threshold": naming.plain_number(sizing.threshold),
                # KEDA's own default reads an empty answer as 0 and scales in (kedacore/keda#3065).
                "ignoreNullValues": "false",
            },
        }
        spec = _spec(policy, sizing.role, options, bounds)
        spec["fallback"] = _fallback(policy, bounds)
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": scaling}}
        spec["triggers"] = [trigger]
        objects.append(_object(policy, sizing.role, options, spec))
    losses += _unsized(policy, {sizing.role for sizing in sizings})
    return objects, [sizing.origin for sizing in sizings], losses


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
        objects.append(_object(policy, role, options, spec))
    return objects, [], losses + _unsized(policy, covered)


def _sizings(policy: Policy) -> tuple[list[_Sizing], list[Loss]]:
    """Return what sizes each pool: its own primary, or the only primary through the ratio."""
    found, losses = [], []
    for index, primary in enumerate(policy.primaries):
        path = f"primaries[{index}]"
        target = primary.target_per_instance.value
        query = _query(policy, primary)
        if query is None or target is None or target <= 0:
            text = "no object: " + ("its query gives no pool total" if query is None else "it has no target")
            losses.append(Loss(path, "refused", text))
            continue
        number = naming.plain_number(target)
        evidence = (
            f" ({primary.target_per_instance.evidence})" if primary.target_per_instance.evidence else ""
        )
        origin = f"{primary.role}: threshold {number} {primary.unit} per {primary.role} instance{evidence}"
        found.append(_Sizing(primary.role, primary, query, target, origin))
    if len(policy.primaries) == 1 and found:
        follower, lost = _follower(policy, found[0])
        found += follower
        losses += lost
    elif policy.pd_ratio is not None:
        losses.append(
            Loss("pd_ratio", "dropped", "each pool is sized by its own signal, so no ratio is used")
        )
    return found, losses


def _query(policy: Policy, primary: Primary) -> str | None:
    """Return the recorded pool total; a mean over instances has to become a sum first."""
    if not primary.promql:
        return None
    if primary.pool == "sum":
        return naming.recorded(policy, primary)
    total = promql.pool_total(primary.promql)
    return naming.recorded(policy, primary, total=True) if total else None


def _follower(policy: Policy, leader: _Sizing) -> tuple[list[_Sizing], list[Loss]]:
    """Return the other pool, tied by dividing the same signal by another threshold."""
    ratio = policy.pd_ratio.value if policy.pd_ratio else None
    role = {"decode": "prefill", "prefill": "decode"}.get(leader.role)
    if role is None or not ratio:
        return [], [Loss("pd_ratio", "dropped", "no ratio is known, so only one pool is scaled")]
    threshold, sign = (
        (leader.threshold / ratio, "÷") if role == "prefill" else (leader.threshold * ratio, "×")
    )
    numbers = [naming.plain_number(value) for value in (threshold, leader.threshold, ratio)]
    origin = (
        f"{role}: threshold {numbers[0]} = {numbers[1]} per {leader.role} instance {sign} ratio {numbers[2]}"
    )
    text = f"{role} follows the signal, not the rounded count of {leader.role}: at times a little smaller"
    sizing = _Sizing(role, leader.primary, leader.query, threshold, origin)
    return [sizing], [Loss("pd_ratio.value", "approximated", text)]


def _spec(policy: Policy, role: str, options: ExportOptions, bounds: Bounds | None) -> dict[str, Any]:
    workload = options.workloads.get(role) or _default_workload(policy, role)
    return {
        "scaleTargetRef": {
            "apiVersion": workload.api_version,
            "kind": workload.kind,
            "name": workload.name,
        },
        "pollingInterval": max(1, round(policy.window_s)),
        # Never left out: KEDA's own minimum is 0.
        "minReplicaCount": bounds.min if bounds else 1,
        **({"maxReplicaCount": bounds.max} if bounds else {}),
    }


def _fallback(policy: Policy, bounds: Bounds | None) -> dict[str, Any]:
    # The largest count is the safe one, for a KEDA that is too old to know currentReplicas as well.
    fallback = {"failureThreshold": FAILURE_THRESHOLD, "replicas": bounds.max if bounds else 1}
    return {**fallback, "behavior": "currentReplicas" if policy.on_missing_metric == "hold" else "static"}


def _default_workload(policy: Policy, role: str) -> Workload:
    name = f"{naming.model_name(policy.service)}-{role}"
    if policy.unit == "group":
        api_version, kind = GROUP_WORKLOAD
        return Workload(name, kind, api_version)
    return Workload(name)


def _object(policy: Policy, role: str, options: ExportOptions, spec: dict[str, Any]) -> dict[str, Any]:
    namespace = options.namespace or naming.namespace_of(policy.service) or "default"
    name = f"{naming.model_name(policy.service)}-{role}"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _trigger_name(signal: str) -> str:
    return signal.replace("_", "-")


def _unsized(policy: Policy, covered: set[str]) -> list[Loss]:
    """Return a loss for every setting of a pool that got no object."""
    roles = sorted({*policy.bounds, *policy.hysteresis, *policy.cooldown} - covered)
    return [
        Loss(f"{table}.{role}", "dropped", f"no object scales {role}")
        for role in roles
        for table in ("bounds", "hysteresis", "cooldown")
    ]


def _check_lines(objects: list[dict[str, Any]]) -> list[str]:
    names = ", ".join(
        f"{o['spec']['scaleTargetRef']['kind']} {o['spec']['scaleTargetRef']['name']}" for o in objects
    )
    return [f"Check before applying: serverAddress, namespace, and the scaled objects ({names})."]

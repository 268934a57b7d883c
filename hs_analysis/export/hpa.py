"""HorizontalPodAutoscalers: one a pool on the external metric of its signal, and the adapter's rules."""

from __future__ import annotations

from typing import Any

from hs_analysis.export import adapter, document, naming, rules, sizing
from hs_analysis.export.behaviour import behaviour
from hs_analysis.export.items import concerning
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.export.sizing import Sizing
from hs_analysis.policy.model import Policy

TARGET = "HorizontalPodAutoscaler autoscaling/v2 (checked against Kubernetes 1.33 to 1.37)"
KIND = ("autoscaling/v2", "HorizontalPodAutoscaler")
HPA_SUFFIX = "hpa.yaml"

_SYNC = "Kubernetes decides every 15 s"
_NO_ZERO = "minReplicas 0 needs a feature gate: {role} keeps 1"
_NO_BOUNDS = "no object: maxReplicas is required, and {role} has no bounds"


def export_hpa(policy: Policy, options: ExportOptions) -> Export:
    """Return the objects, the adapter's rules and the recording rules of a policy, with what they don't say.

    No object is written in mode hold (the refusals are the losses) and in mode periodic (an HPA keeps no
    timetable).
    """
    files = dict(rules.export_rules(policy, options).files)
    if policy.mode != "metric":
        why = "an HPA keeps no timetable; hsa export --target keda does"
        if policy.mode == "hold":
            why = "; ".join(policy.refusals) or "the policy is on hold"
        return Export("hpa", files, (Loss("*", "refused", f"no object is written: {why}"),))
    pools, losses = sizing.sizings(policy)
    bounded = [pool for pool in pools if pool.role in policy.bounds]
    losses += [
        Loss(
            f"primaries[{policy.primaries.index(pool.primary)}]", "refused", _NO_BOUNDS.format(role=pool.role)
        )
        for pool in pools
        if pool not in bounded
    ]
    objects = []
    for pool in bounded:
        body, lost = _object(policy, pool, options)
        objects.append(body)
        losses += lost
    losses += sizing.unsized(policy, {pool.role for pool in bounded})
    if not objects:
        losses.append(Loss("*", "refused", "no object is written"))
    found = concerning([*_known(policy), *losses], policy)
    if objects:
        stem = naming.file_stem(policy.service)
        head = naming.header(policy, options, TARGET, found)
        head += naming.comment(["", *(pool.origin for pool in bounded), *_check_lines(policy, objects)])
        files[f"{stem}.{HPA_SUFFIX}"] = head + document.dump(objects)
        head = naming.header(policy, options, adapter.TARGET, ())
        files[f"{stem}.{adapter.ADAPTER_SUFFIX}"] = head + document.dump(
            [adapter.external_rules(policy, bounded)]
        )
    return Export("hpa", files, found)


def _known(policy: Policy) -> list[Loss]:
    return [
        *sizing.known_losses(),
        Loss("window_s", "approximated", _SYNC),
        Loss("periodic", "dropped", "an HPA keeps no timetable"),
        Loss(
            "on_missing_metric", "approximated", "nothing to set: without its metric an HPA holds the count"
        ),
        *rules.missing_expressions(policy),
    ]


def _object(policy: Policy, pool: Sizing, options: ExportOptions) -> tuple[dict[str, Any], list[Loss]]:
    scaling, losses = behaviour(policy, pool.role, pool.primary.role, options.kubernetes)
    bounds = policy.bounds[pool.role]
    if bounds.min < 1:
        losses.append(Loss(f"bounds.{pool.role}.min", "approximated", _NO_ZERO.format(role=pool.role)))
    spec = {
        "scaleTargetRef": sizing.scaled_object(policy, pool.role, options),
        "minReplicas": max(1, bounds.min),
        "maxReplicas": max(1, bounds.max),
        "metrics": [_metric(policy, pool)],
        "behavior": scaling,
    }
    return sizing.manifest(policy, pool.role, options, KIND, spec), losses


def _metric(policy: Policy, pool: Sizing) -> dict[str, Any]:
    metric = {
        "name": adapter.metric_name(policy, pool),
        "selector": {"matchLabels": adapter.selector(policy, pool)},
    }
    target = {"type": "AverageValue", "averageValue": naming.plain_number(pool.threshold)}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def _check_lines(policy: Policy, objects: list[dict[str, Any]]) -> list[str]:
    file = f"{naming.file_stem(policy.service)}.{adapter.ADAPTER_SUFFIX}"
    return [
        f"The external metrics need the rules of {file} in prometheus-adapter, or like ones in another.",
        f"Check before applying: namespace, and the scaled objects ({sizing.workload_names(objects)}).",
    ]

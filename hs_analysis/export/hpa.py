"""HorizontalPodAutoscalers: one a pool on the external metric of its signal, and the adapter's rules.

The checks are those of the API's own validation (autoscaling/v2) and of prometheus-adapter's configuration.
Unknown keys are errors, as with ``kubectl apply --validate=strict``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hs_analysis.controllers.hpa import Hpa
from hs_analysis.errors import ContractError
from hs_analysis.export import kubernetes, model, rules, shape
from hs_analysis.export.kubernetes import (
    LEAST_THRESHOLD,
    MAX_PERIOD_S,
    MAX_STABILISATION_S,
    PoolSizing,
    number,
    object_problems,
)
from hs_analysis.export.model import Export, ExportOptions, Loss, concerning
from hs_analysis.export.queries import quoted
from hs_analysis.policy.model import Policy

ADAPTER_TITLE = "prometheus-adapter externalRules (add them to the adapter's configuration)"
ADAPTER_SUFFIX = "adapter.yaml"

# Labels that select by a Kubernetes selector; `service` holds a slash, which no label value may.
SELECTED = ("policy", "role")


def metric_name(policy: Policy, sizing: PoolSizing) -> str:
    """Return the name of the external metric: the record's, and the service, as names are global."""
    record = model.record_name(sizing.primary, total=sizing.total).partition(":")[2]
    return re.sub(r"[^a-z0-9]+", "_", f"{record}_{model.file_stem(policy.service)}".lower()).strip("_")


def selector_labels(policy: Policy, sizing: PoolSizing) -> dict[str, str]:
    """Return the labels by which an HPA picks the series."""
    labels = model.record_labels(policy, sizing.primary.role)
    return {name: labels[name] for name in SELECTED}


def external_rules(policy: Policy, sizings: Sequence[PoolSizing]) -> dict[str, Any]:
    """Return one rule per external metric, in the order of the sizings.

    The recorded series carry no namespace label, so that the rules are not namespaced.
    """
    rules: dict[str, dict[str, Any]] = {}
    for sizing in sizings:
        labels = model.record_labels(policy, sizing.primary.role)
        record = model.record_name(sizing.primary, total=sizing.total)
        service = f"service={quoted(labels['service'])}"
        name = metric_name(policy, sizing)
        rules[name] = {
            "seriesQuery": f'{{__name__="{record}",{service}}}',
            "resources": {"namespaced": False},
            "name": {"as": name},
            "metricsQuery": f"sum(<<.Series>>{{<<.LabelMatchers>>,{service}}})",
        }
    return {"externalRules": list(rules.values())}


HPA_TITLE = "HorizontalPodAutoscaler autoscaling/v2 (checked against Kubernetes 1.33 to 1.37)"
HPA_KIND = ("autoscaling/v2", "HorizontalPodAutoscaler")
HPA_SUFFIX = "hpa.yaml"
CONTROLLER: Final = "hpa"

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
    pools, losses = kubernetes.sizings(policy, CONTROLLER)
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
    losses += kubernetes.unsized(policy, {pool.role for pool in bounded})
    if not objects:
        losses.append(Loss("*", "refused", "no object is written"))
    found = concerning([*_known(policy), *losses], policy, options.costs)
    if objects:
        stem = model.file_stem(policy.service)
        said = ["; ".join(pool.origin for pool in bounded), _check_line(policy, objects)]
        head = model.header(policy, options, HPA_TITLE, found, said)
        files[f"{stem}.{HPA_SUFFIX}"] = head + model.dump_documents(objects)
        head = model.header(policy, options, ADAPTER_TITLE)
        files[f"{stem}.{ADAPTER_SUFFIX}"] = head + model.dump_documents([external_rules(policy, bounded)])
    return Export("hpa", files, found)


def _known(policy: Policy) -> list[Loss]:
    return [
        *kubernetes.known_losses(policy, CONTROLLER),
        Loss("window_s", "approximated", _SYNC),
        Loss("periodic", "dropped", "an HPA keeps no timetable"),
        Loss(
            "on_missing_metric", "approximated", "nothing to set: without its metric an HPA holds the count"
        ),
        *rules.missing_expressions(policy),
    ]


def _object(policy: Policy, pool: PoolSizing, options: ExportOptions) -> tuple[dict[str, Any], list[Loss]]:
    """Return one HorizontalPodAutoscaler.

    Raises
    ------
    ContractError
        When the parameters are those of another controller.
    """
    scaler = pool.scaler
    if not isinstance(scaler, Hpa):
        raise ContractError(f"{pool.role}: {type(scaler).__name__} is no HorizontalPodAutoscaler")
    scaling, losses = kubernetes.behavior(policy, pool, options.kubernetes)
    if scaler.min_replicas != policy.bounds[pool.role].min:
        losses.append(Loss(f"bounds.{pool.role}.min", "approximated", _NO_ZERO.format(role=pool.role)))
    spec = {
        "scaleTargetRef": kubernetes.scaled_object(policy, pool.role, options),
        "minReplicas": scaler.min_replicas,
        "maxReplicas": scaler.max_replicas,
        "metrics": [_metric(policy, pool)],
        "behavior": scaling,
    }
    return kubernetes.manifest(policy, pool.role, options, HPA_KIND, spec), losses


def _metric(policy: Policy, pool: PoolSizing) -> dict[str, Any]:
    metric = {
        "name": metric_name(policy, pool),
        "selector": {"matchLabels": selector_labels(policy, pool)},
    }
    target = {"type": "AverageValue", "averageValue": model.plain_number(pool.threshold)}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def _check_line(policy: Policy, objects: list[dict[str, Any]]) -> str:
    file = f"{model.file_stem(policy.service)}.{ADAPTER_SUFFIX}"
    return (
        f"Check before applying: namespace, and the scaled objects ({kubernetes.workload_names(objects)}). "
        f"The external metrics need the rules of {file} in prometheus-adapter, or like ones in another."
    )


_SELECT = ("Max", "Min", "Disabled")
_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_METRIC = re.compile(r"[a-z0-9_.-]+")
_QUERIES = tuple(f"sum({over}<<.Series>>{{<<.LabelMatchers>>" for over in ("", "max_over_time("))
_SPEC = {"scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "behavior"}


def lint_hpa(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a HorizontalPodAutoscaler, one sentence a problem; empty when nothing is."""
    spec = manifest.get("spec") or {}
    found = object_problems(manifest, ("autoscaling/v2", "HorizontalPodAutoscaler"))
    found += _unknown("spec", spec, _SPEC)
    if not (spec.get("scaleTargetRef") or {}).get("kind"):
        found.append("spec.scaleTargetRef.kind is missing")
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if not 1 <= least <= most:
        found.append(f"spec.minReplicas: replica counts {least} to {most} are not 1 ≤ min ≤ max")
    metrics = spec.get("metrics") or []
    if not metrics:
        found.append("spec.metrics is empty")
    for number_, metric in enumerate(metrics):
        found += [f"spec.metrics[{number_}]: {text}" for text in _metric_problems(metric)]
    scaling = spec.get("behavior") or {}
    found += _unknown("spec.behavior", scaling, {"scaleUp", "scaleDown"})
    for direction, written in scaling.items():
        found += [f"spec.behavior.{direction}: {text}" for text in _direction_problems(written)]
    return found


def _metric_problems(metric: Mapping[str, Any]) -> list[str]:
    if metric.get("type") != "External" or set(metric) != {"type", "external"}:
        return [f"type {metric.get('type')!r} with {', '.join(sorted(metric))} is not one we write"]
    external = metric["external"]
    name = (external.get("metric") or {}).get("name")
    target = external.get("target") or {}
    found = _unknown("external", external, {"metric", "target"})
    found += _unknown("external.metric", external.get("metric") or {}, {"name", "selector"})
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        found.append(f"external.metric.name {name!r} is not a metric name")
    selector = (external.get("metric") or {}).get("selector") or {}
    found += _unknown("external.metric.selector", selector, {"matchLabels"})
    for key, value in (selector.get("matchLabels") or {}).items():
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            found.append(f"label {key}: {value!r} is not a label value")
    if target.get("type") != "AverageValue" or set(target) != {"type", "averageValue"}:
        found.append("external.target is not one averageValue of type AverageValue")
    elif not isinstance(target["averageValue"], str) or number(target["averageValue"]) < LEAST_THRESHOLD:
        found.append(f"averageValue {target['averageValue']!r} is not a text of at least {LEAST_THRESHOLD}")
    return found


def _direction_problems(rules: Mapping[str, Any]) -> list[str]:
    known = {"stabilizationWindowSeconds", "policies", "selectPolicy", "tolerance"}
    found = _unknown("keys", rules, known)
    window = rules.get("stabilizationWindowSeconds", 0)
    if not isinstance(window, int) or not 0 <= window <= MAX_STABILISATION_S:
        found.append(f"stabilizationWindowSeconds {window!r} is not 0 to {MAX_STABILISATION_S}")
    if rules.get("selectPolicy", "Max") not in _SELECT:
        found.append(f"selectPolicy {rules['selectPolicy']!r} is not one of {', '.join(_SELECT)}")
    if "tolerance" in rules and not (isinstance(rules["tolerance"], str) and number(rules["tolerance"]) >= 0):
        found.append(f"tolerance {rules['tolerance']!r} is not a text of at least 0")
    if rules.get("policies") == []:
        found.append("policies is empty")
    for policy in rules.get("policies") or []:
        found += _unknown("policies", policy, {"type", "value", "periodSeconds"})
        if policy.get("type") not in ("Pods", "Percent"):
            found.append(f"policy type {policy.get('type')!r} is not Pods or Percent")
        if not isinstance(policy.get("value"), int) or policy["value"] < 1:
            found.append(f"policy value {policy.get('value')!r} is not a whole number above 0")
        period = policy.get("periodSeconds")
        if not isinstance(period, int) or not 1 <= period <= MAX_PERIOD_S:
            found.append(f"periodSeconds {period!r} is not 1 to {MAX_PERIOD_S}")
    return found


def lint_adapter(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with rules of prometheus-adapter, one sentence a problem."""
    found = _unknown("the file", config, {"externalRules"})
    rules = config.get("externalRules") or []
    if not rules:
        found.append("externalRules is empty")
    names = [(rule.get("name") or {}).get("as") for rule in rules]
    for number_, (rule, name) in enumerate(zip(rules, names, strict=True)):
        where = f"externalRules[{number_}]"
        if name in names[:number_]:
            found.append(f"{where}: name.as {name} is given twice")
        found += [f"{where}: {text}" for text in _rule_problems(rule, name)]
    return found


def _rule_problems(rule: Mapping[str, Any], name: object) -> list[str]:
    known = {"seriesQuery", "resources", "name", "metricsQuery"}
    found = [shape.unknown(key, key, known) for key in sorted(set(rule) - known)]
    if not name or not _METRIC.fullmatch(str(name)):
        found.append(f"name.as {name!r} is not a metric name")
    if not str(rule.get("seriesQuery", "")).startswith('{__name__="'):
        found.append("seriesQuery does not name a series")
    if (rule.get("resources") or {}).get("namespaced") is not False:
        found.append("resources.namespaced is not false, and the series has no namespace label")
    query = str(rule.get("metricsQuery", ""))
    if not query.startswith(_QUERIES):
        found.append("metricsQuery is not a sum over <<.Series>> and <<.LabelMatchers>>")
    return found


def _unknown(where: str, found: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    return [f"{where}: {shape.unknown(key, key, known)}" for key in sorted(set(found) - set(known))]

"""Offline checks of the HPAs and adapter rules that we write: what a cluster refuses or reads otherwise.

The rules are those of the API's own validation (autoscaling/v2) and of prometheus-adapter's configuration.
Unknown keys are errors, as with ``kubectl apply --validate=strict``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hs_analysis.export.behaviour import MAX_PERIOD_S, MAX_STABILISATION_S
from hs_analysis.export.lint import LEAST_THRESHOLD, number, object_problems

_SELECT = ("Max", "Min", "Disabled")
_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_METRIC = re.compile(r"[a-z0-9_.-]+")
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
        found.append(f"replica counts {least} to {most} are not 1 ≤ min ≤ max")
    metrics = spec.get("metrics") or []
    if not metrics:
        found.append("spec.metrics is empty")
    for number_, metric in enumerate(metrics):
        found += [f"spec.metrics[{number_}]: {text}" for text in _lint_metric(metric)]
    scaling = spec.get("behavior") or {}
    found += _unknown("spec.behavior", scaling, {"scaleUp", "scaleDown"})
    for direction, rules in scaling.items():
        found += [f"spec.behavior.{direction}: {text}" for text in _lint_direction(rules)]
    return found


def _lint_metric(metric: Mapping[str, Any]) -> list[str]:
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


def _lint_direction(rules: Mapping[str, Any]) -> list[str]:
    known = {"stabilizationWindowSeconds", "policies", "selectPolicy", "tolerance"}
    found = _unknown("keys", rules, known)
    window = rules.get("stabilizationWindowSeconds", 0)
    if not isinstance(window, int) or not 0 <= window <= MAX_STABILISATION_S:
        found.append(f"stabilizationWindowSeconds {window!r} is not 0 to {MAX_STABILISATION_S}")
    if rules.get("selectPolicy", "Max") not in _SELECT:
        found.append(f"selectPolicy {rules['selectPolicy']!r} is not one of {', '.join(_SELECT)}")
    if "tolerance" in rules and not (isinstance(rules["tolerance"], str) and number(rules["tolerance"]) >= 0):
        found.append(f"tolerance {rules['tolerance']!r} is not a text of at least 0")
    policies = rules.get("policies") or []
    if not policies and rules.get("selectPolicy") != "Disabled":
        found.append("policies is empty")
    for policy in policies:
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
    found += [f"{name} is given twice" for name in sorted({n for n in names if n and names.count(n) > 1})]
    for rule, name in zip(rules, names, strict=True):
        found += _unknown(str(name), rule, {"seriesQuery", "resources", "name", "metricsQuery"})
        if not name or not _METRIC.fullmatch(str(name)):
            found.append(f"name.as {name!r} is not a metric name")
        if not str(rule.get("seriesQuery", "")).startswith('{__name__="'):
            found.append(f"{name}: seriesQuery does not name a series")
        if (rule.get("resources") or {}).get("namespaced") is not False:
            found.append(f"{name}: resources.namespaced is not false, and the series has no namespace label")
        query = str(rule.get("metricsQuery", ""))
        if not query.startswith("sum(<<.Series>>{<<.LabelMatchers>>"):
            found.append(f"{name}: metricsQuery is not a sum over <<.Series>> and <<.LabelMatchers>>")
    return found


def _unknown(where: str, found: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    return [f"{where}: {key} is unknown" for key in sorted(set(found) - set(known))]

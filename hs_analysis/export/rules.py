"""Prometheus recording rules: short, lasting names for the policy's signals, and the check of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hs_analysis.export import model, queries
from hs_analysis.export.model import Export, ExportOptions, Loss, concerning
from hs_analysis.policy.model import Guard, Policy, Primary

TITLE = "Prometheus recording rules (checked with promtool 2.42)"
RULES_SUFFIX = "rules.yaml"

# Everything of a policy but its signals; a recording rule computes and decides nothing.
_DROPPED = (
    "mode",
    "unit",
    "pd_ratio",
    "hysteresis",
    "cooldown",
    "step",
    "soft_scale_in",
    "bounds",
    "on_missing_metric",
    "periodic",
    "placement",
    "recommended",
    "confidence",
    "confidence_reasons",
    "refusals",
    "replay",
    "window_s",
    "controller",
    "reading",
    "start_up_s",
    "*.target_per_instance",
    "*.gpu_types",
    "*.pool",
    "*.unit",
    "*.source",
    "*.slo_s",
    "*.tiers",
    "*.provenance",
)


def export_rules(policy: Policy, options: ExportOptions) -> Export:
    """Return the rules of a policy as the only file, with everything that rules do not say."""
    losses = [Loss(item, "dropped", "recording rules hold the signals only") for item in _DROPPED]
    losses += missing_expressions(policy)
    text = rules_text(policy, options)
    files = {f"{model.file_stem(policy.service)}.{RULES_SUFFIX}": text} if text else {}
    return Export("rules", files, concerning(losses, policy))


def missing_expressions(policy: Policy) -> list[Loss]:
    """Return a loss for each signal that no query of the user's Prometheus can give."""
    text = "no series of the input carries it, so there is no query to record"
    return [Loss(path, "dropped", text) for path, item in _items(policy) if not item.promql]


def rules_text(policy: Policy, options: ExportOptions) -> str:
    """Return the rules file: one group a policy; empty when no signal has an expression."""
    rules: list[dict[str, Any]] = []
    for _, item in _items(policy):
        for rule in _rules_of(policy, item):
            # A signal may be primary and guard at once; Prometheus refuses the same series twice.
            if rule not in rules:
                rules.append(rule)
    if not rules:
        return ""
    group = {
        "name": f"hs_analysis_{model.file_stem(policy.service)}",
        "interval": queries.duration(options.scrape_interval_s),
        "rules": rules,
    }
    notes = [f"Note: {'; '.join(options.notes)}"] if options.notes else []
    return model.header(policy, options, TITLE, (), notes) + model.dump_documents([{"groups": [group]}])


def _items(policy: Policy) -> list[tuple[str, Primary | Guard]]:
    items: list[tuple[str, Primary | Guard]] = []
    items += [(f"primaries[{i}]", primary) for i, primary in enumerate(policy.primaries)]
    items += [(f"guards[{i}]", guard) for i, guard in enumerate(policy.guards)]
    return items


def _rules_of(policy: Policy, item: Primary | Guard) -> list[dict[str, Any]]:
    if not item.promql:
        return []
    labels = model.record_labels(policy, item.role)
    rules = [{"record": model.record_name(item), "expr": item.promql, "labels": labels}]
    total = queries.pool_total(item.promql) if isinstance(item, Primary) and item.pool == "mean" else None
    if total is not None:
        rules.append({"record": model.record_name(item, total=True), "expr": total, "labels": dict(labels)})
    return rules


_RECORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z0-9_]+:[A-Za-z0-9_]+")
_ALERT = re.compile(r"Hs[A-Z][A-Za-z0-9]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")


def lint_rules(groups: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a file of recording or alert rules, one sentence a problem.

    Beyond what Prometheus asks, an alert has a severity and says what it means and what to do.
    """
    found, seen = [], set()
    if set(groups) != {"groups"}:
        found.append("a rules file holds groups and nothing else")
    for place, group in enumerate(groups.get("groups") or []):
        where, name = f"groups[{place}]", group.get("name")
        if not name or name in seen:
            found.append(f"{where}: name {name!r} is missing or used twice")
        seen.add(name)
        if not _DURATION.fullmatch(str(group.get("interval", "15s"))):
            found.append(f"{where}: interval {group['interval']!r} is not a duration")
        for number, rule in enumerate(group.get("rules") or []):
            found += [f"{where}.rules[{number}]: {text}" for text in _rule_problems(rule)]
    return found


RECORD_KEYS = ("record", "expr", "labels")
ALERT_KEYS = ("alert", "expr", "for", "labels", "annotations")
SEVERITIES = ("critical", "warning", "info")
SAID = ("summary", "description", "action")
"""Annotations of every alert: what it means, what it sees, what to do."""


def _rule_problems(rule: Mapping[str, Any]) -> list[str]:
    kind = "alert" if "alert" in rule else "record"
    name = rule.get(kind)
    found = []
    if kind == "record" and not _RECORD.fullmatch(str(name or "")):
        found.append(f"record {name!r} is not level:name:operation")
    if not str(rule.get("expr", "")).strip():
        found.append("expr is missing")
    for label, value in (rule.get("labels") or {}).items():
        if not _LABEL.fullmatch(label) or not isinstance(value, str):
            found.append(f"labels.{label}: label {label!r} is no label name or its value no string")
    known = ALERT_KEYS if kind == "alert" else RECORD_KEYS
    found += [f"{key}: {key!r} is no key of a rule" for key in rule if key not in known]
    return found + (_alert_problems(rule) if kind == "alert" else [])


def _alert_problems(rule: Mapping[str, Any]) -> list[str]:
    name, found = rule["alert"], []
    if not _ALERT.fullmatch(str(name)):
        found.append(f"alert {name!r} is not in CamelCase with Hs in front")
    if not _DURATION.fullmatch(str(rule.get("for", ""))):
        found.append(f"for {rule.get('for')!r} is not a duration")
    severity = (rule.get("labels") or {}).get("severity")
    if severity not in SEVERITIES:
        found.append(f"labels.severity: severity {severity!r} is not one of {', '.join(SEVERITIES)}")
    said = rule.get("annotations") or {}
    return found + [f"annotations: the annotation {key} is missing" for key in SAID if not said.get(key)]

"""Prometheus recording rules: short, lasting names for the policy's signals."""

from __future__ import annotations

from typing import Any

from hs_analysis.export import document, naming, promql
from hs_analysis.export.items import concerning
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Guard, Policy, Primary

TARGET = "Prometheus recording rules (checked with promtool 2.42)"
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
    "averaging_s",
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
    files = {f"{naming.file_stem(policy.service)}.{RULES_SUFFIX}": text} if text else {}
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
        "name": f"hs_analysis_{naming.file_stem(policy.service)}",
        "interval": promql.duration(options.scrape_interval_s),
        "rules": rules,
    }
    notes = naming.comment(["", *(f"Note: {note}" for note in options.notes)]) if options.notes else ""
    return naming.header(policy, options, TARGET, ()) + notes + document.dump([{"groups": [group]}])


def _items(policy: Policy) -> list[tuple[str, Primary | Guard]]:
    items: list[tuple[str, Primary | Guard]] = []
    items += [(f"primaries[{i}]", primary) for i, primary in enumerate(policy.primaries)]
    items += [(f"guards[{i}]", guard) for i, guard in enumerate(policy.guards)]
    return items


def _rules_of(policy: Policy, item: Primary | Guard) -> list[dict[str, Any]]:
    if not item.promql:
        return []
    labels = naming.record_labels(policy, item.role)
    rules = [{"record": naming.record_name(item), "expr": item.promql, "labels": labels}]
    total = promql.pool_total(item.promql) if isinstance(item, Primary) and item.pool == "mean" else None
    if total is not None:
        rules.append({"record": naming.record_name(item, total=True), "expr": total, "labels": dict(labels)})
    return rules

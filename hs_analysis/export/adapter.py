"""Rules of prometheus-adapter: they make recorded signals the external metrics that an HPA reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hs_analysis.export import naming
from hs_analysis.export.selector import quoted
from hs_analysis.export.sizing import Sizing
from hs_analysis.policy.model import Policy

TARGET = "prometheus-adapter externalRules (add them to the adapter's configuration)"
ADAPTER_SUFFIX = "adapter.yaml"

# Labels that select by a Kubernetes selector; `service` holds a slash, which no label value may.
SELECTED = ("policy", "role")


def metric_name(policy: Policy, sizing: Sizing) -> str:
    """Return the name of the external metric: the record's, and the service, as names are global."""
    record = naming.record_name(sizing.primary, total=sizing.total).partition(":")[2]
    return re.sub(r"[^a-z0-9]+", "_", f"{record}_{naming.file_stem(policy.service)}".lower()).strip("_")


def selector(policy: Policy, sizing: Sizing) -> dict[str, str]:
    """Return the labels by which an HPA picks the series."""
    labels = naming.record_labels(policy, sizing.primary.role)
    return {name: labels[name] for name in SELECTED}


def external_rules(policy: Policy, sizings: Sequence[Sizing]) -> dict[str, Any]:
    """Return one rule per external metric, in the order of the sizings.

    The recorded series carry no namespace label, so that the rules are not namespaced.
    """
    rules: dict[str, dict[str, Any]] = {}
    for sizing in sizings:
        labels = naming.record_labels(policy, sizing.primary.role)
        record = naming.record_name(sizing.primary, total=sizing.total)
        service = f"service={quoted(labels['service'])}"
        name = metric_name(policy, sizing)
        rules[name] = {
            "seriesQuery": f'{{__name__="{record}",{service}}}',
            "resources": {"namespaced": False},
            "name": {"as": name},
            "metricsQuery": f"sum(<<.Series>>{{<<.LabelMatchers>>,{service}}})",
        }
    return {"externalRules": list(rules.values())}

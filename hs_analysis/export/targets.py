"""The export targets as rows: what each is, what builds it, and what checks each of its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hs_analysis.errors import ContractError, UsageError
from hs_analysis.export import aibrix, blanks, hpa, keda, kserve, kthena, ome, rbg
from hs_analysis.export.aibrix import AIBRIX_SUFFIX, export_aibrix, lint_aibrix
from hs_analysis.export.alerts import ALERTS_SUFFIX, export_alerts
from hs_analysis.export.calibration import CALIBRATION_SUFFIX, lint_calibration
from hs_analysis.export.dynamo import DYNAMO_SUFFIX, export_dynamo, lint_planner
from hs_analysis.export.grafana import DASHBOARD_SUFFIX, export_grafana, lint_dashboard
from hs_analysis.export.heteroscale import POLICY_SUFFIX, export_heteroscale, lint_policy
from hs_analysis.export.hpa import ADAPTER_SUFFIX, HPA_SUFFIX, export_hpa, lint_adapter, lint_hpa
from hs_analysis.export.keda import KEDA_SUFFIX, export_keda, lint_scaled_object
from hs_analysis.export.kserve import KSERVE_SUFFIX, export_kserve, lint_kserve
from hs_analysis.export.kthena import KTHENA_SUFFIX, export_kthena, lint_kthena
from hs_analysis.export.llmd import LLMD_SUFFIX, export_llmd, lint_llmd
from hs_analysis.export.model import (
    LOSSES_SUFFIX,
    Export,
    ExportOptions,
    Loss,
    comment,
    file_stem,
    load_documents,
    warning_of,
)
from hs_analysis.export.ome import OME_SUFFIX, SERVICE_SUFFIX, export_ome, lint_policies, lint_service
from hs_analysis.export.rbg import RBG_SUFFIX, export_rbg, lint_rbg
from hs_analysis.export.rules import RULES_SUFFIX, lint_rules
from hs_analysis.export.slo_aware import SLO_AWARE_SUFFIX, lint_slo_aware
from hs_analysis.policy.model import Policy
from hs_analysis.schema.names import EXPORT_TARGETS, SLO_AWARE

Lint = Callable[[Any], list[str]]
"""One document of a file → what is wrong with it, one sentence a problem.

A document is a mapping; a file that is neither YAML nor JSON is one, its text.
"""


@dataclass(frozen=True)
class ExportTarget:
    """One target.

    Attributes
    ----------
    name
        The word users type.
    build
        Translates a policy.
    lints
        End of a file's name → what checks each of its documents. A file that none checks is a bug.
    """

    name: str
    build: Callable[[Policy, ExportOptions], Export]
    lints: Mapping[str, Lint]

    @property
    def title(self) -> str:
        """What it is, in words."""
        return EXPORT_TARGETS[self.name]

    def lint_of(self, file: str) -> Lint | None:
        """Return what checks a file, None when nothing does."""
        return next((lint for end, lint in self.lints.items() if file.endswith(f".{end}")), None)


_RULES: Mapping[str, Lint] = {RULES_SUFFIX: lint_rules}

ROWS: tuple[ExportTarget, ...] = (
    ExportTarget("rules", export_alerts, {**_RULES, ALERTS_SUFFIX: lint_rules}),
    ExportTarget("keda", export_keda, {**_RULES, KEDA_SUFFIX: lint_scaled_object}),
    ExportTarget("hpa", export_hpa, {**_RULES, HPA_SUFFIX: lint_hpa, ADAPTER_SUFFIX: lint_adapter}),
    ExportTarget("heteroscale", export_heteroscale, {**_RULES, POLICY_SUFFIX: lint_policy}),
    ExportTarget("kthena", export_kthena, {**_RULES, KTHENA_SUFFIX: lint_kthena}),
    ExportTarget("kserve", export_kserve, {**_RULES, KSERVE_SUFFIX: lint_kserve}),
    ExportTarget(
        "aibrix", export_aibrix, {**_RULES, AIBRIX_SUFFIX: lint_aibrix, ADAPTER_SUFFIX: lint_adapter}
    ),
    ExportTarget("dynamo", export_dynamo, {**_RULES, DYNAMO_SUFFIX: lint_planner}),
    ExportTarget(
        "llmd",
        export_llmd,
        {
            **_RULES,
            LLMD_SUFFIX: lint_llmd,
            SLO_AWARE_SUFFIX: lint_slo_aware,
            CALIBRATION_SUFFIX: lint_calibration,
        },
    ),
    ExportTarget("rbg", export_rbg, {**_RULES, RBG_SUFFIX: lint_rbg}),
    ExportTarget("ome", export_ome, {**_RULES, OME_SUFFIX: lint_policies, SERVICE_SUFFIX: lint_service}),
    ExportTarget("grafana", export_grafana, {**_RULES, DASHBOARD_SUFFIX: lint_dashboard}),
)

TARGETS: dict[str, ExportTarget] = {row.name: row for row in ROWS}
"""Targets by name. The recording rules come with every one, the alert rules with ``rules``."""


_OBJECTS: Mapping[tuple[str, str], Lint] = {
    keda.KIND: lint_scaled_object,
    hpa.HPA_KIND: lint_hpa,
    kthena.KIND: lint_kthena,
    kserve.KIND: lint_kserve,
    aibrix.KIND: lint_aibrix,
    rbg.KIND: lint_rbg,
    ome.KIND: lint_policies,
    ome.SERVICE: lint_service,
}
"""(apiVersion, kind) of exported objects → their check."""

_WITHOUT_KIND: Mapping[str, Lint] = {
    "groups": lint_rules,
    "externalRules": lint_adapter,
    "optimization_target": lint_planner,
    "max_gpu_budget": lint_planner,
    "valid_samples": lint_calibration,
}
"""A key of exported documents without a kind → their check."""


def lints_of(file: str, body: Mapping[str, Any]) -> Lint | None:
    """Return what checks a document of an exported file, whatever the file is called; None for nothing.

    Parameters
    ----------
    file
        Its name: llm-d's objects are ScaledObjects with rules of their own.
    body
        The document.
    """
    found = _OBJECTS.get((str(body.get("apiVersion")), str(body.get("kind"))))
    if found is lint_scaled_object:
        by_name = {LLMD_SUFFIX: lint_llmd, SLO_AWARE_SUFFIX: lint_slo_aware}
        return next((lint for end, lint in by_name.items() if file.endswith(end)), found)
    if found is None and "kind" not in body:
        found = next((lint for key, lint in _WITHOUT_KIND.items() if key in body), None)
    return found


def lint_of_text(file: str) -> Lint | None:
    """Return what checks an exported file that is neither YAML nor JSON, by its name; None for nothing."""
    if file.endswith((".yaml", ".yml", ".json")):
        return None
    return next((lint for row in TARGETS.values() if (lint := row.lint_of(file))), None)


def export(policy: Policy, target: str, options: ExportOptions | None = None) -> Export:
    """Return a policy as the files of one target, checked, with the losses as a file of their own.

    Parameters
    ----------
    policy
        The policy; its primaries and guards carry their PromQL.
    target
        A key of `TARGETS`.
    options
        What the policy does not know of the cluster.

    Raises
    ------
    UsageError
        For an unknown target.
    ContractError
        When a written object would be refused or misread: a bug here, not the user's mistake.
    """
    row = TARGETS.get(target)
    if row is None:
        raise UsageError(f"no export target {target!r}", hint=f"one of {', '.join(TARGETS)}")
    options = options or ExportOptions()
    made = row.build(policy, options)
    first = []
    if not policy.recommended:
        first.append(Loss("recommended", "dropped", warning_of(options)))
    if options.edited:
        first.append(Loss("replay", "dropped", options.edited))
    if policy.mode != "hold" and (said := options.selected_for.get(target)):
        first.append(Loss("controller", "approximated", said))
    if first:
        lines = [loss.text for loss in first]
        other = options.selected_for.get(SLO_AWARE)
        instead = [other if other and loss.item == "controller" else loss.text for loss in first]
        # Others have no comments: a dashboard says it itself.
        files = {
            name: comment(instead if name.endswith(SLO_AWARE_SUFFIX) else lines) + text
            if name.endswith(".yaml")
            else text
            for name, text in made.files.items()
        }
        made = Export(made.target, files, (*first, *made.losses))
    for name, text in made.files.items():
        problems = _problems(row, name, text)
        if problems:
            raise ContractError("; ".join(problems), where=f"{target}/{name}")
    losses = json.dumps([asdict(loss) for loss in made.losses], indent=2, ensure_ascii=False) + "\n"
    files = {**made.files, f"{file_stem(policy.service)}.{LOSSES_SUFFIX}": losses}
    return Export(made.target, files, made.losses, blanks.listed(made.files, options.unknown))


def _problems(target: ExportTarget, name: str, text: str) -> list[str]:
    lint = target.lint_of(name)
    if lint is None:
        return ["no check of this kind of file"]
    if name.endswith(".json"):
        bodies = [json.loads(text)]
    else:
        bodies = load_documents(text) if name.endswith(".yaml") else [text]
    return [problem for body in bodies for problem in lint(body)]

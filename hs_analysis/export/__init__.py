"""Exports: a policy as objects that an autoscaler runs, with a list of everything they can't say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from hs_analysis.errors import ContractError, UsageError
from hs_analysis.export import document, naming
from hs_analysis.export.keda import export_keda
from hs_analysis.export.lint import lint_rules, lint_scaled_object
from hs_analysis.export.model import Export, ExportOptions, Loss, Workload
from hs_analysis.export.promql import PromqlExpression, expression
from hs_analysis.export.rules import export_rules
from hs_analysis.export.workloads import workloads_of
from hs_analysis.policy.model import Policy

TARGETS: dict[str, Callable[[Policy, ExportOptions], Export]] = {
    "rules": export_rules,
    "keda": export_keda,
}
"""Target name → function. The recording rules come with every target."""

LOSSES_SUFFIX = "losses.json"


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
    build = TARGETS.get(target)
    if build is None:
        raise UsageError(f"no export target {target!r}", hint=f"one of {', '.join(TARGETS)}")
    made = build(policy, options or ExportOptions())
    for name, text in made.files.items():
        problems = [problem for body in document.load(text) for problem in _lint(body)]
        if problems:
            raise ContractError("; ".join(problems), where=f"{target}/{name}")
    losses = json.dumps([asdict(loss) for loss in made.losses], indent=2, ensure_ascii=False) + "\n"
    files = {**made.files, f"{naming.file_stem(policy.service)}.{LOSSES_SUFFIX}": losses}
    return Export(made.target, files, made.losses)


def _lint(body: dict[str, object]) -> list[str]:
    return lint_rules(body) if "groups" in body else lint_scaled_object(body)


__all__ = [
    "TARGETS",
    "Export",
    "ExportOptions",
    "Loss",
    "PromqlExpression",
    "Workload",
    "export",
    "export_rules",
    "expression",
    "workloads_of",
]

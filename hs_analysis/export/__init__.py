"""Exports: a policy as objects that an autoscaler runs, with a list of everything they can't say."""

from __future__ import annotations

import json
from dataclasses import asdict

from hs_analysis.errors import ContractError, UsageError
from hs_analysis.export import document, naming
from hs_analysis.export.model import Export, ExportOptions, Loss, Workload
from hs_analysis.export.promql import PromqlExpression, expression
from hs_analysis.export.rules import export_rules
from hs_analysis.export.targets import TARGETS, Target
from hs_analysis.export.workloads import workloads_of
from hs_analysis.policy.model import Policy

LOSSES_SUFFIX = "losses.json"
NOT_RECOMMENDED = (
    "WARNING: this policy is not recommended: keep what runs. `decision` in summary.json says why."
)
"""First line of every file of such a policy, and its first loss."""


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
    made = row.build(policy, options or ExportOptions())
    if not policy.recommended:
        files = {name: naming.comment([NOT_RECOMMENDED]) + text for name, text in made.files.items()}
        warned = (Loss("recommended", "dropped", NOT_RECOMMENDED), *made.losses)
        made = Export(made.target, files, warned)
    for name, text in made.files.items():
        problems = _problems(row, name, text)
        if problems:
            raise ContractError("; ".join(problems), where=f"{target}/{name}")
    losses = json.dumps([asdict(loss) for loss in made.losses], indent=2, ensure_ascii=False) + "\n"
    files = {**made.files, f"{naming.file_stem(policy.service)}.{LOSSES_SUFFIX}": losses}
    return Export(made.target, files, made.losses)


def _problems(target: Target, name: str, text: str) -> list[str]:
    lint = target.lint_of(name)
    if lint is None:
        return ["no check of this kind of file"]
    return [problem for body in document.load(text) for problem in lint(body)]


__all__ = [
    "NOT_RECOMMENDED",
    "TARGETS",
    "Export",
    "ExportOptions",
    "Loss",
    "PromqlExpression",
    "Target",
    "Workload",
    "export",
    "export_rules",
    "expression",
    "workloads_of",
]

"""The export targets as rows: what each is, what builds it, and what checks each of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hs_analysis.export.adapter import ADAPTER_SUFFIX
from hs_analysis.export.hpa import HPA_SUFFIX, export_hpa
from hs_analysis.export.keda import KEDA_SUFFIX, export_keda
from hs_analysis.export.lint import lint_rules, lint_scaled_object
from hs_analysis.export.lint_hpa import lint_adapter, lint_hpa
from hs_analysis.export.model import Export, ExportOptions
from hs_analysis.export.rules import RULES_SUFFIX, export_rules
from hs_analysis.policy.model import Policy
from hs_analysis.schema.names import EXPORT_TARGETS

Lint = Callable[[Mapping[str, Any]], list[str]]
"""One document of a file → what is wrong with it, one sentence a problem."""


@dataclass(frozen=True)
class Target:
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

ROWS: tuple[Target, ...] = (
    Target("rules", export_rules, _RULES),
    Target("keda", export_keda, {**_RULES, KEDA_SUFFIX: lint_scaled_object}),
    Target("hpa", export_hpa, {**_RULES, HPA_SUFFIX: lint_hpa, ADAPTER_SUFFIX: lint_adapter}),
)

TARGETS: dict[str, Target] = {row.name: row for row in ROWS}
"""Targets by name. The recording rules come with every one."""

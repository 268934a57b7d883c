"""Exports: a policy as objects that an autoscaler runs, with a list of everything they can't say."""

from hs_analysis.export.kubernetes import workloads_of
from hs_analysis.export.model import Export, ExportOptions, Loss, Measured, Workload
from hs_analysis.export.queries import PromqlExpression, expression
from hs_analysis.export.rules import export_rules
from hs_analysis.export.targets import NOT_RECOMMENDED, TARGETS, ExportTarget, export

__all__ = [
    "NOT_RECOMMENDED",
    "TARGETS",
    "Export",
    "ExportOptions",
    "ExportTarget",
    "Loss",
    "Measured",
    "PromqlExpression",
    "Workload",
    "export",
    "export_rules",
    "expression",
    "workloads_of",
]

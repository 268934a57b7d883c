"""Exports: a policy as objects that an autoscaler runs, with a list of everything they can't say."""

from hs_analysis.export.blanks import Blank
from hs_analysis.export.cluster_names import NameFound, NamesOfCluster, names_of
from hs_analysis.export.model import Export, ExportOptions, Loss, Measured, TodaysObject, Workload
from hs_analysis.export.queries import PromqlExpression, expression
from hs_analysis.export.rules import export_rules
from hs_analysis.export.targets import NOT_RECOMMENDED, TARGETS, ExportTarget, export

__all__ = [
    "NOT_RECOMMENDED",
    "TARGETS",
    "Blank",
    "Export",
    "ExportOptions",
    "ExportTarget",
    "Loss",
    "Measured",
    "NameFound",
    "NamesOfCluster",
    "PromqlExpression",
    "TodaysObject",
    "Workload",
    "export",
    "export_rules",
    "expression",
    "names_of",
]

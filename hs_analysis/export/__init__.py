"""Exports: a policy as objects that an autoscaler runs, with a list of everything they can't say."""

from hs_analysis.export.blanks import Blank
from hs_analysis.export.cluster_names import NameFound, NamesOfCluster, names_of
from hs_analysis.export.kustomize import ALTERNATIVES
from hs_analysis.export.model import (
    Export,
    ExportOptions,
    Loss,
    Measured,
    TodaysObject,
    Watched,
    WatchedLength,
    WatchedLimit,
    Workload,
)
from hs_analysis.export.queries import (
    PromqlExpression,
    expression,
    instance_count,
    share_over,
    surging,
)
from hs_analysis.export.rules import export_rules
from hs_analysis.export.targets import TARGETS, ExportTarget, export
from hs_analysis.schema.names import NOT_RECOMMENDED

__all__ = [
    "ALTERNATIVES",
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
    "Watched",
    "WatchedLength",
    "WatchedLimit",
    "Workload",
    "export",
    "export_rules",
    "expression",
    "instance_count",
    "names_of",
    "share_over",
    "surging",
]

"""Two runs side by side: whether the decision changed, which settings and answers differ, and how."""

from hs_analysis.compare.changes import RunChange
from hs_analysis.compare.links import LinkFate, LinkReason
from hs_analysis.compare.runs import Comparison, compare_runs
from hs_analysis.compare.services import ComparedRun

__all__ = ["ComparedRun", "Comparison", "LinkFate", "LinkReason", "RunChange", "compare_runs"]

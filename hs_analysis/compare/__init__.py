"""Two runs side by side: whether the decision changed, which settings and answers differ, and how."""

from hs_analysis.compare.changes import RunChange
from hs_analysis.compare.runs import ComparedRun, Comparison, compare_runs

__all__ = ["ComparedRun", "Comparison", "RunChange", "compare_runs"]

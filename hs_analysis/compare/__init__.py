"""Two runs side by side: whether the decision changed, which settings and answers differ, and how."""

from hs_analysis.compare.changes import Change
from hs_analysis.compare.runs import Comparison, Run, compare_runs

__all__ = ["Change", "Comparison", "Run", "compare_runs"]

"""Two runs of the same services: which answers changed, and which changes are beyond their intervals."""

from hs_analysis.compare.runs import Difference, compare_runs

__all__ = ["Difference", "compare_runs"]

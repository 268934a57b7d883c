"""Selection: candidates simulated on the training window, the best one chosen."""

from hs_analysis.select.choose import select_service

__all__ = ["select_service"]

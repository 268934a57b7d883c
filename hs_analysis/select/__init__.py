"""Selection: candidates simulated on the training window, the best one chosen, their numbers searched."""

from hs_analysis.select.choose import select_service
from hs_analysis.select.search import Setting, apply_setting, search_service, setting_of

__all__ = ["Setting", "apply_setting", "search_service", "select_service", "setting_of"]

"""What was found in the input, how good it is, and what is missing."""

from hs_analysis.doctor.checks import CHECKS, diagnose
from hs_analysis.doctor.inventory import inventory, missing_signals
from hs_analysis.doctor.scene import Finding, Scene

__all__ = ["CHECKS", "Finding", "Scene", "diagnose", "inventory", "missing_signals"]

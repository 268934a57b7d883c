"""What was found in the input, how good it is, and what is missing."""

from hs_analysis.doctor.context import Finding, Scene, Superseded
from hs_analysis.doctor.diagnosis import CHECKS, diagnose
from hs_analysis.doctor.inventory import INVENTORY, inventory, missing_signals, needs
from hs_analysis.doctor.series_checks import (
    MOST_MOMENTS,
    NEAR_RATIO,
    TOP_SHARE,
    histogram_parts,
    replica_pairs,
)

__all__ = [
    "CHECKS",
    "INVENTORY",
    "MOST_MOMENTS",
    "NEAR_RATIO",
    "TOP_SHARE",
    "Finding",
    "Scene",
    "Superseded",
    "diagnose",
    "histogram_parts",
    "inventory",
    "missing_signals",
    "needs",
    "replica_pairs",
]

"""What was found in the input, how good it is, and what is missing."""

from hs_analysis.doctor.context import DoctorContext, Finding, SupersededFile
from hs_analysis.doctor.diagnosis import CHECKS, diagnose
from hs_analysis.doctor.input_checks import rejected_where
from hs_analysis.doctor.instance_checks import idle_pools
from hs_analysis.doctor.inventory import INVENTORY, inventory, missing_signals, requirements
from hs_analysis.doctor.series_checks import MOST_TIMES, NEAR_RATIO, TOP_SHARE, histogram_parts, replica_pairs

__all__ = [
    "CHECKS",
    "INVENTORY",
    "MOST_TIMES",
    "NEAR_RATIO",
    "TOP_SHARE",
    "DoctorContext",
    "Finding",
    "SupersededFile",
    "diagnose",
    "histogram_parts",
    "idle_pools",
    "inventory",
    "missing_signals",
    "rejected_where",
    "replica_pairs",
    "requirements",
]

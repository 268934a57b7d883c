"""Today's autoscaler: its objects read into parameters that a replay runs, and what to change in them."""

from hs_analysis.current.advice import changes
from hs_analysis.current.comparison import NO_POLICY, Withheld, withheld, without_today
from hs_analysis.current.documents import (
    AutoscalerManifest,
    Definitions,
    GracePeriod,
    read_definitions,
    read_grace_periods,
    read_manifests,
)
from hs_analysis.current.identity import todays_objects
from hs_analysis.current.model import Change, CurrentObject, Known, Stored
from hs_analysis.current.queries import QuantileAnswer
from hs_analysis.current.translate import CurrentAutoscaler, translate

__all__ = [
    "NO_POLICY",
    "AutoscalerManifest",
    "Change",
    "CurrentAutoscaler",
    "CurrentObject",
    "Definitions",
    "GracePeriod",
    "Known",
    "QuantileAnswer",
    "Stored",
    "Withheld",
    "changes",
    "read_definitions",
    "read_grace_periods",
    "read_manifests",
    "todays_objects",
    "translate",
    "withheld",
    "without_today",
]

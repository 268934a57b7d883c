"""Everything that can run a policy: parameters and rules of autoscalers, for arrays of lanes."""

from hs_analysis.controllers.heteroscale import HeteroScale
from hs_analysis.controllers.kthena import RatioConstraint
from hs_analysis.controllers.lanes import Batch, Fleet, Orders, Scraped, Why, in_words
from hs_analysis.controllers.registry import (
    CONTROLLERS,
    Autoscaler,
    Controller,
    Sizing,
    Slotted,
    batch_of,
    sharing_slots,
    structure,
    with_slots,
)

__all__ = [
    "CONTROLLERS",
    "Autoscaler",
    "Batch",
    "Controller",
    "Fleet",
    "HeteroScale",
    "Orders",
    "RatioConstraint",
    "Scraped",
    "Sizing",
    "Slotted",
    "Why",
    "batch_of",
    "in_words",
    "sharing_slots",
    "structure",
    "with_slots",
]

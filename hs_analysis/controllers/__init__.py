"""Everything that can run a policy: parameters and rules of autoscalers, for arrays of lanes."""

from hs_analysis.controllers.heteroscale import HeteroScale
from hs_analysis.controllers.kthena import RatioConstraint
from hs_analysis.controllers.lanes import Batch, Fleet, Orders, Scraped, Why, in_words
from hs_analysis.controllers.registry import (
    CONTROLLERS,
    Autoscaler,
    Controller,
    Sizing,
    batch_of,
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
    "Why",
    "batch_of",
    "in_words",
    "structure",
    "with_slots",
]

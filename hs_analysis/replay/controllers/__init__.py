"""Autoscalers of the field as functions over one observation: rules, parameters and how they are sized."""

from hs_analysis.replay.controllers.kthena import RatioConstraint
from hs_analysis.replay.controllers.table import CONTROLLERS, Autoscaler, Controller, Sizing
from hs_analysis.replay.controllers.view import Answer, PoolView

__all__ = ["CONTROLLERS", "Answer", "Autoscaler", "Controller", "PoolView", "RatioConstraint", "Sizing"]

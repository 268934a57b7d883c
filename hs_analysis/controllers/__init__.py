"""Autoscalers of the field as functions over one observation: rules, parameters and how they are sized."""

from hs_analysis.controllers.kthena import RatioConstraint
from hs_analysis.controllers.registry import CONTROLLERS, Autoscaler, Controller, Sizing
from hs_analysis.controllers.view import PoolView, Reply

__all__ = ["CONTROLLERS", "Autoscaler", "Controller", "PoolView", "RatioConstraint", "Reply", "Sizing"]

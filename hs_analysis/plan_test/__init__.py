"""The cheapest test for what a run could not answer, what it costs, and the interval to expect."""

from hs_analysis.plan_test.plan import Precision, plan_service

__all__ = ["Precision", "plan_service"]

"""Backtest: policies, static peak and the recorded counts on a window that was not learnt from."""

from hs_analysis.replay.backtest import ReplayOutcome, replay_service, score_policies
from hs_analysis.schema.results import BASELINES

__all__ = ["BASELINES", "ReplayOutcome", "replay_service", "score_policies"]

"""Backtest: policies, static peak and the recorded counts on a window that was not learnt from."""

from hs_analysis.replay.backtest import BASELINES, ReplayOutcome, replay_service, score_policies

__all__ = ["BASELINES", "ReplayOutcome", "replay_service", "score_policies"]

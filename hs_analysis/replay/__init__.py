"""Backtest: policies, autoscalers of the field and baselines on a window that was not learnt from; faults."""

from hs_analysis.replay.backtest import (
    ReplayOutcome,
    replay_service,
    replay_service_faults,
    score_family,
    score_policies,
)
from hs_analysis.replay.controllers import CONTROLLERS, Autoscaler
from hs_analysis.replay.faults import FAULTS, NO_FAULT, FaultOutcome, faults_named
from hs_analysis.replay.trial import try_signals
from hs_analysis.schema.baselines import BASELINES

__all__ = [
    "BASELINES",
    "CONTROLLERS",
    "FAULTS",
    "NO_FAULT",
    "Autoscaler",
    "FaultOutcome",
    "ReplayOutcome",
    "faults_named",
    "replay_service",
    "replay_service_faults",
    "score_family",
    "score_policies",
    "try_signals",
]

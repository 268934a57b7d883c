"""Backtest: policies, autoscalers of the field and baselines on a window that was not learnt from; faults."""

from hs_analysis.controllers import CONTROLLERS, Autoscaler
from hs_analysis.replay.backtest import (
    CandidateOutcome,
    ReplayOutcome,
    replay_day,
    replay_service,
    replay_service_faults,
    replay_service_placement,
    score_policies,
)
from hs_analysis.replay.drivers import try_signals
from hs_analysis.replay.faults import FAULTS, NO_FAULT, FaultOutcome, faults_named
from hs_analysis.schema.names import BASELINES
from hs_analysis.schema.replays import PlacementOutcome

__all__ = [
    "BASELINES",
    "CONTROLLERS",
    "FAULTS",
    "NO_FAULT",
    "Autoscaler",
    "CandidateOutcome",
    "FaultOutcome",
    "PlacementOutcome",
    "ReplayOutcome",
    "faults_named",
    "replay_day",
    "replay_service",
    "replay_service_faults",
    "replay_service_placement",
    "score_policies",
    "try_signals",
]

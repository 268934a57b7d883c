"""Ratio tests in benchmarks that come without a service: which there are, and their policy on hold."""

from __future__ import annotations

from pathlib import Path

import hs_analysis
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.stages import Work
from hs_analysis.pipeline.study_stages import read_derived
from hs_analysis.pipeline.tables import read_entries
from hs_analysis.policy import Policy, policy_of_test
from hs_analysis.policy.confidence import Grounds
from hs_analysis.policy.decision import decide_on, with_decision
from hs_analysis.schema.decision import PolicyDecision
from hs_analysis.schema.replays import ReplayResult


def tested_names(folder: Path) -> tuple[str, ...]:
    """Return what ratio tests in benchmarks are of, where the run recorded no service; else nothing."""
    if read_entries(folder):
        return ()
    return tuple(tables.read(folder, "pd_ratio")["service"].unique(maintain_order=True))


def policy_of(work: Work, name: str) -> tuple[Policy, PolicyDecision]:
    """Return the policy of a ratio test in benchmarks, which holds what was measured, and the decision."""
    derived = read_derived(work.run, name)
    meta = {"inputs_sha256": work.inputs_sha256, "run": work.run_id, "tool_version": hs_analysis.__version__}
    made = policy_of_test(name, derived, meta)
    grounds = Grounds(
        policy=made,
        whole=derived,
        first=derived,
        chosen=None,
        same_signals=True,
        replay=ReplayResult(None, None),
        slo=work.settings.slo,
        kind="pressure_test",
        load_test=False,
    )
    decision = decide_on(grounds)
    return with_decision(made, decision), decision

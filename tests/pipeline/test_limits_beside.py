"""With limits of the user's own the object runs without them beside it, and the decision says the cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from replay.services import SETTINGS, VERDICTS, derived, pd_day, policy_replay

from hs_analysis.pipeline import policy_stages, tables
from hs_analysis.pipeline.select_stage import Chosen
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Policy
from hs_analysis.schema.names import UNLIMITED
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.settings import CountLimits, Reading
from hs_analysis.select import Knobs

FRAME = pd_day(240)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
LIMITED = replace(SETTINGS, bounds={"decode": CountLimits(1, 3)}, reading=Reading(tz="Europe/Berlin"))


def test_object_without_limits_is_replayed_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its maximum is the policy's own; without limits there is no such row."""
    chosen = Chosen("one", policy_stages.TRAIN, "hpa", "one", Knobs.kubernetes(60.0))

    def written(policy: Policy, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(control=control_of(policy), why_not="", differs=(), idle=None, losses=())

    def written_as(_target: str, policy: Policy, *_: Any, **__: Any) -> Any:
        return written(policy)

    for name, stand_in in {
        "chosen_policy": chosen, "read_verdicts": VERDICTS, "read_derived": derived(),
        "policy_primaries": (PAIR, True), "expressions": ({}, ()),
    }.items():  # fmt: skip
        monkeypatch.setattr(policy_stages, name, lambda *_, found=stand_in: found)
    monkeypatch.setattr(policy_stages, "deployed", written)
    monkeypatch.setattr(policy_stages, "deployed_as", written_as)
    monkeypatch.setattr(policy_stages, "known_service", lambda *_: None)
    monkeypatch.setattr(policy_stages, "with_knobs", lambda policy, *_: replace(policy, controller="hpa"))
    monkeypatch.setattr(tables, "read", lambda *_: None)
    work = SimpleNamespace(run=tmp_path, settings=LIMITED)
    found = policy_stages._controls(work, FRAME, FRAME, None).of
    assert found["one"].pools["decode"].max_replicas == 3
    assert found[UNLIMITED].pools["decode"].max_replicas == 8
    work.settings = SETTINGS
    assert UNLIMITED not in policy_stages._controls(work, FRAME, FRAME, None).of


def test_decision_says_when_a_limit_held_and_what_it_cost() -> None:
    """Both figures with and without; nothing where no pool was held."""
    rows = (
        policy_replay("one", slo_violation_ratio=0.04, instance_hours=90.0),
        policy_replay(UNLIMITED, slo_violation_ratio=0.01, instance_hours=100.0),
    )
    pool = {
        "role": "decode", "windows": 30, "first": "2026-01-01T17:00:00Z", "last": "2026-01-01T17:30:00Z",
    }  # fmt: skip
    work = SimpleNamespace(settings=LIMITED)
    replay = ReplayResult(None, None, {"held_by_limits": {"one": [pool]}}, rows)
    found = policy_stages._limit_cost(work, replay, "one")
    assert (found.slo_violation_ratio, found.slo_violation_ratio_without) == (0.04, 0.01)
    assert (found.instance_hours, found.instance_hours_without) == (90.0, 100.0)
    assert (found.zone, found.pools[0].windows) == ("Europe/Berlin", 30)
    assert policy_stages._limit_cost(work, replace(replay, calibration={}), "one") is None

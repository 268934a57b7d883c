"""Which policy is written: the selected one where it stands, else the nearest; and faults of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from replay.services import SETTINGS, VERDICTS, derived, pd_day

from hs_analysis.pipeline import policy_stages
from hs_analysis.pipeline.policy_stages import TRAIN, Chosen, fault_rows, policy_primaries

PREFILL, DECODE = ("prefill_tps_effective", "prefill"), ("decode_tps", "decode")


def written(monkeypatch: pytest.MonkeyPatch, chosen: str | None, whole_ratio: str) -> tuple[object, bool]:
    """Return the policy of a service whose first part had a good ratio and whose whole has another."""
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: Chosen(chosen, TRAIN) if chosen else None)
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(
        policy_stages,
        "read_derived",
        lambda _f, _s, fit="whole": derived(ratio_status="ok" if fit == TRAIN else whole_ratio),
    )
    return policy_primaries(Path("run"), "demo/m")


def test_the_selected_policy_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it still stands nothing is put in its place."""
    assert written(monkeypatch, "decode_tps@decode", "ok") == ((DECODE,), True)


def test_a_ratio_that_drifted_since_makes_each_pool_follow_its_own_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fixed ratio is not written once the whole window shows that the mix moves."""
    assert written(monkeypatch, "decode_tps@decode", "drifting") == ((PREFILL, DECODE), False)


def test_without_a_selection_there_is_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """No candidate, no primaries."""
    assert written(monkeypatch, None, "ok") == ((), True)


def test_faults_are_replayed_on_unseen_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """One flat row per policy and fault, undisturbed first."""
    frame = pd_day(240)
    monkeypatch.setattr(policy_stages, "read_frames", lambda _: (frame,))
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(policy_stages, "read_derived", lambda *_: derived())
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: Chosen("decode_tps@decode", TRAIN))
    rows = fault_rows(SimpleNamespace(run=Path("run"), settings=SETTINGS), ["metric_gap"])
    assert [(row["policy"], row["fault"]) for row in rows[:3]] == [
        ("decode_tps@decode", "none"),
        ("decode_tps@decode", "metric_gap"),
        ("recorded", "none"),
    ]
    assert rows[1]["text"] == "no metric can be read for an hour"
    assert rows[1]["lowest_decode"] >= 1
    assert {"lowest_prefill", "lowest_ready_prefill", "recovery_s", "unserved_tokens"} <= set(rows[0])
    monkeypatch.setattr(policy_stages, "chosen_policy", lambda *_: None)
    found = fault_rows(SimpleNamespace(run=Path("run"), settings=SETTINGS), ["no_stock"])
    assert found[0]["policy"] == "recorded"

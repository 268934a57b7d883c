"""Which policy is written: the selected one where it stands on the whole window, else the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay.services import VERDICTS, derived

from hs_analysis.pipeline import decide
from hs_analysis.pipeline.decide import TRAIN, Chosen, policy_primaries

PREFILL, DECODE = ("prefill_tps_effective", "prefill"), ("decode_tps", "decode")


def written(monkeypatch: pytest.MonkeyPatch, chosen: str | None, whole_ratio: str) -> tuple[object, bool]:
    """Return the policy of a service whose first part had a good ratio and whose whole has another."""
    monkeypatch.setattr(decide, "chosen_policy", lambda *_: Chosen(chosen, TRAIN) if chosen else None)
    monkeypatch.setattr(decide, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(
        decide,
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

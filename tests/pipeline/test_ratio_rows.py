"""Which rows keep a P/D ratio beside the selected policy, and by which signal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from replay.services import SETTINGS, VERDICTS, built, derived, pd_day

from hs_analysis.controllers import HeteroScale
from hs_analysis.pipeline import policy_stages
from hs_analysis.pipeline.policy_stages import TRAIN, ratio_rows_of
from hs_analysis.pipeline.select_stage import Chosen
from hs_analysis.policy import Policy
from hs_analysis.schema.names import NEUTRAL, RATIO_BY_HOUR, RATIO_BY_MIX, RATIO_FIXED
from hs_analysis.schema.results import Derived, RatioWindow
from hs_analysis.select import Knobs

PREFILL, DECODE = ("prefill_tps_effective", "prefill"), ("decode_tps", "decode")
FRAME = pd_day(240)
HOUR = RatioWindow("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", 2.5, None)


def rows(
    monkeypatch: pytest.MonkeyPatch,
    primaries: tuple[tuple[str, str], ...],
    found: Derived | None = None,
    controller: str = "keda",
    policy: Policy | None = None,
) -> tuple[dict[str, HeteroScale], dict[str, object]]:
    """Return the rows of a policy with some signals."""
    numbers = found or derived()
    numbers = replace(numbers, pd_ratio=replace(numbers.pd_ratio, by_window=(HOUR,)))
    monkeypatch.setattr(policy_stages, "read_verdicts", lambda *_: VERDICTS)
    monkeypatch.setattr(policy_stages, "read_derived", lambda *_: numbers)
    knobs = Knobs(60.0, 1.1, 300.0, 0.9)
    chosen = Chosen(f"x, {knobs.name}", TRAIN, controller, "x", knobs)
    work = SimpleNamespace(run=Path("run"), settings=SETTINGS)
    first = policy or built(FRAME, primaries, numbers)
    return ratio_rows_of(work, FRAME, first, chosen)  # type: ignore[arg-type]


def test_one_signal_that_sizes_both_pools_has_the_fixed_row_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """The neutral policy keeps the ratio, or the headline where HeteroScale's own rule was selected."""
    found, said = rows(monkeypatch, (PREFILL,))
    assert list(found) == [RATIO_BY_HOUR, RATIO_BY_MIX]
    assert said == {"fixed": NEUTRAL, "missing": {}}
    assert {one.upkeep.leader for one in found.values() if one.upkeep} == {"prefill"}
    assert rows(monkeypatch, (PREFILL,), controller="heteroscale")[1]["fixed"] not in (NEUTRAL, RATIO_FIXED)


def test_two_signals_get_a_row_whose_ratio_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode leads, prefill follows the ratio: what the two objects are set against."""
    found, said = rows(monkeypatch, (PREFILL, DECODE))
    assert list(found) == [RATIO_FIXED, RATIO_BY_HOUR, RATIO_BY_MIX]
    assert said == {"fixed": RATIO_FIXED, "missing": {}}
    fixed = found[RATIO_FIXED]
    assert (fixed.pools["decode"].signal, fixed.pools["prefill"].signal) == ("decode_tps", "")
    assert fixed.upkeep is not None
    assert (fixed.upkeep.by_hour, fixed.upkeep.observed) == ((), None)


def test_without_a_ratio_there_are_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused ratio sizes nothing."""
    assert rows(monkeypatch, (PREFILL, DECODE), derived(ratio=None, ratio_status="refused")) == ({}, {})


def test_moving_ratios_differ_from_the_policy_in_the_ratio_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else its signal and pools are stays: the distance is the ratio's."""
    policy = built(FRAME, (PREFILL,), derived())
    (primary,) = policy.primaries
    mine = replace(primary, target_per_instance=replace(primary.target_per_instance, value=1234.0))
    found, _ = rows(monkeypatch, (PREFILL,), policy=replace(policy, primaries=(mine,)))
    assert {one.pools["prefill"].target for one in found.values()} == {1234.0}

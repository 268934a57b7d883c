"""Sentences on the P/D ratio: counts that stray from it, and a moving one that beats the fixed one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replay.services import policy_replay

from hs_analysis.policy.ratio_costs import moving_gain, ratio_notes, stray_cost
from hs_analysis.schema.names import NEUTRAL, RATIO_BY_HOUR, RATIO_BY_MIX, RATIO_FIXED
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.results import MixRatio, PdRatio


def replay(*rows: PolicyReplay, fixed: str = RATIO_FIXED) -> ReplayResult:
    """Return a backtest with some rows, of which one holds the fixed ratio."""
    return ReplayResult(None, None, {"ratio_rows": {"fixed": fixed, "missing": {}}}, rows)


def row(name: str, hours: float | None, over: float | None, stray: float | None = None) -> PolicyReplay:
    """Return a row with hours, violations and the share of windows off the ratio."""
    far = None if stray is None else 1.5
    figures = {"instance_hours": hours, "slo_violation_ratio": over}
    return policy_replay(name, **figures, pd_stray_ratio=stray, pd_stray_factor=far)


FIXED = row(RATIO_FIXED, 100.0, 0.001)
NOTHING_TESTED = PdRatio(value=1.4, ci=None, status="ok", at_least=None, at_most=None, reason=None)


def test_the_splits_that_a_test_found_best_are_said_first() -> None:
    """One split a token mix, before what the ratio costs."""
    mixes = tuple(
        MixRatio(isl=isl, osl=osl, prefill=p, decode=d, value=p / d, between=None, status="ok", share=0.5)
        for isl, osl, p, d in ((1800.0, 150.0, 3, 2), (None, None, 2, 3))
    )
    tested = replace(NOTHING_TESTED, basis="sweep", by_mix=mixes)
    (first, *_) = ratio_notes(replay(row("x", 95.0, 0.002, 0.12), FIXED), "x", tested)
    assert first == "the best split measured is 3P2D for 1,800 tokens in and 150 out, 2P3D"


def test_straying_is_said_with_what_holding_the_ratio_costs() -> None:
    """Hours and violations of the row that holds the ratio, against the policy's."""
    found = stray_cost(replay(row("x", 95.0, 0.002, 0.12), FIXED), "x")
    assert "is off the P/D ratio in 12 % of windows, 1.50 times off at most" in found
    assert "with one signal, which ties the pools, needs 5.3 % more hours" in found
    assert "breaks the SLO in 0.10 % of windows instead of 0.20 %" in found
    same = stray_cost(replay(row("x", 95.0, 0.001, 0.12), FIXED), "x")
    assert same.endswith("and breaks the SLO as often, in 0.10 % of windows")
    neutral = row(NEUTRAL, 100.0, None)
    assert stray_cost(replay(row("x", 95.0, 0.002, 0.12), neutral, fixed=NEUTRAL), "x").endswith(
        "HeteroScale's own rule, which ties the pools, needs 5.3 % more hours"
    )


def test_nothing_is_said_of_counts_that_hold_the_ratio() -> None:
    """Below a hundredth of the windows, without a ratio, without a row that holds it, or without a policy."""
    assert stray_cost(replay(row("x", 95.0, 0.002, 0.009), FIXED), "x") == ""
    assert stray_cost(replay(row("x", 95.0, 0.002), FIXED), "x") == ""
    assert stray_cost(replay(row("x", 95.0, 0.002, 0.5), fixed="x"), "x") == ""
    assert stray_cost(replay(FIXED), None) == ""
    assert stray_cost(ReplayResult(None, None, {}, (row("x", 95.0, 0.002, 0.5),)), "x") == ""


@pytest.mark.parametrize(
    ("hours", "over", "says"),
    [
        (99.0, 0.001, "needs 1.0 % fewer hours and breaks the SLO as often"),
        (99.0, 0.00109, "needs 1.0 % fewer hours"),
        (99.0, 0.0012, ""),  # saved by breaking the SLO more often
        (99.1, 0.001, ""),
        (100.19, 0.0005, "needs 0.19 % more hours and breaks the SLO in 0.050 % of windows instead of"),
        (100.3, 0.0005, ""),  # kept by more hours
        (90.0, None, ""),
        (None, 0.0, ""),
    ],
)
def test_a_moving_ratio_is_named_where_it_beats_the_fixed_one(
    hours: float | None, over: float | None, says: str
) -> None:
    """A hundredth of the hours or 0.05 points of the windows, and no worse in the other."""
    found = moving_gain(replay(FIXED, row(RATIO_BY_HOUR, hours, over)))
    assert says in found
    assert bool(found) == bool(says)
    assert not found or found.startswith("with a ratio by the hour of the day instead of a fixed one")


def test_the_cheapest_moving_ratio_is_named() -> None:
    """Of two that beat the fixed one the one with fewer hours; none without a fixed one."""
    both = row(RATIO_BY_HOUR, 98.0, 0.001), row(RATIO_BY_MIX, 96.0, 0.001)
    assert "by the observed mix" in moving_gain(replay(FIXED, *both))
    assert moving_gain(replay(*both)) == ""
    assert moving_gain(ReplayResult(None, None, {}, both)) == ""


def test_shares_of_an_uncalibrated_replay_are_said_to_be_such() -> None:
    """Where latency is withheld the rough shares decide, and the sentence says so."""
    rows = row(RATIO_FIXED, 100.0, None), row(RATIO_BY_HOUR, 90.0, None)
    said = {"ratio_rows": {"fixed": RATIO_FIXED, "missing": {}}}
    shares = {RATIO_FIXED: 0.02, RATIO_BY_HOUR: 0.01}
    found = moving_gain(ReplayResult(None, None, said | {"uncalibrated_shares": shares}, rows))
    assert "10 % fewer hours and breaks the SLO in 1.0 % of windows instead of 2.0 %" in found
    assert found.endswith("(the replay is not calibrated)")
    assert moving_gain(ReplayResult(None, None, said, rows)) == ""


def test_the_notes_are_those_that_say_something() -> None:
    """Straying first, then the moving ratio; nothing where there is nothing."""
    better = row(RATIO_BY_HOUR, 98.0, 0.001)
    found = ratio_notes(replay(row("x", 95.0, 0.002, 0.12), FIXED, better), "x", NOTHING_TESTED)
    assert [text.partition(" ")[0] for text in found] == ["prefill", "with"]
    assert ratio_notes(replay(row("x", 95.0, 0.002, 0.01), FIXED), "x", NOTHING_TESTED) == ()

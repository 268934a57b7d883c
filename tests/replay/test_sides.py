"""On which side of a mark a replayed share lies, and when that can't be told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import D_CAPACITY, SETTINGS, derived, policy_replay, service

from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.calibrate import share_range, side_of, width_of, with_side
from hs_analysis.replay.constants import SHARE_WIDTH
from hs_analysis.schema.results import PolicyReplay

ROWS = 400
CALIBRATED = {"status": "calibrated", "latencies": {}}


def policy(share: float | None) -> PolicyReplay:
    """Return a row with a share of violating windows."""
    return policy_replay(
        "p",
        instance_hours=1.0,
        slo_violation_ratio=share,
        actions_per_day=0.0,
        reversals_per_day=0.0,
        overshoot_ratio=0.0,
        unserved_tokens=0.0,
        vs_static_peak=0.0,
        vs_recorded=0.0,
    )


def entry(predicted: float | None, low: float, high: float, *, floor: bool = False) -> dict:
    """Return the calibration of one latency."""
    return {"latencies": {"tbt": {"predicted": predicted, "observed": (low, high), "upper_bound": floor}}}


def test_a_share_far_from_the_mark_tells_its_side_and_a_near_one_does_not() -> None:
    """Roots of 2, 5 and 12 % against that of 5 %, in windows of measured pools."""
    for share, side in ((0.02, "under"), (0.05, "unclear"), (0.045, "unclear"), (0.12, "over")):
        row = with_side(policy(share), share, CALIBRATED, 0.05)
        assert row.slo_side == side
        assert row.slo_violation_range == pytest.approx(
            ((share**0.5 - SHARE_WIDTH) ** 2, (share**0.5 + SHARE_WIDTH) ** 2)
        )


def test_the_share_over_a_floor_bounds_from_above_alone() -> None:
    """However high, it never says that the SLO is broken; low enough, it says that it holds."""
    assert with_side(policy(0.9), None, CALIBRATED, 0.05).slo_side == "unclear"
    assert with_side(policy(0.9), None, CALIBRATED, 0.05).slo_violation_range[0] == 0.0
    assert with_side(policy(0.01), None, CALIBRATED, 0.05).slo_side == "under"
    assert with_side(policy(0.9), 0.5, CALIBRATED, 0.05).slo_side == "over"


def test_a_history_that_was_foretold_badly_widens_the_range() -> None:
    """4 % foretold where 16 % were seen: a fifth of a root; inside what was seen nothing is added."""
    assert width_of(entry(0.04, 0.16, 0.16)) == pytest.approx(0.2)
    assert width_of(entry(0.04, 0.02, 0.16)) == SHARE_WIDTH
    assert width_of(entry(None, 0.0, 0.0)) == SHARE_WIDTH
    assert width_of(entry(0.16, 0.04, 0.04, floor=True)) == SHARE_WIDTH
    assert width_of(entry(0.04, 0.16, 0.16, floor=True)) == pytest.approx(0.2)


def test_without_calibration_no_side_is_claimed() -> None:
    """Not tested: unclear and no range. No share at all: nothing to be on a side."""
    untested = with_side(policy(0.0), 0.0, {"status": "not_tested", "latencies": {}}, 0.05)
    assert (untested.slo_side, untested.slo_violation_range) == ("unclear", None)
    nothing = with_side(policy(None), None, CALIBRATED, 0.05)
    assert (nothing.slo_side, nothing.slo_violation_range) == (None, None)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.5), st.floats(0.001, 0.5))
def test_a_range_holds_its_share_and_a_claimed_side_is_its_side(
    share: float, part: float, width: float, mark: float
) -> None:
    """The share of measured pools is at most that of all of them."""
    low, high = share_range(share, share * part, width)
    assert 0 <= low <= share <= high <= 1 or share == pytest.approx(high)
    side = side_of((low, high), mark)
    assert side != "under" or share <= mark
    assert side != "over" or share > mark


def test_rows_of_a_backtest_say_their_side() -> None:
    """A fleet at 0.6 of its capacity holds the SLO, one at 1.2 breaks it; one not calibrated can't tell."""
    seen = {f"tbt_over_{edge}__decode": np.zeros(ROWS) for edge in ("low", "high")}
    calm = service({"decode": np.full(ROWS, 3 * 0.6 * D_CAPACITY)}, {"decode": 3}, **seen)
    rows = {r.policy: r for r in replay_service(calm, calm, derived(), {}, SETTINGS).result.policies}
    assert rows["recorded"].slo_side == "under"
    busy = service({"decode": np.full(ROWS, 3 * 1.2 * D_CAPACITY)}, {"decode": 3}, **seen)
    rows = {r.policy: r for r in replay_service(busy, calm, derived(), {}, SETTINGS).result.policies}
    assert (rows["recorded"].slo_violation_ratio, rows["recorded"].slo_side) == (None, "unclear")
    late = {name: np.ones(ROWS) for name in seen}
    busy = service({"decode": np.full(ROWS, 3 * 1.2 * D_CAPACITY)}, {"decode": 3}, **late)
    rows = {r.policy: r for r in replay_service(busy, calm, derived(), {}, SETTINGS).result.policies}
    assert rows["recorded"].slo_side == "over"

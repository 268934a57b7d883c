"""Does the fleet model agree with what was seen? Shares, latencies, the side of the SLO of a share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import D_CAPACITY, SETTINGS, day, derived, policy_replay, service

from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.calibrate import (
    calibrate,
    moved_lengths,
    moved_types,
    prediction_errors,
    share_range,
    side_of,
    width_of,
    with_side,
)
from hs_analysis.replay.constants import SHARE_WIDTH
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import Schedule, simulate
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import Derived, GpuSpeed

ROWS = 400


def calibrated(over: float, share: float, *, upper: float | None = None, numbers: Derived | None = None):
    """Calibrate a decode pool: ``share`` of its rows at 1.2 × capacity, ``over`` seen over the limit."""
    high = np.arange(ROWS) < share * ROWS
    load = np.where(high, 1.2, 0.6) * D_CAPACITY
    seen = {"tbt_over__decode": np.where(np.arange(ROWS) < over * ROWS, 0.2, 0.0)}
    bound = over if upper is None else upper
    seen["tbt_over_least__decode"] = np.where(np.arange(ROWS) < bound * ROWS, 0.2, 0.0)
    frame = service({"decode": load}, {"decode": 1}, **seen)
    model = fit_fleet(frame, numbers or derived(), SETTINGS)
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    return calibrate(results, model, SETTINGS.slo)


def test_agreement_within_a_factor_or_a_point() -> None:
    """Ten percent predicted: 10 and 5 % seen agree, 1 % does not."""
    for over, status in ((0.10, "calibrated"), (0.05, "calibrated"), (0.01, "not_calibrated")):
        found = calibrated(over, 0.10)
        assert found["status"] == status
        assert found["latencies"]["tbt"]["predicted"] == pytest.approx(0.105, abs=0.01)
        assert found["latencies"]["tbt"]["observed"] == (pytest.approx(over), pytest.approx(over))
    assert calibrated(0.0, 0.0)["status"] == "calibrated"


def test_a_limit_between_edges_gives_a_range() -> None:
    """Undecided windows count on one side only; the prediction is compared with the nearer end."""
    found = calibrated(0.30, 0.10, upper=0.02)
    assert found["latencies"]["tbt"]["observed"] == (pytest.approx(0.02), pytest.approx(0.30))
    assert found["status"] == "calibrated"


@pytest.mark.parametrize("ttft", [0.0, math.nan])
def test_a_pool_of_two_limits_is_compared_with_windows_over_either(ttft: float) -> None:
    """One capacity foretells both: TTFT that holds, or was never seen, is no miss of the replay."""
    load = np.where(np.arange(ROWS) < 0.1 * ROWS, 1.2, 0.6) * D_CAPACITY
    over = np.where(np.arange(ROWS) < 0.1 * ROWS, 0.2, 0.0)
    seen = {"tbt_over__decode": over, "ttft_over__service": np.full(ROWS, ttft)}
    frame = service({"decode": load}, {"decode": 1}, **seen)
    model = fit_fleet(frame, derived(), SETTINGS)
    both = replace(model.pools["decode"], judged=("ttft", "tbt"))
    model = replace(model, pools={"decode": both})
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    found = calibrate(results, model, SETTINGS.slo)
    assert found["status"] == "calibrated"
    assert list(found["latencies"]) == ["ttft or tbt"]
    assert found["latencies"]["ttft or tbt"]["observed"] == (pytest.approx(0.1), pytest.approx(0.1))


def test_of_a_floor_it_is_said_what_is_not_known() -> None:
    """Loads above those carried are named as what nothing is known of."""
    found = calibrated(0.0, 0.0, numbers=derived(status="floor"))
    assert "is a floor: nothing is known of windows above the highest load that was carried" in found["text"]


def lengths(output: float, prompt: float = 1000.0):
    """Return a window whose requests have these mean lengths, give or take a tenth."""
    wave = 1.0 + 0.1 * np.sin(np.arange(ROWS))
    return service(
        {"decode": np.full(ROWS, 900.0)}, {"decode": 1},
        input_length__service=prompt * wave, output_length__service=output * wave,
    )  # fmt: skip


def test_lengths_beyond_those_of_the_training_window_are_named() -> None:
    """A quarter more or less is beyond, a fifth is not; what was not recorded is not named."""
    assert moved_lengths(lengths(200.0), lengths(240.0)) == ()
    assert moved_lengths(lengths(200.0), lengths(260.0)) == ("output length 219 to 285 tokens",)
    assert moved_lengths(lengths(200.0), lengths(150.0, 700.0)) == (
        "prompt length 905 to 633 tokens", "output length 181 to 136 tokens",
    )  # fmt: skip
    bare = service({"decode": np.full(ROWS, 900.0)}, {"decode": 1})
    assert moved_lengths(lengths(200.0), bare) == ()


def test_a_mix_that_moved_on_is_not_calibrated_however_well_it_agrees() -> None:
    """A capacity stands for the mix it was measured on; the text says what moved."""
    frame = service(
        {"decode": np.full(ROWS, 0.6 * D_CAPACITY)}, {"decode": 1},
        tbt_over__decode=np.zeros(ROWS),
    )  # fmt: skip
    model = fit_fleet(frame, derived(), SETTINGS)
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    assert calibrate(results, model, SETTINGS.slo)["status"] == "calibrated"
    found = calibrate(results, model, SETTINGS.slo, ("output length 200 to 300 tokens",))
    assert found["status"] == "not_calibrated"
    assert "beyond what capacities were measured on (output length 200 to 300 tokens)" in found["text"]


def typed_pods(frame: ServiceFrame, **pods: np.ndarray) -> pl.DataFrame:
    """Return the typed rows of the decode pool of a service with these pods of each GPU type."""
    return pl.concat(
        frame.table.select("capture", "t").with_columns(
            pl.lit("decode").alias("role"), pl.lit("decode_tps").alias("signal"),
            pl.lit(name).alias("gpu_type"),
            pl.Series("instances", np.broadcast_to(count, ROWS).astype(np.int64)),
        )
        for name, count in pods.items()
    )  # fmt: skip


def weighed(**weights: float) -> Derived:
    """Return derived numbers in which one decode pod of each GPU type counts so much."""
    speeds = (
        GpuSpeed(
            role="decode",
            gpu_type=name,
            instances=2.0,
            relative=weight,
            ci=None,
            reference="slow",
            weight=weight,
            basis="capacity",
            status="ok",
            reason=None,
            evidence="",
        )
        for name, weight in weights.items()
    )
    return replace(derived(), gpu_speeds=tuple(speeds))


def test_a_mix_of_gpu_types_that_moves_is_said_and_one_that_stands_still_is_not() -> None:
    """Two fast (1.2) and two slow (0.8) pods are four; three fast and one slow are 1.1 each."""
    frame = service({"decode": np.full(ROWS, 900.0)}, {"decode": 4})
    numbers = weighed(fast=1.2, slow=0.8)
    still = typed_pods(frame, fast=np.array(2), slow=np.array(2))
    assert moved_types(frame, numbers, still) == ()
    assert moved_types(frame, numbers, None) == ()
    late = np.arange(ROWS) >= 0.8 * ROWS
    moves = typed_pods(frame, fast=np.where(late, 3, 2), slow=np.where(late, 1, 2))
    assert moved_types(frame, numbers, moves) == (
        "a decode pod 1.00 to 1.10 of the mean pod of the training window",
    )
    assert moved_types(frame, derived(), moves) == ()
    assert moved_types(frame, weighed(fast=1.02, slow=0.98), moves) == ()
    elsewhere = typed_pods(frame, fast=np.array(1), slow=np.array(3))
    assert moved_types(frame, numbers, elsewhere) == (
        "a decode pod 0.90 to 0.90 of the mean pod of the training window",
    )


def test_a_replay_over_a_moved_mix_of_gpu_types_gives_no_latency() -> None:
    """However well the recorded counts agree: the shares are kept aside, hours stay; else nothing changes."""
    frame = service(
        {"decode": np.full(ROWS, 0.6 * 4 * D_CAPACITY)}, {"decode": 4},
        tbt_over__decode=np.zeros(ROWS),
    )  # fmt: skip
    numbers = weighed(fast=1.2, slow=0.8)
    still = typed_pods(frame, fast=np.array(2), slow=np.array(2))
    moves = typed_pods(frame, fast=np.array(3), slow=np.array(1))
    bare = replay_service(frame, frame, numbers, {}, SETTINGS).result
    assert replay_service(frame, frame, numbers, {}, SETTINGS, still).result == bare
    assert bare.calibration["status"] == "calibrated"
    found = replay_service(frame, frame, numbers, {}, SETTINGS, moves).result
    assert found.calibration["status"] == "not_calibrated"
    assert (
        "not calibrated: the mix of GPU types moved (a decode pod 1.10 to 1.10" in found.calibration["text"]
    )
    assert all(row.slo_violation_ratio is None for row in found.policies)
    assert [row.instance_hours for row in found.policies] == [row.instance_hours for row in bare.policies]


def test_a_release_in_the_test_window_gives_no_latency() -> None:
    """The numbers are of the version before: the shares are kept aside, hours stay."""
    frame = service(
        {"decode": np.full(ROWS, 0.6 * 4 * D_CAPACITY)}, {"decode": 4},
        tbt_over__decode=np.zeros(ROWS),
    )  # fmt: skip
    bare = replay_service(frame, frame, derived(), {}, SETTINGS).result
    found = replay_service(frame, frame, derived(), {}, SETTINGS, versions=("decode ran v2",)).result
    assert (bare.calibration["status"], found.calibration["status"]) == ("calibrated", "not_calibrated")
    assert "a release came in the test window (decode ran v2)" in found.calibration["text"]
    assert found.calibration["why_not"] == "a release came in the test window"
    assert bare.calibration["why_not"] == ""
    assert all(row.recovery_s is None for row in found.policies)
    assert all(row.slo_violation_ratio is None for row in found.policies)
    assert [row.instance_hours for row in found.policies] == [row.instance_hours for row in bare.policies]


def test_without_latency_or_slo_nothing_is_tested() -> None:
    """No histogram, no capacity or no limit: not tested, and said so."""
    frame = service({"decode": np.full(ROWS, 900.0)}, {"decode": 1})
    model = fit_fleet(frame, derived(), SETTINGS)
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    found = calibrate(results, model, SETTINGS.slo)
    assert found["status"] == "not_tested"
    assert found["why_not"] == "no recorded latency was there to test the replay by"
    bare = replace(SETTINGS.slo, ttft_s=None, tbt_s=None)
    found = calibrate(results, fit_fleet(frame, derived(), replace(SETTINGS, slo=bare)), bare)
    assert (found["status"], found["text"]) == ("not_tested", "no SLO was given: nothing is said of latency")
    assert found["why_not"] == "no SLO was given"


WAVE = day(400, 3 * D_CAPACITY)


def errors_of(factor: float = 1.0, **columns: np.ndarray) -> dict[str, dict]:
    """Fit on latencies that follow load, and compare with the same times `factor`."""
    tbt = 0.02 + WAVE / D_CAPACITY / 100
    learnt = service({"decode": WAVE}, {"decode": 4}, tbt__decode=tbt, **columns)
    model = fit_fleet(learnt, derived(), SETTINGS)
    seen = service({"decode": WAVE}, {"decode": 4}, tbt__decode=tbt * factor, **columns)
    results = [simulate(recorded(model, part), part, model) for part in demands(seen)]
    return {entry["signal"]: entry for entry in prediction_errors(results, model)}


def test_a_latency_that_follows_load_is_foretold() -> None:
    """Within the width of a bin of load; a service that has become slower by a quarter is a fifth off."""
    entry = errors_of()["tbt"]
    assert (entry["role"], entry["pool"], entry["windows"]) == ("decode", "decode", 400)
    assert entry["error_ratio"] < 0.03
    assert entry["predicted"] == pytest.approx(entry["recorded"], rel=0.02)
    assert errors_of(1.25)["tbt"]["error_ratio"] == pytest.approx(0.2, abs=0.01)


def test_queues_are_compared_and_empty_ones_have_no_relative_error() -> None:
    """No queue recorded, none foretold: the error is 0 and there is nothing to divide by."""
    entry = errors_of(queue_length__decode=np.zeros(400))["queue_length"]
    assert (entry["error"], entry["error_ratio"]) == (0.0, None)


def test_what_was_not_recorded_is_left_out() -> None:
    """A signal without a value on the test window has no entry."""
    assert "tbt" not in errors_of(np.nan)


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


def entry(predicted: float | None, low: float, high: float) -> dict:
    """Return the calibration of one latency."""
    return {"latencies": {"tbt": {"predicted": predicted, "observed": (low, high)}}}


def test_a_share_far_from_the_mark_tells_its_side_and_a_near_one_does_not() -> None:
    """Roots of 2, 5 and 12 % against that of 5 %, in windows of measured pools."""
    for share, side in ((0.02, "under"), (0.05, "unclear"), (0.045, "unclear"), (0.12, "over")):
        row = with_side(policy(share), (share, share), CALIBRATED, 0.05)
        assert row.slo_side == side
        assert row.slo_violation_range == pytest.approx(
            ((share**0.5 - SHARE_WIDTH) ** 2, (share**0.5 + SHARE_WIDTH) ** 2)
        )


def test_windows_that_are_not_known_open_the_range_and_take_the_share_away() -> None:
    """Up to a point of them move nothing (`settled` counted them); more, and only the range is left."""
    row = with_side(policy(0.01), (0.0, 0.3), CALIBRATED, 0.05)
    assert (row.slo_violation_ratio, row.slo_side, row.not_known_ratio) == (None, "unclear", 0.3)
    assert row.slo_violation_range == pytest.approx((0.0, (0.3**0.5 + SHARE_WIDTH) ** 2))
    row = with_side(policy(0.01), (0.002, 0.01), CALIBRATED, 0.05)
    assert (row.slo_violation_ratio, row.slo_side) == (0.01, "under")
    assert with_side(policy(None), (0.3, 1.0), CALIBRATED, 0.05).slo_side == "over"


@pytest.mark.parametrize("status", ["calibrated", "not_calibrated"])
def test_loads_far_above_all_that_was_carried_are_beyond(status: str) -> None:
    """In more windows than may break the SLO, however well the rest is foretold."""
    calibration = CALIBRATED | {"status": status}
    assert with_side(policy(None), (0.0, 0.9), calibration, 0.05, 0.06).slo_side == "beyond"
    assert with_side(policy(None), (0.0, 0.9), calibration, 0.05, 0.05).slo_side == "unclear"


def test_a_history_that_was_foretold_badly_widens_the_range() -> None:
    """4 % foretold where 16 % were seen: a fifth of a root; inside what was seen nothing is added."""
    assert width_of(entry(0.04, 0.16, 0.16)) == pytest.approx(0.2)
    assert width_of(entry(0.04, 0.02, 0.16)) == SHARE_WIDTH
    assert width_of(entry(None, 0.0, 0.0)) == SHARE_WIDTH
    assert width_of(entry(0.16, 0.04, 0.04)) == pytest.approx(0.2)


def test_without_calibration_no_side_is_claimed() -> None:
    """Not tested: unclear and no range. No share at all: nothing to be on a side."""
    untested = with_side(policy(0.0), (0.0, 0.0), {"status": "not_tested", "latencies": {}}, 0.05)
    assert (untested.slo_side, untested.slo_violation_range) == ("unclear", None)
    nothing = with_side(policy(None), None, CALIBRATED, 0.05)
    assert (nothing.slo_side, nothing.slo_violation_range) == (None, None)


def test_a_replay_that_is_off_still_tells_what_is_over_by_more_than_that() -> None:
    """4 % foretold where 1 % was seen is a tenth of a root: 50 % is over.

    20 % of a fleet that was seen at 15 % is not. Without anything seen to compare with no share is over.
    """
    off = {"status": "not_calibrated", **entry(0.04, 0.01, 0.01)}
    row = with_side(policy(0.5), (0.5, 0.5), off, 0.05)
    assert row.slo_side == "over"
    assert row.slo_violation_range == pytest.approx(((0.5**0.5 - 0.1) ** 2, (0.5**0.5 + 0.1) ** 2))
    row = with_side(policy(0.1), (0.1, 0.1), off, 0.05)
    assert (row.slo_side, row.slo_violation_range) == ("unclear", None)
    late = {"status": "not_calibrated", **entry(0.10, 0.15, 0.15)}
    assert with_side(policy(0.2), (0.2, 0.2), late, 0.05).slo_side == "unclear"
    assert with_side(policy(0.4), (0.4, 0.4), late, 0.05).slo_side == "over"
    apart = {name: {"predicted": 0.02, "observed": (0.08, 0.08)} for name in ("ttft", "tbt")}
    both = {"status": "not_calibrated", "latencies": apart}  # over in other windows each: 16 % in all
    assert with_side(policy(0.3), (0.3, 0.3), both, 0.05).slo_side == "unclear"
    assert with_side(policy(0.6), (0.6, 0.6), both, 0.05).slo_side == "over"
    nothing = {"status": "not_tested", "latencies": {"tbt": {"predicted": None, "observed": None}}}
    assert with_side(policy(0.9), (0.9, 0.9), nothing, 0.05).slo_side == "unclear"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.5), st.floats(0.001, 0.5))
def test_a_range_holds_its_share_and_a_claimed_side_is_its_side(
    share: float, part: float, width: float, mark: float
) -> None:
    """A part of the windows is not known."""
    low, high = share_range((share * part, share), width)
    assert 0 <= low <= share <= high <= 1 or share == pytest.approx(high)
    side = side_of((low, high), mark)
    assert side != "under" or share <= mark
    assert side != "over" or share > mark


def test_rows_of_a_backtest_say_their_side() -> None:
    """A fleet at 0.6 of its capacity holds the SLO, one at 1.2 breaks it; one not calibrated can't tell."""
    seen = {"tbt_over__decode": np.zeros(ROWS)}
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

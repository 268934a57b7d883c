"""Does the fleet model agree with what was seen? Predicted against observed shares of violating windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hs_analysis.replay.control import Schedule
from replay.services import D_CAPACITY, SETTINGS, derived, service

from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.calibrate import calibrate, moved_lengths, moved_types
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Derived, GpuSpeed

ROWS = 400


def calibrated(over: float, share: float, *, upper: float | None = None, numbers: Derived | None = None):
    """Calibrate a decode pool: ``share`` of its rows at 1.2 × capacity, ``over`` seen over the limit."""
    high = np.arange(ROWS) < share * ROWS
    load = np.where(high, 1.2, 0.6) * D_CAPACITY
    seen = {"tbt_over_low__decode": np.where(np.arange(ROWS) < over * ROWS, 0.2, 0.0)}
    bound = over if upper is None else upper
    seen["tbt_over_high__decode"] = np.where(np.arange(ROWS) < bound * ROWS, 0.2, 0.0)
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


def test_floor_is_said_to_bound_from_above() -> None:
    """Over a floor the model may only predict too much, and says so."""
    found = calibrated(0.0, 0.0, numbers=derived(status="floor"))
    assert found["latencies"]["tbt"]["upper_bound"]
    assert "is a floor: violation shares are upper bounds" in found["text"]


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
        tbt_over_low__decode=np.zeros(ROWS), tbt_over_high__decode=np.zeros(ROWS),
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
        tbt_over_low__decode=np.zeros(ROWS), tbt_over_high__decode=np.zeros(ROWS),
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
        tbt_over_low__decode=np.zeros(ROWS), tbt_over_high__decode=np.zeros(ROWS),
    )  # fmt: skip
    bare = replay_service(frame, frame, derived(), {}, SETTINGS).result
    found = replay_service(frame, frame, derived(), {}, SETTINGS, versions=("decode ran v2",)).result
    assert (bare.calibration["status"], found.calibration["status"]) == ("calibrated", "not_calibrated")
    assert "a release came in the test window (decode ran v2)" in found.calibration["text"]
    assert all(row.slo_violation_ratio is None for row in found.policies)
    assert [row.instance_hours for row in found.policies] == [row.instance_hours for row in bare.policies]


def test_without_latency_or_slo_nothing_is_tested() -> None:
    """No histogram, no capacity or no limit: not tested, and said so."""
    frame = service({"decode": np.full(ROWS, 900.0)}, {"decode": 1})
    model = fit_fleet(frame, derived(), SETTINGS)
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    assert calibrate(results, model, SETTINGS.slo)["status"] == "not_tested"
    bare = replace(SETTINGS.slo, ttft_s=None, tbt_s=None)
    found = calibrate(results, fit_fleet(frame, derived(), replace(SETTINGS, slo=bare)), bare)
    assert (found["status"], found["text"]) == ("not_tested", "no SLO was given: nothing is said of latency")

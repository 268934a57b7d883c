"""Targets, dead bands and cooldowns."""

import math
from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, Service, day_frame, frame_of, make_frame, step_test, with_columns
from scipy.stats import norm

from hs_analysis.derive import derive_service
from hs_analysis.derive.noise import (
    cooldowns,
    dead_band,
    disjoint_means,
    noise_cv,
    second_difference_noise,
)
from hs_analysis.schema.results import Estimate, SignalVerdict

TRUE = {"prefill": Service().prefill_capacity, "decode": Service().decode_capacity}
ONE_CAPTURE = np.zeros(20_000, dtype=np.int64)


def verdict(signal: str, role: str, kind: str = "proportional") -> SignalVerdict:
    """Return a verdict on a signal."""
    return SignalVerdict(signal=signal, role=role, source="synthetic", verdict=kind, reasons=())  # type: ignore[arg-type]


VERDICTS = (
    verdict("gpu_util", "prefill"),
    verdict("prefill_tps", "prefill"),
    verdict("running", "decode"),
    verdict("request_rate", "service"),
    verdict("tbt", "decode", "guard"),
    verdict("decode_tps", "decode"),
)


def test_disjoint_means_leave_thin_blocks_out() -> None:
    """Blocks do not cross captures, drop their tail, and need 70 % of their rows."""
    values = np.array([1.0, 3.0, 5.0, np.nan, 7.0, 2.0, 4.0])
    first, second = disjoint_means(values, 2, np.array([0, 0, 0, 0, 0, 1, 1]))
    assert first[0] == 2.0
    assert math.isnan(first[1])
    assert first.size == 2
    assert second.tolist() == [3.0]


def test_noise_is_blind_to_a_straight_course() -> None:
    """White noise about any line has its own standard deviation; a bare line has none."""
    rng = np.random.default_rng(0)
    line = np.linspace(10, 1000, 4000)
    assert second_difference_noise([line]) == pytest.approx(0.0, abs=1e-9)
    assert second_difference_noise([line + rng.normal(0, 3, line.size)]) == pytest.approx(3.0, rel=0.05)
    assert math.isnan(second_difference_noise([np.array([1.0, 2.0, 4.0])]))


def test_noise_of_means_from_rows_and_from_means_agree() -> None:
    """A short test, whose noise is scaled from its rows, gives what a long history gives from its means."""
    rng = np.random.default_rng(1)
    values = 100 + rng.normal(0, 10, 20_000)
    long = noise_cv(values, 60.0, ONE_CAPTURE)
    short = noise_cv(values[:55], 60.0, ONE_CAPTURE[:55])  # eleven 5-minute means
    assert long == pytest.approx(0.1 / math.sqrt(5), rel=0.05)
    assert short == pytest.approx(long, rel=0.4)


def test_a_load_set_on_purpose_is_not_noise() -> None:
    """Fast cycles inflate second differences of 5-minute means, not those of rows."""
    rows = np.arange(400)
    values = 100 + 60 * np.sin(2 * np.pi * rows * 20 / 900) + np.random.default_rng(2).normal(0, 1, rows.size)
    assert noise_cv(values, 20.0, ONE_CAPTURE[:400], set_load=True) < 0.01
    assert noise_cv(values, 20.0, ONE_CAPTURE[:400]) > 0.05


def test_dead_band_keeps_noise_and_rounding_out() -> None:
    """θ_out = z·cv and θ_in = z·cv + 1/n with z for a tenth of a false crossing a day, and least widths."""
    z = norm.ppf(1 - 0.1 / (2 * 288))
    assert z == pytest.approx(3.6, abs=0.05)
    band = dead_band(0.05, 4)
    assert band.scale_out_ratio == pytest.approx(1 + z * 0.05)
    assert band.scale_in_ratio == pytest.approx(1 - z * 0.05 - 0.25)
    quiet = dead_band(0.0, 100)
    assert (quiet.scale_out_ratio, quiet.scale_in_ratio) == (1.05, 0.90)
    assert dead_band(0.5, 1).scale_in_ratio == 0.0  # a single instance is never removed for noise


def test_dead_band_is_seldom_crossed_by_noise() -> None:
    """A month of 5-minute means of pure noise crosses the band about as often as the rule allows."""
    rng = np.random.default_rng(3)
    values = 1 + rng.normal(0, 0.02, 30 * 288)
    band = dead_band(noise_cv(values, 300.0, ONE_CAPTURE[: values.size]), 4)
    assert (values > band.scale_out_ratio).sum() <= 8  # 3 expected at 0.1 a day on both sides
    assert (values < band.scale_in_ratio).sum() == 0


def test_cooldowns_wait_for_the_start_up() -> None:
    """Out: one window; in: the longer of ten minutes and two start-ups."""
    assert cooldowns(60.0) == (300.0, 600.0)
    assert cooldowns(500.0) == (300.0, 1000.0)


def test_target_is_headroom_times_the_lower_end() -> None:
    """A known capacity: 0.85 of the lower end of its interval; the interval stays with the capacity."""
    derived = derive_service(day_frame(0, prefill_peak=1.15, decode_peak=0.6, hours=24), (), SETTINGS).derived
    capacity = derived.capacity_of("prefill")
    threshold = derived.threshold_of("prefill_tps_effective", "prefill")
    assert capacity.status == threshold.status == "ok"
    assert threshold.target_per_instance == pytest.approx(0.85 * capacity.ci[0])
    assert threshold.headroom_ratio == 0.85
    assert threshold.capacity == Estimate(capacity.per_instance, *capacity.ci)
    lean = derive_service(
        day_frame(0, prefill_peak=1.15, decode_peak=0.6, hours=24), (), replace(SETTINGS, headroom_ratio=0.7)
    ).derived
    half = lean.threshold_of("prefill_tps_effective", "prefill")
    assert half.target_per_instance == pytest.approx(0.7 / 0.85 * threshold.target_per_instance)


@pytest.mark.parametrize(("over", "calm", "headroom"), [(0.001, True, 1.0), (0.004, False, 0.85)])
def test_a_floor_is_used_in_full_only_after_a_calm_history(over: float, calm: bool, headroom: float) -> None:
    """Under 0.2 % over the limit at the peak the load carried is the target; else 15 % stay in hand."""
    frame = day_frame(1, prefill_peak=0.6, decode_peak=0.6, hours=24)
    share = np.full(frame.table.height, over)
    frame = with_columns(frame, {"ttft_over_low@service": share, "tbt_over_low@decode": share})
    derived = derive_service(frame, (), SETTINGS).derived
    for capacity in derived.capacity:
        threshold = derived.threshold_of(capacity.signal, capacity.role)
        assert (capacity.status, capacity.calm, threshold.status) == ("floor", calm, "floor")
        assert threshold.target_per_instance == pytest.approx(headroom * capacity.per_instance)
        assert threshold.target_per_instance < TRUE[capacity.role]


def test_one_uneasy_pool_makes_the_history_uneasy() -> None:
    """Calm is a word for the whole history: TBT over its limit takes it from prefill's floor too."""
    frame = day_frame(1, prefill_peak=0.6, decode_peak=0.6, hours=24)
    busy = np.argsort(frame.values("offered_tps", "decode"))[-100:]
    share = frame.values("tbt_over_low", "decode")
    share[busy] = 0.03
    derived = derive_service(with_columns(frame, {"tbt_over_low@decode": share}), (), SETTINGS).derived
    assert [c.calm for c in derived.capacity] == [False, False]


def test_every_proportional_signal_reads_its_value_at_the_target() -> None:
    """The signals move in proportion here, so what they read at the target is known."""
    frame = day_frame(0, prefill_peak=1.0, decode_peak=1.0, hours=24)
    derived = derive_service(frame, VERDICTS, SETTINGS).derived
    prefill = derived.threshold_of("prefill_tps_effective", "prefill").target_per_instance
    assert derived.threshold_of("prefill_tps", "prefill").target_per_instance == pytest.approx(
        1.3 * prefill, rel=0.01
    )
    utilisation = derived.threshold_of("gpu_util", "prefill")
    assert utilisation.target_per_instance == pytest.approx(0.6 * prefill / TRUE["prefill"] + 0.02, rel=0.01)
    known = utilisation.capacity
    assert utilisation.target_per_instance < known.low < known.value < known.high
    capacity = derived.capacity_of("prefill").per_instance
    assert known.value == pytest.approx(0.6 * capacity / TRUE["prefill"] + 0.02, rel=0.01)
    rate = derived.threshold_of("request_rate", "service").target_per_instance
    assert derived.threshold_of("running", "decode").target_per_instance == pytest.approx(20 * rate, rel=0.02)
    assert derived.threshold_of("tbt", "decode") is None  # a guard sizes nothing
    assert len(derived.thresholds) == 6


def test_unknown_start_up_refuses_cooldowns_only() -> None:
    """Without a start-up time there is a target and a dead band, no cooldown, and a word on what to give."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=12)
    derived = derive_service(frame, (), replace(SETTINGS, startup_s={"prefill": 100.0})).derived
    decode = derived.threshold_of("decode_tps", "decode")
    assert decode.target_per_instance is not None
    assert decode.scale_out_ratio is not None
    assert (decode.cooldown_out_s, decode.cooldown_in_s) == (None, None)
    assert derived.threshold_of("prefill_tps_effective", "prefill").cooldown_in_s >= 600
    refused = {r.what: r for r in derived.refusals}
    assert refused["cooldown@decode"].code == "startup_unknown"
    assert "--startup" in refused["cooldown@decode"].collect
    assert "cooldown@prefill" not in refused


def test_a_refused_capacity_refuses_its_targets_with_its_reason() -> None:
    """No number stands without a reason, whatever is missing."""
    columns = {"instances@decode": np.ones(8), "offered_tps@decode": np.full(8, 5.0)}
    derived = derive_service(frame_of(columns, "production", 60.0), VERDICTS, SETTINGS).derived
    for threshold in derived.thresholds:
        assert (threshold.status, threshold.target_per_instance) == ("refused", None)
        assert threshold.reason is not None


def test_a_test_of_minutes_has_a_usable_band() -> None:
    """A pressure test of 20 minutes gives a band from the noise of its windows."""
    derived = derive_service(step_test(0, top=1.2), (), SETTINGS).derived
    band = derived.threshold_of("decode_tps", "decode")
    assert 1.05 <= band.scale_out_ratio < 1.2
    assert 0.5 < band.scale_in_ratio <= 0.75
    assert band.usual_instances == 4.0


def test_room_for_growth_ends_at_the_highest_load_seen() -> None:
    """A fleet of four that met doublings within minutes needs no more than four for its highest load.

    A plain day, whose growth the head-room covers, says no such total.
    """
    service = Service()
    level = np.where(np.arange(1440) % 240 < 120, 1.0, 0.5)
    requests = 0.6 * service.decode * service.decode_capacity / 300.0 * level
    steps = make_frame(service, requests, 400.0, 300.0, 0)
    found = derive_service(steps, (), SETTINGS).derived
    threshold, capacity = found.threshold_of("decode_tps", "decode"), found.capacity_of("decode")
    assert capacity.status == "floor"
    assert threshold.target_per_instance < 0.75 * capacity.per_instance
    assert threshold.highest_instances == pytest.approx(service.decode, rel=0.02)
    assert threshold.highest_total == pytest.approx(service.decode * capacity.per_instance, rel=0.02)
    plain = derive_service(day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=24), (), SETTINGS).derived
    assert plain.threshold_of("decode_tps", "decode").highest_total is None

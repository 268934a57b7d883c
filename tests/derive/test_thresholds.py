"""Targets, dead bands and cooldowns."""

import math
from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, Service, day_frame, frame_of, step_test, with_columns
from scipy.stats import norm

from hs_analysis.derive import derive_service
from hs_analysis.derive.noise import (
    Noise,
    cooldowns,
    dead_band,
    disjoint_maxima,
    disjoint_means,
    noise_of,
    second_difference_noise,
)
from hs_analysis.schema.results import Estimate, SignalVerdict
from hs_analysis.statistics.noise import largest_sd

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


def test_disjoint_maxima_leave_thin_blocks_out() -> None:
    """The highest of each block of a capture, missing values aside; blocks need 70 % of their rows."""
    values = np.array([1.0, 3.0, 2.0, np.nan, 7.0, np.nan, np.nan, np.nan, 4.0, 2.0, 5.0, 1.0])
    first, second = disjoint_maxima(values, 4, np.array([0] * 8 + [1] * 4))
    assert first[0] == 3.0
    assert math.isnan(first[1])
    assert second.tolist() == [5.0]


def test_noise_of_readings_from_rows_and_from_blocks_agree() -> None:
    """A short test, whose noise is scaled from its rows, gives what a long one gives from readings."""
    rng = np.random.default_rng(1)
    values = 100 + rng.normal(0, 10, 20_000)
    long = noise_of(values, 15.0, ONE_CAPTURE)
    short = noise_of(values[:44], 15.0, ONE_CAPTURE[:44])  # eleven minutes
    assert long.newest_cv == pytest.approx(0.1 / 2.0, rel=0.05)
    assert long.highest_cv == pytest.approx(0.669 * 0.05 / (1 + 1.163 * 0.05), rel=0.07)
    assert short.newest_cv == pytest.approx(long.newest_cv, rel=0.4)
    assert short.highest_cv == pytest.approx(long.highest_cv, rel=0.4)


def test_fewer_rows_than_a_minute_holds_have_no_noise() -> None:
    """Two windows of 20 s make no reading: their noise is not known."""
    assert math.isnan(noise_of(np.array([1.0, 2.0]), 20.0, ONE_CAPTURE[:2]).newest_cv)


def test_rows_wider_than_a_minute_are_readings() -> None:
    """Five-minute rows are compared as they are, alone and as the highest."""
    values = 100 + np.random.default_rng(5).normal(0, 10, 5000)
    found = noise_of(values, 300.0, ONE_CAPTURE[:5000])
    assert found.newest_cv == found.highest_cv == pytest.approx(0.1, rel=0.05)
    assert largest_sd(1) == pytest.approx(1.0, rel=1e-4)
    assert largest_sd(5) == pytest.approx(0.66898, rel=1e-4)


def test_a_load_set_on_purpose_is_not_noise() -> None:
    """Fast cycles inflate second differences of minutes and of their maxima, not those of rows."""
    rows = np.arange(400)
    values = 100 + 60 * np.sin(2 * np.pi * rows * 20 / 900) + np.random.default_rng(2).normal(0, 1, rows.size)
    still = noise_of(values, 20.0, ONE_CAPTURE[:400], set_load=True)
    moving = noise_of(values, 20.0, ONE_CAPTURE[:400])
    assert max(still.newest_cv, still.highest_cv) < 0.03
    assert min(moving.newest_cv, moving.highest_cv) > 0.04


def test_dead_band_keeps_noise_and_rounding_out() -> None:
    """θ_out = z·cv and θ_in = z·cv + 1/n with z for a tenth of a false crossing a day, and least widths."""
    z = norm.ppf(1 - 0.1 / (2 * 1440))
    assert z == pytest.approx(4.0, abs=0.05)
    band = dead_band(Noise(0.05, 0.03), 4, 60.0)
    assert band.scale_out_ratio == pytest.approx(1 + z * 0.05)
    assert band.scale_in_ratio == pytest.approx(1 - z * 0.03 - 0.25)
    seldom = dead_band(Noise(0.05, 0.03), 4, 300.0)
    assert seldom.scale_out_ratio == pytest.approx(1 + norm.ppf(1 - 0.1 / (2 * 288)) * 0.05)
    quiet = dead_band(Noise(0.0, 0.0), 100, 60.0)
    assert (quiet.scale_out_ratio, quiet.scale_in_ratio) == (1.05, 0.80)
    assert dead_band(Noise(0.5, 0.5), 1, 60.0).scale_in_ratio == 0.0  # a single instance stays


def test_dead_band_is_seldom_crossed_by_noise() -> None:
    """A month of minutes of pure noise crosses the band about as often as the rule allows."""
    rng = np.random.default_rng(3)
    values = 1 + rng.normal(0, 0.02, 30 * 1440)
    one = np.zeros(values.size, dtype=np.int64)
    band = dead_band(noise_of(values, 60.0, one), 4, 60.0)
    highest = np.lib.stride_tricks.sliding_window_view(values, 5).max(axis=1)
    assert (values > band.scale_out_ratio).sum() <= 8  # 3 expected at 0.1 a day on both sides
    assert (highest < band.scale_in_ratio).sum() == 0


def test_growth_needs_no_rest_and_shrinking_five_minutes() -> None:
    """Whatever the start-up takes: what was asked for and is not ready is counted."""
    assert cooldowns() == (0.0, 300.0)


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
    frame = with_columns(frame, {"ttft_over@service": share, "tbt_over@decode": share})
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
    share = frame.values("tbt_over", "decode")
    share[busy] = 0.03
    derived = derive_service(with_columns(frame, {"tbt_over@decode": share}), (), SETTINGS).derived
    assert [c.calm for c in derived.capacity] == [False, False]


@pytest.mark.parametrize(
    ("signal", "rows", "value", "calm"),
    [
        ("backlog_age_s", 72, 0.5, True), ("backlog_age_s", 72, 2.0, False),
        ("backlog_age_s", 20, 20.0, False), ("backlog_age_s", 1, 30.0, True),
        ("backlog_age_s", 72, np.nan, True),
        ("kv_usage", 72, 0.7, True), ("kv_usage", 20, 0.85, False), ("kv_usage", 1, 0.95, True),
        ("kv_usage", 72, np.nan, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_a_decode_pool_that_was_full_was_not_calm(
    role: str, signal: str, rows: int, value: float, calm: bool
) -> None:
    """Its gaps between tokens stay short while requests wait; one row is chance, and TTFT shows prefill's."""
    frame = day_frame(1, prefill_peak=0.6, decode_peak=0.6, hours=24)
    none = np.full(frame.table.height, 0.001)
    column = np.zeros(frame.table.height)
    column[np.argsort(frame.values("offered_tps", role))[-rows:]] = value
    frame = with_columns(
        frame, {"ttft_over@service": none, "tbt_over@decode": none, f"{signal}@{role}": column}
    )
    derived = derive_service(frame, (), SETTINGS).derived
    roomy = calm or role == "prefill"
    assert [c.calm for c in derived.capacity] == [roomy, roomy]
    code = derived.capacity_of("decode").reason.code
    assert (derived.capacity_of("decode").status, code) == ("floor", "no_violations" if roomy else "kv_full")


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


def test_an_unknown_start_up_is_asked_for_and_changes_no_number() -> None:
    """Without a start-up time there is a target, a dead band and rests, and a word on what to give."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=12)
    derived = derive_service(frame, (), replace(SETTINGS, startup_s={"prefill": 100.0})).derived
    decode = derived.threshold_of("decode_tps", "decode")
    assert decode.target_per_instance is not None
    assert decode.scale_out_ratio is not None
    assert (decode.cooldown_out_s, decode.cooldown_in_s) == (0.0, 300.0)
    refused = {r.what: r for r in derived.refusals}
    assert refused["startup@decode"].code == "startup_unknown"
    assert "--startup" in refused["startup@decode"].collect
    assert "300 s" in refused["startup@decode"].text
    assert "startup@prefill" not in refused


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

"""Demand and the stretches that hide it."""

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import START_S, day_frame, frame_of, with_columns

from hs_analysis.derive.demand import censored_windows, demand_of, instant, reconstruction_error


def marked(text: str, kind: str = "production", window_s: float = 60.0):
    """Return a frame whose decode is saturated in the rows marked `#`."""
    n = len(text)
    columns = {
        "instances@decode": np.ones(n),
        "offered_tps@decode": np.arange(n, dtype=float),
        "saturated@decode": np.array([1.0 if c == "#" else np.nan if c == "?" else 0.0 for c in text]),
    }
    return frame_of(columns, kind, window_s)


def spans(frame) -> list[tuple[int, int]]:
    """Return censored stretches in rows."""
    step = frame.window_s
    by_text = {instant(START_S + i * step): i for i in range(frame.table.height + 1)}
    return [(by_text[w.start], by_text[w.end]) for w in censored_windows(frame)]


def test_short_gaps_are_merged_and_short_stretches_dropped() -> None:
    """Production: gaps of two minutes are bridged, three are not; a single minute is not listed."""
    assert spans(marked("##..##...##.....#..")) == [(0, 6), (9, 11)]


def test_unknown_is_not_saturated() -> None:
    """A missing flag never makes a stretch."""
    assert spans(marked("????##????")) == [(4, 6)]


def test_a_pressure_test_keeps_every_window() -> None:
    """Runs of one window count, and nothing is merged."""
    assert spans(marked("#.##..#", "pressure_test", 20.0)) == [(0, 1), (2, 4), (6, 7)]


def test_demand_is_the_95_quantile_of_five_minute_means() -> None:
    """Per role, over all rows, saturated ones included: work is offered work."""
    frame = day_frame(0, prefill_peak=0.9, decode_peak=0.9, hours=24)
    work = frame.values("offered_tps", "decode")
    means = np.convolve(work, np.ones(5) / 5, "valid")
    found, refusals = demand_of(frame)
    assert found.decode_tps == pytest.approx(np.quantile(means, 0.95), rel=1e-3)
    assert found.prefill_tps > found.decode_tps
    assert refusals == ()


def test_served_work_in_saturated_stretches_is_a_lower_bound() -> None:
    """Where arrivals were not counted a refusal says so; not where they were, or nothing saturates."""
    frame = marked("....####....")
    assert demand_of(frame)[1] == ()
    served = replace(frame, reference="served")
    _, (refusal,) = demand_of(served)
    assert (refusal.what, refusal.code) == ("demand", "censored")
    assert demand_of(replace(marked("............"), reference="served"))[1] == ()


def test_reconstruction_error_compares_offered_with_served_where_both_agree() -> None:
    """A 3 % bias of one role is found, whatever saturated rows do; served work has no error."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=12)
    assert reconstruction_error(frame) == pytest.approx(0.0, abs=1e-9)
    biased = frame.values("offered_tps", "decode") * 1.03
    biased[:60] *= 5.0
    flag = np.zeros(frame.table.height)
    flag[:65] = 1.0
    changed = with_columns(frame, {"offered_tps@decode": biased, "saturated@decode": flag})
    assert reconstruction_error(changed) == pytest.approx(np.log(1.03), rel=1e-6)
    assert reconstruction_error(replace(frame, reference="served")) is None


def test_a_service_without_work_has_no_demand() -> None:
    """Missing is None, not zero."""
    frame = frame_of({"instances@decode": np.ones(10)}, "production", 60.0)
    found, _ = demand_of(frame)
    assert (found.prefill_tps, found.decode_tps, found.censored_windows) == (None, None, ())

"""Running means with gaps against a loop."""

import numpy as np
import pytest

from hs_analysis.statistics.smoothing import highpass, positive_log, running_mean


def test_running_mean_equals_a_loop_with_gaps_and_ends():
    """Missing rows are left out and the window is cut at both ends."""
    values = np.random.default_rng(0).normal(size=40)
    values[[0, 7, 8, 20]] = np.nan
    expected = [np.nanmean(values[max(0, t - 3) : t + 4]) for t in range(40)]
    assert running_mean(values, 3) == pytest.approx(expected)


def test_running_mean_of_nothing_is_missing():
    """A window without values has no mean."""
    assert np.isnan(running_mean(np.array([1.0, np.nan, np.nan, np.nan]), 1)).tolist() == [
        False, False, True, True,
    ]  # fmt: skip


def test_highpass_takes_a_straight_line_away():
    """Inside, a line equals its own centred mean."""
    assert highpass(np.arange(50.0), 5)[5:-5] == pytest.approx(np.zeros(40), abs=1e-9)


def test_log_of_what_is_not_positive_is_missing():
    """Zero and below have no logarithm."""
    logs = positive_log(np.array([-1.0, 0.0, np.e, np.nan]))
    assert np.isnan(logs).tolist() == [True, True, False, True]
    assert logs[2] == pytest.approx(1.0)

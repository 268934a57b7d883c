"""Chance in what arrives, and steps that chance does not explain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hs_analysis.statistics.noise import count_noise, steps

WINDOW_S = 60.0


def counted(rate: np.ndarray, seed: int) -> np.ndarray:
    """Return Poisson counts in windows, as requests per second."""
    return np.random.default_rng(seed).poisson(rate * WINDOW_S) / WINDOW_S


def one_capture(values: np.ndarray) -> np.ndarray:
    """Return the capture number of rows that are all of one."""
    return np.zeros(values.size, dtype=np.int64)


@pytest.mark.parametrize("rate", [np.full(1440, 3.0), 3.0 + 2.0 * np.sin(np.arange(1440) / 230)])
def test_poisson_counts_have_the_noise_of_their_window(rate: np.ndarray) -> None:
    """Variance ÷ mean of a count per second is 1 ÷ seconds, whether the rate stands or follows a day."""
    found = np.mean(
        [count_noise(values, one_capture(values)) for values in (counted(rate, k) for k in range(8))]
    )
    assert found == pytest.approx(1 / WINDOW_S, rel=0.05)


def test_a_few_steps_are_no_noise() -> None:
    """Doubling the load twelve times in a day does not change what counts as chance."""
    rate = np.where(np.arange(1440) // 60 % 2, 6.0, 3.0)
    values = counted(rate, 3)
    assert count_noise(values, one_capture(values)) == pytest.approx(1 / WINDOW_S, rel=0.15)


def test_no_noise_without_differences_or_across_captures() -> None:
    """Six rows have four second differences; captures of two rows have none."""
    assert np.isnan(count_noise(np.arange(1.0, 7.0), np.zeros(6, dtype=np.int64)))
    assert np.isnan(count_noise(np.arange(1.0, 21.0), np.repeat(np.arange(10), 2)))


def test_steps_are_found_on_both_sides_and_seldom_elsewhere() -> None:
    """A doubling marks the rows beside it; chance marks about two rows in 370."""
    rate = np.where(np.arange(4000) < 2000, 3.0, 6.0)
    values = counted(rate, 5)
    marked = steps(values, 1 / WINDOW_S, one_capture(values))
    assert marked[[1999, 2000]].all()
    elsewhere = np.delete(marked, [1999, 2000])
    assert elsewhere.sum() <= binom.ppf(0.999, elsewhere.size, 2 / 370)


def test_no_step_between_captures_or_without_a_known_noise() -> None:
    """The next capture may start at any load."""
    values = np.array([1.0, 1.0, 9.0, 9.0])
    assert not steps(values, 0.01, np.array([0, 0, 1, 1])).any()
    assert not steps(values, float("nan"), np.zeros(4, dtype=np.int64)).any()
    assert steps(values, 0.01, np.zeros(4, dtype=np.int64)).tolist() == [False, True, True, False]


@given(st.lists(st.floats(0.1, 1e3), min_size=8, max_size=40), st.floats(0.01, 100.0))
def test_noise_keeps_the_unit_of_the_rate(rates: list[float], unit: float) -> None:
    """Variance ÷ mean scales as the rate does."""
    values = np.array(rates)
    assert count_noise(values * unit, one_capture(values)) == pytest.approx(
        unit * count_noise(values, one_capture(values)), rel=1e-6, abs=1e-12
    )

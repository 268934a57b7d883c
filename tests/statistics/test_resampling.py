"""Block bootstrap and effective sample size against slow references and known series."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.statistics.resampling import (
    autocorrelation,
    block_correlations,
    block_length,
    fisher_interval,
    moving_block_indices,
    n_effective,
    percentile_interval,
)


def ar1(n: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(n)
    for t in range(1, n):
        out[t] = rho * out[t - 1] + rng.normal()
    return out


def test_autocorrelation_equals_the_pair_by_pair_sum_with_gaps():
    """The Fourier route gives the same numbers as a loop over existing pairs."""
    rng = np.random.default_rng(0)
    values = ar1(90, 0.6, rng)
    values[[3, 4, 40, 71]] = np.nan
    good = np.isfinite(values)
    centred = values - values[good].mean()
    variance = np.mean(centred[good] ** 2)
    for lag in range(1, 12):
        pairs = [centred[t] * centred[t + lag] for t in range(90 - lag) if good[t] and good[t + lag]]
        expected = np.mean(pairs) / variance * (1 - lag / 90)
        assert autocorrelation(values, 11)[lag] == pytest.approx(expected, abs=1e-12)


def test_autocorrelation_of_a_constant_or_empty_series_is_zero():
    """A series that does not move has no memory."""
    assert autocorrelation(np.ones(20), 3).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert autocorrelation(np.full(20, np.nan), 2).tolist() == [1.0, 0.0, 0.0]


def test_block_length_grows_with_memory_and_stays_in_bounds():
    """White noise takes the cube root, a slow series more, never above n/6."""
    rng = np.random.default_rng(1)
    white, other = rng.normal(size=720), rng.normal(size=720)
    slow_x, slow_y = ar1(720, 0.97, rng), ar1(720, 0.97, rng)
    assert block_length(white, other) == math.ceil(720 ** (1 / 3))
    assert block_length(white, other) < block_length(slow_x, slow_y) <= 720 // 6
    # ar(1) with 0.5: 0.5^k falls under 2 sqrt(log10 n / n) = 0.12 at k = 4, so b = 2 * 3 and chance's slack
    mild = ar1(2000, 0.9, rng), ar1(2000, 0.9, rng)
    band = 2 * math.sqrt(math.log10(2000) / 2000)
    memory = math.log(band) / math.log(0.9)
    assert 1.5 * memory < block_length(*mild) < 6 * memory
    ramp = np.arange(60.0)
    assert block_length(ramp, ramp) == 10


def test_effective_sample_size_is_n_for_noise_and_matches_theory_for_ar1():
    """n_eff = n (1 - ab) / (1 + ab) for two AR(1) series, after Bartlett."""
    rng = np.random.default_rng(2)
    noise = n_effective(rng.normal(size=2000), rng.normal(size=2000))
    assert 1500 < noise <= 2000
    found = np.mean([n_effective(ar1(2000, 0.8, rng), ar1(2000, 0.8, rng)) for _ in range(30)])
    assert found == pytest.approx(2000 * (1 - 0.64) / (1 + 0.64), rel=0.15)


def test_effective_sample_size_has_a_floor_of_three_and_counts_complete_rows():
    """A pure trend holds no more than three pieces; missing rows do not count."""
    trend = np.arange(500.0)
    assert n_effective(trend, trend) < 10
    assert n_effective(np.array([1.0, np.nan, 2.0]), np.array([1.0, 2.0, np.nan])) == 1.0
    assert math.isnan(n_effective(np.full(5, np.nan), np.ones(5)))


@given(n=st.integers(1, 60), block=st.integers(1, 80), draws=st.integers(1, 5), seed=st.integers(0, 9))
def test_resamples_are_runs_of_consecutive_rows(n, block, draws, seed):
    """Inside a block every row follows the one before, around the end; all rows are in range."""
    rows = moving_block_indices(n, block, draws, np.random.default_rng(seed))
    assert rows.shape == (draws, n)
    assert rows.min() >= 0
    assert rows.max() < n
    width = min(block, n)
    for k in range(1, n):
        if k % width:
            assert np.all(rows[:, k] == (rows[:, k - 1] + 1) % n)


def test_every_row_is_drawn_alike():
    """A circular bootstrap favours neither the ends nor the middle."""
    rows = moving_block_indices(50, 7, 4000, np.random.default_rng(3))
    counts = np.bincount(rows.ravel(), minlength=50) / 4000
    assert counts == pytest.approx(np.ones(50), abs=0.1)


def test_block_bootstrap_widens_the_interval_of_a_slow_mean():
    """Resampling rows one by one understates the spread of a mean that remembers."""
    rng = np.random.default_rng(4)
    series = ar1(600, 0.9, rng)
    single = series[moving_block_indices(600, 1, 500, rng)].mean(axis=1).std()
    blocks = series[moving_block_indices(600, 60, 500, rng)].mean(axis=1).std()
    assert blocks > 2.0 * single


def test_percentile_interval_leaves_out_missing_draws():
    """NaN draws are ignored; too few draws give no interval."""
    low, high = percentile_interval(np.array([np.nan, *np.linspace(0, 100, 101)]))
    assert (low, high) == pytest.approx((2.5, 97.5))
    assert all(map(math.isnan, percentile_interval(np.array([1.0, np.nan]))))


def test_interval_of_a_correlation_is_symmetric_in_fishers_z():
    """Draws give the spread alone; a perfect correlation has no spread, rounding or not."""
    low, high = fisher_interval(0.9, np.tanh(np.array([0.9, 1.0, 1.1])))
    sd = math.sqrt(0.02 / 3)
    assert (low, high) == pytest.approx(np.tanh(math.atanh(0.9) + np.array([-1.96, 1.96]) * sd))
    assert fisher_interval(1.0, np.array([1.0, 1.0 - 1e-15, 1.0 + 1e-15])) == pytest.approx((1.0, 1.0))
    assert fisher_interval(0.0, np.zeros(5)) == (0.0, 0.0)
    assert all(map(math.isnan, fisher_interval(0.5, np.array([0.5, np.nan]))))


@given(n=st.integers(4, 80), block=st.integers(1, 20), seed=st.integers(0, 50))
def test_block_sums_give_the_correlation_of_the_rows(n, block, seed):
    """Without drawing rows each resample is as numpy gives it from its rows, for one series or many."""
    rng = np.random.default_rng(seed)
    block = min(block, n)
    x, y = rng.normal(size=n) + 50.0, rng.normal(size=(n, 3)) * 7.0 + 1000.0
    rows = moving_block_indices(n, block, 5, rng)
    found = block_correlations(x, y, rows[:, ::block], block)
    for draw, line in zip(rows, found, strict=True):
        for column, value in enumerate(line):
            a, b = x[draw], y[draw, column]
            if min(np.ptp(a), np.ptp(b)) > 0:
                assert value == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    assert np.allclose(block_correlations(x, y[:, 1], rows[:, ::block], block), found[:, 1])


def test_a_constant_has_no_correlation():
    """Neither a constant side nor rounding about it correlates."""
    rows = moving_block_indices(30, 4, 3, np.random.default_rng(0))
    assert not block_correlations(np.full(30, 1e6 / 3), np.arange(30.0), rows[:, ::4], 4).any()

"""Prewhitening against statsmodels' AutoReg, and cross-correlation against a loop."""

import math

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.tsatools import lagmat

from hs_analysis.statistics.autoregression import (
    complete_rows,
    correlate,
    cross_products,
    fit_autoregression,
    lag_sums,
    peak_lag,
)


@pytest.fixture
def series() -> np.ndarray:
    rng = np.random.default_rng(0)
    out = np.zeros(500)
    for t in range(2, 500):
        out[t] = 0.3 + 0.6 * out[t - 1] + 0.2 * out[t - 2] + rng.normal()
    return out


def test_fit_equals_autoreg_without_gaps(series):
    """Same constant and coefficients as statsmodels on a series that is all there."""
    ours = fit_autoregression(series, 6)
    theirs = AutoReg(series, 6).fit()
    assert np.array([ours.constant, *ours.coefficients]) == pytest.approx(theirs.params, abs=1e-9)
    assert ours.innovations(series)[6:] == pytest.approx(theirs.resid, abs=1e-9)


def test_criterion_is_that_of_ordinary_least_squares(series):
    """Coefficients and AIC are those of statsmodels' OLS by QR, bit by bit: it chooses the same order."""
    for order in (1, 6, 10):
        ours, whole = fit_autoregression(series, order), complete_rows(series, order)
        history = lagmat(series, order, trim="forward", original="ex")[whole]
        theirs = OLS(series[whole], np.column_stack([np.ones(whole.sum()), history])).fit(method="qr")
        assert np.array_equal([ours.constant, *ours.coefficients], theirs.params)
        assert ours.aic == theirs.aic


def test_a_lag_that_never_moves_takes_no_part():
    """A queue that was empty but for its last row has a fit."""
    fit = fit_autoregression(np.array([0.0] * 40 + [3.0]), 2)
    assert fit.coefficients.tolist() == [0.0, 0.0]
    assert fit.constant == pytest.approx(3.0 / 39)


def test_a_gap_masks_the_rows_that_look_back_on_it(series):
    """A filtered row counts only if it and the p rows before it are there."""
    series[100] = np.nan
    left = fit_autoregression(series, 6).innovations(series)
    missing = np.flatnonzero(~np.isfinite(left))
    assert missing.tolist() == [*range(6), *range(100, 107)]
    assert np.array_equal(np.isfinite(left), complete_rows(series, 6))


def test_a_gap_hardly_moves_the_coefficients(series):
    """Rows across a gap do not enter the fit, so a level jump over it leaves no trace."""
    broken = series.copy()
    broken[250:260] = np.nan
    assert fit_autoregression(broken, 2).coefficients == pytest.approx(
        fit_autoregression(series, 2).coefficients, abs=0.05
    )


def test_order_by_information_criterion_finds_the_memory(series):
    """AIC takes at least the two lags that are there, and not one lag alone."""
    assert fit_autoregression(series, None).order >= 2


def test_a_queue_that_is_empty_but_for_its_last_row_is_fitted():
    """Lags that never move say nothing: their coefficients are 0, and what is left is the jump."""
    queue = np.zeros(100)
    queue[-1] = 5.0
    found = fit_autoregression(queue, 6)
    assert found.coefficients == pytest.approx(np.zeros(6), abs=1e-12)
    assert found.innovations(queue)[-1] == pytest.approx(5.0, abs=0.1)


def test_no_fit_for_constant_or_short_series():
    """Nothing to filter gives None."""
    assert fit_autoregression(np.ones(100), 6) is None
    assert fit_autoregression(np.arange(10.0), 6) is None


def test_cross_correlation_equals_a_loop_over_pairs():
    """Each lag averages the pairs that exist, weighed by sqrt(pairs / rows)."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=80), rng.normal(size=80)
    x[10] = y[33] = np.nan
    both = np.isfinite(x) & np.isfinite(y)
    sx, sy = ((s - s[both].mean()) / s[both].std() for s in (x, y))
    found = correlate(cross_products(x, y, 4), 78)
    for lag, value in zip(range(-4, 5), found, strict=True):
        pairs = [sx[t] * sy[t + lag] for t in range(80) if 0 <= t + lag < 80 and both[t] and both[t + lag]]
        assert value == pytest.approx(np.mean(pairs) * math.sqrt(len(pairs) / 78))


def test_a_shifted_copy_peaks_at_its_shift():
    """Second series later by three rows gives lag +3 and a correlation far above chance."""
    x = np.random.default_rng(2).normal(size=400)
    y = np.roll(x, 3)
    found = correlate(cross_products(x, y, 10), 400)
    assert peak_lag(found, 10) == pytest.approx(3, abs=0.1)
    assert math.sqrt(400) * found.max() > 15


def test_bootstrap_counts_of_one_give_the_plain_correlation():
    """A draw that takes each row once is the sample itself."""
    rng = np.random.default_rng(3)
    products = cross_products(rng.normal(size=50), rng.normal(size=50), 3)
    assert correlate(products, 50, np.ones((1, 50)))[0] == pytest.approx(correlate(products, 50))


def test_constant_series_have_no_correlation():
    """A series that does not move gives zeros, not NaN."""
    products = cross_products(np.ones(30), np.arange(30.0), 2)
    assert correlate(products, 30).tolist() == [0.0] * 5


def test_peak_is_refined_by_a_parabola():
    """Symmetric neighbours keep the lag, unequal ones pull it towards the larger."""
    assert peak_lag(np.array([0.0, 0.5, 1.0, 0.5, 0.0]), 2) == 0.0
    assert 0.0 < peak_lag(np.array([0.0, 0.2, 1.0, 0.8, 0.0]), 2) < 0.5
    assert peak_lag(np.array([1.0, 0.5, 0.0]), 1) == -1.0


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_lag_sums_are_the_sums_of_the_products(series, holes):
    """By transforms or lag by lag, with gaps or without: the same sums, squares and pairs."""
    rng = np.random.default_rng(3)
    x = np.where(rng.random(series.size) < holes, np.nan, series)
    y = np.where(rng.random(series.size) < holes, np.nan, np.roll(series, 3) + rng.normal(size=series.size))
    products = cross_products(x, y, 9)
    totals, squares, pairs = lag_sums(x, y, 9)
    assert totals == pytest.approx(np.nansum(products, axis=0), abs=1e-9)
    assert squares == pytest.approx(np.nansum(products**2, axis=0), abs=1e-9)
    assert pairs.tolist() == np.isfinite(products).sum(axis=0).tolist()


def test_lag_sums_of_a_constant_are_zero(series):
    """Nothing to correlate with."""
    totals, squares, _ = lag_sums(series, np.ones(series.size), 4)
    assert not totals.any()
    assert not squares.any()

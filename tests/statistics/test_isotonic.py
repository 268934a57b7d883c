"""Monotone fits against scikit-learn and by their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from hs_analysis.statistics.isotonic import equal_count_bins, monotone_fit, rising_shares


def test_fit_of_single_rows_equals_scikit_learn():
    """Without bins the curve is isotonic regression with ties pooled."""
    rng = np.random.default_rng(0)
    x = np.round(rng.uniform(0, 10, 80), 1)
    y = x + rng.normal(size=80)
    weights = rng.uniform(0.5, 2, 80)
    expected = IsotonicRegression().fit(x, y, sample_weight=weights).predict(x)
    assert monotone_fit(x, y, weights=weights).predict(x) == pytest.approx(expected)


def test_pool_adjacent_violators_on_three_rows():
    """A violating pair becomes its mean."""
    fit = monotone_fit(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 2.0]))
    assert fit.y.tolist() == [1.0, 3.0, 3.0]
    assert fit.increasing


def test_the_better_sign_wins():
    """A falling relation is fitted falling unless the sign is given."""
    x = np.arange(20.0)
    assert not monotone_fit(x, -x).increasing
    assert monotone_fit(x, -x, increasing=True).y == pytest.approx(np.full(20, -9.5))


def test_missing_rows_are_left_out_and_stay_missing():
    """NaN rows do not enter the fit; outside the knots the curve is constant."""
    fit = monotone_fit(np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 5.0, 2.0, np.nan]))
    assert fit.x.tolist() == [1.0, 2.0]
    predicted = fit.predict(np.array([0.0, 1.5, 9.0, np.nan]))
    assert predicted[:3].tolist() == [1.0, 1.5, 2.0]
    assert np.isnan(predicted[3])
    assert np.isnan(monotone_fit(np.array([np.nan]), np.array([1.0])).predict(np.array([1.0]))).all()


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=40),
    st.integers(1, 9),
)
def test_curve_is_monotone_and_keeps_the_mean(rows, bins):
    """Whatever the rows: one direction, the mean of y preserved, never outside the range of y."""
    x, y = np.array(rows).T
    fit = monotone_fit(x, y, bins=bins)
    steps = np.diff(fit.y)
    assert np.all(steps >= -1e-9) if fit.increasing else np.all(steps <= 1e-9)
    mass = np.bincount(equal_count_bins(x, bins))
    assert np.average(fit.y, weights=mass) == pytest.approx(y.mean(), abs=1e-6)
    assert fit.y.min() >= y.min() - 1e-9
    assert fit.y.max() <= y.max() + 1e-9


def test_bins_hold_equal_counts():
    """Bins differ by at most one row and follow the order of x."""
    x = np.random.default_rng(1).normal(size=103)
    number = equal_count_bins(x, 10)
    assert np.ptp(np.bincount(number)) <= 1
    assert np.all(np.diff(number[np.argsort(x)]) >= 0)


def test_shares_over_a_limit_never_fall_with_the_load():
    """Loads are sorted; one of two at 3 and 5 was over, and the one at 7."""
    loads, shares = rising_shares(np.array([5.0, 7.0, 1.0, 3.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert loads.tolist() == [1.0, 3.0, 5.0, 7.0]
    assert shares == pytest.approx([0.0, 0.5, 0.5, 1.0])

"""The line in the log odds is the one of statsmodels' general fit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.statistics.binomial import logistic_line


def _reference(x: np.ndarray, hits: np.ndarray, trials: np.ndarray) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outcomes = np.column_stack([hits, trials - hits])
        fit = sm.GLM(outcomes, sm.add_constant(x), family=sm.families.Binomial()).fit()
    return float(fit.params[0]), float(fit.params[1])


@given(st.integers(0, 2**32 - 1), st.integers(3, 80), st.floats(-3, 3), st.floats(-30, 60))
def test_as_the_general_fit(seed: int, cells: int, level: float, slope: float) -> None:
    """Odds at both ends of the cells agree to a millionth, or where they are all but certain to a thousandth.

    Outcomes that `x` separates are among them: the fit then walks off, and both stop at the same step.
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-0.5, 0.5, cells))
    trials = rng.integers(1, 40, cells).astype(float)
    hits = rng.binomial(trials.astype(int), 1 / (1 + np.exp(-(level + slope * x)))).astype(float)
    if hits.sum() in (0.0, trials.sum()):
        return
    found, wanted = logistic_line(x, hits, trials), _reference(x, hits, trials)
    assert found is not None
    ends = x[[0, -1]]
    odds, expected = found[0] + found[1] * ends, wanted[0] + wanted[1] * ends
    np.testing.assert_allclose(odds, expected, rtol=1e-6 if abs(expected).max() < 12 else 1e-3, atol=1e-6)


def test_a_line_through_known_odds() -> None:
    """Shares that lie on a line of odds give it back."""
    x, trials = np.array([0.0, 1.0, 2.0]), np.full(3, 1e6)
    hits = trials / (1 + np.exp(-(-1.0 + 0.5 * x)))
    assert logistic_line(x, hits, trials) == pytest.approx((-1.0, 0.5))


def test_where_outcomes_are_separated_the_line_crosses_in_the_gap() -> None:
    """Nothing hits up to 1, everything from 2 on."""
    found = logistic_line(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.0, 5.0, 5.0]), np.full(4, 5.0))
    assert found is not None
    assert 1.0 < -found[0] / found[1] < 2.0
    assert found[1] > 10.0


def test_cells_in_one_place_have_no_line() -> None:
    """Any slope fits."""
    assert logistic_line(np.ones(3), np.array([1.0, 2.0, 3.0]), np.full(3, 4.0)) is None

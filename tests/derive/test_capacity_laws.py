"""Laws that read a capacity off loads and shares."""

import math

import numpy as np
import pytest
from derive.synthetic import SETTINGS
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from hs_analysis.derive.capacity_laws import (
    Crossing,
    at_mean_load,
    binomial_fit,
    levels,
    logistic,
    quantile_law,
    violating,
)

SLO = SETTINGS.slo


def outcomes(
    seed: int, rows: int = 3000, centre: float = 1000.0, slope: float = 40.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return loads about `centre` and shares that violate with log odds slope·ln(load/centre)."""
    rng = np.random.default_rng(seed)
    load = centre * np.exp(rng.uniform(-0.8, 0.15, rows))
    bad = rng.random(rows) < 1 / (1 + np.exp(-slope * np.log(load / centre)))
    return load, np.where(bad, 0.2, 0.01)


def test_a_share_at_the_allowance_does_not_violate() -> None:
    """Exactly 5 % over the limit is allowed, also as a quotient of counts; an unknown share is not over."""
    share = np.array([1 - 0.95, 0.05, 3 / 60, 0.051, math.nan])
    assert violating(share, SLO).tolist() == [False, False, False, True, False]


def test_logistic_finds_where_the_allowed_share_is_crossed() -> None:
    """The crossing and the slope of a known logistic are recovered."""
    found = [logistic(*outcomes(seed), SLO) for seed in range(5)]
    truth = 1000 * math.exp(math.log(0.05 / 0.95) / 40)
    assert all(f is not None for f in found)
    assert np.mean([f.load for f in found if f]) == pytest.approx(truth, rel=0.005)
    assert np.mean([f.slope for f in found if f and f.slope]) == pytest.approx(40, rel=0.15)


@pytest.mark.parametrize(("slope", "cv"), [(8.0, 0.05), (40.0, 0.05), (400.0, 0.05), (40.0, 0.2)])
def test_a_crossing_in_mean_load_is_where_drawn_windows_violate_as_allowed(slope: float, cv: float) -> None:
    """Windows drawn about the mean load found, judged by the law on what came, violate in 5 % of cases."""
    found = at_mean_load(Crossing(1000.0, slope), cv**2 * 1000.0, SLO)
    came = found.load * np.exp(np.random.default_rng(0).normal(0.0, cv, 400_000))
    violates = 1 / (1 + (1000.0 / came) ** slope * 19.0)
    assert violates.mean() == pytest.approx(0.05, abs=0.001)
    assert found.slope is not None
    assert found.slope <= slope * 1.001


def test_a_cliff_is_met_as_far_below_as_chance_reaches() -> None:
    """The mean load at which 5 % of windows exceed a step lies 1.645 standard deviations below it."""
    found = at_mean_load(Crossing(1000.0, 1e5), 0.05**2 * 1000.0, SLO)
    assert found.load == pytest.approx(1000 * math.exp(norm.ppf(0.05) * 0.05), rel=2e-3)


@given(st.floats(2.0, 1e3), st.floats(1e-3, 0.1), st.floats(0.01, 100.0))
def test_chance_only_lowers_a_crossing_whatever_the_unit(slope: float, cv: float, unit: float) -> None:
    """More chance never raises the mean load that holds, and the unit of load does not matter."""
    crossing = Crossing(unit, slope)
    less, more = (at_mean_load(crossing, one**2 * unit, SLO) for one in (cv, 1.5 * cv))
    assert more.load <= less.load * (1 + 1e-9) <= unit * (1 + 1e-8)
    assert less.load / unit == pytest.approx(at_mean_load(Crossing(1.0, slope), cv**2, SLO).load, rel=1e-6)


def test_unknown_chance_changes_nothing() -> None:
    """A law without a slope, or loads whose noise can't be told, keep their crossing."""
    for crossing, noise in (
        (Crossing(5.0), 1.0),
        (Crossing(5.0, 30.0), math.nan),
        (Crossing(5.0, 30.0), 0.0),
    ):
        assert at_mean_load(crossing, noise, SLO) == crossing


def test_counted_cells_fit_like_single_rows() -> None:
    """The binomial fit on cells agrees with the maximum likelihood over all rows, found by brute force."""
    load, share = outcomes(1, rows=800)
    x, bad = np.log(load / 1000), share > 0.05

    def loss(p: np.ndarray) -> float:
        odds = p[0] + p[1] * x
        return float(np.sum(np.logaddexp(0, odds) - bad * odds))

    reference = minimize(
        loss, np.array([0.0, 10.0]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
    ).x
    found = binomial_fit(x, bad)
    assert found is not None
    assert found == pytest.approx(tuple(reference), rel=5e-3, abs=5e-3)


def test_no_violating_row_gives_no_logistic() -> None:
    """Without an outcome to fit the law is silent, and so it is when every row violates."""
    load, share = outcomes(0)
    assert logistic(load, np.zeros_like(share), SLO) is None
    assert logistic(load, np.ones_like(share), SLO) is None


def test_shares_that_fall_with_load_give_no_capacity() -> None:
    """A slope of the wrong sign is not a capacity."""
    load, share = outcomes(2)
    assert logistic(load.max() * load.min() / load, share, SLO) is None
    assert quantile_law(load, 0.5 * norm.cdf(-2 - 3 * np.log(load / 1000)), SLO) is None


def test_quantile_law_extends_below_the_limit() -> None:
    """A share that rises as a probit line is followed to where it reaches 5 %, although no row violates."""
    load = np.geomspace(600, 950, 2000)  # 48 bins of 1 %, whose upper end sets the quantile
    share = norm.cdf(norm.ppf(0.05) + 6 * np.log(load / 1000))
    found = quantile_law(load, share, SLO)
    assert share.max() < 0.05
    assert found is not None
    assert found.load == pytest.approx(1000, rel=0.01)


def test_quantile_law_needs_three_bins() -> None:
    """Fewer than sixty rows are not three bins of twenty."""
    load = np.geomspace(300, 950, 59)
    assert quantile_law(load, norm.cdf(norm.ppf(0.05) + 6 * np.log(load / 1000)), SLO) is None


def test_levels_interpolate_between_groups() -> None:
    """Three windows a level: the crossing of 5 % lies between the levels that frame it, in proportion."""
    load = np.repeat([100.0, 200.0, 300.0, 400.0], 3)
    share = np.repeat([0.0, 0.01, 0.09, 0.5], 3)
    found = levels(load, share, SLO)
    assert found is not None
    assert found.load == pytest.approx(200 + 100 * (0.05 - 0.01) / (0.09 - 0.01))


def test_levels_are_silent_beyond_what_was_tested() -> None:
    """A lowest level over the limit, and a highest level under it, give no crossing."""
    load = np.repeat([100.0, 200.0, 300.0], 3)
    assert levels(load, np.repeat([0.1, 0.2, 0.3], 3), SLO) is None
    assert levels(load, np.repeat([0.0, 0.01, 0.02], 3), SLO) is None


def test_laws_do_not_reach_below_what_was_seen() -> None:
    """Shares over the limit at every load, flat or rising, are no capacity below the lowest load."""
    load = np.geomspace(1000, 2000, 2000)
    rising = norm.cdf(norm.ppf(0.2) + 2 * np.log(load / 1000))
    assert quantile_law(load, rising, SLO) is None
    assert quantile_law(load, np.full(load.size, 0.2), SLO) is None
    often = np.where(np.random.default_rng(5).random(load.size) < 0.3 + 0.1 * (load > 1500), 0.2, 0.0)
    assert logistic(load, often, SLO) is None


@pytest.mark.parametrize("law", [logistic, quantile_law, levels])
def test_laws_do_not_depend_on_the_unit_of_load(law) -> None:
    """Twice the tokens for the same shares is twice the capacity."""
    load = np.random.default_rng(3).uniform(300, 1150, 2000)
    noise = np.random.default_rng(4).normal(0, 0.3, load.size)
    share = norm.cdf(norm.ppf(0.05) + 8 * np.log(load / 1000) + noise)
    once, twice = law(load, share, SLO), law(2 * load, share, SLO)
    assert once is not None
    assert twice.load == pytest.approx(2 * once.load, rel=1e-9)


def test_idle_rows_do_not_move_the_quantile_law() -> None:
    """Nights say nothing of the limit: rows under 0.6 of the highest load leave the answer as it is."""
    rng = np.random.default_rng(4)
    load = rng.uniform(61.0, 100.0, 600)
    share = norm.cdf(norm.ppf(0.05) + 10.0 * np.log(load / 98.0) + 0.3 * rng.standard_normal(load.size))
    plain = quantile_law(load, share, SLO)
    night = rng.uniform(10.0, 59.0, 3000)
    more = quantile_law(np.r_[night, load], np.r_[np.zeros(night.size), share], SLO)
    assert plain is not None
    assert more == plain

"""Links and lags of series whose relation is known."""

import numpy as np
import pytest

from hs_analysis.study.innovations import link_innovations


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def wander(n: int, rng: np.random.Generator) -> np.ndarray:
    """A slow series with news in every row."""
    return np.cumsum(rng.normal(size=n)) * 0.1 + 0.2 * rng.normal(size=n)


def test_news_that_arrive_have_a_link_and_unrelated_trends_have_none(rng):
    """A follower passes 5 by far, an independent wanderer with the same trend stays below."""
    trend = np.sin(np.linspace(0, 6, 720)) * 3
    x, other = trend + wander(720, rng), trend + wander(720, rng)
    follower = x + 0.3 * rng.normal(size=720)
    assert link_innovations(x, follower, 60.0, 10, rng).link > 10
    assert link_innovations(x, other, 60.0, 10, rng).link < 5


def test_lag_is_measured_to_a_fraction_of_a_row(rng):
    """A delay of 150 s in 60-s rows is found within 15 s, inside its interval."""
    fine = wander(6 * 900, rng)
    x = fine.reshape(-1, 6).mean(axis=1)
    y = np.roll(fine, 15).reshape(-1, 6).mean(axis=1)
    found = link_innovations(x[10:], y[10:], 60.0, 100, rng)
    assert found.lag_s == pytest.approx(150, abs=15)
    assert found.lag_ci[0] <= found.lag_s <= found.lag_ci[1]
    assert found.lag_ci[1] - found.lag_ci[0] < 60


def test_fewer_than_sixty_filtered_rows_give_no_link(rng):
    """66 rows leave 60 behind an AR(6); 65 are too few."""
    x = wander(66, rng)
    assert link_innovations(x, x, 60.0, 10, rng).rows == 60
    assert link_innovations(x[:65], x[:65], 60.0, 10, rng) is None


def test_saturated_rows_do_not_reach_into_the_link(rng):
    """Masked rows and the six after each of them are out; nonsense there changes nothing."""
    x = wander(400, rng)
    y = x + 0.2 * rng.normal(size=400)
    masked, nonsense = y.copy(), x.copy()
    masked[100:150] = np.nan
    nonsense[100:150] = 1e6
    found = link_innovations(x, masked, 60.0, 10, np.random.default_rng(1))
    assert found.rows == 400 - 6 - 50 - 6
    assert link_innovations(nonsense, masked, 60.0, 10, np.random.default_rng(1)) == found


def test_ranks_keep_a_link_that_spikes_hide(rng):
    """A latency whose spikes carry its variance still follows the load."""
    x = wander(600, rng)
    spikes = np.where(rng.random(600) < 0.03, rng.exponential(30, 600), 0.0)
    y = 0.3 * x + spikes
    plain = link_innovations(x, y, 60.0, 10, np.random.default_rng(1)).link
    ranked = link_innovations(x, y, 60.0, 10, np.random.default_rng(1), ranked=True).link
    assert plain < 5 < ranked


def test_no_lag_without_a_peak(rng):
    """A peak below 3/sqrt(n) is not reported as a lag."""
    found = link_innovations(wander(300, rng), wander(300, rng), 60.0, 10, rng)
    if found.link <= 3:
        assert found.lag_s is None
    constant = link_innovations(wander(300, rng), np.ones(300), 60.0, 10, rng)
    assert constant.lag_s is None
    assert constant.lag_ci is None

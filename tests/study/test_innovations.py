"""Links and lags of series whose relation is known."""

import numpy as np
import pytest

from hs_analysis.study.innovations import expected_strength, find_lag, find_link


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def wander(n: int, rng: np.random.Generator) -> np.ndarray:
    """A slow series with news in every row."""
    return np.cumsum(rng.normal(size=n)) * 0.1 + 0.2 * rng.normal(size=n)


def test_news_that_arrive_have_a_link_and_unrelated_trends_have_none(rng):
    """A follower passes 5 by far and chance cannot give it; an independent wanderer has neither."""
    trend = np.sin(np.linspace(0, 6, 720)) * 3
    x, other = trend + wander(720, rng), trend + wander(720, rng)
    follower = x + 0.3 * rng.normal(size=720)
    linked, unrelated = find_link(x, follower, 60.0), find_link(x, other, 60.0)
    assert linked.strength > 10
    assert linked.chance < 1e-9
    assert unrelated.strength < 4.5
    assert unrelated.chance > 0.01


def test_a_noisy_follower_is_told_by_the_slow_moves_of_the_load(rng):
    """Noise of several times the news in a row hides the news, not the wandering of an hour."""
    x = 10 + np.cumsum(rng.normal(size=1440)) * 0.05
    y = x + 0.6 * rng.normal(size=1440)
    assert find_link(x, y, 60.0).strength > 5


def test_one_clock_with_deep_nights_makes_no_link(rng):
    """Days that share their shape and their loud hours, and nothing else, stay under the limit."""
    clock = 1.0 - 0.9 * np.cos(2 * np.pi * np.arange(1440) / 1440)
    links = []
    for _ in range(60):
        x, y = (
            np.sqrt(
                100 * clock * np.exp(np.cumsum(rng.normal(size=1440)) * 0.01 + sd * rng.normal(size=1440))
            )
            for sd in (0.05, 0.4)
        )
        links.append(find_link(x, y, 60.0))
    assert max(link.strength for link in links) < 4.5
    # Bound: 99.9 % of a binomial with 60 trials of 5 %.
    assert sum(link.chance < 0.05 for link in links) <= 9


def test_hours_that_are_loud_in_both_are_no_evidence(rng):
    """Two unrelated services that are both ten times louder in the same twentieth of the day."""
    loud = np.where(np.arange(1440) % 480 < 24, 10.0, 1.0)
    links = [find_link(*(loud * rng.normal(size=1440) for _ in range(2)), 60.0).strength for _ in range(40)]
    # The largest of 31 normal numbers: 2.0 in the median, one in 1,000 over 4.0.
    assert np.median(links) < 2.6
    assert max(links) < 4.5


def test_a_strong_link_is_the_correlation_itself(rng):
    """Noise of one size: little is taken off, however heavy the tails of the load's own moves."""
    x = rng.standard_t(3, size=1440)
    y = x + 0.05 * rng.normal(size=1440)
    assert find_link(x, y, 60.0).strength == pytest.approx(np.sqrt(1434), rel=0.15)


def test_a_gauge_of_a_handful_keeps_its_link(rng):
    """Counts mostly of 0 and 1: roots of the rows lose a part of the link that residuals of counts keep."""
    gains = []
    for _ in range(12):
        load = 100.0 * np.exp(np.cumsum(rng.normal(size=1440)) * 0.02)
        count = rng.poisson(0.5 * load / load.mean()).astype(float)
        kept = find_link(load, count, 60.0, "counts").strength
        gains.append(kept / find_link(np.sqrt(load), np.sqrt(count), 60.0).strength)
    assert np.mean(gains) > 1.02


def test_a_day_without_a_request_has_no_moves(rng):
    """Hours of zeros are rows like any other and do not divide by nothing."""
    load = np.where(np.arange(1440) < 400, 0.0, 50 + np.cumsum(rng.normal(size=1440)))
    found = find_link(load, load + rng.normal(size=1440) ** 2, 60.0, "counts")
    assert np.isfinite(found.strength)
    assert found.rows == 1440 - 6


def test_lag_is_measured_to_a_fraction_of_a_row(rng):
    """A delay of 150 s in 60-s rows is found within 15 s, inside its interval."""
    fine = wander(6 * 900, rng)
    x = fine.reshape(-1, 6).mean(axis=1)
    y = np.roll(fine, 15).reshape(-1, 6).mean(axis=1)
    found = find_lag(x[10:], y[10:], 60.0, 100, rng)
    assert found.lag_s == pytest.approx(150, abs=15)
    assert found.ci[0] <= found.lag_s <= found.ci[1]
    assert found.ci[1] - found.ci[0] < 60


def test_fewer_than_sixty_filtered_rows_give_no_link(rng):
    """66 rows leave 60 behind an AR(6); 65 are too few."""
    x = wander(66, rng)
    assert find_link(x, x, 60.0).rows == 60
    assert find_link(x[:65], x[:65], 60.0) is None
    assert find_lag(x[:65], x[:65], 60.0, 10, rng) is None


def test_saturated_rows_do_not_reach_into_the_link(rng):
    """Masked rows and the six after each of them are out; nonsense there changes nothing."""
    x = wander(400, rng)
    y = x + 0.2 * rng.normal(size=400)
    masked, nonsense = y.copy(), x.copy()
    masked[100:150] = np.nan
    nonsense[100:150] = 1e6
    found = find_link(x, masked, 60.0)
    assert found.rows == 400 - 6 - 50 - 6
    assert find_link(nonsense, masked, 60.0) == found


def test_ranks_keep_a_link_that_spikes_hide(rng):
    """A latency whose spikes carry its variance still follows the load."""
    x = wander(600, rng)
    spikes = np.where(rng.random(600) < 0.03, rng.exponential(30, 600), 0.0)
    y = 0.3 * x + spikes
    assert find_link(x, y, 60.0).strength < 5 < find_link(x, y, 60.0, "ranks").strength


def test_no_lag_without_a_peak(rng):
    """A peak below 3/sqrt(n) is not reported as a lag, nor that of a signal that does not move."""
    assert find_lag(wander(300, rng), np.ones(300), 60.0, 10, rng) is None
    found = [find_lag(wander(300, rng), wander(300, rng), 60.0, 10, rng) for _ in range(20)]
    # 31 lags of chance 0.13 % each: about one in 25 speaks; bound: 99.9 % of that binomial.
    assert sum(lag is not None for lag in found) <= 5


def test_the_link_to_expect_falls_with_noise(rng):
    """It is near the true one of a follower, and tells when noise would hide any follower."""
    x = 10 + np.cumsum(rng.normal(size=1440)) * 0.05
    for sd, low, high in ((0.1, 12, 40), (20.0, 0, 4.5)):
        y = x + sd * rng.normal(size=1440)
        assert low <= expected_strength(x, y, 60.0, rng) <= high

"""Loads and token mixes have the sizes and shapes they were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from simulator.workloads import (
    CACHED_SHARE,
    LoadShape,
    TokenMix,
    arrivals,
    day_cycle,
    grid,
    load_curve,
    mix_path,
    steady_arrivals,
    wander,
)


def test_a_day_touches_its_trough_and_its_peak() -> None:
    """The day cycle goes from `night` to 1, lowest before dawn, with a dip between two peaks."""
    t = np.arange(0.0, 86400.0, 60.0)
    day = day_cycle(t, 0.3)
    assert day.max() == pytest.approx(1.0, abs=1e-3)
    assert day.min() == pytest.approx(0.3, abs=1e-3)
    assert 2 < t[day.argmin()] / 3600 < 7
    at = {hour: float(day_cycle(np.array([hour * 3600.0]), 0.3)[0]) for hour in (11, 13.5, 16.5)}
    assert at[13.5] < min(at[11], at[16.5])


def test_the_default_load_stands_still() -> None:
    """Without any shape the curve is one number."""
    assert np.ptp(load_curve(LoadShape(), 5.0, np.random.default_rng(0))) == 0.0


def test_weekends_and_overloads_scale_their_hours_alone() -> None:
    """Saturday carries its factor; the stretch of overload its own."""
    weekend = load_curve(LoadShape(first_day=4, weekend=0.5), 48.0, np.random.default_rng(0))
    t = grid(48.0)
    assert weekend[t < 86400].min() == pytest.approx(2 * weekend[t >= 86400].max())
    shape = LoadShape(overload=(2.0, 1.0, 1.5))
    over = load_curve(shape, 6.0, np.random.default_rng(0))
    hours = grid(6.0) / 3600
    assert over[hours < 2].max() == pytest.approx(1.0)
    assert over[(hours > 2.3) & (hours < 2.95)].mean() == pytest.approx(1.5, rel=0.1)


def test_wandering_has_its_spread_and_memory() -> None:
    """An Ornstein-Uhlenbeck path has the standard deviation asked for, and e-fold correlation at its time."""
    t = np.arange(0.0, 3e6, 60.0)
    path = wander(t, 0.2, 3600.0, np.random.default_rng(3))
    assert path.std() == pytest.approx(0.2, rel=0.05)
    lag = 60  # one hour
    assert np.corrcoef(path[:-lag], path[lag:])[0, 1] == pytest.approx(np.exp(-1.0), abs=0.06)


def test_requests_bring_the_means_asked_for() -> None:
    """Counts are Poisson about the rate, lengths have their means, cached tokens are part of the prompt."""
    mix = TokenMix(prompt=900.0, output=200.0, hit=0.5)
    found = steady_arrivals(5.0, 900.0, 200.0, 0.5, mix, 4.0, np.random.default_rng(1))
    assert len(found) == pytest.approx(5.0 * 4 * 3600, abs=4 * np.sqrt(5.0 * 4 * 3600))
    assert found.prompt.mean() == pytest.approx(900.0, rel=0.02)
    assert found.output.mean() == pytest.approx(200.0, rel=0.02)
    share = 0.5 * CACHED_SHARE[0] / sum(CACHED_SHARE)
    assert found.cached.sum() / found.prompt.sum() == pytest.approx(share, rel=0.03)
    assert np.all(np.diff(found.time_s) >= 0)
    assert np.all(found.missed >= 1)
    for tokens in (found.prompt, found.cached, found.output):
        assert np.array_equal(tokens, np.floor(tokens))


def test_a_drifting_mix_goes_out_and_comes_back() -> None:
    """Means start and end where the mix says and are a factor away in the middle."""
    mix = TokenMix(output=300.0, output_drift=np.log(2.0), hit=0.2, hit_drift=0.4)
    path = mix_path(mix, 24.0, np.random.default_rng(5))
    middle, ends = path.output[4000:4600].mean(), np.r_[path.output[:60], path.output[-60:]].mean()
    assert middle / ends == pytest.approx(2.0, rel=0.1)
    assert path.hit[4320] == pytest.approx(0.6, abs=0.08)


def test_arrivals_follow_the_rate() -> None:
    """A step of the rate shows in the counts on either side of it."""
    rate = np.where(grid(2.0) < 3600, 2.0, 6.0)
    mix = TokenMix()
    path = mix_path(mix, 2.0, np.random.default_rng(0))
    found = arrivals(rate, path, mix, np.random.default_rng(0))
    early = (found.time_s < 3600).sum()
    assert early == pytest.approx(7200, rel=0.05)
    assert len(found) - early == pytest.approx(21600, rel=0.05)

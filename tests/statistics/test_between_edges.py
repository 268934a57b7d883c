"""The share over a limit between two histogram edges: tiny cases, a slow reference, laws that hold always."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from hs_analysis.statistics.between_edges import SharesOver, shares_over
from hs_analysis.statistics.constants import NARROW_SIGMA

NO_MEAN = math.nan


def read(
    low: float, high: float, n: float, mean: float, limit: float, a: float | None, b: float
) -> SharesOver:
    """Return the shares of one window."""
    one = [np.array([value], dtype=float) for value in (low, high, n, mean)]
    return shares_over(*one, limit, a, b)


def values(found: SharesOver) -> tuple[float, float, float]:
    """Return share, least and other reading of one window."""
    return float(found.over[0]), float(found.least[0]), float(found.other[0])


def reference(low: float, high: float, n: float, mean: float, limit: float, a: float, b: float) -> float:
    """Return the share with the textbook's parts: normal quantiles and scipy's monotone cubic."""
    high = min(low, high)
    z_a, z_b = (norm.ppf(min(max(share, 0.5 / n), 1.0 - 0.5 / n)) for share in (low, high))
    points = [(a, z_a), (b, z_b)]
    if z_a > z_b and mean > 0.0:
        z_mean = -0.5 * math.log(b / a) / (z_a - z_b)
        falling = sorted([*points, (mean, z_mean)])
        heights = [height for _, height in falling]
        narrow = math.log(b / a) / (z_a - z_b) <= NARROW_SIGMA
        if narrow and mean not in (a, b) and heights == sorted(set(heights), reverse=True):
            points = falling
    x, y = zip(*points, strict=True)
    if len(points) == 3:
        z = float(PchipInterpolator(np.log(x), y)(math.log(limit)))
    else:
        z = z_a + (z_b - z_a) * math.log(limit / a) / math.log(b / a)
    return float(min(max(norm.cdf(z), high), low))


def test_without_a_mean_it_is_the_probit_in_log_latency() -> None:
    """Half over 1 s and 2.275 % over 4 s is two sigmas in two doublings: one sigma is at 2 s."""
    over, least, other = values(read(0.5, norm.sf(2.0), 1e9, NO_MEAN, 2.0, 1.0, 4.0))
    assert over == pytest.approx(norm.sf(1.0), abs=1e-7)
    assert least == over
    assert other == pytest.approx(0.5 + (norm.sf(2.0) - 0.5) / 3.0)


def test_at_an_edge_it_is_the_edges_share() -> None:
    """Where an edge lies at the limit nothing is interpolated, and no few samples are clipped."""
    assert values(read(0.0, 0.0, 3.0, 0.2, 1.0, 1.0, 1.0)) == (0.0, 0.0, 0.0)
    assert values(read(0.3, 0.1, 50.0, 0.9, 1.0, 1.0, 1.0)) == (0.3, 0.3, 0.3)


def test_a_window_without_a_sample_over_the_lower_edge_has_none_over_the_limit() -> None:
    """Clipping few samples away from none must not make some of them."""
    assert values(read(0.0, 0.0, 4.0, 0.5, 1.5, 1.0, 2.0)) == (0.0, 0.0, 0.0)
    assert values(read(1.0, 1.0, 4.0, 3.0, 1.5, 1.0, 2.0)) == (1.0, 1.0, 1.0)


def test_of_a_log_normal_latency_the_mean_changes_nothing() -> None:
    """Its mean lies on the line of the probits, below, between and above the edges: the share is exact."""
    for sigma in (0.05, 0.2, 1.0):
        for median in (0.8, 1.4, 2.5):
            low, high, true = (norm.sf(math.log(at / median) / sigma) for at in (1.0, 2.0, 1.5))
            over, _, other = values(read(low, high, 1e15, median * math.exp(sigma**2 / 2), 1.5, 1.0, 2.0))
            assert over == pytest.approx(true, abs=2e-3)
            assert sigma > NARROW_SIGMA or other == pytest.approx(true, abs=2e-3)


def test_the_mean_tells_where_in_a_bucket_nearly_all_samples_lie() -> None:
    """Gaps of 36 ms ± 2 ms and one stray in 2000, edges 30 and 64 ms: few are over 45, more by probit."""
    gaps = np.random.default_rng(0).normal(0.036, 0.002, 20_000)
    gaps[::2000] = 0.07
    low, high = ((gaps > edge).mean() for edge in (0.03, 0.064))
    over, _, other = values(read(low, high, gaps.size, gaps.mean(), 0.045, 0.03, 0.064))
    assert (gaps > 0.045).mean() < 0.001
    assert over < 0.05 < other


def test_one_bucket_with_all_samples_tells_only_what_its_mean_does() -> None:
    """Without the mean the lower edge stands; with it over the limit the window is over, else undecided."""
    assert values(read(1.0, 0.0, 500.0, NO_MEAN, 1.5, 1.0, 2.0)) == (1.0, 0.0, 1.0)
    over, least, _ = values(read(1.0, 0.0, 500.0, 1.8, 1.5, 1.0, 2.0))
    assert over == least > 0.5
    over, least, _ = values(read(1.0, 0.0, 500.0, 1.2, 1.5, 1.0, 2.0))
    assert 0.0 == least < over < 0.1


def test_beyond_the_edges_there_is_a_bound_alone() -> None:
    """Above the last finite edge between none and its share; below the first, at least that edge's."""
    assert values(read(0.3, 0.0, 50.0, 1.0, 3.0, 2.0, math.inf)) == (0.3, 0.0, 0.3)
    over, least, other = values(read(math.nan, 0.2, 50.0, 1.0, 0.5, None, 1.0))
    assert math.isnan(over)
    assert math.isnan(other)
    assert least == 0.2


def test_an_unknown_share_stays_unknown() -> None:
    """A window without samples has no share by any reading."""
    found = read(math.nan, math.nan, 0.0, math.nan, 1.5, 1.0, 2.0)
    assert all(math.isnan(value) for value in values(found))


SHARES = st.floats(0.0, 1.0)
WINDOWS = st.tuples(SHARES, SHARES, st.integers(1, 100_000), st.floats(0.05, 20.0))
EDGES = st.tuples(st.floats(0.01, 5.0), st.floats(1.05, 8.0), st.floats(0.01, 0.99))


@given(WINDOWS, EDGES)
def test_it_is_what_the_slow_reference_gives(
    window: tuple[float, float, int, float], place: tuple[float, float, float]
) -> None:
    """Normal quantiles and scipy's monotone cubic, window by window."""
    low, high, n, mean = max(window[:2]), min(window[:2]), *window[2:]
    a, b = place[0], place[0] * place[1]
    limit = a * (b / a) ** place[2]
    if low >= 1.0 - 1e-9 and high <= 1e-9:
        return  # the mean alone decides there; it has tests of its own
    found = values(read(low, high, n, mean, limit, a, b))[0]
    assert found == pytest.approx(reference(low, high, n, mean, limit, a, b), abs=1e-7)


@given(WINDOWS, EDGES)
def test_a_higher_limit_never_has_more_over_it_and_edges_bound_it(
    window: tuple[float, float, int, float], place: tuple[float, float, float]
) -> None:
    """Monotone in the limit, between the shares at the edges, and no reading is below the least."""
    low, high, n, mean = max(window[:2]), min(window[:2]), *window[2:]
    a, b = place[0], place[0] * place[1]
    found = [
        values(read(low, high, n, mean, a * (b / a) ** part, a, b)) for part in np.linspace(0.001, 0.999, 9)
    ]
    over = np.array([one[0] for one in found])
    assert (np.diff(over) <= 1e-12).all()
    assert ((over >= high) & (over <= low)).all()
    assert all(one[1] <= one[0] for one in found)

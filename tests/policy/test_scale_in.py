"""What scale-in costs: times of requests from a histogram, what is cut, and the line that mends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hs_analysis.policy.scale_in import Grace, LatencyHistogram, Leaving, leaving, scale_in

EDGES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


def histogram(law: object, edges: tuple[float, ...] = EDGES) -> LatencyHistogram:
    """Return what a histogram counts of a million requests."""
    return LatencyHistogram(edges, tuple(1e6 * law.cdf(np.array(edges))), 1e6)


LAWS = {
    "lognormal": stats.lognorm(0.9, scale=6.0),
    "exponential": stats.expon(scale=8.0),
    "gamma": stats.gamma(3.0, scale=4.0),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("grace", [7.0, 30.0])
def test_share_cut_is_that_of_requests_that_run(law: object, grace: float) -> None:
    """∫ S beyond the grace ÷ ∫ S, not the share of all requests: within a quarter, in coarse buckets."""
    found = histogram(law)
    grid = np.linspace(0.0, 400.0, 400_001)
    over = law.sf(grid)
    beyond = np.trapezoid(over[grid >= grace], grid[grid >= grace])
    assert found.share_cut(grace) == pytest.approx(beyond / np.trapezoid(over, grid), rel=0.25, abs=2e-4)
    assert found.mean_s == pytest.approx(law.mean(), rel=0.06)
    assert found.quantile_s(0.999) == pytest.approx(law.ppf(0.999), rel=0.1)
    assert found.bound_s(0.999) == min(edge for edge in EDGES if edge >= law.ppf(0.999))


def test_beyond_the_last_bucket_nothing_is_made_up() -> None:
    """The time is null, the last edge is a lower bound, and a longer grace period says nothing."""
    found = histogram(LAWS["lognormal"], EDGES[:5])
    assert (found.quantile_s(0.999), found.bound_s(0.999)) == (None, None)
    assert found.share_cut(30.0) is None
    cost = scale_in("decode", found, Grace(), Leaving(8.0, 100.0))
    assert (cost.longest_request_s, cost.longest_request_bound_s, cost.is_at_least) == (None, 10.0, True)
    assert (cost.requests_cut_per_day, cost.reason.code) == (None, "buckets_end")
    short = scale_in("decode", found, Grace(5.0, "setting"), Leaving(8.0, 100.0))
    assert short.requests_cut_per_day == pytest.approx(100.0 * found.share_cut(5.0))
    assert short.change == "terminationGracePeriodSeconds: 30"


def test_line_to_change_is_the_bound_in_steps_of_half_a_minute() -> None:
    """Kubernetes' default is said as such; pods that have long enough need no change and cut nothing."""
    found = histogram(LAWS["gamma"])
    cost = scale_in("decode", found, Grace(), Leaving(8.0, 100.0))
    assert (cost.grace_s, cost.grace_from) == (30.0, "default")
    assert (cost.longest_request_bound_s, cost.change) == (50.0, "terminationGracePeriodSeconds: 60")
    assert 0.0 < cost.requests_cut_per_day < 100.0 * 0.05
    assert cost.reason is None
    enough = scale_in("decode", found, Grace(300.0, "file", "d.yaml:3"), Leaving(8.0, 100.0))
    assert (enough.requests_cut_per_day, enough.change) == (pytest.approx(0.0, abs=1e-6), None)


def test_what_is_not_recorded_is_null_with_what_to_record() -> None:
    """Times of requests, or their rate."""
    cost = scale_in("decode", None, Grace(), Leaving(8.0, None), ["a_seconds", "b_seconds"])
    assert (cost.requests_cut_per_day, cost.longest_request_s, cost.change) == (None, None, None)
    assert cost.reason.text.endswith("keep those of a_seconds or b_seconds")
    rated = scale_in("decode", histogram(LAWS["gamma"]), Grace(), Leaving(8.0, None))
    assert (rated.requests_cut_per_day, rated.reason.code) == (None, "rate_not_recorded")


def test_requests_on_leaving_instances_are_littles() -> None:
    """Two of ten leave once in half a day at 3 requests/s of 20 s: a fifth of 60 run there, 24 a day."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    t = [start + timedelta(minutes=n) for n in range(720)]
    counts = [10.0] * 300 + [8.0] * 420
    timeline = pl.DataFrame({"capture": "", "t": t, "desired_decode": counts, "load_decode": 1.0})
    rates = pl.DataFrame({"capture": "", "t": t, "rate": 3.0})
    assert leaving(timeline, rates, 20.0, 60.0) == Leaving(4.0, pytest.approx(24.0))
    unknown = rates.with_columns(rate=pl.lit(None, pl.Float64))
    assert leaving(timeline, unknown, 20.0, 60.0) == Leaving(4.0, None)
    twice = timeline.with_columns(desired_decode=pl.Series([10.0] * 300 + [8.0] * 300 + [6.0] * 120))
    gap = rates.with_columns(rate=pl.when(pl.col("t") != t[600]).then("rate"))
    assert leaving(twice, gap, 20.0, 60.0) == Leaving(8.0, None)  # of one removal nothing is known
    two = pl.concat([timeline, timeline.with_columns(capture=pl.lit("b"), desired_decode=pl.lit(2.0))])
    assert leaving(two, rates, 20.0, 60.0).instances_per_day == 2.0  # captures are apart

"""Values of forms on series small enough to work out by hand."""

import time
from datetime import UTC, datetime, timedelta
from importlib import import_module

import numpy as np
import polars as pl
import pytest

from hs_analysis.promql import PROMETHEUS_2, PROMETHEUS_3, Grid, History, evaluate, parse, picked
from hs_analysis.promql.forms import Matcher, Selector

S = 1_000_000
START = 1_767_225_600


def history(*series):
    """Build from (name, labels, times [s], values); a value ``"end"`` ends the series."""
    found = []
    for name, labels, times, values in series:
        stale = np.array([value == "end" for value in values], np.bool_)
        numbers = np.array([np.nan if value == "end" else value for value in values], np.float64)
        found.append(({"__name__": name, **labels}, (START + np.array(times)) * S, numbers, stale))
    return History.of(found)


def value(text, given, at, server=PROMETHEUS_3):
    """Return the only series' value at one time [s], None where there is none."""
    found = evaluate(parse(text), given, Grid((START + at) * S, S, 1), server)
    there = np.flatnonzero(found.present[:, 0])
    assert there.size <= 1, found.labels
    return float(found.values[there[0], 0]) if there.size else None


ONE = history(("m", {}, [0, 15, 30], [1.0, 2.0, 3.0]))


def test_a_sample_is_read_for_five_minutes():
    """The newest at or before the moment; at exactly five minutes only before version 3."""
    assert value("m", ONE, -1) is None
    assert value("m", ONE, 0) == 1.0
    assert value("m", ONE, 29) == 2.0
    assert value("m", ONE, 329) == 3.0
    assert value("m", ONE, 330) is None
    assert value("m", ONE, 330, PROMETHEUS_2) == 3.0
    assert value("m", ONE, 331, PROMETHEUS_2) is None


def test_a_series_that_ended_is_gone_at_once():
    """Not after the lookback; it comes back with its next sample, and ranges pass the end over."""
    given = history(("m", {}, [0, 15, 30, 45], [1.0, 2.0, "end", 5.0]))
    assert [value("m", given, at) for at in (29, 30, 44, 45)] == [2.0, None, None, 5.0]
    assert value("avg_over_time(m[1m])", given, 46) == pytest.approx(8 / 3)
    assert value("count_over_time(m[1m])", given, 46) == 3.0
    assert value("sum(m) or vector(0)", given, 31) == 0.0


def test_a_counter_that_starts_again_counts_what_came_since():
    """Only falls after a range's first sample: one to that sample lies before."""
    given = history(
        ("c_total", {"pod": "a"}, [0, 15, 30, 45, 60], [100.0, 130.0, 4.0, 1.0, 7.0]),
        ("c_total", {"pod": "b"}, [0, 15, 30, 45, 60], [2.0, 3.0, 4.0, 5.0, 6.0]),
    )
    grid = Grid((START + 30) * S, 15 * S, 3)
    by_pod = evaluate(parse("increase(c_total[30s])"), given, grid, PROMETHEUS_2)
    assert by_pod.values == pytest.approx(np.array([[30.0 + 4.0, 4.0 + 1.0, 1.0 + 6.0], [2.0, 2.0, 2.0]]))
    assert value('increase(c_total{pod="a"}[1m])', given, 60, PROMETHEUS_2) == pytest.approx(30 + 4 + 1 + 6)


def test_the_start_of_a_range_is_outside_since_version_3():
    """On scrape times a minute holds five samples before, four since; a rate takes them accordingly."""
    given = history(("c_total", {}, [0, 15, 30, 45, 60], [0.0, 15.0, 30.0, 45.0, 60.0]))
    assert value("count_over_time(c_total[1m])", given, 60, PROMETHEUS_2) == 5.0
    assert value("count_over_time(c_total[1m])", given, 60) == 4.0
    assert value("rate(c_total[1m])", given, 60) == pytest.approx(1.0)
    assert value("rate(c_total[15s])", given, 60, PROMETHEUS_2) == pytest.approx(1.0)
    assert value("rate(c_total[15s])", given, 60) is None


def test_an_increase_reaches_to_the_ends_of_its_range_but_not_below_zero():
    """Samples at 10, 20, 30 s of a range from 0 to 35 s: to both ends, unless the counter was zero before."""
    high = history(("c_total", {}, [10, 20, 30], [100.0, 110.0, 120.0]))
    assert value("increase(c_total[35s])", high, 35) == pytest.approx(20.0 * (20 + 10 + 5) / 20)
    low = history(("c_total", {}, [10, 20, 30], [2.0, 12.0, 22.0]))
    assert value("increase(c_total[35s])", low, 35) == pytest.approx(20.0 * (20 + 2 + 5) / 20)
    # A first sample further away than 1.1 intervals: the series began half an interval before it.
    assert value("increase(c_total[1m])", high, 36) == pytest.approx(20.0 * (20 + 5 + 6) / 20)
    # It was at zero 8 s before its first sample: that is longer than half an interval, shorter than 1.1.
    began = history(("c_total", {}, [10, 20, 30], [8.0, 18.0, 28.0]))
    assert value("increase(c_total[1m])", began, 36) == pytest.approx(20.0 * (20 + 5 + 6) / 20)
    assert value("increase(c_total[1m])", began, 36, PROMETHEUS_2) == pytest.approx(20.0 * (20 + 8 + 6) / 20)


def test_a_counter_that_falls_has_begun_again():
    """What it had before counts, once for every fall within the range; a lone sample has no rate."""
    given = history(("c_total", {}, [0, 10, 20, 30, 40], [50.0, 60.0, 5.0, 7.0, 1.0]))
    assert value("irate(c_total[1m])", given, 40) == pytest.approx(0.1)
    assert value("irate(c_total[1m])", given, 30) == pytest.approx(0.2)
    # From 50 over 60, 5 and 7 to 1: 10 + 5 + 2 + 1, all within 40 s of 45 s; 5 s more at the end.
    found = value("increase(c_total[45s])", given, 40, PROMETHEUS_2)
    assert found == pytest.approx(18.0 * (40 + 5) / 40)
    assert value("rate(c_total[9s])", given, 40) is None


def test_a_fall_at_the_first_sample_of_a_range_lies_before_it():
    """And the last sample of another series is no fall."""
    given = history(
        ("c_total", {"p": "a"}, [0, 10, 20, 30], [90.0, 5.0, 6.0, 7.0]),
        ("c_total", {"p": "b"}, [0, 10, 20, 30], [1.0, 2.0, 3.0, 4.0]),
    )
    assert value('irate(c_total{p="b"}[25s])', given, 30) == pytest.approx(0.1)
    assert value('increase(c_total{p="a"}[20s])', given, 30, PROMETHEUS_2) == pytest.approx(2.0)
    found = evaluate(parse("increase(c_total[20s])"), given, Grid((START + 20) * S, 10 * S, 2), PROMETHEUS_2)
    assert found.values.tolist() == [pytest.approx([6.0, 2.0]), pytest.approx([2.0, 2.0])]


def buckets(*counts, edges=("0.1", "1", "10", "+Inf")):
    return history(*(("b", {"le": e}, [0], [float(c)]) for e, c in zip(edges, counts, strict=True)))


@pytest.mark.parametrize(
    ("quantile", "given", "expected"),
    [
        (0.5, buckets(0, 10, 20, 20), 1.0),
        (0.75, buckets(0, 10, 20, 20), 5.5),
        (0.25, buckets(10, 20, 20, 20), 0.05),
        # In the last bucket only its lower edge is known.
        (0.99, buckets(0, 10, 20, 30), 10.0),
        # Counts that fall with the edge are raised to what stands before them.
        (0.75, buckets(0, 10, 8, 20, 20, edges=("0.1", "1", "10", "100", "+Inf")), 55.0),
        (0.5, buckets(0, 0, 0, 0), float("nan")),
        (0.5, buckets(1, 2, edges=("0.1", "1")), float("nan")),
        (0.5, buckets(7, edges=("+Inf",)), float("nan")),
        # Below a first edge of zero or less nothing is known but that edge.
        (0.1, buckets(5, 10, edges=("0", "+Inf")), 0.0),
        # One edge in two spellings is one bucket.
        (0.5, buckets(2, 2, 8, edges=("1", "1.0", "+Inf")), 1.0),
        (2.0, buckets(0, 10, 20, 20), float("inf")),
        (-1.0, buckets(0, 10, 20, 20), float("-inf")),
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(quantile, given, expected):
    """Within its bucket from the edge below; NaN where nothing was observed or the last edge is not +Inf."""
    assert value(f"histogram_quantile({quantile}, b)", given, 0) == pytest.approx(expected, nan_ok=True)


def test_what_is_missing_and_what_is_nan_are_two_things():
    """An idle ratio is there and is NaN; a sum of nothing is not there, and a highest passes NaN over."""
    given = history(("m", {"p": "a"}, [0], [0.0]), ("m", {"p": "b"}, [0], [float("nan")]))
    assert np.isnan(value('m{p="a"} / m{p="a"}', given, 0))
    assert value('sum(m{p="c"})', given, 0) is None
    assert value("max(m)", given, 0) == 0.0
    assert np.isnan(value("sum(m)", given, 0))
    assert value("count(m > 0)", given, 0) is None
    assert value("count(m)", given, 0) == 2.0


def test_a_pod_label_join_leaves_the_pods_of_its_role():
    """Series whose pod has no label series, or zero, add nothing; other factors are refused."""
    given = history(
        ("m", {"pod": "a"}, [0], [3.0]),
        ("m", {"pod": "b"}, [0], [5.0]),
        ("m", {"pod": "c"}, [0], [7.0]),
        ("k", {"pod": "a", "role": "decode"}, [0], [1.0]),
        ("k", {"pod": "b", "role": "decode"}, [0], [0.0]),
        ("weight", {"pod": "a"}, [0], [2.0]),
    )
    assert value("sum(m * on (pod) group_left () k)", given, 0) == 3.0
    assert value("sum by (role) (m * on (pod) group_left (role) k)", given, 0) == 3.0
    with pytest.raises(Exception, match="column 3: a join with a series that is not 0 or 1 is not read"):
        value("m * on (pod) group_left () weight", given, 0)
    # Without the join it is arithmetic of two series.
    assert value("m * on (pod) weight", given, 0) == 6.0


def test_a_subquery_is_evaluated_at_multiples_of_its_step():
    """At 20, 40 and 60 s of the clock, not counted from the moment; without a step once a minute."""
    times = list(range(0, 181, 10))
    given = history(("m", {}, times, [float(t) for t in times]))
    assert value("count_over_time(m[1m:20s])", given, 75) == 3.0
    assert value("min_over_time(m[1m:20s])", given, 75) == 20.0
    assert value("sum_over_time(m[2m:])", given, 130) == 60.0 + 120.0
    assert value("sum_over_time(m[2m:])", given, 120) == 60.0 + 120.0
    assert value("sum_over_time(m[2m:])", given, 120, PROMETHEUS_2) == 0.0 + 60.0 + 120.0


def test_stored_samples_are_what_their_flags_say():
    """NaN and infinities were exported; an end is an end; nulls of other kinds are no samples."""
    flags = [None, "null", "nan", "pos_inf", "sentinel", "stale", "lookback", "neg_inf"]
    start = datetime.fromtimestamp(START, UTC)
    samples = pl.DataFrame(
        {
            "series_id": [4] * len(flags),
            "t": [start + timedelta(seconds=10 * i) for i in range(len(flags))],
            "value": [1.0, *[None] * (len(flags) - 1)],
            "flag": flags,
        },
        schema_overrides={"t": pl.Datetime("us", "UTC")},
    )
    labels = [[{"key": "pod", "value": "a"}, {"key": "empty", "value": ""}], []]
    series = pl.DataFrame({"series_id": [4, 9], "metric": ["m", "other"], "labels": labels})
    found = History.from_frames(series, samples)
    assert found.labels == ({"pod": "a", "__name__": "m"}, {"__name__": "other"})
    at = [value("m", found, 10 * i) for i in range(len(flags))]
    assert at[:2] == [1.0, 1.0]
    assert np.isnan(at[2])
    assert at[3:] == [np.inf, np.inf, None, None, -np.inf]
    assert value("other", found, 0) is None


@pytest.mark.parametrize(
    ("sign", "pattern", "expected"),
    [
        ("=~", "a-.*", ["a-1", "a-2"]),
        ("=~", "-1", []),
        ("=~", "a-1|b-1", ["a-1", "b-1"]),
        ("!~", "a-.*", ["b-1", ""]),
        ("=~", ".*", ["a-1", "a-2", "b-1", ""]),
        ("=~", "(?i)A-[[:digit:]]", ["a-1", "a-2"]),
        ("=", "", [""]),
        ("!=", "", ["a-1", "a-2", "b-1"]),
    ],
)
def test_matchers_are_those_of_prometheus(sign, pattern, expected):
    """Anchored RE2; a missing label is the empty string."""
    labels = [{"pod": "a-1"}, {"pod": "a-2"}, {"pod": "b-1"}, {}]
    found = picked(Selector((Matcher("pod", sign, pattern),)), labels)
    assert [labels[number].get("pod", "") for number in found] == expected


LONG = 2000


@pytest.fixture(scope="module")
def long():
    """Two counters and two gauges with gaps over eight hours."""
    rng = np.random.default_rng(0)
    found = []
    for pod in ("a", "b"):
        times = np.flatnonzero(rng.random(LONG) < 0.8) * 15
        found.append(("c_total", {"pod": pod}, times, np.cumsum(rng.integers(0, 9, times.size)) % 4000.0))
        found.append(("m", {"pod": pod}, times, rng.normal(size=times.size)))
    return history(*found)


@pytest.mark.parametrize(
    "text", ["sum(rate(c_total[2m]))", "avg_over_time(m[5m])", "max_over_time(sum(m)[20m:1m])", "m / c_total"]
)
def test_cutting_a_stretch_changes_nothing(long, text, monkeypatch):
    """However many moments are computed at a time, the values are the same."""
    grid = Grid((START + 600) * S, 17 * S, 900)
    whole = evaluate(parse(text), long, grid)
    monkeypatch.setattr(import_module("hs_analysis.promql.evaluate"), "MOST_VALUES", 50)
    cut = evaluate(parse(text), long, grid)
    assert cut.labels == whole.labels
    assert np.array_equal(cut.present, whole.present)
    assert whole.present.any()
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-12)


def test_a_week_of_a_trigger_takes_less_than_a_second():
    """A rate of 32 pods, summed, every 15 s from samples every 15 s [CPU seconds]."""
    steps = 7 * 86_400 // 15
    rng = np.random.default_rng(0)
    times, none = (START + np.arange(steps) * 15) * S, np.zeros(steps, np.bool_)
    grown = np.cumsum(rng.integers(0, 50, steps)).astype(float) % 400_000
    given = History.of(({"__name__": "c_total", "pod": f"p-{i}"}, times, grown, none) for i in range(32))
    grid = Grid((START + 300) * S, 15 * S, steps - 20)
    started = time.process_time()
    found = evaluate(parse('sum(rate(c_total{pod=~"p-.*"}[2m]))'), given, grid)
    assert time.process_time() - started < 1.0
    assert found.present.all()

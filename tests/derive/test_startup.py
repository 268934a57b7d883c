"""Start-up times from births."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, START_S, day_frame
from scipy.stats import binom

from hs_analysis.derive import derive_service
from hs_analysis.derive.startup import median_interval, startup_of, startups_of, with_measured
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import BIRTHS, check, empty

FIRST = datetime.fromtimestamp(START_S, UTC)


def births(
    took_s: list[float | None],
    role: str = "decode",
    by: str = "pod_created",
    idle_s: float = 0.0,
    service: str = "s",
) -> pl.DataFrame:
    """Return births an hour apart; `took_s` None = nobody knows when it was asked for."""
    rows = []
    for number, took in enumerate(took_s):
        served = FIRST + timedelta(hours=number + 1)
        rows.append(
            {
                "service": service, "capture": "", "role": role, "instance": f"{role}-{number}",
                "asked": None if took is None else served - timedelta(seconds=took),
                "asked_by": None if took is None else by,
                "first_sample": served - timedelta(seconds=idle_s), "first_served": served,
                "resolution_s": 30.0,
            }
        )  # fmt: skip
    return check(pl.DataFrame(rows, schema=empty(BIRTHS).schema), BIRTHS)


def test_three_births_give_their_median_less_half_a_scrape() -> None:
    """The first request came within the last interval before the sample that shows it."""
    found = startup_of(births([300.0, 240.0, 900.0]), "decode", "s")
    assert (found.status, found.value_s, found.ci, found.births) == ("ok", 285.0, (210.0, 900.0), 3)
    assert found.source == "pod_created"
    assert found.reason is not None
    assert "median of 3 births" in found.reason.text
    assert "the range of all 3, which holds the true median in 75 %" in found.reason.text
    six = startup_of(births([300.0, 240.0, 900.0, 310.0, 290.0, 280.0]), "decode", "s")
    assert "range" not in six.reason.text  # 97 %


def test_both_ends_are_seen_late_where_replicas_say_when() -> None:
    """Nothing is taken off, and the interval reaches further on both sides."""
    found = startup_of(births([300.0, 240.0, 900.0], by="replicas"), "decode", "s")
    assert (found.value_s, found.ci, found.source) == (300.0, (210.0, 930.0), "replicas")


@pytest.mark.parametrize(
    ("by", "value_s", "ci", "words"),
    [
        ("target", 300.0, (210.0, 930.0), "the time until its pod was placed is not in it"),
        ("process", 285.0, (210.0, 900.0), "the time to place its pod and to pull its image is not in it"),
    ],
)
def test_a_target_or_a_process_tells_a_later_start_and_what_it_leaves_out(
    by: str, value_s: float, ci: tuple[float, float], words: str
) -> None:
    """A target is seen up to a scrape late; a process says to the second when it started."""
    found = startup_of(births([300.0, 240.0, 900.0], by=by), "decode", "s")
    assert (found.status, found.value_s, found.ci, found.source) == ("ok", value_s, ci, by)
    assert found.reason is not None
    assert found.reason.text.endswith(words)


def test_one_way_of_knowing_at_a_time() -> None:
    """Two created pods are too few; five others have the replicas."""
    both = pl.concat([births([100.0, 100.0]), births([300.0] * 5, by="replicas")])
    found = startup_of(both, "decode", "s")
    assert (found.source, found.births, found.value_s) == ("replicas", 5, 300.0)


@pytest.mark.parametrize(
    ("took", "code"),
    [([], "no_births"), ([240.0, 250.0], "few_births"), ([240.0, None, None, None], "few_births")],
)
def test_too_few_births_are_no_time(took: list[float | None], code: str) -> None:
    """Two may both be odd, and births that nobody knows the asking of don't count."""
    found = startup_of(births(took), "decode", "s")
    assert (found.status, found.value_s, found.births) == ("refused", None, len(took))
    assert found.reason is not None
    assert found.reason.code == code


def test_without_the_asking_there_is_a_lower_bound_that_is_not_used() -> None:
    """What passed between first sample and first request, less a scrape."""
    found = startup_of(births([None] * 3, idle_s=90.0), "decode", "s")
    assert (found.status, found.value_s) == ("floor", 60.0)
    assert with_measured(replace(SETTINGS, startup_s={}), [found]).startup_s == {}
    assert found.reason.text.endswith("the true median in 75 %")
    at_once = startup_of(births([None] * 3), "decode", "s")
    assert (at_once.status, at_once.value_s) == ("refused", None)


def test_the_interval_of_a_median_covers_as_it_says() -> None:
    """The k-th smallest and largest hold the median with at least 95 %; one further in would not."""
    for size in (6, 9, 10, 40, 101):
        low, high = median_interval(np.arange(1.0, size + 1.0))
        k = round(low)
        assert high == size + 1 - k
        assert binom.cdf(k - 1, size, 0.5) <= 0.025 < binom.cdf(k, size, 0.5)
    assert median_interval(np.array([1.0, 2.0, 5.0])) == (1.0, 5.0)


def frame() -> ServiceFrame:
    """Return a day of a service with both pools."""
    return replace(day_frame(3, prefill_peak=0.7, decode_peak=0.7, hours=24.0), service="s")


def test_only_births_of_the_part_count() -> None:
    """The backtest learns on the first part: what came later is not known there."""
    whole = frame()
    early = whole.rows(whole.seconds() < START_S + 3.5 * 3600)
    table = pl.concat([births([240.0] * 6), births([100.0] * 6, service="other")])
    assert [one.births for one in startups_of(whole, table)] == [0, 6]
    assert [one.births for one in startups_of(early, table)] == [0, 3]


def test_a_measured_time_stands_where_none_is_given_and_says_so() -> None:
    """A given one goes before it, and the other pool asks for one; cooldowns wait for neither."""
    unknown, table = replace(SETTINGS, startup_s={}), births([1000.0, 1015.0, 1030.0])
    derived = derive_service(frame(), (), unknown, instance_startups=table).derived
    decode = derived.threshold_of("decode_tps", "decode")
    prefill = derived.threshold_of("prefill_tps_effective", "prefill")
    assert decode is not None
    assert prefill is not None
    assert (prefill.cooldown_in_s, decode.cooldown_in_s) == (300.0, 300.0)
    assert [r.what for r in derived.refusals if r.code == "startup_unknown"] == ["startup@prefill"]
    assert derived.startup_of("decode") is not None
    assert derived.measured_startup_s == {"decode": 1000.0}

"""A timetable made of what each hour needs."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from export.scenes import full_policy
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.policy.model import Bounds, PeriodicEntry
from hs_analysis.policy.timetable import (
    DAYS,
    WEEK_MINUTES,
    daily,
    periodic_policy,
    planned_counts,
    weekly_plan,
)

COUNTS = st.lists(st.integers(1, 9), min_size=24, max_size=24)


def test_a_constant_need_is_one_entry_all_day() -> None:
    """It runs from midnight to midnight."""
    entries = daily({"prefill": [3] * 24, "decode": [2] * 24}, {"prefill": 240.0, "decode": 240.0})
    assert entries == (PeriodicEntry("00:00", "00:00", (), 2, 3),)
    assert planned_counts(entries, 86_399.0) == {"prefill": 3, "decode": 2}


def test_more_is_asked_for_a_start_up_before_its_hour_and_kept_to_its_end() -> None:
    """Six from 8 to 9, two else, with four minutes and a second to start: 7:55 to 9:00."""
    need = [2] * 8 + [6] + [2] * 15
    assert daily({"decode": need}, {"decode": 241.0}) == (
        PeriodicEntry("00:00", "07:55", (), 2, None),
        PeriodicEntry("07:55", "09:00", (), 6, None),
        PeriodicEntry("09:00", "00:00", (), 2, None),
    )


@given(COUNTS, COUNTS, st.sampled_from([0.0, 60.0, 240.0, 600.0, 5400.0]))
def test_every_hour_has_what_it_needs_when_it_begins(
    prefill: list[int], decode: list[int], start_up_s: float
) -> None:
    """At every minute as many are asked for as the hour needs into which one asked for now would come."""
    entries = daily({"prefill": prefill, "decode": decode}, dict.fromkeys(("prefill", "decode"), start_up_s))
    for minute in range(0, 1440, 7):
        counts = planned_counts(entries, 60.0 * minute)
        ready = int((60.0 * minute + start_up_s) // 3600) % 24
        for role, need in (("prefill", prefill), ("decode", decode)):
            assert counts[role] >= max(need[minute // 60], need[ready])
            assert counts[role] in need


CLOCK = st.builds(lambda h, m: f"{h:02d}:{m:02d}", st.integers(0, 23), st.sampled_from([0, 1, 30, 59]))
ENTRY = st.builds(
    PeriodicEntry,
    CLOCK,
    CLOCK,
    st.lists(st.sampled_from(DAYS), max_size=3).map(tuple),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
)


@given(st.lists(ENTRY, max_size=4).map(tuple))
def test_the_plan_of_the_week_is_the_timetable_minute_by_minute(entries: tuple[PeriodicEntry, ...]) -> None:
    """From Monday 00:00 UTC; the first entry that holds decides, past midnight too."""
    monday = 4 * 86_400.0
    for role in ("prefill", "decode"):
        plan = weekly_plan(entries, role)
        assert plan.size == WEEK_MINUTES
        for minute in range(0, WEEK_MINUTES, 29):
            planned = planned_counts(entries, monday + 60.0 * minute).get(role)
            assert (None if math.isnan(plan[minute]) else plan[minute]) == planned


def test_clock_of_the_last_minutes() -> None:
    """What midnight needs is asked for the evening before."""
    entries = daily({"decode": [5] + [1] * 23}, {"decode": 120.0})
    assert planned_counts(entries, 86_400 - 121.0) == {"decode": 1}
    assert planned_counts(entries, 86_400 - 120.0) == {"decode": 5}
    assert planned_counts(entries, 3_600.0) == pytest.approx({"decode": 1})


BERLIN = "Europe/Berlin"


def at(*when: int) -> float:
    """Return a moment of UTC [Unix s]."""
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("start", "end", "day", "holds"),
    [
        # Nine in the morning is another moment in summer and in winter.
        ("09:00", "17:00", (2026, 7, 1), {(6, 59): False, (7, 0): True, (14, 59): True, (15, 0): False}),
        ("09:00", "17:00", (2026, 12, 1), {(7, 59): False, (8, 0): True, (15, 59): True, (16, 0): False}),
        # 01:59 is followed by 03:00.
        ("02:15", "02:45", (2026, 3, 29), {(0, 59): False, (1, 0): False, (1, 15): False}),
        ("01:30", "02:30", (2026, 3, 29), {(0, 29): False, (0, 30): True, (0, 59): True, (1, 0): False}),
        ("02:30", "04:00", (2026, 3, 29), {(0, 59): False, (1, 0): True, (1, 59): True, (2, 0): False}),
        # 02:59 is followed by 02:00.
        ("02:30", "02:45", (2026, 10, 25), {(0, 30): True, (0, 45): False, (1, 30): True, (1, 45): False}),
        ("01:00", "03:00", (2026, 10, 25), {(0, 30): True, (1, 59): True, (2, 0): False}),
    ],
)
def test_times_are_those_of_the_clock_of_the_zone(
    start: str, end: str, day: tuple[int, int, int], holds: dict[tuple[int, int], bool]
) -> None:
    """Over both changes of the clock: what it skips does not happen, what it repeats happens twice."""
    entries = (PeriodicEntry(start, end, (), 3, None, BERLIN),)
    found = {clock: planned_counts(entries, at(*day, *clock)) == {"decode": 3} for clock in holds}
    assert found == holds


def test_days_are_those_of_the_zone() -> None:
    """Monday begins in Berlin at 22:00 of Sunday in UTC, and five hours later in New York."""
    entry = PeriodicEntry("00:00", "12:00", ("mon",), 3, None, BERLIN)
    assert planned_counts((entry,), at(2026, 7, 5, 22)) == {"decode": 3}
    assert planned_counts((entry,), at(2026, 7, 5, 21, 59)) == {}
    assert planned_counts((replace(entry, zone="America/New_York"),), at(2026, 7, 6, 3, 59)) == {}


def test_a_periodic_policy_keeps_bounds_and_zone() -> None:
    """Counts are within what the policy allows; what it followed stays in it."""
    policy = full_policy(bounds={"prefill": Bounds(2, 4), "decode": Bounds(1, 9)})
    entries = (PeriodicEntry("00:00", "08:00", (), 1, 1), PeriodicEntry("08:00", "00:00", ("mon",), 12, None))
    found = periodic_policy(policy, entries, BERLIN)
    assert found.mode == "periodic"
    assert found.periodic == (
        PeriodicEntry("00:00", "08:00", (), 1, 2, BERLIN),
        PeriodicEntry("08:00", "00:00", ("mon",), 9, None, BERLIN),
    )
    assert replace(found, mode=policy.mode, periodic=policy.periodic) == policy

"""Wall clocks of zones, at the changes of the clock and away from them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.schema.clock import repeated_times, skipped_times, wall_clock_s

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham"]


@given(st.lists(st.integers(1_700_000_000, 1_830_000_000), min_size=1, max_size=20), st.sampled_from(ZONES))
def test_the_clock_is_the_one_of_the_zone(moments: list[int], zone: str) -> None:
    """Each moment, in whatever order, as the standard library shows it."""
    shown = wall_clock_s(moments, zone)
    for moment, wall in zip(moments, shown, strict=True):
        there = datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(tzinfo=UTC)
        assert wall == there.timestamp()


def test_a_change_skips_and_repeats_an_hour() -> None:
    """Berlin 2026: 1:59 is followed by 3:00 on 29 March, and 2:59 by 2:00 on 25 October."""
    for last, hours in (
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), (1, 3)),
        (datetime(2026, 10, 25, 0, 59, tzinfo=UTC), (2, 2)),
    ):
        t_s = last.timestamp()
        assert tuple(wall_clock_s([t_s, t_s + 60], "Europe/Berlin") % 86_400 // 3600) == hours


@pytest.mark.parametrize(
    ("zone", "year", "skipped", "repeated"),
    [
        ("Europe/Berlin", 2026, ((120, 180),), ((120, 180),)),
        ("America/New_York", 2026, ((120, 180),), ((60, 120),)),
        ("Australia/Lord_Howe", 2026, ((120, 150),), ((90, 120),)),
        ("America/Santiago", 2026, ((0, 60),), ((1380, 0),)),
        ("America/Nuuk", 2024, ((1380, 0),), ((1380, 0),)),
        ("Asia/Kolkata", 2026, (), ()),
        ("UTC", 2026, (), ()),
    ],
)
def test_what_a_year_skips_and_repeats(
    zone: str, year: int, skipped: tuple[tuple[int, int], ...], repeated: tuple[tuple[int, int], ...]
) -> None:
    """Half an hour on Lord Howe, midnight in Chile, the last hour of a day in Greenland."""
    assert skipped_times(zone, year) == skipped
    assert repeated_times(zone, year) == repeated


def test_one_moment_is_one_number() -> None:
    """The shape is that of what is given."""
    assert wall_clock_s(0.0, "Europe/Berlin") == 3600.0
    assert wall_clock_s(np.zeros((2, 3)), "Europe/Berlin").shape == (2, 3)

"""Wall clocks of time zones: what they show at a moment, and which times of day a change skips or repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike

from hs_analysis.schema.arrays import Floats, Integers

UTC_NAME = "UTC"
QUARTER_S = 900.0
"""Clocks change at whole quarters of an hour [s]."""
DAY_MINUTES = 1440
WEEK_MINUTES = 7 * DAY_MINUTES
MINUTE_S = 60.0
EPOCH_MINUTE = 3 * DAY_MINUTES
"""Minute of the week at the Unix epoch, counted from Monday 00:00 UTC: 1970-01-01 was a Thursday."""


def wall_clock_s(t_s: ArrayLike, zone: str) -> Floats:
    """Return what the clock of a zone shows at moments, as seconds since its 1970-01-01 00:00.

    Parameters
    ----------
    t_s
        Moments [Unix s], in any order.
    zone
        IANA name, e.g. ``Europe/Berlin``. An hour that a change repeats has the same values twice, one that
        it skips has none.
    """
    moments = np.asarray(t_s, float)
    if zone == UTC_NAME:
        return moments
    quarters, places = np.unique(np.floor(moments / QUARTER_S), return_inverse=True)
    offsets = np.array([_offset_s(float(quarter * QUARTER_S), zone) for quarter in quarters])
    shown: Floats = moments + offsets[places].reshape(moments.shape)
    return shown


def minute_of_week(t_s: ArrayLike, zone: str) -> Integers:
    """Return the minute of the week, from Monday 00:00, that a zone's clock shows at moments [Unix s]."""
    shown = wall_clock_s(t_s, zone) // MINUTE_S + EPOCH_MINUTE
    found: Integers = shown.astype(np.int64) % WEEK_MINUTES
    return found


def skipped_times(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """Return the times of day that changes of the clock skip in a year, as minutes of the day: [from, to).

    Europe/Berlin has (120, 180). A stretch that ends at midnight has ``to`` 0. A zone without changes has
    none.
    """
    return tuple(dict.fromkeys((before, after) for before, after, ahead in _changes(zone, year) if ahead))


def repeated_times(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """Return the times of day that changes of the clock repeat in a year, in the form of `skipped_times`."""
    return tuple(dict.fromkeys((after, before) for before, after, ahead in _changes(zone, year) if not ahead))


@lru_cache
def _changes(zone: str, year: int) -> tuple[tuple[int, int, bool], ...]:
    """Return the minute of the day before and after each change, and whether the clock goes ahead."""
    found = []
    day, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    while day < end:
        start_s = day.timestamp()
        day += timedelta(days=1)
        if _offset_s(start_s, zone) == _offset_s(day.timestamp(), zone):
            continue
        moments = np.arange(start_s, day.timestamp() + QUARTER_S, QUARTER_S)
        offsets = [_offset_s(float(t), zone) for t in moments]
        for change, old, new in zip(moments[1:], offsets, offsets[1:], strict=False):
            if old != new:
                before, after = (int((change + offset) // 60) % DAY_MINUTES for offset in (old, new))
                found.append((before, after, new > old))
    return tuple(found)


def _offset_s(t_s: float, zone: str) -> float:
    """Return what a zone is ahead of UTC at a moment [s]."""
    offset = datetime.fromtimestamp(t_s, ZoneInfo(zone)).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0

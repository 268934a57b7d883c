"""Periodic policies: counts by time of day and day of the week, in UTC."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hs_analysis.policy.model import PeriodicEntry

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86_400
DAY_HOURS = 24
DAY_MINUTES = 1440
WEEK_MINUTES = 7 * DAY_MINUTES
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday."""


def planned_counts(entries: tuple[PeriodicEntry, ...], t_s: float) -> dict[str, int]:
    """Return the counts of the first entry that holds at a time; empty when none does.

    Parameters
    ----------
    entries
        ``start`` and ``end`` as ``HH:MM`` UTC, end exclusive; an end at or before the start runs past
        midnight and belongs to the day it started on. No days means every day.
    t_s
        Time [Unix s].

    Returns
    -------
    dict
        Instances per role; a role whose count is None is absent.
    """
    minute, weekday = int(t_s % DAY_S) // 60, (int(t_s // DAY_S) + EPOCH_WEEKDAY) % 7
    for entry in entries:
        if _holds(entry, minute, weekday):
            counts = {"prefill": entry.prefill, "decode": entry.decode}
            return {role: count for role, count in counts.items() if count is not None}
    return {}


def weekly_plan(entries: Sequence[PeriodicEntry], role: str) -> NDArray[np.float64]:
    """Return the count of a role for each minute of the week from Monday 00:00 UTC, NaN where none holds.

    As `planned_counts`: the first entry that holds counts, also where it leaves the role as it is.
    """
    plan = np.full(WEEK_MINUTES, math.nan)
    for entry in reversed(entries):
        count = {"prefill": entry.prefill, "decode": entry.decode}.get(role)
        start, end = _minutes(entry.start), _minutes(entry.end)
        span = np.arange(start, end if start < end else end + DAY_MINUTES)
        days = {DAYS.index(day[:3].lower()) for day in entry.days} or set(range(len(DAYS)))
        for day in days:
            plan[(day * DAY_MINUTES + span) % WEEK_MINUTES] = math.nan if count is None else count
    return plan


def daily(need: Mapping[str, Sequence[int]], start_up_s: Mapping[str, float]) -> tuple[PeriodicEntry, ...]:
    """Return the timetable of every day that has the instances of each hour ready when the hour begins.

    Parameters
    ----------
    need
        Instances per role, ``prefill`` and ``decode`` or one of them, in each hour of the day (UTC), 24 each.
    start_up_s
        From asking for an instance to its first request, per role [s]: what an hour needs is asked for that
        much before it, rounded up to whole minutes.

    Returns
    -------
    tuple
        Entries over the whole day, in order; neighbours differ.
    """
    minutes = [
        {role: _asked(counts, minute, start_up_s[role]) for role, counts in need.items()}
        for minute in range(DAY_MINUTES)
    ]
    entries, begin = [], 0
    for counts, same in itertools.groupby(minutes):
        end = begin + sum(1 for _ in same)
        entries.append(
            PeriodicEntry(_clock(begin), _clock(end), (), counts.get("decode"), counts.get("prefill"))
        )
        begin = end
    return tuple(entries)


def written(entry: PeriodicEntry) -> dict[str, Any]:
    """Return an entry as policy.yaml holds it."""
    return {
        "from": entry.start,
        "to": entry.end,
        "days": list(entry.days),
        "decode": entry.decode,
        "prefill": entry.prefill,
    }


def _asked(need: Sequence[int], minute: int, start_up_s: float) -> int:
    """Return what is wanted at a minute: for its hour, and for all that begin while an instance starts."""
    last = minute + math.ceil(start_up_s / 60)
    return max(need[hour % DAY_HOURS] for hour in range(minute // 60, last // 60 + 1))


def _clock(minute: int) -> str:
    return f"{minute // 60 % DAY_HOURS:02d}:{minute % 60:02d}"


def _holds(entry: PeriodicEntry, minute: int, weekday: int) -> bool:
    start, end = _minutes(entry.start), _minutes(entry.end)
    days = {DAYS.index(day[:3].lower()) for day in entry.days} or set(range(7))
    if start < end:
        return weekday in days and start <= minute < end
    return (weekday in days and minute >= start) or ((weekday - 1) % 7 in days and minute < end)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes or 0)

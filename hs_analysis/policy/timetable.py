"""Periodic policies: counts by time of day and day of the week, in UTC."""

from __future__ import annotations

from hs_analysis.policy.model import PeriodicEntry

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86_400
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


def _holds(entry: PeriodicEntry, minute: int, weekday: int) -> bool:
    start, end = _minutes(entry.start), _minutes(entry.end)
    days = {DAYS.index(day[:3].lower()) for day in entry.days} or set(range(7))
    if start < end:
        return weekday in days and start <= minute < end
    return (weekday in days and minute >= start) or ((weekday - 1) % 7 in days and minute < end)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes or 0)

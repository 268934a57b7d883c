"""Periodic policies: counts by time of day and day of the week, as the clock of a zone shows them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from hs_analysis.policy.model import Bounds, PeriodicEntry, Policy
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.clock import DAY_MINUTES, WEEK_MINUTES, repeated_times, skipped_times, wall_clock_s

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86_400
DAY_HOURS = 24
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday."""

RULES_YEAR = 2026
"""Year whose changes of the clock count where a policy says no window: the rules of most zones are older."""


def planned_counts(entries: tuple[PeriodicEntry, ...], t_s: float) -> dict[str, int]:
    """Return the counts of the first entry that holds at a time; empty when none does.

    Parameters
    ----------
    entries
        ``start`` and ``end`` as ``HH:MM`` of the clock of ``zone``, end exclusive; an end at or before the
        start runs past midnight and belongs to the day it started on. No days means every day. What lies in
        an hour that the clock skips does not happen that day, what lies in a repeated hour happens twice.
    t_s
        Time [Unix s].

    Returns
    -------
    dict
        Instances per role; a role whose count is None is absent.
    """
    shown = {zone: float(wall_clock_s(t_s, zone)) for zone in {entry.zone for entry in entries}}
    for entry in entries:
        here_s = shown[entry.zone]
        minute, weekday = int(here_s % DAY_S) // 60, (int(here_s // DAY_S) + EPOCH_WEEKDAY) % 7
        if _holds(entry, minute, weekday):
            counts = {"prefill": entry.prefill, "decode": entry.decode}
            return {role: count for role, count in counts.items() if count is not None}
    return {}


def weekly_plan(entries: Sequence[PeriodicEntry], role: str) -> Floats:
    """Return the count of a role for each minute of the week from Monday 00:00, NaN where none holds.

    The clock is that of the zone of the entries, which have one.

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


def planned_roles(entries: Sequence[PeriodicEntry]) -> tuple[str, ...]:
    """Return the roles that a timetable has counts of."""
    roles = ("prefill", "decode")
    return tuple(role for role in roles if any(getattr(one, role) is not None for one in entries))


def largest_plan(entries: Sequence[PeriodicEntry], role: str) -> tuple[float, ...]:
    """Return the largest count of a role among the entries that hold, for each minute of the week; 0 = none.

    As KEDA takes cron triggers; empty where no entry names the role.
    """
    plans = [plan for one in entries if not np.isnan(plan := weekly_plan((one,), role)).all()]
    return tuple(np.nan_to_num(np.fmax.reduce(plans)).tolist()) if plans else ()


def periodic_policy(policy: Policy, entries: Sequence[PeriodicEntry], tz: str) -> Policy:
    """Return a policy that follows a timetable in place of its primaries.

    Parameters
    ----------
    policy
        The policy of the service; its signals, bands and guards stay in it and decide nothing in this mode.
    entries
        The timetable; times of day are those of the clock of ``tz``. Its counts are brought within the bounds
        of the policy, which hold the user's own limits.
    tz
        IANA name of the zone, e.g. ``Europe/Berlin``.
    """
    return replace(
        policy,
        mode="periodic",
        periodic=tuple(
            replace(
                entry,
                zone=tz,
                decode=_within(entry.decode, policy.bounds.get("decode")),
                prefill=_within(entry.prefill, policy.bounds.get("prefill")),
            )
            for entry in entries
        ),
    )


def _within(count: int | None, bounds: Bounds | None) -> int | None:
    return count if count is None or bounds is None else min(max(count, bounds.min), bounds.max)


def cron_entries(policy: Policy) -> tuple[PeriodicEntry, ...]:
    """Return the timetable of a policy as KEDA's cron triggers can hold it.

    KEDA takes a trigger for active when its next end comes before its next start. So the two have to differ:
    an entry of a whole day becomes two halves. And what the clock of the zone skips or repeats matters, in
    the year in which the window of the policy ends and the next: an end that is skipped would leave its
    trigger inactive from the day before, so it moves to the end of the stretch; a start at the beginning of
    such a stretch would come a day early or an hour late, so it moves a minute ahead. A start inside it is
    left: once a year it comes a day early, and once with the second pass of the repeated hour.
    """
    end = str(policy.window.get("end", ""))[:4]
    year = int(end) if end.isdecimal() else RULES_YEAR
    return tuple(part for entry in policy.periodic for part in _around_changes(entry, year))


def _around_changes(entry: PeriodicEntry, year: int) -> Iterator[PeriodicEntry]:
    years = (year, year + 1)
    skipped = {one for y in years for one in skipped_times(entry.zone, y)}
    changed = skipped | {one for y in years for one in repeated_times(entry.zone, y)}
    first, last = _minutes(entry.start) % DAY_MINUTES, _minutes(entry.end) % DAY_MINUTES
    start = first - any(first == begin for begin, _ in changed)
    end = _not_in(last if last > first else last + DAY_MINUTES, skipped)
    middle = _not_in(first + DAY_MINUTES // 2, changed)
    spans = [(start, end)] if end - start < DAY_MINUTES else [(start, middle), (middle, end)]
    for begin, finish in spans:
        days = tuple(
            DAYS[(DAYS.index(day[:3].lower()) + begin // DAY_MINUTES) % len(DAYS)] for day in entry.days
        )
        yield replace(entry, start=_clock(begin), end=_clock(finish), days=days)


def _not_in(minute: int, stretches: Set[tuple[int, int]]) -> int:
    """Return a time, moved to the end of the stretch of the day that it lies in."""
    for first, last in sorted(stretches):
        if first <= minute % DAY_MINUTES < (last or DAY_MINUTES):
            return minute + (last - minute) % DAY_MINUTES
    return minute


def daily(need: Mapping[str, Sequence[int]], startup_s: Mapping[str, float]) -> tuple[PeriodicEntry, ...]:
    """Return the timetable of every day that has the instances of each hour ready when the hour begins.

    Parameters
    ----------
    need
        Instances per role, ``prefill`` and ``decode`` or one of them, in each hour of the day, 24 each.
    startup_s
        From asking for an instance to its first request, per role [s]: what an hour needs is asked for that
        much before it, rounded up to whole minutes.

    Returns
    -------
    tuple
        Entries over the whole day, in order; neighbours differ.
    """
    minutes = [
        {role: _asked(counts, minute, startup_s[role]) for role, counts in need.items()}
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
        "zone": entry.zone,
    }


def _asked(need: Sequence[int], minute: int, startup_s: float) -> int:
    """Return what is wanted at a minute: for its hour, and for all that begin while an instance starts."""
    last = minute + math.ceil(startup_s / 60)
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

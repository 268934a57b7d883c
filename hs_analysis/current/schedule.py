"""Cron triggers of a ScaledObject: what they ask for in each minute of the week.

After https://keda.sh/docs/latest/scalers/cron/: a trigger is active from its start to its end on the clock of
its zone, the largest of the active ones wins, and outside of them the minimum holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import DAYS, largest_plan
from hs_analysis.schema.clock import UTC_NAME

_FIELDS = re.compile(r"(\d{1,2}) (\d{1,2}) \* \* (\S+)")
_FORM = "only minute, hour and days of the week are read, such as 30 8 * * mon-fri"
_CRON_DAYS = ("sun", *DAYS)
"""Names of the numbers 0 to 7 in a cron expression: Sunday is both ends."""
_SUNDAY_TO_SUNDAY = "0-7"


@dataclass(frozen=True)
class CronSchedule:
    """What cron triggers set up together.

    Attributes
    ----------
    plan
        Instances for each minute of the week from Monday 00:00, 0 where no trigger is active; empty without.
    zone
        IANA name of the zone whose clock counts.
    read
        How many triggers are in the plan.
    notes
        Which are not, and why.
    """

    plan: tuple[float, ...] = ()
    zone: str = UTC_NAME
    read: int = 0
    notes: list[str] = field(default_factory=list)


def read_schedule(triggers: Sequence[Mapping[str, Any]]) -> CronSchedule:
    """Return what the cron triggers among the triggers of an object ask for."""
    entries: list[PeriodicEntry] = []
    notes = []
    for number, trigger in enumerate(triggers):
        if trigger.get("type") != "cron":
            continue
        found = _entry(trigger.get("metadata") or {})
        if not isinstance(found, str) and entries and found.zone != entries[0].zone:
            found = f"its zone {found.zone} is not {entries[0].zone}, that of the first one"
        if isinstance(found, str):
            notes.append(f"triggers[{number}]: type cron: {found}")
        else:
            entries.append(found)
    zone = entries[0].zone if entries else UTC_NAME
    return CronSchedule(largest_plan(entries, "decode"), zone, len(entries), notes)


def _entry(metadata: Mapping[str, Any]) -> PeriodicEntry | str:
    """Return one trigger, its count as that of decode whatever it scales, or why it is not read."""
    zone, count = str(metadata.get("timezone", "")), str(metadata.get("desiredReplicas", ""))
    times = [_FIELDS.fullmatch(" ".join(str(metadata.get(key, "")).split())) for key in ("start", "end")]
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        return f"timezone {zone!r} is no zone of the IANA database"
    if not count.isdecimal():
        return f"desiredReplicas {count!r} is no whole number"
    start, end = times
    if start is None or end is None:
        return f"start {metadata.get('start')!r}, end {metadata.get('end')!r}: {_FORM}"
    days, last = (_days(one[3]) for one in (start, end))
    times_of_day = [(int(one[2]), int(one[1])) for one in (start, end)]
    told = all(hour < 24 and minute < 60 for hour, minute in times_of_day)
    if days is None or last is None or not told:
        return f"start {metadata.get('start')!r}, end {metadata.get('end')!r}: {_FORM}"
    clocks = [f"{hour:02d}:{minute:02d}" for hour, minute in times_of_day]
    shift = int(clocks[1] <= clocks[0])
    if last != {(day + shift) % len(DAYS) for day in days}:
        return "its end is on other days than its start"
    named = () if len(days) == len(DAYS) else tuple(DAYS[day] for day in sorted(days))
    return PeriodicEntry(clocks[0], clocks[1], named, int(count), None, zone)


def _days(text: str) -> set[int] | None:
    """Return days of the week, Monday = 0; None where they can't be read."""
    if text == "*":
        return set(range(len(DAYS)))
    found: set[int] = set()
    for part in text.lower().split(","):
        ends = [_day(name) for name in part.split("-")]
        known = [end for end in ends if end is not None]
        if len(known) < len(ends) or len(known) > len(("from", "to")):
            return None
        passes = part == _SUNDAY_TO_SUNDAY or known[-1] < known[0]
        first, last = known[0], known[-1] + len(DAYS) * passes
        found |= {day % len(DAYS) for day in range(first, last + 1)}
    return found


def _day(name: str) -> int | None:
    """Return one day of the week, Monday = 0; None where it can't be read."""
    if name.isdecimal() and int(name) < len(_CRON_DAYS):
        name = _CRON_DAYS[int(name)]
    return DAYS.index(name) if name in DAYS else None

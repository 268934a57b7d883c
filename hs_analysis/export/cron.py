"""KEDA cron triggers of a timetable, in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import DAYS


def triggers(entries: Sequence[PeriodicEntry], role: str) -> list[dict[str, Any]]:
    """Return one cron trigger per entry that fixes a count for the role; metadata values are strings."""
    found = []
    for number, entry in enumerate(entries):
        count = {"prefill": entry.prefill, "decode": entry.decode}.get(role)
        if count is None:
            continue
        metadata = {
            "timezone": "UTC",
            "start": _cron(entry.start, entry.days, 0),
            "end": _cron(entry.end, entry.days, int(_past_midnight(entry))),
            "desiredReplicas": str(count),
        }
        found.append({"type": "cron", "name": f"timetable-{number}", "metadata": metadata})
    return found


def _past_midnight(entry: PeriodicEntry) -> bool:
    return _clock(entry.end) <= _clock(entry.start)


def _clock(text: str) -> tuple[int, int]:
    hours, _, minutes = text.partition(":")
    return int(hours), int(minutes or 0)


def _cron(clock: str, days: Sequence[str], shift: int) -> str:
    """Return ``minute hour * * days``; an end past midnight falls on the day after."""
    hours, minutes = _clock(clock)
    numbers = sorted({(DAYS.index(day[:3].lower()) + shift) % 7 for day in days})
    names = ",".join(DAYS[number] for number in numbers) or "*"
    return f"{minutes} {hours % 24} * * {names}"

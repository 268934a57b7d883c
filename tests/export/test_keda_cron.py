"""A timetable as KEDA's cron triggers, stepped by KEDA's own rule over both changes of the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from export.scenes import full_policy

from hs_analysis.export.keda import cron_triggers, lint_scaled_object
from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import cron_entries, daily, planned_counts

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)
"""Two days before the clock changes."""
DAYS = 4
NEVER = 1_000_000


def again(shown: datetime) -> bool:
    """Whether the clock will show this time once more."""
    return shown.fold == 0 and shown.utcoffset() != shown.replace(fold=1).utcoffset()


class Minutes:
    """The minutes of some days and of two after, as the clock of a zone shows them.

    ``twice`` are those that the clock will show once more.
    """

    def __init__(self, first: datetime, zone: str) -> None:
        self.t_s = first.timestamp() + 60.0 * np.arange((DAYS + 2) * 1440)
        shown = [datetime.fromtimestamp(t, ZoneInfo(zone)) for t in self.t_s]
        self.of_day = np.array([60 * one.hour + one.minute for one in shown])
        self.twice = np.array([again(one) for one in shown])

    def next(self, cron: str) -> np.ndarray:
        """Return for each minute the next one, after it, that a schedule of every day names.

        As Go's cron, which goes on in steps of time, not of the clock: an hour that is skipped is not found,
        one that is repeated is found twice.
        """
        minute, hour, *rest = cron.split()
        assert rest == ["*", "*", "*"]
        on = self.of_day == 60 * int(hour) + int(minute)
        places = np.where(on, np.arange(on.size), NEVER)
        after = np.minimum.accumulate(places[::-1])[::-1]
        return np.append(after[1:], NEVER)

    def active(self, trigger: dict[str, Any]) -> np.ndarray:
        """Return the minutes in which a trigger is active for KEDA: its next end is before its next start."""
        metadata = trigger["metadata"]
        assert metadata["start"] != metadata["end"]
        return self.next(metadata["end"]) < self.next(metadata["start"])


SPANS = {"spring": Minutes(SPRING, BERLIN), "autumn": Minutes(AUTUMN, BERLIN)}


def triggers_of(entries: tuple[PeriodicEntry, ...]) -> list[dict[str, Any]]:
    """Return the triggers of the decode pool that a timetable becomes."""
    return cron_triggers(cron_entries(full_policy(mode="periodic", periodic=entries)), "decode")


def counts_of(entries: tuple[PeriodicEntry, ...], span: Minutes) -> np.ndarray:
    """Return what KEDA asks for, minute by minute: the largest count of the active triggers, else 0."""
    found = np.zeros(span.t_s.size)
    for trigger in triggers_of(entries):
        count = float(trigger["metadata"]["desiredReplicas"])
        found = np.maximum(found, np.where(span.active(trigger), count, 0.0))
    return found[: DAYS * 1440]


def planned(entries: tuple[PeriodicEntry, ...], span: Minutes) -> np.ndarray:
    """Return what the timetable plans, minute by minute."""
    utc = tuple(replace(entry, zone="UTC") for entry in entries)
    day = np.array([planned_counts(utc, 60.0 * minute).get("decode", 0) for minute in range(1440)], float)
    return day[span.of_day[: DAYS * 1440]]


def in_berlin(entries: tuple[PeriodicEntry, ...]) -> tuple[PeriodicEntry, ...]:
    """Return entries on the clock of Berlin."""
    return tuple(PeriodicEntry(e.start, e.end, e.days, e.decode, e.prefill, BERLIN) for e in entries)


@pytest.mark.parametrize("season", SPANS)
@pytest.mark.parametrize("start_up_s", [0.0, 240.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_hour_has_less_than_it_needs(season: str, start_up_s: float, seed: int) -> None:
    """Also around a change. The start-up time is kept at every hour but the one after a repeated one.

    Away from the change only the hour that is skipped has more than is planned.
    """
    need = np.random.default_rng(seed).integers(1, 9, 24)
    entries = in_berlin(daily({"decode": need.tolist()}, {"decode": start_up_s}))
    span = SPANS[season]
    found, wanted = counts_of(entries, span), planned(entries, span)
    of_day, twice = span.of_day[: found.size], span.twice[: found.size]
    assert (found >= need[of_day // 60]).all()
    assert (found >= wanted)[~twice].all()
    usual = (np.arange(found.size) < 1200) & (of_day // 60 != 2) & (of_day != 119)
    assert (found[usual] == wanted[usual]).all()


@pytest.mark.parametrize("season", SPANS)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("22:00", "02:00"), ("22:00", "02:30"), ("02:00", "06:00"), ("02:30", "06:00"), ("03:00", "02:30"),
        ("02:15", "02:45"), ("02:00", "02:00"),
    ],
)  # fmt: skip
def test_a_night_is_covered_whole(season: str, start: str, end: str) -> None:
    """Only a start inside the repeated hour waits for its second pass."""
    entries = (PeriodicEntry(start, end, (), 7, None, BERLIN),)
    span = SPANS[season]
    lacking = counts_of(entries, span) < planned(entries, span)
    waits = span.twice[: lacking.size] & (start in ("02:30", "02:15"))
    assert not (lacking & ~waits).any()


def test_a_day_without_an_end_becomes_two_halves() -> None:
    """KEDA refuses a trigger whose start is its end."""
    (first, second) = triggers_of((PeriodicEntry("00:00", "00:00", ("mon",), 4, 2),))
    assert (first["name"], second["name"]) == ("timetable-0", "timetable-1")
    assert (first["metadata"]["start"], first["metadata"]["end"]) == ("0 0 * * mon", "0 12 * * mon")
    assert (second["metadata"]["start"], second["metadata"]["end"]) == ("0 12 * * mon", "0 0 * * tue")
    assert {one["metadata"]["desiredReplicas"] for one in (first, second)} == {"4"}


def test_times_carry_the_zone_and_what_it_skips_moves_an_end() -> None:
    """Half past two is not on every clock: the end moves to three; UTC skips nothing."""
    entry = PeriodicEntry("22:00", "02:30", ("sat",), 7, None)
    assert triggers_of((entry,))[0]["metadata"] == {
        "timezone": "UTC", "start": "0 22 * * sat", "end": "30 2 * * sun", "desiredReplicas": "7",
    }  # fmt: skip
    (berlin,) = triggers_of(in_berlin((entry,)))
    assert berlin["metadata"] == {
        "timezone": BERLIN, "start": "0 22 * * sat", "end": "0 3 * * sun", "desiredReplicas": "7",
    }  # fmt: skip


def test_the_lint_names_a_trigger_that_starts_when_it_ends() -> None:
    """What KEDA refuses is found before it is applied."""
    trigger = {"type": "cron", "metadata": {
        "timezone": "UTC", "start": "0 6 * * *", "end": "0 6 * * *", "desiredReplicas": "3",
    }}  # fmt: skip
    spec = {"scaleTargetRef": {"name": "chat-decode"}, "triggers": [trigger], "maxReplicaCount": 4}
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"}, "spec": spec}
    assert "spec.triggers[0]: metadata.start is metadata.end, which KEDA refuses" in lint_scaled_object(body)
    trigger["metadata"]["end"] = "0 7 * * *"  # type: ignore[index]
    assert not any("refuses" in problem for problem in lint_scaled_object(body))

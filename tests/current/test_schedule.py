"""Cron triggers of today's ScaledObjects: what is read of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from current.test_translate import METADATA, keda, read
from export.scenes import full_policy

from hs_analysis.current.schedule import read_schedule
from hs_analysis.export.keda import cron_triggers
from hs_analysis.policy.controls import timetable_pools
from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import cron_entries

MINUTES = 7 * 1440


def trigger(start: str, end: str, count: str = "6", zone: str = "Europe/Berlin") -> dict[str, Any]:
    """Return a cron trigger."""
    metadata = {"timezone": zone, "start": start, "end": end, "desiredReplicas": count}
    return {"type": "cron", "metadata": metadata}


@pytest.mark.parametrize(
    "entries",
    [
        (PeriodicEntry("08:00", "20:00", (), 6, None, "Europe/Berlin"),),
        (PeriodicEntry("22:00", "02:30", ("sat",), 5, None, "Europe/Berlin"),),
        (PeriodicEntry("00:00", "00:00", (), 4, None), PeriodicEntry("07:56", "16:00", ("mon",), 8, None)),
    ],
)
def test_a_timetable_is_read_back_as_it_was_written(entries: tuple[PeriodicEntry, ...]) -> None:
    """Night, weekday and whole day: the plan of the week is the one that the policy runs."""
    policy = full_policy(mode="periodic", periodic=entries)
    found = read_schedule(cron_triggers(cron_entries(policy), "decode"))
    assert (found.plan, found.notes) == (timetable_pools(policy)["decode"].plan, [])
    assert found.zone == entries[0].zone


@pytest.mark.parametrize(
    ("start", "end", "first"),
    [
        ("30 8 * * mon-fri", "0 20 * * 1-5", 510),
        ("0 6 * * 0", "0 12 * * SUN", 6 * 1440 + 360),
        ("0 22 * * fri-sun", "0 6 * * sat,sun,mon", 4 * 1440 + 1320),
        ("6 8 * * mon", "9 8 * * mon", 486),
    ],
)
def test_days_are_names_numbers_and_ranges(start: str, end: str, first: int) -> None:
    """Sunday is 0, and a range may pass the end of the week."""
    plan = np.array(read_schedule([trigger(start, end)]).plan)
    held = np.flatnonzero(plan)
    assert len(plan) == MINUTES
    assert first in held
    assert plan[first - 1] == 0
    assert set(plan[held]) == {6.0}


@pytest.mark.parametrize(("named", "days"), [("0-7", 7), ("1-7", 7), ("5-7", 3), ("0-0", 1), ("7", 1)])
def test_sunday_is_both_ends_of_a_range(named: str, days: int) -> None:
    """As 0 and as 7; a range from one to the other is the whole week."""
    plan = np.array(read_schedule([trigger(f"0 8 * * {named}", f"0 9 * * {named}")]).plan)
    assert np.count_nonzero(plan) == 60 * days


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (trigger("*/5 * * * *", "0 20 * * *"), "only minute, hour and days of the week are read"),
        (trigger("0 8 1 * *", "0 20 1 * *"), "only minute, hour and days of the week are read"),
        (trigger("0 25 * * *", "0 20 * * *"), "only minute, hour and days of the week are read"),
        (trigger("0 8 * * mon", "0 20 * * tue"), "its end is on other days than its start"),
        (trigger("0 8 * * *", "0 20 * * *", count="six"), "desiredReplicas 'six' is no whole number"),
        (trigger("0 8 * * *", "0 20 * * *", zone="Mars/Base"), "no zone of the IANA database"),
        (trigger("0 8 * * *", "0 20 * * *", zone="UTC"), "its zone UTC is not Europe/Berlin"),
    ],
)
def test_what_is_not_read_is_named(one: dict[str, Any], why: str) -> None:
    """With the place of its trigger; the others are in the plan."""
    found = read_schedule([trigger("0 8 * * *", "0 9 * * *"), one])
    assert found.read == 1
    (note,) = found.notes
    assert note.startswith("triggers[1]: type cron: ")
    assert why in note


def test_a_schedule_runs_beside_a_metric() -> None:
    """As in KEDA the largest count wins, so that both are metrics of one object."""
    both = [trigger("0 8 * * *", "0 20 * * *"), {"type": "prometheus", "metadata": METADATA}]
    found = read(keda(triggers=both))
    scaler = found.scaler.pools["decode"]
    assert len(scaler.hpa.metrics) == 2
    assert max(scaler.plan) == 6.0
    assert found.objects[0].unread == 0
    alone = read(keda(triggers=both[:1]))
    assert alone.scaler.pools["decode"].plan == scaler.plan
    assert not [note for note in alone.notes if "cron" in note]


def test_an_object_is_written_without_what_would_hold_a_timetable_back() -> None:
    """A tolerance of 10 % would keep 20 where 21 are planned, a window would let 5 minutes pass."""
    entries = (PeriodicEntry("08:00", "20:00", (), 21, None), PeriodicEntry("20:00", "08:00", (), 20, None))
    policy = replace(full_policy(mode="periodic", periodic=entries))
    scaler = timetable_pools(policy)["decode"]
    assert (scaler.hpa.tolerances, scaler.hpa.down.stabilization_s) == ((0.0, 0.0), 0.0)

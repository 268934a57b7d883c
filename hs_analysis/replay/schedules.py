"""Replica counts that are fixed in advance: static peak, timetable, recorded counts, look-ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.policy.timetable import DAY_HOURS, DAY_MINUTES, DAY_S, daily, planned_counts
from hs_analysis.replay.demand import Demand, Floats, demands, peak, rows_of
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.score import needed
from hs_analysis.replay.simulate import Schedule
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.constants import HOUR_S, SUSTAINED_S


def static_peak(history: ServiceFrame, model: FleetModel) -> dict[str, int]:
    """Return constant counts for the peak of a window: see ``BASELINES``. At least 1."""
    parts = demands(history)
    counts = {}
    for role, pool in model.pools.items():
        seen = np.concatenate([part.counts(role) for part in parts])
        most = max(1, math.ceil(float(np.nanmax(seen)))) if not np.isnan(seen).all() else 1
        highest = peak(parts, role)
        if pool.target is None or math.isnan(highest):
            counts[role] = most
            continue
        by_target = max(1, math.ceil(highest / pool.target - 1e-9))
        counts[role] = min(by_target, most) if pool.status == "floor" else by_target
    return counts


def day_plan(history: ServiceFrame, model: FleetModel) -> tuple[PeriodicEntry, ...] | str:
    """Return the timetable that a window's needs by hour of the day (UTC) make, or why there is none.

    An hour needs what the highest 5-min load in it on any day does at the target, limited as in
    `static_peak`; the most recorded in it where no target is known.
    """
    if not set(model.pools) <= {"prefill", "decode"}:
        return "a timetable knows prefill and decode pools"
    needs, parts = {}, demands(history)
    for role, pool in model.pools.items():
        hours = np.concatenate([part.t_s % DAY_S // HOUR_S for part in parts]).astype(int)
        # A 5-min mean that began in the hour before says what that hour needed.
        own = np.concatenate([part.t_s % HOUR_S + part.window_s >= SUSTAINED_S for part in parts])
        ran = np.concatenate([part.counts(role) for part in parts])
        counts = ran
        if pool.target is not None:
            counts = np.concatenate([needed(p.offered[role], p.window_s, pool.target) for p in parts])
            if pool.status == "floor":
                counts = np.minimum(counts, np.fmax.reduce(ran, initial=1.0))
        known = own & np.concatenate([part.scored for part in parts]) & ~np.isnan(counts)
        if np.unique(hours[known]).size < DAY_HOURS:
            return "the training window does not hold every hour of a day"
        needs[role] = [max(1, round(float(counts[known & (hours == h)].max()))) for h in range(DAY_HOURS)]
    return daily(needs, {role: pool.start_up_s for role, pool in model.pools.items()})


def by_the_clock(entries: tuple[PeriodicEntry, ...], part: Demand) -> Schedule:
    """Return the counts of a timetable whose entries hold over the whole of every day."""
    day = [planned_counts(entries, 60.0 * minute) for minute in range(DAY_MINUTES)]
    minutes = (part.t_s % DAY_S // 60).astype(int)
    counts = {role: np.array([planned[role] for planned in day], float)[minutes] for role in day[0]}
    return Schedule(counts, running=False)


def constant(counts: Mapping[str, int], part: Demand) -> Schedule:
    """Return the same counts in every row."""
    return Schedule({role: np.full(part.rows, float(count)) for role, count in counts.items()})


def recorded(model: FleetModel, part: Demand) -> Schedule:
    """Return the counts that ran."""
    return Schedule({role: part.counts(role) for role in model.pools})


def foreseen(model: FleetModel, part: Demand) -> Schedule:
    """Return counts at the target that are ready when their load comes; recorded ones without a target."""
    counts: dict[str, Floats] = {}
    for role, pool in model.pools.items():
        if pool.target is None:
            counts[role] = part.counts(role)
            continue
        need = needed(part.offered[role], part.window_s, pool.target)
        counts[role] = asked_ahead(need, rows_of(pool.start_up_s, part.window_s))
    return Schedule(counts, running=False)


def asked_ahead(ready: Floats, start_rows: int) -> Floats:
    """Return the counts to ask for so that ``ready`` ones can serve ``start_rows`` later.

    The highest count of this row and the next ``start_rows``: an instance is asked for that much ahead, and
    one that would be wanted again before a new one could start is kept. No cheaper counts have ``ready`` at
    all times. Shape (rows,); a gap (NaN) wants one instance.
    """
    ahead = start_rows + 1
    padded = np.concatenate([np.nan_to_num(ready, nan=1.0), np.ones(ahead - 1)])
    highest: Floats = np.lib.stride_tricks.sliding_window_view(padded, ahead).max(axis=1)
    return highest

"""Intervals of replay figures: whole days drawn anew, because hours of one day are not independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.replay.demand import Floats
from hs_analysis.replay.simulate import SimulationResult, combined_violation
from hs_analysis.schema.backtests import PolicyReplay
from hs_analysis.schema.results import Interval
from hs_analysis.statistics.resampling import moving_block_indices, percentile_interval

DAY_S, HOUR_S = 86_400.0, 3600.0

LEAST_DAYS = 3
"""Fewest days an interval is drawn from; with fewer there is nothing to tell days apart by."""

TOO_SHORT = "the test window has fewer than three days: no spread between days can be told"


@dataclass(frozen=True)
class DaySums:
    """Sums of one policy over the days of the window, shape (days,).

    Scored rows, instance-hours, the hours that are paid for (GPU-hours where known), chances of violating
    and the rows that have one. A day is 24 h from the start of a capture; a last one of less than half
    belongs to the one before.
    """

    rows: Floats
    hours: Floats
    cost: Floats
    chances: Floats
    judged: Floats


def day_sums(
    results: Sequence[SimulationResult], roles: tuple[str, ...], gpus_per_instance: Mapping[str, float]
) -> DaySums:
    """Sum a replayed policy up by days over scored rows; violations are those of any pool in ``roles``."""
    columns: list[list[Floats]] = [[], [], [], [], []]
    for result in results:
        demand, use = result.demand, result.scored
        day = np.floor((demand.t_s - demand.t_s[:1]) / DAY_S).astype(np.int64)
        if day.size and (day == day[-1]).sum() * demand.window_s < DAY_S / 2:
            day = np.minimum(day, max(0, day[-1] - 1))
        days = int(day[-1]) + 1 if day.size else 0
        priced = set(result.paid) <= set(gpus_per_instance)
        hours, cost = np.zeros(demand.rows), np.zeros(demand.rows)
        for role, paid in result.paid.items():
            hours += np.nan_to_num(paid) * demand.window_s / HOUR_S
            cost += np.nan_to_num(paid) * (gpus_per_instance[role] if priced else 1.0)
        chance = combined_violation(result, roles)
        known = use & ~np.isnan(chance)
        weights = (use, use * hours, use * cost, np.where(known, chance, 0.0), known)
        for column, weight in zip(columns, weights, strict=True):
            column.append(np.bincount(day, np.asarray(weight, float), days).astype(np.float64))
    return DaySums(*(np.concatenate(column) if column else np.empty(0) for column in columns))


def with_intervals(row: PolicyReplay, own: DaySums, recorded: DaySums, seed: int, draws: int) -> PolicyReplay:
    """Add 95 % intervals of hours, violations and the saving against the recorded counts.

    The same days are drawn for the policy and for what ran, so that the saving's interval is paired. Hours
    are scaled to the scored time of the window. Without three days the intervals are None and the reason is
    given.
    """
    full = own.rows > 0
    days = int(full.sum())
    if days < LEAST_DAYS:
        return replace(row, interval_reason=TOO_SHORT)
    drawn = np.flatnonzero(full)[moving_block_indices(days, 1, draws, np.random.default_rng(seed))]
    hours = own.hours[drawn].sum(axis=1) / own.rows[drawn].sum(axis=1) * own.rows.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = own.chances[drawn].sum(axis=1) / own.judged[drawn].sum(axis=1)
        savings = 1.0 - own.cost[drawn].sum(axis=1) / recorded.cost[drawn].sum(axis=1)
    return replace(
        row,
        instance_hours_ci=_interval(hours) if row.instance_hours is not None else None,
        slo_violation_ci=_interval(shares) if row.slo_violation_ratio is not None else None,
        vs_recorded_ci=_interval(savings) if row.vs_recorded is not None else None,
    )


def _interval(draws: Floats) -> Interval | None:
    low, high = percentile_interval(draws)
    return None if np.isnan(low) else (low, high)

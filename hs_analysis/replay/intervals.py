"""Intervals of replay figures: whole days drawn anew, because hours of one day are not independent.

A window of fewer than three days has no spread between days. Blocks of its hours say how much the chance of
some hours moves a figure, and nothing of how days differ: such an interval is labelled, and too narrow.
"""

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

LEAST_HOURS, BLOCK_HOURS = 8, 2
"""Fewest hours an interval is drawn from, and hours that stay together: episodes over the limit last less,
and a block is a quarter of the window at most. Defaults of this project."""

TOO_SHORT = "the test window has fewer than eight hours: no spread can be told"


@dataclass(frozen=True)
class Sums:
    """Sums of one policy over pieces of the window, shape (pieces,).

    Scored rows, instance-hours, the hours that are paid for (GPU-hours where known), chances of violating
    and the rows that have one. Pieces are counted from the start of a capture; a last one of less than half
    belongs to the one before.
    """

    rows: Floats
    hours: Floats
    cost: Floats
    chances: Floats
    judged: Floats


@dataclass(frozen=True)
class Pieces:
    """A replayed policy cut into days, and into hours."""

    days: Sums
    hours: Sums


def cut(
    results: Sequence[SimulationResult], roles: tuple[str, ...], gpus_per_instance: Mapping[str, float]
) -> Pieces:
    """Cut a replayed policy into days and hours; violations are those of any pool in ``roles``."""
    days, hours = (sums(results, roles, gpus_per_instance, length_s) for length_s in (DAY_S, HOUR_S))
    return Pieces(days, hours)


def sums(
    results: Sequence[SimulationResult],
    roles: tuple[str, ...],
    gpus_per_instance: Mapping[str, float],
    length_s: float,
) -> Sums:
    """Sum a replayed policy up by pieces of a length over scored rows."""
    columns: list[list[Floats]] = [[], [], [], [], []]
    for result in results:
        demand, use = result.demand, result.scored
        piece = np.floor((demand.t_s - demand.t_s[:1]) / length_s).astype(np.int64)
        if piece.size and (piece == piece[-1]).sum() * demand.window_s < length_s / 2:
            piece = np.minimum(piece, max(0, piece[-1] - 1))
        count = int(piece[-1]) + 1 if piece.size else 0
        priced = set(result.paid) <= set(gpus_per_instance)
        hours, cost = np.zeros(demand.rows), np.zeros(demand.rows)
        for role, paid in result.paid.items():
            hours += np.nan_to_num(paid) * demand.window_s / HOUR_S
            cost += np.nan_to_num(paid) * (gpus_per_instance[role] if priced else 1.0)
        chance = combined_violation(result, roles)
        known = use & ~np.isnan(chance)
        weights = (use, use * hours, use * cost, np.where(known, chance, 0.0), known)
        for column, weight in zip(columns, weights, strict=True):
            column.append(np.bincount(piece, np.asarray(weight, float), count).astype(np.float64))
    return Sums(*(np.concatenate(column) if column else np.empty(0) for column in columns))


def with_intervals(row: PolicyReplay, own: Pieces, recorded: Pieces, seed: int, draws: int) -> PolicyReplay:
    """Add 95 % intervals of hours, violations and the saving against the recorded counts.

    The same pieces are drawn for the policy and for what ran, so that the saving's interval is paired. Hours
    are scaled to the scored time of the window. With fewer than three days, hours are drawn in blocks, and
    the instance-hours have no interval: they follow the cycle of the day, which no drawing of hours keeps.
    With fewer than eight hours there is none at all, and the reason is given.
    """
    if (own.days.rows > 0).sum() >= LEAST_DAYS:
        basis, of, ran, block = "days", own.days, recorded.days, 1
    elif (own.hours.rows > 0).sum() >= LEAST_HOURS:
        basis, of, ran, block = "hours", own.hours, recorded.hours, BLOCK_HOURS
    else:
        return replace(row, interval_reason=TOO_SHORT)
    full = np.flatnonzero(of.rows > 0)
    drawn = full[moving_block_indices(full.size, block, draws, np.random.default_rng(seed))]
    hours = of.hours[drawn].sum(axis=1) / of.rows[drawn].sum(axis=1) * of.rows.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = of.chances[drawn].sum(axis=1) / of.judged[drawn].sum(axis=1)
        savings = 1.0 - of.cost[drawn].sum(axis=1) / ran.cost[drawn].sum(axis=1)
    timed = basis == "days" and row.instance_hours is not None
    return replace(
        row,
        instance_hours_ci=_interval(hours) if timed else None,
        slo_violation_ci=_interval(shares) if row.slo_violation_ratio is not None else None,
        vs_recorded_ci=_interval(savings) if row.vs_recorded is not None else None,
        interval_basis=basis,
    )


def _interval(draws: Floats) -> Interval | None:
    low, high = percentile_interval(draws)
    return None if np.isnan(low) else (low, high)

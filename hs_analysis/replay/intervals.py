"""Intervals of replay figures: whole days drawn anew, because hours of one day are not independent.

A window of fewer than three days has no spread between days. Blocks of its hours say how much the chance of
some hours moves a figure, and nothing of how days differ: such an interval is labelled, and too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.replay.constants import BLOCK_HOURS
from hs_analysis.replay.demand import Floats
from hs_analysis.replay.simulate import SimulationResult, combined_violation, output_pool
from hs_analysis.schema.constants import DAY_S, GROUP_MIN, HOUR_S
from hs_analysis.schema.names import CURRENT, HINDSIGHT, RECORDED, STATIC_PEAK
from hs_analysis.schema.results import Interval, PolicyReplay
from hs_analysis.statistics.resampling import moving_block_indices, percentile_interval

LEAST_HOURS = 4 * BLOCK_HOURS
"""Fewest hours an interval is drawn from, and hours that stay together: episodes over the limit last less,
and a block is a quarter of the window at most. Defaults of this project."""

TOO_SHORT = "the test window has fewer than eight hours: no spread can be told"


@dataclass(frozen=True)
class Sums:
    """Sums of one policy over pieces of the window, shape (pieces,).

    Scored rows, instance-hours, the hours that are paid for (GPU-hours where known), expected time over the
    limit, the time of which that can be said [s], and expected output tokens over the limit. Pieces are
    counted from the start of a capture; a last one of less than half belongs to the one before.
    """

    rows: Floats
    hours: Floats
    cost: Floats
    over_s: Floats
    judged_s: Floats
    over_tokens: Floats


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
    columns: list[list[Floats]] = [[], [], [], [], [], []]
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
        chance = np.where(known, chance, 0.0)
        pool = output_pool(result.served)
        tokens = np.nan_to_num(result.served[pool]) if pool else np.zeros(demand.rows)
        over_s, judged_s = chance * demand.window_s, known * demand.window_s
        weights = (use, use * hours, use * cost, over_s, judged_s, chance * tokens)
        for column, weight in zip(columns, weights, strict=True):
            column.append(np.bincount(piece, np.asarray(weight, float), count).astype(np.float64))
    return Sums(*(np.concatenate(column) if column else np.empty(0) for column in columns))


def with_intervals(row: PolicyReplay, pieces: Mapping[str, Pieces], seed: int, draws: int) -> PolicyReplay:
    """Add 95 % intervals of hours, violations and the savings; ``pieces`` are those of every row, by name.

    The same pieces are drawn for the policy and for what it is set against, so that a saving's interval is
    paired. Hours, and time and tokens over the limit, are scaled to the scored time of the window. With fewer
    than three days, hours are drawn in blocks, and the instance-hours have no interval: they follow the cycle
    of the day, which no drawing of hours keeps. With fewer than eight hours there is none at all, and the
    reason is given.
    """
    if (pieces[row.policy].days.rows > 0).sum() >= GROUP_MIN:
        basis, block, cuts = "days", 1, {name: of.days for name, of in pieces.items()}
    elif (pieces[row.policy].hours.rows > 0).sum() >= LEAST_HOURS:
        basis, block, cuts = "hours", BLOCK_HOURS, {name: of.hours for name, of in pieces.items()}
    else:
        return replace(row, interval_reason=TOO_SHORT)
    own = cuts[row.policy]
    full = np.flatnonzero(own.rows > 0)
    drawn = full[moving_block_indices(full.size, block, draws, np.random.default_rng(seed))]

    def interval(value: float | None, part: Floats, of: Floats, *, times: float = 1.0) -> Interval | None:
        if value is None:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return _interval(part[drawn].sum(axis=1) / of[drawn].sum(axis=1) * times, value)

    def saving(value: float | None, baseline: str) -> Interval | None:
        return None if value is None else interval(value, cuts[baseline].cost - own.cost, cuts[baseline].cost)

    hours, judged_s = row.instance_hours if basis == "days" else None, own.judged_s.sum()
    return replace(
        row,
        instance_hours_ci=interval(hours, own.hours, own.rows, times=own.rows.sum()),
        slo_violation_ci=interval(row.slo_violation_ratio, own.over_s, own.judged_s),
        slo_violation_s_ci=interval(row.slo_violation_s, own.over_s, own.judged_s, times=judged_s),
        slo_violation_tokens_ci=interval(
            row.slo_violation_tokens, own.over_tokens, own.judged_s, times=judged_s
        ),
        vs_static_peak_ci=saving(row.vs_static_peak, STATIC_PEAK),
        vs_recorded_ci=saving(row.vs_recorded, RECORDED),
        vs_hindsight_ci=saving(row.vs_hindsight, HINDSIGHT),
        vs_current_ci=saving(row.vs_current, CURRENT),
        interval_basis=basis,
    )


def _interval(draws: Floats, value: float) -> Interval | None:
    low, high = percentile_interval(draws, holding=value)
    return None if np.isnan(low) else (low, high)

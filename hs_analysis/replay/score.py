"""From simulated rows to the figures of one policy: hours, violations, actions, excess, unserved work.

Intervals of replay figures: whole days drawn anew, because hours of one day are not independent.

A window of fewer than three days has no spread between days. Blocks of its hours say how much the chance of
some hours moves a figure, and nothing of how days differ: such an interval is labelled, and too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.replay.constants import ANOTHER_DAY_SD, BLOCK_HOURS
from hs_analysis.replay.demand import rows_of, trailing_mean_of_known
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.ratios import RatioRange, stray_of
from hs_analysis.replay.simulate import SimulationResult, combined_violation, output_pool
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import DAY_S, GROUP_MIN, HOUR_S, MAJORITY, NORMAL_95, SUSTAINED_S
from hs_analysis.schema.names import CURRENT, HINDSIGHT, RECORDED, STATIC_PEAK
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import Interval
from hs_analysis.statistics.resampling import few_pieces, moving_block_indices, percentile_interval


@dataclass(frozen=True)
class PolicyScore:
    """One policy on one window.

    Attributes
    ----------
    row
        The figures that become results; comparisons with baselines still empty.
    strain_ratio
        Mean over scored rows of the chance that any pool with a known capacity (or floor) is over it, whether
        or not an SLO was given [ratio]; None when no capacity is known. What candidates are held to.
    scored_s
        Time that counts [s].
    """

    row: PolicyReplay
    strain_ratio: float | None
    scored_s: float


def judged_roles(model: FleetModel) -> tuple[str, ...]:
    """Return the pools whose latency has a limit; empty when one of them has no capacity to judge it by."""
    roles = tuple(role for role, pool in model.pools.items() if pool.judged)
    return roles if all(model.pools[role].capacity is not None for role in roles) else ()


def score(
    name: str,
    results: Sequence[SimulationResult],
    model: FleetModel,
    evidence: str = "",
    ratio: RatioRange | None = None,
) -> PolicyScore:
    """Sum up the captures of one policy over scored rows.

    ``instance_hours`` count instances from the moment they are asked for, and those under observation after
    a removal. ``gpu_hours`` is None unless the GPUs of every pool's instance are known, ``cost`` unless their
    price is, too. ``actions_per_day``
    counts moments at which any count changed; ``reversals_per_day`` those that undo the direction of the same
    pool's last action (a daily cycle needs two). ``overshoot_ratio`` is the instances beyond what the load of
    the very moment needed at the target, over those needed. ``unserved_tokens`` wait at the end of captures.
    ``recovery_s`` is the longest stretch of windows that more likely than not violate, 0 without one, None
    without a capacity. ``slo_violation_s`` and ``slo_violation_tokens`` are ``violation_s`` and
    ``violation_tokens`` of the pools whose latency has a limit. ``pd_imbalance_ratio`` is the mean of
    1 − smaller ÷ larger room of prefill and decode, room = ready instances · target ÷ offered work.
    ``pd_stray_ratio`` and ``pd_stray_factor`` say how far the counts stray from ``ratio``, None without one.
    """
    scored_s = sum(float(r.scored.sum()) * r.demand.window_s for r in results)
    judged = judged_roles(model)
    known = tuple(role for role, pool in model.pools.items() if pool.capacity is not None)
    if scored_s == 0:
        return PolicyScore(_empty(name, evidence), None, 0.0)
    hours = {role: sum(_hours(r, role) for r in results) for role in model.pools}
    gpus, prices = model.gpus_per_instance, model.instance_prices
    stray = stray_of(results, ratio)
    actions, reversals = (sum(pair) for pair in zip(*(_actions(r) for r in results), strict=True))
    row = PolicyReplay(
        policy=name,
        gpu_hours=sum(h * gpus[role] for role, h in hours.items()) if set(hours) <= set(gpus) else None,
        instance_hours=sum(hours.values()),
        slo_violation_ratio=mean_violation(results, judged),
        actions_per_day=actions / (scored_s / DAY_S),
        reversals_per_day=reversals / (scored_s / DAY_S),
        overshoot_ratio=_overshoot(results, model),
        unserved_tokens=sum(float(queue[-1]) for r in results for queue in r.queued.values()),
        vs_static_peak=None,
        vs_recorded=None,
        evidence=evidence,
        cost=sum(h * prices[role] for role, h in hours.items()) if set(hours) <= set(prices) else None,
        recovery_s=_longest_s(results, known),
        pd_imbalance_ratio=_imbalance(results, model),
        pd_stray_ratio=stray.share if stray else None,
        pd_stray_factor=stray.factor if stray else None,
        slo_violation_s=violation_s(results, judged),
        slo_violation_tokens=violation_tokens(results, judged),
    )
    return PolicyScore(row, mean_violation(results, known), scored_s)


def saving(row: PolicyReplay, baseline: PolicyReplay) -> float | None:
    """Return 1 − hours ÷ baseline hours, in GPU-hours where both have them; negative when it costs more."""
    pairs = ((row.gpu_hours, baseline.gpu_hours), (row.instance_hours, baseline.instance_hours))
    return next((1 - own / other for own, other in pairs if own is not None and other), None)


def compared(row: PolicyReplay, rows: Mapping[str, PolicyReplay]) -> PolicyReplay:
    """Set a policy's hours against those of the baselines that are among ``rows``, by name."""

    def against(name: str) -> float | None:
        return saving(row, rows[name]) if name in rows else None

    return replace(
        row,
        vs_static_peak=against(STATIC_PEAK),
        vs_recorded=against(RECORDED),
        vs_hindsight=against(HINDSIGHT),
        vs_current=against(CURRENT),
    )


def _empty(name: str, evidence: str) -> PolicyReplay:
    return PolicyReplay(
        policy=name,
        gpu_hours=None,
        instance_hours=None,
        slo_violation_ratio=None,
        actions_per_day=None,
        reversals_per_day=None,
        overshoot_ratio=None,
        unserved_tokens=None,
        vs_static_peak=None,
        vs_recorded=None,
        evidence=evidence,
    )


def _hours(result: SimulationResult, role: str) -> float:
    return float(result.paid[role][result.scored].sum()) * result.demand.window_s / HOUR_S


def mean_violation(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float | None:
    """Return the expected share of scored windows that violate in any of the pools; None if none can say."""
    values = np.concatenate([_chances(r, roles) for r in results]) if roles else np.empty(0)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else None


def violation_s(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float | None:
    """Return the expected time in scored windows that violate in any pool [s]; None if none can say."""
    return _expected(results, roles, [np.full(r.demand.rows, r.demand.window_s) for r in results])


def violation_tokens(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float | None:
    """Return the output tokens expected to be served in violating windows [tokens].

    Served, not offered: what waits through a window counts in the one that serves it, and in
    ``unserved_tokens`` if none does. None where no pool can say, or none decodes.
    """
    pool = output_pool(results[0].served) if results else None
    return None if pool is None else _expected(results, roles, [r.served[pool] for r in results])


def _chances(result: SimulationResult, roles: tuple[str, ...]) -> Floats:
    """Chance that each scored window violates in any of the pools."""
    return combined_violation(result, roles)[result.scored]


def _expected(
    results: Sequence[SimulationResult], roles: tuple[str, ...], amounts: Sequence[Floats]
) -> float | None:
    """Sum what windows have, shape (rows,) each, times their chance of violating; None if none has one."""
    parts = [_chances(r, roles) * amount[r.scored] for r, amount in zip(results, amounts, strict=True)]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[~np.isnan(values)]
    return float(values.sum()) if values.size else None


def _actions(result: SimulationResult) -> tuple[int, int]:
    """Moments at which any count changed, and those that turn a pool's direction round; over scored rows."""
    acted = np.zeros(result.demand.rows, bool)
    turned = np.zeros(result.demand.rows, bool)
    for counts in result.desired.values():
        change = np.diff(counts, prepend=counts[:1])
        moves = np.flatnonzero(change != 0)
        acted[moves] = True
        signs = np.sign(change[moves])
        turned[moves[1:][signs[1:] != signs[:-1]]] = True
    return int((acted & result.scored).sum()), int((turned & result.scored).sum())


def needed(offered: Floats, window_s: float, target: float) -> Floats:
    """Return the instances that the trailing 5-min load needs at a target, at least 1; NaN in a gap."""
    with np.errstate(invalid="ignore"):
        return np.maximum(
            1.0, np.ceil(trailing_mean_of_known(offered, rows_of(SUSTAINED_S, window_s)) / target - 1e-9)
        )


def _longest_s(results: Sequence[SimulationResult], roles: tuple[str, ...]) -> float | None:
    """Longest stretch of rows over the limit [s]; rows that are not scored end a stretch."""
    if not roles:
        return None
    longest = 0.0
    for result in results:
        short = result.scored & (np.nan_to_num(combined_violation(result, roles)) > MAJORITY)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], short, [False]]).astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        longest = max(longest, float(lengths.max(initial=0)) * result.demand.window_s)
    return longest


def _imbalance(results: Sequence[SimulationResult], model: FleetModel) -> float | None:
    """Mean share of the better supplied pool's room that the other can't match; None without two targets."""
    pair = [model.pools[role] for role in ("prefill", "decode") if role in model.pools]
    if len(pair) < 2 or any(pool.target is None for pool in pair):
        return None
    shares = []
    for result in results:
        room = []
        for pool in pair:
            with np.errstate(invalid="ignore", divide="ignore"):
                room.append(result.ready[pool.role] * (pool.target or 0.0) / result.demand.offered[pool.role])
        low, high = np.minimum(*room), np.maximum(*room)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = 1.0 - low / high
        shares.append(share[result.scored & np.isfinite(share)])
    values = np.concatenate(shares)
    return float(values.mean()) if values.size else None


def _overshoot(results: Sequence[SimulationResult], model: FleetModel) -> float | None:
    excess = base = 0.0
    for result in results:
        for role, pool in model.pools.items():
            if pool.target is None:
                return None
            need = needed(result.demand.offered[role], result.demand.window_s, pool.target)[result.scored]
            excess += float(np.maximum(result.paid[role][result.scored] - need, 0.0).sum())
            base += float(need.sum())
    return excess / base if base else None


LEAST_HOURS = 4 * BLOCK_HOURS
"""Fewest hours an interval is drawn from, and hours that stay together: episodes over the limit last less,
and a block is a quarter of the window at most. Defaults of this project."""

TOO_SHORT = "the test window has fewer than eight hours: no spread is known"


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
    paired. Hours, and time and tokens over the limit, are scaled to the scored time of the window. Days are
    few, and their intervals stretched for that (``few_pieces``), to what a figure can be at most. With fewer
    than three days hours are drawn in blocks, which tells nothing of how days differ: a policy's savings
    against what ran and static peak are widened by that (``ANOTHER_DAY_SD``), and the instance-hours have no
    interval, because they follow the cycle of the day, which no drawing of hours keeps. With fewer than eight
    hours there is none at all, and the reason is given.
    """
    days, stretch = _whole_days(pieces[row.policy]), 1.0
    if days >= GROUP_MIN:
        basis, block, cuts = "days", 1, {name: of.days for name, of in pieces.items()}
        stretch = few_pieces(days)
    elif (pieces[row.policy].hours.rows > 0).sum() >= LEAST_HOURS:
        basis, block, cuts = "hours", BLOCK_HOURS, {name: of.hours for name, of in pieces.items()}
    else:
        return replace(row, interval_reason=TOO_SHORT)
    own = cuts[row.policy]
    full = np.flatnonzero(own.rows > 0)
    drawn = full[moving_block_indices(full.size, block, draws, np.random.default_rng(seed))]
    interval = _Drawn(drawn, stretch).interval

    def saved(value: float | None, baseline: str) -> Interval | None:
        if value is None:
            return None
        base = cuts[baseline].cost
        return interval(value, base - own.cost, base, within=(-np.inf, 1.0))

    hours, judged_s = row.instance_hours if basis == "days" else None, own.judged_s.sum()
    found = replace(
        row,
        instance_hours_ci=interval(hours, own.hours, own.rows, times=own.rows.sum()),
        slo_violation_ci=interval(row.slo_violation_ratio, own.over_s, own.judged_s, within=(0.0, 1.0)),
        slo_violation_s_ci=interval(
            row.slo_violation_s, own.over_s, own.judged_s, times=judged_s, within=(0.0, judged_s)
        ),
        slo_violation_tokens_ci=interval(
            row.slo_violation_tokens, own.over_tokens, own.judged_s, times=judged_s
        ),
        vs_static_peak_ci=saved(row.vs_static_peak, STATIC_PEAK),
        vs_recorded_ci=saved(row.vs_recorded, RECORDED),
        vs_hindsight_ci=saved(row.vs_hindsight, HINDSIGHT),
        vs_current_ci=saved(row.vs_current, CURRENT),
        interval_basis=basis,
    )
    return found if basis == "days" else _of_another_day(found)


@dataclass(frozen=True)
class _Drawn:
    """Pieces drawn anew, shape (draws, pieces), and by how much intervals of them are stretched."""

    pieces: Integers
    stretch: float

    def interval(
        self,
        value: float | None,
        part: Floats,
        of: Floats,
        *,
        times: float = 1.0,
        within: Interval = (0.0, np.inf),
    ) -> Interval | None:
        """Return the interval of a figure, Σ part ÷ Σ of · times; None without a figure or draws of it."""
        if value is None:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            found = part[self.pieces].sum(axis=1) / of[self.pieces].sum(axis=1) * times
        low, high = percentile_interval(found, holding=value)
        if np.isnan(low):
            return None
        low, high = (value + self.stretch * (end - value) for end in (low, high))
        return max(low, within[0]), min(high, within[1])


def _whole_days(of: Pieces) -> int:
    """Return how many days are scored for half their length or more: a short capture is no day."""
    least = of.hours.rows.max(initial=0.0) * DAY_S / HOUR_S / 2.0
    return int((of.days.rows >= max(least, 1.0)).sum())


def _of_another_day(row: PolicyReplay) -> PolicyReplay:
    """Return a row whose savings' intervals hold what another day may save, as far as is known."""
    if row.policy == RECORDED:
        return row
    peak = row.vs_static_peak if row.policy != STATIC_PEAK else None
    return replace(
        row,
        vs_recorded_ci=_widened(row.vs_recorded, row.vs_recorded_ci),
        vs_static_peak_ci=_widened(peak, row.vs_static_peak_ci),
    )


def _widened(value: float | None, inside: Interval | None) -> Interval | None:
    if value is None or inside is None:
        return inside
    low, high = (float(np.hypot(end - value, NORMAL_95 * ANOTHER_DAY_SD)) for end in inside)
    return value - low, min(1.0, value + high)

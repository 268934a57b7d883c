"""How often a controller acts although the load stands still: what noise alone makes it do.

Pools at flat load need no fleet: a reading is what the load asks for, times independent noise of the size
that the history has. A controller that decides every 15 s does so here, on ranges that overlap, which the
minutes of a recorded history do not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hs_analysis.controllers import (
    Autoscaler,
    HeteroScale,
    Slotted,
    batch_of,
    sharing_slots,
    structure,
    with_slots,
)
from hs_analysis.controllers.hpa import Hpa
from hs_analysis.controllers.keda import Keda
from hs_analysis.controllers.lanes import Batch, Fleet, Key, Scraped, some
from hs_analysis.replay.demand import rows_of
from hs_analysis.replay.readings import LastRows
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import DAY_S, HOUR_S, SHORTEST_S

LEVELS, WATCHED_S, SETTLED_S = 8, 5.0 * HOUR_S, 1.0 * HOUR_S
"""Loads tried, how long each is watched, and how long pools have to come to their size [levels, s, s].
Default of this project: of a pool and day one action is 0.3."""


@dataclass(frozen=True)
class _Reads:
    """What one pool reads: its signal, target per instance, and whether it is a mean over instances."""

    signal: Key
    target: float
    is_mean: bool


def flat_actions(
    controls: Sequence[Autoscaler | HeteroScale],
    needs: Mapping[str, tuple[float, float]],
    noise_cv: Mapping[Key, float],
    seed: int,
) -> Floats:
    """Return the actions a pool and day of each control while the load stands still.

    Parameters
    ----------
    controls
        Each reads one signal a pool, and perhaps what waits, which is nothing; NaN for any other.
    needs
        Instances that the load of a pool asks for, least and most, per role: levels are drawn in between.
    noise_cv
        Noise of the mean over a minute, as a share of it, by (signal, role); 0 where it is not known.
    seed
        Of levels and noise, the same for controls of one structure.

    Returns
    -------
    ndarray
        Shape (controls,).
    """
    found = np.full(len(controls), np.nan)
    known = [n for n, one in enumerate(controls) if all(_reads(one, role) is not None for role in one.pools)]
    slotted = dict(zip(known, sharing_slots([controls[number] for number in known]), strict=True))
    groups: dict[Any, list[int]] = {}
    for number, (control, _) in slotted.items():
        groups.setdefault(structure(control), []).append(number)
    for numbers in groups.values():
        members = [controls[number] for number in numbers]
        found[numbers] = _actions(members, [slotted[number] for number in numbers], needs, noise_cv, seed)
    return found


def _reads(control: Autoscaler | HeteroScale, role: str) -> _Reads | None:
    one = control.pools[role]
    if isinstance(control, HeteroScale):
        return _Reads((one.signal, role), one.target, one.adds_up == "mean") if one.signal else None
    scaler = one.hpa if isinstance(one, Keda) else one
    if not isinstance(scaler, Hpa) or len(scaler.metrics) != 1:
        return None
    metric = scaler.metrics[0]
    name, _, owner = metric.signal.partition("@")
    return _Reads((name, owner or role), metric.target, metric.kind != "AverageValue")


@dataclass(frozen=True)
class _PoolReads:
    """What one pool reads in every lane, each shape (lanes,): target, whether of a mean, and its noise."""

    target: Floats
    is_mean: Mask
    spread: Floats


def _actions(
    controls: Sequence[Autoscaler | HeteroScale],
    slotted: Sequence[Slotted],
    needs: Mapping[str, tuple[float, float]],
    noise_cv: Mapping[Key, float],
    seed: int,
) -> Floats:
    """Run controls of one structure on slots, each at every level; return their actions a pool and day."""
    window_s = 15.0 if isinstance(controls[0], Autoscaler) else SHORTEST_S
    lanes: Integers = np.repeat(np.arange(len(controls)), LEVELS)
    rng = np.random.default_rng(seed)
    level = _levels(controls, needs, rng)
    reads = {role: [r for one in controls if (r := _reads(one, role))] for role in controls[0].pools}
    pools = {
        role: _PoolReads(
            np.array([r.target for r in found])[lanes],
            np.array([r.is_mean for r in found])[lanes],
            np.array([noise_cv.get(r.signal, 0.0) for r in found])[lanes] * np.sqrt(SHORTEST_S / window_s),
        )
        for role, found in reads.items()
    }
    own = {r.signal for found in reads.values() for r in found}
    role_of = {
        slot: slot[1] if slot[1] in pools else next(iter(pools))
        for slot in slotted[0][1]
        if all(held[slot] in own for _, held in slotted)
    }
    totals = _noisy(role_of, pools, level, rows_of(SETTLED_S + WATCHED_S, window_s), rng)
    batch = batch_of([one for one, _ in slotted]).take(lanes)
    slots = {slot: LastRows(rows_of(batch.reach_s, window_s), lanes.size) for slot in slotted[0][1]}
    means = {slot: (role, pools[role].is_mean) for slot, role in role_of.items()}
    desired = {role: np.ceil(level[role]) for role in pools}
    acted = _acted(batch, slots, totals, means, desired, window_s)
    found: Floats = acted.reshape(len(controls), LEVELS).mean(axis=1)
    return found / (WATCHED_S / DAY_S * len(pools))


def _acted(
    batch: Batch,
    slots: Mapping[Key, LastRows],
    totals: Mapping[Key, Floats],
    means: Mapping[Key, tuple[str, Mask]],
    desired: dict[str, Floats],
    window_s: float,
) -> Floats:
    """Step a batch through noisy totals; return how often each lane changed a count once it had settled.

    ``means`` has, of each slot that reads, its pool and the lanes that see a mean over the pool's instances.
    """
    still = np.zeros(next(iter(desired.values())).size)
    acted = np.zeros_like(still)
    for row in range(rows_of(SETTLED_S + WATCHED_S, window_s)):
        for slot, kept in slots.items():
            value = totals[slot][row] if slot in totals else still
            if slot in totals and some(means[slot][1]):
                role, is_mean = means[slot]
                value = np.where(is_mean, value / np.maximum(desired[role], 1.0), value)
            kept.add(value)
        orders = batch.step(_fleet(row, window_s, desired, slots))
        if row * window_s >= SETTLED_S:
            acted += sum((orders.counts[role] != desired[role]).astype(float) for role in orders.counts)
        desired = desired | {role: counts.copy() for role, counts in orders.counts.items()}
    return acted


def _levels(
    controls: Sequence[Autoscaler | HeteroScale],
    needs: Mapping[str, tuple[float, float]],
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Return the instances that the load asks for, every control at every level, shape (lanes,) per role."""
    roles = tuple(controls[0].pools)
    between = rng.random((len(roles), LEVELS))
    first: dict[Any, list[str]] = {}  # a structure's first control names the pools in the order of the draws
    drawn = [first.setdefault(structure(with_slots(one)[0]), list(one.pools)) for one in controls]
    return {
        role: np.concatenate(
            [np.linspace(*needs[role], LEVELS) + between[order.index(role)] for order in drawn]
        )
        for role in roles
    }


def _noisy(
    role_of: Mapping[Key, str],
    pools: Mapping[str, _PoolReads],
    level: Mapping[str, Floats],
    rows: int,
    rng: np.random.Generator,
) -> dict[Key, Floats]:
    """Return pool totals with noise, shape (rows, lanes): that of a level is the same for every control.

    A slot that reads nothing draws nothing, so that the others read what they read without it.
    """
    lanes = len(next(iter(level.values())))
    drawn = np.tile(rng.standard_normal((rows, len(role_of), LEVELS)), lanes // LEVELS)
    return {
        slot: pools[role].target * level[role] * np.maximum(0.0, 1.0 + pools[role].spread * drawn[:, number])
        for number, (slot, role) in enumerate(role_of.items())
    }


def _fleet(row: int, window_s: float, desired: Mapping[str, Floats], slots: Mapping[Key, LastRows]) -> Fleet:
    lanes = next(iter(desired.values())).size
    values = {slot: kept.last() for slot, kept in slots.items()}
    return Fleet(
        np.full(lanes, row * window_s),
        window_s,
        dict(desired),
        dict(desired),
        Scraped(window_s, values),
    )

"""Policies, a fleet model and recorded demand as the arrays that the compiled replay works on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hs_analysis.errors import UsageError
from hs_analysis.policy.model import Guard, Hysteresis, Policy, Primary
from hs_analysis.replay.arrays import (
    CURVE,
    GUARD,
    NUMBERS,
    POOL,
    POOL_NUMBERS,
    PRIMARY,
    QUEUE,
    RECORDED,
    SERVED,
    TARGET,
    Curves,
    Family,
    Records,
    Scene,
)
from hs_analysis.replay.control import PolicyAtWork
from hs_analysis.replay.demand import LOAD_WINDOW_S, RECENT_WINDOW_S, Demand, Floats, rows_of
from hs_analysis.replay.fleet import FleetModel, log_odds
from hs_analysis.replay.score import judged_roles
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.waiting import share_of_wait

KINDS = {"recorded": RECORDED, "served": SERVED, "curve": CURVE, "queue": QUEUE}


def pack_policies(policies: Sequence[Policy], roles: Sequence[str]) -> Family:
    """Stack the numbers of policies that have the same primaries, guards and soft scale-in.

    Raises
    ------
    UsageError
        When they differ in more than numbers, or when one is not driven by a metric.
    """
    shape = _shape(policies[0])
    if any(_shape(policy) != shape for policy in policies) or policies[0].mode != "metric":
        raise UsageError(
            "policies of one family differ in numbers only", hint="group them by their primaries"
        )

    def rest(policy: Policy, role: str, name: str, unknown: float) -> float:
        value = getattr(policy.cooldown[role], name) if role in policy.cooldown else None
        return unknown if value is None else float(value)

    def bound(policy: Policy, role: str, name: str, none: float) -> float:
        return float(getattr(policy.bounds[role], name)) if role in policy.bounds else none

    numbers = [
        (
            p.step.dampening,
            p.step.max_out_fraction,
            p.step.max_in_fraction,
            (p.pd_ratio.value if p.pd_ratio else None) or math.nan,
            (p.pd_ratio.max_deviation if p.pd_ratio else None) or 0.0,
        )
        for p in policies
    ]
    pools = [
        [
            (
                *_band(policy.hysteresis.get(role)),
                rest(policy, role, "scale_out_s", -math.inf),
                rest(policy, role, "scale_in_s", math.inf),
                bound(policy, role, "min", -math.inf),
                bound(policy, role, "max", math.inf),
            )
            for role in roles
        ]
        for policy in policies
    ]
    targets = [[_target(primary) for primary in policy.primaries] for policy in policies]
    return Family(np.array(numbers, NUMBERS), np.array(pools, POOL_NUMBERS), np.array(targets, TARGET))


def _target(primary: Primary) -> tuple[float, float, float]:
    seen = primary.highest
    total, instances = (math.inf, math.inf) if seen is None else (seen.total, seen.instances)
    return primary.target_per_instance.value or math.nan, total, instances


def _band(band: Hysteresis | None) -> tuple[float, ...]:
    """Return the numbers of a band; one that is the same at every size has a way back that never counts."""
    if band is None:
        return 1.0, 1.0, -math.inf, 0.0
    if band.usual_instances is None:
        return band.scale_out_ratio, band.scale_in_ratio, -math.inf, 0.0
    return band.scale_out_ratio, band.scale_in_ratio, band.way_back_ratio, band.usual_instances


def _shape(policy: Policy) -> tuple[object, ...]:
    primaries = tuple((p.signal, p.role, p.pool) for p in policy.primaries)
    ratio = bool(policy.pd_ratio and policy.pd_ratio.value)
    return (
        policy.mode,
        primaries,
        ratio,
        policy.guards,
        policy.soft_scale_in,
        policy.averaging_s,
        tuple(sorted(policy.start_up_s.items())),
    )


def pack_scene(policy: Policy, demand: Demand, model: FleetModel) -> Scene:
    """Return what every policy of ``policy``'s family meets on one capture."""
    # The scalar control finds columns, factors and guard curves; none of its state is used.
    scalar = PolicyAtWork(policy, demand, model, None)
    place = {role: at for at, role in enumerate(model.pools)}
    guards, readings, keys = scalar.policy.guards, scalar.readings, scalar.keys
    found = [readings.models[key] for key in keys]
    curves = [scalar.curves[(g.signal, g.role)] for g in guards]
    none = [np.nan] * demand.rows
    columns = [readings.columns[key] if m else none for key, m in zip(keys, found, strict=True)]
    return Scene(
        t_s=np.array(demand.t_s, float),
        window_s=float(demand.window_s),
        gap=np.array(demand.gap),
        scored=np.array(demand.scored),
        offered=_rows([demand.offered[role] for role in model.pools], demand.rows),
        pools=_pools(policy, demand, model),
        log_odds=log_odds(model.allowed),
        prefill=place.get("prefill", -1),
        decode=place.get("decode", -1),
        primaries=_primaries(policy, found, place),
        column=_rows(columns, demand.rows),
        factor=_rows([readings.factors.get(key, none) for key in keys], demand.rows),
        kept=_rows([readings.kept.get(key, none) for key in keys], demand.rows),
        before=_before([readings.before[key] for key in keys], scalar.rows),
        ran=_before([demand.past("instances", role).tolist() for role in model.pools], scalar.rows),
        counts=_rows([readings.alike.counts[role] for role in model.pools], demand.rows),
        waited=np.array([readings.alike.waited[role] for role in model.pools], bool),
        curves=_curves(found),
        guards=np.array(
            [
                (
                    g.slo_s,
                    math.nan,
                    _number(scalar.latencies[g.signal, g.role]),
                    *_waits(model, g.signal, g.role),
                    place.get(g.role, -1),
                    len(c.loads),
                )
                for g, c in zip(guards, curves, strict=True)
            ],
            GUARD,
        ),
        guard_curves=_curves(curves),
        latency=_rows([scalar.recorded[g.signal, g.role] for g in guards], demand.rows),
        tier_above=_tiers(guards, "above_ratio", math.inf),
        tier_add=_tiers(guards, "add_fraction", 0.0),
        observe_s=float(policy.soft_scale_in.observe_s) if policy.soft_scale_in else math.nan,
        follower=_follower(policy, place),
        average_rows=scalar.rows,
        load_rows=rows_of(LOAD_WINDOW_S, demand.window_s),
        recent_rows=rows_of(RECENT_WINDOW_S, demand.window_s),
    )


def _pools(policy: Policy, demand: Demand, model: FleetModel) -> Records:
    judged = judged_roles(model)
    rows = [
        (
            _start(demand.counts(role)),
            pool.start_up_s,
            pool.ceiling,
            math.nan if pool.capacity is None else pool.capacity,
            pool.slope,
            math.nan if pool.reference is None else pool.reference,
            policy.start_up_s.get(role, 0.0),
            _waits(model, "ttft", role)[1] if role == "prefill" else 0.0,
            pool.capacity is not None,
            role in judged,
        )
        for role, pool in model.pools.items()
    ]
    return np.array(rows, POOL)


def _waits(model: FleetModel, latency: str, role: str) -> tuple[float, float]:
    """Return what a latency gains by the wait in a pool, and in the decode pool where that is another."""
    other = "decode" in model.pools and role != "decode"
    own = share_of_wait(model.waits, latency, role)
    return own, share_of_wait(model.waits, latency, "decode") if other else 0.0


def _primaries(policy: Policy, found: Sequence[SignalModel | None], place: dict[str, int]) -> Records:
    rows = [
        (
            (model and model.tokens_per_request) or math.nan,
            place.get(primary.role, -1),
            KINDS[model.kind] if model else RECORDED,
            place.get(model.pool, -1) if model else -1,
            len(model.loads) if model else 0,
            primary.pool == "sum",
            bool(model and model.per_instance),
        )
        for primary, model in zip(policy.primaries, found, strict=True)
    ]
    return np.array(rows, PRIMARY)


def _rows(columns: Sequence[Sequence[float] | Floats], rows: int) -> Floats:
    return np.array(columns, dtype=float).reshape(len(columns), rows)


def _before(columns: Sequence[Sequence[float]], rows: int) -> Floats:
    """Return the last ``rows`` values of columns, missing before the first of a shorter one."""
    found = np.full((len(columns), rows if any(columns) else 0), np.nan)
    for place, values in enumerate(columns):
        if values:
            found[place, -len(values[-rows:]) :] = values[-rows:]
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _start(counts: Floats) -> float:
    return max(1.0, float(np.round(counts[0]))) if counts.size and not math.isnan(counts[0]) else 1.0


def _follower(policy: Policy, place: dict[str, int]) -> int:
    """Return the pool that the only primary sizes through the ratio."""
    if len(policy.primaries) != 1 or policy.pd_ratio is None or not policy.pd_ratio.value:
        return -1
    return place.get({"decode": "prefill", "prefill": "decode"}.get(policy.primaries[0].role, ""), -1)


def _tiers(guards: Sequence[Guard], name: str, none: float) -> Floats:
    found = np.full((len(guards), max((len(g.tiers) for g in guards), default=0)), none)
    for place, guard in enumerate(guards):
        found[place, : len(guard.tiers)] = [getattr(tier, name) for tier in guard.tiers]
    return found


def _curves(models: Sequence[SignalModel | None]) -> Curves:
    shape = (len(models), max((len(m.loads) for m in models if m), default=1))
    loads, values = np.full(shape, np.nan), np.full(shape, np.nan)
    for place, model in enumerate(models):
        if model is not None:
            loads[place, : len(model.loads)] = model.loads
            values[place, : len(model.values)] = model.values
    return Curves(loads, values)

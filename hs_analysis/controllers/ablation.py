"""HeteroScale's rule with one field of a policy as the object of another controller holds it.

No object of Kubernetes can say all that a policy says, and HeteroScale's own rule can. Run with one field as
an object has it and all others as in the policy, it tells what that field alone is worth. What an object
holds is taken from its parameters as they are read back, so that what an exporter lists as lost is not what
is believed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hs_analysis.controllers.aibrix import Kpa
from hs_analysis.controllers.dynamo import DynamoLoad, DynamoThroughput
from hs_analysis.controllers.heteroscale import HeteroScale, PoolRule
from hs_analysis.controllers.hpa import Hpa, Metric, Rules
from hs_analysis.controllers.kthena import Kthena
from hs_analysis.controllers.lanes import key_of
from hs_analysis.controllers.registry import Autoscaler, bounds_of, metrics_of

WHOLE_POOL = 100
"""From this on a step limit of Kubernetes binds no policy's step: it doubles a pool in seconds [percent]."""


def field_of(item: str) -> str:
    """Return the field of a policy that a path in it speaks of: its first name, but for what waits.

    Parameters
    ----------
    item
        Such as ``cooldown.prefill.scale_in_s``, ``guards[0].tiers`` or ``*.waiting``.
    """
    last = item.rpartition(".")[2]
    if last == "waiting":
        return last
    if item in ("*.tiers", "*.slo_s"):
        return "guards"
    return item if item.startswith("*") else item.partition(".")[0].partition("[")[0]


def fields_of(rule: HeteroScale) -> tuple[str, ...]:
    """Return those of `FIELDS` that a rule has anything of."""
    pools = rule.pools.values()
    is_set = {
        "guards": any(pool.guards for pool in pools),
        "soft_scale_in": rule.observe_s is not None,
        "start_up_s": any(pool.start_up_s for pool in pools),
        "waiting": any(pool.others for pool in pools),
        "pd_ratio": rule.upkeep is not None,
    }
    return tuple(name for name in FIELDS if is_set.get(name, True))


def as_written(rule: HeteroScale, written: Autoscaler, field: str) -> HeteroScale | None:
    """Return a rule with one of `FIELDS` as an object holds it; None where that can't be told.

    An object that follows another signal than the policy also reads it otherwise: what each of that is worth
    by itself has no answer. Nor has it what sizes in proportion where a planner moves one instance at a time.

    Parameters
    ----------
    rule
        All of the policy.
    written
        The object's parameters. Pools that it does not scale keep the rule's.
    field
        A key of `FIELDS`.
    """
    pools = written.pools
    if field in PROPORTIONAL and any(isinstance(one, DynamoLoad) for one in pools.values()):
        return None
    if field in READ and not all(_follows(rule.pools[role], one, role) for role, one in pools.items()):
        return None
    return FIELDS[field](rule, pools)


PROPORTIONAL = ("hysteresis", "cooldown", "step", "reading", "waiting")
"""Fields by which a pool is sized in proportion to its signal."""

READ = ("reading", "waiting")
"""Fields that say how a signal is read."""


def _follows(pool: PoolRule, scaler: Any, role: str) -> bool:
    """Whether an object follows the signal of a pool, or the pool has none of its own."""
    asked = _metric(scaler)
    signal = asked.signal if asked else getattr(scaler, "signal", "")
    return not pool.signal or key_of(signal, role) == key_of(pool.signal, role)


Pools = Mapping[str, Any]
"""Parameters of an object by role."""


def _each(rule: HeteroScale, pools: Pools, change: Callable[[PoolRule, Any], PoolRule]) -> HeteroScale:
    """Return a rule whose pools are changed by what the object of each holds."""
    changed = {role: change(pool, pools[role]) for role, pool in rule.pools.items() if role in pools}
    return replace(rule, pools={**rule.pools, **changed})


def _without_guards(rule: HeteroScale, pools: Pools) -> HeteroScale:
    """Return a rule whose guards have no limit: one structure, so that it shares a batch."""

    def change(pool: PoolRule, _: Any) -> PoolRule:
        return replace(pool, guards=tuple(replace(one, limit_s=math.inf) for one in pool.guards))

    return _each(rule, pools, change)


def _without_soft_scale_in(rule: HeteroScale, pools: Pools) -> HeteroScale:
    return replace(rule, observe_s=None) if pools else rule


def _without_start_up(rule: HeteroScale, pools: Pools) -> HeteroScale:
    return _each(rule, pools, lambda pool, _: replace(pool, start_up_s=0.0))


def _with_band(rule: HeteroScale, pools: Pools) -> HeteroScale:
    def change(pool: PoolRule, scaler: Any) -> PoolRule:
        above, below = _tolerances(scaler)
        return replace(pool, scale_out_ratio=1.0 + above, scale_in_ratio=1.0 - below)

    return _each(rule, pools, change)


def _tolerances(scaler: Any) -> tuple[float, float]:
    """Return how far wanted ÷ current may be above and below 1; a KPA weighs its own against the total."""
    found = _ruled(scaler)
    if isinstance(found, Hpa):
        below, above = found.tolerances
        return above, below
    return (found.tolerance, found.tolerance) if found else (0.0, 0.0)


def _with_rests(rule: HeteroScale, pools: Pools) -> HeteroScale:
    def change(pool: PoolRule, scaler: Any) -> PoolRule:
        found = _ruled(scaler)
        off = found is not None and found.down.select == "Disabled"
        return replace(pool, rest_out_s=0.0, rest_in_s=None if off else 0.0)

    return _each(rule, pools, change)


def _ruled(scaler: Any) -> Hpa | Kthena | None:
    """Return what has tolerances and rules up and down: KEDA's is its HPA; None where there are none."""
    found = getattr(scaler, "hpa", scaler)
    return found if isinstance(found, Hpa | Kthena) else None


def _with_steps(rule: HeteroScale, pools: Pools) -> HeteroScale:
    def share(rules: Rules) -> float | None:
        percents = [one.value for one in rules.policies if one.kind == "Percent"]
        return percents[0] / 100.0 if percents and percents[0] < WHOLE_POOL else None

    def change(pool: PoolRule, scaler: Any) -> PoolRule:
        found = _ruled(scaler)
        up, down = (share(found.up), share(found.down)) if found else (None, None)
        return replace(pool, dampening=1.0, max_out_fraction=up, max_in_fraction=down)

    return _each(rule, pools, change)


def _metric(scaler: Any) -> Metric | None:
    """Return the first metric that an object follows; None for a planner, which reads by itself."""
    return scaler.metric if isinstance(scaler, Kpa) else next(iter(metrics_of(scaler)), None)


def _with_reading(rule: HeteroScale, pools: Pools) -> HeteroScale:
    """Return a rule that reads as the object of its first pool does: a rule has one reading for all."""
    scaler = next((pools[role] for role in rule.pools if role in pools), None)
    if isinstance(scaler, DynamoThroughput):
        return replace(rule, window_s=scaler.adjustment_s, over_s=0.0, surge=None)
    asked = _metric(scaler)
    if asked is None:
        return rule
    if isinstance(scaler, Kpa):
        window_s = asked.averaging_s + scaler.panic_window_s
        return replace(rule, window_s=window_s, over_s=asked.highest_s, surge=asked.surge)
    found = _ruled(scaler)
    over_s = max(asked.highest_s, found.down.stabilization_s if found else 0.0)
    return replace(rule, window_s=asked.averaging_s, over_s=over_s, surge=asked.surge)


def _without_waiting(rule: HeteroScale, pools: Pools) -> HeteroScale:
    """Return a rule that reads beside its signal what the object's query adds up."""

    def change(pool: PoolRule, scaler: Any) -> PoolRule:
        asked = _metric(scaler)
        adds = asked is not None and asked.how == "sum" and bool(asked.others)
        return pool if adds else replace(pool, others=tuple(replace(one, weight=0.0) for one in pool.others))

    return _each(rule, pools, change)


def _with_bounds(rule: HeteroScale, pools: Pools) -> HeteroScale:
    def change(pool: PoolRule, scaler: Any) -> PoolRule:
        least, most = bounds_of(scaler) or (pool.least, pool.most)
        return replace(pool, least=least, most=most)

    return _each(rule, pools, change)


def _without_ratio(rule: HeteroScale, pools: Pools) -> HeteroScale:
    """Return a rule whose follower has a signal of its own, as the object of that pool does; one as it is."""
    upkeep = rule.upkeep
    if upkeep is None or upkeep.follower not in pools:
        return rule
    asked, follower = _metric(pools[upkeep.follower]), rule.pools[upkeep.follower]
    if asked is None:
        return rule
    alone = replace(follower, signal=asked.signal, target=asked.target, others=asked.others)
    alone = replace(alone, adds_up="mean" if asked.kind == "Pods" else "sum")
    return replace(rule, pools={**rule.pools, upkeep.follower: alone}, upkeep=None)


FIELDS: Mapping[str, Callable[[HeteroScale, Pools], HeteroScale]] = {
    "guards": _without_guards,
    "soft_scale_in": _without_soft_scale_in,
    "start_up_s": _without_start_up,
    "hysteresis": _with_band,
    "cooldown": _with_rests,
    "step": _with_steps,
    "reading": _with_reading,
    "waiting": _without_waiting,
    "bounds": _with_bounds,
    "pd_ratio": _without_ratio,
}
"""Field of a policy → HeteroScale's rule with it as an object holds it."""

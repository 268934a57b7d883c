"""The controller that runs a policy: parameters from the policy's numbers, as its objects can hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.controllers.heteroscale import LatencyGuard, PoolRule, RatioUpkeep
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, Hpa, Metric, Operand, RatePolicy, Rules
from hs_analysis.controllers.keda import CRON, Fallback, Keda
from hs_analysis.policy.limits import SETTING
from hs_analysis.policy.model import Bounds, Cooldown, Guard, Hysteresis, Policy, Primary
from hs_analysis.policy.timetable import cron_entries, largest_plan, weekly_plan
from hs_analysis.schema.clock import UTC_NAME
from hs_analysis.schema.names import POOL_ROLES

THOUSANDTHS = 1000.0
"""Kubernetes compares in thousandths, and KEDA cuts a threshold off there."""

NOISE = 1e-6
"""What floating point may lack of a whole thousandth [thousandths]."""

TOLERANCE_DIGITS = 4
PERIOD_MAX_S, STABILISATION_MAX_S = 1800, 3600
"""Limits of HorizontalPodAutoscaler autoscaling/v2 [s]."""

FAILURES = 3
"""Failed queries in a row before KEDA's fallback holds the pool, the value of KEDA's own examples."""

AT_ONCE = (Rules(0.0, SCALE_UP.policies, tolerance=0.0), Rules(0.0, SCALE_DOWN.policies, tolerance=0.0))
"""Rules up and down of a pool that follows a timetable."""

UNBOUNDED = Bounds(1, 100)
"""Bounds of a pool of an autoscaler that the policy gives none [instances]."""


def control_of(policy: Policy) -> Autoscaler | HeteroScale:
    """Return the controller that runs a policy, by ``policy.controller``, in its mode.

    A timetable is run as planned counts whatever the controller: KEDA keeps a pool at its minimum where no
    entry holds, and an HPA, which knows no timetable, changes nothing, as a policy on hold does.
    """
    if policy.controller == "heteroscale":
        return _heteroscale(policy)
    if policy.mode == "periodic" and policy.controller == "keda":
        return Autoscaler(policy.controller, timetable_pools(policy))
    pools: dict[str, Hpa | Keda] = {}
    if policy.mode == "metric":
        for sized in _sized(policy):
            hpa = _hpa(policy, sized)
            bounds = policy.bounds.get(sized.role, UNBOUNDED)
            pools[sized.role] = hpa if policy.controller == "hpa" else _keda(hpa, bounds)
    return Autoscaler(policy.controller, pools)


def held_target(target: float) -> float:
    """Return a target as Kubernetes works with it: six digits and whole thousandths, never more than it.

    A target below a thousandth, which no object can hold, keeps its six digits.
    """
    held = math.floor(THOUSANDTHS * target + NOISE) / THOUSANDTHS
    return float(f"{held or target:.6g}")


def _heteroscale(policy: Policy) -> HeteroScale:
    known = {*policy.bounds, *policy.sized_roles, *(guard.role for guard in policy.guards)}
    known |= {primary.role for primary in policy.primaries}
    soft = policy.soft_scale_in
    plan = {}
    if policy.mode == "periodic":
        plan = {
            role: tuple(weekly_plan(policy.periodic, role).tolist()) for role in POOL_ROLES if role in known
        }
    return HeteroScale(
        {role: _pool(policy, role) for role in POOL_ROLES if role in known},
        _upkeep(policy),
        policy.reading.window_s,
        policy.reading.over_s,
        soft.observe_s if soft else None,
        policy.mode,
        plan,
        _zone(policy),
        policy.gpus,
        policy.reading.surge,
    )


def _upkeep(policy: Policy) -> RatioUpkeep | None:
    """Return what keeps the ratio: only where one primary sizes both pools."""
    ratio = policy.pd_ratio
    if len(policy.primaries) != 1 or ratio is None or not ratio.held:
        return None
    leaders: dict[str, Literal["prefill", "decode"]] = {"prefill": "prefill", "decode": "decode"}
    leader = leaders.get(policy.primaries[0].role)
    return RatioUpkeep(leader, ratio.held, ratio.max_deviation or 0.0) if leader else None


def _pool(policy: Policy, role: str) -> PoolRule:
    primary = next((one for one in policy.primaries if one.role == role), None)
    band = policy.hysteresis.get(role) or Hysteresis(1.0, 1.0)
    rest = policy.cooldown.get(role) or Cooldown(None, None)
    bounds = policy.bounds.get(role)
    together = policy.gpus.most.get(role) if policy.gpus else None
    target = primary.target_per_instance.value if primary else None
    return PoolRule(
        signal=primary.signal if primary else "",
        target=math.nan if target is None else target,
        adds_up=primary.pool if primary else "sum",
        scale_out_ratio=band.scale_out_ratio,
        scale_in_ratio=band.scale_in_ratio,
        rest_out_s=rest.scale_out_s or 0.0,
        rest_in_s=rest.scale_in_s,
        dampening=policy.step.dampening,
        max_out_fraction=policy.step.max_out_fraction,
        max_in_fraction=policy.step.max_in_fraction,
        least=bounds.min if bounds else 0,
        most=(together or bounds.max) if bounds else None,
        is_strict=bounds is not None and bounds.provenance == SETTING,
        start_up_s=policy.start_up_s.get(role, 0.0),
        guards=tuple(_guard(guard) for guard in policy.guards if guard.role == role),
        others=_others(primary, role) if primary else (),
    )


def _others(primary: Primary, role: str) -> tuple[Operand, ...]:
    """Return what a pool reads beside the signal of its primary: what waits."""
    waiting = primary.waiting
    if waiting is None:
        return ()
    signal = waiting.signal if role == waiting.role else f"{waiting.signal}@{waiting.role}"
    return (Operand(signal, waiting.window_s, waiting.weight),)


def _guard(guard: Guard) -> LatencyGuard:
    tiers = tuple((tier.above_ratio, tier.add_fraction) for tier in guard.tiers)
    return LatencyGuard(guard.signal, guard.role, guard.slo_s, tiers)


def timetable_pools(policy: Policy) -> dict[str, Keda]:
    """Return the ScaledObjects whose cron triggers hold a timetable: the largest entry, else the minimum.

    Nothing is to be smoothed, so that there is no tolerance and no wait before a count that shrinks.
    """
    entries = cron_entries(policy)
    pools: dict[str, Keda] = {}
    for role in POOL_ROLES:
        if plan := largest_plan(entries, role):
            bounds = policy.bounds.get(role, UNBOUNDED)
            pools[role] = Keda(
                Hpa((CRON,), up=AT_ONCE[0], down=AT_ONCE[1]),
                min_replica_count=bounds.min,
                max_replica_count=bounds.max,
                plan=plan,
                zone=_zone(policy),
            )
    return pools


def _zone(policy: Policy) -> str:
    """Return the zone of a timetable, whose entries have one."""
    return next((entry.zone for entry in policy.periodic), UTC_NAME)


@dataclass(frozen=True)
class _Sized:
    """A pool, the primary that sizes it, and the target per instance of the pool [unit of the signal]."""

    role: str
    primary: Primary
    target: float


def _sized(policy: Policy) -> Iterator[_Sized]:
    """Yield the pools that a signal sizes, the one that follows the ratio by its leader's.

    A pool total is divided by another target there. A pool mean keeps its target: the leader's mean moves
    the follower in proportion, as it moves the leader.
    """
    upkeep = _upkeep(policy)
    for primary in policy.primaries:
        target = primary.target_per_instance.value
        if not target or target <= 0:
            continue
        yield _Sized(primary.role, primary, target)
        if upkeep:
            factor = 1.0 / upkeep.value if upkeep.follower == "prefill" else upkeep.value
            yield _Sized(upkeep.follower, primary, target if primary.pool == "mean" else target * factor)


def _hpa(policy: Policy, sized: _Sized) -> Hpa:
    primary, role = sized.primary, sized.role
    signal = primary.signal if role == primary.role else f"{primary.signal}@{primary.role}"
    kind = "Pods" if primary.pool == "mean" else "AverageValue"
    metric = Metric(
        signal,
        held_target(sized.target),
        kind,  # type: ignore[arg-type]
        policy.reading.window_s,
        _others(primary, role),
        surge=policy.reading.surge,
    )
    bounds = policy.bounds.get(role, UNBOUNDED)
    band = policy.hysteresis.get(role) or policy.hysteresis.get(primary.role)
    rest = policy.cooldown.get(role) or policy.cooldown.get(primary.role) or Cooldown(None, None)
    return Hpa(
        (metric,),
        max(1, bounds.min),
        max(1, bounds.max),
        up=_up(policy, rest, _tolerance(band.scale_out_ratio - 1.0) if band else None),
        down=_down(policy, rest, _tolerance(1.0 - band.scale_in_ratio) if band else None),
    )


def _up(policy: Policy, rest: Cooldown, tolerance: float | None) -> Rules:
    """Return the rules of growth: Kubernetes' own limits unless the policy has one of its own."""
    policies, share = SCALE_UP.policies, policy.step.max_out_fraction
    if share is not None:
        # Without a rest the policy may act once a window.
        policies = (_percent(share, rest.scale_out_s or policy.window_s),)
    return Rules(0.0, policies, tolerance=tolerance)


def _down(policy: Policy, rest: Cooldown, tolerance: float | None) -> Rules:
    """Return the rules of shrinking; it is off where the rest before it is not known."""
    stabilisation_s = float(min(round(policy.reading.over_s), STABILISATION_MAX_S))
    if rest.scale_in_s is None:
        return Rules(stabilisation_s, SCALE_DOWN.policies, "Disabled", tolerance)
    policies, share = SCALE_DOWN.policies, policy.step.max_in_fraction
    if share is not None:
        policies = (_percent(share, rest.scale_in_s or policy.window_s),)
    return Rules(stabilisation_s, policies, tolerance=tolerance)


def _tolerance(distance: float) -> float:
    return max(0.0, round(distance, TOLERANCE_DIGITS))


def _percent(share: float, period_s: float) -> RatePolicy:
    return RatePolicy(
        "Percent", max(1, round(100 * share)), float(min(max(round(period_s), 1), PERIOD_MAX_S))
    )


def _keda(hpa: Hpa, bounds: Bounds) -> Keda:
    """Return the ScaledObject of the same rules: an empty answer is no zero, a query that fails holds."""
    return Keda(
        Hpa(hpa.metrics, up=hpa.up, down=hpa.down),
        min_replica_count=bounds.min,
        max_replica_count=bounds.max,
        ignore_null_values=False,
        fallback=Fallback(FAILURES, bounds.max, "currentReplicas"),
    )

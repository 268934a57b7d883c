"""Which number of today's objects to change, to what, and why: beside the policy, pool by pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hs_analysis.controllers import hpa
from hs_analysis.controllers.keda import Keda
from hs_analysis.current.documents import DYNAMO
from hs_analysis.current.model import Change, CurrentObject, MetricRead
from hs_analysis.current.planner_advice import planner_changes
from hs_analysis.policy.model import Policy, Primary
from hs_analysis.schema.results import Threshold

SAME = 0.01
"""Numbers nearer than this are not worth a change [ratio]."""

SAME_TOLERANCE = 0.02
"""Tolerances nearer than this are not worth a change [ratio]."""


def changes(
    objects: Sequence[CurrentObject], policy: Policy, thresholds: Sequence[Threshold] = ()
) -> tuple[Change, ...]:
    """Return what to change in today's objects to follow a policy, in the order of the objects.

    An object that follows another signal than the policy is told the target of its own (``thresholds``), and
    the signal that was chosen. Of a configuration of Dynamo's planner see ``planner_changes``.

    Nothing is said of an HPA or ScaledObject that could not be read, nor under a policy on hold.
    """
    found: list[Change] = []
    planners = {one.where: [o for o in objects if o.where == one.where] for one in objects}
    for one in objects:
        if one.kind == DYNAMO and policy.mode == "metric":
            found += planner_changes(planners.pop(one.where, ()), policy, thresholds)
        parameters = one.parameters.hpa if isinstance(one.parameters, Keda) else one.parameters
        if isinstance(parameters, hpa.Hpa) and policy.mode == "metric":
            found += _of_object(one, parameters, policy, thresholds)
    return tuple(found)


def _of_object(
    one: CurrentObject, parameters: hpa.Hpa, policy: Policy, thresholds: Sequence[Threshold]
) -> Iterator[Change]:
    def change(item: str, now: Any, then: Any, why: str, evidence: str = "") -> Change:
        return Change(one.where, one.name, one.role, item, now, then, why, evidence)

    sized = _sizing(policy, one.role)
    if sized is not None:
        yield from _target(one, sized, thresholds, change)
    keda = one.parameters if isinstance(one.parameters, Keda) else None
    least, most = (
        (keda.min_replica_count, keda.max_replica_count)
        if keda
        else (parameters.min_replicas, parameters.max_replicas)
    )
    bounds = policy.bounds.get(one.role)
    if bounds is not None:
        if least != bounds.min:
            yield change("min", least, bounds.min, "the least that the history ever needed")
        if most < bounds.max:
            yield change("max", most, bounds.max, "twice the most that ran: a lower cap ends in a queue")
    if keda is not None and keda.ignore_null_values:
        why = "an empty answer of Prometheus counts as zero load and scales in (kedacore/keda#3065)"
        yield change("ignoreNullValues", "true", "false", why)
    yield from _dynamics(one.role, parameters, policy, change)


def _target(
    one: CurrentObject, sized: tuple[Primary, float], thresholds: Sequence[Threshold], change: Any
) -> Iterator[Change]:
    primary, target = sized
    alone = [read for read in one.metrics if not read.others]
    same = [read for read in alone if (read.signal, read.role) == (primary.signal, primary.role)]
    evidence = primary.target_per_instance.evidence
    if not same:
        for read in alone:
            own = _own_threshold(read, one.role, thresholds)
            if own is not None and own.target_per_instance:
                yield from _number(read, own.target_per_instance, own.evidence, change)
        now = ", ".join(read.name for read in one.metrics) or "nothing that was read"
        why = f"{primary.signal}@{primary.role} was chosen: at {target:.4g} {primary.unit} per instance"
        yield change("metric", now, f"{primary.signal}@{primary.role}", why, evidence)
        return
    yield from _number(same[0], target, evidence, change)


def _own_threshold(read: MetricRead, role: str, thresholds: Sequence[Threshold]) -> Threshold | None:
    """Return the derived threshold of a signal of the very pool that it scales."""
    key = (read.signal, role, None)
    found = next((t for t in thresholds if (t.signal, t.role, t.gpu_type) == key), None)
    return found if read.role == role else None


def _number(read: MetricRead, target: float, evidence: str, change: Any) -> Iterator[Change]:
    if read.kind != "Value" and abs(read.target / target - 1.0) > SAME:
        lower = read.target < target
        why = (
            "lower than an instance carries within the limits: more instances than needed"
            if lower
            else "more than an instance is known to carry within the limits: too few instances"
        )
        yield change("target", _plain(read, read.target), _plain(read, target), why, evidence)


def _plain(read: MetricRead, value: float) -> float:
    """Return a target in the unit of the user's own query."""
    return value / read.scale


def _sizing(policy: Policy, role: str) -> tuple[Primary, float] | None:
    """Return the primary that sizes a pool, and its target per instance of it, tied as the exports do."""
    for primary in policy.primaries:
        target = primary.target_per_instance.value
        if primary.role == role and target:
            return primary, target
    ratio = policy.pd_ratio.value if policy.pd_ratio else None
    if len(policy.primaries) != 1 or not ratio or role not in ("prefill", "decode"):
        return None
    leader = policy.primaries[0]
    target = leader.target_per_instance.value
    if not target or leader.role == role:
        return None
    return leader, target / ratio if role == "prefill" else target * ratio


def _dynamics(role: str, parameters: hpa.Hpa, policy: Policy, change: Any) -> Iterator[Change]:
    band, rest = policy.hysteresis.get(role), policy.cooldown.get(role)
    if band is not None:
        pairs = zip(("scaleDown", "scaleUp"), parameters.tolerances, strict=True)
        wanted = {"scaleDown": 1.0 - band.scale_in_ratio, "scaleUp": band.scale_out_ratio - 1.0}
        for side, now in pairs:
            then = round(wanted[side], 4)
            if abs(now - then) > SAME_TOLERANCE:
                why = "narrower than the signal's noise" if now < then else "the signal is quieter than that"
                yield change(f"{side}.tolerance", now, then, why, band.evidence)
    if rest is not None and rest.scale_in_s is not None:
        now = parameters.down.stabilization_s
        if parameters.down.select != "Disabled" and now < rest.scale_in_s * (1.0 - SAME):
            why = "shorter than it takes to get an instance back: load that returns finds it gone"
            yield change("scaleDown.stabilizationWindowSeconds", now, rest.scale_in_s, why, rest.evidence)

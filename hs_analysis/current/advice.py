"""Which number of today's objects to change, to what, and why: compared with the policy, pool by pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from hs_analysis.controllers import Autoscaler, hpa
from hs_analysis.controllers.keda import Keda
from hs_analysis.controllers.lanes import key_of
from hs_analysis.current.documents import DYNAMO
from hs_analysis.current.dynamo import LATENCIES, LOAD_KEYS, keyed
from hs_analysis.current.model import Change, CurrentObject, MetricRead
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Policy
from hs_analysis.schema.results import Threshold

SAME_PERCENT = 2.0
"""KV-cache thresholds nearer than this are not worth a change [percent of the cache]."""

USAGE = ("kv_usage", "decode")
TOO_EARLY = "less than an instance carries within the limits: more instances than needed"


def planner_changes(
    pools: Sequence[CurrentObject], policy: Policy, thresholds: Sequence[Threshold] = ()
) -> Iterator[Change]:
    """Yield what to change in one configuration, whose pools are given, to follow a policy.

    Only numbers that a policy has, too: least endpoints, the GPU budget that its largest counts need, the
    KV-cache thresholds of ``load`` where the policy or ``thresholds`` hold a target of that signal, and goals
    of ``sla`` looser than the limits. Queued prefill tokens are no signal of a history, and one adjustment
    interval for both directions has no counterpart among the rests of a policy.
    """
    for one in pools:
        bounds = policy.bounds.get(one.role)
        key = keyed(one.role, "min_endpoint")
        least = one.numbers.get(key)
        if bounds is not None and least is not None and least != bounds.min:
            yield _change(one, key, least, bounds.min, "the least that the history ever needed")
        yield from _latency(one, policy)
        yield from _usage(one, policy, thresholds)
    yield from _budget(pools, policy)


def _change(one: CurrentObject, item: str, now: float, then: float, why: str, evidence: str = "") -> Change:
    return Change(one.where, one.name, one.role, item, now, then, why, evidence)


def _latency(one: CurrentObject, policy: Policy) -> Iterator[Change]:
    """Say a goal that is looser than the limit; a tighter one may be how a mean keeps a quantile."""
    for signal, key in LATENCIES.items():
        goal_ms = one.numbers.get(key)
        limit_s = next((g.slo_s for g in policy.guards if (g.signal, g.role) == (signal, one.role)), None)
        if goal_ms is not None and limit_s is not None and goal_ms > limit_s * 1000.0:
            why = f"looser than the limit of {limit_s:g} s: engines are sized for answers that break it"
            yield _change(one, key, goal_ms, round(limit_s * 1000.0, 6), why)


def _usage(one: CurrentObject, policy: Policy, thresholds: Sequence[Threshold]) -> Iterator[Change]:
    """Say the KV-cache thresholds: the target, times the edges of the dead band."""
    band = _usage_band(policy, thresholds)
    above, below, percent = LOAD_KEYS["decode"]
    if one.role != "decode" or band is None or above not in one.numbers:
        return
    whys = {
        above: ("more than an instance is known to carry within the limits: it grows too late", TOO_EARLY),
        below: ("it shrinks while the load still needs its instances", "it keeps instances without need"),
    }
    for key, ratio in zip((above, below), band[:2], strict=True):
        now, then = one.numbers[key], round(min(percent, percent * ratio), 1)
        if abs(now - then) > SAME_PERCENT:
            yield _change(one, key, now, then, whys[key][now < then], band[2])


def _usage_band(policy: Policy, thresholds: Sequence[Threshold]) -> tuple[float, float, str] | None:
    """Return decode's KV-cache usage to grow above and to shrink below, and its evidence; None if unknown.

    That of the policy where it follows this signal, else of the threshold that was derived for it.
    """
    led = next((p.target_per_instance for p in policy.primaries if (p.signal, p.role) == USAGE), None)
    band = policy.hysteresis.get("decode")
    if led is not None and led.value and band is not None:
        return led.value * band.scale_out_ratio, led.value * band.scale_in_ratio, led.evidence
    own = next((t for t in thresholds if (t.signal, t.role) == USAGE and t.gpu_type is None), None)
    if own is None or not own.target_per_instance or not own.scale_out_ratio or not own.scale_in_ratio:
        return None
    target = own.target_per_instance
    return target * own.scale_out_ratio, target * own.scale_in_ratio, own.evidence


def _budget(pools: Sequence[CurrentObject], policy: Policy) -> Iterator[Change]:
    """Say a GPU budget below what the pools need together at their largest counts."""
    sized = [(one, policy.bounds[one.role]) for one in pools if one.role in policy.bounds]
    if not sized:
        return
    first = sized[0][0]
    budget = first.numbers.get("max_gpu_budget")
    gpus = {one.role: one.numbers.get(keyed(one.role, "engine_num_gpu")) for one, _ in sized}
    needed = sum(bounds.max * (gpus[one.role] or 1.0) for one, bounds in sized)
    if budget is None or budget < 0 or budget >= needed:
        return
    parts = " and ".join(
        f"{bounds.max} {one.role} engines of {gpus[one.role] or 1.0:g} GPU" for one, bounds in sized
    )
    why = f"room for {parts}, twice the most that ran: a lower cap ends in a queue"
    if not all(gpus.values()):
        why += "; at least, since the file does not say the GPUs of an engine"
    roles = " and ".join(one.role for one, _ in sized)
    yield Change(first.where, "planner", roles, "max_gpu_budget", budget, needed, why)


NOT_WAITING = "counters stop at what a pool serves: what waits says how much more is asked of it"

SAME_NUMBER = 0.01
"""Numbers nearer than this are not worth a change [ratio]."""

SAME_TOLERANCE = 0.02
"""Tolerances nearer than this are not worth a change [ratio]."""


def changes(
    objects: Sequence[CurrentObject], policy: Policy, thresholds: Sequence[Threshold] = ()
) -> tuple[Change, ...]:
    """Return what to change in today's objects to follow a policy, in the order of the objects.

    An object that follows another signal than the policy is told the signal that was chosen, with its target.
    Of a configuration of Dynamo's planner, the only one that needs ``thresholds``, see ``planner_changes``.

    Nothing is said of an HPA or ScaledObject that could not be read, nor under a policy on hold.
    """
    found: list[Change] = []
    planners = {one.where: [o for o in objects if o.where == one.where] for one in objects}
    for one in objects:
        if one.kind == DYNAMO and policy.mode == "metric":
            found += planner_changes(planners.pop(one.where, ()), policy, thresholds)
        parameters = one.parameters.hpa if isinstance(one.parameters, Keda) else one.parameters
        if isinstance(parameters, hpa.Hpa) and policy.mode == "metric":
            found += _of_object(one, parameters, policy)
    return tuple(found)


def _of_object(one: CurrentObject, parameters: hpa.Hpa, policy: Policy) -> Iterator[Change]:
    def change(item: str, now: Any, then: Any, why: str, evidence: str = "") -> Change:
        return Change(one.where, one.name, one.role, item, now, then, why, evidence)

    keda = one.parameters if isinstance(one.parameters, Keda) else None
    wanted = _wanted(one.role, policy, "keda" if keda else "hpa")
    if wanted is not None:
        yield from _target(one, wanted.metrics[0], policy, change)
    least, most = (
        (keda.min_replica_count, keda.max_replica_count)
        if keda
        else (parameters.min_replicas, parameters.max_replicas)
    )
    bounds = policy.bounds.get(one.role)
    if bounds is not None:
        if least != bounds.min:
            yield change("min", least, bounds.min, "the least that the history ever needed")
        if most != bounds.max:
            why = "a lower cap ends in a queue" if most < bounds.max else "no load of the history needs more"
            yield change("max", most, bounds.max, f"twice the most that ran: {why}")
    if keda is not None and keda.ignore_null_values:
        why = "an empty answer of Prometheus counts as zero load and scales in (kedacore/keda#3065)"
        yield change("ignoreNullValues", "true", "false", why)
    if wanted is not None:
        yield from _dynamics(one.role, parameters, wanted, policy, change)


def _wanted(role: str, policy: Policy, controller: Literal["keda", "hpa"]) -> hpa.Hpa | None:
    """Return metric and rules with which a controller follows the policy in a pool; None for none."""
    control = control_of(replace(policy, controller=controller))
    found = control.pools.get(role) if isinstance(control, Autoscaler) else None
    return found.hpa if isinstance(found, Keda) else found


def _target(one: CurrentObject, wanted: hpa.Metric, policy: Policy, change: Any) -> Iterator[Change]:
    signal, _, measured = wanted.signal.partition("@")
    source = (signal, measured or one.role)
    primary = next(p for p in policy.primaries if (p.signal, p.role) == source)
    evidence = primary.target_per_instance.evidence
    beside = {key_of(other.signal, one.role) for other in wanted.others}
    alone = [read for read in one.metrics if not read.others]
    whole = [read for read in one.metrics if {(o.signal, o.role) for o in read.others} == beside]
    same = [read for read in (*whole, *alone) if (read.signal, read.role) == source]
    if not same:
        now = ", ".join(read.name for read in one.metrics) or "nothing that was read"
        why = f"{'@'.join(source)} was chosen: at {wanted.target:.4g} {primary.unit} per instance"
        yield change("metric", now, "@".join(source), why, evidence)
        return
    yield from _number(same[0], wanted.target, evidence, change)
    if same[0] not in whole:
        then = " + ".join(["@".join(source), *("@".join(key) for key in sorted(beside))])
        yield change("metric", same[0].name, then, NOT_WAITING, evidence)


def _number(read: MetricRead, target: float, evidence: str, change: Any) -> Iterator[Change]:
    if read.kind != "Value" and abs(read.target / target - 1.0) > SAME_NUMBER:
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


def _dynamics(
    role: str, parameters: hpa.Hpa, wanted: hpa.Hpa, policy: Policy, change: Any
) -> Iterator[Change]:
    sides = (("scaleDown", wanted.down), ("scaleUp", wanted.up))
    for (side, rules), now in zip(sides, parameters.tolerances, strict=True):
        then = rules.tolerance
        if then is not None and abs(now - then) > SAME_TOLERANCE:
            why = "narrower than the signal's noise" if now < then else "the signal is quieter than that"
            band = policy.hysteresis.get(role)
            yield change(f"{side}.tolerance", now, then, why, band.evidence if band else "")
    now, then = parameters.down.stabilization_s, wanted.down.stabilization_s
    if parameters.down.select != "Disabled" and now < then * (1.0 - SAME_NUMBER):
        why = "shorter than the policy looks back: load that returns finds its instances gone"
        yield change("scaleDown.stabilizationWindowSeconds", now, then, why)

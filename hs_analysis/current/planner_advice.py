"""Which number of a configuration of Dynamo's planner to change, to what, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hs_analysis.current.dynamo import LATENCIES, LOAD_KEYS, keyed
from hs_analysis.current.model import Change, CurrentObject
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

"""HPA, KEDA and Kthena one controller and one sync at a time: slow, obvious, the measure of the batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hs_analysis.controllers.hpa import Hpa, Metric, RatePolicy, Tolerances
from hs_analysis.controllers.keda import Keda
from hs_analysis.controllers.kthena import Kthena, RatioConstraint

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at the start of a row; only the first ``rows`` readings have happened, NaN = not scraped.

    ``parts`` are means of equal parts of each row, where they are known; a look is in the middle of the last
    row, after ``come`` of its parts.
    """

    role: str
    t_s: float
    window_s: float
    desired: int
    ready: float
    readings: Mapping[str, Sequence[float]]
    rows: int
    parts: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    come: int = 0

    def looks(self, count: int) -> list[PoolView]:
        """Return what is seen at evenly spaced looks of the last row, the last one at its end."""
        parts = max((len(rows[-1]) for rows in self.parts.values() if rows), default=1)
        if parts % count:
            return [self] * count
        return [replace(self, come=parts * look // count) for look in range(1, count)] + [self]

    def mean(self, signal: str, seconds: float) -> float | None:
        """Return the mean of the known values of the last ``seconds``."""
        values = self.readings.get(signal)
        if values is None:
            return None
        reach = max(1, round(seconds / self.window_s))
        if self.come and self.rows > reach:
            part = [one for row in self.parts[signal][self.rows - reach - 1 : self.rows] for one in row]
            each = len(self.parts[signal][-1])
            part = part[self.come : self.come + reach * each]
            if not math.isnan(sum(part)):
                return max(sum(part), 0.0) / len(part)
        known = [v for v in values[max(0, self.rows - reach) : self.rows] if not math.isnan(v)]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Reply:
    """The count asked for and what to remember."""

    count: int
    memory: Any


def round_up(instances: float) -> int:
    """Return the least whole number that is enough."""
    return math.ceil(instances * (1 - ROUNDING))


def value_of(metric: Metric, view: PoolView, empty: float | None = None) -> float | None:
    """Return what a metric reads; ``empty`` where nothing was scraped."""
    first = view.mean(metric.signal, metric.averaging_s)
    if metric.surge:
        fresh = view.mean(metric.signal, metric.surge.window_s)
        first = fresh if fresh and first is not None and fresh > metric.surge.above_ratio * first else first
    readings = [first]
    for one in metric.others:
        value = view.mean(one.signal, one.averaging_s)
        readings.append(None if value is None else one.weight * value)
    if metric.each:
        readings = [empty if value is None else value for value in readings]
    known = [value for value in readings if value is not None]
    if len(known) < len(readings):
        return empty
    return {"sum": sum, "max": max, "min": min}[metric.how](known)


@dataclass(frozen=True, slots=True)
class HpaMemory:
    """Recommendations and own changes, (time [Unix s], instances); the first is the count that was found."""

    recommended: tuple[tuple[float, int], ...]
    changes: tuple[tuple[float, int], ...] = ()


def decide_hpa(parameters: Hpa, view: PoolView, memory: HpaMemory | None) -> Reply:
    """Ask for the count of one HorizontalPodAutoscaler."""
    seen = view.looks(max(1, round(view.window_s / parameters.sync_s)))
    values = [[value_of(metric, look) for metric in parameters.metrics] for look in seen]
    return decide_on(parameters, [recommendation(parameters, one, view) for one in values], view, memory)


def decide_on(
    parameters: Hpa, asked: Sequence[int | None], view: PoolView, memory: HpaMemory | None
) -> Reply:
    """Ask for a count, given the recommendation of each sync of the row."""
    memory = memory or HpaMemory(((view.t_s, view.desired),))
    count, least, most = view.desired, parameters.min_replicas, parameters.max_replicas
    for sync, wanted in enumerate(asked):
        t_s = view.t_s + sync * parameters.sync_s
        before = count
        if before == 0 and least > 0:
            continue
        if before > most or before < least:
            count = most if before > most else least
        elif wanted is not None:
            count = _stabilised(parameters, wanted, before, t_s, memory)
            count = _limited(parameters, count, before, t_s, memory)
            count = min(max(count, least), most)
            memory = replace(memory, recommended=(*memory.recommended, (t_s, wanted)))
        if count != before:
            memory = replace(memory, changes=(*memory.changes, (t_s, count - before)))
    return Reply(count, memory)


def recommendation(parameters: Hpa, values: Sequence[float | None], view: PoolView) -> int | None:
    """Return the largest count of the metrics that can be read; None when it can't be told."""
    counts = [
        _of_metric(metric, value, view, parameters.tolerances)
        for metric, value in zip(parameters.metrics, values, strict=True)
    ]
    known = [count for count in counts if count is not None]
    if not known or (len(known) < len(counts) and max(known) < view.desired):
        return None
    return max(known)


def _of_metric(metric: Metric, value: float | None, view: PoolView, tolerance: Tolerances) -> int | None:
    if value is None or not math.isfinite(value):
        return None
    current, ready = view.desired, max(1, min(view.desired, int(view.ready + 1e-9)))
    if current == 0:
        if metric.kind == "Pods":
            return None
        return max(1, round_up(value / metric.target)) if value > 0 else 0
    if metric.kind == "AverageValue":
        near = _near(value / metric.target / current, tolerance)
        return current if near else round_up(value / metric.target)
    if metric.kind == "Value":
        ratio = value / metric.target
        return current if _near(ratio, tolerance) else round_up(ratio * ready)
    return replicas_for([value] * ready, current - ready, metric.target, current, tolerance)


def replicas_for(
    metrics: Sequence[float | None],
    unready: int,
    target: float,
    current: int,
    tolerance: Tolerances = (0.1, 0.1),
) -> int:
    """Return the count for a metric of single pods, each known or None."""
    known = [value for value in metrics if value is not None]
    missing = len(metrics) - len(known)
    ratio = sum(known) / len(known) / target
    rebalance = unready > 0 and ratio > 1
    if not missing and not rebalance:
        return current if _near(ratio, tolerance) else round_up(ratio * len(known))
    pods = len(known) + missing + (unready if rebalance else 0)
    new = (sum(known) + (missing * target if ratio < 1 else 0.0)) / pods / target
    if _near(new, tolerance) or (ratio < 1) != (new < 1):
        return current
    count = round_up(new * pods)
    return current if (new < 1) == (count > current) else count


def _near(ratio: float, tolerance: Tolerances) -> bool:
    down, up = tolerance
    return 1.0 - down - 1e-12 <= ratio <= 1.0 + up + 1e-12


def _stabilised(parameters: Hpa, wanted: int, current: int, t_s: float, memory: HpaMemory) -> int:
    """Take the lowest recommendation of the scale-up window, the highest of the scale-down window."""
    up = [count for t, count in memory.recommended if t_s - t < parameters.up.stabilization_s]
    down = [count for t, count in memory.recommended if t_s - t < parameters.down.stabilization_s]
    return min(max(current, min([wanted, *up])), max([wanted, *down]))


def _limited(parameters: Hpa, wanted: int, current: int, t_s: float, memory: HpaMemory) -> int:
    """Hold the rate policies of the direction taken."""
    if wanted == current:
        return current
    up = wanted > current
    rules = parameters.up if up else parameters.down
    if rules.select == "Disabled":
        return current
    ends = [_end_of(policy, current, t_s, memory, up=up) for policy in rules.policies]
    widest = rules.select == "Max"
    if up:
        return max(current, min(wanted, max(ends) if widest else min(ends))) if ends else wanted
    return min(current, max(wanted, min(ends) if widest else max(ends))) if ends else wanted


def _end_of(policy: RatePolicy, current: int, t_s: float, memory: HpaMemory, *, up: bool) -> int:
    """Return the count a policy allows, counted from where its period began."""
    began = current - sum(change for t, change in memory.changes if t_s - t < policy.period_s)
    sign = 1 if up else -1
    if policy.kind == "Pods":
        return began + sign * policy.value
    exact = began * (1 + sign * (policy.value / 100))
    return math.ceil(exact) if up else math.trunc(exact)


@dataclass(frozen=True, slots=True)
class KedaMemory:
    """The HPA's memory, failures in a row of each trigger, and when one was last active [Unix s]."""

    hpa: HpaMemory | None = None
    failures: tuple[int, ...] = ()
    active_s: float | None = None


def decide_keda(parameters: Keda, view: PoolView, memory: KedaMemory | None) -> Reply:
    """Ask for the count of one ScaledObject."""
    metrics = parameters.hpa.metrics
    memory = memory or KedaMemory(failures=(0,) * len(metrics), active_s=view.t_s)
    empty = 0.0 if parameters.ignore_null_values else None
    values = [value_of(metric, view, empty) for metric in metrics]
    asked = max(1, round(view.window_s / parameters.polling_interval_s))
    if view.desired > 0:
        asked += max(1, round(view.window_s / parameters.hpa.sync_s))
    failures = tuple(
        count + asked if value is None else 0 for count, value in zip(memory.failures, values, strict=True)
    )
    fallback = parameters.fallback
    fallen = [
        value is None and fallback is not None and count > fallback.failure_threshold and m.kind != "Pods"
        for value, count, m in zip(values, failures, metrics, strict=True)
    ]
    active = any(fallen) or any(v is not None and v > parameters.activation_threshold for v in values)
    error = any(value is None and not down for value, down in zip(values, fallen, strict=True))
    least, idle = parameters.min_replica_count, parameters.idle_replica_count
    memory = replace(memory, failures=failures)
    if active:
        if view.desired == 0 or (idle is not None and view.desired < least):
            return Reply(max(1, least), replace(memory, active_s=view.t_s))
        if not error:
            memory = replace(memory, active_s=view.t_s)
    elif not error or (fallback is not None and fallback.replicas == 0):
        rest = 0 if idle is None else idle
        awake = view.desired > rest if idle is not None else view.desired > 0 and least == 0
        if awake and view.t_s - (memory.active_s or 0.0) >= parameters.cooldown_period_s:
            return Reply(rest, memory)
        if idle is None and view.desired < least:
            return Reply(least, memory)
    scaler = replace(parameters.hpa, min_replicas=max(1, least), max_replicas=parameters.max_replica_count)
    wanted = []
    for look in view.looks(max(1, round(view.window_s / scaler.sync_s))):
        values = [
            _fallback_value(parameters, metric, view) if down else value_of(metric, look, empty)
            for metric, down in zip(metrics, fallen, strict=True)
        ]
        wanted.append(recommendation(scaler, values, view))
    answer = decide_on(scaler, wanted, view, memory.hpa)
    return Reply(answer.count, replace(memory, hpa=answer.memory))


def _fallback_value(parameters: Keda, metric: Metric, view: PoolView) -> float | None:
    """Return the value that makes the HPA ask for the fallback's count."""
    assert parameters.fallback is not None
    replicas = parameters.fallback.replicas
    wanted = {
        "static": replicas,
        "currentReplicas": view.desired,
        "currentReplicasIfHigher": max(view.desired, replicas),
        "currentReplicasIfLower": min(view.desired, replicas),
    }[parameters.fallback.behavior]
    if metric.kind == "AverageValue":
        return metric.target * wanted
    ready = min(view.desired, int(view.ready + 1e-9))
    return metric.target * wanted / ready if ready else None


@dataclass(frozen=True, slots=True)
class KthenaMemory:
    """Recommendations and counts after limits, (time [Unix s], instances), and the end of panic [Unix s]."""

    recommended: tuple[tuple[float, int], ...] = ()
    corrected: tuple[tuple[float, int], ...] = ()
    panic_until_s: float = -math.inf


def decide_kthena(parameters: Kthena, view: PoolView, memory: KthenaMemory | None) -> Reply:
    """Ask for the count of one role, before the ratio is looked at: the decisions of a row."""
    reply = Reply(view.desired, memory or KthenaMemory())
    syncs = max(1, round(view.window_s / parameters.sync_s))
    for sync, look in enumerate(view.looks(syncs)):
        t_s = view.t_s + sync * view.window_s / syncs
        reply = decide_kthena_once(parameters, replace(look, desired=reply.count, t_s=t_s), reply.memory)
    return reply


def decide_kthena_once(parameters: Kthena, view: PoolView, memory: KthenaMemory) -> Reply:
    """Ask for a count once; without a metric nothing is decided or remembered."""
    t_s, current, least, most = view.t_s, view.desired, parameters.min_replicas, parameters.max_replicas
    if least == most:
        return Reply(least, memory)
    wanted = least if current < least else most if current > most else _kthena_wanted(parameters, view)
    if wanted is None:
        return Reply(current, memory)
    wanted = min(max(wanted, least), most)
    panics, until = t_s < memory.panic_until_s, memory.panic_until_s
    threshold, hold_s = parameters.panic_threshold, parameters.panic_hold_s
    if threshold and hold_s and wanted >= current * threshold:
        panics, until = True, t_s + hold_s
    if panics:
        past = min(held_in(memory.corrected, t_s, parameters.panic_period_s, current))
        limit = (
            past + past * parameters.panic_percent // 100 if parameters.panic_period_s and past else wanted
        )
        count = max(current, min(wanted, limit))
    else:
        count = _kthena_limited(parameters, wanted, current, t_s, memory)
    count = min(max(count, least), most)
    return Reply(
        count,
        KthenaMemory((*memory.recommended, (t_s, wanted)), (*memory.corrected, (t_s, count)), until),
    )


def _kthena_wanted(parameters: Kthena, view: PoolView) -> int | None:
    found = []
    for metric in parameters.metrics:
        value = value_of(metric, view)
        if value is None or not math.isfinite(value):
            continue
        share = value / metric.target
        near = view.desired > 0 and _near(share / view.desired, (parameters.tolerance,) * 2)
        found.append(view.desired if near else round_up(share))
    return max(found) if found else None


def held_in(corrected: Sequence[tuple[float, int]], t_s: float, period_s: float, current: int) -> list[int]:
    """Return the counts that held within a period before now, the current one among them."""
    found = [current]
    for place, (begin_s, count) in enumerate(corrected):
        end_s = corrected[place + 1][0] if place + 1 < len(corrected) else None
        if end_s is None:
            inside = t_s - begin_s < 2 * period_s
        else:
            inside = t_s - end_s < period_s and end_s - begin_s < 2 * period_s
        found += [count] if inside else []
    return found


def _kthena_limited(parameters: Kthena, wanted: int, current: int, t_s: float, memory: KthenaMemory) -> int:
    if wanted == current:
        return current
    up = wanted > current
    rules, best = (parameters.up, min) if up else (parameters.down, max)
    seen = [count for t, count in memory.recommended if t_s - t < rules.stabilization_s]
    count = best([wanted, *seen])
    period_s = max((policy.period_s for policy in rules.policies), default=0.0)
    if rules.select == "Disabled":
        return current
    if rules.policies and period_s:
        past = best(held_in(memory.corrected, t_s, period_s, current))
        changes = [
            policy.value if policy.kind == "Pods" else past * policy.value // 100 for policy in rules.policies
        ]
        change = max(changes) if rules.select == "Max" else min(changes)
        count = min(count, past + change) if up else max(count, past - change)
    return max(current, count) if up else min(current, count)


def within_ratio(counts: Mapping[str, int], constraint: RatioConstraint) -> dict[str, int]:
    """Return counts after Kthena's repair of the ratio."""
    (p_least, p_most), (d_least, d_most) = constraint.prefill, constraint.decode
    prefill = min(max(counts["prefill"], p_least), p_most)
    decode = min(max(counts["decode"], d_least), d_most)
    if prefill or decode:
        prefill = prefill or min(max(1, p_least), p_most)
        decode = decode or min(max(1, d_least), d_most)
        ratio = prefill / decode
        if ratio < constraint.low:
            prefill = math.ceil(constraint.low * decode)
            if prefill > p_most:
                prefill, decode = p_most, math.floor(p_most / constraint.low)
        elif ratio > constraint.high:
            decode = math.ceil(prefill / constraint.high)
            if decode > d_most:
                prefill, decode = math.floor(constraint.high * d_most), d_most
    found = {"prefill": min(max(prefill, p_least), p_most), "decode": min(max(decode, d_least), d_most)}
    return {**counts, **found}


DECIDE = {Hpa: decide_hpa, Keda: decide_keda, Kthena: decide_kthena}


@dataclass
class Controller:
    """One controller of the reference with its memory."""

    parameters: Hpa | Keda | Kthena
    memory: Any = field(default=None)

    def step(self, view: PoolView) -> int:
        """Ask for a count."""
        reply = DECIDE[type(self.parameters)](self.parameters, view, self.memory)  # type: ignore[operator]
        self.memory = reply.memory
        return reply.count

    def copy(self) -> Controller:
        """Return the same with the same memory, which is never changed in place."""
        return Controller(self.parameters, self.memory)

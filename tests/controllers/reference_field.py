"""AIBrix's and Dynamo's rules for one pool in plain Python: what the batches of lanes have to decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hs_analysis.controllers.aibrix import Apa, Kpa
from hs_analysis.controllers.dynamo import DECODE_LIMITS, PREFILL_LIMITS, DynamoLoad, DynamoThroughput
from hs_analysis.controllers.lanes import ROUNDING

History = tuple[tuple[float, int], ...]
"""(time [Unix s], recommendation) within the longer cooldown window."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at the start of a row, from completed rows only.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    t_s, window_s
        Time of the decision [Unix s] and time to the next one [s].
    desired
        Instances asked for now.
    ready
        Instances able to serve now.
    readings
        Per signal, one value a row [unit of the signal], NaN where nothing was scraped; only the first
        ``rows`` entries have happened.
    rows
        Completed rows.
    """

    role: str
    t_s: float
    window_s: float
    desired: int
    ready: float
    readings: Mapping[str, Sequence[float]]
    rows: int

    def last(self, signal: str) -> float | None:
        """Return the value of the last completed row; None when it brought none."""
        values = self.readings.get(signal)
        if values is None or self.rows == 0 or math.isnan(values[self.rows - 1]):
            return None
        return values[self.rows - 1]

    def mean(self, signal: str, seconds: float) -> float | None:
        """Return the mean of the known values of the last ``seconds``; None when there is none.

        As a range query answers: a gap shorter than the range is bridged, a longer one is not.
        """
        values = self.readings.get(signal)
        if values is None:
            return None
        reach = max(1, round(seconds / self.window_s))
        known = [v for v in values[max(0, self.rows - reach) : self.rows] if not math.isnan(v)]
        return sum(known) / len(known) if known else None

    def highest(self, signal: str, seconds: float) -> PoolView:
        """Return the same with, at the end of each row, the highest known value of the last ``seconds``."""
        values, reach = self.readings[signal], max(1, round(seconds / self.window_s))
        found = []
        for end in range(1, self.rows + 1):
            known = [v for v in values[max(0, end - reach) : end] if not math.isnan(v)]
            found.append(max(known, default=math.nan))
        return replace(self, readings={signal: found})


@dataclass(frozen=True, slots=True)
class Reply:
    """The count a controller asks for, what it wants to remember, and why."""

    count: int
    memory: Any
    reason: str = ""


def round_up(instances: float) -> int:
    """Return the least whole number that is enough; float noise adds none."""
    return math.ceil(instances * (1 - ROUNDING))


@dataclass(frozen=True, slots=True)
class ApaMemory:
    """Use per pod of each cycle, recommendations, and whether any value was ever found."""

    used: tuple[tuple[float, float], ...] = ()
    history: History = ()
    seen: bool = False


def cycles(view: PoolView) -> list[float]:
    """Return the times of AIBrix' decisions in a row [Unix s]."""
    count = max(1, round(view.window_s / 10.0))
    return [view.t_s + place * view.window_s / count for place in range(count)]


def decide_apa(parameters: Apa, view: PoolView, memory: ApaMemory | None) -> Reply:
    """Ask for current × use ÷ target outside the tolerances, at most doubled or halved a cycle."""
    memory = memory or ApaMemory()
    value, current, used, history = view.last(parameters.signal), view.desired, memory.used, memory.history
    seen = memory.seen or value is not None
    for t_s in cycles(view):
        if not parameters.min_replicas <= current <= parameters.max_replicas:
            current = 0 if current == 0 else _bounded(current, parameters)
            continue
        if not seen:
            continue
        share = 1.0 if parameters.total else min(view.ready, view.desired)
        used = (*used, (t_s, (value or 0.0) * share / max(1, current)))
        within = [use for t, use in used if t_s - t <= parameters.observe_window_s + 1e-9]
        ratio = sum(within) / len(within) / parameters.target
        goal = current
        if ratio > 1 + parameters.up_tolerance:
            goal = min(round_up(current * ratio), math.ceil(parameters.max_scale_up_rate * current))
        elif ratio < 1 - parameters.down_tolerance:
            goal = max(round_up(current * ratio), math.floor(current / parameters.max_scale_down_rate))
        current, history = _cooled(_bounded(goal, parameters), current, t_s, history, parameters)
    return Reply(current, ApaMemory(used, history, seen), f"{parameters.signal} of {value}")


def decide_kpa(parameters: Kpa, view: PoolView, memory: History | None) -> Reply:
    """Ask for what the stable window needs, in panic for what the larger of both windows needs."""
    history, current = memory or (), view.desired
    view = view.highest(parameters.signal, parameters.highest_s)
    stable = view.mean(parameters.signal, parameters.stable_window_s)
    panic = view.mean(parameters.signal, parameters.panic_window_s)
    known = view.last(parameters.signal) is not None
    for t_s in cycles(view):
        if not parameters.min_replicas <= current <= parameters.max_replicas:
            current = 0 if current == 0 else _bounded(current, parameters)
            continue
        if not known:
            continue
        assert stable is not None
        assert panic is not None
        most = max(1, math.ceil(parameters.max_scale_up_rate * current))
        least = math.floor(current / parameters.max_scale_down_rate)
        calm, urgent = (
            min(max(_needed(value, current, parameters), least), most) for value in (stable, panic)
        )
        panics = stable <= 0 or panic / stable > parameters.panic_threshold
        goal = max(calm, urgent) if panics else calm
        current, history = _cooled(_bounded(goal, parameters), current, t_s, history, parameters)
    return Reply(current, history, f"{stable} and {panic}")


def _needed(value: float, current: int, parameters: Kpa) -> int:
    low, high = 1 - parameters.down_tolerance, 1 + parameters.up_tolerance
    near = parameters.target * low <= value <= parameters.target * high
    return current if near else round_up(value / parameters.target)


def _bounded(count: int, parameters: Apa | Kpa) -> int:
    return min(max(count, parameters.min_replicas), parameters.max_replicas)


def _cooled(
    goal: int, current: int, t_s: float, history: History, parameters: Apa | Kpa
) -> tuple[int, History]:
    """Take the extreme recommendation of the direction's window."""
    seen = (*history, (t_s, goal))
    if goal == current:
        return current, seen
    window_s = parameters.up_cooldown_s if goal > current else parameters.down_cooldown_s
    inside = [n for t, n in seen if t_s - t < window_s - 1e-9 or t == t_s]
    return (max(inside) if goal > current else min(inside)), seen


def decide_load(parameters: DynamoLoad, view: PoolView, memory: None) -> Reply:
    """Add or remove one worker past the thresholds; observe only while workers are starting."""
    value, current = view.last(parameters.signal), view.desired
    if value is None:
        return Reply(current, memory, f"{parameters.signal} is missing: hold")
    if view.ready < current - 1e-6:
        return Reply(current, memory, "scaling in progress: hold")
    if view.role == "prefill":
        whole = 1.0 if parameters.limits else parameters.context_tokens
        if not whole:
            return Reply(current, memory, "context length is not known: hold")
        level = value / max(1.0, view.ready) / whole
        above, below = parameters.limits or PREFILL_LIMITS[parameters.optimization_target]
        out, idle = level >= above, level < below or level <= 0.0
    else:
        level = value
        above, below = parameters.limits or DECODE_LIMITS[parameters.optimization_target]
        out, idle = level > above, level < below
    goal = current + 1 if out else current - 1 if idle else current
    count = min(max(goal, parameters.min_endpoint), max(parameters.max_replicas, current))
    return Reply(count, memory, f"{parameters.signal} stands at {level:.2f}, limits {above:g} and {below:g}")


def decide_throughput(parameters: DynamoThroughput, view: PoolView, memory: float | None) -> Reply:
    """Size the pool once an interval for the demand of the last one."""
    current = view.desired
    if memory is not None and view.t_s - memory < parameters.adjustment_s - 1e-6:
        return Reply(current, memory)
    value = view.mean(parameters.signal, parameters.adjustment_s)
    if value is None:
        return Reply(current, memory, f"{parameters.signal} is missing: hold")
    wanted = max(round_up(value / parameters.per_engine), parameters.min_endpoint)
    return Reply(min(wanted, parameters.max_replicas), view.t_s, f"predicted demand needs {wanted}")


DECIDE = {
    Apa: decide_apa,
    Kpa: decide_kpa,
    DynamoLoad: decide_load,
    DynamoThroughput: decide_throughput,
}
"""Rule of each type of parameters."""

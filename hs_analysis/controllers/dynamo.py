"""NVIDIA Dynamo's planner: load-based thresholds, and throughput-based sizing by engine capacity.

After https://docs.nvidia.com/dynamo/latest/components/planner/planner-guide and the planner's sources as of
1.2 to 1.6. Load-based scaling here is the mode of static thresholds (optimisation targets ``throughput``
and ``latency``); the ``sla`` target needs the engine's own measurements per forward pass, which metrics
don't hold. The default predictor of throughput-based scaling is ARIMA; the documented ``constant`` one (the
next interval is as the last) is modelled. Its demand is what the front end *completed*, so that an overload
hides itself. Workers of a pool are alike in the replay, so that "any" and "all" of them are the mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hs_analysis.controllers.lanes import (
    BOUND,
    GROWS,
    HOLDS,
    MISSING,
    NOTHING,
    SHRINKS,
    STARTING,
    ByLane,
    Fleet,
    Key,
    PerLane,
    PoolOrders,
    documented,
    key_of,
    round_up,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask

DOC = "https://docs.nvidia.com/dynamo/latest/components/planner/planner-guide"
SOURCES = "https://github.com/ai-dynamo/dynamo, components/src/dynamo/planner"

PREFILL_LIMITS = {"throughput": (1.0, 0.1), "latency": (0.1, 0.0)}
"""Queued prefill tokens of a worker ÷ context length: out at or above, in below (at zero for latency)."""

DECODE_LIMITS = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}
"""KV-cache usage of a worker with its queue: out above, in below."""


@dataclass(frozen=True)
class DynamoLoad:
    """Load-based scaling of one pool by one worker at a time.

    ``context_tokens`` is the engine's context length; only prefill needs it. ``limits`` are thresholds set by
    hand (optimisation target ``load``), out above the first and in below the second: queued prefill tokens of
    a worker, or its KV-cache usage.
    """

    signal: str
    context_tokens: float | None = None
    limits: tuple[float, float] | None = field(
        default=None, metadata=documented("tokens, or ratio of the KV cache", DOC)
    )
    optimization_target: Literal["throughput", "latency"] = field(
        default="throughput", metadata=documented("", DOC)
    )
    min_endpoint: int = field(default=1, metadata=documented("instances", SOURCES))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "max_gpu_budget ÷ GPUs of a worker; 8 GPUs by default")
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


@dataclass(frozen=True)
class DynamoThroughput:
    """Throughput-based scaling of one pool: predicted demand ÷ what an engine carries within the SLA."""

    signal: str
    per_engine: float
    adjustment_s: float = field(default=180.0, metadata=documented("s", SOURCES))
    min_endpoint: int = field(default=1, metadata=documented("instances", SOURCES))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "max_gpu_budget ÷ GPUs of a worker; 8 GPUs by default")
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


def structure(parameters: DynamoLoad | DynamoThroughput) -> Hashable:
    """Return what parameters have to have in common to share a batch."""
    return parameters.signal


class DynamoLoadBatch(PerLane):
    """Load-based scaling in many lanes: one worker past the thresholds, and none while workers start."""

    def __init__(self, parameters: Sequence[DynamoLoad], role: str) -> None:
        self._role, self._key = role, key_of(parameters[0].signal, role)
        table = PREFILL_LIMITS if role == "prefill" else DECODE_LIMITS
        limits = [one.limits or table[one.optimization_target] for one in parameters]
        self._above, self._below = np.array(limits, float).T
        # Tokens of a worker that count 1: its context length, unknown = 0, or a token where limits are set.
        self._whole = np.array([1.0 if one.limits else one.context_tokens or 0.0 for one in parameters])
        self._least = np.array([one.min_endpoint for one in parameters], float)
        self._most = np.array([one.max_replicas for one in parameters], float)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]: the newest row."""
        return 0.0

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane."""
        value, current = fleet.scraped.last(self._key), fleet.desired[self._role]
        ready = fleet.ready[self._role]
        missing = np.isnan(value)
        if self._role == "prefill":
            missing |= self._whole == 0
            level = value / np.maximum(1.0, ready) / np.where(self._whole == 0, np.nan, self._whole)
            out, idle = level >= self._above, (level < self._below) | (level <= 0.0)
        else:
            out, idle = value > self._above, value < self._below
        starting = ready < current - 1e-6
        goal = np.where(out, current + 1, np.where(idle, current - 1, current))
        after = np.minimum(np.maximum(goal, self._least), np.maximum(self._most, current))
        held = missing | starting
        count = np.where(held, current, after)
        code = np.where(missing, MISSING, np.where(starting, STARTING, _moved(goal, count, current)))
        return PoolOrders(count, code, np.where(held, np.nan, goal))


class DynamoThroughputBatch(PerLane):
    """Throughput-based scaling in many lanes: once an interval, for the demand of the last one."""

    def __init__(self, parameters: Sequence[DynamoThroughput], role: str) -> None:
        self._role, self._key = role, key_of(parameters[0].signal, role)
        self._per_engine = np.array([one.per_engine for one in parameters], float)
        self._adjustment_s = np.array([one.adjustment_s for one in parameters], float)
        self._interval = ByLane(self._adjustment_s.tolist())
        self._least = np.array([one.min_endpoint for one in parameters], float)
        self._most = np.array([one.max_replicas for one in parameters], float)
        self._decided_s = np.full(len(parameters), -np.inf)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that it needs."""
        return (self._key,)

    @property
    def reach_s(self) -> float:
        """How far back it reads [s]."""
        return self._interval.longest_s

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane whose interval is over."""
        current, t_s = fleet.desired[self._role], fleet.t_s
        due = t_s - self._decided_s >= self._adjustment_s - 1e-6
        value = self._interval.read(lambda seconds: fleet.scraped.mean(self._key, seconds))
        acts = due & ~np.isnan(value)
        goal = round_up(value / self._per_engine)
        count = np.where(acts, np.minimum(np.maximum(goal, self._least), self._most), current)
        self._decided_s = np.where(acts, t_s, self._decided_s)
        code = np.where(acts, _moved(goal, count, current), np.where(due, MISSING, NOTHING))
        return PoolOrders(count, code, np.where(acts, goal, np.nan))


def _moved(goal: Floats, count: Floats, current: Floats) -> Integers:
    """Return why a count is asked for: its direction, or the bound that stopped it."""
    code = np.where(count > current, GROWS, np.where(count < current, SHRINKS, HOLDS))
    bounded: Mask = count != goal
    return np.where(bounded, BOUND, code)

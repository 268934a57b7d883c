"""NVIDIA Dynamo's planner: load-based thresholds, and throughput-based sizing by engine capacity.

After https://docs.nvidia.com/dynamo/latest/components/planner/planner-guide and the planner's sources as of
1.2 to 1.6. Load-based scaling here is the mode of static thresholds (optimisation targets ``throughput``
and ``latency``); the ``sla`` target needs the engine's own measurements per forward pass, which metrics
don't hold. The default predictor of throughput-based scaling is ARIMA; the documented ``constant`` one (the
next interval is as the last) is modelled. Its demand is what the front end *completed*, so that an overload
hides itself. Workers of a pool are alike in the replay, so that "any" and "all" of them are the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hs_analysis.controllers.view import PoolView, Reply, documented, round_up

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

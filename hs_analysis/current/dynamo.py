"""The configuration of Dynamo's planner as parameters of the replay's controllers, one a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.current.model import Known
from hs_analysis.current.targets import quantity
from hs_analysis.errors import InputError
from hs_analysis.replay.controllers.dynamo import DynamoLoad, DynamoThroughput

POOLS = {"disagg": ("prefill", "decode"), "prefill": ("prefill",), "decode": ("decode",), "agg": ("mixed",)}
DEFAULT_BUDGET = 8
"""GPUs that the planner may use where the file does not say [GPUs]; its own default."""

LOAD_KEYS = {
    "prefill": ("prefill_scale_up_queue_tokens", "prefill_scale_down_queue_tokens", 1.0),
    "decode": ("decode_scale_up_kv_rate", "decode_scale_down_kv_rate", 100.0),
}
"""Pool → keys of its thresholds, and the unit they come in: tokens of a worker, percent of its KV cache."""

Read = tuple[str, Any, tuple[str, ...]]
"""Pool, parameters or None, notes."""


def read_planner(body: Mapping[str, Any], known: Known, where: str) -> tuple[Read, ...]:
    """Return the parameters of every pool that the planner scales."""
    mode = str(body.get("mode", "disagg"))
    if mode not in POOLS:
        raise InputError(f"mode {mode!r} is not one of {', '.join(POOLS)}", where=where)
    shared = []
    if body.get("advisory") is True:
        shared.append("advisory is true: today it only advises; replayed as if it acted")
    if "no_operation" in body:
        shared.append("no_operation is no key of the planner any more: it scales for real; use advisory")
    found: list[Read] = []
    for role in POOLS[mode]:
        if role not in known.pools:
            found.append((role, None, (f"the service has no {role} pool",)))
            continue
        parameters, notes = _pool(body, role, known, where)
        found.append((role, parameters, (*shared, *notes)))
    return tuple(found)


def _pool(body: Mapping[str, Any], role: str, known: Known, where: str) -> tuple[Any, tuple[str, ...]]:
    target = str(body.get("optimization_target", "throughput"))
    least, most = _number(body, f"{role}_min_endpoint", 1.0, where), _most(body, role, where)
    bounds: dict[str, Any] = {"min_endpoint": round(least), "max_replicas": most}
    note = f"at most {most}: the GPU budget of both pools, as if this one had it alone"
    if target == "sla":
        if body.get("enable_throughput_scaling") is False:
            return None, ("sla without throughput scaling needs the engine's own measurements",)
        work, per_engine = known.work.get(role), known.targets.get(role)
        if not work or not per_engine:
            return None, (f"no target is known for {role}, and the engine's profile is not in the file",)
        every = _number(body, "throughput_adjustment_interval_seconds", 180.0, where)
        said = "the engine's profile is not in the file: its capacity is the derived target"
        return DynamoThroughput(work, per_engine, every, **bounds), (said, note)
    signal = "queued_tokens" if role == "prefill" else "kv_usage"
    if signal == "kv_usage" and (signal, role) not in known.readable:
        return None, (f"the KV-cache usage of {role} is not in this history",)
    if target == "load" and role in LOAD_KEYS:
        above, below, unit = LOAD_KEYS[role]
        limits = (_number(body, above, None, where) / unit, _number(body, below, None, where) / unit)
        return DynamoLoad(signal, limits=limits, **bounds), (note,)
    if target not in ("throughput", "latency"):
        return None, (f"optimization_target {target} is not read for {role}",)
    if role == "prefill":
        return None, ("prefill thresholds are shares of the engine's context length, which no file says",)
    return DynamoLoad(signal, optimization_target=target, **bounds), (note,)  # type: ignore[arg-type]


def _most(body: Mapping[str, Any], role: str, where: str) -> int:
    each = _number(body, f"{role}_engine_num_gpu", 1.0, where)
    return max(1, int(_number(body, "max_gpu_budget", float(DEFAULT_BUDGET), where) // max(1.0, each)))


def _number(body: Mapping[str, Any], key: str, default: float | None, where: str) -> float:
    if key not in body and default is not None:
        return default
    found = quantity(body.get(key, ""))
    if found is None or found < 0:
        raise InputError(f"{key}: expected a number, found {body.get(key)!r}", where=where)
    return found

"""The configuration of Dynamo's planner as parameters of the replay's controllers, one a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.controllers.dynamo import DynamoLoad, DynamoThroughput
from hs_analysis.current.kubernetes import quantity
from hs_analysis.current.model import Known
from hs_analysis.errors import InputError

POOLS = {"disagg": ("prefill", "decode"), "prefill": ("prefill",), "decode": ("decode",), "agg": ("mixed",)}
SOURCES = "https://github.com/ai-dynamo/dynamo, components/src/dynamo/planner/config"
"""Where the defaults and aliases below are from."""

DEFAULT_BUDGET = 8
"""GPUs that the planner may use where the file does not say [GPUs]; below 0 it has no limit."""

NO_LIMIT = 1_000_000
"""Instances of a pool without a GPU budget: more than any fleet has."""

DEFAULT_LATENCY_MS = {"ttft_ms": 500.0, "itl_ms": 50.0}
"""Goals of ``sla`` where the file does not say [ms]."""

LATENCIES = {"ttft": "ttft_ms", "tbt": "itl_ms"}
"""Latency of a policy → the planner's goal for it."""

ALIASES = {
    "ttft": "ttft_ms",
    "itl": "itl_ms",
    "throughput_adjustment_interval": "throughput_adjustment_interval_seconds",
}
"""Older names of keys that the planner still reads."""

LOAD_KEYS = {
    "prefill": ("prefill_scale_up_queue_tokens", "prefill_scale_down_queue_tokens", 1.0),
    "decode": ("decode_scale_up_kv_rate", "decode_scale_down_kv_rate", 100.0),
}
"""Pool → keys of its thresholds, and the unit they come in: tokens of a worker, percent of its KV cache."""

Read = tuple[str, Any, tuple[str, ...], dict[str, float]]
"""Pool, parameters or None, notes, numbers as ``CurrentObject`` keeps them."""


def read_planner(body: Mapping[str, Any], known: Known, where: str) -> tuple[Read, ...]:
    """Return what every pool that the planner scales is set up with."""
    body = {ALIASES.get(key, key): value for key, value in body.items()}
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
            found.append((role, None, (f"the service has no {role} pool",), {}))
            continue
        parameters, notes = _pool(body, role, known, where)
        found.append((role, parameters, (*shared, *notes), _numbers(body, role, where)))
    return tuple(found)


def keyed(role: str, name: str) -> str:
    """Return the key of a pool's number; an aggregated engine is set up by the keys of decode."""
    return f"{'prefill' if role == 'prefill' else 'decode'}_{name}"


def _least(body: Mapping[str, Any], role: str, where: str) -> float:
    """Return the pool's own least endpoints, else those of both pools, else 1."""
    return _number(body, keyed(role, "min_endpoint"), _number(body, "min_endpoint", 1.0, where), where)


def _numbers(body: Mapping[str, Any], role: str, where: str) -> dict[str, float]:
    """Return the numbers of one pool that may be changed; GPUs of an engine only where the file says them."""
    found = {
        keyed(role, "min_endpoint"): _least(body, role, where),
        "max_gpu_budget": _budget(body, where),
    }
    engine = keyed(role, "engine_num_gpu")
    if body.get(engine) is not None:
        found[engine] = _number(body, engine, None, where)
    target = str(body.get("optimization_target", "throughput"))
    if target == "load" and role in LOAD_KEYS:
        found |= {key: _number(body, key, None, where) for key in LOAD_KEYS[role][:2]}
    if target == "sla":
        keys = {"prefill": ("ttft_ms",), "decode": ("itl_ms",), "mixed": ("ttft_ms", "itl_ms")}[role]
        found |= {key: _number(body, key, DEFAULT_LATENCY_MS[key], where) for key in keys}
    return found


def _pool(body: Mapping[str, Any], role: str, known: Known, where: str) -> tuple[Any, tuple[str, ...]]:
    target = str(body.get("optimization_target", "throughput"))
    least, most = _least(body, role, where), _most(body, role, where)
    bounds: dict[str, Any] = {"min_endpoint": round(least), "max_replicas": most}
    note = f"at most {most}: the GPU budget of both pools, as if this one had it alone"
    if most == NO_LIMIT:
        note = "max_gpu_budget is below 0: no limit"
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
    budget, each = _budget(body, where), _number(body, keyed(role, "engine_num_gpu"), 1.0, where)
    return NO_LIMIT if budget < 0 else max(1, int(budget // max(1.0, each)))


def _budget(body: Mapping[str, Any], where: str) -> float:
    return _number(body, "max_gpu_budget", float(DEFAULT_BUDGET), where, least=-1.0)


def _number(
    body: Mapping[str, Any], key: str, default: float | None, where: str, *, least: float = 0.0
) -> float:
    """Return a number; the default where the key is missing or null."""
    if body.get(key) is None and default is not None:
        return default
    found = quantity(body.get(key, ""))
    if found is None or found < least:
        raise InputError(f"{key}: expected a number, found {body.get(key)!r}", where=where)
    return found

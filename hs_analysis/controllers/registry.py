"""The autoscalers a replay knows: their rules, parameters, what they observe, and how they are sized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hs_analysis.controllers import aibrix, dynamo, hpa, keda, kthena
from hs_analysis.controllers.kthena import RatioConstraint, within_ratio
from hs_analysis.controllers.view import PoolView, Reply

Rule = Callable[[Any, PoolView, Any], Reply]
"""(parameters, what is seen, memory of the answer before, None at first) → the count asked for."""


@dataclass(frozen=True)
class Autoscaler:
    """An autoscaler set up for a service: parameters per pool, and what binds the pools together.

    A pool without parameters keeps its count. The rule is found by the type of the parameters.
    """

    name: str
    pools: Mapping[str, Any]
    together: RatioConstraint | None = None


@dataclass(frozen=True)
class Sizing:
    """What a controller is sized by when nobody says how it is set up.

    Attributes
    ----------
    targets
        Work per instance to steer to, per pool [tokens/s]; None when it is not known.
    work
        Signal that counts a pool's served work; empty when none is recorded.
    readable
        (signal, role) that can be read at counts that never ran.
    bounds
        Least and most instances per pool.
    ratio
        (value, low, high) of prefill ÷ decode; None when it is not known.
    """

    targets: Mapping[str, float | None]
    work: Mapping[str, str]
    readable: frozenset[tuple[str, str]]
    bounds: Mapping[str, tuple[int, int]]
    ratio: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Controller:
    """One autoscaler of the field.

    Attributes
    ----------
    name
        Its row in the replay table.
    title
        What it is, in a few words.
    rule
        Decides one pool.
    parameters
        Dataclass of one pool's parameters; each field with a default says where it is documented.
    observes
        What it looks at, in words.
    source
        Where the algorithm is described.
    size
        Default parameters sized by the derived targets, or the reason why it can't be expressed here.
    """

    name: str
    title: str
    rule: Rule
    parameters: type
    observes: str
    source: str
    size: Callable[[Sizing], Autoscaler | str] = field(repr=False)


def step(
    scaler: Autoscaler, views: Mapping[str, PoolView], memory: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, Any], str]:
    """Let every pool's rule decide, then bind the pools together.

    Returns
    -------
    tuple
        Counts of the pools that have parameters, memories, and the reasons in words.
    """
    answers = {
        role: RULES[type(one)](one, views[role], memory.get(role))
        for role, one in scaler.pools.items()
        if role in views
    }
    counts = {role: answer.count for role, answer in answers.items()}
    reasons = [f"{role}: {answer.reason}" for role, answer in answers.items() if answer.reason]
    if scaler.together is not None and {"prefill", "decode"} <= set(counts):
        bound = within_ratio(counts, scaler.together)
        if bound != counts:
            reasons.append(f"ratio: {bound['prefill']} to {bound['decode']}")
        counts = bound
    return counts, {role: answer.memory for role, answer in answers.items()}, "; ".join(reasons)


def _by_work(sizing: Sizing, name: str, make: Callable[[str, float, int, int], Any]) -> Autoscaler | str:
    """Set up every pool on its own work signal and target: ``make(signal, target, least, most)``."""
    pools = {}
    for role, (least, most) in sizing.bounds.items():
        signal, target = sizing.work.get(role, ""), sizing.targets.get(role)
        if not signal or (signal, role) not in sizing.readable:
            return f"the work of {role} is not recorded"
        if not target:
            return f"no target is known for {role}"
        pools[role] = make(signal, target, least, most)
    return Autoscaler(name, pools)


def _size_hpa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing, "hpa", lambda signal, target, least, most: hpa.Hpa((hpa.Metric(signal, target),), least, most)
    )


def _size_keda(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "keda",
        lambda signal, target, least, most: keda.Keda(
            hpa.Hpa((hpa.Metric(signal, target),)), min_replica_count=least, max_replica_count=most
        ),
    )


def _size_apa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "aibrix_apa",
        lambda signal, target, least, most: aibrix.Apa(signal, target, min_replicas=least, max_replicas=most),
    )


def _size_kpa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "aibrix_kpa",
        lambda signal, target, least, most: aibrix.Kpa(signal, target, min_replicas=least, max_replicas=most),
    )


def _size_dynamo_load(sizing: Sizing) -> Autoscaler | str:
    if "prefill" in sizing.bounds:
        return "its prefill thresholds are shares of the engine's context length, which metrics do not hold"
    missing = [role for role in sizing.bounds if ("kv_usage", role) not in sizing.readable]
    if missing:
        return f"the KV-cache usage of {missing[0]} is not recorded"
    pools = {
        role: dynamo.DynamoLoad("kv_usage", min_endpoint=least, max_replicas=most)
        for role, (least, most) in sizing.bounds.items()
    }
    return Autoscaler("dynamo_load", pools)


def _size_dynamo_throughput(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "dynamo_throughput",
        lambda signal, target, least, most: dynamo.DynamoThroughput(
            signal, target, min_endpoint=least, max_replicas=most
        ),
    )


def _size_kthena(sizing: Sizing) -> Autoscaler | str:
    found = _by_work(
        sizing,
        "kthena",
        lambda signal, target, least, most: kthena.Kthena((hpa.Metric(signal, target),), least, most),
    )
    if isinstance(found, str) or "prefill" not in sizing.bounds or "decode" not in sizing.bounds:
        return found
    if sizing.ratio is None:
        return "no ratio is known to constrain the roles to"
    _, low, high = sizing.ratio
    band = RatioConstraint(low, high, sizing.bounds["prefill"], sizing.bounds["decode"])
    return Autoscaler("kthena", found.pools, band)


CONTROLLERS: tuple[Controller, ...] = (
    Controller(
        "hpa", "Kubernetes HPA with default behaviour", hpa.decide, hpa.Hpa,
        "pool total ÷ target (AverageValue), pods not ready", hpa.DOC, _size_hpa,
    ),
    Controller(
        "keda", "KEDA ScaledObject with default settings", keda.decide, keda.Keda,
        "the same through a Prometheus trigger, where an empty answer counts as zero", keda.DOC, _size_keda,
    ),
    Controller(
        "aibrix_apa", "AIBrix APA", aibrix.decide_apa, aibrix.Apa,
        "pool total per ready pod against its target", aibrix.DOC, _size_apa,
    ),
    Controller(
        "aibrix_kpa", "AIBrix KPA", aibrix.decide_kpa, aibrix.Kpa,
        "pool total over a stable and a panic window", aibrix.DOC, _size_kpa,
    ),
    Controller(
        "dynamo_load", "Dynamo planner, load-based thresholds", dynamo.decide_load, dynamo.DynamoLoad,
        "queued prefill tokens per worker, KV-cache usage", dynamo.DOC, _size_dynamo_load,
    ),
    Controller(
        "dynamo_throughput", "Dynamo planner, throughput-based", dynamo.decide_throughput,
        dynamo.DynamoThroughput, "completed work of the last interval", dynamo.DOC, _size_dynamo_throughput,
    ),
    Controller(
        "kthena", "Kthena with the derived band as ratio constraint", kthena.decide, kthena.Kthena,
        "pool total ÷ target per role, then prefill ÷ decode", kthena.SOURCES, _size_kthena,
    ),
)  # fmt: skip
"""Reactive autoscalers. HeteroScale's rule is ``policy.rule``; fixed counts are ``replay.schedules``."""

RULES: dict[type, Rule] = {row.parameters: row.rule for row in CONTROLLERS}

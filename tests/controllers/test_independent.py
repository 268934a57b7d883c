"""The batches decide what the generator's plain controllers do, which share no code with them.

Those are written from Kubernetes' and KEDA's source and from the policy document's own comments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import StringIO
from random import Random
from typing import Any

import numpy as np
import pytest
from controllers.batches import walk
from ruamel.yaml import YAML
from simulator import autoscalers as plain
from simulator.exported import Scene
from simulator.heteroscale import HeteroScale as PlainRule
from simulator.measures import Looks
from simulator.prometheus import Prometheus
from simulator.steering import Sight

from hs_analysis.controllers.heteroscale import (
    HeteroScale,
    HeteroScaleBatch,
    LatencyGuard,
    PoolRule,
    RatioUpkeep,
)
from hs_analysis.controllers.hpa import Hpa, Metric, Operand, RatePolicy, Rules
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.controllers.lanes import Fleet, Scraped

SYNC_S, SYNCS = 15.0, 120
MINUTES = 150
ROLES = ("prefill", "decode")


def _readings(rng: Random, count: int, missing: float) -> list[float]:
    """Return a wandering load with jumps and gaps; NaN = missing."""
    load, found = 500.0, []
    for _ in range(count):
        load = load * rng.uniform(0.8, 1.25) if rng.random() < 0.7 else load
        load = rng.uniform(50.0, 4000.0) if rng.random() < 0.05 else load
        found.append(math.nan if rng.random() < missing else round(load, 3))
    return found


def _rules(rng: Random) -> tuple[plain.Rules, Rules]:
    policies = tuple(
        (
            rng.choice(("Pods", "Percent")),
            rng.choice((1, 2, 4, 10, 25, 50, 100)),
            rng.choice((15, 30, 60, 300, 600)),
        )
        for _ in range(rng.choice((1, 1, 2)))
    )
    window_s, tolerance = rng.choice((0, 0, 60, 300, 600)), rng.choice((0.05, 0.1, 0.3))
    select = rng.choice(("Max", "Max", "Max", "Min", "Disabled"))
    theirs = tuple(RatePolicy(kind, value, float(period)) for kind, value, period in policies)
    return (
        plain.Rules(window_s, tuple(plain.Policy(*one) for one in policies), select, tolerance),
        Rules(float(window_s), theirs, select, tolerance),
    )


def _objects(rng: Random) -> tuple[plain.Hpa, Hpa, int]:
    (our_up, up), (our_down, down) = _rules(rng), _rules(rng)
    least, most = rng.choice((1, 2, 3)), rng.choice((8, 20, 60))
    ours = plain.Hpa((plain.Target(100.0),), least, most, our_up, our_down)
    theirs = Hpa((Metric("load", 100.0, averaging_s=SYNC_S),), least, most, sync_s=SYNC_S, up=up, down=down)
    return ours, theirs, rng.randint(1, 25)


@pytest.mark.parametrize("seed", range(30))
def test_an_hpa_of_any_rules_asks_for_the_same_counts(seed: int) -> None:
    """Windows, rate policies, selection, tolerances, bounds, gaps, and starts outside the bounds."""
    rng = Random(seed)
    ours, theirs, pods = _objects(rng)
    loads = _readings(rng, SYNCS, missing=0.05)
    counts, count = [], pods
    for turn, load in enumerate(loads, 1):
        count = ours.sync(turn * SYNC_S, count, [None if math.isnan(load) else load])
        counts.append(count)
    assert walk(theirs, loads, pods, window_s=SYNC_S) == counts


@pytest.mark.parametrize("seed", range(20))
def test_a_scaled_object_falls_back_to_the_same_counts(seed: int) -> None:
    """All behaviours of the fallback, an answer that is empty half of the time, nulls ignored or not."""
    rng = Random(seed)
    ours, theirs, pods = _objects(rng)
    threshold, replicas = rng.choice((0, 1, 3)), rng.choice((1, 5, 12))
    behavior = ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower")[seed % 4]
    zero = seed % 5 == 4
    loads = [load for load in _readings(rng, SYNCS // 4, missing=0.5) for _ in range(4)]
    told = iter(loads)
    scaled = plain.Scaled(
        ours,
        (lambda at_s: None if math.isnan(load := next(told)) else load,),
        # The package counts a poll of KEDA's own beside each request of the HPA.
        (plain.Fallback(threshold // 2, replicas, behavior),),
        (zero,),
    )
    counts, count = [], pods
    for turn in range(1, len(loads) + 1):
        count = scaled(Sight(turn * SYNC_S, {"decode": count}, {"decode": count}), "decode")
        counts.append(count)
    found = Keda(
        theirs, theirs.min_replicas, theirs.max_replicas, ignore_null_values=zero,
        fallback=Fallback(threshold, replicas, behavior),
    )  # fmt: skip
    assert walk(found, loads, pods, window_s=SYNC_S) == counts


class _Told(Prometheus):
    """A Prometheus whose answers are given, one load and one latency a minute."""

    def __init__(self, loads: list[float], latencies: list[float]) -> None:
        super().__init__(Looks(15, 30), 0.0, np.random.default_rng(0))
        self.loads, self.latencies = loads, latencies

    def rate(self, signal: str, role: str, range_s: float, at_s: float, pooled: Any = "sum") -> float | None:
        """Return the load of the minute."""
        return _known(self.loads[round(at_s / 60.0)])

    def mean(self, signal: str, role: str, range_s: float, at_s: float, pooled: Any = "sum") -> float | None:
        """Return the requests that wait in the minute: as many as the load, backwards."""
        return _known(self.loads[-1 - round(at_s / 60.0)] / 10.0)

    def latency(self, signal: str, range_s: float, at_s: float) -> float | None:
        """Return the latency of the minute."""
        return _known(self.latencies[round(at_s / 60.0)])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


QUEUED = " + sum(avg_over_time(vllm:num_requests_waiting[1m])) * 3.5"
"""What the query of a primary adds for the requests that wait."""


def _spec(rng: Random) -> dict[str, Any]:
    """Return a policy of HeteroScale's rule with any numbers."""
    tiers = [{"above_ratio": 1.0, "add_fraction": 0.1}, {"above_ratio": 1.5, "add_fraction": 0.5}]
    ratio = {"value": rng.choice((0.5, 1.3, 2.6)), "max_deviation": rng.choice((0.0, 0.2, 0.5))}
    return {
        "mode": "metric",
        "primaries": [{
            "signal": "decode_tps", "role": "decode", "pool": "sum", "target_per_instance": {"value": 100.0},
            "promql": "sum(rate(vllm:generation_tokens_total[1m]))" + rng.choice(("", QUEUED)),
        }],
        "pd_ratio": ratio if rng.random() < 0.6 else None,
        "hysteresis": {
            "scale_out_ratio": rng.choice((1.05, 1.1, 1.3)), "scale_in_ratio": rng.choice((0.6, 0.8, 0.9)),
        },
        "cooldown": {
            "scale_out_s": rng.choice((0.0, 180.0)), "scale_in_s": rng.choice((0.0, 300.0, 600.0, None)),
        },
        "step": {
            "dampening": rng.choice((1.0, 0.5)), "max_out_fraction": rng.choice((None, 0.25)),
            "max_in_fraction": rng.choice((None, 0.25, 0.1)),
        },
        "guards": [{"signal": "ttft", "role": "prefill", "slo_s": 2.0, "tiers": tiers}]
        if rng.random() < 0.6 else [],
        "soft_scale_in": rng.choice((None, {"observe_s": 120.0})),
        "bounds": {"prefill": {"min": 1, "max": 20}, "decode": {"min": 2, "max": 40}},
        "reading": {"window_s": 60.0, "over_s": rng.choice((60.0, 300.0, 600.0))},
        "evaluation": {"window_s": 60.0, "start_up_s": {"prefill": 240.0, "decode": 240.0}},
    }  # fmt: skip


def _control(spec: Mapping[str, Any]) -> HeteroScale:
    """Return the same policy as parameters of the package's rule."""
    ratio, soft, step = spec["pd_ratio"], spec["soft_scale_in"], spec["step"]
    waits = (Operand("queue_length", 60.0, 3.5),) if spec["primaries"][0]["promql"].endswith(QUEUED) else ()
    pools = {}
    for role in ROLES:
        guards = tuple(
            LatencyGuard("ttft", role, one["slo_s"], tuple(tuple(tier.values()) for tier in one["tiers"]))
            for one in spec["guards"]
            if one["role"] == role
        )
        pools[role] = PoolRule(
            "decode_tps" if role == "decode" else "", 100.0, "sum", *spec["hysteresis"].values(),
            *spec["cooldown"].values(), *step.values(), *spec["bounds"][role].values(),
            start_up_s=240.0, guards=guards,
            others=waits if role == "decode" else (),
        )  # fmt: skip
    upkeep = RatioUpkeep("decode", ratio["value"], ratio["max_deviation"]) if ratio else None
    return HeteroScale(pools, upkeep, 60.0, spec["reading"]["over_s"], soft["observe_s"] if soft else None)


@pytest.mark.parametrize("seed", range(30))
def test_heteroscales_rule_asks_for_the_same_counts(seed: int) -> None:
    """Bands, rests, steps, dampening, ratio, guards, observation, and gaps in load and latency."""
    rng = Random(seed)
    spec, stream = _spec(rng), StringIO()
    YAML(typ="safe").dump({"spec": spec}, stream)
    loads = _readings(rng, MINUTES, missing=0.05)
    latencies = [math.nan if rng.random() < 0.05 else rng.lognormvariate(0.0, 0.5) for _ in range(MINUTES)]
    rule = PlainRule(stream.getvalue(), Scene(_Told(loads, latencies)))
    batch = HeteroScaleBatch([_control(spec)])
    ours: dict[str, int] = {"prefill": 5, "decode": 10}
    theirs = dict(ours)
    before, queue = [math.nan] * 9, [value / 10.0 for value in reversed(loads)]
    for minute in range(MINUTES):
        orders = rule(Sight(60.0 * minute, dict(ours), dict(ours)))
        ours |= {role: order.count for role, order in orders.items()}
        rows = {
            ("decode_tps", "decode"): np.array([[v] for v in [*before, *loads][minute : minute + 10]]),
            ("queue_length", "decode"): np.array([[v] for v in [*before, *queue][minute : minute + 10]]),
            ("ttft", "prefill"): np.array([[v] for v in [*before, *latencies][minute : minute + 10]]),
        }
        counts = {role: np.array([float(count)]) for role, count in theirs.items()}
        fleet = Fleet(np.array([60.0 * minute]), 60.0, counts, counts, Scraped(60.0, rows))
        theirs |= {role: int(count[0]) for role, count in batch.step(fleet).counts.items()}
        assert theirs == ours, f"minute {minute}"

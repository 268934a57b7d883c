"""Kthena's AutoscalingPolicy: metric targets with tolerance, rate limits, panic, and a band for the ratio.

After the fields and defaults of ``AutoscalingPolicy`` (workload.volcano.sh/v1alpha1) in
https://github.com/volcano-sh/kthena, and its ratio constraint for disaggregated targets. Roles are sized one
by one and then moved to the nearest pair inside the band, by growing where that is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hs_analysis.controllers import hpa
from hs_analysis.controllers.hpa import Hpa, HpaMemory, Metric, RatePolicy, Rules
from hs_analysis.controllers.view import PoolView, Reply, documented

SOURCES = "https://github.com/volcano-sh/kthena, pkg/apis/workload/v1alpha1"

STABLE = Rules(0.0, (RatePolicy("Pods", 1, 15.0), RatePolicy("Percent", 100, 15.0)))
"""Default of both directions: one instance or 100 % in 15 s, whichever is more; no stabilisation window."""


@dataclass(frozen=True)
class Kthena:
    """One role of a disaggregated target. Panic replaces the rate limits of scaling out while it lasts."""

    metrics: tuple[Metric, ...]
    min_replicas: int = field(default=1, metadata=documented("instances", SOURCES))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )
    tolerance: float = field(default=0.10, metadata=documented("ratio", SOURCES))
    up: Rules = field(default=STABLE, metadata=documented("", SOURCES))
    down: Rules = field(default=STABLE, metadata=documented("", SOURCES))
    panic_threshold: float | None = field(default=2.0, metadata=documented("ratio", SOURCES))
    panic_percent: int = field(default=1000, metadata=documented("percent", SOURCES))
    panic_hold_s: float = field(default=60.0, metadata=documented("s", SOURCES))
    sync_s: float = field(
        default=15.0,
        metadata=documented("s", "the period of its limits; the controller's own interval was not found"),
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return tuple(metric.signal for metric in self.metrics)


@dataclass(frozen=True)
class RatioConstraint:
    """``ratioConstraint``: prefill ÷ decode stays within ``low`` … ``high``; bounds as (least, most)."""

    low: float
    high: float
    prefill: tuple[int, int]
    decode: tuple[int, int]


@dataclass(frozen=True, slots=True)
class KthenaMemory:
    """Windows and rate limits, and until when panic lasts [Unix s]."""

    limits: HpaMemory | None = None
    panic_until_s: float = -math.inf


def decide(parameters: Kthena, view: PoolView, memory: KthenaMemory | None) -> Reply:
    """Ask for the count of one role, before the ratio is looked at."""
    memory = memory or KthenaMemory()
    scaler = Hpa(
        parameters.metrics, parameters.min_replicas, parameters.max_replicas, parameters.tolerance,
        parameters.sync_s, parameters.up, parameters.down,
    )  # fmt: skip
    values = tuple(view.mean(metric.signal, metric.averaging_s) for metric in parameters.metrics)
    wanted = hpa.recommendation(scaler, values, view)
    until = memory.panic_until_s
    if (
        wanted is not None
        and parameters.panic_threshold
        and wanted >= view.desired * parameters.panic_threshold
    ):
        until = view.t_s + parameters.panic_hold_s
    if view.t_s <= until:
        rush = Rules(0.0, (RatePolicy("Percent", parameters.panic_percent, parameters.sync_s),))
        scaler = replace(scaler, up=rush, down=Rules(0.0, (), "Disabled"))
    answer = hpa.decide_on(scaler, values, view, memory.limits)
    return Reply(answer.count, KthenaMemory(answer.memory, until), answer.reason)


def within_ratio(counts: Mapping[str, int], constraint: RatioConstraint) -> dict[str, int]:
    """Return the nearest counts whose prefill ÷ decode lies in the band; unchanged when none does.

    Decode grows first until the prefill count fits under the upper end, then prefill takes the nearest count
    in the band; fewer decode instances are tried only when no larger count has a whole number in it.
    """
    prefill, decode = counts["prefill"], counts["decode"]
    if decode > 0 and constraint.low - 1e-9 <= prefill / decode <= constraint.high + 1e-9:
        return dict(counts)
    least, most = max(1, constraint.decode[0]), constraint.decode[1]
    start = min(max(decode, math.ceil(prefill / constraint.high - 1e-9), least), most)
    for candidate in (*range(start, most + 1), *range(start - 1, least - 1, -1)):
        low = max(constraint.prefill[0], math.ceil(constraint.low * candidate - 1e-9))
        high = min(constraint.prefill[1], math.floor(constraint.high * candidate + 1e-9))
        if low <= high:
            return {**counts, "prefill": min(max(prefill, low), high), "decode": candidate}
    return dict(counts)

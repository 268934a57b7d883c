"""Kthena's AutoscalingPolicy: metric targets with tolerance, rate limits, panic, and a band for the ratio.

After the fields and defaults of ``AutoscalingPolicy`` (workload.volcano.sh/v1alpha1) in
https://github.com/volcano-sh/kthena, and pkg/autoscaler/algorithm there: percentages round the change down,
and panic lifts windows and limits without forgetting what was recommended. Roles are sized one by one and
then moved to the nearest pair inside the band, by growing where that is enough.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hs_analysis.controllers import hpa
from hs_analysis.controllers.hpa import Hpa, HpaBatch, Metric, RatePolicy, Rules, numbers
from hs_analysis.controllers.lanes import Fleet, Floats, Integers, Key, Mask, PoolOrders, Why, documented

SOURCES = "https://github.com/volcano-sh/kthena, pkg/apis/workload/v1alpha1"

BAND_SLACK = 1e-9
"""Slack of a ratio's bounds [ratio]: 0.1 × 30 must stay 3 in floating point."""

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
        metadata=documented("s", "https://github.com/volcano-sh/kthena, pkg/autoscaler/util/settings.go"),
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return self.scaler.signals

    @property
    def scaler(self) -> Hpa:
        """Targets, tolerance, windows, limits and bounds in the terms of a HorizontalPodAutoscaler."""
        return Hpa(
            self.metrics,
            self.min_replicas,
            self.max_replicas,
            self.tolerance,
            self.sync_s,
            self.up,
            self.down,
        )


@dataclass(frozen=True)
class RatioConstraint:
    """``ratioConstraint``: prefill ÷ decode stays within ``low`` … ``high``; bounds as (least, most)."""

    low: float
    high: float
    prefill: tuple[int, int]
    decode: tuple[int, int]


def structure(parameters: Kthena) -> Hashable:
    """Return what policies of one batch have in common; they may differ in every other number."""
    return hpa.structure(parameters.scaler)


class KthenaBatch:
    """Roles of disaggregated targets, one a lane, before the ratio is looked at, with what they remember.

    They remember windows and rate limits, and until when panic lasts [Unix s]. Memory is changed in place by
    `step`.

    Parameters
    ----------
    parameters
        One role a lane, of one `structure`.
    role
        The pool that they scale.
    """

    def __init__(self, parameters: Sequence[Kthena], role: str) -> None:
        self.role = role
        self.hpa = HpaBatch([one.scaler for one in parameters], role, rounds_down=True)
        self.threshold = numbers([one.panic_threshold or np.inf for one in parameters])
        self.percent = numbers([one.panic_percent for one in parameters])
        self.hold_s = numbers([one.panic_hold_s for one in parameters])
        self.until_s = np.full(len(parameters), -np.inf)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""
        return self.hpa.keys

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return self.hpa.reach_s

    def take(self, lanes: Integers) -> Self:
        """Return the same controllers, with all that they remember, for some lanes; one may come twice."""
        taken = copy.copy(self)
        taken.hpa = self.hpa.take(lanes)
        for name in ("threshold", "percent", "hold_s", "until_s"):
            setattr(taken, name, getattr(self, name)[lanes])
        return taken

    def step(self, fleet: Fleet) -> PoolOrders:
        """Ask for the count of every pool."""
        desired = fleet.desired[self.role]
        values = [metric.read(fleet.scraped, self.role) for metric in self.hpa.metrics]
        wanted = self.hpa.recommend(values, fleet)
        with np.errstate(invalid="ignore"):  # a pool of zero at a threshold of infinity
            alarmed = np.clip(wanted, self.hpa.least, self.hpa.most) >= desired * self.threshold
        self.until_s = np.where(alarmed, fleet.t_s + self.hold_s, self.until_s)
        panics = fleet.t_s <= self.until_s
        rush = (panics, self.percent) if panics.any() else None
        orders = self.hpa.follow(wanted, fleet, rush=rush)
        orders.code[panics & (orders.count > desired)] = Why.PANIC
        return orders


@dataclass(frozen=True, slots=True)
class RatioBand:
    """Ratio constraints of all lanes: ends of the band and bounds of the counts, shape (lanes,) each."""

    low: Floats
    high: Floats
    prefill_least: Floats
    prefill_most: Floats
    decode_least: Floats
    decode_most: Floats

    @staticmethod
    def of(constraints: Sequence[RatioConstraint]) -> RatioBand:
        """Return one constraint a lane as arrays."""
        return RatioBand(
            numbers([one.low for one in constraints]),
            numbers([one.high for one in constraints]),
            numbers([one.prefill[0] for one in constraints]),
            numbers([one.prefill[1] for one in constraints]),
            numbers([max(1, one.decode[0]) for one in constraints]),
            numbers([one.decode[1] for one in constraints]),
        )

    def take(self, lanes: Integers) -> RatioBand:
        """Return the same for some lanes; one may come twice."""
        return RatioBand(
            self.low[lanes], self.high[lanes], self.prefill_least[lanes], self.prefill_most[lanes],
            self.decode_least[lanes], self.decode_most[lanes],
        )  # fmt: skip

    def prefill_range(self, decode: Floats) -> tuple[Floats, Floats]:
        """Return the least and the most prefill instances in the band; none where least > most."""
        least = np.maximum(self.prefill_least, np.ceil(self.low * decode - BAND_SLACK))
        most = np.minimum(self.prefill_most, np.floor(self.high * decode + BAND_SLACK))
        return least, most


def within_ratio(counts: Mapping[str, Floats], band: RatioBand) -> dict[str, Floats]:
    """Return the nearest counts whose prefill ÷ decode lies in the band; unchanged where none does.

    Decode grows first until the prefill count fits under the upper end, then prefill takes the nearest count
    in the band; fewer decode instances are tried only where no larger count has a whole number in it.
    """
    prefill, decode = counts["prefill"].astype(float), counts["decode"].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(decode > 0, prefill / decode, np.nan)
    inside = (ratio >= band.low - BAND_SLACK) & (ratio <= band.high + BAND_SLACK)
    open_lanes = np.flatnonzero(~inside)
    if open_lanes.size:
        found = _moved(prefill[open_lanes], decode[open_lanes], band.take(open_lanes))
        prefill[open_lanes], decode[open_lanes] = found
    return {**counts, "prefill": prefill, "decode": decode}


def _moved(prefill: Floats, decode: Floats, band: RatioBand) -> tuple[Floats, Floats]:
    """Return the nearest pair in the band of lanes that are outside of it."""
    first = np.minimum(
        np.maximum(np.maximum(decode, np.ceil(prefill / band.high - BAND_SLACK)), band.decode_least),
        band.decode_most,
    )
    after_prefill, after_decode = prefill.copy(), decode.copy()
    left: Mask = np.ones(prefill.shape, bool)
    for start, sign in ((first, 1.0), (first - 1.0, -1.0)):
        candidate = start
        while True:
            tried = left & (candidate >= band.decode_least) & (candidate <= band.decode_most)
            if not tried.any():
                break
            least, most = band.prefill_range(candidate)
            fits = tried & (least <= most)
            after_prefill = np.where(fits, np.minimum(np.maximum(prefill, least), most), after_prefill)
            after_decode = np.where(fits, candidate, after_decode)
            left &= ~fits
            candidate = candidate + sign
    return after_prefill, after_decode

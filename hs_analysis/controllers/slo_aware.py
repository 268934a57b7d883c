"""llm-d's SLO-aware autoscaling: P90 latencies ÷ SLO, a formula of KEDA, and the HPA behind it.

After the control law in https://github.com/llm-d/llm-d, guides/workload-autoscaling/README.slo-aware.md
(d38c9f0, experimental there; its manifests were read in a fork, zetxqx/llm-d at c397e67). The signal is the
worse of P90 ÷ SLO, at most 2, averaged over 45 s. Latencies that are not there count as an idle pool. Above
the upper threshold the formula asks for as much more as the signal is over it, less what is starting already;
below the lower threshold it asks for as much less as the signal is under it. The HPA's own tolerance acts on
the answer.

The guide scales one pool by both latencies. That TTFT drives prefill and TPOT decode it calls future work:
two objects, one a pool, are that reading of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.controllers.hpa import Hpa, HpaBatch, Metric, RatePolicy, Rules, numbers
from hs_analysis.controllers.hpa import structure as scaler_structure
from hs_analysis.controllers.lanes import Fleet, PerLane, PoolOrders, documented, key_of, mean_known
from hs_analysis.schema.arrays import Floats

GUIDE = (
    "https://github.com/llm-d/llm-d/blob/d38c9f0c81e9cbaf60b06eb2819147f5acdf982a/"
    "guides/workload-autoscaling/README.slo-aware.md"
)
RANGE_S = 60.0
"""Range of the P90 [s], as in the guide."""
SCALER = Hpa(
    (Metric("", 1.0),),
    up=Rules(30.0, (RatePolicy("Percent", 100, 60.0), RatePolicy("Pods", 4, 60.0))),
    down=Rules(180.0, (RatePolicy("Pods", 1, 120.0),)),
)
"""The HPA of the guide: the formula's answer is the count, and its behaviour fast up and slow down."""


@dataclass(frozen=True)
class Latency:
    """One latency: its P90 as a signal, such as ``ttft_p90_60s@service``, and its limit [s]."""

    signal: str
    slo_s: float


@dataclass(frozen=True)
class SloAware:
    """One pool that follows the worse of its latencies.

    ``missing_is_idle``: a latency that is not there counts as 0; else the count holds where none is there.
    """

    latencies: tuple[Latency, ...]
    up: float = field(default=0.55, metadata=documented("ratio", GUIDE))
    down: float = field(default=0.40, metadata=documented("ratio", GUIDE))
    most: float = field(default=2.0, metadata=documented("ratio", GUIDE))
    smoothing_s: float = field(default=45.0, metadata=documented("s", GUIDE))
    scaler: Hpa = field(default=SCALER, metadata=documented("", GUIDE))
    missing_is_idle: bool = field(default=True, metadata=documented("", GUIDE))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return tuple(latency.signal for latency in self.latencies)


def structure(parameters: SloAware) -> Hashable:
    """Return what controllers of one batch have in common; they may differ in every other number."""
    return parameters.signals, parameters.smoothing_s, scaler_structure(parameters.scaler)


class SloAwareBatch(PerLane):
    """The formula and the HPA behind it for one pool, one a lane; the HPA remembers.

    Parameters
    ----------
    parameters
        One a lane, of one `structure`.
    role
        The pool that they scale.
    """

    def __init__(self, parameters: Sequence[SloAware], role: str) -> None:
        self.role, self.smoothing_s = role, parameters[0].smoothing_s
        self.hpa = HpaBatch([one.scaler for one in parameters], role)
        self.keys = tuple(key_of(one.signal, role) for one in parameters[0].latencies)
        self.slo_s = [
            numbers([one.latencies[place].slo_s for one in parameters]) for place in range(len(self.keys))
        ]
        self.up = numbers([one.up for one in parameters])
        self.down = numbers([one.down for one in parameters])
        self.most = numbers([one.most for one in parameters])
        self.missing = numbers([0.0 if one.missing_is_idle else np.nan for one in parameters])

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return self.smoothing_s

    def step(self, fleet: Fleet) -> PoolOrders:
        """Ask for the count of every pool."""
        wanted = self.formula(self.saturation(fleet), fleet)
        return self.hpa.follow(self.hpa.recommend([wanted], fleet), fleet)

    def saturation(self, fleet: Fleet) -> Floats:
        """Return the smoothed signal [ratio]; NaN where a latency has a value that the replay can't know."""
        rows = max(1, round(self.smoothing_s / fleet.scraped.window_s))
        raw: Floats | None = None
        for key, limit in zip(self.keys, self.slo_s, strict=True):
            share = fleet.scraped.values[key][-rows:] / limit
            share = np.where(np.isnan(share), self.missing, share)
            raw = share if raw is None else np.fmax(raw, share)
        if raw is None:
            return np.full(fleet.lanes, np.nan)
        unknown = np.isinf(raw).any(axis=0)
        return np.where(unknown, np.nan, mean_known(np.minimum(raw, self.most)))

    def formula(self, saturation: Floats, fleet: Fleet) -> Floats:
        """Return the replicas that the formula asks for; NaN where the signal is not known."""
        current, ready = fleet.desired[self.role], fleet.ready[self.role]
        with np.errstate(divide="ignore", invalid="ignore"):
            credit = np.where((ready > 0) & (ready < current), ready / current, 1.0)
        more = current + np.ceil(current * (saturation * credit / self.up - 1.0))
        fewer = current - np.floor(current * (1.0 - saturation / self.down))
        held = np.where(np.isnan(saturation), np.nan, current)
        return np.where(saturation > self.up, more, np.where(saturation < self.down, fewer, held))

"""The most an instance can serve whatever the latency: where a pool begins to queue."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hs_analysis.replay.constants import CEILING_OVER_CAPACITY, FULLEST
from hs_analysis.replay.demand import Key, demands
from hs_analysis.replay.signals import SignalModel, batch_limit, tokens_per_request, work_signal
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Capacity


def ceiling(
    history: ServiceFrame, capacity: Capacity | None, role: str, signals: Mapping[Key, SignalModel]
) -> float:
    """Return the highest rate at which an instance of a pool is taken to serve [tokens/s].

    The highest work per instance of any row, at least the upper end of capacity and a little more. A floor
    says where the load ended, not where a queue begins: there it is at least what the latencies say an
    instance can do, ``by_latency``. Infinite when nothing is known.

    Parameters
    ----------
    history
        What is learnt from.
    capacity
        Of the pool; None when nothing was derived.
    role
        prefill, decode or mixed.
    signals
        Curves of the same history (``fit_signals``).
    """
    highest = -math.inf
    signal = work_signal(history, role)
    for part in demands(history) if signal else ():
        with np.errstate(invalid="ignore", divide="ignore"):
            per_instance = part.column(signal, role) / part.column("instances", role)
        finite = per_instance[np.isfinite(per_instance)]
        highest = max(highest, float(finite.max())) if finite.size else highest
    if capacity is not None and capacity.per_instance:
        upper = capacity.ci[1] if capacity.ci else capacity.per_instance
        highest = max(highest, CEILING_OVER_CAPACITY * upper)
        if capacity.status == "floor":
            highest = max(highest, by_latency(history, role, signals))
    return highest if highest > 0 else math.inf


def by_latency(history: ServiceFrame, role: str, signals: Mapping[Key, SignalModel]) -> float:
    """Return what latencies far below their limit say an instance can serve [tokens/s]; 0 when nothing.

    Prefill: one prompt after the other, each in the time to first token of the lowest load. That time holds
    more than the computation, so the true rate is higher. Decode: the load at which its batch grows without
    end (``batch_limit``), less a little. A pool that does both has neither law.
    """
    for (signal, _), curve in signals.items():
        if curve.kind != "curve" or curve.pool != role:
            continue
        if signal == "ttft" and role == "prefill" and curve.values[0] > 0:
            return (tokens_per_request(demands(history), role) or 0.0) / curve.values[0]
        if signal == "tbt" and role == "decode":
            return FULLEST * (batch_limit(curve) or 0.0)
    return 0.0

"""Where a wait shows: which latency holds the time that the work of a pool waits for room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from hs_analysis.replay.constants import CLEAR_WAIT_S, CURVE_ROWS_MIN
from hs_analysis.replay.demand import DemandTrace, Key, demands
from hs_analysis.replay.signals import WHOLE_S, SignalModel
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import MAJORITY

Waits = Mapping[str, Mapping[str, float]]
"""Latency → pool → seconds that the latency gains per second of age of the pool's backlog."""

FIRST_TOKEN_FROM_DECODE: Waits = {"ttft": {"prefill": 1.0, "mixed": 1.0, "decode": 1.0}, "tbt": {}}
"""What holds without a history of backlogs: Dynamo, vLLM and SGLang send the first token from decode, so that
the wait for room there comes before it, and gaps between tokens know nothing of it."""


def fit_waits(history: ServiceFrame, signals: Mapping[Key, SignalModel], *, measured: bool) -> Waits:
    """Learn whether the first token comes before or after the wait for room in the decode pool.

    Where the history has windows with a decode backlog older than ``CLEAR_WAIT_S``, the time to first token
    beyond what the prefill pool explains tells. A wait after the first token is one gap of a request, so that
    the mean gap gains the wait ÷ tokens of a request. Without such windows ``FIRST_TOKEN_FROM_DECODE``, if
    decode's capacity was ``measured``: a queue at a ceiling that is only a floor may not be there at all,
    and stays with its own pool.
    """
    curve = signals.get(("ttft", "service"))
    parts = demands(history)
    if curve is None or curve.kind != "curve" or not {"prefill", "decode"} <= set(history.pools):
        return FIRST_TOKEN_FROM_DECODE
    shares = np.concatenate([_share_before(part, curve) for part in parts]) if parts else np.empty(0)
    before = measured if shares.size < CURVE_ROWS_MIN else bool(np.median(shares) >= MAJORITY)
    if before:
        return FIRST_TOKEN_FROM_DECODE
    tokens = [part.offered["decode"] / part.column("request_rate", "service") for part in parts]
    known = np.concatenate(tokens)
    known = known[np.isfinite(known) & (known > 0)]
    gap = {"decode": 1.0 / float(np.median(known))} if known.size else {}
    return {"ttft": {"prefill": 1.0}, "tbt": gap}


def _share_before(part: DemandTrace, curve: SignalModel) -> Floats:
    """Return what share of decode's wait TTFT holds, in windows with a clear one. Shape (windows,)."""
    age, own = part.column("backlog_age_s", "decode"), part.column("backlog_age_s", "prefill")
    with np.errstate(invalid="ignore", divide="ignore"):
        load = part.offered["prefill"] / part.column("instances", "prefill")
        explained = np.interp(load, curve.loads, curve.values) + np.nan_to_num(own)
        share = (part.column("ttft", "service") - explained) / age
        found: Floats = share[np.isfinite(share) & (age > CLEAR_WAIT_S)]
    return found


def waits_of(waits: Waits, latency: str, role: str, pools: Iterable[str]) -> Mapping[str, float]:
    """Return the seconds that a latency of a pool or the service gains per second of age of each backlog."""
    if latency == WHOLE_S:
        return dict.fromkeys(pools, 1.0)
    if latency == "queue_time":
        return {role: 1.0}
    return waits.get(latency, {})


def wait_share(waits: Waits, latency: str, pool: str) -> float:
    """Return what a latency gains per second that a pool's backlog is old [ratio]."""
    return waits.get(latency, {}).get(pool, 0.0)


def waited_s(waits: Waits, latency: str, ages: Mapping[str, float]) -> float:
    """Return what a latency gains from the backlogs of the pools [s], given their ages [s]."""
    return sum(share * age for pool, age in ages.items() if (share := wait_share(waits, latency, pool)))

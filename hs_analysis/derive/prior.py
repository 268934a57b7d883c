"""What performance tables predict that an instance carries: a prior beside capacity, never in its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.derive.demand import cached_share, mean_request
from hs_analysis.derive.profile import context_of, decode_rate, prefill_rate, profiles_of
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.frames import BENCH, check, empty
from hs_analysis.schema.prior import Prior
from hs_analysis.schema.reasons import Reason
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Slo

STEP_TOKENS = 8192
"""Most prompt tokens that a batch of prompts may have; a longer prompt goes alone [tokens]. vLLM's
``max_num_batched_tokens`` on data-centre GPUs."""

MOST_REQUESTS = 1024
"""Most requests that one instance decodes together. vLLM's ``max_num_seqs`` on data-centre GPUs."""

TEST_FIRST = "a table, not this fleet: test before you use it (hsa plan-test RUN)"


class PerfTables(Protocol):
    """Times of one instance of a model on a system, as tables predict them."""

    @property
    def name(self) -> str:
        """Model, system, engine and GPUs."""

    @property
    def gpus(self) -> int:
        """GPUs of one instance."""

    @property
    def kv_tokens(self) -> int | None:
        """Tokens that the KV cache of one instance holds; None when not known."""

    def prefill_s(self, requests: int, length: int, cached: int) -> float:
        """Return the time of one prefill step [s]: so many prompts of a length, part of each cached."""

    def decode_s(self, requests: int, context: int) -> float:
        """Return the time of one decode step [s]: so many sequences of a context length."""


def priors_of(frame: ServiceFrame, derived: Derived, tables: PerfTables, slo: Slo) -> tuple[Prior, ...]:
    """Return what tables predict of one instance of each pool at the service's mean request.

    Parameters
    ----------
    frame, derived
        The service, and what the data say of it: compared with, never changed.
    tables
        Times of one instance.
    slo
        Limits; one that is None does not bind.

    Returns
    -------
    tuple
        One per pool. Refused for a pool that does both, where requests are not counted, where an instance has
        another number of GPUs, where its KV memory is not known, and where even an idle instance breaks the
        limit. A table knows no queue and no KV transfer, so what it gives is an upper bound.
    """
    request = mean_request(frame)
    hit = _cached(frame)
    found = []
    for role in frame.pools:
        capacity = derived.capacity_of(role)
        base = Prior(
            role, capacity.signal if capacity else SERVED[role], tables.name,
            limit_s=slo.limit_s("ttft" if role == "prefill" else "tbt"),
            data_per_instance=capacity.per_instance if capacity else None,
            data_status=capacity.status if capacity else "refused",
            evidence=evidence.path(frame.service, "derive", f"prior@{role}"),
        )  # fmt: skip
        if request is not None:
            base = replace(base, isl=request[0] / (1.0 - hit), cached_ratio=hit, osl=request[1])
        why = _unfit(base, frame.gpus_per_instance.get(role), tables)
        found.append(replace(base, reason=why) if why else _predicted(base, tables))
    return tuple(found)


def _cached(frame: ServiceFrame) -> float:
    """Return the cached share of prompt tokens: as counted, else what engines did not compute, else 0."""
    prompt, computed = (frame.values(name, "prefill") for name in ("prefill_tps", "prefill_tps_effective"))
    found = (
        cached_share(frame.values("cached_prompt_tps", "service"), frame.values("prompt_tps", "service")),
        cached_share(prompt - computed, prompt),
    )
    return max(0.0, next((share for share in found if math.isfinite(share)), 0.0))


def _unfit(base: Prior, gpus: float | None, tables: PerfTables) -> Reason | None:
    """Return why tables can't speak of a pool, None when they can."""
    if base.role == "mixed":
        return Reason("single_pool", "an instance does prefill and decode: tables time one at a time")
    if base.isl is None or base.osl is None:
        return Reason("lengths_unknown", "requests and tokens are not counted together: no mean request")
    if gpus is not None and gpus != tables.gpus:
        text = f"GPUs of an instance: {gpus:g}; the tables were asked for {tables.gpus}: give tp={gpus:g}"
        return Reason("gpus_differ", text, float(tables.gpus), gpus)
    if base.role == "decode" and tables.kv_tokens is None:
        return Reason(
            "memory_unknown", "the tables don't say how many tokens the KV cache of an instance holds"
        )
    return None


def _predicted(base: Prior, tables: PerfTables) -> Prior:
    isl, osl, hit = base.isl or 0.0, base.osl or 0.0, base.cached_ratio or 0.0
    context = float(context_of(np.array(isl), np.array(osl)))
    rows = [*_prefill_rows(tables, isl, hit, base.limit_s), *_decode_rows(tables, context)]
    profiles = profiles_of(check(pl.DataFrame(rows, schema=empty(BENCH).schema), BENCH))
    value = math.nan
    if profiles and base.role == "prefill":
        value = float(prefill_rate(profiles[0], np.array([isl * (1.0 - hit)]), base.limit_s)[0])
    elif profiles:
        value = float(decode_rate(profiles[0], np.array([context]), base.limit_s)[0])
    if math.isnan(value):
        return replace(base, reason=Reason("no_times", "the tables have no times for such requests"))
    if not value > 0:
        text = "by the tables even an idle instance breaks the limit for the mean request"
        return replace(base, reason=Reason("limit_below_profile", text))
    data = base.data_per_instance
    found = replace(
        base, per_instance=value, status="prior", data_ratio=None if data is None else data / value
    )
    return replace(found, text=_compared(found))


def _compared(found: Prior) -> str:
    """Return how prior and data compare."""
    ratio = found.data_ratio
    if ratio is None:
        return f"the data give no capacity; this is {TEST_FIRST}"
    if found.data_status == "ok":
        return f"the data give {ratio:.2f} of it, and the data count"
    if ratio < 1.0:
        return f"it lies {1.0 / ratio - 1.0:.0%} above the floor that this fleet carried: {TEST_FIRST}"
    return f"this fleet carried {ratio:.2f} of it within its limits: the tables don't hold for it"


def _row(kind: str, values: dict[str, float]) -> dict[str, Any]:
    named = {"capture": "", "file": "", "format": "tables", "series": "tables", "kind": kind}
    return dict.fromkeys(BENCH.names) | named | values


def _about(length: float) -> tuple[int, int]:
    """Return the whole lengths about one [tokens]: between them the profile interpolates."""
    low = max(1, math.floor(length))
    return low, low + 1


def _prefill_rows(
    tables: PerfTables, isl: float, hit: float, limit_s: float | None
) -> Sequence[dict[str, Any]]:
    """Return prefill points about a prompt length: prompts alone, and together while the limit holds."""
    rows, cached = [], round(hit * isl)
    for computed in _about(isl * (1.0 - hit)):
        requests = 1
        while requests == 1 or requests * computed <= STEP_TOKENS:
            time_s = tables.prefill_s(requests, computed + cached, cached)
            if requests > 1 and limit_s is not None and time_s > limit_s:
                break
            if math.isfinite(time_s) and time_s > 0:
                tps = requests * computed / time_s
                values = {"isl": float(computed), "ttft_mean_s": time_s, "prefill_tps": tps}
                rows.append(_row("prefill", values))
            requests *= 2
    return rows


def _decode_rows(tables: PerfTables, context: float) -> Sequence[dict[str, Any]]:
    """Return decode points about a context length: batches that memory holds."""
    rows = []
    for length in _about(context):
        most = MOST_REQUESTS if tables.kv_tokens is None else min(MOST_REQUESTS, tables.kv_tokens // length)
        batches = {min(most, 2**power) for power in range(MOST_REQUESTS.bit_length())} if most else set[int]()
        for requests in sorted(batches):
            time_s = tables.decode_s(requests, length)
            if math.isfinite(time_s) and time_s > 0:
                tps = requests / time_s
                values = {"context_tokens": float(length), "tbt_mean_s": time_s, "decode_tps": tps}
                rows.append(_row("decode", values))
    return rows

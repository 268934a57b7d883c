"""Guards of a policy: which latencies act, on which pool, and from which excess over the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hs_analysis.policy.constants import DEFAULT_TIERS, UPPER_TIER_RANGE
from hs_analysis.policy.model import Guard, Tier
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.constants import FALSE_CROSSINGS_PER_DAY, MINUTE_ROWS_MIN, NEAR_SHARE
from hs_analysis.schema.results import SignalVerdict
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.noise import crossing_z, second_difference_noise, second_differences

GUARDS = (("ttft", "prefill"), ("tbt", "decode"))
"""Which pool a latency speaks of."""

GUARD_TIERS = tuple(Tier(*tier) for tier in DEFAULT_TIERS)
"""Where a guard's noise is unknown; as readers of HeteroScale give them."""


def guards_of(
    frame: ServiceFrame,
    verdicts: Sequence[SignalVerdict],
    settings: Settings,
    promql: Mapping[tuple[str, str], str],
) -> tuple[Guard, ...]:
    """Return the latencies with an SLO and a verdict that lets them act, each on the pool it speaks of."""
    guards = []
    for signal, role in GUARDS:
        limit = settings.slo.limit_s(signal)
        acting = role if role in frame.pools else "mixed"
        found = next(
            (v for v in verdicts if v.signal == signal and v.verdict in ("guard", "proportional")), None
        )  # fmt: skip
        if limit is not None and found is not None and acting in frame.pools:
            query = promql.get((signal, found.role), "")
            tiers, provenance = guard_tiers(frame, signal, found.role, limit)
            guards.append(Guard(signal, acting, limit, query, tiers, provenance))
    return tuple(guards)


def guard_tiers(frame: ServiceFrame, signal: str, role: str, limit_s: float) -> tuple[tuple[Tier, ...], str]:
    """Return a guard's tiers and what gives them: ``noise`` of its own, or ``default``.

    The lower tier stands at the limit. The upper one, with the larger step, stands where noise alone takes a
    latency that lies at its limit no more than once in ten days: e^(z·σ), σ the second-difference noise of
    its logarithm in windows near the limit. The default where the history was too seldom there.
    """
    name = column(signal, role)
    if name not in frame.table.columns:
        return GUARD_TIERS, "default"
    near = pl.when(pl.col(name) >= NEAR_SHARE * limit_s).then(pl.col(name).log())
    rows = frame.table.select("capture", near.cast(pl.Float64).fill_null(math.nan).alias("log"))
    pieces = [part["log"].to_numpy() for part in rows.partition_by("capture", maintain_order=True)]
    noise = second_difference_noise(pieces)
    if second_differences(pieces).size < MINUTE_ROWS_MIN or not noise > 0.0:
        return GUARD_TIERS, "default"
    upper = math.exp(crossing_z(FALSE_CROSSINGS_PER_DAY, frame.window_s) * noise)
    above = float(np.clip(upper, *UPPER_TIER_RANGE))
    lower, higher = GUARD_TIERS
    return (lower, Tier(above, higher.add_fraction)), "noise"

"""Prompt tokens handed out and not prefilled yet, where no router's gauge is recorded: by Little's law.

What is inside is what comes times how long it stays (Little 1961, doi:10.1287/opre.9.3.383): cache-missed
prompt tokens per second × TTFT. Long prompts stay longer than short ones, so that a mean over requests is too
low for their tokens. While nothing waits TTFT goes with the prompt, its spread is that of the prompts, and

    tokens in flight = tokens/s · (mean TTFT + cv² · mean TTFT while nothing waits)

with cv² the squared coefficient of variation of TTFT, of the log-normal distribution through the edges of its
buckets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.special import ndtri

from hs_analysis.replay.constants import CALM, CURVE_ROWS_MIN
from hs_analysis.replay.signals import HANDED_OUT
from hs_analysis.schema.aligned import SERVED, ServiceFrame, SignalInfo, column
from hs_analysis.schema.arrays import Mask
from hs_analysis.schema.constants import BACKLOG_S

POOL = "prefill"

ERROR = "rough: in five simulated histories 6 to 9 % too many, hours 25 % too few to 4 % too many"
"""How far it was off on dumps, and the replay of llm-d's file from that file in the simulated physics. Where
both were known, violations were 29 % of windows in the replay and 8.5 % at work."""


def calm_rows(frame: ServiceFrame) -> Mask:
    """Return the rows of the lowest load of a prefill instance, in which nothing waits. Shape (rows,)."""
    rate, ttft = frame.values(SERVED[POOL], POOL), frame.values("ttft", "service")
    with np.errstate(invalid="ignore", divide="ignore"):
        load = rate / frame.values("instances", POOL)
    known = np.isfinite(load) & (load > 0) & (ttft > 0)
    known &= ~(frame.values("backlog_age_s", POOL) > BACKLOG_S)
    most = np.quantile(load[known], CALM) if known.any() else np.nan
    calm: Mask = known & (load <= most)
    return calm


def with_tokens_in_flight(frame: ServiceFrame, spread: float | None) -> ServiceFrame:
    """Return a service with its tokens in flight in the prefill pool as a column.

    Parameters
    ----------
    frame
        The service.
    spread
        cv² of its TTFT in `calm_rows`; None where it is not known.

    Returns
    -------
    ServiceFrame
        As it was where the spread is not known, or too few rows are calm.
    """
    calm = calm_rows(frame)
    if spread is None or calm.sum() < CURVE_ROWS_MIN or frame.has(HANDED_OUT, POOL):
        return frame
    rate, ttft = frame.values(SERVED[POOL], POOL), frame.values("ttft", "service")
    tokens = rate * (ttft + spread * float(np.median(ttft[calm])))
    idle = (rate == 0.0) & (frame.values("request_rate", "service") == 0.0)
    tokens = np.where(np.isnan(tokens) & idle, 0.0, tokens)
    info = SignalInfo(
        signal=HANDED_OUT,
        role=POOL,
        source="derived",
        unit="tokens",
        pool="sum",
        family="queue",
        interval_s=frame.window_s,
        coverage=float(np.isfinite(tokens).mean()),
    )
    values = pl.Series(column(HANDED_OUT, POOL), tokens).fill_nan(None)
    return replace(frame, table=frame.table.with_columns(values), signals=(*frame.signals, info))


def spread_of(below: Mapping[float, float]) -> float | None:
    """Return cv² of a log-normal distribution through edges; None with fewer than two that tell.

    An edge that nearly all or none are below counts for little.

    Parameters
    ----------
    below
        Edge → share of the values below it [ratio].
    """
    told = {edge: share for edge, share in below.items() if edge > 0 and 0.0 < share < 1.0}
    if len(told) < 2:
        return None
    shares = np.array(list(told.values()))
    steep, _ = np.polyfit(np.log(list(told)), ndtri(shares), 1, w=np.sqrt(shares * (1.0 - shares)))
    return math.expm1(1.0 / float(steep) ** 2) if steep > 0 else None

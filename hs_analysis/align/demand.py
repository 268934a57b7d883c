"""Offered work per role, from the flows of one service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl

from hs_analysis.align.backlog import Flows, backlog_ages, saturated
from hs_analysis.schema.aligned import column

Query = Callable[[str, Mapping[str, Any], Mapping[str, pl.DataFrame]], pl.DataFrame]
"""Runs a shipped query: name, parameters, input tables."""

ENOUGH_REQUESTS = 400
"""Finished requests that make a mean of tokens per request trustworthy: a wide mean is wrong when the mix moves."""

PREFILL_BACKLOG_S = 1.0
"""Prefill backlog age above which decode's arrivals are first tokens, not started requests."""


def _get(table: pl.DataFrame, signal: str, role: str) -> np.ndarray:
    name = column(signal, role)
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()


def _first_known(*candidates: np.ndarray) -> np.ndarray:
    return next((c for c in candidates if np.isfinite(c).any()), candidates[0])


def _flows(table: pl.DataFrame, decode: str) -> Flows:
    """Collect the flows; ``decode`` is the role that decodes: decode, or mixed in a single pool."""
    return Flows(
        started=_get(table, "request_rate", "service"),
        first_tokens=_get(table, "first_token_rate", "service"),
        completed=_get(table, "completion_rate", "service"),
        waiting_prefill=_get(table, "queue_length", "prefill"),
        waiting_decode=_get(table, "queue_length", decode),
        running_prefill=np.full(table.height, np.nan),
        running_decode=_get(table, "running", decode),
        in_flight=_get(table, "in_flight", "service"),
    )


def _started(flows: Flows, window_s: float) -> tuple[np.ndarray, bool]:
    """Return started requests per second and whether they are offered load.

    Without a counter of started requests they are first tokens plus what queued up; without queues, first tokens.
    """
    if np.isfinite(flows.started).any():
        return flows.started, True
    queued = (
        np.nan_to_num(flows.waiting_prefill)
        + np.nan_to_num(flows.waiting_decode)
        + np.nan_to_num(flows.running_decode)
    )
    served = _first_known(flows.first_tokens, flows.completed)
    if not np.isfinite(flows.waiting_prefill).any() and not np.isfinite(flows.waiting_decode).any():
        return served, False
    growth = np.diff(queued, prepend=queued[:1]) / window_s
    return np.maximum(served + growth, 0.0), True


def add_demand(
    table: pl.DataFrame, window_s: float, kind: str, query: Query
) -> tuple[pl.DataFrame, Literal["offered", "served"]]:
    """Add offered work, backlog age and saturation per role to one service's table.

    Parameters
    ----------
    table
        Columns capture, t and ``signal@role``; regular grid inside each capture.
    window_s
        Width of a row [s].
    kind
        ``production`` or ``pressure_test``: they differ in what counts as saturated.
    query
        Runs a shipped query.

    Returns
    -------
    table
        With ``offered_tps@role``, ``backlog_age_s@role`` and ``saturated@role`` for each pool.
    reference
        ``offered``, or ``served`` when no count of arrivals or queues was to be had; then saturated rows hide demand.
    """
    single = column("instances", "mixed") in table.columns
    decode = "mixed" if single else "decode"
    parts, offered = [], True
    for (_,), part in table.group_by("capture", maintain_order=True):
        extended, is_offered = _one_capture(part, window_s, kind, decode)
        parts.append(extended)
        offered = offered and is_offered
    whole = pl.concat(parts)
    work = query(
        "align/offered_work",
        {"enough_requests": ENOUGH_REQUESTS, "window_s": window_s},
        {"windows": _work_inputs(whole, decode)},
    )
    joined = (
        whole.drop(["_started", "_decode_arrivals"])
        .with_columns((pl.col("t").dt.epoch("us") / 1e6).alias("_t"))
        .join(work.rename({"t": "_t"}), ["capture", "_t"], how="left", maintain_order="left")
    )
    served = (
        pl.col(column("decode_tps", decode))
        if column("decode_tps", decode) in table.columns
        else pl.lit(None)
    )
    result = joined.with_columns(
        pl.coalesce(pl.col("decode_tps"), served.cast(pl.Float64)).alias(column("offered_tps", decode)),
        pl.col("prefill_tps").alias(column("offered_tps", "prefill")),
    ).drop("_t", "decode_tps", "prefill_tps", "decode_half_width_s")
    if single:
        result = result.drop(
            column("offered_tps", "prefill"),
            column("backlog_age_s", "prefill"),
            column("saturated", "prefill"),
        )
    return result, "offered" if offered else "served"


def _one_capture(part: pl.DataFrame, window_s: float, kind: str, decode: str) -> tuple[pl.DataFrame, bool]:
    flows = _flows(part, decode)
    started, offered = _started(flows, window_s)
    ages = backlog_ages(flows)
    behind = np.convolve(np.nan_to_num(ages["prefill"]) > PREFILL_BACKLOG_S, np.ones(3), "same") > 0
    behind &= np.isfinite(flows.waiting_prefill) & np.isfinite(flows.first_tokens)
    arrivals = np.where(behind, flows.first_tokens, started)
    columns = {"_started": started, "_decode_arrivals": arrivals}
    for role, name in (("prefill", "prefill"), ("decode", decode)):
        columns[column("backlog_age_s", name)] = ages[role]
        columns[column("saturated", name)] = saturated(ages[role], window_s, kind)
    return part.with_columns(
        pl.Series(name, values).fill_nan(None) for name, values in columns.items()
    ), offered


def _work_inputs(table: pl.DataFrame, decode: str) -> pl.DataFrame:
    columns = {
        "started": table["_started"],
        "decode_arrivals": table["_decode_arrivals"],
        "arrived_tps": _get(table, "arrived_prompt_tps", "service"),
        "prompt_tps": _get(table, "prompt_tps", "service"),
        "effective_tps": _get(table, "prefill_tps_effective", "prefill" if decode == "decode" else "mixed"),
        "first_token_rate": _first_known(
            _get(table, "first_token_rate", "service"), _get(table, "completion_rate", "service")
        ),
        "output_tps": _get(table, "finished_output_tps", "service"),
        "finished_rate": _get(table, "finished_rate", "service"),
    }
    frame = pl.DataFrame(
        {name: pl.Series(values).cast(pl.Float64).fill_nan(None) for name, values in columns.items()}
    )
    return frame.with_columns(table["capture"], (table["t"].dt.epoch("us") / 1e6).alias("t"))

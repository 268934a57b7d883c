"""Recorded totals of a service, to reconcile with a bill."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hs_analysis.align.excluded import Stretches, row_within
from hs_analysis.schema.aligned import ServiceFrame, column


@dataclass(frozen=True)
class ServiceFacts:
    """Recorded totals of a service, to reconcile with a bill; None where the input does not tell.

    Tokens and requests are counter increases, gaps included; instance-hours carry the last known count over
    gaps. Neither counts what the user excluded.
    """

    service: str
    prompt_tokens: float | None
    output_tokens: float | None
    requests: float | None
    instance_hours: float | None
    gpu_hours: float | None


def facts_of(
    frame: ServiceFrame, totals: pl.DataFrame, chosen: pl.DataFrame, left_out: Stretches = ()
) -> ServiceFacts:
    """Return the totals of a service.

    Parameters
    ----------
    frame
        The aligned service.
    totals
        Result of the query ``align/totals``.
    chosen
        Rows of the chosen sources, with service, role, signal and preference.
    left_out
        Stretches that no total counts; ``totals`` is of the increases outside them.
    """
    hours = {role: _instance_hours(frame, role, left_out) for role in frame.pools}
    gpus = frame.gpus_per_instance
    known = bool(hours) and all(role in gpus for role in hours)
    return ServiceFacts(
        frame.service,
        _total(frame.service, ("arrived_prompt_tps", "prompt_tps"), totals, chosen),
        _total(frame.service, ("decode_tps",), totals, chosen),
        _total(frame.service, ("request_rate", "completion_rate"), totals, chosen),
        sum(hours.values()) if hours else None,
        sum(hours[role] * gpus[role] for role in hours) if known else None,
    )


def _instance_hours(frame: ServiceFrame, role: str, left_out: Stretches) -> float:
    """Return the instance-hours of a pool; a gap inside a capture carries the last count on."""
    carried = pl.col(column("instances", role)).fill_null(strategy="forward").over("capture")
    counts = frame.table.select("t", carried.alias("count")).filter(~row_within(left_out))["count"]
    return float(counts.sum()) * frame.window_s / 3600


def _total(
    service: str, signals: tuple[str, ...], totals: pl.DataFrame, chosen: pl.DataFrame
) -> float | None:
    """Return the gain of the first signal that has one, from the source that was chosen for it."""
    key = ["service", "role", "signal", "preference"]
    own = totals.filter(pl.col("service") == service).join(chosen, key, how="semi")
    for signal in signals:
        gains = own.filter(pl.col("signal") == signal)["total"]
        if not gains.is_empty():
            return float(gains.sum())
    return None

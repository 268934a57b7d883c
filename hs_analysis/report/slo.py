"""The latency objective in words, and the allowed share of violating windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import is_number, percent, seconds
from hs_analysis.schema.limit_edges import LimitEdges

NO_SLO = "no SLO was given: targets are what instances already carried, without a claim on latency"


def allowed_share(
    service: Mapping[str, Any], summary: Mapping[str, Any], capacity: Mapping[str, Any], curve: pl.DataFrame
) -> float | None:
    """Return the share that may be over the limit [ratio], None when nothing tells.

    It is of windows, or of samples where the capacity was read off load levels.

    A summary that carries its objective says it. Otherwise a logistic fit does: by definition it crosses the
    allowed share at the capacity; other methods answer without such a curve.
    """
    for holder in (service, summary, mapping(summary.get("settings"))):
        slo = mapping(holder.get("slo"))
        if of_samples(capacity) and is_number(slo.get("quantile")):
            return 1.0 - float(slo["quantile"])
        value = slo.get("allowed_window_share")
        if is_number(value):
            return float(value)
    at = capacity.get("per_instance")
    logistic = str(capacity.get("method") or "").startswith("logistic")
    if capacity.get("status") != "ok" or not logistic or curve.height < 2:
        return None
    line = curve.sort("load_per_instance")
    x = np.log(np.maximum(line["load_per_instance"].to_numpy(), 1e-12))
    share = np.clip(line["violation_probability"].to_numpy(), 1e-9, 1 - 1e-9)
    if not is_number(at) or at <= 0 or not x[0] <= np.log(at) <= x[-1]:
        return None
    # In these coordinates a logistic law is a straight line, so that reading between its points is exact.
    logit = float(np.interp(np.log(at), x, np.log(share / (1 - share))))
    return float(1 / (1 + np.exp(-logit)))


def of_samples(capacity: Mapping[str, Any]) -> bool:
    """Whether a capacity was read off the share of samples over the limit, as pressure tests' are."""
    return str(capacity.get("method") or "").startswith("load levels")


def objective(slo: Mapping[str, Any]) -> str:
    """Return the objective as a sentence: limits, the share of samples and the share of windows it means."""
    limits = [
        f"{name} ≤ {seconds(slo.get(key))}"
        for key, name in (("ttft_s", "TTFT"), ("tbt_s", "TBT"))
        if is_number(slo.get(key))
    ]
    if not limits:
        return NO_SLO
    text = " and ".join(limits)
    if is_number(slo.get("quantile")) and is_number(slo.get("window_s")):
        text += f" for {percent(slo['quantile'])} of samples in a window of {seconds(slo['window_s'])}"
    if is_number(slo.get("allowed_window_share")):
        text += f"; {percent(slo['allowed_window_share'])} of windows may break it"
    return text


def judged(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SLO of a run with the window that is judged: the history's own where that is another."""
    slo, step_s = dict(mapping(summary.get("slo"))), mapping(summary.get("window")).get("step_s")
    return slo | {"window_s": step_s} if slo and is_number(step_s) else slo


def edges(service: Mapping[str, Any]) -> list[str]:
    """Return how each limit is judged at which no histogram edge lies, and which edge to add."""
    found = (LimitEdges.from_plain(edge) for edge in records(service.get("slo_edges")))
    return [edge.sentence for edge in found if not edge.exact]

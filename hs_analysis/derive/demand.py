"""Demand: the work that was asked for, and the stretches in which what was served hides it."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np

from hs_analysis.derive.constants import CENSORED_S
from hs_analysis.derive.format import CENSORED_COLLECT
from hs_analysis.derive.rows import capture_numbers, centred_mean, saturated_rows, smooth_rows, work_of
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import DEMAND_QUANTILE
from hs_analysis.schema.results import CensoredWindow, Demand, Refusal
from hs_analysis.statistics.episodes import episodes


def instant(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 UTC text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def demand_of(frame: ServiceFrame) -> tuple[Demand, tuple[Refusal, ...]]:
    """Return the demand of a service: per role the 95 % quantile of 5-minute means of work [tokens/s].

    Where only served work is known, a quantile over saturated stretches is a lower bound, and a refusal
    says so. None of decode for a single pool that gives no output tokens.
    """
    windows = censored_windows(frame)
    mixed = "mixed" in frame.pools
    prefill = _quantile(frame, prompt_work(frame) if mixed else work_of(frame, "prefill")[0])
    decode = _quantile(frame, _output_work(frame, "mixed" if mixed else "decode"))
    demand = Demand(prefill, decode, windows, reconstruction_error(frame))
    if not windows or frame.reference == "offered":
        return demand, ()
    text = f"{len(windows)} saturated stretches show served work only: the demand given is a lower bound"
    return demand, (Refusal("demand", "censored", text, CENSORED_COLLECT),)


def prompt_work(frame: ServiceFrame) -> Floats:
    """Return the prompt tokens that a single pool computes [tokens/s], shape (rows,)."""
    return frame.values(SERVED["prefill"], "mixed")


def _output_work(frame: ServiceFrame, role: str) -> Floats:
    if frame.served(role) == (SERVED[role], role):
        return work_of(frame, role)[0]
    return np.full(frame.table.height, np.nan)


def _quantile(frame: ServiceFrame, work: Floats) -> float | None:
    means = centred_mean(work, smooth_rows(frame.window_s), capture_numbers(frame))
    means = means[np.isfinite(means)]
    return float(np.quantile(means, DEMAND_QUANTILE)) if means.size else None


def censored_windows(frame: ServiceFrame) -> tuple[CensoredWindow, ...]:
    """Return the saturated stretches of each role, by start.

    Production: gaps of at most 120 s are merged and stretches under 120 s dropped; a pressure test keeps
    every run of rows.
    """
    group, seconds = capture_numbers(frame), frame.seconds()
    production = frame.kind == "production"
    gap = CENSORED_S / frame.window_s if production else 0.0
    found = []
    for role in frame.pools:
        for start, stop in episodes(saturated_rows(frame, role), gap, group):
            if production and (stop - start) * frame.window_s < CENSORED_S:
                continue
            end = seconds[stop - 1] + frame.window_s
            found.append((seconds[start], end, f"{role} has an old backlog"))
    return tuple(CensoredWindow(instant(start), instant(end), reason) for start, end, reason in sorted(found))


def reconstruction_error(frame: ServiceFrame) -> float | None:
    """Return how far offered work lies from served work where both must agree, the worse role.

    Median |ln(offered ÷ served)| of 5-minute means over rows in which no pool is saturated. None when the
    work is served work itself.
    """
    if frame.reference != "offered":
        return None
    group, rows = capture_numbers(frame), smooth_rows(frame.window_s)
    steady = ~np.any([saturated_rows(frame, role) for role in frame.pools], axis=0) if frame.pools else None
    errors = []
    for role in frame.pools:
        offered = centred_mean(frame.values("offered_tps", role), rows, group)
        served = centred_mean(frame.served_values(role), rows, group)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(np.log(offered / served))
        error = error[np.isfinite(error) & steady]
        if error.size:
            errors.append(float(np.median(error)))
    return max(errors) if errors else None


def cached_share(cached_tps: Floats, prompt_tps: Floats) -> float:
    """Return the share of prompt tokens found in a cache, NaN where it is not counted.

    Parameters
    ----------
    cached_tps, prompt_tps
        Cached and all prompt tokens per second of each row, shape (rows,).
    """
    both = np.isfinite(cached_tps) & np.isfinite(prompt_tps)
    total = prompt_tps[both].sum()
    return min(float(cached_tps[both].sum() / total), 1.0 - 1e-9) if total > 0 else math.nan


def mean_request(frame: ServiceFrame) -> tuple[float, float] | None:
    """Return computed prompt and output tokens of a mean request, None where they are not counted."""
    rate = frame.values("request_rate", "service")
    means = []
    for role in ("prefill", "decode"):
        work = frame.values("offered_tps", role)
        both = np.isfinite(rate) & np.isfinite(work)
        if not both.any() or not rate[both].sum() > 0:
            return None
        means.append(float(work[both].sum() / rate[both].sum()))
    return means[0], means[1]

"""Backlog age by Little's law and the saturated windows it marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hs_analysis.statistics.episodes import dilate, episodes, mask_of

PRODUCTION_AGE_S = 10.0
PRESSURE_AGE_S = 3.0
"""Backlog age that marks a saturated window; measured on simulated services and on captures of real components."""

MERGE_S = 120.0
LEAST_S = 120.0
"""Saturated stretches of a production history: closer ones are joined, shorter ones dropped."""

OUTFLOW_SHARE = 0.05
"""Outflow below this share of its median says nothing of a queue's age."""

IDLE_QUANTILE = 0.25
"""Requests in flight that belong to no known queue are backlog only above this quantile: the rest is in service."""


@dataclass(frozen=True)
class Flows:
    """Rates and levels of one capture's windows, NaN where missing; shape (rows,) each.

    Rates in requests/s, levels in requests. ``in_flight`` may count from an unknown start: only its changes are used.
    """

    started: np.ndarray
    first_tokens: np.ndarray
    completed: np.ndarray
    waiting_prefill: np.ndarray
    waiting_decode: np.ndarray
    running_prefill: np.ndarray
    running_decode: np.ndarray
    in_flight: np.ndarray


def _known(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def unqueued_excess(flows: Flows) -> np.ndarray:
    """Return requests that wait in a queue nobody exports: in flight, less running and less known queues."""
    total = flows.in_flight
    if not _known(total):
        return total
    parts = (flows.waiting_prefill, flows.waiting_decode, flows.running_prefill, flows.running_decode)
    rest = total - sum(
        (part for part in parts if _known(part)), np.zeros(total.size)
    )  # a null part: unknown, not 0
    if not _known(rest):
        return rest
    usual = np.nanquantile(rest, IDLE_QUANTILE)
    return np.maximum(rest - usual, 0.0)


def age_s(waiting: np.ndarray, outflow: np.ndarray) -> np.ndarray:
    """Return how long the last in line will have waited: requests waiting ÷ requests leaving per second [s]."""
    usual = np.nanmedian(outflow) if _known(outflow) else np.nan
    floor = max(OUTFLOW_SHARE * usual, 1e-9) if np.isfinite(usual) else np.nan
    return waiting / np.maximum(outflow, floor)


def backlog_ages(flows: Flows) -> dict[str, np.ndarray]:
    """Return the backlog age per role [s], NaN where neither a queue nor the conservation law tells.

    Requests that wait in no exported queue are counted for the role whose queue is not exported; for both when
    neither is.
    """
    excess = unqueued_excess(flows)
    outflow_prefill = flows.first_tokens if _known(flows.first_tokens) else flows.completed
    outflow_decode = flows.completed if _known(flows.completed) else flows.first_tokens
    ages = {}
    for role, waiting, outflow in (
        ("prefill", flows.waiting_prefill, outflow_prefill),
        ("decode", flows.waiting_decode, outflow_decode),
    ):
        ages[role] = age_s(waiting if _known(waiting) else excess, outflow)
    return ages


def saturated(ages: np.ndarray, window_s: float, kind: str) -> np.ndarray:
    """Return 1.0 for saturated windows, 0.0 for others, NaN where the age is unknown throughout.

    Production: age over 10 s, one row dilated, stretches within 120 s joined, shorter than 120 s dropped.
    Pressure test: age over 3 s, every window kept.
    """
    if not _known(ages):
        return np.full(ages.size, np.nan)
    with np.errstate(invalid="ignore"):
        hot = ages > (PRODUCTION_AGE_S if kind == "production" else PRESSURE_AGE_S)
    if kind == "production":
        stretches = episodes(dilate(hot, 1), MERGE_S / window_s)
        hot = mask_of([run for run in stretches if (run[1] - run[0]) * window_s >= LEAST_S], hot.size)
    return hot.astype(float)

"""Requests in flight by conservation, and backlog age by Little's law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.align.counters import WindowStore
from hs_analysis.statistics.episodes import dilate, episodes, mask_of

IN_FLIGHT = "in_flight"
STARTED, FINISHED = "request_rate", "completion_rate"
"""Signals whose counters say how many requests came and went."""


def net_in_flight(
    chosen: pl.DataFrame, terms: pl.DataFrame, store: WindowStore, window_s: float
) -> pl.DataFrame:
    """Return in_flight rows for services without a gauge: started minus finished requests, summed up.

    The reference query ``align/net_arrivals`` of the tests is the same difference in SQL.

    Parameters
    ----------
    chosen
        Rows of the chosen sources.
    terms
        Term table.
    store
        Gains of the counters of requests per window.
    window_s
        Width of a window [s].

    Returns
    -------
    Frame with the columns of ``chosen``. The start of the sum is unknown, so only changes of the level mean
    something.
    """
    counted = chosen.filter(pl.col("signal") == IN_FLIGHT)["service"].unique().to_list()
    open_services = terms.filter(pl.col("gpu_group").is_null() & ~pl.col("service").is_in(counted))
    picked = chosen.select("service", "signal", "preference").unique()
    parts = [
        open_services.filter(pl.col("signal") == signal)
        .join(picked, ["service", "signal", "preference"], how="semi")
        .select("service", "capture", pl.lit(sign).alias("sign"), "series_id")
        for signal, sign in ((STARTED, 1.0), (FINISHED, -1.0))
    ]
    both = set(parts[0]["service"]) & set(parts[1]["service"])
    flows = pl.concat(parts).filter(pl.col("service").is_in(list(both))).sort("series_id", "sign")
    fixed = {
        "role": "service", "gpu_group": None, "signal": IN_FLIGHT, "source": "derived", "preference": 0,
        "instances": None, "coverage": 1.0,
    }  # fmt: skip
    levels = [chosen.clear()]
    for (service, capture), own in sorted(flows.group_by("service", "capture"), key=lambda one: one[0]):
        first, net = net_arrivals(list(own.select("series_id", "sign").iter_rows()), store)
        there = np.flatnonzero(~np.isnan(net))
        known = {"service": service, "capture": capture, **fixed}
        level = pl.DataFrame({"t": (first + there) * window_s, "value": np.cumsum(net[there])})
        levels.append(
            level.with_columns(
                pl.lit(value).cast(chosen.schema[name]).alias(name) for name, value in known.items()
            ).select(chosen.columns)
        )
    return pl.concat(levels)


def net_arrivals(flows: Sequence[tuple[int, float]], store: WindowStore) -> tuple[int, np.ndarray]:
    """Return requests started minus finished per window, scrape gaps included: their sum does not drift.

    Parameters
    ----------
    flows
        Number of each counter, and its sign.
    store
        Their gains.

    Returns
    -------
    Number of the first window, and from there on the difference, NaN where no counter was read.
    """
    gains = [(found, sign) for n, sign in flows if (found := store.get("gains", n)) is not None]
    if not gains:
        return 0, np.empty(0)
    first = min(found.first for found, _ in gains)
    net, read = (np.zeros(max(f.first + f.value.size for f, _ in gains) - first) for _ in range(2))
    for found, sign in gains:
        own = slice(found.first - first, found.first - first + found.value.size)
        net[own] += found.value * sign
        read[own] += found.coverage
    return first, np.where(read > 0, net, np.nan)


PRODUCTION_AGE_S = 10.0
PRESSURE_AGE_S = 3.0
"""Backlog age that marks a saturated window [s]; measured on simulated services and on captures of real
components."""

MERGE_S = 120.0
LEAST_S = 120.0
"""Saturated stretches of a production history: closer ones are joined, shorter ones dropped."""

OUTFLOW_SHARE = 0.05
"""Outflow below this share of its median says nothing of a queue's age."""

AGE_PER_WAIT = 2.0
"""Greatest ratio of a queue's age to the wait of those whose first token comes now [ratio]: in a queue that
arrivals feed at c times what is served, those now served waited 1/c of it. Twice is a lot."""

IDLE_QUANTILE = 0.25
"""Requests in flight that belong to no known queue are backlog only above this quantile of their number: the
rest is in service."""


@dataclass(frozen=True)
class Flows:
    """Rates and levels of one capture's windows, NaN where missing; shape (rows,) each.

    Rates in requests/s, levels in requests, times in s. ``in_flight`` may count from an unknown start: only
    its changes are used. ``wait_s`` is the mean time to first token where it bounds what ``in_flight`` may
    say, all NaN where it does not.
    """

    started: np.ndarray
    first_tokens: np.ndarray
    completed: np.ndarray
    waiting_prefill: np.ndarray
    waiting_decode: np.ndarray
    running_prefill: np.ndarray
    running_decode: np.ndarray
    in_flight: np.ndarray
    wait_s: np.ndarray


def _is_known(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def unqueued_excess(flows: Flows) -> np.ndarray:
    """Return requests that wait in a queue nobody exports: in flight, less running and less known queues.

    A window in which one of these is missing is unknown: a missing queue is not an empty one.
    """
    parts = (flows.waiting_prefill, flows.waiting_decode, flows.running_prefill, flows.running_decode)
    rest = flows.in_flight.copy()
    for part in parts:
        if _is_known(part):
            rest -= part
    if not _is_known(rest):
        return rest
    usual = float(np.nanquantile(rest, IDLE_QUANTILE))
    return np.maximum(rest - usual, 0.0)


def age_s(waiting: np.ndarray, outflow: np.ndarray) -> np.ndarray:
    """Return how long the last in line will have waited: requests waiting ÷ requests leaving per second [s].

    An outflow under 5 % of its usual size, the median of the windows in which anything left, counts as that:
    a request that straddles two windows of an idle service is no endless queue.
    """
    moving = outflow[outflow > 0]
    if moving.size:
        floor = OUTFLOW_SHARE * float(np.median(moving))
        return np.asarray(waiting / np.maximum(outflow, floor))
    endless = np.where(waiting > 0, np.inf, 0.0)
    return np.where(np.isfinite(waiting) & np.isfinite(outflow), endless, np.nan)


def longest_age_s(flows: Flows) -> np.ndarray:
    """Return the greatest age that the time to first token allows [s], infinite where it says nothing.

    Started minus finished requests grow by every request that ends uncounted; after days that looks like a
    queue of thousands. A true queue shows in the time to first token too. Where requests start and no first
    token comes there is no bound; in an idle window the last one holds.
    """
    if not _is_known(flows.wait_s):
        return np.full(flows.wait_s.size, np.inf)
    known = np.isfinite(flows.wait_s)
    last = np.maximum.accumulate(np.where(known, np.arange(known.size), -1))
    held = np.where(last >= 0, AGE_PER_WAIT * flows.wait_s[last], np.inf)
    return np.where(~known & ~(flows.started == 0), np.inf, held)


def backlog_ages(flows: Flows) -> dict[str, np.ndarray]:
    """Return the backlog age per role [s], NaN where neither a queue nor the conservation law tells.

    Requests that wait in no exported queue are counted for the role whose queue is not exported; for both
    when neither is.
    """
    excess, bound_s = unqueued_excess(flows), longest_age_s(flows)
    outflow_prefill = flows.first_tokens if _is_known(flows.first_tokens) else flows.completed
    outflow_decode = flows.completed if _is_known(flows.completed) else flows.first_tokens
    ages = {}
    for role, waiting, outflow in (
        ("prefill", flows.waiting_prefill, outflow_prefill),
        ("decode", flows.waiting_decode, outflow_decode),
    ):
        hidden = not _is_known(waiting)
        age = age_s(excess if hidden else waiting, outflow)
        ages[role] = np.minimum(age, bound_s) if hidden else age
    return ages


def saturated(ages: np.ndarray, window_s: float, kind: str) -> np.ndarray:
    """Return 1.0 for saturated windows, 0.0 for others; all NaN where no window's age is known.

    A window of unknown age counts as not saturated unless a joined stretch covers it. Production: age over
    10 s, one row dilated, stretches within 120 s joined, shorter than 120 s dropped, and ends without a
    backlog over 3 s cut off: the row beside an episode of two minutes is as long as half of it. Pressure
    test: age over 3 s, every window kept.
    """
    if not _is_known(ages):
        return np.full(ages.size, np.nan)
    with np.errstate(invalid="ignore"):
        warm = ages > PRESSURE_AGE_S
        hot = ages > PRODUCTION_AGE_S if kind == "production" else warm
    if kind == "production":
        stretches = episodes(dilate(hot, 1), MERGE_S / window_s)
        kept = [run for run in stretches if (run[1] - run[0]) * window_s >= LEAST_S]
        inner = [np.flatnonzero(warm[start:stop]) + start for start, stop in kept]
        hot = mask_of([(int(rows[0]), int(rows[-1]) + 1) for rows in inner], hot.size)
    return hot.astype(float)

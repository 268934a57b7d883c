"""Requests in flight by conservation, where no gauge counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hs_analysis.align.series_windows import WindowStore

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

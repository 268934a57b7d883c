"""The share of samples over each latency limit, from the shares over the histogram edges about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.statistics.between_edges import shares_over

LOW, HIGH, SAMPLES, MEAN = "over_low", "over_high", "over_samples", "over_mean"
"""Endings of what is measured: shares over the edges, the rate of samples [1/s], their mean [s]."""

BESIDE = (LOW, SAMPLES, MEAN)
"""What is taken from the histogram that gives the share over the upper edge."""

OVER, LEAST, OTHER = "over", "over_least", "over_other"
"""Endings of the signals that follow from them; the last two only where no edge lies at the limit."""

_KEY = ("capture", "role", "gpu_group", "t")


def with_limit_shares(
    chosen: pl.DataFrame, edges: Sequence[tuple[str, LimitEdges]], width_s: float
) -> pl.DataFrame:
    """Return the chosen rows with the shares over each limit in place of the samples and their means.

    Parameters
    ----------
    chosen
        Rows of the chosen sources, over all GPU types and per type.
    edges
        (service, edges) of the chosen histograms.
    width_s
        Width of a window [s].

    Returns
    -------
    The rows with ``<latency>_over`` and, where no edge lies at the limit, ``_over_least`` and
    ``_over_other``; see `statistics.between_edges.SharesOver`. Below the first edge ``_over`` is null.
    """
    found = [_of_limit(chosen.filter(pl.col("service") == service), own, width_s) for service, own in edges]
    used = [f"{edge.signal}_{ending}" for _, edge in edges for ending in (SAMPLES, MEAN)]
    kept = chosen.filter(~pl.col("signal").is_in(used))
    return pl.concat([kept, *found])


def _of_limit(own: pl.DataFrame, edges: LimitEdges, width_s: float) -> pl.DataFrame:
    base = own.filter(pl.col("signal") == f"{edges.signal}_{HIGH}")
    low, rate, mean_s = (_beside(base, own, f"{edges.signal}_{ending}") for ending in BESIDE)
    high = base["value"].fill_null(np.nan).to_numpy()
    shares = shares_over(low, high, rate * width_s, mean_s, edges.limit_s, edges.low_s, edges.high_s)
    values = {OVER: shares.over}
    if edges.low_s != edges.high_s:
        values |= {LEAST: shares.least, OTHER: shares.other}
    return pl.concat(
        [
            base.with_columns(
                pl.lit(f"{edges.signal}_{ending}").alias("signal"), pl.Series("value", value).fill_nan(None)
            )
            for ending, value in values.items()
        ]
    )


def _beside(base: pl.DataFrame, own: pl.DataFrame, signal: str) -> np.ndarray:
    """Return the values of another signal in the rows of `base`, NaN where it has none."""
    other = own.filter(pl.col("signal") == signal).select(*_KEY, pl.col("value").alias("other"))
    joined = base.select(_KEY).join(other, _KEY, how="left", nulls_equal=True, maintain_order="left")
    return joined["other"].fill_null(np.nan).to_numpy()

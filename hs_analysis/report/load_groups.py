"""Windows grouped by load: the points of the capacity chart."""

from __future__ import annotations

import numpy as np
import polars as pl

from hs_analysis.schema.constants import NORMAL_95


def quantile_groups(points: pl.DataFrame) -> pl.DataFrame:
    """Return groups of windows of about equal load: load, share over the limit, its Wilson interval, windows.

    ``points`` are decided capacity points. At most 20 groups of at least 15 windows; fewer make one group.
    """
    n = points.height
    groups = max(1, min(20, n // 15))
    ordered = points.sort("load_per_instance", "t", "capture").with_columns(
        group=pl.Series(np.arange(n) * groups // max(n, 1))
    )
    table = ordered.group_by("group").agg(
        load=pl.col("load_per_instance").median(),
        over=pl.col("violates").sum().cast(pl.Float64),
        windows=pl.len().cast(pl.Float64),
    )
    z = NORMAL_95
    p, m = pl.col("over") / pl.col("windows"), pl.col("windows")
    centre = (p + z * z / (2 * m)) / (1 + z * z / m)
    half = z / (1 + z * z / m) * (p * (1 - p) / m + z * z / (4 * m * m)).sqrt()
    return table.sort("group").select(
        "load", share=p, low=(centre - half).clip(0), high=(centre + half).clip(upper_bound=1), windows=m
    )


def share_groups(points: pl.DataFrame) -> pl.DataFrame:
    """Return groups of windows of about equal load: load, mean share of samples over the limit, no interval.

    Columns as `quantile_groups`; the share is the one that the law of load levels reads.
    """
    known = points.filter(pl.col("load_per_instance").is_finite() & pl.col("over_ratio").is_finite()).sort(
        "load_per_instance", "t", "capture"
    )
    n = known.height
    groups = max(1, min(20, n // 5))
    numbered = known.with_columns(group=pl.Series(np.arange(n) * groups // max(n, 1)))
    table = numbered.group_by("group").agg(
        load=pl.col("load_per_instance").median(),
        share=pl.col("over_ratio").mean(),
        windows=pl.len().cast(pl.Float64),
    )
    none = pl.lit(None, dtype=pl.Float64)
    return table.sort("group").select("load", "share", low=none, high=none, windows="windows")

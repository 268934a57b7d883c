"""Requests in flight by conservation, where no gauge counts them."""

from __future__ import annotations

import polars as pl

from hs_analysis.align.queries import QueryRunner

IN_FLIGHT = "in_flight"


def net_in_flight(
    chosen: pl.DataFrame, terms: pl.DataFrame, increases: pl.DataFrame, window_s: float, query: QueryRunner
) -> pl.DataFrame:
    """Return in_flight rows for services without a gauge: started minus finished requests, summed up.

    Parameters
    ----------
    chosen
        Rows of the chosen sources.
    terms
        Term table.
    increases
        Result of the query ``align/increases``.
    window_s
        Width of a window [s].
    query
        Runs a shipped query.

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
        for signal, sign in (("request_rate", 1.0), ("completion_rate", -1.0))
    ]
    both = set(parts[0]["service"]) & set(parts[1]["service"])
    flows = pl.concat(parts).filter(pl.col("service").is_in(list(both)))
    net = query("align/net_arrivals", {"window_s": window_s}, {"increases": increases, "terms": flows})
    level = net.sort("service", "capture", "t").with_columns(
        pl.col("net").cum_sum().over("service", "capture").alias("value")
    )
    schema = chosen.schema
    fixed = {
        "role": "service", "gpu_group": None, "signal": IN_FLIGHT, "source": "derived", "preference": 0,
        "instances": None, "coverage": 1.0,
    }  # fmt: skip
    return level.with_columns(
        pl.lit(value).cast(schema[name]).alias(name) for name, value in fixed.items()
    ).select(chosen.columns)

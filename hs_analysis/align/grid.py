"""The width of a window."""

from __future__ import annotations

import math

import polars as pl

PRODUCTION_WINDOW_S = 60.0
"""A production window: long enough for a rate over several scrapes, short enough for a minute's SLO."""

LEAST_PRESSURE_WINDOW_S = 15.0
PRESSURE_SCRAPES = 4
SHORT_PRESSURE_SCRAPES = 2
ENOUGH_PRESSURE_WINDOWS = 24
"""A pressure test's window is four scrapes, two where fewer than 24 windows would remain, and never under
15 s; defaults of this project."""

FALLBACK_INTERVAL_S = 15.0
"""Assumed spacing when every series has a single sample; Prometheus' usual scrape interval."""


def scrape_interval_s(series: pl.DataFrame) -> float:
    """Return the usual time between samples [s]: the median over the series of known signals."""
    known = series.filter(pl.col("signal").is_not_null())["interval_s"].drop_nulls()
    value = known.median()
    return float(value) if isinstance(value, (int, float)) and value > 0 else FALLBACK_INTERVAL_S


def span_s(series: pl.DataFrame, quality: pl.DataFrame) -> float:
    """Return the time that the captures cover together [s]; what lies between two captures does not count."""
    spans = (
        quality.join(series.select("series_id", "capture"), "series_id")
        .group_by("capture")
        .agg(
            (pl.col("last_t").max() - pl.col("first_t").min()).dt.total_seconds(fractional=True).alias("span")
        )
    )
    return float(spans["span"].sum())


def only_gauges(series: pl.DataFrame) -> bool:
    """Return whether nothing known is counted up: then one sample a window says all there is."""
    known = series.filter(pl.col("signal").is_not_null())["kind"]
    return known.len() > 0 and bool((known == "gauge").all())


def window_s(kind: str, interval_s: float, span_s: float, *, only_gauges: bool = False) -> float:
    """Return the width of a window [s] for a history of ``span_s`` seconds sampled every ``interval_s``.

    A rate needs several samples of its counter. A test in which nothing is counted up has few samples and
    needs one a window.
    """
    if kind == "production":
        return max(PRODUCTION_WINDOW_S, float(math.ceil(2 * interval_s)))
    if only_gauges:
        return max(LEAST_PRESSURE_WINDOW_S, float(math.ceil(interval_s)))
    for scrapes in (PRESSURE_SCRAPES, SHORT_PRESSURE_SCRAPES):
        width = max(LEAST_PRESSURE_WINDOW_S, float(math.ceil(scrapes * interval_s)))
        if span_s / width >= ENOUGH_PRESSURE_WINDOWS:
            return width
    return max(LEAST_PRESSURE_WINDOW_S, float(math.ceil(SHORT_PRESSURE_SCRAPES * interval_s)))

"""What is known of each column of a service table."""

from __future__ import annotations

from typing import Literal

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import SignalInfo

DERIVED = {
    "offered_tps": "tokens/s",
    "offered_tps_trailing": "tokens/s",
    "backlog_age_s": "s",
    "saturated": "0 or 1",
    "instances": "instances",
}
"""Quantities that alignment works out, and their units."""

SHARE_SIGNALS = ("ttft_over_low", "ttft_over_high", "tbt_over_low", "tbt_over_high")


def infos_of(
    table: pl.DataFrame,
    own: pl.DataFrame,
    terms: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    usual_s: float,
) -> tuple[SignalInfo, ...]:
    """Return one entry per column other than capture and t, in column order.

    Parameters
    ----------
    table
        The service's wide table.
    own
        Chosen rows of the service (signal, role, source, preference).
    terms
        Term table of the service.
    quality
        Frame of `ingest.quality.quality_frame`.
    catalogue
        Unit, pool and family of the signals.
    usual_s
        Interval of what has none of its own [s].
    """
    sources = {
        (row["signal"], row["role"]): (row["source"], row["preference"])
        for row in own.select("signal", "role", "source", "preference").unique().iter_rows(named=True)
    }
    effective = _effective_intervals(terms, quality)
    infos = []
    for name in table.columns:
        if name in ("capture", "t"):
            continue
        signal, role = name.split("@")
        source, preference = sources.get((signal, role), ("derived", None))
        interval = effective.get((signal, role, preference)) or usual_s
        share = 1.0 - table[name].null_count() / table.height
        unit, pool, family = _catalogued(signal, preference, catalogue)
        infos.append(SignalInfo(signal, role, source, unit, pool, family, float(interval), share))
    return tuple(infos)


def _catalogued(
    signal: str, preference: int | None, catalogue: Catalogue
) -> tuple[str, Literal["sum", "mean", "ratio"], str]:
    known = catalogue.signal(signal)
    if known:
        chosen = known.sources[preference] if preference is not None else None
        return known.unit, (chosen.pool if chosen else None) or known.pool, known.family
    return DERIVED.get(signal, "ratio"), "ratio" if signal in SHARE_SIGNALS else "sum", "auxiliary"


def _effective_intervals(
    terms: pl.DataFrame, quality: pl.DataFrame
) -> dict[tuple[str, str, int], float | None]:
    """Return the median effective interval of a signal's series: a gauge's copies carry no news."""
    news = pl.when(pl.col("read") == "gauge").then("news_s")
    spacing = (
        terms.filter(pl.col("side") == "num")
        .join(quality, "series_id")
        .with_columns(pl.max_horizontal("interval_s", news).alias("effective"))
        .group_by("signal", "role", "preference")
        .agg(pl.col("effective").median())
    )
    return {
        (row["signal"], row["role"], row["preference"]): row["effective"]
        for row in spacing.iter_rows(named=True)
    }

"""What was found per signal and role, and which signals are missing with the switch that gives them."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from hs_analysis.doctor.scene import Scene
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame, column

AUXILIARY = "auxiliary"

INVENTORY: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("service", "role", "signal", "source"), pl.String
)
INVENTORY |= dict.fromkeys(("series", "rows"), pl.Int64)
INVENTORY |= dict.fromkeys(("first", "last"), pl.Datetime("us", "UTC"))
INVENTORY |= dict.fromkeys(("span_s", "interval_s", "news_s"), pl.Float64)
INVENTORY |= dict.fromkeys(("gaps", "resets"), pl.Int64)
INVENTORY |= dict.fromkeys(("low", "high", "coverage"), pl.Float64)
INVENTORY |= dict.fromkeys(("scale", "role_evidence", "other_source"), pl.String)
INVENTORY |= {"difference": pl.Float64}
"""Columns of `inventory`."""


def inventory(scene: Scene) -> pl.DataFrame:
    """Return one row per service, role and signal of the catalogue.

    Columns: service, role, signal, source, series, rows, first, last, span_s, interval_s (usual spacing),
    news_s (time between values that change), gaps, resets, low, high (exporter's unit), coverage (share of
    windows with a value), scale (how the unit is known), role_evidence, other_source and difference (median
    relative difference to another source of the same signal; null where there is none or it agrees).
    """
    joined = scene.series.join(scene.quality.drop("interval_s"), "series_id").filter(
        pl.col("signal").is_not_null()
    )
    differing = {
        (row["service"], row["role"], row["signal"]): (row["other"], row["difference"])
        for row in scene.disagreements.sort("difference").iter_rows(named=True)
    }
    rows = []
    for frame in scene.frames:
        own = joined.filter(pl.col("service") == frame.service)
        for info in frame.signals:
            if scene.catalogue.signal(info.signal) is None:
                continue
            carried = _carrying(own, info.signal, info.role, info.source, scene)
            first, last = carried["first_t"].min(), carried["last_t"].max()
            other, difference = differing.get((frame.service, info.role, info.signal), (None, None))
            rows.append(
                {
                    "service": frame.service,
                    "role": info.role,
                    "signal": info.signal,
                    "source": info.source,
                    "series": carried.height,
                    "rows": int(carried["rows"].sum()),
                    "first": first,
                    "last": last,
                    "span_s": _seconds(first, last),
                    "interval_s": carried["interval_s"].median(),
                    "news_s": carried["news_s"].median(),
                    "gaps": int(carried["gaps"].sum()),
                    "resets": int(carried["resets"].sum()),
                    "low": carried["low"].min(),
                    "high": carried["high"].max(),
                    "coverage": info.coverage,
                    "scale": _scale(carried),
                    "role_evidence": ", ".join(sorted(set(carried["role_evidence"]))),
                    "other_source": other,
                    "difference": difference,
                }
            )
    return pl.DataFrame(rows, schema=INVENTORY)


def _seconds(first: object, last: object) -> float | None:
    both = isinstance(first, datetime) and isinstance(last, datetime)
    return (last - first).total_seconds() if both else None  # type: ignore[operator]  # datetimes


def _scale(carried: pl.DataFrame) -> str | None:
    """Return how the unit of the series is known: by values, by documentation, or not."""
    kinds = sorted({str(text).partition(":")[0] for text in carried["scale_evidence"].drop_nulls()})
    return ", ".join(kinds) or ("documented" if carried.height else None)


def _carrying(own: pl.DataFrame, signal: str, role: str, source: str, scene: Scene) -> pl.DataFrame:
    """Return the series that carry a signal of a role, by the metrics the catalogue gives for the source."""
    known = scene.catalogue.signal(signal)
    metrics = {
        metric for row in (known.sources if known else ()) if row.source == source for metric in row.metrics
    }
    found = own.filter(pl.col("metric").is_in(list(metrics)))
    pooled = found.filter(pl.col("emitter_role") == role)
    return pooled if role in POOL_ROLES and pooled.height else found


def missing_signals(scene: Scene) -> list[dict[str, str]]:
    """Return the wanted signals of the catalogue that no service has: signal, role, how_to_enable; sorted."""
    missing: dict[tuple[str, str], str] = {}
    for frame in scene.frames:
        for signal in scene.catalogue.signals:
            if signal.family == AUXILIARY or not signal.wanted:
                continue
            for role in _roles(signal.role, frame):
                if not frame.has(signal.id, role):
                    missing[signal.id, role] = signal.enable
    return [
        {"signal": signal, "role": role, "how_to_enable": enable}
        for (signal, role), enable in sorted(missing.items())
    ]


def _roles(role: str, frame: ServiceFrame) -> tuple[str, ...]:
    if role == "emitter":
        return frame.pools
    if role in POOL_ROLES and column("instances", "mixed") in frame.table.columns:
        return ("mixed",)
    return (role,)

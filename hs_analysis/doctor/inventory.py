"""What was found per signal and role, and which signals are missing with the switch that gives them."""

from __future__ import annotations

import polars as pl

from hs_analysis.doctor.scene import Scene
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame, column

AUXILIARY = "auxiliary"

INVENTORY: dict[str, type[pl.DataType]] = dict.fromkeys(("service", "role", "signal", "source"), pl.String)
INVENTORY |= dict.fromkeys(("series", "rows"), pl.Int64)
INVENTORY |= dict.fromkeys(("interval_s", "news_s"), pl.Float64)
INVENTORY |= dict.fromkeys(("gaps", "resets"), pl.Int64)
INVENTORY |= dict.fromkeys(("low", "high", "coverage"), pl.Float64)
INVENTORY |= {"role_evidence": pl.String}


def inventory(scene: Scene) -> pl.DataFrame:
    """Return one row per service, role and signal of the catalogue.

    Columns: service, role, signal, source, series, rows, interval_s (usual spacing), news_s (time between
    values that change), gaps, resets, low, high (exporter's unit), coverage (share of windows with a value),
    role_evidence.
    """
    joined = scene.series.join(scene.quality.drop("interval_s"), "series_id").filter(
        pl.col("signal").is_not_null()
    )
    rows = []
    for frame in scene.frames:
        own = joined.filter(pl.col("service") == frame.service)
        for info in frame.signals:
            if scene.catalogue.signal(info.signal) is None:
                continue
            carried = _carrying(own, info.signal, info.role, info.source, scene)
            rows.append(
                {
                    "service": frame.service,
                    "role": info.role,
                    "signal": info.signal,
                    "source": info.source,
                    "series": carried.height,
                    "rows": int(carried["rows"].sum()),
                    "interval_s": carried["interval_s"].median(),
                    "news_s": carried["news_s"].median(),
                    "gaps": int(carried["gaps"].sum()),
                    "resets": int(carried["resets"].sum()),
                    "low": carried["low"].min(),
                    "high": carried["high"].max(),
                    "coverage": info.coverage,
                    "role_evidence": ", ".join(sorted(set(carried["role_evidence"]))),
                }
            )
    return pl.DataFrame(rows, schema=INVENTORY)


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

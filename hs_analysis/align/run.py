"""The align stage: series and samples in, one table per service out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from hs_analysis.align.demand import add_demand
from hs_analysis.align.grid import scrape_interval_s, window_s
from hs_analysis.align.sources import choose_sources
from hs_analysis.align.terms import LimitEdges, resolve_terms
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame, SignalInfo, column
from hs_analysis.schema.frames import SIGNALS, check
from hs_analysis.schema.settings import Settings

LEAST_COVERAGE = 0.7
"""Share of a window's samples below which its value is null."""

PRESENT_SHARE = 0.5
"""Share of a window's samples that makes an instance count as present in it."""

NOT_REPORTERS = ("prometheus", "ksm")
"""Exporters whose series do not prove that an instance serves."""

DERIVED = ("offered_tps", "backlog_age_s", "saturated", "instances")
DERIVED_UNITS = {
    "offered_tps": "tokens/s",
    "backlog_age_s": "s",
    "saturated": "0 or 1",
    "instances": "instances",
}
RATIO_SIGNALS = ("ttft_over_low", "ttft_over_high", "tbt_over_low", "tbt_over_high")

Samples = Any
"""The samples table as the query runner takes it: a frame or a path to Parquet."""


class QueryRunner(Protocol):
    """Runs a shipped query on named inputs."""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
        """Return the result of ``name``."""


@dataclass(frozen=True)
class ServiceFacts:
    """Recorded totals of a service, to reconcile with a bill; None where the input does not tell.

    Tokens and requests are counter increases, gaps included; instance-hours carry the last known count over gaps.
    """

    service: str
    prompt_tokens: float | None
    output_tokens: float | None
    requests: float | None
    instance_hours: float | None
    gpu_hours: float | None


@dataclass(frozen=True)
class Aligned:
    """What alignment leaves: tables per service, the long frame, totals, edges and disagreements."""

    frames: tuple[ServiceFrame, ...]
    signals: pl.DataFrame
    facts: tuple[ServiceFacts, ...]
    edges: tuple[tuple[str, LimitEdges], ...]
    disagreements: pl.DataFrame


def align(
    series: pl.DataFrame,
    samples: Samples,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    settings: Settings,
    query: QueryRunner,
) -> Aligned:
    """Put every service on one grid.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    samples
        Frame of contract SAMPLES, or what the query runner takes for it; already cut to the window.
    quality
        Result of the query ``ingest/series_quality``.
    catalogue, settings
        The catalogue; the SLO (shares over its edges), the history kind and nothing else.
    query
        Runs a shipped query.
    """
    terms, edges = resolve_terms(series, catalogue, settings.slo)
    interval = scrape_interval_s(series)
    span = (quality["last_t"].max() - quality["first_t"].min()).total_seconds() if quality.height else 0.0  # type: ignore[operator,union-attr]
    width = window_s(settings.history_kind, interval, span)
    used = series.join(terms.select("series_id", "read").unique(), "series_id")
    spaced = pl.col("interval_s").fill_null(interval)
    counters = used.filter(pl.col("read") == "rate").select("series_id", "capture", "metric", spaced)
    gauges = used.filter(pl.col("read") == "gauge").select("series_id", spaced)
    increases = query("align/increases", {}, {"samples": samples, "counters": counters})
    rates = query("align/counter_windows", {"window_s": width}, {"increases": increases})
    means = query("align/gauge_windows", {"window_s": width}, {"samples": samples, "gauges": gauges})
    instances = query(
        "align/instances",
        {"window_s": width, "present_share": PRESENT_SHARE},
        {"samples": samples, "reporters": _reporters(series, interval)},
    )
    windows = query(
        "align/signal_windows",
        {"least_coverage": LEAST_COVERAGE},
        {"windows": pl.concat([rates, means]), "terms": terms.drop("read"), "instances": instances},
    )
    chosen, disagreements = choose_sources(windows)
    net = _net_arrivals(chosen, windows, terms, increases, width, query)
    totals = query("align/totals", {}, {"increases": increases, "terms": terms.drop("read")})
    frames, longs, facts = [], [], []
    chosen = pl.concat([chosen, net.select(chosen.columns)])
    for service in sorted(set(terms["service"])):
        frame, long = _service(
            service, chosen, instances, series, quality, terms, catalogue, width, settings, query
        )
        frames.append(frame)
        longs.append(long)
        facts.append(_facts(frame, totals, chosen, catalogue))
    signals = check(pl.concat(longs) if longs else pl.DataFrame(schema=SIGNALS), SIGNALS)
    return Aligned(tuple(frames), signals, tuple(facts), edges, disagreements)


def _net_arrivals(
    chosen: pl.DataFrame,
    windows: pl.DataFrame,
    terms: pl.DataFrame,
    increases: pl.DataFrame,
    width: float,
    query: QueryRunner,
) -> pl.DataFrame:
    """Return in_flight rows by conservation for services without a gauge: started minus finished, summed up.

    The start of the sum is unknown, so only changes of the level mean something.
    """
    known = chosen.filter(pl.col("signal") == "in_flight")["service"].unique().to_list()
    picked = chosen.select("service", "signal", "source").unique()
    parts = [
        terms.filter(
            (pl.col("signal") == signal) & pl.col("gpu_group").is_null() & ~pl.col("service").is_in(known)
        )
        .join(picked, ["service", "signal", "source"], how="semi")
        .select("service", "capture", pl.lit(sign).alias("sign"), "series_id")
        for signal, sign in (("request_rate", 1.0), ("completion_rate", -1.0))
    ]
    both = set(parts[0]["service"]) & set(parts[1]["service"])
    started_and_finished = pl.concat(parts).filter(pl.col("service").is_in(list(both)))
    net = query(
        "align/net_arrivals", {"window_s": width}, {"increases": increases, "terms": started_and_finished}
    )
    level = net.sort("service", "capture", "t").with_columns(
        pl.col("net").cum_sum().over("service", "capture").alias("value")
    )
    schema = windows.schema
    return level.select(
        "service", "capture", pl.lit("service").alias("role"), pl.lit(None, schema["gpu_group"]).alias("gpu_group"),
        pl.lit("in_flight").alias("signal"), pl.lit("derived").alias("source"), "t", "value",
        pl.lit(None, pl.Float64).alias("instances"), pl.lit(1.0).alias("coverage"),
    )  # fmt: skip


def _reporters(series: pl.DataFrame, interval: float) -> pl.DataFrame:
    """Series whose samples prove that an instance is there, once for all GPU types and once per type."""
    own = series.filter(
        pl.col("service").is_not_null()
        & pl.col("instance").is_not_null()
        & pl.col("emitter_role").is_in(POOL_ROLES)
        & ~pl.col("source").is_in(NOT_REPORTERS)
    ).select(
        "series_id", "service", "capture", pl.col("emitter_role").alias("role"), pl.col("gpu_type").alias("gpu_group"),
        "instance", "source", pl.col("interval_s").fill_null(interval),
    )  # fmt: skip
    engines = own.filter(pl.col("source") != "dcgm").select("service", "role").unique()
    alone = own.join(engines, ["service", "role"], how="anti")
    proof = pl.concat([own.filter(pl.col("source") != "dcgm"), alone]).drop("source")
    several = (
        proof.filter(pl.col("gpu_group").is_not_null())
        .group_by("service", "role")
        .agg(pl.col("gpu_group").n_unique().alias("types"))
        .filter(pl.col("types") > 1)
    )
    typed = proof.filter(pl.col("gpu_group").is_not_null()).join(several, ["service", "role"], how="semi")
    return pl.concat([proof.with_columns(pl.lit(None, pl.String).alias("gpu_group")), typed])


def _service(
    service: str, chosen: pl.DataFrame, instances: pl.DataFrame, series: pl.DataFrame, quality: pl.DataFrame,
    terms: pl.DataFrame, catalogue: Catalogue, width: float, settings: Settings, query: QueryRunner,
) -> tuple[ServiceFrame, pl.DataFrame]:  # fmt: skip
    own = chosen.filter(pl.col("service") == service)
    counts = instances.filter(pl.col("service") == service)
    wide = _wide(
        own.filter(pl.col("gpu_group").is_null()), counts.filter(pl.col("gpu_group").is_null()), width
    )
    wide, reference = add_demand(wide, width, settings.history_kind, query)
    infos = _infos(wide, own, series, quality, terms, catalogue, service)
    frame = ServiceFrame(
        service, width, settings.history_kind, reference, wide, infos,
        _gpus_per_instance(series, service), _gpu_types(series, service),
    )  # fmt: skip
    return frame, _long(frame, own)


def _wide(own: pl.DataFrame, counts: pl.DataFrame, width: float) -> pl.DataFrame:
    """Return the regular grid per capture with one column per signal@role."""
    named = own.select("capture", "t", (pl.col("signal") + "@" + pl.col("role")).alias("name"), "value")
    counted = counts.select(
        "capture", "t", ("instances@" + pl.col("role")).alias("name"), pl.col("instances").alias("value")
    )
    ready = named.filter(pl.col("name").str.starts_with("replicas_ready@")).with_columns(
        pl.col("name").str.replace("replicas_ready@", "instances@", literal=True)
    )
    fallback = ready.filter(~pl.col("name").is_in(counted["name"].unique().to_list()))
    both = pl.concat([named, counted, fallback])
    both = both.filter(pl.col("value").is_not_null().any().over("name"))
    bounds = both.group_by("capture").agg(pl.col("t").min().alias("first"), pl.col("t").max().alias("last"))
    slots = ((pl.col("last") - pl.col("first")) / width).round().cast(pl.Int64) + 1
    grid = (
        bounds.sort("capture")
        .with_columns(pl.int_ranges(0, slots).alias("slot"))
        .explode("slot")
        .select("capture", (pl.col("first") + pl.col("slot") * width).alias("t"))
    )
    columns = both.pivot("name", index=["capture", "t"], values="value", sort_columns=True)
    wide = grid.join(columns, ["capture", "t"], how="left").sort("capture", "t")
    order = ["capture", "t", *sorted(c for c in wide.columns if c not in ("capture", "t"))]
    return wide.select(order).with_columns(
        pl.from_epoch((pl.col("t") * 1e6).round().cast(pl.Int64), time_unit="us")
        .dt.replace_time_zone("UTC")
        .alias("t")
    )


def _infos(
    wide: pl.DataFrame, own: pl.DataFrame, series: pl.DataFrame, quality: pl.DataFrame, terms: pl.DataFrame,
    catalogue: Catalogue, service: str,
) -> tuple[SignalInfo, ...]:  # fmt: skip
    sources = {
        (r["signal"], r["role"]): r["source"]
        for r in own.select("signal", "role", "source").unique().iter_rows(named=True)
    }
    spacing = (
        terms.filter((pl.col("service") == service) & (pl.col("side") == "num"))
        .join(quality, "series_id")
        .with_columns(
            pl.max_horizontal("interval_s", pl.when(pl.col("read") == "gauge").then("news_s")).alias(
                "effective"
            )
        )
        .group_by("signal", "role", "source")
        .agg(pl.col("effective").median())
    )
    effective = {(r["signal"], r["role"], r["source"]): r["effective"] for r in spacing.iter_rows(named=True)}
    usual = scrape_interval_s(series)
    infos = []
    for name in wide.columns:
        if name in ("capture", "t"):
            continue
        signal, role = name.split("@")
        known = catalogue.signal(signal)
        source = sources.get((signal, role), "derived")
        share = 1.0 - wide[name].null_count() / wide.height
        unit = known.unit if known else DERIVED_UNITS.get(signal, "ratio")
        pool = known.pool if known else ("ratio" if signal in RATIO_SIGNALS else "sum")
        family = known.family if known else "auxiliary"
        interval = effective.get((signal, role, source)) or usual
        infos.append(SignalInfo(signal, role, source, unit, pool, family, float(interval), share))
    return tuple(infos)


def _own_instances(series: pl.DataFrame, service: str) -> pl.DataFrame:
    return series.filter(
        (pl.col("service") == service)
        & pl.col("instance").is_not_null()
        & pl.col("emitter_role").is_in(POOL_ROLES)
    )


def _gpus_per_instance(series: pl.DataFrame, service: str) -> dict[str, float]:
    """Return the GPUs of one instance per role: the median over instances of distinct GPU UUIDs."""
    gpus = _own_instances(series, service).filter(pl.col("source") == "dcgm")
    if gpus.is_empty():
        return {}
    uuid = gpus.with_columns(
        pl.Series("uuid", [_label(labels, "UUID") for labels in gpus["labels"].to_list()], dtype=pl.String)
    ).drop_nulls("uuid")
    per = uuid.group_by("emitter_role", "capture", "instance").agg(pl.col("uuid").n_unique().alias("gpus"))
    medians = per.group_by("emitter_role").agg(pl.col("gpus").median()).sort("emitter_role")
    return {row["emitter_role"]: float(row["gpus"]) for row in medians.iter_rows(named=True)}


def _label(labels: object, name: str) -> str | None:
    if isinstance(labels, dict):
        return labels.get(name)
    return next((pair["value"] for pair in labels if pair["key"] == name), None)  # type: ignore[attr-defined]


def _gpu_types(series: pl.DataFrame, service: str) -> dict[str, tuple[str, ...]]:
    found = (
        _own_instances(series, service)
        .drop_nulls("gpu_type")
        .group_by("emitter_role")
        .agg(pl.col("gpu_type").unique().sort())
    )
    return {
        row["emitter_role"]: tuple(row["gpu_type"])
        for row in found.sort("emitter_role").iter_rows(named=True)
    }


def _long(frame: ServiceFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Return the service's rows of the long frame: chosen signals, per GPU type too, and derived quantities."""
    t = pl.from_epoch((pl.col("t") * 1e6).round().cast(pl.Int64), time_unit="us").dt.replace_time_zone("UTC")
    measured = own.select(
        "service", "capture", "role", pl.col("gpu_group").alias("gpu_type"), "signal", "source", t.alias("t"),
        pl.lit(frame.window_s).alias("window_s"), "value", "instances", "coverage",
    )  # fmt: skip
    derived = [
        frame.table.select(
            pl.lit(frame.service).alias("service"), "capture", pl.lit(info.role).alias("role"),
            pl.lit(None, pl.String).alias("gpu_type"), pl.lit(info.signal).alias("signal"), pl.lit("derived").alias("source"),
            "t", pl.lit(frame.window_s).alias("window_s"), pl.col(column(info.signal, info.role)).cast(pl.Float64).alias("value"),
            (pl.col(column("instances", info.role)) if frame.has("instances", info.role) else pl.lit(None)).cast(pl.Float64).alias("instances"),
            pl.col(column(info.signal, info.role)).is_not_null().cast(pl.Float64).alias("coverage"),
        )
        for info in frame.signals
        if info.signal in DERIVED
    ]  # fmt: skip
    return pl.concat([measured, *derived]).sort(
        "capture", "role", "signal", "gpu_type", "t", nulls_last=False
    )


def _facts(
    frame: ServiceFrame, totals: pl.DataFrame, chosen: pl.DataFrame, catalogue: Catalogue
) -> ServiceFacts:
    hours = {
        role: float(frame.table[column("instances", role)].fill_null(strategy="forward").sum())
        * frame.window_s
        / 3600
        for role in frame.pools
    }
    gpus = frame.gpus_per_instance
    whole = sum(hours.values()) if hours else None
    gpu_hours = sum(hours[r] * gpus[r] for r in hours) if hours and all(r in gpus for r in hours) else None
    return ServiceFacts(
        frame.service,
        _total(frame.service, ("arrived_prompt_tps", "prompt_tps"), totals, chosen, catalogue),
        _total(frame.service, ("decode_tps",), totals, chosen, catalogue),
        _total(frame.service, ("request_rate", "completion_rate"), totals, chosen, catalogue),
        whole,
        gpu_hours,
    )


def _total(
    service: str, signals: tuple[str, ...], totals: pl.DataFrame, chosen: pl.DataFrame, catalogue: Catalogue
) -> float | None:
    """Return the gain of the first signal that has one, from the source that was chosen for it."""
    for signal in signals:
        used = chosen.filter((pl.col("service") == service) & (pl.col("signal") == signal))["source"]
        known = catalogue.signal(signal)
        if used.is_empty() or known is None:
            continue
        preferences = [i for i, source in enumerate(known.sources) if source.source == used[0]]
        gain = totals.filter(
            (pl.col("service") == service)
            & (pl.col("signal") == signal)
            & pl.col("preference").is_in(preferences)
        )["total"]
        if not gain.is_empty():
            return float(gain[0])
    return None

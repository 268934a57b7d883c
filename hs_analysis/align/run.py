"""The align stage: series and samples in, one table per service out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hs_analysis.align.births import births_of
from hs_analysis.align.demand import add_demand
from hs_analysis.align.excluded import (
    Stretches,
    increases_outside,
    row_within,
    stretch,
    within,
    without,
)
from hs_analysis.align.facts import ServiceFacts, facts_of
from hs_analysis.align.grid import scrape_interval_s, span_s, window_s
from hs_analysis.align.in_flight import IN_FLIGHT, net_in_flight
from hs_analysis.align.infos import infos_of
from hs_analysis.align.instance_rows import instance_table, instance_terms, row_width_s
from hs_analysis.align.instances import gpu_types, gpus_per_instance, reporters
from hs_analysis.align.queries import QueryRunner, Samples
from hs_analysis.align.sources import choose_sources
from hs_analysis.align.tables import long_table, wide_table
from hs_analysis.align.terms import LimitEdges, kept_edges, resolve_terms
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import SIGNALS, check, empty
from hs_analysis.schema.settings import Settings

LEAST_COVERAGE = 0.7
"""Share of a window's samples below which its value is null."""

PRESENT_SHARE = 0.5
"""Share of a window's samples that makes an instance count as present in it."""


@dataclass(frozen=True)
class Aligned:
    """What alignment leaves: tables per service, long frames, totals, edges, disagreements and births."""

    frames: tuple[ServiceFrame, ...]
    signals: pl.DataFrame
    facts: tuple[ServiceFacts, ...]
    edges: tuple[tuple[str, LimitEdges], ...]
    disagreements: pl.DataFrame
    births: pl.DataFrame
    instances: pl.DataFrame


@dataclass(frozen=True)
class _Windows:
    """All services on one grid, before they are told apart."""

    width_s: float
    interval_s: float
    terms: pl.DataFrame
    values: pl.DataFrame
    increases: pl.DataFrame
    instances: pl.DataFrame
    signals: pl.DataFrame


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
        The catalogue, the user's rows included; the SLO (shares over its edges), the history kind, the GPUs
        of an instance, what is excluded, and nothing else.
    query
        Runs a shipped query.

    Returns
    -------
    Aligned, services sorted by name; a service without any value is left out.
    """
    terms, edges = resolve_terms(series, catalogue, settings.slo)
    windows = _windows(series, samples, quality, terms, catalogue, settings.history_kind, query)
    chosen, disagreements = choose_sources(windows.signals)
    net = net_in_flight(chosen, terms, windows.increases, windows.width_s, query)
    chosen = pl.concat([chosen, net.select(chosen.columns)])
    left_out = tuple(stretch(one, windows.width_s) for one in settings.excluded)
    counted = increases_outside(windows.increases, left_out)
    totals = query("align/totals", {}, {"increases": counted, "terms": terms.drop("read")})
    frames, longs, facts = [], [], []
    for service in sorted(set(terms["service"])):
        own = chosen.filter((pl.col("service") == service) & ~within(left_out))
        frame = _service(service, own, windows, series, quality, catalogue, settings, left_out, query)
        if frame is not None:
            frames.append(frame)
            longs.append(long_table(frame, own))
            facts.append(facts_of(frame, totals, chosen, left_out))
    signals = check(pl.concat(longs), SIGNALS) if longs else empty(SIGNALS)
    births = births_of(series, samples, quality, terms, windows.instances, windows.width_s, query)
    births = births.filter(~row_within(left_out, "first_served"))
    per_instance = _instances(tuple(frames), windows, chosen, settings.history_kind, left_out, query)
    return Aligned(
        tuple(frames),
        signals,
        tuple(facts),
        kept_edges(edges, chosen),
        disagreements,
        births,
        per_instance,
    )


def _instances(
    frames: tuple[ServiceFrame, ...],
    windows: _Windows,
    chosen: pl.DataFrame,
    kind: str,
    left_out: Stretches,
    query: QueryRunner,
) -> pl.DataFrame:
    """Return the candidate signals of each instance, on rows of whole windows."""
    terms = instance_terms(frames, windows.terms, chosen)
    values = windows.values.join(terms.select("series_id").unique(), "series_id", how="semi")
    width = windows.width_s
    rows = query(
        "align/instance_windows",
        {"row_s": row_width_s(kind, width), "window_s": width, "least_coverage": LEAST_COVERAGE},
        {"windows": values.filter(~within(left_out)), "terms": terms.drop("read")},
    )
    return instance_table(rows)


def _windows(
    series: pl.DataFrame,
    samples: Samples,
    quality: pl.DataFrame,
    terms: pl.DataFrame,
    catalogue: Catalogue,
    kind: str,
    query: QueryRunner,
) -> _Windows:
    interval = scrape_interval_s(series)
    width = window_s(kind, interval, span_s(series, quality))
    used = series.join(terms.select("series_id", "read").unique(), "series_id")
    spaced = pl.col("interval_s").fill_null(interval)
    counters = used.filter(pl.col("read") == "rate").select("series_id", "capture", "metric", spaced)
    gauges = used.filter(pl.col("read") == "gauge").select("series_id", spaced)
    increases = query("align/increases", {}, {"samples": samples, "counters": counters})
    if terms["generation"].max():
        known = terms.drop("read", "source", "pool", "role", "gpu_group", "instance", "side", "sign")
        increases = query("align/newest_names", {}, {"increases": increases, "terms": known})
    rates = query("align/counter_windows", {"window_s": width}, {"increases": increases})
    means = query("align/gauge_windows", {"window_s": width}, {"samples": samples, "gauges": gauges})
    values = pl.concat([rates, means])
    instances = query(
        "align/instances",
        {"window_s": width, "present_share": PRESENT_SHARE},
        {"samples": samples, "reporters": reporters(series, interval, catalogue)},
    )
    signals = query(
        "align/signal_windows",
        {"least_coverage": LEAST_COVERAGE},
        {"windows": values, "terms": terms.drop("read"), "instances": instances},
    )
    return _Windows(width, interval, terms, values, increases, instances, signals)


def _service(
    service: str,
    own: pl.DataFrame,
    windows: _Windows,
    series: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    settings: Settings,
    left_out: Stretches,
    query: QueryRunner,
) -> ServiceFrame | None:
    """Return the frame of a service from its chosen rows, None when it has no value at all."""
    together = pl.col("gpu_group").is_null()
    counts = windows.instances.filter((pl.col("service") == service) & together & ~within(left_out))
    table = wide_table(own.filter(together), counts, windows.width_s)
    if table.is_empty():
        return None
    table, reference = add_demand(
        table,
        windows.width_s,
        settings.history_kind,
        query,
        ttft_bounds_wait=_ttft_bounds_wait(own, catalogue),
    )
    table = without(table, left_out)
    terms = windows.terms.filter(pl.col("service") == service)
    return ServiceFrame(
        service, windows.width_s, settings.history_kind, reference, table,
        infos_of(table.filter(~row_within(left_out)), own, terms, quality, catalogue, windows.interval_s),
        gpus_per_instance(series, service, catalogue, settings.reading.gpus_per_instance),
        gpu_types(series, service),
    )  # fmt: skip


def _ttft_bounds_wait(own: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether requests in flight are worked out from counters while a front end measures the whole TTFT."""
    frontends = [exporter.name for exporter in catalogue.exporters if exporter.frontend]
    drifts = (pl.col("signal") == IN_FLIGHT) & (pl.col("source") == "derived")
    whole = (pl.col("signal") == "ttft") & pl.col("source").is_in(frontends)
    return not own.filter(drifts).is_empty() and not own.filter(whole).is_empty()

"""The align stage: series and samples in, one table per service out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hs_analysis.align.births import births_of
from hs_analysis.align.demand import add_demand
from hs_analysis.align.excluded import (
    Stretches,
    row_within,
    stretch,
    within,
    without,
)
from hs_analysis.align.facts import ServiceFacts, facts_of
from hs_analysis.align.grid import only_gauges, scrape_interval_s, span_s, window_s
from hs_analysis.align.in_flight import IN_FLIGHT, net_in_flight
from hs_analysis.align.infos import infos_of
from hs_analysis.align.instance_rows import instance_terms, instance_windows, row_width_s
from hs_analysis.align.instances import gpu_types, gpus_per_instance, reporters
from hs_analysis.align.lives import Lives, signs
from hs_analysis.align.presence import Presence
from hs_analysis.align.queries import QueryRunner, Stored
from hs_analysis.align.read_series import SeriesPass, first_looks, renamed, used_series
from hs_analysis.align.series_windows import WindowStore
from hs_analysis.align.signal_windows import signal_windows
from hs_analysis.align.sources import choose_sources
from hs_analysis.align.tables import long_table, wide_table
from hs_analysis.align.terms import LimitEdges, kept_edges, resolve_terms
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.frames import SIGNALS, check, empty
from hs_analysis.schema.settings import Settings

LEAST_COVERAGE = 0.7
"""Share of a window's samples below which its value is null."""

PRESENT_SHARE = 0.5
"""Share of a window's samples that makes an instance count as present in it."""


@dataclass(frozen=True)
class Aligned:
    """What alignment leaves: tables per service, long frames, totals, edges, disagreements, lives, births."""

    frames: tuple[ServiceFrame, ...]
    signals: pl.DataFrame
    facts: tuple[ServiceFacts, ...]
    edges: tuple[tuple[str, LimitEdges], ...]
    disagreements: pl.DataFrame
    lives: pl.DataFrame
    births: pl.DataFrame
    instances: pl.DataFrame


@dataclass(frozen=True)
class _Windows:
    """All services on one grid, before they are told apart."""

    width_s: float
    interval_s: float
    terms: pl.DataFrame
    store: WindowStore
    gains: pl.DataFrame
    instances: pl.DataFrame
    lives: pl.DataFrame
    signals: pl.DataFrame
    left_out: Stretches


def align(
    series: pl.DataFrame,
    samples: Stored,
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
        The samples, already cut to the window.
    quality
        Frame of `ingest.quality.quality_frame`.
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
    windows = _windows(series, samples, quality, terms, catalogue, settings)
    left_out = windows.left_out
    chosen, disagreements = choose_sources(windows.signals)
    net = net_in_flight(chosen, terms, windows.store, windows.width_s)
    chosen = pl.concat([chosen, net])
    totals = query("align/totals", {}, {"gains": windows.gains, "terms": terms.drop("read")})
    frames, longs, facts = [], [], []
    for service in sorted(set(terms["service"])):
        own = chosen.filter((pl.col("service") == service) & ~within(left_out))
        frame = _service(service, own, windows, series, quality, catalogue, settings, left_out, query)
        if frame is not None:
            frames.append(frame)
            longs.append(long_table(frame, own))
            facts.append(facts_of(frame, totals, chosen, left_out))
    signals = check(pl.concat(longs), SIGNALS) if longs else empty(SIGNALS)
    births = births_of(windows.lives, samples.table, terms, query)
    births = births.filter(~row_within(left_out, "first_served"))
    per_instance = _instances(tuple(frames), windows, chosen, settings.history_kind)
    return Aligned(
        tuple(frames),
        signals,
        tuple(facts),
        kept_edges(edges, chosen),
        disagreements,
        windows.lives,
        births,
        per_instance,
    )


def _instances(
    frames: tuple[ServiceFrame, ...], windows: _Windows, chosen: pl.DataFrame, kind: str
) -> pl.DataFrame:
    """Return the candidate signals of each instance, on rows of whole windows."""
    terms = instance_terms(frames, windows.terms, chosen)
    width = windows.width_s
    row_s = row_width_s(kind, width)
    return instance_windows(terms, windows.store, windows.left_out, width, row_s, LEAST_COVERAGE)


def _windows(
    series: pl.DataFrame,
    samples: Stored,
    quality: pl.DataFrame,
    terms: pl.DataFrame,
    catalogue: Catalogue,
    settings: Settings,
) -> _Windows:
    interval = scrape_interval_s(series)
    kind, spanned = settings.history_kind, span_s(series, quality)
    width = window_s(kind, interval, spanned, only_gauges=only_gauges(series))
    left_out = tuple(stretch(one, width) for one in settings.excluded)
    used = used_series(series, terms, interval)
    proof = reporters(series, interval, catalogue)
    store, presence = WindowStore(samples.scratch), Presence(proof, width)
    told = signs(series, terms, catalogue, interval)
    lives = Lives(told, dict(series.select("series_id", "capture").iter_rows()), interval)
    whole = SeriesPass(
        used, first_looks(used, quality), renamed(terms), store, (presence, lives), width, left_out
    )
    gains = whole.read({*proof["series_id"], *told["series_id"]}, samples.read)
    instances = presence.counts(PRESENT_SHARE)
    signals = signal_windows(terms, store, instances, width, LEAST_COVERAGE)
    return _Windows(width, interval, terms, store, gains, instances, lives.table(), signals, left_out)


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
        cached_at_end=_cached_at_end(own, catalogue),
    )
    table = without(table, left_out)
    terms = windows.terms.filter(pl.col("service") == service)
    return ServiceFrame(
        service, windows.width_s, settings.history_kind, reference, table,
        infos_of(table.filter(~row_within(left_out)), own, terms, quality, catalogue, windows.interval_s),
        gpus_per_instance(series, service, catalogue, settings.reading.gpus_per_instance),
        gpu_types(series, service),
    )  # fmt: skip


def _frontends(catalogue: Catalogue) -> list[str]:
    return [exporter.name for exporter in catalogue.exporters if exporter.frontend]


def _cached_at_end(own: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether cached prompt tokens come from a front end, which hears of them with a request's end."""
    effective = (pl.col("signal") == SERVED["prefill"]) & pl.col("source").is_in(_frontends(catalogue))
    return not own.filter(effective).is_empty()


def _ttft_bounds_wait(own: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether requests in flight are worked out from counters while a front end measures the whole TTFT."""
    frontends = _frontends(catalogue)
    drifts = (pl.col("signal") == IN_FLIGHT) & (pl.col("source") == "derived")
    whole = (pl.col("signal") == "ttft") & pl.col("source").is_in(frontends)
    return not own.filter(drifts).is_empty() and not own.filter(whole).is_empty()

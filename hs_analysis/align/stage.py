"""The align stage: series and samples in, one table per service and its recorded totals out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import polars as pl

from hs_analysis.align.counters import WindowStore
from hs_analysis.align.demand import add_demand
from hs_analysis.align.excluded import TimeRanges, is_excluded, row_is_excluded, widened, without_excluded
from hs_analysis.align.instance_lifetimes import InstanceLifetimes, instance_startups, lifetime_signs
from hs_analysis.align.instances import (
    Presence,
    gpu_types,
    gpus_per_instance,
    instance_terms,
    instance_windows,
    reporters,
    row_width_s,
)
from hs_analysis.align.limit_shares import with_limit_shares
from hs_analysis.align.requests_in_flight import IN_FLIGHT, net_in_flight
from hs_analysis.align.series import (
    SeriesPass,
    StoredSamples,
    first_scrapes,
    renamed,
    used_series,
)
from hs_analysis.align.service_tables import long_table, signal_infos, wide_table
from hs_analysis.align.signals import choose_sources, signal_windows, sources_of
from hs_analysis.align.terms import chosen_edges, resolve_terms
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import SERVED, ServiceFrame, column
from hs_analysis.schema.frames import SIGNALS, check, empty
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.runners import QueryRunner
from hs_analysis.schema.settings import Settings


@dataclass(frozen=True)
class ServiceFacts:
    """Recorded totals of a service, to reconcile with a bill; None where the input does not tell.

    Tokens and requests are counter increases, gaps included; instance-hours carry the last known count over
    gaps. Neither counts what the user excluded.
    """

    service: str
    prompt_tokens: float | None
    output_tokens: float | None
    requests: float | None
    instance_hours: float | None
    gpu_hours: float | None


def facts_of(
    frame: ServiceFrame, totals: pl.DataFrame, sources: pl.DataFrame, left_out: TimeRanges = ()
) -> ServiceFacts:
    """Return the totals of a service.

    Parameters
    ----------
    frame
        The aligned service.
    totals
        Result of the query ``align/totals``.
    sources
        The chosen sources: service, role, signal and preference.
    left_out
        Stretches that no total counts; ``totals`` is of the increases outside them.
    """
    hours = {role: _instance_hours(frame, role, left_out) for role in frame.pools}
    gpus = frame.gpus_per_instance
    known = bool(hours) and all(role in gpus for role in hours)
    return ServiceFacts(
        frame.service,
        _total(frame.service, ("arrived_prompt_tps", "prompt_tps"), totals, sources),
        _total(frame.service, ("decode_tps",), totals, sources),
        _total(frame.service, ("request_rate", "completion_rate"), totals, sources),
        sum(hours.values()) if hours else None,
        sum(hours[role] * gpus[role] for role in hours) if known else None,
    )


def _instance_hours(frame: ServiceFrame, role: str, left_out: TimeRanges) -> float:
    """Return the instance-hours of a pool; a gap inside a capture carries the last count on."""
    carried = pl.col(column("instances", role)).fill_null(strategy="forward").over("capture")
    counts = frame.table.select("t", carried.alias("count")).filter(~row_is_excluded(left_out))["count"]
    return float(counts.sum()) * frame.window_s / 3600


def _total(
    service: str, signals: tuple[str, ...], totals: pl.DataFrame, sources: pl.DataFrame
) -> float | None:
    """Return the gain of the first signal that has one, from the source that was chosen for it."""
    key = ["service", "role", "signal", "preference"]
    own = totals.filter(pl.col("service") == service).join(sources, key, how="semi")
    for signal in signals:
        gains = own.filter(pl.col("signal") == signal)["total"]
        if not gains.is_empty():
            return float(gains.sum())
    return None


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
class _AllServices:
    """All services on one grid, before they are told apart."""

    width_s: float
    interval_s: float
    terms: pl.DataFrame
    store: WindowStore
    gains: pl.DataFrame
    instances: pl.DataFrame
    lives: pl.DataFrame
    signals: pl.DataFrame
    left_out: TimeRanges


def align(
    series: pl.DataFrame,
    samples: StoredSamples,
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
    windows = _all_services(series, samples, quality, terms, catalogue, settings)
    left_out = windows.left_out
    chosen, disagreements = choose_sources(windows.signals)
    net = net_in_flight(chosen, terms, windows.store, windows.width_s)
    around = chosen_edges(edges, sources_of(chosen))
    chosen = with_limit_shares(pl.concat([chosen, net]), around, windows.width_s)
    sources = sources_of(chosen)
    totals = query("align/totals", {}, {"gains": windows.gains, "terms": terms.drop("read")})
    frame_of = partial(
        _service_frame,
        windows=windows,
        series=series,
        quality=quality,
        catalogue=catalogue,
        settings=settings,
    )
    frames, longs, facts = [], [], []
    for service in sorted(set(terms["service"])):
        own = chosen.filter((pl.col("service") == service) & ~is_excluded(left_out))
        frame = frame_of(service, own, tuple(one for name, one in around if name == service))
        if frame is not None:
            frames.append(frame)
            longs.append(long_table(frame, own))
            facts.append(facts_of(frame, totals, sources, left_out))
    signals = check(pl.concat(longs), SIGNALS) if longs else empty(SIGNALS)
    births = instance_startups(windows.lives, samples.table, terms, query)
    births = births.filter(~row_is_excluded(left_out, "first_served"))
    per_instance = _instances(tuple(frames), windows, sources, settings.history_kind)
    return Aligned(
        frames=tuple(frames),
        signals=signals,
        facts=tuple(facts),
        edges=around,
        disagreements=disagreements,
        lives=windows.lives,
        births=births,
        instances=per_instance,
    )


def _instances(
    frames: tuple[ServiceFrame, ...], windows: _AllServices, sources: pl.DataFrame, kind: str
) -> pl.DataFrame:
    """Return the candidate signals of each instance, on rows of whole windows."""
    terms = instance_terms(frames, windows.terms, sources)
    width = windows.width_s
    row_s = row_width_s(kind, width)
    return instance_windows(terms, windows.store, windows.left_out, width, row_s, LEAST_COVERAGE)


def _all_services(
    series: pl.DataFrame,
    samples: StoredSamples,
    quality: pl.DataFrame,
    terms: pl.DataFrame,
    catalogue: Catalogue,
    settings: Settings,
) -> _AllServices:
    interval = scrape_interval_s(series)
    kind, spanned = settings.history_kind, span_s(series, quality)
    width = window_s(kind, interval, spanned, only_gauges=only_gauges(series))
    left_out = tuple(widened(one, width) for one in settings.excluded)
    used = used_series(series, terms, interval)
    proof = reporters(series, interval, catalogue)
    store, presence = WindowStore(samples.scratch), Presence(proof, width)
    signs = lifetime_signs(series, terms, catalogue, interval)
    lives = InstanceLifetimes(signs, dict(series.select("series_id", "capture").iter_rows()), interval)
    whole = SeriesPass(
        used, first_scrapes(used, quality), renamed(terms), store, (presence, lives), width, left_out
    )
    gains = whole.read({*proof["series_id"], *signs["series_id"]}, samples.read)
    instances = presence.counts(PRESENT_SHARE)
    signals = signal_windows(terms, store, instances, width, LEAST_COVERAGE)
    return _AllServices(
        width_s=width,
        interval_s=interval,
        terms=terms,
        store=store,
        gains=gains,
        instances=instances,
        lives=lives.table(),
        signals=signals,
        left_out=left_out,
    )


def _service_frame(
    service: str,
    own: pl.DataFrame,
    limit_edges: tuple[LimitEdges, ...],
    windows: _AllServices,
    series: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    settings: Settings,
) -> ServiceFrame | None:
    """Return the frame of a service from its chosen rows, None when it has no value at all."""
    left_out = windows.left_out
    together = pl.col("gpu_group").is_null()
    counts = windows.instances.filter((pl.col("service") == service) & together & ~is_excluded(left_out))
    table = wide_table(own.filter(together), counts, windows.width_s)
    if table.is_empty():
        return None
    sources = sources_of(own)
    table, reference = add_demand(
        table,
        windows.width_s,
        settings.history_kind,
        ttft_bounds_wait=_ttft_bounds_wait(sources, catalogue),
        cached_at_end=_cached_at_end(sources, catalogue),
    )
    table = without_excluded(table, left_out)
    terms = windows.terms.filter(pl.col("service") == service)
    return ServiceFrame(
        service=service,
        window_s=windows.width_s,
        kind=settings.history_kind,
        reference=reference,
        table=table,
        signals=signal_infos(
            table.filter(~row_is_excluded(left_out)), sources, terms, quality, catalogue, windows.interval_s
        ),
        gpus_per_instance=gpus_per_instance(series, service, catalogue, settings.reading.gpus_per_instance),
        gpu_types=gpu_types(series, service),
        limit_edges=limit_edges,
    )


def _frontends(catalogue: Catalogue) -> list[str]:
    return [exporter.name for exporter in catalogue.exporters if exporter.frontend]


def _cached_at_end(sources: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether cached prompt tokens come from a front end, which hears of them with a request's end."""
    effective = (pl.col("signal") == SERVED["prefill"]) & pl.col("source").is_in(_frontends(catalogue))
    return not sources.filter(effective).is_empty()


def _ttft_bounds_wait(sources: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether requests in flight are worked out from counters while a front end measures the whole TTFT."""
    frontends = _frontends(catalogue)
    drifts = (pl.col("signal") == IN_FLIGHT) & (pl.col("source") == "derived")
    whole = (pl.col("signal") == "ttft") & pl.col("source").is_in(frontends)
    return not sources.filter(drifts).is_empty() and not sources.filter(whole).is_empty()

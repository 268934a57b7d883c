"""What exported alerts ask of the user's Prometheus beyond the signals of a policy, from one run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from hs_analysis.catalogue import Catalogue, Source
from hs_analysis.export import Watched, WatchedLength, WatchedLimit, expression, instance_count, share_over
from hs_analysis.export.alerts import LENGTHS
from hs_analysis.export.constants import DRIFT_FOR_S, LENGTHS_OVER_S, LENGTHS_REQUESTS
from hs_analysis.export.queries import range_window
from hs_analysis.pipeline.objects import expressions
from hs_analysis.policy.guards import GUARDS
from hs_analysis.policy.model import SignalReading
from hs_analysis.schema.aligned import LATENCIES, ServiceFrame, SignalInfo, column
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import COVERAGE_MIN, SHORTEST_S
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.settings import Slo

COUNTED = {
    "prompt_tokens": ("prompt_tps", "first_token_rate"),
    "output_tokens": ("finished_output_tps", "finished_rate"),
}
"""Tokens of a request → the signals that count them and the requests they belong to."""


def watched(frame: ServiceFrame, series: pl.DataFrame, catalogue: Catalogue, slo: Slo) -> Watched:
    """Return what alerts of a service ask, and why where there is no query.

    Parameters
    ----------
    frame
        The aligned service, its whole window.
    series
        Series of all services (``SERIES``): what queries pick from.
    catalogue, slo
        The signals with the user's own metrics, and the limits.
    """
    lacking: dict[str, str] = {}
    limits, lengths, instances = [], [], {}
    for edges in frame.limit_edges:
        limit = _limit(frame, edges, series, catalogue)
        if limit is not None:
            limits.append(limit)
    for signal, _ in GUARDS:
        if slo.limit_s(signal) is not None and signal not in {limit.edges.signal for limit in limits}:
            lacking[signal] = f"the history has no histogram of {signal.upper()}"
    for role in frame.pools:
        instances[role] = _instances(frame, role, series, catalogue)
        if not instances[role]:
            lacking[f"instances@{role}"] = f"no series of the history counts the {role} instances"
    for name in LENGTHS:
        length = _length(frame, name, series, catalogue)
        if isinstance(length, str):
            lacking[name] = length
        else:
            lengths.append(length)
    return Watched(tuple(limits), tuple(lengths), instances, broken_at(frame, slo), lacking)


def broken_at(frame: ServiceFrame, slo: Slo) -> dict[str, float]:
    """Return the lowest load of an instance at which the history kept breaking a limit of the pool.

    As the alert on a drifted target sees it: for `DRIFT_FOR_S` in a row more samples were over the edge at or
    above a limit than the SLO allows, and the load is the highest of that time. An alert on loads below it is
    silent on all of the history.

    Returns
    -------
    Loads by ``<signal>@<role>`` [unit of the signal], of each signal that may size the pool; without an entry
    no limit of the pool was broken for that long.
    """
    found = {}
    for info in frame.signals:
        pooled = info.role in LATENCIES and info.pool in ("sum", "mean") and info.family != "auxiliary"
        broken = _broken(frame, info, slo) if pooled else None
        if broken is None:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            count = 1.0 if info.pool == "mean" else frame.values("instances", info.role)
            load = _recorded(frame, info, frame.values(info.signal, info.role) / count)
        rows = math.ceil(DRIFT_FOR_S / frame.window_s) + 1  # `for` counts from the first that is true
        if load.size < rows:
            continue
        # A window that is not broken, or not known, ends the alert whatever the load.
        spell = np.lib.stride_tricks.sliding_window_view(np.where(broken, load, math.nan), rows).max(axis=1)
        spell = spell[np.isfinite(spell)]
        if spell.size:
            found[column(info.signal, info.role)] = float(spell.min())
    return found


def _broken(frame: ServiceFrame, info: SignalInfo, slo: Slo) -> Mask | None:
    """Return in which windows an alert sees a limit of the pool broken, None without a limit."""
    shares = [
        _recorded(frame, info, frame.values(f"{signal}_over_high", role))
        for signal in LATENCIES[info.role]
        for role in (info.role, "service", "decode")
        if slo.limit_s(signal) is not None and frame.has(f"{signal}_over_high", role)
    ]
    if not shares:
        return None
    broken: Mask = np.any([share > 1.0 - slo.quantile for share in shares], axis=0)
    return broken


def _recorded(frame: ServiceFrame, info: SignalInfo, values: Floats) -> Floats:
    """Return values over the time that the recording rule of a signal takes its rate over, by its end."""
    width = range_window(max(SHORTEST_S, frame.window_s), [info.interval_s])
    rows = max(1, round(width / frame.window_s))
    padded = np.r_[np.full(rows - 1, math.nan), values]
    mean: Floats = np.lib.stride_tricks.sliding_window_view(padded, rows).mean(axis=1)
    return mean


def _limit(
    frame: ServiceFrame, edges: LimitEdges, series: pl.DataFrame, catalogue: Catalogue
) -> WatchedLimit | None:
    known = catalogue.signal(edges.signal)
    pool = dict(GUARDS)[edges.signal]
    metrics = set(series.filter(pl.col("service") == frame.service)["metric"])
    found = [info.role for info in frame.signals if info.signal == edges.signal]
    sources = [one for source in known.sources for one in _named(source, metrics)] if known else []
    recipe = next((one for one in sources if one.source == edges.source), None)
    if known is None or recipe is None:
        return None
    role = found[0] if found else known.role

    def over(edge_s: float) -> str:
        share = share_over(recipe, edge_s, series)
        width = max(SHORTEST_S, frame.window_s)
        return expression(known, share, role, series, service=frame.service, window_s=width).expr

    low = "" if edges.low_s is None else over(edges.low_s)
    high = over(edges.high_s) if edges.high_s < float("inf") else ""
    return WatchedLimit(pool if pool in frame.pools else "mixed", edges, low, high)


def _named(source: Source, metrics: set[str]) -> Iterator[Source]:
    """Yield the source under those of its histogram's names whose buckets are there, newest first."""
    for names in source.names:
        if names.histogram and f"{names.histogram}_bucket" in metrics:
            yield replace(source, histogram=names.histogram, older=())


def _instances(frame: ServiceFrame, role: str, series: pl.DataFrame, catalogue: Catalogue) -> str:
    """Return the PromQL that counts the instances of a pool: those that report, else the ready replicas."""
    metrics = set(series.filter(pl.col("service") == frame.service)["metric"])
    watching = {exporter.name for exporter in catalogue.exporters if exporter.watches_gpus}
    infos = [info for info in frame.signals if info.role == role and info.source != "derived"]
    width = max(SHORTEST_S, frame.window_s)
    # An engine's own series first: a GPU exporter reports on while its engine is down.
    for info in sorted(infos, key=lambda info: (info.source in watching, info.family == "auxiliary")):
        known = catalogue.signal(info.signal)
        sources = [s.named(metrics) for s in known.sources if s.source == info.source] if known else []
        recipe = next((s for s in sources if s is not None and role in s.emitters), None)
        if recipe is None or recipe.source == "ksm":
            continue
        found = instance_count(recipe, role, series, service=frame.service, window_s=width)
        if found.expr:
            return found.expr
    queries, _ = expressions(frame, [("replicas_ready", role)], series, catalogue)
    return queries.get(("replicas_ready", role), "")


def _length(
    frame: ServiceFrame, name: str, series: pl.DataFrame, catalogue: Catalogue
) -> WatchedLength | str:
    """Return what is asked of the tokens of a request, or why it can't be."""
    tokens, requests = ((signal, "service") for signal in COUNTED[name])
    if not (frame.has(*tokens) and frame.has(*requests)):
        return f"the history has no {tokens[0]} or no {requests[0]}"
    queries, _ = expressions(frame, [tokens, requests], series, catalogue, SignalReading(LENGTHS_OVER_S))
    if not (queries.get(tokens) and queries.get(requests)):
        return f"no query gives {tokens[0]} and {requests[0]}"
    means = hourly_means(frame, tokens, requests)
    if not means:
        return f"no hour of the history has {LENGTHS_REQUESTS} requests"
    return WatchedLength(name, queries[tokens], queries[requests], min(means), max(means))


def hourly_means(frame: ServiceFrame, tokens: tuple[str, str], requests: tuple[str, str]) -> list[float]:
    """Return the tokens of a request in each hour of a service with enough windows and requests."""
    both = frame.table.select(
        "capture",
        pl.col("t").dt.truncate(f"{LENGTHS_OVER_S:.0f}s").alias("hour"),
        pl.col(column(*tokens)).alias("tokens"),
        pl.col(column(*requests)).alias("requests"),
    ).drop_nulls()
    hours = both.group_by("capture", "hour").agg(pl.len(), pl.col("tokens").sum(), pl.col("requests").sum())
    least = COVERAGE_MIN * LENGTHS_OVER_S / frame.window_s
    enough = (pl.col("len") >= least) & (pl.col("requests") * frame.window_s >= LENGTHS_REQUESTS)
    kept = hours.filter(enough).select(pl.col("tokens") / pl.col("requests")).to_series()
    return [float(mean) for mean in kept.sort()]

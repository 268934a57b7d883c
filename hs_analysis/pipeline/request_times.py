"""How long requests took, from the stored histograms, and how long pods have to end them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from hs_analysis.catalogue import Source
from hs_analysis.export.model import IdleTtft
from hs_analysis.ingest.roles import whole_word_role
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.ingest_stages import catalogue_of
from hs_analysis.policy.scale_in import Grace, LatencyHistogram, leaving, scale_in
from hs_analysis.replay.simulate import output_pool
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.decision import ScaleIn
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.settings import Settings

SIGNAL = "e2e_latency"
NAMED = ("dynamo_frontend", "vllm", "sglang")
"""Exporters whose histogram is named where none was recorded."""


def scale_in_of(
    run: Path,
    frame: ServiceFrame,
    settings: Settings,
    timeline: pl.DataFrame,
    policy: str,
    known: Mapping[str, Grace],
) -> ScaleIn | None:
    """Return what scale-in costs in a replay; None where the policy has none, or no pool gives output.

    Parameters
    ----------
    run, frame, settings
        The run folder, the aligned service, and the settings of the run.
    timeline
        Rows of the service of the contract TIMELINE.
    policy
        Name of the rows that are the headline.
    known
        How long the pods of each role have, where the replay knew it.
    """
    rows, role = timeline.filter(pl.col("policy") == policy), output_pool(frame.pools)
    if rows.is_empty() or role is None:
        return None
    found = request_times(run, frame, settings)
    left = leaving(rows, _rates(frame), found.mean_s if found else None, frame.window_s)
    families = [one.histogram for one in _sources(settings) if one.source in NAMED and one.histogram]
    return scale_in(role, found, known.get(role, Grace()), left, families)


def request_times(run: Path, frame: ServiceFrame, settings: Settings) -> LatencyHistogram | None:
    """Return how long the requests of a service took in its window; None where no histogram says.

    The first source of the catalogue that has one counts, front ends before engines. Of a histogram that was
    renamed the edges count that it has under each name.
    """
    series = tables.read(run, "series").filter(pl.col("service") == frame.service)
    for source in _sources(settings):
        parts = [
            part
            for names in source.names
            if (part := _buckets(run, frame, series, source, f"{names.histogram}_bucket"))
        ]
        if not parts:
            continue
        edges = sorted(set.intersection(*(set(part) for part in parts)))
        counts = [sum(part[edge] for part in parts) for edge in edges]
        if len(edges) > 1 and edges[-1] == float("inf") and counts[-1] > 0:
            return LatencyHistogram(tuple(edges[:-1]), tuple(counts[:-1]), counts[-1])
    return None


IDLE_MIN = 10
"""Requests that found a service empty, below which their median TTFT is not taken [requests]; as many as
llm-d's router asks of a calibration record."""


def idle_ttft(log: pl.DataFrame, service: str) -> IdleTtft | None:
    """Return the TTFT of requests that found a service empty and had it alone until their first token.

    The first request of a log is left out, as nobody knows what ran before it, and so are those with cached
    tokens. A request of unknown end is taken to run on. None with fewer than `IDLE_MIN`.

    Parameters
    ----------
    log
        Requests of all services (``REQUESTS``); those without a service count where there is one service.
    service
        ``namespace/model``.
    """
    own = (pl.col("service") == service) | pl.col("service").is_null()
    ended = (pl.col("arrival_s") + pl.col("e2e_s")).fill_null(float("inf"))
    alone = (
        log.filter(own)
        .drop_nulls("arrival_s")
        .sort("capture", "file", "arrival_s")
        .with_columns(
            ended.cum_max().shift(1).over("capture", "file").alias("busy_until_s"),
            pl.col("arrival_s").shift(-1).over("capture", "file").fill_null(float("inf")).alias("next_s"),
        )
        .filter(
            pl.col("busy_until_s") <= pl.col("arrival_s"),
            pl.col("arrival_s") + pl.col("ttft_s") <= pl.col("next_s"),
            pl.col("cached_tokens").fill_null(0) == 0,
        )
        .drop_nulls(["ttft_s", "prompt_tokens"])
    )
    if alone.height < IDLE_MIN:
        return None
    medians = alone.select(pl.col("ttft_s").median(), pl.col("prompt_tokens").median()).row(0)
    return IdleTtft(medians[0], alone.height, medians[1])


def graces(settings: Settings, frame: ServiceFrame) -> dict[str, Grace]:
    """Return how long the pods of each role have, where known: as set, else as their templates say."""
    found: dict[str, Grace] = {}
    if settings.beside.current:
        from hs_analysis.current import read_grace_periods

        for file in settings.beside.current:
            for one in read_grace_periods(file.text, file.name):
                names = [role for name in one.names if (role := whole_word_role(name))]
                role = next(iter(names), frame.pools[0] if len(frame.pools) == 1 else None)
                if role in frame.pools:
                    found.setdefault(str(role), Grace(one.seconds, "file", one.where))
    return found | {role: Grace(seconds, "setting") for role, seconds in settings.grace_s.items()}


def with_graces(settings: Settings, known: Mapping[str, Grace]) -> Settings:
    """Return the settings with the grace periods that are known."""
    return replace(settings, grace_s={role: one.seconds for role, one in known.items()})


def _sources(settings: Settings) -> Iterator[Source]:
    catalogue = catalogue_of(settings)
    yield from next(one.sources for one in catalogue.signals if one.id == SIGNAL)


def _buckets(
    run: Path, frame: ServiceFrame, series: pl.DataFrame, source: Source, metric: str
) -> dict[float, float]:
    """Return per upper edge how many requests a histogram counted in the windows of a service."""
    own = series.filter(pl.col("metric") == metric)
    if source.emitters:
        own = own.filter(pl.col("emitter_role").is_in(list(source.emitters)))
    edges = {}
    for number, labels in own.select("series_id", "labels").iter_rows():
        try:
            edges[number] = source.edge(float(label_map(labels)["le"]))
        except (KeyError, ValueError):
            continue
    if not edges:
        return {}
    first, last = frame.table["t"].min(), frame.table["t"].max()
    before = pl.col("value").shift(1).over("series_id")
    gain = pl.when(pl.col("value") < before).then(pl.col("value")).otherwise(pl.col("value") - before)
    gains = (
        pl.scan_parquet(run / tables.PLACES["samples"])
        .filter(pl.col("series_id").is_in(list(edges)), pl.col("value").is_not_null())
        .filter(pl.col("t").is_between(first, pl.lit(last) + pl.duration(seconds=frame.window_s)))
        .sort("series_id", "t")
        .select("series_id", gain=gain)
        .group_by("series_id")
        .agg(pl.col("gain").sum())
        .collect()
    )
    found: dict[float, float] = {}
    for number, count in sorted(gains.iter_rows()):
        found[edges[number]] = found.get(edges[number], 0.0) + float(count)
    return found


def _rates(frame: ServiceFrame) -> pl.DataFrame:
    """Return the rate of requests per window: of those that started, else of those that finished."""
    started, finished = (frame.values(name, "service") for name in ("request_rate", "completion_rate"))
    rate = pl.Series("rate", np.where(np.isfinite(started), started, finished)).fill_nan(None)
    return frame.table.select("capture", "t").with_columns(rate)

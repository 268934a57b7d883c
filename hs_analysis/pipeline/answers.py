"""What Prometheus would have answered: values of expressions over stored samples, by window."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.controllers import slo_aware
from hs_analysis.current import QuantileAnswer
from hs_analysis.export.queries import duration
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.ingest_stages import catalogue_of
from hs_analysis.pipeline.objects import expressions
from hs_analysis.promql import (
    PROMETHEUS_3,
    Form,
    Grid,
    History,
    Server,
    Vector,
    evaluate,
    parse,
    picked,
    selectors,
)
from hs_analysis.promql.forms import NAME
from hs_analysis.replay.signals import Quantile
from hs_analysis.replay.tokens_in_flight import calm_rows, spread_of, with_tokens_in_flight
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.settings import Settings, Slo


def answers_at_ends(
    form: Form, frame: ServiceFrame, series: pl.DataFrame, samples: Path, server: Server = PROMETHEUS_3
) -> Floats:
    """Return what an expression answers at the end of each window, capture by capture.

    Parameters
    ----------
    form
        An expression that gives one series.
    frame
        The windows.
    series
        All series (``SERIES``).
    samples
        Their stored samples (``SAMPLES``); the last part of the path may be a glob.
    server
        Version and settings of Prometheus.

    Returns
    -------
    Floats
        Shape (rows,), in table order; NaN where it gives nothing, more than one series, or no number.
    """
    found = np.full(frame.table.height, np.nan)
    for rows, vector in _by_capture(form, frame, series, samples, server):
        lone = vector.present.sum(axis=0) == 1
        values = np.where(vector.present, vector.values, 0.0).sum(axis=0)
        found[rows] = np.where(lone, values, np.nan)
    return found


def _by_capture(
    form: Form, frame: ServiceFrame, series: pl.DataFrame, samples: Path, server: Server = PROMETHEUS_3
) -> Iterator[tuple[Integers, Vector]]:
    """Yield the windows of each capture, as rows of the table, and an expression's series at their ends."""
    window_us, captures = round(frame.window_s * 1e6), frame.table["capture"].to_numpy()
    starts_us = frame.table["t"].dt.epoch("us").to_numpy()
    for capture in frame.captures():
        rows = np.flatnonzero(captures == capture)
        own = _asked(form, series.filter(pl.col("capture") == capture))
        first = int(starts_us[rows[0]]) + window_us
        grid = Grid.between(first, int(starts_us[rows[-1]]) + window_us, frame.window_s)
        vector = evaluate(form, _history(own, samples), grid, server)
        at = (starts_us[rows] + window_us - first) // window_us
        yield rows, Vector(vector.labels, vector.values[:, at], vector.present[:, at])


def with_answers(
    frame: ServiceFrame,
    asked: Mapping[tuple[str, str], QuantileAnswer],
    series: pl.DataFrame,
    samples: Path,
) -> ServiceFrame:
    """Return a service with a column for each quantile that is asked for, as its query answered.

    Latencies in seconds, of no pool's instances; a window without observations is null.
    """
    columns, infos = [], []
    for (signal, role), answer in asked.items():
        values = answer.scale * answers_at_ends(answer.form, frame, series, samples)
        known = np.isfinite(values)
        columns.append(pl.Series(column(signal, role), values).fill_nan(None))
        infos.append(
            SignalInfo(
                signal=signal,
                role=role,
                source="derived",
                unit="s",
                pool="ratio",
                family="latency",
                interval_s=frame.window_s,
                coverage=float(known.mean()),
            )
        )
    kept = [one for one in frame.signals if (one.signal, one.role) not in asked]
    return replace(frame, table=frame.table.with_columns(columns), signals=(*kept, *infos))


_MEAN = re.compile(
    r"sum\((?:max without \([^()]*\) \()?"
    r"rate\((?P<family>[A-Za-z_:][\w:]*)_sum(?P<matchers>\{[^{}]*\})?\[\w+\]\)+ / .*?"
    r"(?: (?P<sign>[*/]) (?P<factor>[0-9.e+-]+))?",
    re.DOTALL,
)
"""The mean of a histogram as an expression asks for it."""


P90 = 0.9


def p90s_of(
    frame: ServiceFrame, series: pl.DataFrame, catalogue: Catalogue, slo: Slo
) -> dict[tuple[str, str], QuantileAnswer]:
    """Return the queries of the P90s that llm-d's SLO-aware formula reads, by signal and role.

    Of the latencies with a limit, where their histogram is in the input: of the service, else of a pool.
    """
    found = {}
    for latency in ("ttft", "tbt"):
        roles = [one.role for one in frame.signals if one.signal == latency]
        owner = "service" if "service" in roles else next(iter(roles), None)
        if owner is None or slo.limit_s(latency) is None:
            continue
        buckets = _buckets_of(frame, (latency, owner), series, catalogue)
        if buckets is None:
            continue
        rate = f"rate({buckets.metric}{{{buckets.matchers}}}[{duration(slo_aware.RANGE_S)}])"
        form = parse(f"histogram_quantile({P90}, sum by (le) ({rate}))")
        name = Quantile(latency, P90, slo_aware.RANGE_S).name
        found[name, owner] = QuantileAnswer(form, buckets.scale)
    return found


@dataclass(frozen=True)
class _Buckets:
    """Buckets of a latency: their metric, what picks its series, and seconds per unit of their edges."""

    metric: str
    matchers: str
    scale: float


def _buckets_of(
    frame: ServiceFrame, key: tuple[str, str], series: pl.DataFrame, catalogue: Catalogue
) -> _Buckets | None:
    """Return the buckets of a latency, by the query of its mean; None where it has no histogram."""
    asked, _ = expressions(frame, [key], series, catalogue)
    mean = _MEAN.fullmatch(asked.get(key, ""))
    if mean is None:
        return None
    factor = float(mean["factor"] or 1.0)
    matchers = (mean["matchers"] or "{}")[1:-1]
    return _Buckets(f"{mean['family']}_bucket", matchers, 1.0 / factor if mean["sign"] == "/" else factor)


def _spread_of_ttft(
    frame: ServiceFrame, series: pl.DataFrame, samples: Path, catalogue: Catalogue
) -> float | None:
    """Return cv² of the service's TTFT while nothing waits; None where its buckets do not tell."""
    buckets, calm = _buckets_of(frame, ("ttft", "service"), series, catalogue), calm_rows(frame)
    if buckets is None or not calm.any():
        return None
    labels = series.filter(pl.col("metric") == buckets.metric)["labels"]
    edges = sorted({edge for one in labels if (edge := label_map(one).get("le"))}, key=float)
    found = {edge: np.full(calm.size, np.nan) for edge in edges}
    rate = f"rate({buckets.metric}{{{buckets.matchers}}}[{duration(slo_aware.RANGE_S)}])"
    for rows, vector in _by_capture(parse(f"sum by (le) ({rate})"), frame, series, samples):
        for one, values, present in zip(vector.labels, vector.values, vector.present, strict=True):
            if (edge := one.get("le", "")) in found:
                found[edge][rows] = np.where(present, values, np.nan)
    rates = {float(edge) * buckets.scale: float(np.nansum(values[calm])) for edge, values in found.items()}
    every = rates.pop(math.inf, 0.0)
    return spread_of({edge: rate / every for edge, rate in rates.items()}) if every > 0 else None


def with_p90s(frame: ServiceFrame, folder: Path, settings: Settings) -> ServiceFrame:
    """Return a service of a run folder with a column for each of `p90s_of` that it has not yet."""
    series = tables.read(folder, "series")
    asked = p90s_of(frame, series, catalogue_of(settings), settings.slo)
    more = {key: answer for key, answer in asked.items() if not frame.has(*key)}
    return with_answers(frame, more, series, folder / tables.PLACES["samples"]) if more else frame


def with_llmd_signals(frame: ServiceFrame, folder: Path, settings: Settings) -> ServiceFrame:
    """Return a service of a run folder with what llm-d's objects follow: P90s, and its tokens in flight."""
    frame, series = with_p90s(frame, folder, settings), tables.read(folder, "series")
    samples = folder / tables.PLACES["samples"]
    spread = (
        _spread_of_ttft(frame, series, samples, catalogue_of(settings)) if "prefill" in frame.pools else None
    )
    return with_tokens_in_flight(frame, spread)


def _asked(form: Form, series: pl.DataFrame) -> pl.DataFrame:
    """Return the series that an expression selects."""
    names = [
        {name: value for name, value in label_map(labels).items() if value} | {NAME: metric}
        for metric, labels in series.select("metric", "labels").iter_rows()
    ]
    chosen = sorted({number for one in selectors(form) for number in picked(one, names)})
    return series[chosen]


def _history(series: pl.DataFrame, samples: Path) -> History:
    wanted = series["series_id"].to_list()
    stored = pl.scan_parquet(samples).filter(pl.col("series_id").is_in(wanted))
    columns = stored.select("series_id", "t", "value", "flag").sort("series_id", "t")
    return History.from_frames(series, columns.collect())

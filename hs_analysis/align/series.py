"""One pass over the stored samples: windows of every series in use, and which instances report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO, Protocol

import numpy as np
import polars as pl

from hs_analysis.align.counters import (
    STARTED_INTERVALS,
    Increases,
    MetricSiblings,
    WindowStore,
    counter_windows,
    gain_windows,
    gauge_windows,
    increases_of,
    newer_names,
)
from hs_analysis.align.excluded import TimeRanges, gain_outside
from hs_analysis.align.requests_in_flight import FINISHED, STARTED
from hs_analysis.schema.runners import SampleTable, SeriesReader


@dataclass(frozen=True)
class StoredSamples:
    """The samples of a run, which may be larger than memory.

    Attributes
    ----------
    table
        What the query runner takes for them.
    read
        Reads them series by series.
    scratch
        A binary file open for writing and reading, empty: windows on their way from series to signals.
    """

    table: SampleTable
    read: SeriesReader
    scratch: BinaryIO


MetricKey = tuple[str, str]
"""Capture and metric."""


@dataclass(frozen=True)
class UsedSeries:
    """A series that carries a signal.

    Attributes
    ----------
    metric
        Its capture and metric.
    interval_s
        Its usual interval [s].
    counter
        Whether its rate is read; a gauge's mean is.
    flow
        Whether its gains are kept window by window, too.
    """

    metric: MetricKey
    interval_s: float
    counter: bool
    flow: bool


class SeriesWatcher(Protocol):
    """Looks at series one after the other."""

    def add(self, series_id: int, t_s: np.ndarray, values: np.ndarray) -> None:
        """Take the values of a series and their moments [s since 1970, UTC], in order and at least one."""


SeriesSamples = tuple[int, np.ndarray, np.ndarray]
"""Number of a series, its times and its values."""


class SeriesPass:
    """Reads every series once, and once more before that the newer names of counters that were renamed.

    Parameters
    ----------
    used
        Series that carry signals, by number.
    begun_s
        First sample of any counter of each metric [s since 1970, UTC], or earlier.
    newer
        Per series of an older name those of newer names, whose increases take the place of its own.
    store
        Where windows are kept.
    watchers
        Who looks at every series, too: which instances report, and when they come and go.
    width_s, left_out
        Width of a window [s], and stretches that no total counts.
    """

    def __init__(
        self,
        used: Mapping[int, UsedSeries],
        begun_s: Mapping[MetricKey, float],
        newer: Mapping[int, set[int]],
        store: WindowStore,
        watchers: Sequence[SeriesWatcher],
        width_s: float,
        left_out: TimeRanges,
    ) -> None:
        self._used, self._begun_s, self._newer = used, begun_s, newer
        self._store, self._watchers = store, watchers
        self._width_s, self._left_out = width_s, left_out
        self._times: dict[int, np.ndarray] = {}
        self._totals: dict[int, float] = {}

    def read(self, reporters: set[int], read: SeriesReader) -> pl.DataFrame:
        """Read all series in use, and the reporters.

        Returns
        -------
        What the counters gained outside the stretches left out, as the query ``align/totals`` takes it.
        """
        newest = {n for names in self._newer.values() for n in names if n in self._used}
        metrics = {self._used[n].metric for n in newest}
        siblings = {n for n, one in self._used.items() if one.metric in metrics and one.counter}
        for series_id, increases in self._increases(_present(read(siblings))):
            if series_id in newest:
                self._times[series_id] = increases.t1
        for series_id, increases in self._increases(self._others(read(reporters.union(self._used)))):
            self._keep(series_id, increases)
        columns = {"series_id": list(self._totals), "gain": list(self._totals.values())}
        return pl.DataFrame(columns, schema={"series_id": pl.Int64, "gain": pl.Float64})

    def _others(self, samples: Iterator[SeriesSamples]) -> Iterator[SeriesSamples]:
        """Take what gauges and reporters show, and hand the counters on."""
        for series_id, t_s, values in _present(samples):
            for watcher in self._watchers:
                watcher.add(series_id, t_s, values)
            used = self._used.get(series_id)
            if used is not None and used.counter:
                yield series_id, t_s, values
            elif used is not None:
                windows = gauge_windows(t_s, values, used.interval_s, self._width_s)
                self._store.put("windows", series_id, windows)

    def _increases(self, counters: Iterator[SeriesSamples]) -> Iterator[tuple[int, Increases]]:
        """Yield the increases of counters that come metric by metric.

        One that may have been born late waits until all its siblings are known.
        """
        for metric, family in groupby(counters, key=lambda one: self._used[one[0]].metric):
            siblings, late = MetricSiblings(), []
            for series_id, t_s, values in family:
                siblings.add(t_s, values)
                interval_s = self._used[series_id].interval_s
                if t_s[0] > self._begun_s[metric] + STARTED_INTERVALS * interval_s:
                    late.append((series_id, t_s, values))
                else:
                    yield series_id, increases_of(t_s, values, interval_s)
            for series_id, t_s, values in late:
                interval_s = self._used[series_id].interval_s
                birth = siblings.birth(float(t_s[0]), float(values[0]), interval_s)
                yield series_id, increases_of(t_s, values, interval_s, birth)

    def _keep(self, series_id: int, increases: Increases) -> None:
        """Keep the windows of a counter, without the increases that a newer name reports.

        One scrape brings both names at one moment.
        """
        for newer in self._newer.get(series_id, ()):
            if newer in self._times:
                increases = increases.only(~np.isin(increases.t1, self._times[newer]))
        self._store.put("windows", series_id, counter_windows(increases, self._width_s))
        if self._used[series_id].flow:
            self._store.put("gains", series_id, gain_windows(increases, self._width_s))
        if increases.gain.size:
            self._totals[series_id] = gain_outside(increases, self._left_out)


def _present(samples: Iterator[SeriesSamples]) -> Iterator[SeriesSamples]:
    """Yield series without their missing values and with times in seconds; none that has no value."""
    for series_id, t_us, values in samples:
        there = ~np.isnan(values)
        if there.all():
            yield series_id, t_us / 1e6, values
        elif there.any():
            yield series_id, t_us[there] / 1e6, values[there]


def used_series(series: pl.DataFrame, terms: pl.DataFrame, usual_s: float) -> dict[int, UsedSeries]:
    """Return the series that carry signals.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    terms
        The term table.
    usual_s
        Interval of a series that has none of its own [s].
    """
    flows = set(terms.filter(pl.col("signal").is_in([STARTED, FINISHED]))["series_id"])
    rows = series.join(terms.select("series_id", "read").unique().sort("series_id", "read"), "series_id")
    columns = ("series_id", "capture", "metric", "interval_s", "read")
    return {
        n: UsedSeries(
            (capture, metric), usual_s if interval_s is None else interval_s, read == "rate", n in flows
        )
        for n, capture, metric, interval_s, read in rows.select(columns).iter_rows()
    }


def first_scrapes(used: Mapping[int, UsedSeries], quality: pl.DataFrame) -> dict[MetricKey, float]:
    """Return when the first counter of each metric has its first row [s since 1970, UTC]."""
    first = quality.drop_nulls("first_t").select("series_id", pl.col("first_t").dt.epoch("us") / 1e6)
    found: dict[MetricKey, float] = {}
    for series_id, at in first.iter_rows():
        if (one := used.get(series_id)) is not None and one.counter:
            found[one.metric] = min(at, found.get(one.metric, at))
    return found


def renamed(terms: pl.DataFrame) -> dict[int, set[int]]:
    """Return the newer names of older ones, nothing where no metric of the terms was ever renamed."""
    return newer_names(terms) if terms["generation"].max() else {}

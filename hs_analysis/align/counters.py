"""Windows of single series: increases and rates of counters, means of gauges.

The reference queries ``align/increases``, ``align/newest_names`` and ``align/counter_windows`` of the tests
are the same work in SQL for all counters at once.

The reference queries ``align/counter_windows`` and ``align/gauge_windows`` of the tests are the same work in
SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
import polars as pl

from hs_analysis.schema.frames import GAP_INTERVALS

STARTED_INTERVALS = 1.5
"""A counter whose first sample comes so many intervals after its siblings' first was born late."""

MOST_AT_START = 10.0
"""A first value over so many times the largest gain of its siblings is an old counter seen late [ratio];
default of this project."""


@dataclass(frozen=True)
class Increases:
    """What a counter gained from one sample to the next, in time order; shape (n,) each.

    ``t0`` and ``t1`` are times of the earlier and the later sample [s since 1970, UTC]; ``gap`` is whether
    the pause is too long to belong to one window's rate.
    """

    t0: np.ndarray
    t1: np.ndarray
    gain: np.ndarray
    gap: np.ndarray

    def only(self, kept: np.ndarray) -> Increases:
        """Return those of a mask."""
        return Increases(self.t0[kept], self.t1[kept], self.gain[kept], self.gap[kept])


StartTimes = tuple[float, float]
"""When a counter born late began to count [s since 1970, UTC], and its count at its first sample."""


def increases_of(
    t_s: np.ndarray, values: np.ndarray, interval_s: float, birth: StartTimes | None = None
) -> Increases:
    """Return the increases of one counter; after a reset the new value is the increase.

    Parameters
    ----------
    t_s, values
        Its samples in time order, none missing [s since 1970, UTC].
    interval_s
        Its usual interval.
    birth
        What is known of its birth, None where it was there from the start.
    """
    before, after = values[:-1], values[1:]
    t0, t1, gain = t_s[:-1], t_s[1:], np.where(after < before, after, after - before)
    if birth is not None:
        t0, t1, gain = (
            np.concatenate([[first], rest])
            for first, rest in ((birth[0], t0), (t_s[0], t1), (birth[1], gain))
        )
    return Increases(t0, t1, gain, t1 - t0 > GAP_INTERVALS * interval_s)


class MetricSiblings:
    """The counters of one metric and capture: they tell what a counter that comes later counted from."""

    def __init__(self) -> None:
        self._moments = np.empty(0)
        self._largest: float | None = None

    def add(self, t_s: np.ndarray, values: np.ndarray) -> None:
        """Take the samples of a counter in time order, none missing and at least one."""
        if not np.array_equal(t_s, self._moments):
            self._moments = merged_times(self._moments, t_s)
        if values.size > 1:
            largest = float(np.where(values[1:] < values[:-1], values[1:], np.diff(values)).max())
            self._largest = largest if self._largest is None else max(self._largest, largest)

    def birth(self, first_s: float, first_value: float, interval_s: float) -> StartTimes | None:
        """Return the birth of a counter that was added, by its first sample; None when it was no birth.

        It counted from zero since the last look at any sibling.
        """
        late = first_s > self._moments[0] + STARTED_INTERVALS * interval_s
        if not late or self._largest is None or first_value > MOST_AT_START * self._largest:
            return None
        last_look = self._moments[np.searchsorted(self._moments, first_s) - 1]
        return min(float(last_look), first_s - interval_s), first_value


def merged_times(known: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return two sets of moments as one; each is sorted and free of repeats."""
    if not known.size:
        return more
    at = np.minimum(np.searchsorted(known, more), known.size - 1)
    new = more[known[at] != more]
    return np.union1d(known, new) if new.size else known


class MomentSet:
    """Moments that series brought, each once; series that share their times are told at a glance."""

    def __init__(self) -> None:
        self._known = np.empty(0)
        self._times = np.empty(0)
        self._marked = np.empty(0, bool)

    def add(self, t_s: np.ndarray, marked: np.ndarray | None = None) -> None:
        """Take some moments, or those of a mask; they are sorted and free of repeats."""
        if not np.array_equal(t_s, self._times):
            self._settle()
            self._times, self._marked = t_s, np.zeros(t_s.size, bool)
        self._marked |= np.True_ if marked is None else marked

    def moments(self) -> np.ndarray:
        """Return the moments, sorted."""
        self._settle()
        return self._known

    def _settle(self) -> None:
        if self._marked.any():
            self._known = merged_times(self._known, self._times[self._marked])
            self._marked = np.zeros(self._times.size, bool)


def newer_names(terms: pl.DataFrame) -> dict[int, set[int]]:
    """Return, per series of an older metric name, the series of newer names of the same emitter and part.

    Parameters
    ----------
    terms
        The term table.
    """
    part = ["service", "capture", "signal", "preference", "term", "emitter"]
    found: dict[int, set[int]] = {}
    for _, own in terms.select(*part, "generation", "series_id").unique().group_by(part):
        named = list(own.select("generation", "series_id").iter_rows())
        for generation, series_id in named:
            newer = {other for earlier, other in named if earlier < generation and other != series_id}
            if newer:
                found.setdefault(series_id, set()).update(newer)
    return found


@dataclass(frozen=True)
class SeriesWindows:
    """Neighbouring windows of one series; shape (n,) each.

    Attributes
    ----------
    first
        Number of the first: windows since 1970.
    value
        Value of each; without meaning where there is none.
    coverage
        Share of its samples that are there [ratio, 0..1]; 0 = no value.
    """

    first: int
    value: np.ndarray
    coverage: np.ndarray


def counter_windows(increases: Increases, width_s: float) -> SeriesWindows:
    """Return the rate of a counter per window: increases shared out over the windows they overlap.

    Increases over a gap belong to none.
    """
    own = increases.only(~increases.gap & (increases.t1 > increases.t0))
    begin = np.floor(own.t0 / width_s).astype(np.int64)
    parts = np.ceil(own.t1 / width_s).astype(np.int64) - begin
    which = np.repeat(np.arange(parts.size), parts)
    slot = begin[which] + np.arange(which.size) - np.repeat(np.cumsum(parts) - parts, parts)
    t0, t1 = own.t0[which], own.t1[which]
    overlap_s = np.minimum(t1, (slot + 1) * width_s) - np.maximum(t0, slot * width_s)
    shared = overlap_s > 0
    rate = (own.gain / (own.t1 - own.t0))[which[shared]]
    first, total, covered_s = _per_slot(slot[shared], rate * overlap_s[shared], overlap_s[shared])
    with np.errstate(invalid="ignore"):
        return SeriesWindows(first, total / covered_s, np.minimum(1.0, covered_s / width_s))


def gauge_windows(t_s: np.ndarray, values: np.ndarray, interval_s: float, width_s: float) -> SeriesWindows:
    """Return the mean of a gauge per window; a sample at the end of a window belongs to it."""
    first, total, count = _per_slot(slots_of(t_s, width_s), values, np.ones(values.size))
    with np.errstate(invalid="ignore"):
        return SeriesWindows(first, total / count, np.minimum(1.0, count * interval_s / width_s))


def gain_windows(increases: Increases, width_s: float) -> SeriesWindows:
    """Return what a counter gained in each window, gaps included: all of an increase where it ends."""
    slots = slots_of(increases.t1, width_s)
    first, total, count = _per_slot(slots, increases.gain, np.ones(slots.size))
    return SeriesWindows(first, total, np.minimum(1.0, count))


def slots_of(t_s: np.ndarray, width_s: float) -> np.ndarray:
    """Return the number of the window each moment belongs to; its end does, its start does not."""
    return np.asarray(np.ceil(t_s / width_s), np.int64) - 1


def _per_slot(slots: np.ndarray, *columns: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the first slot, and the sums of two columns in each from there on, added up in their order."""
    if not slots.size:
        return 0, np.empty(0), np.empty(0)
    first = int(slots.min())
    sums = [np.bincount(slots - first, weights=column) for column in columns]
    return first, sums[0], sums[1]


StoredKind = Literal["windows", "gains"]
"""Windows; what counters gained in each."""


class WindowStore:
    """Keeps windows of series in a file and gives them back; memory is one series.

    Parameters
    ----------
    file
        A binary file open for writing and reading, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._places: dict[tuple[StoredKind, int], tuple[int, int, int]] = {}

    def put(self, kind: StoredKind, series_id: int, windows: SeriesWindows) -> None:
        """Keep the windows of a series; one without any is forgotten."""
        size = windows.value.size
        if size:
            self._file.seek(self._end)
            self._file.write(windows.value.tobytes())
            self._file.write(windows.coverage.tobytes())
            self._places[kind, series_id] = (self._end, windows.first, size)
            self._end += 2 * size * 8

    def bounds(self, kind: StoredKind, series_id: int) -> tuple[int, int] | None:
        """Return the first window of a series and the one after its last, None when it has none."""
        place = self._places.get((kind, series_id))
        return None if place is None else (place[1], place[1] + place[2])

    def get(self, kind: StoredKind, series_id: int) -> SeriesWindows | None:
        """Return the windows of a series, None when it has none."""
        place = self._places.get((kind, series_id))
        if place is None:
            return None
        offset, first, size = place
        self._file.seek(offset)
        both = np.frombuffer(self._file.read(2 * size * 8), np.float64)
        return SeriesWindows(first, both[:size], both[size:])

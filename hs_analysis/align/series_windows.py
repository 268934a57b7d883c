"""Windows of single series: rates of counters, means of gauges, and where they wait until signals need them.

The reference queries ``align/counter_windows`` and ``align/gauge_windows`` of the tests are the same work in
SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

from hs_analysis.align.increases import Increases


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


Kind = Literal["windows", "gains"]
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
        self._places: dict[tuple[Kind, int], tuple[int, int, int]] = {}

    def put(self, kind: Kind, series_id: int, windows: SeriesWindows) -> None:
        """Keep the windows of a series; one without any is forgotten."""
        size = windows.value.size
        if size:
            self._file.seek(self._end)
            self._file.write(windows.value.tobytes())
            self._file.write(windows.coverage.tobytes())
            self._places[kind, series_id] = (self._end, windows.first, size)
            self._end += 2 * size * 8

    def bounds(self, kind: Kind, series_id: int) -> tuple[int, int] | None:
        """Return the first window of a series and the one after its last, None when it has none."""
        place = self._places.get((kind, series_id))
        return None if place is None else (place[1], place[1] + place[2])

    def get(self, kind: Kind, series_id: int) -> SeriesWindows | None:
        """Return the windows of a series, None when it has none."""
        place = self._places.get((kind, series_id))
        if place is None:
            return None
        offset, first, size = place
        self._file.seek(offset)
        both = np.frombuffer(self._file.read(2 * size * 8), np.float64)
        return SeriesWindows(first, both[:size], both[size:])

"""Counter increases, counter by counter.

The reference queries ``align/increases``, ``align/newest_names`` and ``align/counter_windows`` of the tests
are the same work in SQL for all counters at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

GAP_INTERVALS = 2.5
"""A pause longer than so many usual intervals belongs to no window's rate."""

BORN_INTERVALS = 1.5
"""A counter whose first sample comes so many intervals after its siblings' first was born late."""

MOST_AT_BIRTH = 10.0
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


Birth = tuple[float, float]
"""When a counter born late began to count [s since 1970, UTC], and its count at its first sample."""


def increases_of(
    t_s: np.ndarray, values: np.ndarray, interval_s: float, birth: Birth | None = None
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


class Siblings:
    """The counters of one metric and capture: they tell what a counter that comes later counted from."""

    def __init__(self) -> None:
        self._moments = np.empty(0)
        self._largest: float | None = None

    def add(self, t_s: np.ndarray, values: np.ndarray) -> None:
        """Take the samples of a counter in time order, none missing and at least one."""
        if not np.array_equal(t_s, self._moments):
            self._moments = united(self._moments, t_s)
        if values.size > 1:
            largest = float(np.where(values[1:] < values[:-1], values[1:], np.diff(values)).max())
            self._largest = largest if self._largest is None else max(self._largest, largest)

    def birth(self, first_s: float, first_value: float, interval_s: float) -> Birth | None:
        """Return the birth of a counter that was added, by its first sample; None when it was no birth.

        It counted from zero since the last look at any sibling.
        """
        late = first_s > self._moments[0] + BORN_INTERVALS * interval_s
        if not late or self._largest is None or first_value > MOST_AT_BIRTH * self._largest:
            return None
        last_look = self._moments[np.searchsorted(self._moments, first_s) - 1]
        return min(float(last_look), first_s - interval_s), first_value


def united(known: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return two sets of moments as one; each is sorted and free of repeats."""
    if not known.size:
        return more
    at = np.minimum(np.searchsorted(known, more), known.size - 1)
    new = more[known[at] != more]
    return np.union1d(known, new) if new.size else known


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

"""How many series repeat their last value at each moment, counted series by series.

The reference query ``ingest/repeats`` of the tests says the same in SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

COUNTS = ("series", "repeats", "clocks", "clock_repeats", "begun", "ended")

GRIDS = 64
"""Grids kept apart before they are merged into the first: bounds memory and search where every target has
its own scrape times."""

MOST_MOMENTS = 1 << 19
"""Moments of all grids but the first that wait for a merge; more only where the first has more itself."""

_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "capture": pl.String,
    "t": pl.Datetime("us", "UTC"),
    **dict.fromkeys(("series", "repeats", "clocks", "clock_repeats", "alive"), pl.Int64),
}


@dataclass
class _Grid:
    """Moments that several series share, and what was counted at each: shape (6, moments)."""

    t_us: np.ndarray
    counts: np.ndarray


@dataclass
class Moments:
    """Counts of all series seen so far, per capture."""

    _grids: dict[str, list[_Grid]] = field(default_factory=dict)

    def add(self, capture: str, t_us: np.ndarray, values: np.ndarray, *, clock_like: bool) -> None:
        """Count one series: stored samples in time order; missing values are left out."""
        there = ~np.isnan(values)
        if not there.all():
            t_us, values = t_us[there], values[there]
        if not t_us.size:
            return
        counts, at = self._place(capture, t_us)
        again = values[1:] == values[:-1]
        counts[0, at[1:]] += 1
        counts[1, at[1:]] += again
        if clock_like:
            counts[2, at[1:]] += 1
            counts[3, at[1:]] += again
        counts[4, at[0]] += 1
        counts[5, at[-1]] += 1

    def _place(self, capture: str, t_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of a grid that holds all these moments, and where in it they are."""
        grids = self._grids.setdefault(capture, [])
        for grid in reversed(grids[-4:]):  # series of one target lie together
            if grid.t_us.size == t_us.size and np.array_equal(grid.t_us, t_us):
                return grid.counts, np.arange(t_us.size)
        if grids and grids[0].t_us.size >= t_us.size:
            at = np.minimum(np.searchsorted(grids[0].t_us, t_us), grids[0].t_us.size - 1)
            if np.array_equal(grids[0].t_us[at], t_us):
                return grids[0].counts, at
        waiting = sum(grid.t_us.size for grid in grids[1:])
        if len(grids) >= GRIDS or (grids and waiting > max(MOST_MOMENTS, grids[0].t_us.size)):
            grids[:] = [_merged(grids)]
            return self._place(capture, t_us)
        grids.append(_Grid(t_us.copy(), np.zeros((len(COUNTS), t_us.size), np.int32)))
        return grids[-1].counts, np.arange(t_us.size)

    def frame(self) -> pl.DataFrame:
        """Return the counts per capture and moment at which a series has a value and had one before, sorted.

        Columns: capture, t, series, repeats, clocks, clock_repeats, alive.
        """
        frames = [pl.DataFrame(schema=_SCHEMA)]
        for capture, grids in sorted(self._grids.items()):
            whole = _merged(grids)
            series, repeats, clocks, clock_repeats, begun, ended = whole.counts.astype(np.int64)
            lives = np.cumsum(begun - ended) - (begun - ended)
            frame = pl.DataFrame(
                {
                    "capture": pl.Series([capture]).new_from_index(0, whole.t_us.size),
                    "t": pl.Series(whole.t_us).cast(pl.Datetime("us", "UTC")),
                    "series": series,
                    "repeats": repeats,
                    "clocks": clocks,
                    "clock_repeats": clock_repeats,
                    "alive": lives,
                },
                schema=_SCHEMA,
            )
            frames.append(frame.filter(pl.col("series") > 0))
        return pl.concat(frames)


def _merged(grids: list[_Grid]) -> _Grid:
    if len(grids) == 1:
        return grids[0]
    t_us, place = np.unique(np.concatenate([grid.t_us for grid in grids]), return_inverse=True)
    counts = np.concatenate([grid.counts for grid in grids], axis=1)
    summed = np.stack([np.bincount(place, row, minlength=t_us.size) for row in counts])
    return _Grid(t_us, np.round(summed).astype(np.int32))

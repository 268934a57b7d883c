"""Who is scraped when: targets, the grid of a range query, and what outages leave in it.

A range query gives, at each point of its grid, the last sample no older than five minutes that was not
marked stale. Each target is scraped at its own offset inside the interval, so that a point shows a state up
to one interval old. A failed scrape marks the target's series stale (no point, and `up` 0); while Prometheus
itself is down nothing is marked, and the last values repeat for five minutes. (Prometheus documentation:
staleness.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.lives import Life

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOOK_BACK_S = 300.0
"""How old a sample a range query may return (Prometheus' default)."""

MISSED_SCRAPES = 0.001
"""Share of scrapes that fail; a choice of this project."""


@dataclass(frozen=True)
class Series:
    """One series on the grid: labels with ``__name__``, and values of shape (points,), NaN = no point."""

    labels: dict[str, str]
    values: Floats


@dataclass(frozen=True)
class Target:
    """One scrape target.

    Attributes
    ----------
    labels
        What service discovery puts on each of its series.
    sample_s
        When the value of each grid point was scraped [s since the start], shape (points,).
    there
        Points at which its process runs, shape (points,).
    missed
        Points at which its scrape failed, shape (points,).
    """

    labels: dict[str, str]
    sample_s: Floats
    there: Flags
    missed: Flags

    def series(self, name: str, values: Floats, **labels: str) -> Series:
        """Return a series of this target; points without a successful scrape are NaN."""
        seen = np.where(self.there & ~self.missed, values, np.nan)
        return Series({"__name__": name, **self.labels, **labels}, seen)


def target(
    labels: dict[str, str],
    grid_s: Floats,
    step_s: float,
    from_s: float,
    until_s: float,
    rng: np.random.Generator,
) -> Target:
    """Return a target whose process runs from `from_s` to `until_s`, scraped at an offset of its own."""
    sample = grid_s - float(rng.uniform(0.2, step_s - 0.2))
    there = (sample >= from_s) & (sample < until_s)
    return Target(labels, sample, there, there & (rng.random(grid_s.size) < MISSED_SCRAPES))


def gone_s(life: Life, last_s: float) -> float:
    """Return when the process of a life ends: closed and done with its last request [s]."""
    return max(life.close_s, last_s)


def counted(time_s: Floats, weight: Floats | None, sample_s: Floats) -> Floats:
    """Return a counter's value at each scrape: how many (or how much) until then, shape (points,)."""
    happened = np.isfinite(time_s)
    moments = time_s[happened]
    order = np.argsort(moments, kind="stable")
    amounts = np.ones(moments.size) if weight is None else weight[happened][order]
    total = np.r_[0.0, np.cumsum(amounts)]
    return np.asarray(total[np.searchsorted(moments[order], sample_s, side="right")])


def bucketed(time_s: Floats, value: Floats, edges: Floats, sample_s: Floats) -> Floats:
    """Return a histogram's cumulative buckets at each scrape, shape (edges + 1, points); the last is +Inf."""
    happened = np.isfinite(time_s) & np.isfinite(value)
    bucket = np.searchsorted(edges, value[happened], side="left")
    point = np.searchsorted(sample_s, time_s[happened], side="left")
    size = (edges.size + 1, sample_s.size + 1)
    cells = np.bincount(bucket * size[1] + point, minlength=size[0] * size[1]).reshape(size)
    return np.asarray(cells.cumsum(axis=0).cumsum(axis=1)[:, :-1], dtype=float)


def at_scrape(values: Floats, first: int, sample_s: Floats) -> Floats:
    """Return a gauge at each scrape from its values at the ends of seconds first, first + 1, …; 0 outside."""
    if values.size == 0:
        return np.zeros(sample_s.size)
    index = np.floor(sample_s).astype(int) - 1 - first
    return np.where(index < 0, 0.0, values[np.clip(index, 0, values.size - 1)])


def silent(series: list[Series], grid_s: Floats, outages: list[tuple[float, float]]) -> list[Series]:
    """Return the series as a range query shows them when Prometheus was down in [begin, end) of outages."""
    source = np.arange(grid_s.size)
    lost = np.zeros(grid_s.size, dtype=bool)
    for begin, end in outages:
        inside = (grid_s >= begin) & (grid_s < end)
        if not inside.any() or inside[0]:
            continue
        last = int(np.argmax(inside)) - 1
        source[inside] = last
        lost |= inside & (grid_s - grid_s[last] > LOOK_BACK_S)
    return [Series(one.labels, np.where(lost, np.nan, one.values[source])) for one in series]


def merged(series: list[Series]) -> list[Series]:
    """Join series of equal labels (a pod that was restarted), sorted by labels."""
    joined: dict[tuple[tuple[str, str], ...], Floats] = {}
    for one in series:
        key = tuple(sorted(one.labels.items()))
        known = joined.get(key)
        joined[key] = one.values if known is None else np.where(np.isnan(one.values), known, one.values)
    return [Series(dict(key), joined[key]) for key in sorted(joined)]

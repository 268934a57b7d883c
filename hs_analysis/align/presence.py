"""Instances of each pool that report in a window.

The reference query ``align/instances`` of the tests is the same work in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from hs_analysis.align.increases import united
from hs_analysis.align.series_windows import slots_of

_POOL = ("service", "capture", "role", "gpu_group")

INSTANCE_WINDOWS = {
    "service": pl.String, "capture": pl.String, "role": pl.String, "gpu_group": pl.String, "t": pl.Float64,
    "instances": pl.Float64,
}  # fmt: skip
"""Columns of the result, as the reference query gives them."""

Pool = tuple[str, str, str, str | None]
"""Service, capture, role and GPU model, None = all together."""


class Presence:
    """Takes the samples of series that prove an instance, one after the other.

    Parameters
    ----------
    reporters
        Those series, as `instances.reporters` gives them.
    width_s
        Width of a window [s].
    """

    def __init__(self, reporters: pl.DataFrame, width_s: float) -> None:
        self._width_s = width_s
        self._proves: dict[int, list[tuple[Pool, str, float]]] = {}
        for series_id, *pool, instance, interval_s in reporters.select(
            "series_id", *_POOL, "instance", "interval_s"
        ).iter_rows():
            self._proves.setdefault(series_id, []).append(((*pool,), instance, interval_s))
        self._seen: dict[Pool, dict[str, _Instance]] = {}

    def add(self, series_id: int, t_s: np.ndarray, values: np.ndarray) -> None:  # noqa: ARG002
        """Take the moments at which a series has a value [s since 1970, UTC], in order and at least one."""
        for pool, instance, interval_s in self._proves.get(series_id, ()):
            known = self._seen.setdefault(pool, {}).setdefault(instance, _Instance())
            known.add(t_s, interval_s, self._width_s)

    def counts(self, present_share: float) -> pl.DataFrame:
        """Return the reporting instances per pool and window, columns INSTANCE_WINDOWS, sorted.

        Parameters
        ----------
        present_share
            Share of the expected samples that makes an instance present [ratio, 0..1]. A window in which
            none has so many is null.
        """
        frames = [
            self._pool(pool, seen, present_share)
            for pool, seen in sorted(self._seen.items(), key=lambda one: (*one[0][:3], nulls_last(one[0][3])))
        ]
        return pl.concat([pl.DataFrame(schema=INSTANCE_WINDOWS), *frames])

    def _pool(self, pool: Pool, seen: Mapping[str, _Instance], present_share: float) -> pl.DataFrame:
        shares = [one.shares(self._width_s) for one in seen.values()]
        first = min(low for low, _ in shares)
        count, there = (np.zeros(max(low + s.size for low, s in shares) - first) for _ in range(2))
        for low, share in shares:
            own = slice(low - first, low - first + share.size)
            there[own] += share > 0
            count[own] += share >= present_share
        slots = np.flatnonzero(there)
        counted = pl.Series(np.where(count[slots] > 0, count[slots], np.nan)).fill_nan(None)
        return pl.DataFrame(
            {"t": (first + slots) * self._width_s, "instances": counted},
            schema_overrides={"t": pl.Float64, "instances": pl.Float64},
        ).select(
            *(pl.lit(name, pl.String).alias(key) for key, name in zip(_POOL, pool, strict=True)),
            "t", "instances",
        )  # fmt: skip


class _Instance:
    """The moments at which an instance reported, and the shortest interval of its series in each window."""

    def __init__(self) -> None:
        self._moments = np.empty(0)
        self._first = 0
        self._interval_s = np.empty(0)

    def add(self, t_s: np.ndarray, interval_s: float, width_s: float) -> None:
        if not np.array_equal(t_s, self._moments):
            self._moments = united(self._moments, t_s)
        slots = slots_of(t_s[[0, -1]], width_s)
        first, after = int(slots[0]), int(slots[1]) + 1
        if self._interval_s.size:
            grown_to = max(after, self._first + self._interval_s.size)
            grown = np.full(grown_to - min(first, self._first), np.inf)
            offset = self._first - min(first, self._first)
            grown[offset : offset + self._interval_s.size] = self._interval_s
            self._first, self._interval_s = min(first, self._first), grown
        else:
            self._first, self._interval_s = first, np.full(after - first, np.inf)
        there = slots_of(t_s, width_s) - self._first
        self._interval_s[there] = np.minimum(self._interval_s[there], interval_s)

    def shares(self, width_s: float) -> tuple[int, np.ndarray]:
        """Return the first window and, from there on, the share of the expected samples; 0 = none."""
        moments = np.bincount(slots_of(self._moments, width_s) - self._first, minlength=self._interval_s.size)
        return self._first, moments * np.where(moments > 0, self._interval_s, 0.0) / width_s


def nulls_last(name: str | None) -> tuple[bool, str]:
    """Return the key that sorts names as SQL does."""
    return name is None, name or ""

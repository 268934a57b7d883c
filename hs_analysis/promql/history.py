"""What an expression is evaluated on: series with their labels and their samples, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow.compute as pc

from hs_analysis.promql.forms import NAME, Matcher, Selector
from hs_analysis.schema.frames import label_map

Labels = Mapping[str, str]
"""Labels of a series, its metric's name among them as ``__name__``; none is empty."""

STALE = "stale"
"""Flag of a sample with which a series ends until its next sample."""

MEASURED = {"nan": np.nan, "pos_inf": np.inf, "neg_inf": -np.inf}
"""Flags of samples that were no finite number → what the exporter said; other flags say there is none."""

_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """Moments of an evaluation: ``steps`` of them from ``start_us`` [us UTC] on, ``step_us`` [us] apart."""

    start_us: int
    step_us: int
    steps: int

    @classmethod
    def between(cls, start_us: int, end_us: int, step_s: float) -> Grid:
        """Return the moments from a first one to a last one, which need not be met exactly."""
        step_us = round(step_s * _MICROSECONDS)
        return cls(start_us, step_us, (end_us - start_us) // step_us + 1)

    @property
    def end_us(self) -> int:
        """Last moment [us UTC]."""
        return self.start_us + (self.steps - 1) * self.step_us

    @property
    def times_us(self) -> np.ndarray:
        """All moments [us UTC], shape (steps,)."""
        return self.start_us + self.step_us * np.arange(self.steps, dtype=np.int64)


@dataclass(frozen=True)
class Rows:
    """Samples of some series, one series after the other, each by time.

    Attributes
    ----------
    starts
        First sample of each series, and the number of all samples, shape (series + 1,).
    t_us, values
        Times [us UTC] and values, shape (samples,).
    stale
        Samples that end their series, shape (samples,).
    """

    starts: np.ndarray
    t_us: np.ndarray
    values: np.ndarray
    stale: np.ndarray

    @property
    def row_of(self) -> np.ndarray:
        """Number of the series of each sample, shape (samples,)."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))

    def within(self, numbers: Sequence[int], from_us: int, to_us: int) -> Rows:
        """Return the samples of some series in a stretch of time, both ends included."""
        bounds = []
        for number in numbers:
            first, after = self.starts[number], self.starts[number + 1]
            times = self.t_us[first:after]
            start, end = times.searchsorted((from_us, to_us + 1))
            bounds.append(slice(int(first + start), int(first + end)))
        starts = np.cumsum([0, *(one.stop - one.start for one in bounds)])
        if not bounds:
            return Rows(starts, self.t_us[:0], self.values[:0], self.stale[:0])
        columns = (np.concatenate([one[b] for b in bounds]) for one in (self.t_us, self.values, self.stale))
        return Rows(starts, *columns)

    def without_ends(self) -> Rows:
        """Return the samples without those that only end a series."""
        if not self.stale.any():
            return self
        kept = ~self.stale
        counts = np.bincount(self.row_of[kept], minlength=self.starts.size - 1)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Rows(starts, self.t_us[kept], self.values[kept], self.stale[kept])


@dataclass(frozen=True)
class History:
    """Series by number: their labels, and their samples where they were read."""

    labels: tuple[Labels, ...]
    rows: Rows

    @classmethod
    def of(cls, series: Iterable[tuple[Labels, np.ndarray, np.ndarray, np.ndarray]]) -> History:
        """Build from (labels, times [us UTC], values, which of them end the series), each by time."""
        found = list(series)
        starts = np.cumsum([0, *(t_us.size for _, t_us, _, _ in found)])
        empty = (np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))
        columns = [np.concatenate([none, *(one[1 + i] for one in found)]) for i, none in enumerate(empty)]
        named = tuple({name: value for name, value in one[0].items() if value} for one in found)
        return cls(named, Rows(starts, *columns))

    @classmethod
    def from_frames(cls, series: pl.DataFrame, samples: pl.DataFrame) -> History:
        """Build from frames of contracts ``SERIES`` and ``SAMPLES``.

        A null whose flag says that the exporter gave no finite number is that; one that ends its series ends
        it; any other null is no sample.
        """
        code = pl.col("flag").replace_strict(MEASURED, default=None, return_dtype=pl.Float64)
        kept = (
            samples.with_columns(
                pl.coalesce("value", code).alias("read"),
                (pl.col("flag") == STALE).fill_null(value=False).alias("ends"),
            )
            .filter(pl.col("read").is_not_null() | pl.col("ends"))
            .sort("series_id", "t")
        )
        by_number = {number: part for (number,), part in kept.partition_by("series_id", as_dict=True).items()}
        nothing = kept.clear()
        return cls.of(
            (
                {**label_map(labels), NAME: metric},
                (part := by_number.get(number, nothing))["t"].dt.epoch("us").to_numpy(),
                part["read"].fill_null(np.nan).to_numpy(),
                part["ends"].to_numpy(),
            )
            for number, metric, labels in series.select("series_id", "metric", "labels").iter_rows()
        )


def picked(selector: Selector, labels: Sequence[Labels]) -> tuple[int, ...]:
    """Return the numbers of the series that a selector picks, in their order."""
    numbers = range(len(labels))
    for matcher in selector.matchers:
        values = [labels[number].get(matcher.label, "") for number in numbers]
        passing = _passing(matcher, set(values))
        numbers = [number for number, value in zip(numbers, values, strict=True) if value in passing]  # type: ignore[assignment]
    return tuple(numbers)


def _passing(matcher: Matcher, values: set[str]) -> set[str]:
    """Return the values that a matcher lets pass; patterns are RE2, as in Prometheus, and anchored."""
    if matcher.sign == "=":
        return values & {matcher.value}
    if matcher.sign == "!=":
        return values - {matcher.value}
    ordered = sorted(values)
    # Not pa.array: for a list of Python's that one imports pandas where it is installed.
    texts = pl.Series(ordered, dtype=pl.String).to_arrow()
    found = pc.match_substring_regex(texts, f"^(?s:{matcher.value})$")
    matched = {value for value, hit in zip(ordered, found.to_pylist(), strict=True) if hit}
    return matched if matcher.sign == "=~" else values - matched

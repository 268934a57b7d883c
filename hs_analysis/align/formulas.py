"""From windows of series to those of an emitter: the parts of a source's formula put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hs_analysis.align.series_windows import SeriesWindows, WindowStore

Term = Mapping[str, Any]
"""A row of the term table."""


@dataclass(frozen=True)
class Emitted:
    """What one emitter gives under one generation of names; shape (windows,) each.

    Attributes
    ----------
    total, mean, below
        Sum of the terms above the line, of their means over series, and of the terms below it.
    coverage
        Smallest coverage of the terms that are there [ratio].
    parts
        How many terms are there.
    """

    total: np.ndarray
    mean: np.ndarray
    below: np.ndarray
    coverage: np.ndarray
    parts: np.ndarray

    def put(self, other: Emitted, where: np.ndarray) -> Emitted:
        """Return these with the windows of a mask taken from another."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return Emitted(*(np.where(where, theirs, own) for own, theirs in pairs))


@dataclass(frozen=True)
class Span:
    """A stretch of windows: number of the first, and of the one after the last."""

    first: int
    after: int

    @property
    def size(self) -> int:
        """How many windows there are."""
        return self.after - self.first

    def cut(self, windows: SeriesWindows) -> SeriesWindows:
        """Return the windows of a series that lie in this stretch."""
        low, high = max(self.first - windows.first, 0), max(self.after - windows.first, 0)
        if low == 0 and high >= windows.value.size:
            return windows
        return SeriesWindows(windows.first + low, windows.value[low:high], windows.coverage[low:high])

    def within(self, windows: SeriesWindows) -> slice:
        """Return where the windows of a series lie in arrays over this stretch."""
        return slice(windows.first - self.first, windows.first - self.first + windows.value.size)


def span_of(terms: Iterable[Term], store: WindowStore) -> Span | None:
    """Return the stretch in which any series of the terms has a window, None where none has."""
    series = {term["series_id"] for term in terms}
    found = [bounds for n in series if (bounds := store.bounds("windows", n)) is not None]
    return Span(min(first for first, _ in found), max(after for _, after in found)) if found else None


def emitted(
    terms: Sequence[Term],
    store: WindowStore,
    span: Span,
    least_coverage: float | None = None,
) -> Emitted:
    """Return the parts of one emitter's formula in each window of a stretch.

    Parameters
    ----------
    terms
        The emitter's terms under one generation of names.
    store
        Windows of the series.
    span
        The stretch.
    least_coverage
        Coverage below which a series counts as missing in a window [ratio]; None takes what there is.
    """
    total, mean, below, parts = (np.zeros(span.size) for _ in range(4))
    coverage = np.full(span.size, np.inf)
    by_term: dict[tuple[int, bool], list[Term]] = {}
    for term in terms:
        by_term.setdefault((term["term"], term["side"] == "num"), []).append(term)
    # sums are ordered: floats added in another order differ in their last bits
    for (_, above), own in sorted(by_term.items()):
        value, count, covered = _added_up(own, store, span, least_coverage)
        there = count > 0
        parts += there
        coverage[there] = np.minimum(coverage[there], covered[there])
        if above:
            total += value
            mean += value / np.maximum(count, 1.0)
        else:
            below += value
    return Emitted(total, mean, below, coverage, parts)


def _added_up(
    terms: Sequence[Term], store: WindowStore, span: Span, least_coverage: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sum, number and greatest coverage of the series of one term in each window.

    A label value that is new in the window says nothing of the scrape: the greatest counts.
    """
    value, count, covered = (np.zeros(span.size) for _ in range(3))
    for term in sorted(terms, key=lambda one: one["series_id"]):
        windows = store.get("windows", term["series_id"])
        if windows is None:
            continue
        windows = span.cut(windows)
        own = span.within(windows)
        there = windows.coverage > 0 if least_coverage is None else windows.coverage >= least_coverage
        value[own] += np.where(there, windows.value * term["sign"], 0.0)
        count[own] += there
        covered[own] = np.maximum(covered[own], windows.coverage)
    return value, count, covered


def grouped(terms: Iterable[Term], *names: str) -> dict[tuple[Any, ...], list[Term]]:
    """Return the terms by some of their columns, groups and terms in their order."""
    found: dict[tuple[Any, ...], list[Term]] = {}
    for term in terms:
        found.setdefault(tuple(term[name] for name in names), []).append(term)
    return found

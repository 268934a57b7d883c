"""Columns of a table that are a part of another: what is not read may say how much the others cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

ENOUGH_ROWS = 100
"""Rows in which both columns have a number before one is called a part of the other [count]."""

CLEAR_SHARES = (0.02, 0.98)
"""A part below or above so much of the whole is another thing, or the same [ratio]."""

ALIKE = 0.5
"""Correlation from which on two columns speak of one thing [ratio]; default of this project."""


class Parts:
    """Compares columns of one unit over all rows of a table, batch by batch.

    Columns are of one unit when the last words of their names are the same: ``all_rps`` and ``known_rps``.
    """

    def __init__(self, read: Sequence[str], unread: Sequence[str]) -> None:
        pairs = [(x, y) for x in read for y in unread if _unit(x) and _unit(x) == _unit(y)]
        self._sums = {pair: np.zeros(6) for pair in pairs}
        self._apart: set[tuple[str, str]] = set()

    def take(self, cells: pl.DataFrame) -> None:
        """Look at some rows."""
        for pair in self._sums.keys() - self._apart:
            whole, part = (cells[name].cast(pl.Float64, strict=False).to_numpy() for name in pair)
            there = np.isfinite(whole) & np.isfinite(part)
            x, y = whole[there], part[there]
            if np.any(y < 0) or np.any(y > x):
                self._apart.add(pair)
                continue
            self._sums[pair] += (x.size, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum())

    def sentences(self) -> list[str]:
        """Return what is a part of what, and how much of it."""
        found = []
        for pair in sorted(self._sums.keys() - self._apart):
            count, x, y, xx, yy, xy = self._sums[pair].tolist()
            if count < ENOUGH_ROWS or not CLEAR_SHARES[0] < y / x < CLEAR_SHARES[1]:
                continue
            spread = (count * xx - x * x) * (count * yy - y * y)
            if spread <= 0 or (count * xy - x * y) / spread**0.5 < ALIKE:
                continue
            found.append(
                f"{pair[1]}, which is not read, is never above {pair[0]} and {y / x:.0%} of it in all: "
                "values that were made from it speak of that share only"
            )
        return found


def _unit(name: str) -> str:
    """Return the last word of a column's name, empty when it has one word only."""
    head, _, last = name.lower().rpartition("_")
    return last if head else ""

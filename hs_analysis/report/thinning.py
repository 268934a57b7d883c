"""Fewer points for a chart, without losing a peak and without drawing a line across a gap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers, Mask

GAP_STEPS = 1.5
"""Two rows further apart than this many median steps have a gap between them; default of this project."""


def thin(t: Floats, v: Floats, budget: int, *, steps: bool = False) -> tuple[Floats, Floats]:
    """Reduce a series to at most ``budget`` rows, keeping the least and the greatest value of every bin.

    Parameters
    ----------
    t
        Times in ascending order [s], shape (rows,).
    v
        Values; NaN is missing, shape (rows,).
    budget
        Most rows to return, at least 4.
    steps
        The value holds until the next row (a count of instances): rows that repeat their left neighbour are
        dropped first, which loses nothing.

    Returns
    -------
    tuple of arrays
        Times and values in ascending order. Wherever values are missing, or two rows are more than
        ``GAP_STEPS`` median steps apart, one NaN row stands between the values on either side, so that a
        line breaks there.
    """
    known = np.flatnonzero(np.isfinite(v))
    if not known.size:
        return np.empty(0), np.empty(0)
    breaks = _breaks_before(t, v)
    if steps:
        known = known[_changes(v[known], breaks[known])]
    for bins in (budget // 2, budget // 3, budget // 4):
        kept = known if known.size <= 2 * bins else _extremes(t, v, known, bins)
        times, values = _with_gaps(t, v, kept, breaks)
        if times.size <= budget:
            break
    return times, values


def _breaks_before(t: Floats, v: Floats) -> Integers:
    """Count, for every row, the breaks at or before it: missing values and jumps in time."""
    jump = np.zeros(t.size, dtype=bool)
    if t.size > 1:
        step = np.diff(t)
        jump[1:] = step > GAP_STEPS * max(float(np.median(step)), 1e-9)
    return np.cumsum(jump | ~np.isfinite(v))


def _changes(v: Floats, breaks: Integers) -> Mask:
    """Mark where a stepped line begins, changes or ends."""
    new = np.r_[True, (np.diff(v) != 0) | (np.diff(breaks) > 0)]
    last = np.r_[np.diff(breaks) > 0, True]
    return np.asarray(new | last, dtype=np.bool_)


def _extremes(t: Floats, v: Floats, known: Integers, bins: int) -> Integers:
    span = max(float(t[known[-1]] - t[known[0]]), 1e-9)
    which = np.minimum(((t[known] - t[known[0]]) / span * bins).astype(np.int64), bins - 1)
    order = np.lexsort((v[known], which))
    first = np.flatnonzero(np.r_[True, np.diff(which[order]) > 0])
    last = np.r_[first[1:], order.size] - 1
    return np.unique(known[np.r_[order[first], order[last]]])


def _with_gaps(t: Floats, v: Floats, kept: Integers, breaks: Integers) -> tuple[Floats, Floats]:
    broken = np.flatnonzero(np.diff(breaks[kept]) > 0)
    # The missing row goes halfway into the first gap after the value on the left.
    after = np.array([np.searchsorted(breaks, breaks[kept[i]], side="right") for i in broken], dtype=np.int64)
    before = np.maximum(after - 1, kept[broken])
    middle = (t[before] + t[after]) / 2
    times = np.r_[t[kept], middle]
    values = np.r_[v[kept], np.full(broken.size, np.nan)]
    order = np.argsort(times, kind="stable")
    return times[order], values[order]


def lone(v: Floats) -> Mask:
    """Mark values with no neighbour on either side: a line would not show them, a point does."""
    known = np.isfinite(v)
    padded = np.r_[False, known, False]
    return np.asarray(known & ~(padded[:-2] | padded[2:]), dtype=np.bool_)


def runs(
    state: Sequence[str], starts: Sequence[float], ends: Sequence[float]
) -> list[tuple[float, float, str]]:
    """Join neighbouring rows of one state into (start, end, state); a jump in time ends a run."""
    joined: list[tuple[float, float, str]] = []
    for word, start, end in zip(state, starts, ends, strict=True):
        if joined and joined[-1][2] == word and start <= joined[-1][1] + 1e-6:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]), word)
        else:
            joined.append((start, end, word))
    return joined


def csv_number(value: float | None) -> str:
    """Return five significant digits, whole above 10,000; empty when missing."""
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.5g}"


def csv_time(unix_s: float) -> str:
    """Return a time as ISO 8601 UTC, without seconds where they are zero."""
    when = datetime.fromtimestamp(round(unix_s), UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ" if when.second else "%Y-%m-%dT%H:%MZ")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as CSV; fields that need it are quoted."""
    return "\n".join(",".join(_quoted(field) for field in row) for row in (header, *rows)) + "\n"


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if any(c in field for c in ',"\r\n') else field

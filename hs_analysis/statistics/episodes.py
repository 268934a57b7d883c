"""Runs, gaps and episodes of rows on a regular grid, and rows that are busy or in balance.

A run is a half-open pair of row numbers (start, stop). No run, gap or dilation crosses from one capture into
another: `group` numbers the capture of each row, None means that all rows are one capture.
"""

from __future__ import annotations

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import DEMAND_QUANTILE
from hs_analysis.statistics.constants import OPERATING_SHARE, STEADY_SHARE, STEADY_SIGMAS

Run = tuple[int, int]


def runs(mask: Mask, group: Integers | None = None) -> list[Run]:
    """Return the runs of True rows as half-open (start, stop) pairs, in row order.

    Parameters
    ----------
    mask
        Rows, shape (n,).
    group
        Capture number of each row, shape (n,), equal numbers adjacent.
    """
    if mask.size == 0:
        return []
    breaks = np.ones(mask.size, dtype=bool)
    breaks[1:] = mask[1:] != mask[:-1]
    if group is not None:
        breaks[1:] |= group[1:] != group[:-1]
    starts = np.flatnonzero(breaks)
    stops = np.append(starts[1:], mask.size)
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if mask[a]]


def mask_of(spans: list[Run], rows: int) -> Mask:
    """Return the mask of `rows` rows that is True inside the half-open spans."""
    mask = np.zeros(rows, dtype=bool)
    for start, stop in spans:
        mask[start:stop] = True
    return mask


def dilate(mask: Mask, rows: int, group: Integers | None = None) -> Mask:
    """Return the mask with each run longer by `rows` rows on both sides, inside its capture."""
    out = mask.copy()
    same = np.ones(max(mask.size - 1, 0), dtype=bool) if group is None else group[1:] == group[:-1]
    for _ in range(rows):
        before = out.copy()
        out[1:] |= before[:-1] & same
        out[:-1] |= before[1:] & same
    return out


def merge_gaps(spans: list[Run], gap_rows: float, group: Integers | None = None) -> list[Run]:
    """Return the runs with neighbours joined where at most `gap_rows` rows lie between them.

    Two runs separated by more are separate episodes.
    """
    merged: list[Run] = []
    for start, stop in spans:
        last = merged[-1] if merged else None
        near = last is not None and start - last[1] <= gap_rows
        if last is not None and near and (group is None or group[start] == group[last[0]]):
            merged[-1] = (last[0], stop)
        else:
            merged.append((start, stop))
    return merged


def episodes(mask: Mask, gap_rows: float, group: Integers | None = None) -> list[Run]:
    """Return the episodes of a mask: its runs, joined over gaps of at most `gap_rows` rows."""
    return merge_gaps(runs(mask, group), gap_rows, group)


def runs_until_clean(
    bad: Mask, clean: Mask, calm: Mask, clean_rows: int, group: Integers | None = None
) -> list[Run]:
    """Return runs that begin at a bad row and last until `clean_rows` clean rows and a calm one were seen.

    The clean rows that end a run do not belong to it, but for those that are not calm yet.

    Parameters
    ----------
    bad, clean
        Rows known to be bad, rows known to be clean, shape (n,); a row that is neither (not known) neither
        resets the count of clean rows nor adds to it.
    calm
        Rows at which a run may end (for instance: no backlog left), shape (n,).
    clean_rows
        Clean rows since the last bad one that end a run.
    group
        Capture number of each row; a run ends with its capture.
    """
    out: list[Run] = []
    start, last, seen = -1, -1, 0
    for row in range(bad.size):
        if start >= 0 and group is not None and group[row] != group[row - 1]:
            out.append((start, last + 1))
            start = -1
        if bad[row]:
            start, last, seen = (row if start < 0 else start), row, 0
        elif start >= 0:
            seen += bool(clean[row])
            if not calm[row]:
                last = row
            elif seen >= clean_rows:
                out.append((start, last + 1))
                start = -1
    if start >= 0:
        out.append((start, last + 1))
    return out


def operating_rows(load: Floats, among: Mask) -> Mask:
    """Return which rows lie in the operating range of some of them, shape (n,).

    Parameters
    ----------
    load
        Shape (n,); known in the rows of ``among``.
    among
        Rows that count, shape (n,): the quantile is theirs, and no other row is in the range.
    """
    if not among.any():
        return among
    inside: Mask = among & (load >= OPERATING_SHARE * np.quantile(load[among], DEMAND_QUANTILE))
    return inside


FLOWS = {
    "prefill": ("request_rate", "first_token_rate"),
    "decode": ("first_token_rate", "completion_rate"),
    "mixed": ("request_rate", "completion_rate"),
}
"""Arrivals and departures of each role, as service signals."""


def steady(arrivals: Floats, departures: Floats) -> Mask:
    """Return the windows whose departures are within max(20 %, 2 sqrt(arrivals)) of arrivals.

    In a window that fills or drains a pool the load of the window is not the load the pool worked under.

    Parameters
    ----------
    arrivals, departures
        Requests per window [count], shape (windows,); a window where either is NaN is not steady.
    """
    slack = np.maximum(STEADY_SHARE * arrivals, STEADY_SIGMAS * np.sqrt(np.maximum(arrivals, 0.0)))
    within: Mask = np.abs(departures - arrivals) <= slack
    return within

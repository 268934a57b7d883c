"""What is told of a request at its end, counted when the request came."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

GAUGE_ROWS = 5
"""Windows on each side over which the gauge of requests in flight says where its counters stand."""


def at_arrival(windows: pl.DataFrame, window_s: float, *, cached_at_end: bool) -> pl.DataFrame:
    """Return the windows with what is counted at the end of a request where the request arrived.

    Requests are taken to end in the order they came: those in flight when a window begins end first, and what
    ends then, up to those in flight when it ends, is what arrived in it.

    Parameters
    ----------
    windows
        One row per capture and window, rates per second, null = missing: capture, started, finished_rate,
        output_tps (of finished requests), prompt_tps, effective_tps, in_flight (mean requests).
    window_s
        Width of a row [s].
    cached_at_end
        Whether ``effective_tps`` is prompt tokens counted as they come less cached ones counted at the end.

    Returns
    -------
    The windows with ``output_tps`` and ``finished_rate`` moved, and ``effective_tps`` where that was asked
    for. Where requests in flight are unknown, or what ends until they are out, counts stay where they are.
    """
    return pl.concat(
        _one_at_arrival(part, window_s, cached_at_end)
        for _, part in windows.group_by("capture", maintain_order=True)
    )


def _one_at_arrival(part: pl.DataFrame, window_s: float, cached_at_end: bool) -> pl.DataFrame:
    names = ("output_tps", "finished_rate", "prompt_tps", "effective_tps", "started", "in_flight")
    output, finished, prompt, effective, started, inside = (
        part[name].fill_null(math.nan).to_numpy() for name in names
    )
    spans = _ends_of(started * window_s, finished * window_s, inside)
    moved = [_between(values, spans) for values in (output, finished)]
    known = np.isfinite(moved).all(axis=0) & (moved[1] > 0)
    columns = {
        "output_tps": np.where(known, moved[0], output), "finished_rate": np.where(known, moved[1], finished),
    }  # fmt: skip
    if cached_at_end:
        missed = prompt - _between(prompt - effective, spans)
        columns["effective_tps"] = np.where(known & np.isfinite(missed), np.maximum(missed, 0.0), effective)
    return part.with_columns(pl.Series(name, values).fill_nan(None) for name, values in columns.items())


def _ends_of(started: np.ndarray, finished: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return when the requests in flight at each edge of a window are out, in windows since the first edge.

    Parameters
    ----------
    started, finished
        Requests that came and that ended in each window.
    inside
        Mean requests in flight in each window.

    Returns
    -------
    Shape (windows + 1,), never falling; NaN where requests in flight are unknown or not out by the end.
    """
    ended = np.r_[0.0, np.cumsum(np.nan_to_num(finished))]
    goal = ended + np.maximum(_inside_at_edges(started - finished, inside), 0.0)
    out = np.interp(goal, ended, np.arange(ended.size), right=math.nan)
    return np.asarray(np.where(np.isfinite(out), np.fmax.accumulate(out), math.nan))


def _inside_at_edges(net: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the requests in flight at the edges of windows, shape (windows + 1,).

    The counters tell how they change from edge to edge, the gauge where they stand: the median of its
    distance from the counters over eleven windows, which leaves out what requests that never ended add up to.
    """
    level = np.r_[0.0, np.cumsum(np.nan_to_num(net))]
    apart = inside - 0.5 * (level[:-1] + level[1:])
    stretch = np.cumsum(~np.isfinite(net))
    stands = np.full(net.size, math.nan)
    for row in np.flatnonzero(np.isfinite(net)):
        near = slice(max(0, row - GAUGE_ROWS), row + GAUGE_ROWS + 1)
        known = apart[near][(stretch[near] == stretch[row]) & np.isfinite(apart[near])]
        stands[row] = np.median(known) if known.size else math.nan
    before, after = np.r_[math.nan, stands], np.r_[stands, math.nan]
    both = np.where(np.isfinite(before) & np.isfinite(after), 0.5 * (before + after), math.nan)
    return np.asarray(level + np.where(np.isfinite(both), both, np.fmax(before, after)))


def _between(rates: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return what a rate adds up to between each two moments in windows, as a rate of one window.

    NaN where a moment or a rate between both is unknown.
    """
    edges = np.arange(rates.size + 1)
    total, missing = (np.r_[0.0, np.cumsum(v)] for v in (np.nan_to_num(rates), ~np.isfinite(rates)))
    at, holes = (np.diff(np.interp(spans, edges, values)) for values in (total, missing))
    return np.asarray(np.where(holes == 0, at, math.nan))

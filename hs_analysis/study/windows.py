"""Which windows of a pressure test may speak: whole, steady, the pool at its usual size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.statistics.episodes import FLOWS, steady
from hs_analysis.study.grid import Grid, lay_grid

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RESIDENCES = 3.0
"""Residence times of a decode request that a window should hold; default of this project."""

WINDOWS_PREFERRED = 24
"""Windows that must remain for a wider window to be preferred; default of this project."""

MIX_SPREAD_MAX = 1.25
"""q90 ÷ q10 of the tokens per request above which the mix moved; default of this project."""


def usual_instances(frame: ServiceFrame, role: str) -> Flags:
    """Return the windows in which the pool had its capture's usual size, shape (windows,).

    All True when the input does not count instances.
    """
    if not frame.has("instances", role):
        return np.ones(frame.table.height, dtype=bool)
    counts = frame.values("instances", role)
    names = frame.table["capture"].to_numpy()
    usual = np.zeros(counts.size, dtype=bool)
    for name in frame.captures():
        mine = names == name
        known = counts[mine & (counts > 0)]
        if known.size:
            sizes, times = np.unique(known, return_counts=True)
            usual |= mine & (counts == sizes[np.argmax(times)])
    return usual


def steady_rows(frame: ServiceFrame, grid: Grid, role: str) -> Flags | None:
    """Return the rows in which a role's departures match its arrivals; None when these are not counted.

    Departures must be within max(20 %, 2 sqrt(arrivals)) of arrivals. This stands in for a settling time
    after each step of the load.
    """
    names = FLOWS.get(role)
    if names is None or not all(frame.has(name, "service") for name in names):
        return None
    arrivals, departures = (
        grid.mean(frame.values(name, "service"), valid_share=1.0) * grid.step_s for name in names
    )
    return steady(arrivals, departures)


def row_factor(frame: ServiceFrame, role: str, load: Floats, interval_s: float) -> int:
    """Return how many windows of the frame make one row of the study.

    Three residence times of a decode request where 24 rows remain, and always two effective intervals of the
    signal; else single windows.

    Parameters
    ----------
    frame
        The service.
    role
        Role the signal is judged on.
    load
        Load of the usable windows, shape (windows,); NaN = not usable.
    interval_s
        Effective interval of the signal [s].
    """
    least = max(1, math.ceil(2.0 * interval_s / frame.window_s - 1e-9))
    if role not in ("decode", "mixed"):
        return least
    residence = _residence_s(frame, role)
    wanted = math.ceil(RESIDENCES * residence / frame.window_s) if math.isfinite(residence) else 1
    for factor in range(wanted, least, -1):
        grid = lay_grid(frame, factor)
        rows = np.isfinite(grid.mean(load, valid_share=1.0))
        steady = steady_rows(frame, grid, role)
        if (rows if steady is None else rows & steady).sum() >= WINDOWS_PREFERRED:
            return factor
    return least


def mix_spread(frame: ServiceFrame, role: str, rows: Flags | None = None) -> float | None:
    """Return q90 ÷ q10 of a role's tokens per request over windows; None when they are not known.

    Parameters
    ----------
    frame
        The service.
    role
        Pool whose work it is.
    rows
        Windows to look at, shape (windows,); None looks at all.
    """
    requests, work = frame.values("request_rate", "service"), frame.values("offered_tps", role)
    tokens = np.divide(work, requests, out=np.full(work.size, np.nan), where=requests > 0)
    if not np.isfinite(tokens).any():
        tokens = frame.values("input_length" if role == "prefill" else "output_length", "service")
    tokens = tokens[np.isfinite(tokens) & (tokens > 0) & (True if rows is None else rows)]
    if tokens.size < 2:
        return None
    low, high = np.quantile(tokens, [0.1, 0.9])
    return float(high / low)


def _residence_s(frame: ServiceFrame, role: str) -> float:
    """Return the median residence time of a decode request by Little's law [s]; NaN when unknown."""
    running, rate = frame.values("running", role), frame.values("first_token_rate", "service")
    known = np.isfinite(running) & (rate > 0)
    return float(np.median(running[known] / rate[known])) if known.any() else math.nan

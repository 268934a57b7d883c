"""Whether news in the load reaches the signal, and how late: prewhitened cross-correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hs_analysis.schema.results import Interval
from hs_analysis.statistics.autoregression import (
    correlate,
    cross_products,
    fit_autoregression,
    peak_lag,
)
from hs_analysis.statistics.resampling import percentile_interval

Floats = NDArray[np.float64]

REACH_S = 900.0
"""Largest lag looked at [s]; default of this project."""

ROWS_MIN = 60
"""Fewest filtered rows for a link; default of this project."""

LAG_PEAK = 3.0
"""A lag is reported when the peak exceeds this many 1/sqrt(n); default of this project."""


@dataclass(frozen=True)
class Innovations:
    """Link and lag of one signal.

    Attributes
    ----------
    link
        sqrt(n) times the largest cross-correlation of the innovations within ± 900 s.
    lag_s, lag_ci
        Lag of that peak [s], positive = signal later than load, with a 95 % interval; None when the peak
        does not stand out.
    rows
        Filtered rows it rests on.
    """

    link: float
    lag_s: float | None
    lag_ci: Interval | None
    rows: int


def link_innovations(
    x: Floats, y: Floats, step_s: float, draws: int, rng: np.random.Generator, *, ranked: bool = False
) -> Innovations | None:
    """Filter both series with the load's own autoregression and correlate what is left.

    A trend or a clock that load and signal share is gone after the filter (Box & Jenkins' prewhitened
    cross-correlation); what load causes stays.

    Parameters
    ----------
    x, y
        Load and signal as regular rows, usually logs, shape (n,); NaN = missing or saturated. A filtered row
        counts only where it and the rows its filter looks back on are all there.
    step_s
        Width of a row [s].
    draws, rng
        Bootstrap replicates of the lag and their source.
    ranked
        Correlate ranks of the innovations. Meant for latencies: a few spikes carry most of their variance,
        hide true links and make false ones. Measured on simulated services, 12 h of TTFT: smallest true link
        4.4 without and 6.1 with ranks and unlogged load, largest false one 4.4 and 3.9.

    Returns
    -------
    Innovations | None
        None with fewer than 60 filtered rows.
    """
    both = np.isfinite(x) & np.isfinite(y)
    model = fit_autoregression(np.where(both, x, np.nan))
    if model is None:
        return None
    news_x = model.innovations(np.where(both, x, np.nan))
    news_y = model.innovations(np.where(both, y, np.nan))
    rows = int((np.isfinite(news_x) & np.isfinite(news_y)).sum())
    if rows < ROWS_MIN:
        return None
    if ranked:
        news_x, news_y = _ranks(news_x, news_y)
    reach = max(1, round(REACH_S / step_s))
    products = cross_products(news_x, news_y, reach)
    found = correlate(products, rows)
    peak = float(found.max())
    if peak * math.sqrt(rows) <= LAG_PEAK:
        return Innovations(peak * math.sqrt(rows), None, None, rows)
    lag = float(peak_lag(found, reach) * step_s)
    resampled = correlate(products, rows, _block_counts(x.size, rows, draws, rng))
    lags = np.array([peak_lag(draw, reach) for draw in resampled]) * step_s
    low, high = percentile_interval(lags)
    return Innovations(peak * math.sqrt(rows), lag, (min(low, lag), max(high, lag)), rows)


def _ranks(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the ranks of both series over the rows in which both have a value, NaN elsewhere."""
    both = np.isfinite(x) & np.isfinite(y)
    ranked_x, ranked_y = np.full(x.size, np.nan), np.full(y.size, np.nan)
    ranked_x[both], ranked_y[both] = rankdata(x[both]), rankdata(y[both])
    return ranked_x, ranked_y


def _block_counts(n: int, rows: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return how often each row is drawn in circular blocks of rows^(1/3), shape (draws, n)."""
    block = max(2, math.ceil(rows ** (1 / 3)))
    starts = rng.integers(0, n, size=(draws, math.ceil(n / block)))
    steps = np.zeros((draws, n + block))
    lines = np.repeat(np.arange(draws), starts.shape[1])
    np.add.at(steps, (lines, starts.ravel()), 1.0)
    np.add.at(steps, (lines, starts.ravel() + block), -1.0)
    counts = np.cumsum(steps, axis=1)
    folded = counts[:, :n].copy()
    folded[:, :block] += counts[:, n : n + block]
    return folded

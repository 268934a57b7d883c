"""Whether news in the load reaches the signal, and how late: prewhitened cross-correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr

from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import MINUTE_ROWS_MIN
from hs_analysis.schema.results import Interval
from hs_analysis.statistics.autoregression import (
    correlate,
    cross_products,
    fit_autoregression,
    lag_sums,
    peak_lag,
)
from hs_analysis.statistics.ranks import mean_ranks
from hs_analysis.statistics.resampling import percentile_interval
from hs_analysis.statistics.smoothing import running_mean
from hs_analysis.study.constants import LAG_PEAK, LAG_REACH_S, SURROGATES, TREND_S
from hs_analysis.study.effects import load_fit

Shape = Literal["plain", "counts", "ranks"]
"""How a two-hour mean is taken away: subtracted; then divided by its root, which leaves counts with noise of
one size (Pearson's residual, McCullagh & Nelder 1989) and, unlike roots of the rows, stays linear where rows
hold a handful; or subtracted from ranks, because a few spikes of a latency carry most of its variance and
would be all that the filter sees."""


@dataclass(frozen=True)
class Link:
    """How far news in the load is found in one signal.

    Attributes
    ----------
    strength
        sqrt(rows) times the largest cross-correlation within ± 900 s.
    chance
        Probability that an unrelated signal reaches as far at any of the lags.
    rows
        Filtered rows it rests on.
    """

    strength: float
    chance: float
    rows: int


@dataclass(frozen=True)
class Lag:
    """Lag of a signal behind its load [s], positive = later, with a 95 % interval."""

    lag_s: float
    ci: Interval


def find_link(x: Floats, y: Floats, step_s: float, shape: Shape = "plain") -> Link | None:
    """Look for the moves of the load in the signal, behind what a clock or a trend could give to both.

    Both series lose their own centred two-hour mean and are then filtered by the *signal's* autoregression.
    For two unrelated series a cross-correlation has variance 1/n as soon as one of them is white (Bartlett
    1935), so whitening the signal is enough, and the load keeps its slow moves, where a noisy signal follows
    it best.

    Busy hours make both series louder, and a plain correlation counts that as evidence. So its square root
    of n times is taken over the root of how much louder the signal's rest is where the load moves most: at
    each lag the t ratio of the slope with White's heteroscedasticity-consistent error (1980), in units of a
    correlation. For a signal whose noise is of one size that changes nothing.

    The chance is that of the same ratio with the signal itself for its rest, as it is without a relation,
    times the lags (Bonferroni).

    Parameters
    ----------
    x, y
        Load and signal as regular rows, shape (n,). NaN = missing or saturated; a filtered row counts only
        where it and the rows its filter looks back on are all there.
    step_s
        Width of a row [s].
    shape
        How the two-hour mean is taken away.

    Returns
    -------
    Link | None
        None with fewer than 60 filtered rows.
    """
    left_x, left_y = _moves(x, y, max(1, round(TREND_S / step_s / 2.0)), shape)
    model = fit_autoregression(left_y)
    if model is None:
        return None
    news_x, news_y = model.innovations(left_x), model.innovations(left_y)
    rows = int((np.isfinite(news_x) & np.isfinite(news_y)).sum())
    if rows < MINUTE_ROWS_MIN:
        return None
    reach = max(1, round(LAG_REACH_S / step_s))
    totals, squares, pairs = lag_sums(news_x, news_y, reach)
    # sqrt(rows) times the correlation, weighed down by sqrt(pairs / rows)
    strength = float((_ratios(totals, pairs) / np.sqrt(_loudness(news_x, news_y, reach))).max())
    chance = min(1.0, totals.size * float(ndtr(-_ratios(totals, squares).max())))
    return Link(strength, chance, rows)


def _moves(x: Floats, y: Floats, half: int, shape: Shape) -> tuple[Floats, Floats]:
    """Return both series less their mean over `2 half + 1` rows, shape (n,); NaN where either is missing."""
    if shape == "ranks":
        x, y = _ranks(x, y)
    both = np.isfinite(x) & np.isfinite(y)
    moves = []
    for series in (x, y):
        mean = running_mean(np.where(both, series, np.nan), half)
        size = np.sqrt(np.where(mean > 0, mean, np.inf)) if shape == "counts" else 1.0
        moves.append(np.where(both, series - mean, np.nan) / size)
    return moves[0], moves[1]


def _loudness(x: Floats, y: Floats, reach: int) -> Floats:
    """Return how much louder the rest of `y` is where `x` moves most, per lag; 1 where it is not.

    The rest is y less its least-squares slope on x; the number is mean(x² rest²) ÷ (mean(x²) mean(rest²)).
    """
    both = np.isfinite(x) & np.isfinite(y)
    first, second = (np.where(both, s - s[both].mean(), np.nan) for s in (x, y))
    found = np.ones(2 * reach + 1)
    for k in range(-reach, reach + 1):
        a, b = first[max(0, -k) : x.size - max(0, k)], second[max(0, k) : x.size - max(0, -k)]
        pair = np.isfinite(a) & np.isfinite(b)
        squares = a[pair] ** 2
        total = float(squares.sum())
        if total <= 0.0:
            continue
        rest = (b[pair] - float(a[pair] @ b[pair]) / total * a[pair]) ** 2
        even = total * float(rest.sum()) / squares.size
        found[k + reach] = float(squares @ rest) / even if even > 0.0 else 1.0
    return np.where(found > 0.0, found, 1.0)


def expected_strength(
    x: Floats, y: Floats, step_s: float, rng: np.random.Generator, shape: Shape = "plain"
) -> float | None:
    """Return the link this very signal would have if it followed the load: what the history can tell at all.

    The signal is taken apart into its monotone fit on the load and the rest; the rest is shifted in time, so
    that it keeps its size and autocorrelation but owes the load nothing, and added again.

    Parameters
    ----------
    x, y, step_s, shape
        As for `find_link`. Counts are taken apart as square roots, where their noise is of one size.
    rng
        Source of the shifts.

    Returns
    -------
    float | None
        Median over 9 shifts; None where no link could be had.
    """
    if shape == "counts":
        y = np.sqrt(y)
    fit = load_fit(x, y).predict(x)
    rest, reach = y - fit, round(TREND_S / step_s)
    if x.size <= 2 * reach:
        return None
    shifts = rng.integers(reach, x.size - reach, size=SURROGATES)
    made = [fit + np.roll(rest, shift) for shift in shifts]
    if shape == "counts":
        made = [np.maximum(one, 0.0) ** 2 for one in made]
    links = [find_link(x, one, step_s, shape) for one in made]
    found = [link.strength for link in links if link is not None]
    return float(np.median(found)) if found else None


def _ratios(totals: Floats, variances: Floats) -> Floats:
    """Return sums over their standard errors; 0 without a variance."""
    return np.divide(totals, np.sqrt(variances), out=np.zeros(totals.size), where=variances > 0)


def find_lag(x: Floats, y: Floats, step_s: float, draws: int, rng: np.random.Generator) -> Lag | None:
    """Filter both series with the load's own autoregression and find where what is left correlates most.

    Parameters
    ----------
    x, y
        Load and signal as regular rows, shape (n,); NaN = missing or saturated.
    step_s
        Width of a row [s].
    draws, rng
        Bootstrap replicates of the lag and their source.

    Returns
    -------
    Lag | None
        None with fewer than 60 filtered rows, or when no peak is high enough.
    """
    both = np.isfinite(x) & np.isfinite(y)
    model = fit_autoregression(np.where(both, x, np.nan))
    if model is None:
        return None
    news_x, news_y = (model.innovations(np.where(both, s, np.nan)) for s in (x, y))
    rows = int((np.isfinite(news_x) & np.isfinite(news_y)).sum())
    if rows < MINUTE_ROWS_MIN:
        return None
    reach = max(1, round(LAG_REACH_S / step_s))
    products = cross_products(news_x, news_y, reach)
    found = correlate(products, rows)
    if float(found.max()) * math.sqrt(rows) <= LAG_PEAK:
        return None
    lag = float(peak_lag(found, reach) * step_s)
    resampled = correlate(products, rows, _block_counts(x.size, rows, draws, rng))
    lags = np.array([peak_lag(draw, reach) for draw in resampled]) * step_s
    return Lag(lag, percentile_interval(lags, holding=lag))


def _ranks(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the ranks of both series over the rows in which both have a value, NaN elsewhere."""
    both = np.isfinite(x) & np.isfinite(y)
    ranked_x, ranked_y = np.full(x.size, np.nan), np.full(y.size, np.nan)
    ranked_x[both], ranked_y[both] = mean_ranks(x[both]), mean_ranks(y[both])
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

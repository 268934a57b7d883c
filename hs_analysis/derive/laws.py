"""Laws that read the capacity at the SLO off (load, share over the limit): each a function tried in order.

A law returns None where it does not hold; it never guesses. Loads are tokens/s per instance, shares 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.binomial import logistic_line
from hs_analysis.statistics.isotonic import monotone_fit

Floats = NDArray[np.float64]

# All constants below: defaults of this project, measured on simulated services whose capacity is known.

TAIL_QUANTILE = 0.02
"""Quantile of the load of violating rows where the logistic law's tail begins [ratio]."""

TAIL_MARGIN = 0.25
"""How far below that quantile the tail reaches, in ln load."""

LOGISTIC_REACH = 1.1
"""Largest crossing of the logistic law, as a share of the highest load seen [ratio]."""

COUNT_STEP = 0.0025
"""Width of the cells of ln load in which rows are counted for the binomial fit: 0.25 % of load."""

BIN_ROWS = 20
"""Fewest rows of a bin of the quantile law: below it a 95 % quantile is the maximum."""

BINS_MAX = 48
"""Most bins of the quantile law."""

QUANTILE_RANGE = (0.002, 0.8)
"""Bins used by the quantile law: those whose quantile of the share lies between [ratio]."""

LOAD_SHARE_MIN = 0.6
"""Rows used by the quantile law: those above this share of the highest load [ratio]."""

PROBIT_WIDTH = 0.7
"""Standard deviation of the Gaussian weight about the crossing, in probits."""

CHANCES = 1000
"""Equally probable values of a normal variable that an average over chance is taken over: 50 of them lie in
the tail of 5 %."""

LEVEL_GROUPS = 20
"""Pressure test: load groups of the monotone fit."""

LEVEL_ROWS = 3
"""Pressure test: fewest windows of a load group."""


@dataclass(frozen=True)
class Crossing:
    """Where the SLO just holds: load per instance [tokens/s], and the slope of ln odds in ln load."""

    load: float
    slope: float | None = None


Law = Callable[[Floats, Floats, Slo], Crossing | None]


def share_limit(slo: Slo) -> float:
    """Return the share of samples that may be over the limit in a window, 1 - quantile."""
    return 1.0 - slo.quantile


def violating(share: Floats, slo: Slo) -> NDArray[np.bool_]:
    """Return which rows have more samples over the limit than the SLO allows; NaN does not violate."""
    # A share is a quotient of counts: the allowance itself must not fail by a rounding error.
    mask: NDArray[np.bool_] = share > share_limit(slo) + 1e-9
    return mask


def logistic(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the probability of a violating window crosses the allowed share of windows.

    Binomial GLM of "window violates" on ln load, fitted only on the tail ln x > q02(ln x of violating rows)
    - 0.25 so that the tail sets the slope. None without violating rows, without a rising fit, or where the
    crossing lies below the tail or more than 10 % above the highest load seen.

    Parameters
    ----------
    load, share
        Rows, shape (n,), finite.
    slo
        Quantile of a window and allowed share of windows.
    """
    bad = violating(share, slo)
    if bad.sum() < 2 or bad.all():
        return None
    x = np.log(load)
    tail = in_tail(x, bad)
    fit = binomial_fit(x[tail], bad[tail])
    if fit is None or fit[1] <= 0.0:
        return None
    allowed = slo.allowed_window_share
    crossing = float(np.exp((np.log(allowed / (1.0 - allowed)) - fit[0]) / fit[1]))
    seen = load[tail].min() <= crossing <= LOGISTIC_REACH * load.max()
    return Crossing(crossing, fit[1]) if seen else None


def in_tail(x: Floats, bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which ln loads lie in the tail of the logistic law: above q02 of the violating ones - 0.25."""
    tail: NDArray[np.bool_] = x > np.quantile(x[bad], TAIL_QUANTILE) - TAIL_MARGIN
    return tail


def at_mean_load(crossing: Crossing, noise: float, slo: Slo) -> Crossing:
    """Return the mean load at which as many windows violate as at a crossing read off single windows.

    A law over single windows says how likely one violates in which just this much came. Under a steady mean
    load x what comes is x·exp(ε), ε normal with variance noise ÷ x, so that windows in which much came
    violate before the mean gets there. The mean load m sought solves
    E[σ(logit(allowed) + slope · (ln(m ÷ crossing) + ε))] = allowed; the slope returned is that of the average
    log odds there.

    Parameters
    ----------
    crossing
        Of the logistic law on single windows.
    noise
        Variance ÷ mean of a window's load at one mean load [tokens/s]; unknown (NaN) or zero changes nothing.
    slo
        Gives the allowed share of windows; from a half on chance works the other way and nothing is changed.
    """
    slope, allowed = crossing.slope, slo.allowed_window_share
    if slope is None or not noise > 0.0 or allowed >= 0.5:
        return crossing
    chance = slope * math.sqrt(noise / crossing.load) * _NORMAL

    def averaged(shift: float) -> Floats:
        share: Floats = expit(math.log(allowed / (1.0 - allowed)) + slope * shift + chance)
        return share

    # At shift 0 the average is above what is allowed; this far below every chance alike is under it.
    lowest = -float(chance[-1]) / slope
    shift = float(brentq(lambda x: float(averaged(x).mean()) - allowed, lowest, 0.0)) if lowest < 0.0 else 0.0
    share = averaged(shift)
    steepness = slope * float((share * (1.0 - share)).mean()) / (allowed * (1.0 - allowed))
    return Crossing(crossing.load * math.exp(shift), steepness)


_NORMAL: Floats = norm.ppf((np.arange(CHANCES) + 0.5) / CHANCES)


def binomial_fit(x: Floats, bad: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return intercept and slope of the log odds of `bad` on `x`, None where they can't be fitted.

    Rows are counted in cells of 0.0025 of `x` first, so that the cost does not grow with the number of rows.
    """
    if bad.all() or not bad.any():
        return None
    # Counted from the lowest load, so that the unit of load does not move a row into another cell.
    cell = np.unique(np.round((x - x.min()) / COUNT_STEP), return_inverse=True)[1].reshape(-1)
    rows = np.bincount(cell)
    if rows.size < 3:
        return None
    centre = np.bincount(cell, x) / rows
    over = np.bincount(cell, bad).astype(float)
    origin = float(centre.mean())
    line = logistic_line(centre - origin, over, rows.astype(float))
    return (line[0] - line[1] * origin, line[1]) if line is not None else None


def quantile_law(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the quantile of the share over the limit reaches what a window may have.

    Per equal-count bin of the loads above 0.6 of the highest, the (1 - allowed share of windows) quantile of
    the share, made monotone; its probit is fitted linearly in ln load, with Gaussian weights about the
    crossing. None with fewer than three bins in range, without a rising fit, or where the crossing lies below
    the lowest load.
    """
    lowest, near = load.min(), load > LOAD_SHARE_MIN * load.max()
    load, share = load[near], share[near]
    bins = min(BINS_MAX, load.size // BIN_ROWS)
    if bins < 3:
        return None
    order = np.argsort(load, kind="stable")[load.size % bins :]
    x = np.log(load[order]).reshape(bins, -1).mean(axis=1)
    level = 1.0 - slo.allowed_window_share
    quantile = monotone_fit(x, np.quantile(share[order].reshape(bins, -1), level, axis=1), increasing=True)
    low, high = QUANTILE_RANGE
    used = (quantile.y > low) & (quantile.y < high)
    if used.sum() < 3:
        return None
    x, probit, goal = quantile.x[used], norm.ppf(quantile.y[used]), float(norm.ppf(share_limit(slo)))
    weight = np.exp(-0.5 * ((probit - goal) / PROBIT_WIDTH) ** 2)
    mean_x, mean_y = np.average(x, weights=weight), np.average(probit, weights=weight)
    spread = float(np.sum(weight * (x - mean_x) ** 2))
    slope = float(np.sum(weight * (x - mean_x) * (probit - mean_y))) / spread if spread > 0 else 0.0
    if slope <= 0.0:
        return None
    with np.errstate(over="ignore"):
        crossing = float(np.exp(mean_x + (goal - mean_y) / slope))
    return Crossing(crossing) if lowest <= crossing < np.inf else None


def levels(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the mean share over the limit, monotone over load groups, reaches what the SLO allows.

    The law of pressure tests, which have too few windows for the others. None where the lowest group is over
    the limit already or no group is.
    """
    groups = min(LEVEL_GROUPS, load.size // LEVEL_ROWS)
    if groups < 2:
        return None
    fit = monotone_fit(load, share, bins=groups, increasing=True)
    limit = share_limit(slo)
    over = np.flatnonzero(fit.y >= limit)
    if over.size == 0 or over[0] == 0:
        return None
    after = int(over[0])
    x, y = fit.x[after - 1 : after + 1], fit.y[after - 1 : after + 1]
    return Crossing(float(x[0] + (x[1] - x[0]) * (limit - y[0]) / (y[1] - y[0])))

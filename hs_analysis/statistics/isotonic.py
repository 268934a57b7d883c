"""Monotone fits: isotonic regression with the better sign, on single rows or equal-count bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from hs_analysis.schema.arrays import Floats, Integers


@dataclass(frozen=True)
class MonotoneFit:
    """A monotone curve through knots, linear in between and constant outside.

    Attributes
    ----------
    x, y
        Knots, sorted by x, shape (knots,).
    increasing
        Whether the curve rises.
    """

    x: Floats
    y: Floats
    increasing: bool

    def predict(self, x: Floats) -> Floats:
        """Return the curve at `x`, same shape; NaN where `x` is NaN or the curve has no knots."""
        if self.x.size == 0:
            return np.full(np.shape(x), np.nan)
        at: Floats = np.where(np.isfinite(x), np.interp(x, self.x, self.y), np.nan)
        return at


def equal_count_bins(x: Floats, bins: int) -> Integers:
    """Return the bin number 0 .. bins-1 of each row by rank of `x`, shape (n,); equal values may split."""
    order = np.argsort(x, kind="stable")
    number = np.empty(x.size, dtype=np.int64)
    number[order] = np.arange(x.size, dtype=np.int64) * min(bins, max(x.size, 1)) // max(x.size, 1)
    return number


def monotone_fit(
    x: Floats,
    y: Floats,
    *,
    bins: int | None = None,
    increasing: bool | None = None,
    weights: Floats | None = None,
) -> MonotoneFit:
    """Fit a monotone curve of `y` on `x` (pool adjacent violators, Barlow et al. 1972).

    Parameters
    ----------
    x, y
        Rows, shape (n,); rows with a NaN are left out.
    bins
        Number of equal-count bins of `x` whose weighted means are fitted; None fits single rows.
    increasing
        Sign of the fit; None takes the one with the smaller squared error.
    weights
        Weight of each row, shape (n,); None weighs rows alike.

    Returns
    -------
    MonotoneFit
        Without knots when no row is complete.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    weights = np.ones(x.size) if weights is None else weights[good]
    if x.size == 0:
        return MonotoneFit(x, y, True)
    number = np.unique(x, return_inverse=True)[1].reshape(-1) if bins is None else equal_count_bins(x, bins)
    mass = np.bincount(number, weights)
    knots = np.bincount(number, weights * x) / mass
    means = np.bincount(number, weights * y) / mass
    signs = (True, False) if increasing is None else (increasing,)
    fits = [(isotonic_regression(means, weights=mass, increasing=sign).x, sign) for sign in signs]
    values, sign = min(fits, key=lambda fit: float(np.sum(mass * (means - fit[0]) ** 2)))
    return MonotoneFit(knots, np.asarray(values, dtype=float), sign)


def rising_shares(loads: Floats, over: Floats) -> tuple[Floats, Floats]:
    """Return loads in ascending order, and the share over a limit at each of them, never falling.

    Pool adjacent violators (Barlow et al. 1972).

    Parameters
    ----------
    loads, over
        Load of each window, and whether it was over: 0, 1 or between; shape (windows,), without NaN.
    """
    order = np.argsort(loads, kind="stable")
    shares = isotonic_regression(over[order], increasing=True).x
    return loads[order], np.asarray(shares, float)

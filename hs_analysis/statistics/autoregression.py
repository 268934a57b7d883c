"""Autoregressive prewhitening and the cross-correlation of what it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.statistics.constants import ORDER_MAX, PREWHITENING_ORDER

STRETCH_ROWS = 2048
"""Rows transformed at once where sums of lagged products are wanted: 16 KiB a line stay in the cache."""


@dataclass(frozen=True)
class Autoregression:
    """A fitted AR(p): `value[t] = constant + sum_k coefficients[k-1] value[t-k] + innovation[t]`.

    Attributes
    ----------
    constant
        Intercept, in the unit of the series.
    coefficients
        One per lag, shape (p,).
    aic
        Akaike's criterion of the fit: −2 ln L + 2 · rank, as statsmodels has it.
    """

    constant: float
    coefficients: Floats
    aic: float

    @property
    def order(self) -> int:
        """Number of lags."""
        return int(self.coefficients.size)

    def innovations(self, values: Floats) -> Floats:
        """Filter a series, shape (n,); NaN where the row or one of the p rows before it is missing."""
        left = values - self.constant - _lags(values, self.order) @ self.coefficients
        left[: self.order] = np.nan
        return np.asarray(left, dtype=float)


def complete_rows(values: Floats, order: int) -> Mask:
    """Return which rows, and the `order` rows before each, all have values, shape (n,)."""
    good = np.isfinite(values)
    counts = np.concatenate(([0], np.cumsum(good)))
    whole = np.zeros(values.size, dtype=bool)
    if values.size > order:
        whole[order:] = counts[order + 1 :] - counts[: -order - 1] == order + 1
    return whole


def fit_autoregression(
    values: Floats, order: int | None = PREWHITENING_ORDER, *, order_max: int = ORDER_MAX
) -> Autoregression | None:
    """Fit an AR(p) by least squares on the rows whose history is complete.

    Parameters
    ----------
    values
        Regularly spaced series, shape (n,); NaN = missing. Without gaps this is statsmodels' AutoReg.
    order
        Number of lags; None takes the one of 1 .. `order_max` with the smallest AIC on common rows.
    order_max
        Largest order tried.

    Returns
    -------
    Autoregression | None
        None when there are too few complete rows or the series does not move.
    """
    if order is not None:
        return _fit(values, order, complete_rows(values, order))
    common = complete_rows(values, order_max)
    fits = [_fit(values, p, common) for p in range(1, order_max + 1)]
    found = [fit for fit in fits if fit is not None]
    if not found:
        return None
    best = min(found, key=lambda fit: fit.aic)
    return _fit(values, best.order, complete_rows(values, best.order))


def _fit(values: Floats, order: int, rows: Mask) -> Autoregression | None:
    if rows.sum() < 2 * (order + 2):
        return None
    target = values[rows]
    if np.ptp(target) <= 0.0:
        return None
    design = np.column_stack([np.ones(target.size), _lags(np.nan_to_num(values), order)[rows]])
    found, rank = _least_squares(design, target)
    half, left = target.size / 2.0, target - design @ found
    with np.errstate(divide="ignore"):
        spread = np.log(np.sum(left**2) / target.size)
    log_likelihood = -half * np.log(2 * np.pi) - half * spread - half
    return Autoregression(float(found[0]), found[1:], float(2.0 * rank - 2.0 * log_likelihood))


def _lags(values: Floats, order: int) -> Floats:
    """Return the values 1 .. `order` rows before each row, shape (n, order); 0 before the first row."""
    found = np.zeros((values.size, order + 1))
    for lag in range(1, order + 1):
        found[lag:, lag] = values[:-lag]
    return found[:, 1:]


def _least_squares(design: Floats, target: Floats) -> tuple[Floats, int]:
    """Return the coefficients and the rank of an ordinary least-squares fit.

    The fit of statsmodels' OLS by QR, without the pseudoinverse of the whole design and the covariance that
    it makes for its errors, and without the 100 MB that importing it takes.
    """
    basis, triangle = np.linalg.qr(design)
    try:
        np.linalg.inv(triangle.T @ triangle)  # raises where the normal equations are singular
        solved = np.linalg.solve(triangle, basis.T @ target)
        return np.asarray(solved, dtype=float), int(np.linalg.matrix_rank(triangle))
    except np.linalg.LinAlgError:
        # A queue that was empty but for its last row: a lag that never moves takes no part.
        found = np.linalg.lstsq(design, target, rcond=None)[0]
        return np.asarray(found, dtype=float), design.shape[1]


def cross_products(x: Floats, y: Floats, reach: int) -> Floats:
    """Return standardised products `x[t] y[t+k]` for |k| <= reach, shape (n, 2 reach + 1); NaN = no pair.

    Both series are centred and scaled over the rows in which both have a value.
    """
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 2:
        return np.full((x.size, 2 * reach + 1), np.nan)
    first, second = (np.where(both, s - s[both].mean(), np.nan) for s in (x, y))
    scale = float(np.nanstd(first) * np.nanstd(second))
    padded = np.concatenate((np.full(reach, np.nan), second, np.full(reach, np.nan)))
    shifted = np.lib.stride_tricks.sliding_window_view(padded, x.size).T
    if scale <= 0.0:
        return np.asarray(np.where(np.isfinite(first[:, None] * shifted), 0.0, np.nan), dtype=float)
    return np.asarray(first[:, None] * shifted / scale, dtype=float)


def lag_sums(x: Floats, y: Floats, reach: int) -> tuple[Floats, Floats, Floats]:
    """Return per lag the sum, the sum of squares and the number of the products of `cross_products`.

    By discrete Fourier transforms, so that neither rows times lags are held nor walked through.

    Parameters
    ----------
    x, y
        Filtered series, shape (n,); NaN = missing.
    reach
        Largest lag, in rows.

    Returns
    -------
    Three arrays, shape (2 reach + 1,), at lags -reach .. reach.
    """
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 2:
        return np.zeros(2 * reach + 1), np.zeros(2 * reach + 1), np.zeros(2 * reach + 1)
    first, second = (np.where(both, s - s[both].mean(), 0.0) for s in (x, y))
    scales = (float(first[both].std()), float(second[both].std()))
    if min(scales) <= 0.0:
        first, second = np.zeros(x.size), np.zeros(x.size)
    else:
        first, second = first / scales[0], second / scales[1]
    early, late = [first, first**2], [second, second**2]
    gaps = not both.all()
    if gaps:
        early, late = [*early, both.astype(float)], [*late, both.astype(float)]
    found = _lagged_products(np.stack(early), np.stack(late), reach)
    pairs = np.rint(found[2]) if gaps else np.maximum(x.size - np.abs(np.arange(-reach, reach + 1.0)), 0.0)
    return found[0], np.maximum(found[1], 0.0), pairs


def _lagged_products(early: Floats, late: Floats, reach: int) -> Floats:
    """Return sum_t early[t] late[t+k] of pairs of lines at k = -reach .. reach, shape (lines, 2 reach + 1).

    Stretch by stretch, each with `reach` rows of the late line on both sides; the spectra of all stretches
    are added: transforms of a few thousand rows stay in the cache, and one is taken back.
    """
    size = int(next_fast_len(max(STRETCH_ROWS, 8 * reach), real=True))
    length = size - 2 * reach
    stretches = -(-early.shape[1] // length)
    room = stretches * length - early.shape[1]
    ahead = np.pad(early, ((0, 0), (0, room))).reshape(len(early), stretches, length)
    padded = np.pad(late, ((0, 0), (reach, reach + room)))
    behind = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::length]
    spectrum = np.einsum("lsf,lsf->lf", np.conj(rfft(ahead, size)), rfft(behind, size))
    return np.asarray(irfft(spectrum, size)[:, : 2 * reach + 1], dtype=float)


def correlate(products: Floats, rows: int, counts: Floats | None = None) -> Floats:
    """Return the correlation at each lag from `cross_products`.

    Parameters
    ----------
    products
        Shape (n, lags).
    rows
        Rows in which both series have a value; a lag with fewer pairs is weighed down by sqrt(pairs / rows).
    counts
        How often each row was drawn, shape (draws, n), for a bootstrap; None takes each row once.

    Returns
    -------
    Shape (lags,), or (draws, lags) with `counts`.
    """
    present = np.isfinite(products)
    filled = np.where(present, products, 0.0)
    totals, pairs = (
        (filled.sum(axis=0), present.sum(axis=0))
        if counts is None
        else (counts @ filled, counts @ present.astype(float))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        weighed = totals / pairs * np.sqrt(pairs / rows)
    return np.asarray(np.where(pairs > 0, weighed, 0.0), dtype=float)


def peak_lag(correlation: Floats, reach: int) -> float:
    """Return the lag of the largest correlation in rows, refined by a parabola through its neighbours."""
    top = int(np.argmax(correlation))
    if 0 < top < correlation.size - 1:
        before, at, after = correlation[top - 1 : top + 2]
        bend = before - 2.0 * at + after
        return float(top - reach + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return float(top - reach)

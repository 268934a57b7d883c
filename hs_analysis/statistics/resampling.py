"""Resampling of dependent series: block length, circular block bootstrap, effective sample size."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtrit

from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import CLAIM_CHANCE, NORMAL_95
from hs_analysis.statistics.constants import EFFECTIVE_MIN, QUIET_BAND, QUIET_LAGS


def autocorrelation(values: Floats, lags: int) -> Floats:
    """Return the autocorrelation of a series with gaps at lags 0 .. `lags`.

    Parameters
    ----------
    values
        Regularly spaced series, shape (n,); NaN = missing. A lag is averaged over the pairs that exist and
        shrunk by (1 - lag/n), so that without gaps it is the usual biased estimate.
    lags
        Largest lag, in rows; lags of n and more are 0.

    Returns
    -------
    Shape (lags + 1,). A constant or empty series gives zeros after lag 0.
    """
    n = values.size
    out = np.zeros(lags + 1)
    out[0] = 1.0
    good = np.isfinite(values)
    if good.sum() < 2:
        return out
    centred = np.where(good, values - values[good].mean(), 0.0)
    variance = float(np.mean(centred[good] ** 2))
    if variance <= 0.0:
        return out
    size = 1 << (2 * n - 1).bit_length()
    products = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2, size)[:n]
    pairs = np.rint(np.fft.irfft(np.abs(np.fft.rfft(good.astype(float), size)) ** 2, size)[:n])
    reach = min(lags, n - 1)
    shrink = 1.0 - np.arange(reach + 1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = products[: reach + 1] / pairs[: reach + 1] / variance * shrink
    out[: reach + 1] = np.where(pairs[: reach + 1] > 0, rho, 0.0)
    out[0] = 1.0
    return out


def _joint(x: Floats, y: Floats) -> tuple[Floats, Floats, int]:
    """Return both series with NaN wherever either is missing, and the number of complete rows."""
    good = np.isfinite(x) & np.isfinite(y)
    return np.where(good, x, np.nan), np.where(good, y, np.nan), int(good.sum())


def block_length(x: Floats, y: Floats) -> int:
    """Return the block length for a bootstrap of the pairs (x, y).

    `b = max(ceil(n^(1/3)), 2 k*)` where `k*` is the first lag after which the geometric mean of both
    autocorrelations stays inside `2 sqrt(log10 n / n)` for five lags, after Politis & White (2004),
    clipped to 2 .. n/6.

    Parameters
    ----------
    x, y
        Regularly spaced series, shape (n,); NaN = missing. `n` counts complete rows.
    """
    x, y, n = _joint(x, y)
    if n < 4:
        return 2
    lags = max(1, min(x.size - 1, n // 2 + QUIET_LAGS))
    joint = np.sqrt(np.abs(autocorrelation(x, lags) * autocorrelation(y, lags)))
    quiet = joint < QUIET_BAND * math.sqrt(math.log10(n) / n)
    quiet[0] = False
    horizon = max(0, lags - QUIET_LAGS)
    last = next((k for k in range(horizon) if quiet[k + 1 : k + 1 + QUIET_LAGS].all()), horizon)
    return int(np.clip(max(math.ceil(n ** (1 / 3)), 2 * last), 2, max(2, n // 6)))


def n_effective(x: Floats, y: Floats) -> float:
    """Return the number of independent pairs that a correlation of (x, y) rests on.

    `n / (1 + 2 sum_k (1 - k/n) rho_x(k) rho_y(k))` over k <= n/4, after Pyper & Peterman (1998), clipped to
    3 .. n; NaN when there are no complete rows.
    """
    x, y, n = _joint(x, y)
    if n == 0:
        return math.nan
    lags = max(1, n // 4)
    k = np.arange(1, lags + 1)
    product = autocorrelation(x, lags)[1:] * autocorrelation(y, lags)[1:]
    inflation = 1.0 + 2.0 * float(np.sum((1.0 - k / n) * product))
    if inflation <= 0.0:
        return float(n)
    return float(np.clip(n / inflation, min(EFFECTIVE_MIN, n), n))


def moving_block_indices(n: int, block: int, draws: int, rng: np.random.Generator) -> Integers:
    """Return row numbers of a circular moving-block bootstrap, shape (draws, n).

    Parameters
    ----------
    n
        Rows of the series.
    block
        Rows of a block; values above `n` act like `n`.
    draws
        Number of resamples.
    rng
        Source of the block starts.
    """
    block = max(1, min(block, n))
    blocks = -(-n // block)
    starts = rng.integers(0, n, size=(draws, blocks, 1), dtype=np.int64)
    rows: Integers = ((starts + np.arange(block, dtype=np.int64)) % n).reshape(draws, blocks * block)
    return rows[:, :n]


def block_correlations(x: Floats, y: Floats, starts: Integers, block: int) -> Floats:
    """Return Pearson's correlation of every resample of a circular block bootstrap, without drawing its rows.

    The sums of a resample are sums of block sums, and those are differences of prefix sums: n and draws are
    added, not multiplied.

    Parameters
    ----------
    x
        Complete rows, shape (n,).
    y
        One series, shape (n,), or several as columns, shape (n, signals).
    starts
        First row of each block, shape (draws, blocks), blocks = ceil(n / block); the last block is cut, so
        that a resample has n rows.
    block
        Rows of a block, at most n.

    Returns
    -------
    Shape (draws,) or (draws, signals); 0 where either side does not move.
    """
    n, several = x.size, y.reshape(x.size, -1)
    dx, dy = x - x.mean(), several - several.mean(axis=0)
    columns = np.column_stack([dx, dx**2, dy, dy**2, dx[:, None] * dy])
    reach = np.concatenate((columns, columns[:block]))
    sums = np.concatenate((np.zeros((1, columns.shape[1])), np.cumsum(reach, axis=0)))
    last = n - (starts.shape[1] - 1) * block
    whole = sums[block : n + block] - sums[:n]
    full = starts[:, :-1]
    ends = np.arange(len(starts) + 1) * full.shape[1]
    counts = csr_array((np.ones(full.size), full.ravel(), ends), shape=(len(starts), n))
    total = counts @ whole + sums[starts[:, -1] + last] - sums[starts[:, -1]]
    k = several.shape[1]
    mean_x, square_x = total[:, :1] / n, total[:, 1:2] / n
    mean_y, square_y, product = (total[:, 2 + i * k : 2 + (i + 1) * k] / n for i in range(3))
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    # Rounding leaves a speck of variance in a constant: compare with the size of the numbers.
    floor = 1e-24 * (square_x + float(np.mean(x)) ** 2) * (square_y + several.mean(axis=0) ** 2)
    moved = (var_x > 0) & (var_y > 0) & (var_x * var_y > floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(moved, (product - mean_x * mean_y) / np.sqrt(var_x * var_y), 0.0)
    return np.asarray(rho[:, 0] if y.ndim == 1 else rho, dtype=float)


def fisher_interval(value: float, draws: Floats) -> tuple[float, float]:
    """Return the 95 % interval of a correlation from bootstrap draws; (NaN, NaN) below two draws.

    z = artanh(r) of the value, ± 1.96 standard deviations of that of the draws (Fisher 1921). Where the draws
    lie is not looked at: a rank correlation near 1 is lower in nearly every resample, since rows that are
    drawn twice tie, so that percentiles lie below the value and miss what lies above it.
    """
    finite = draws[np.isfinite(draws)]
    if finite.size < 2:
        return math.nan, math.nan
    # A perfect correlation, rounding or not, has a large z, and one and the same.
    z = np.arctanh((1.0 - 1e-9) * np.clip(np.append(finite, value), -1.0, 1.0))
    half = NORMAL_95 * float(np.std(z[:-1]))
    low, high = math.tanh(z[-1] - half), math.tanh(z[-1] + half)
    return min(low, value), max(high, value)


def percentile_interval(
    draws: Floats, level: float = 1.0 - CLAIM_CHANCE, holding: float | None = None
) -> tuple[float, float]:
    """Return the central interval of bootstrap draws; NaN draws are left out, (NaN, NaN) below two draws.

    ``holding`` is a value that the interval is stretched to: that of the rows themselves, where draws lie to
    one side of it.
    """
    finite = draws[np.isfinite(draws)]
    if finite.size < 2:
        return math.nan, math.nan
    tail = (1.0 - level) / 2.0
    low, high = (float(end) for end in np.quantile(finite, [tail, 1.0 - tail]))
    if holding is None or math.isnan(holding):
        return low, high
    return min(low, holding), max(high, holding)


def few_pieces(count: int) -> float:
    """Return by how much an interval that was drawn from some independent pieces is too narrow.

    Resamples of n pieces spread √((n − 1) ÷ n) times as far as pieces do, and their quantiles are nearly
    normal where Student's t of n − 1 belongs: t ÷ 1.96 · √(n ÷ (n − 1)), 2.7 of three, 1.3 of seven
    (Hesterberg 2015, *The American Statistician* 69:371).

    Parameters
    ----------
    count
        Pieces, at least two.
    """
    student = float(stdtrit(count - 1, 1.0 - CLAIM_CHANCE / 2.0))
    return student / NORMAL_95 * math.sqrt(count / (count - 1))

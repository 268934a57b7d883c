"""Bootstraps, lags, ranks and filters of the study, against the obvious ways, as ratios of CPU time.

48 signals, 7 days: 40,320 rows of 15 s for the lags and the naive loop, 10,080 rows of a minute against the
matrix of weights, which would not fit into memory otherwise. 1,000 replicates; the naive loop does a few and
is counted per replicate. Both sides run in turn, medians are compared.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter
from scipy.stats import rankdata
from statsmodels.regression.linear_model import OLS
from statsmodels.tsa.stattools import ccf
from statsmodels.tsa.tsatools import lagmat

from hs_analysis.statistics.autoregression import fit_autoregression, lag_sums
from hs_analysis.statistics.ranks import drawn_ranks
from hs_analysis.statistics.resampling import block_correlations, moving_block_indices

SIGNALS, DRAWS, BLOCK, REPEATS, REACH = 48, 1000, 120, 3, 60
DAY = 86_400
NAIVE_DRAWS = 4


def series(step_s: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a load and its signals over seven days, shapes (n,) and (n, SIGNALS)."""
    rng = np.random.default_rng(0)
    n = 7 * DAY // step_s
    load = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(n) * step_s / DAY)
    load = load + 0.1 * lfilter([1.0], [1.0, -0.95], rng.normal(size=n)) * np.sqrt(1 - 0.95**2)
    return load, load[:, None] * rng.uniform(0.2, 2.0, SIGNALS) + 0.2 * rng.normal(size=(n, SIGNALS))


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of one call [s]."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median CPU times of two ways, run in turn [s]."""
    pairs = [(cpu_s(first), cpu_s(second)) for _ in range(REPEATS)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def naive(load: np.ndarray, signals: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Correlate each replicate of each signal by itself, shape (replicates, SIGNALS)."""
    return np.array(
        [[np.corrcoef(load[draw], signals[draw, k])[0, 1] for k in range(SIGNALS)] for draw in rows]
    )


def weighed(load: np.ndarray, signals: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Correlate by one product of weights (replicates × rows) with powers of all series."""
    n = load.size
    weights = np.stack([np.bincount(draw, minlength=n) for draw in rows]).astype(float)
    x, y = load - load.mean(), signals - signals.mean(axis=0)
    mean = weights @ np.column_stack([x, x**2, y, y**2, x[:, None] * y]) / n
    mx, xx, my, yy, xy = np.split(mean, [1, 2, 2 + SIGNALS, 2 + 2 * SIGNALS], axis=1)
    return (xy - mx * my) / np.sqrt((xx - mx**2) * (yy - my**2))


def bootstrap() -> None:
    """Print block sums against the loop, and against the weights."""
    load, signals = series(15)
    rows = moving_block_indices(load.size, BLOCK, DRAWS, np.random.default_rng(1))
    starts = np.ascontiguousarray(rows[:, ::BLOCK])
    few = rows[:NAIVE_DRAWS]
    ours, loop = compare(
        lambda: block_correlations(load, signals, starts, BLOCK), lambda: naive(load, signals, few)
    )
    apart = np.abs(
        naive(load, signals, few) - block_correlations(load, signals, starts[:NAIVE_DRAWS], BLOCK)
    ).max()
    ratio = (loop / NAIVE_DRAWS) / (ours / DRAWS)
    sys.stdout.write(
        f"bootstrap, {load.size} rows × {SIGNALS} signals: loop {loop / NAIVE_DRAWS * 1e3:.0f} ms each, "
        f"block sums {ours / DRAWS * 1e3:.2f} ms: {ratio:.0f} times faster (goal ≥ 100), apart {apart:.1e}\n"
    )
    load, signals = series(60)
    rows = moving_block_indices(load.size, BLOCK, DRAWS, np.random.default_rng(1))
    starts = np.ascontiguousarray(rows[:, ::BLOCK])
    ours, product = compare(
        lambda: block_correlations(load, signals, starts, BLOCK), lambda: weighed(load, signals, rows)
    )
    sys.stdout.write(
        f"bootstrap, {load.size} rows × {SIGNALS} signals: {ours / product:.2f} of the matrix of weights "
        "(goal ≤ 0.6)\n"
    )


def lags() -> None:
    """Print the lag sums against a loop of statsmodels' cross-correlations."""
    load, signals = series(15)

    def theirs() -> None:
        for k in range(SIGNALS):
            ccf(signals[:, k], load, adjusted=False, fft=True)
            ccf(load, signals[:, k], adjusted=False, fft=True)

    def mine() -> None:
        for k in range(SIGNALS):
            lag_sums(load, signals[:, k], REACH)

    ours, loop = compare(mine, theirs)
    found = lag_sums(load, signals[:, 0], REACH)[0][REACH:] / load.size
    apart = np.abs(found - ccf(signals[:, 0], load, adjusted=False, fft=True)[: REACH + 1]).max()
    sys.stdout.write(
        f"lags, {load.size} rows × {SIGNALS} signals, both signs, and squares: {loop / ours:.1f} times "
        f"faster than statsmodels ccf (goal ≥ 3), apart {apart:.1e}\n"
    )


def ranks_and_filters() -> None:
    """Print ranks of resamples against SciPy's, and the fit of a filter against statsmodels' OLS."""
    load, signals = series(60)
    rows = moving_block_indices(load.size, BLOCK, DRAWS // 5, np.random.default_rng(1))
    values = signals[:, 0].round(2)
    ours, theirs = compare(lambda: drawn_ranks(values, rows), lambda: rankdata(values[rows], axis=-1))
    sys.stdout.write(f"ranks of {len(rows)} resamples: {ours / theirs:.2f} of scipy.stats.rankdata\n")
    design = np.column_stack([np.ones(load.size - 6), lagmat(load, 6, trim="both")])
    ours, theirs = compare(
        lambda: [fit_autoregression(load) for _ in range(20)],
        lambda: [OLS(load[6:], design).fit(method="qr").params for _ in range(20)],
    )
    sys.stdout.write(f"fit of a filter, lags included: {ours / theirs:.2f} of statsmodels' OLS by QR\n")


def main() -> None:
    """Print all ratios."""
    bootstrap()
    lags()
    ranks_and_filters()


if __name__ == "__main__":
    main()

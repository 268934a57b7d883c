"""What is left of a signal when its load is taken away: noise, and drift of the relation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hs_analysis.statistics.isotonic import MonotoneFit, monotone_fit
from hs_analysis.statistics.smoothing import positive_log

Floats = NDArray[np.float64]

NOISE_BINS = 60
"""Equal-count load bins of the isotonic fit behind the noise; default of this project."""

ROWS_PER_BIN = 3
"""Fewest rows of such a bin: with fewer the fit follows single rows and there is no noise left."""

SNR_CAP = 1000.0
"""Largest signal-to-noise ratio reported: above it the noise is below the resolution of the numbers."""

DRIFT_BLOCK_S = 10800.0
"""Length of the blocks whose median residuals are compared [s]; default of this project."""

DRIFT_BLOCK_ROWS = 6
"""Fewest rows of such a block; default of this project."""

ELASTICITY_FLOOR = 0.3
"""Smallest elasticity that drift is measured against, so that a flat signal cannot look unsteady by division;
default of this project."""


def signal_to_noise(x: Floats, y: Floats) -> float:
    """Return the reach of the monotone fit over the noise about it, capped at 1000; 0 for a constant.

    Noise is 1.4826·MAD of the residuals, or 1.25 times their mean size where the MAD is 0 (a queue that is
    mostly empty). Reach is the fit's q95 − q05.

    Parameters
    ----------
    x, y
        Complete rows, shape (n,).
    """
    if x.size < 2:
        return 0.0
    fit = load_fit(x, y).predict(x)
    residual = y - fit
    low, high = np.quantile(fit, [0.05, 0.95])
    noise = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    # A MAD of rounding specks is a MAD of 0.
    speck = 1e-12 * float(np.abs(y).max())
    if noise <= speck:
        noise = 1.25 * float(np.mean(np.abs(residual)))
    if high - low <= speck:
        return 0.0
    return min(SNR_CAP, float(high - low) / noise) if noise > speck else SNR_CAP


def load_fit(x: Floats, y: Floats) -> MonotoneFit:
    """Return the monotone fit of a signal on its load through at most 60 bins of at least 3 rows."""
    rows = int((np.isfinite(x) & np.isfinite(y)).sum())
    return monotone_fit(x, y, bins=max(2, min(NOISE_BINS, rows // ROWS_PER_BIN)))


def log_residuals(x: Floats, y: Floats) -> Floats:
    """Return ln y minus its monotone fit on x, shape (n,); NaN where a row is missing or not positive."""
    log_x, log_y = positive_log(x), positive_log(y)
    left: Floats = log_y - load_fit(log_x, log_y).predict(log_x)
    return left


def relative(shift: float, slope: float | None) -> float:
    """Return a shift of ln y relative to the elasticity, which counts as at least 0.3."""
    return shift / max(ELASTICITY_FLOOR, abs(slope or 0.0))


def block_drift(residuals: Floats, start_s: Floats) -> float | None:
    """Return the standard deviation of the median residuals of 3-h blocks; None with fewer than two blocks.

    Parameters
    ----------
    residuals
        Residuals of ln y, shape (n,); NaN = not used.
    start_s
        Start of each row [s], shape (n,).
    """
    good = np.isfinite(residuals) & np.isfinite(start_s)
    if not good.any():
        return None
    number = ((start_s[good] - start_s[good].min()) // DRIFT_BLOCK_S).astype(int)
    blocks = [residuals[good][number == k] for k in np.unique(number)]
    medians = [float(np.median(block)) for block in blocks if block.size >= DRIFT_BLOCK_ROWS]
    return float(np.std(medians, ddof=1)) if len(medians) >= 2 else None

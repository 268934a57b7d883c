"""Whether a pool is in balance: as much leaves as arrives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEADY_SHARE = 0.20
"""Departures of a steady window are within this share of arrivals [ratio]; default of this project, measured
on captures of real serving components."""

STEADY_SIGMAS = 2.0
"""... or within this many square roots of the arrivals, whichever is wider; default of this project."""

FLOWS = {
    "prefill": ("request_rate", "first_token_rate"),
    "decode": ("first_token_rate", "completion_rate"),
    "mixed": ("request_rate", "completion_rate"),
}
"""Arrivals and departures of each role, as service signals."""


def steady(arrivals: NDArray[np.float64], departures: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the windows whose departures are within max(20 %, 2 sqrt(arrivals)) of arrivals.

    In a window that fills or drains a pool the load of the window is not the load the pool worked under.

    Parameters
    ----------
    arrivals, departures
        Requests per window [count], shape (windows,); a window where either is NaN is not steady.
    """
    slack = np.maximum(STEADY_SHARE * arrivals, STEADY_SIGMAS * np.sqrt(np.maximum(arrivals, 0.0)))
    within: NDArray[np.bool_] = np.abs(departures - arrivals) <= slack
    return within

"""The operating range: rows in which a pool does not idle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPERATING_SHARE = 0.2
"""Rows count from this share of the 95 % quantile of load on [ratio]. Below it a pool idles. Default of this
project, measured on simulated services."""


def operating_rows(load: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows lie in the operating range of some of them, shape (n,).

    Parameters
    ----------
    load
        Shape (n,); known in the rows of ``among``.
    among
        Rows that count, shape (n,): the quantile is theirs, and no other row is in the range.
    """
    if not among.any():
        return among
    inside: NDArray[np.bool_] = among & (load >= OPERATING_SHARE * np.quantile(load[among], 0.95))
    return inside

"""Whether a high load shows in what was measured at it: the top of the load against its calm half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hs_analysis.statistics.ranks import mean_ranks

Floats = NDArray[np.float64]

TOP_SHARE = 0.1
"""Share of rows with the highest load that a guard must tell from the calm half [ratio]; default of this
project."""

TOP_ROWS_MIN = 3
"""Fewest rows in that top; default of this project."""


def top_separation(x: Floats, y: Floats) -> float | None:
    """Return P(y in the top tenth of x > y below the median of x), ties counting half; None below 6 rows.

    The top holds at least three rows, so that one lucky row in a short test proves nothing.

    Parameters
    ----------
    x, y
        Complete rows, shape (n,).
    """
    if x.size < 2 * TOP_ROWS_MIN:
        return None
    most = np.sort(x)[-min(TOP_ROWS_MIN, x.size)]
    top = y[x >= min(np.quantile(x, 1.0 - TOP_SHARE), most)]
    calm = y[x < np.median(x)]
    if top.size == 0 or calm.size == 0:
        return None
    ranks = mean_ranks(np.concatenate((top, calm)))
    wins = ranks[: top.size].sum() - top.size * (top.size + 1) / 2.0
    return float(wins / (top.size * calm.size))

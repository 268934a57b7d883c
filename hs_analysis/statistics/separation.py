"""Whether a high load shows in what was measured at it: the top of the load against its calm half."""

from __future__ import annotations

import numpy as np

from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import GROUP_MIN
from hs_analysis.statistics.constants import TOP_SHARE
from hs_analysis.statistics.ranks import mean_ranks


def top_separation(x: Floats, y: Floats) -> float | None:
    """Return P(y in the top tenth of x > y below the median of x), ties counting half; None below 6 rows.

    The top holds at least three rows, so that one lucky row in a short test proves nothing.

    Parameters
    ----------
    x, y
        Complete rows, shape (n,).
    """
    if x.size < 2 * GROUP_MIN:
        return None
    most = np.sort(x)[-min(GROUP_MIN, x.size)]
    top = y[x >= min(np.quantile(x, 1.0 - TOP_SHARE), most)]
    calm = y[x < np.median(x)]
    if top.size == 0 or calm.size == 0:
        return None
    ranks = mean_ranks(np.concatenate((top, calm)))
    wins = ranks[: top.size].sum() - top.size * (top.size + 1) / 2.0
    return float(wins / (top.size * calm.size))

"""How much an instance can take depends on how many there are: queues share their luck.

A pool of n servers keeps the same chance of waiting at a utilisation of 1 − β/√n (Halfin & Whitt 1981,
*Heavy-traffic limits for queues with many exponential servers*), so that a small pool breaks the SLO at a
lower load per instance than the large one its capacity was measured on. Fluid models do not know it: they
under-predict waiting near the limit.
"""

from __future__ import annotations

import numpy as np

from hs_analysis.replay.demand import Floats

BETA = 0.5
"""β of prefill pools; measured on one-minute windows of simulated services with pools of 2 to 4, where 0.35
foretold half of the windows that break the SLO in pools of 2."""


def size_factor(ready: Floats, reference: float | None, beta: float = BETA) -> Floats:
    """Return the capacity of an instance in a pool of ``ready`` ÷ that in a pool of ``reference``.

    (1 − β/√ready) ÷ (1 − β/√reference), at most 1: a pool larger than any that was measured is given no
    credit.

    Parameters
    ----------
    ready
        Instances able to serve, any shape; below 1 counts as 1, NaN gives NaN.
    reference
        Instances of the pool that the capacity was measured on; None gives 1.

    Returns
    -------
    ndarray
        0..1, the shape of ``ready``.
    """
    if reference is None:
        return np.ones_like(ready)
    factor = (1.0 - beta / np.sqrt(np.maximum(ready, 1.0))) / (1.0 - beta / np.sqrt(max(reference, 1.0)))
    share: Floats = np.minimum(1.0, factor)
    return share

"""How much an instance can take depends on how many there are: queues share their luck.

A wait longer than T has the chance P(W > 0) · exp(−n·(1 − ρ)·T ÷ S) in a pool of n servers at utilisation ρ
with service time S (M/M/n; Kleinrock 1975, *Queueing Systems* I). Where T is several times S it is the
exponent that decides, so that the same chance is at 1 − ρ = γ ÷ n: a small pool breaks a latency limit at
a lower load per instance than a large one, and over a wider range of loads. Fluid models do not know it: they
under-predict waiting near the limit.
"""

from __future__ import annotations

import numpy as np

from hs_analysis.schema.arrays import Floats
from hs_analysis.statistics.constants import SIZE_LOSS


def size_factor(ready: Floats, reference: float | None) -> Floats:
    """Return the capacity of an instance in a pool of ``ready`` ÷ that in a pool of ``reference``.

    (1 − γ ÷ ready) ÷ (1 − γ ÷ reference), at most 1: a pool larger than any that was measured is given no
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
    factor = (1.0 - SIZE_LOSS / np.maximum(ready, 1.0)) / (1.0 - SIZE_LOSS / max(reference, 1.0))
    share: Floats = np.minimum(1.0, factor)
    return share


def steepness_factor(ready: Floats, reference: float | None) -> Floats:
    """Return how steep the chance of a long wait is in ln load, ÷ that in a pool of ``reference``.

    The exponent is proportional to n: ready ÷ reference, at most 1. Parameters as in ``size_factor``.
    """
    if reference is None:
        return np.ones_like(ready)
    share: Floats = np.minimum(1.0, np.maximum(ready, 1.0) / max(reference, 1.0))
    return share

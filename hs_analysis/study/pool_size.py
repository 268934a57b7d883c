"""Latency and queues as they would read in a pool of the usual size.

At equal load per instance a small pool lets requests wait longer than a large one: a free instance is harder
to find among few (Halfin & Whitt 1981, Whitt 1992). Where an autoscaler moves the pool, size and load per
instance move together, and a plain slope of a latency on the load mixes both: nights in a small pool read
worse than days at the same load per instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression

from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import ROWS_MIN
from hs_analysis.schema.results import Reason
from hs_analysis.study.constants import (
    CURVED,
    SERVICE_QUANTILE,
    SIZE_ROUNDS,
    SIZE_SETTLED,
    SIZE_STEP,
)
from hs_analysis.study.effects import load_fit
from hs_analysis.study.reference_load import Pair, WindowGrid


@dataclass(frozen=True)
class SizeEffect:
    """How the wait at equal load per instance goes with the size of the pool.

    Attributes
    ----------
    sizes
        Instances, rising, shape (sizes,).
    factors
        Wait at that size ÷ wait at the usual size, never rising, shape (sizes,).
    usual
        The usual size [instances].
    served
        What the signal reads when nothing waits, in its unit; 0 for a queue.
    """

    sizes: Floats
    factors: Floats
    usual: float
    served: float

    def at_usual(self, value: Floats, counts: Floats) -> Floats:
        """Return the signal as it would read at the usual size, shape (n,); NaN where no count is known."""
        factor = np.interp(np.log(np.where(counts > 0, counts, np.nan)), np.log(self.sizes), self.factors)
        wait = value - self.served
        read: Floats = np.where(wait > 0, self.served + wait / factor, value)
        return np.where(np.isfinite(counts) & (counts > 0), read, np.nan)


def size_effect(load: Floats, value: Floats, counts: Floats, served: float) -> SizeEffect | None:
    """Fit wait = (effect of the size, never rising) × (monotone curve of the load per instance).

    Both are fitted in turns on what the other leaves. The effect of a size is a ratio of sums, as in a
    Poisson model, so that rows in which nothing waits count too.

    Parameters
    ----------
    load
        Load per instance as rows, shape (n,); NaN = missing.
    value
        Latency, or queue per instance, shape (n,).
    counts
        Instances, shape (n,).
    served
        What the signal reads when nothing waits.

    Returns
    -------
    None where nothing waits at the usual size, or with fewer than 12 rows.
    """
    known = np.isfinite(load) & np.isfinite(value) & (counts > 0)
    if known.sum() < ROWS_MIN:
        return None
    x, wait = load[known], np.maximum(value[known] - served, 0.0)
    step = np.round(np.log(counts[known]) / math.log(SIZE_STEP))
    steps, number = np.unique(step, return_inverse=True)
    sizes = np.exp(np.bincount(number, np.log(counts[known])) / np.bincount(number))
    usual, factors = float(np.median(counts[known])), np.ones(steps.size)
    for _ in range(SIZE_ROUNDS):
        curve = np.maximum(load_fit(x, wait / factors[number]).predict(x), 0.0)
        expected = np.bincount(number, curve)
        if not (expected > 0).all():
            return None
        ratios = np.bincount(number, wait) / expected
        found = np.asarray(isotonic_regression(ratios, weights=expected, increasing=False).x)
        scale = float(np.interp(math.log(usual), np.log(sizes), found))
        if scale <= 0.0:
            return None
        # Sizes at which nothing waited leave nothing to scale.
        found = np.where(found > 0, found / scale, 1.0)
        settled = bool(np.max(np.abs(np.log(found / factors))) < SIZE_SETTLED)
        factors = found
        if settled:
            break
    return SizeEffect(sizes, factors, usual, served)


def at_usual_size(frame: ServiceFrame, pair: Pair, grid: WindowGrid) -> tuple[Pair, Reason | None]:
    """Return a latency or queue of a pool that moved as it would read at the pool's usual size.

    Other signals, and pools that stood still, are returned as they are.

    Parameters
    ----------
    frame
        The service.
    pair
        The signal per instance.
    grid
        Rows the effect is fitted on.

    Returns
    -------
    The pair, and what a reader should know where the size mattered.
    """
    if not pair.per_instance or pair.info.family not in ("latency", "queue"):
        return pair, None
    counts = frame.values("instances", pair.load_role)
    load, value = grid.mean(pair.load), grid.mean(pair.value)
    known = value[np.isfinite(value) & np.isfinite(load)]
    if known.size == 0:
        return pair, None
    served = 0.0 if pair.info.family == "queue" else float(np.quantile(known, SERVICE_QUANTILE))
    effect = size_effect(load, value, grid.mean(counts), served)
    if effect is None:
        return pair, None
    return replace(pair, value=effect.at_usual(pair.value, counts)), _size_note(effect)


def _size_note(effect: SizeEffect) -> Reason | None:
    """Say how far the smallest pool reads from the usual one, where it does by more than 0.3."""
    least = float(effect.factors[0])
    if least <= 1.0 + CURVED:
        return None
    text = (
        f"at equal load per instance requests waited {least:.1f} times as long with "
        f"{effect.sizes[0]:.0f} instances as with the usual {effect.usual:.0f}: judged as it would read with "
        f"{effect.usual:.0f}"
    )
    return Reason("pool_size", text, least, 1.0 + CURVED)

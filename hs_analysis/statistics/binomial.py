"""Maximum likelihood of a line in the log odds of counted outcomes, for the many refits of a bootstrap."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, xlogy

from hs_analysis.schema.arrays import Floats

STEPS_MAX = 100
"""Steps after which a fit is taken as it is: outcomes that a load separates have no finite maximum."""

DEVIANCE_STEP = 1e-8
"""Change of the deviance from which on a fit has converged."""

CERTAIN = float(np.finfo(float).eps)
"""Closest that a probability comes to 0 or 1."""


def logistic_line(x: Floats, hits: Floats, trials: Floats) -> tuple[float, float] | None:
    """Return intercept and slope of the log odds of a hit on `x`.

    Iteratively reweighted least squares (McCullagh & Nelder 1989, §2.5), step by step as statsmodels' GLM of
    the binomial family does it, which takes ten times as long for its objects. Where `x` separates hits from
    misses the slope grows until the deviance has converged; the line then crosses any odds inside the gap.

    Parameters
    ----------
    x, hits, trials
        Cells, shape (n,): where they lie, and how many of their trials, at least one, were hits.

    Returns
    -------
    (intercept, slope), or None where they can't be found: all cells in one place, or nothing finite.
    """
    share = hits / trials
    chance = (share + 0.5) / 2.0
    odds = np.log(chance / (1.0 - chance))
    before, line = np.inf, (np.nan, np.nan)
    with np.errstate(all="ignore"):
        for _ in range(STEPS_MAX):
            spread = chance * (1.0 - chance)
            line = _weighted_line(x, odds + (share - chance) / spread, trials * spread)
            odds = line[0] + line[1] * x
            chance = np.clip(expit(odds), CERTAIN, 1.0 - CERTAIN)
            deviance = 2.0 * float(
                trials @ (xlogy(share, share / chance) + xlogy(1.0 - share, (1.0 - share) / (1.0 - chance)))
            )
            if abs(deviance - before) <= DEVIANCE_STEP:
                break
            before = deviance
    return line if np.isfinite(line).all() else None


def _weighted_line(x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    total = float(weight.sum())
    centre, level = float(weight @ x) / total, float(weight @ y) / total
    away = weight * (x - centre)
    width = float(away @ x)
    slope = float(away @ y) / width if width > 0.0 else np.nan
    return level - slope * centre, slope

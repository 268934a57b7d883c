"""How far the load grows while an instance starts: what a target has to leave free for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.gates import OPERATING_SHARE
from hs_analysis.derive.load import SETTLE_S, RoleRows, smooth_rows, trailing_mean
from hs_analysis.schema.settings import Settings

GROWTH_QUANTILE = 0.99
"""Quantile of the growth that a target leaves room for [ratio of rows]: what is over it may break the SLO for
one row in a hundred. Default of this project, measured in closed loop on simulated services."""

GROWTH_ROWS_MIN = 300
"""Fewest rows that the quantile is read from: three of them lie over it."""


def startup_growth(rows: RoleRows, startup_s: float) -> float | None:
    """Return by how much the load grows within a start-up time, but for one row in a hundred [ratio].

    The 99 % quantile of x₅(t + start-up) ÷ x₅(t), x₅ being the trailing 5-minute mean of the pool's work: a
    controller sizes a pool for the first, and the instances it asks for come in time for the second.

    Parameters
    ----------
    rows
        A role of a production history; rows without work, and pairs across captures, do not count.
    startup_s
        From asking for an instance to its first request [s].

    Returns
    -------
    None with fewer than 300 pairs in the operating range, and for a load that was set on purpose.
    """
    if rows.kind != "production":
        return None
    lag = max(1, math.ceil(startup_s / rows.window_s))
    mean = trailing_mean(rows.work, smooth_rows(rows.window_s), rows.group)
    now, then = mean[:-lag], mean[lag:]
    pairs = np.isfinite(now) & np.isfinite(then) & (rows.group[:-lag] == rows.group[lag:])
    if not pairs.any():
        return None
    pairs &= (now > 0) & (now >= OPERATING_SHARE * np.quantile(now[pairs], 0.95))
    if int(pairs.sum()) < GROWTH_ROWS_MIN:
        return None
    return float(np.quantile(then[pairs] / now[pairs], GROWTH_QUANTILE))


def with_growth(fits: dict[str, CapacityFit], settings: Settings) -> dict[str, CapacityFit]:
    """Return the capacities with `growth_ratio` set, over the start-up time or, not known, over 300 s."""
    out = {}
    for role, fit in fits.items():
        growth = startup_growth(fit.judged.rows, settings.startup_s.get(role, SETTLE_S))
        out[role] = replace(fit, capacity=replace(fit.capacity, growth_ratio=growth))
    return out

"""Gates that a history must pass before a capacity counts as known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.load import RoleRows
from hs_analysis.schema.results import Reason
from hs_analysis.statistics.episodes import operating_rows

Floats = NDArray[np.float64]

# All constants below: defaults of this project, measured on simulated services.

HOURS_MIN = 6.0
"""Production: fewest hours of known load [h]."""

STEADY_MIN_S = 3600.0
"""Production: time without saturation that tells a load range [s]: twelve 5-minute rows."""

RANGE_MIN = 1.6
"""Production: smallest load range, q95 ÷ q05 in the operating range."""

TEST_WINDOWS_MIN = 12
"""Pressure test: fewest usable windows."""

TEST_RANGE_MIN = 2.0
"""Pressure test: smallest range of load per instance."""

TEST_LEVELS_MIN = 3
"""Pressure test: fewest load levels."""

TEST_LEVEL_STEP = 1.25
"""Pressure test: levels are this factor apart."""


def load_range(load: Floats) -> float:
    """Return q95 ÷ q05 of the load in its operating range, NaN without rows."""
    inside = load[operating_rows(load, np.isfinite(load) & (load > 0))]
    if inside.size == 0:
        return math.nan
    return float(np.quantile(inside, 0.95) / np.quantile(inside, 0.05))


def production_gate(rows: RoleRows) -> Reason | None:
    """Return why a production history can't pin a capacity, None when it may: hours and load range.

    The range is that of load per instance or of the pool's total, whichever is wider: an autoscaled pool
    keeps the former tight. Saturated rows do not count, unless there is under an hour of others.
    """
    usable = rows.usable & np.isfinite(rows.sustained)
    hours = float(usable.sum()) * rows.window_s / 3600.0
    if hours < HOURS_MIN:
        text = f"{hours:.1f} h of known load, at least {HOURS_MIN:.0f} h are needed"
        return Reason("thin", text, hours, HOURS_MIN)
    steady = usable & ~rows.saturated
    if float(steady.sum()) * rows.window_s < STEADY_MIN_S:
        steady = usable
    widest = float(np.fmax(load_range(rows.sustained[steady]), load_range(rows.work[steady])))
    return None if widest >= RANGE_MIN else _too_narrow(widest, RANGE_MIN)


def _too_narrow(found: float, least: float) -> Reason:
    if math.isnan(found):
        return Reason("load_range", "there is no load above zero", None, least)
    return Reason(
        "load_range", f"load moves by a factor of {found:.2f}, at least {least} is needed", found, least
    )


def pressure_gate(rows: RoleRows) -> Reason | None:
    """Return why a pressure test can't pin a capacity, None when it may: windows, load range and levels."""
    load = rows.sustained[rows.usable & np.isfinite(rows.sustained)]
    if load.size < TEST_WINDOWS_MIN:
        text = f"{load.size} usable windows, at least {TEST_WINDOWS_MIN} are needed"
        return Reason("thin", text, float(load.size), float(TEST_WINDOWS_MIN))
    reach = load_range(load)
    if not reach >= TEST_RANGE_MIN:
        return _too_narrow(reach, TEST_RANGE_MIN)
    count = load_levels(load)
    if count < TEST_LEVELS_MIN:
        text = f"{count} load levels {TEST_LEVEL_STEP - 1:.0%} apart, at least {TEST_LEVELS_MIN} are needed"
        return Reason("load_range", text, float(count), float(TEST_LEVELS_MIN))
    return None


def load_levels(load: Floats) -> int:
    """Return how many levels 25 % apart the positive loads reach, counted upwards from the lowest."""
    count, level = 0, 0.0
    for value in np.sort(load[load > 0]):
        if value >= level * TEST_LEVEL_STEP or count == 0:
            count, level = count + 1, float(value)
    return count

"""What a pool that already followed its load ran at: a target below it would cost more and prove nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.load import RoleRows, centred_mean, smooth_rows
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.operating import operating_rows

Floats = NDArray[np.float64]

TRACKED_SPAN_S = 3600.0
"""Counts and load are compared as means over this time [s]: long against start-up and scale-in delays, short
against a day."""

TRACKED_CORRELATION = 0.7
"""A pool followed its load when the logarithms of both correlate by this much at least [1]: half of the
movement of either is then the other's. Default of this project."""

TRACKED_RANGE = 1.25
"""Least q95 ÷ q05 of the counts for that to be told [ratio]; default of this project."""

TRACKED_ROWS_MIN = 300
"""Fewest rows that it is told from."""


def tracked_load(rows: RoleRows, settings: Settings) -> float | None:
    """Return the usual load of an instance of a pool whose counts followed its load [tokens/s].

    The median of the 5-minute load per instance in the operating range. Such a fleet met the same ramps, with
    the same start-up time, from that very load, and kept the limit in as many windows as it had to.

    Parameters
    ----------
    rows
        A role of a production history.
    settings
        ``slo`` gives the share of samples and of windows that may be over a limit.

    Returns
    -------
    None where counts did not follow the load, where it moved too little to tell, where limits were given and
    more windows were over them than may be or none is known, and for a load that was set on purpose.
    """
    if rows.kind != "production":
        return None
    span = smooth_rows(rows.window_s, TRACKED_SPAN_S)
    work, counts = (centred_mean(values, span, rows.group) for values in (rows.work, rows.instances))
    known = operating_rows(work, np.isfinite(work) & (work > 0) & np.isfinite(counts) & (counts > 0))
    if int(known.sum()) < TRACKED_ROWS_MIN or not _followed(work[known], counts[known]):
        return None
    load = rows.sustained[known & np.isfinite(rows.sustained)]
    return float(np.median(load)) if load.size and _kept(rows, settings) else None


def _followed(work: Floats, counts: Floats) -> bool:
    low, high = np.quantile(counts, (0.05, 0.95))
    if high < TRACKED_RANGE * low or np.ptp(work) == 0.0:
        return False
    return float(np.corrcoef(np.log(work), np.log(counts))[0, 1]) >= TRACKED_CORRELATION


def _kept(rows: RoleRows, settings: Settings) -> bool:
    """Whether no more windows than may be were over a limit; true where no limit was given."""
    if not rows.limits:
        return True
    judged = rows.over_low[np.isfinite(rows.over_low) & np.isfinite(rows.sustained)]
    over = judged > 1.0 - settings.slo.quantile
    return bool(judged.size) and float(over.mean()) <= settings.slo.allowed_window_share


def with_tracked(fits: dict[str, CapacityFit], settings: Settings) -> dict[str, CapacityFit]:
    """Return the capacities with `tracked_per_instance` set."""
    return {
        role: replace(
            fit,
            capacity=replace(fit.capacity, tracked_per_instance=tracked_load(fit.judged.rows, settings)),
        )
        for role, fit in fits.items()
    }

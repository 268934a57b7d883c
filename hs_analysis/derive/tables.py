"""Detail tables behind the derived numbers: capacity points, fitted curve, and the mix per stretch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.laws import LEVEL_GROUPS, LEVEL_ROWS, violating
from hs_analysis.derive.load import work_of
from hs_analysis.derive.mix import Stretch, stretches_of
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.detail import CAPACITY_CURVE, CAPACITY_POINTS, MIX
from hs_analysis.schema.frames import check, empty
from hs_analysis.schema.results import PdRatio
from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.isotonic import monotone_fit

Floats = NDArray[np.float64]

CURVE_POINTS = 100
"""Grid points of a fitted curve: smooth at the width of a page."""

CURVE_BINS = 40
"""Load bins of a curve where no law was fitted."""


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)


def _frame(columns: dict[str, Any], schema: pa.Schema) -> pl.DataFrame:
    return check(pl.DataFrame(columns, schema=empty(schema).schema), schema)


def _stack(frames: list[pl.DataFrame], schema: pa.Schema) -> pl.DataFrame:
    return pl.concat([empty(schema), *frames])


def capacity_points(frame: ServiceFrame, fits: dict[str, CapacityFit], slo: Slo) -> pl.DataFrame:
    """Return one row per role and window: load per instance, shares over both edges, verdict, used or not.

    `violates` is null where the limit lies between the edges and the window is undecided, or the share is
    unknown.
    """
    frames = []
    for role, fit in fits.items():
        rows = fit.judged.rows
        fails, held = (
            violating(rows.over_high, slo),
            ~violating(rows.over_low, slo) & np.isfinite(rows.over_low),
        )
        columns = {
            "service": [frame.service] * rows.load.size,
            "role": [role] * rows.load.size,
            "capture": frame.table["capture"],
            "t": frame.table["t"],
            "load_per_instance": _nullable(rows.sustained),
            "over_low_ratio": _nullable(rows.over_low),
            "over_high_ratio": _nullable(rows.over_high),
            "violates": [True if f else False if h else None for f, h in zip(fails, held, strict=True)],
            "used": fit.judged.kept,
        }
        frames.append(_frame(columns, CAPACITY_POINTS))
    return _stack(frames, CAPACITY_POINTS)


def capacity_curve(frame: ServiceFrame, fits: dict[str, CapacityFit], slo: Slo) -> pl.DataFrame:
    """Return the fitted share over load that capacity was read off, per role.

    The logistic law's own curve where it was fitted; where the law is load levels the share of samples over
    the limit that it fitted; else a monotone fit of violating windows in load bins.
    No rows for a role without judged windows.
    """
    frames = []
    for role, fit in fits.items():
        load = fit.judged.rows.sustained[fit.judged.kept]
        load = load[load > 0]
        if load.size < 2 or not load.max() > load.min():
            continue
        grid = np.linspace(load.min(), max(load.max(), fit.capacity.per_instance or 0.0), CURVE_POINTS)
        columns = {
            "service": [frame.service] * CURVE_POINTS,
            "role": [role] * CURVE_POINTS,
            "load_per_instance": grid,
            "violation_probability": _probability(fit, grid, slo),
        }
        frames.append(_frame(columns, CAPACITY_CURVE))
    return _stack(frames, CAPACITY_CURVE)


def _probability(fit: CapacityFit, grid: Floats, slo: Slo) -> Floats:
    crossing = fit.crossing
    if crossing is not None and crossing.slope is not None:
        allowed = slo.allowed_window_share
        odds = math.log(allowed / (1.0 - allowed)) + crossing.slope * np.log(grid / crossing.load)
        curve: Floats = 0.5 * (1.0 + np.tanh(odds / 2.0))
        return curve
    judged = fit.judged
    known = judged.kept & np.isfinite(judged.rows.sustained)
    if fit.capacity.method.startswith("load levels"):
        bins = max(2, min(LEVEL_GROUPS, int(known.sum()) // LEVEL_ROWS))
        share = judged.rows.over_low[known]
        return monotone_fit(judged.rows.load[known], share, bins=bins, increasing=True).predict(grid)
    bad = judged.bad[known].astype(float)
    bins = min(CURVE_BINS, max(2, bad.size // 3))
    return monotone_fit(judged.rows.sustained[known], bad, bins=bins, increasing=True).predict(grid)


def mix_table(frame: ServiceFrame, stretches: tuple[Stretch, ...], ratio: PdRatio) -> pl.DataFrame:
    """Return one row per stretch: mean work of each role, and the balanced ratio or null."""
    captures = frame.captures()
    balanced = iter(ratio.by_window)
    values = [
        next(balanced).value if ratio.by_window and math.isfinite(s.mix) else math.nan for s in stretches
    ]
    columns = {
        "service": [frame.service] * len(stretches),
        "capture": [captures[s.capture] for s in stretches],
        "start": [round(s.start_s * 1e6) for s in stretches],
        "end": [round(s.end_s * 1e6) for s in stretches],
        "prefill_tps": _nullable(np.array([s.prefill for s in stretches], dtype=float)),
        "decode_tps": _nullable(np.array([s.decode for s in stretches], dtype=float)),
        "ratio": _nullable(np.array(values, dtype=float)),
    }
    return _frame(columns, MIX)


def history_stretches(frame: ServiceFrame) -> tuple[Stretch, ...]:
    """Return the stretches of a service without a mix: the pool's work and the prefill work that is known."""
    pool = "mixed" if "mixed" in frame.pools else "decode"
    prefill = frame.values(SERVED["prefill"], "mixed") if pool == "mixed" else work_of(frame, "prefill")[0]
    return stretches_of(frame, prefill, work_of(frame, pool)[0])

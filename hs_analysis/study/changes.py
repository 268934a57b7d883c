"""A new version or configuration inside the window: where several relations to the load jump at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import HOUR_S, HOURS_MIN, MAJORITY
from hs_analysis.schema.results import Reason
from hs_analysis.statistics.noise import MAD_TO_SD
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.constants import (
    DRIFT_MAX,
    JUMP_MIN,
    PART_ROWS_MIN,
    SHIFT_MIN,
    SIGNALS_MIN,
    TOGETHER_S,
    TREND_S,
)
from hs_analysis.study.effects import relative
from hs_analysis.study.signal_statistics import SignalStatistics, StudyRows
from hs_analysis.study.verdict import judge

PART_MIN_S = HOURS_MIN * HOUR_S
"""Shortest part of the window on either side [s]: what a signal must have to be judged at all."""


MOVED_MIN = DRIFT_MAX / 2.0
"""Shift of ln(signal) relative to the elasticity from which a signal is judged on the part after a change
alone: half of the drift that is allowed; default of this project."""


@dataclass(frozen=True)
class Jump:
    """The largest lasting jump of one signal's relation to its load.

    Attributes
    ----------
    at_s
        When, in Unix seconds.
    size
        In units of the typical difference of two stretches.
    """

    at_s: float
    size: float


def find_jump(rows: StudyRows) -> Jump | None:
    """Return the largest lasting jump of a signal at equal load, None where none is large enough.

    ln(signal) is laid on a parabola of ln(load) and a step, for each moment the step could be at; the moment
    with the least rest is taken (a scan of F ratios, Quandt 1960). What the parabola leaves then must jump
    there: the means of two hours before and after differ by more than elsewhere. A relation that slides does
    not.

    Parameters
    ----------
    rows
        The rows a signal is judged on; one capture.
    """
    edge = round(PART_MIN_S / rows.grid.step_s)
    reach = max(2, round(TREND_S / rows.grid.step_s))
    log_x = positive_log(np.where(rows.used, rows.load, np.nan))
    log_y = positive_log(np.where(rows.used, rows.value, np.nan))
    good = np.flatnonzero(np.isfinite(log_x) & np.isfinite(log_y))
    last = int(good[-1]) + 1 if good.size else 0
    moments = np.arange(edge, last - edge + 1)
    if good.size < PART_ROWS_MIN or moments.size == 0:
        return None
    at, step, law = _best_step(log_x[good], log_y[good], good, moments)
    left = np.full(log_y.size, np.nan)
    left[good] = log_y[good] - law
    jumps = _differences(left, reach)
    near = np.abs(np.arange(left.size) - at) <= reach
    typical = MAD_TO_SD * _typical(np.abs(jumps[~near]))
    size = abs(float(jumps[at])) if np.isfinite(jumps[at]) else 0.0
    if typical <= 0.0 or size < max(SHIFT_MIN, JUMP_MIN * typical) or abs(step) < MAJORITY * size:
        return None
    return Jump(float(rows.grid.start_s[at]), size / typical)


def _best_step(x: Floats, y: Floats, place: Integers, moments: Integers) -> tuple[int, float, Floats]:
    """Return the moment whose step leaves the least rest, the step, and the parabola at each row."""
    basis, _ = np.linalg.qr(np.column_stack([np.ones(x.size), x, x**2]))
    steps = (place[:, None] >= moments).astype(float)
    bare_steps = steps - basis @ (basis.T @ steps)
    bare_y = y - basis @ (basis.T @ y)
    weight = (bare_steps**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(weight > 1e-9 * x.size, (bare_steps.T @ bare_y) ** 2 / weight, 0.0)
    best = int(np.argmax(gain))
    step = float(bare_steps[:, best] @ bare_y / weight[best]) if gain[best] > 0 else 0.0
    law = basis @ (basis.T @ (y - step * steps[:, best]))
    return int(moments[best]), step, law


def _typical(sizes: Floats) -> float:
    known = sizes[np.isfinite(sizes)]
    return float(np.median(known)) if known.size else 0.0


def moved_by(rows: StudyRows, stats: SignalStatistics, at_s: float) -> float:
    """Return how far ln(signal) at equal load shifted at a moment, relative to the elasticity."""
    at = int(np.searchsorted(np.nan_to_num(rows.grid.start_s, nan=np.inf), at_s))
    log_x = positive_log(np.where(rows.used, rows.load, np.nan))
    log_y = positive_log(np.where(rows.used, rows.value, np.nan))
    good = np.flatnonzero(np.isfinite(log_x) & np.isfinite(log_y))
    if not 0 < (good >= at).sum() < good.size or good.size < PART_ROWS_MIN:
        return 0.0
    _, step, _ = _best_step(log_x[good], log_y[good], good, np.array([at]))
    return relative(abs(step), stats.elasticity)


def after_change(
    whole: tuple[SignalStatistics, StudyRows | None],
    at_s: float,
    when: str,
    part: Callable[[bool], tuple[SignalStatistics, StudyRows | None]],
) -> tuple[SignalStatistics, StudyRows | None]:
    """Return a signal as judged after a change where it moved by it, as judged on all rows elsewhere.

    Two versions are never averaged: the numbers are those of the version that runs now, and the reason says
    what the one before it was.

    Parameters
    ----------
    whole
        The signal as judged on all rows.
    at_s, when
        Moment of the change, in Unix seconds and in words.
    part
        Judges the signal on the part from the change on (True) or before it (False).
    """
    stats, rows = whole
    if stats.gates or rows is None or stats.family == "queue":
        return whole
    moved = moved_by(rows, stats, at_s)
    if moved < MOVED_MIN:
        return whole
    now, rows_now = part(True)
    before, _ = part(False)
    slope = "" if before.elasticity is None else f" (elasticity {before.elasticity:.2f})"
    text = (
        f"its relation to the load changed at {when}, as that of other signals did: a new version or "
        f"configuration; judged on what came after, before it was {judge(before)[0]}{slope}"
    )
    return replace(now, notes=(Reason("version_change", text, moved, MOVED_MIN), *now.notes)), rows_now


def _differences(left: Floats, reach: int) -> Floats:
    """Return the mean of the `reach` rows from each row on minus that of those before it, shape (n,).

    NaN where either holds fewer than half of its rows.
    """
    good = np.isfinite(left)
    totals = np.concatenate(([0.0], np.cumsum(np.where(good, left, 0.0))))
    counts = np.concatenate(([0], np.cumsum(good)))
    at = np.arange(left.size)
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach, left.size)
    n_before, n_after = counts[at] - counts[low], counts[high] - counts[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (totals[high] - totals[at]) / n_after - (totals[at] - totals[low]) / n_before
    return np.where((n_before >= reach / 2) & (n_after >= reach / 2), found, np.nan)


def common_change(jumps: Sequence[Jump]) -> float | None:
    """Return the moment at which most signals jump together, None when fewer than two do.

    Among moments shared by as many signals the one with the larger jumps is taken: the median of theirs.
    """
    best: tuple[int, float, float] | None = None
    for one in jumps:
        group = [other for other in jumps if abs(other.at_s - one.at_s) <= TOGETHER_S]
        found = (len(group), sum(other.size for other in group), float(np.median([o.at_s for o in group])))
        best = found if best is None or found[:2] > best[:2] else best
    return best[2] if best is not None and best[0] >= SIGNALS_MIN else None

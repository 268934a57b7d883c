"""What was measured of one signal, and the part of it that both kinds of history share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import GROUP_MIN, LOAD_RANGE_QUANTILES, ROWS_MIN
from hs_analysis.schema.results import Interval, Reason, Verdict
from hs_analysis.statistics.resampling import block_length, moving_block_indices, n_effective
from hs_analysis.statistics.separation import top_separation
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.constants import CURVED, ELASTICITY_BINS, FLAT, INDICATIVE_N, REVERSE_GAP
from hs_analysis.study.effects import (
    associate,
    correlation,
    elasticity,
    elasticity_interval,
    local_slopes,
    signal_to_noise,
    slope_of_means,
    waiting_rows,
)
from hs_analysis.study.reference_load import WindowGrid


@dataclass(frozen=True)
class Draws:
    """Resamples of some rows.

    Attributes
    ----------
    rows
        Row numbers among them, shape (draws, rows).
    block
        Rows of a block where whole circular blocks were drawn, else None.
    """

    rows: Integers
    block: int | None


Resample = Callable[[Mask], Draws]
"""From a mask of grid rows to resamples of them."""


@dataclass(frozen=True)
class Cap:
    """The best verdict a circumstance allows, and why."""

    verdict: Verdict
    reason: Reason


@dataclass(frozen=True)
class StudyRows:
    """The rows a verdict was formed on, for charts.

    Attributes
    ----------
    grid
        Where the rows lie.
    load, value, fit
        Shape (rows,), NaN where missing; `value` and `load` normalised as they were judged.
    used
        Rows in the operating range and not saturated, shape (rows,).
    """

    grid: WindowGrid
    load: Floats
    value: Floats
    fit: Floats
    used: Mask


@dataclass(frozen=True)
class SignalStatistics:
    """Effect sizes of one signal; a number that does not apply or could not be had is None.

    Attributes
    ----------
    family
        Family of the signal.
    rows
        Rows in the operating range.
    gates
        Gates that failed: with any of them nothing was tested.
    caps
        Circumstances that bound the verdict.
    notes
        What a reader should know apart from the verdict.
    history
        Kind of history, where checks differ between the two; empty before it is known.
    elasticity_range
        Loads the elasticity speaks of, low and high: per instance where the pool moved.
    link_chance
        Chance that an unrelated signal has such a link: of one signal, then over all that were tested.
    nonlinearity
        |Spearman − Pearson|: a cliff or a few high values part the two, a line does not.
    half_shift, hysteresis
        Pressure tests: shift of ln(signal) between halves, and between rising and falling load, relative to
        the elasticity.
    """

    family: str
    rows: int = 0
    history: Literal["", "production", "pressure_test"] = ""
    gates: tuple[Reason, ...] = ()
    caps: tuple[Cap, ...] = ()
    notes: tuple[Reason, ...] = ()
    pearson: float | None = None
    pearson_ci: Interval | None = None
    spearman: float | None = None
    spearman_ci: Interval | None = None
    spearman_highpass: float | None = None
    innovation_link: float | None = None
    link_chance: float | None = None
    elasticity: float | None = None
    elasticity_ci: Interval | None = None
    elasticity_range: Interval | None = None
    elasticity_all_rows: float | None = None
    snr: float | None = None
    lag_s: float | None = None
    lag_ci: Interval | None = None
    drift: float | None = None
    half_shift: float | None = None
    hysteresis: float | None = None
    auc_top: float | None = None
    nonlinearity: float | None = None
    n_effective: float | None = None

    def noting(self, *reasons: Reason) -> SignalStatistics:
        """Return the same with more notes."""
        return replace(self, notes=self.notes + reasons)


def measure_effects(
    family: str, x: Floats, y: Floats, used: Mask, resample: Resample, bins: int = ELASTICITY_BINS
) -> SignalStatistics:
    """Return association, elasticity, noise and guard power of a signal on its load.

    Association and elasticity use the rows `used`; noise, guard power and `elasticity_all_rows` use all.

    Parameters
    ----------
    family
        Family of the signal.
    x, y
        Load and signal as grid rows, shape (rows,); NaN = missing or saturated, in both alike.
    used
        Rows in the operating range, shape (rows,).
    resample
        Bootstrap of rows.
    bins
        Load bins of the elasticity.
    """
    if np.ptp(y[used]) == 0.0:
        return _motionless(family, int(used.sum()))
    both = np.isfinite(x) & np.isfinite(y)
    draws = resample(used)
    found = associate(x[used], y[used], draws.rows, draws.block)
    positive = used & (y > 0)
    slope, interval, reach = _elasticity(family, x, y, used, resample, bins)
    everything = both & (x > 0) & (y > 0)
    known = found.pearson is not None and found.spearman is not None
    return SignalStatistics(
        family,
        rows=int(used.sum()),
        notes=_shape_notes(family, x[positive], y[positive]),
        pearson=found.pearson,
        pearson_ci=found.pearson_ci,
        spearman=found.spearman,
        spearman_ci=found.spearman_ci,
        elasticity=slope,
        elasticity_ci=interval,
        elasticity_range=reach,
        elasticity_all_rows=elasticity(x[everything], y[everything], bins),
        snr=signal_to_noise(x[both], y[both]),
        auc_top=top_separation(x[both], y[both]),
        nonlinearity=abs(found.spearman - found.pearson) if known else None,
        n_effective=n_effective(np.where(used, x, np.nan), np.where(used, y, np.nan)),
    )


def slope_on_load(
    family: str, x: Floats, y: Floats, used: Mask, bins: int = ELASTICITY_BINS
) -> tuple[float | None, Mask, int]:
    """Return the elasticity of a signal, the rows it rests on and the bins they fill.

    Rows that are not positive say nothing of a slope in logs; an empty queue does, so a queue's slope is that
    of its bin means.

    Parameters
    ----------
    family
        Family of the signal.
    x, y
        Load and signal, shape (rows,); NaN = missing.
    used
        Rows in the operating range, shape (rows,).
    bins
        Most load bins.
    """
    if family != "queue":
        rows = used & (y > 0)
        return elasticity(x[rows], y[rows], bins), rows, bins
    rows, bins = waiting_rows(x, y, used, bins)
    slope = float(slope_of_means(np.log(x[rows]), y[rows], bins)) if bins else None
    return slope, rows, bins


def _elasticity(
    family: str, x: Floats, y: Floats, used: Mask, resample: Resample, bins: int
) -> tuple[float | None, Interval | None, Interval | None]:
    """Return the elasticity, its interval and the loads it speaks of, q05 and q95 of its rows."""
    slope, rows, bins = slope_on_load(family, x, y, used, bins)
    if slope is None:
        return None, None, None
    low, high = np.quantile(x[rows], LOAD_RANGE_QUANTILES)
    interval = None
    if rows.sum() >= 2 * GROUP_MIN:
        through = slope_of_means if family == "queue" else None
        interval = elasticity_interval(slope, x[rows], y[rows], resample(rows).rows, bins, through)
    return slope, interval, (float(low), float(high))


def _motionless(family: str, rows: int) -> SignalStatistics:
    """Return what is known of a signal that had one value however the load moved."""
    reason = Reason("flat", "it had one and the same value however the load moved", 0.0, FLAT)
    return SignalStatistics(
        family,
        rows=rows,
        caps=(Cap("unusable", reason),),
        pearson=0.0,
        spearman=0.0,
        spearman_highpass=0.0,
        innovation_link=0.0,
        elasticity=0.0,
        snr=0.0,
        drift=0.0,
        auc_top=0.5,
    )


def block_resample(rows: StudyRows, draws: int, rng: np.random.Generator) -> Resample:
    """Return a circular block bootstrap whose blocks are as long as the used rows are correlated."""
    block = block_length(np.where(rows.used, rows.load, np.nan), np.where(rows.used, rows.value, np.nan))

    def resample(mask: Mask) -> Draws:
        n = int(mask.sum())
        width = max(1, min(block, n))
        return Draws(moving_block_indices(n, width, draws, rng), width)

    return resample


def interval_note(stats: SignalStatistics) -> SignalStatistics:
    """Say so when the intervals rest on few independent pieces."""
    count = stats.n_effective
    if count is None or count >= INDICATIVE_N:
        return stats
    text = f"intervals are indicative: the rows hold about {count:.0f} independent pieces"
    return stats.noting(Reason("indicative_interval", text, count, INDICATIVE_N))


def _shape_notes(family: str, x: Floats, y: Floats) -> tuple[Reason, ...]:
    notes: list[Reason] = []
    bend = local_slopes(x, y)
    if bend is not None and bend[1] - bend[0] > CURVED:
        text = f"bent relation: in thirds of the load the slope lies between {bend[0]:.2f} and {bend[1]:.2f}"
        notes.append(Reason("bent", text, bend[1] - bend[0], CURVED))
    reverse = _reverse_slope(x, y)
    if family not in ("latency", "queue") and reverse is not None:
        forward, backward = reverse
        if backward - forward > REVERSE_GAP:
            text = f"signal on load gives {forward:.2f}, load on signal {backward:.2f}: one of them is noisy"
            notes.append(Reason("reverse_slope", text, backward - forward, REVERSE_GAP))
    return tuple(notes)


def _reverse_slope(x: Floats, y: Floats) -> tuple[float, float] | None:
    log_x, log_y = positive_log(x), positive_log(y)
    if log_x.size < ROWS_MIN:
        return None
    rho = float(correlation(log_x, log_y))
    # Below this the inverse slope says only that the two are unrelated, which Spearman says already.
    if rho < 0.5:
        return None
    forward = rho * float(np.std(log_y) / np.std(log_x))
    return forward, forward / rho**2


def as_fields(stats: SignalStatistics) -> dict[str, Any]:
    """Return the numbers that a verdict carries, by its field names.

    The drift of a pressure test is the larger of its two shifts.
    """
    names = (
        "pearson", "pearson_ci", "spearman", "spearman_ci", "spearman_highpass", "innovation_link",
        "elasticity", "elasticity_ci", "elasticity_range", "elasticity_all_rows", "snr", "lag_s", "lag_ci",
        "drift", "auc_top", "n_effective",
    )  # fmt: skip
    fields = {name: getattr(stats, name) for name in names}
    shifts = [shift for shift in (stats.half_shift, stats.hysteresis) if shift is not None]
    if stats.drift is None and shifts:
        fields["drift"] = max(shifts)
    return fields

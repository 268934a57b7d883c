"""The mix: prefill work per decode work, over the whole history and in stretches, and whether it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.load import capture_numbers, saturated_rows, work_of
from hs_analysis.derive.noise import disjoint_means
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.statistics.noise import second_difference_noise

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Defaults of this project, measured on simulated services unless said otherwise.

STRETCH_S = 3600.0
"""Production: length of a stretch [s]."""

STRETCH_PARTS = 6
"""Production: equal parts of a stretch whose scatter tells its noise (10-minute means)."""

TEST_STRETCHES = 18
"""Pressure test: stretches that the longest capture is cut into. Chosen between 12 and 24, not measured."""

TEST_STRETCH_ROWS_MIN = 3
"""Pressure test: fewest windows of a stretch."""

STRETCH_COVERAGE = 0.3
"""Share of the rows of a stretch that must show both roles unsaturated [ratio]."""

BUSY_SHARE = 0.2
"""Stretches under this share of the 95 % quantile of decode work are idle: their mix sizes nothing
[ratio]."""

DRIFT_SPREAD = math.log(1.25)
"""Spread of ln mix (q90 − q10, noise taken off) above which no single ratio is right."""

NORMAL_DECILES = 2.56
"""q90 − q10 of a normal variable in standard deviations."""

STRETCHES_MIN = 3
"""Fewest busy stretches whose spread is told."""


@dataclass(frozen=True)
class Stretch:
    """One stretch of time: mean work per role [tokens/s] over rows in which no role is saturated."""

    capture: int
    start_s: float
    end_s: float
    prefill: float
    decode: float

    @property
    def mix(self) -> float:
        """Prefill tokens per decode token, NaN where either is unknown."""
        return self.prefill / self.decode if self.decode > 0 else math.nan


@dataclass(frozen=True)
class Mix:
    """Prefill work per decode work.

    Attributes
    ----------
    value
        Σ prefill work ÷ Σ decode work over common unsaturated rows: the load-weighted mix.
    draws
        The same in each bootstrap draw, NaN without rows.
    stretches
        All stretches in time order.
    busy
        Mix of the stretches with enough decode work.
    noise
        Standard deviation of ln mix of one stretch, NaN where it can't be told.
    spread
        q90 − q10 of ln mix over busy stretches with the noise taken off; NaN under three stretches.
    """

    value: float
    draws: Floats
    stretches: tuple[Stretch, ...]
    busy: Floats
    noise: float
    spread: float

    @property
    def moves(self) -> bool:
        """Whether the mix moves by more than a quarter between its deciles."""
        return self.spread > DRIFT_SPREAD


def stretch_rows(frame: ServiceFrame) -> int:
    """Return the rows of a stretch: an hour, or in a test 1/18 of the longest capture and at least 3."""
    if frame.kind == "production":
        return max(1, round(STRETCH_S / frame.window_s))
    longest = int(np.bincount(capture_numbers(frame)).max()) if frame.table.height else 0
    return max(TEST_STRETCH_ROWS_MIN, round(longest / TEST_STRETCHES))


def stretches_of(frame: ServiceFrame, prefill: Floats, decode: Floats) -> tuple[Stretch, ...]:
    """Return the stretches of a history; work is NaN in one that has too few rows with a value.

    Parameters
    ----------
    prefill, decode
        Work of each role, NaN in rows that don't count, shape (rows,).
    """
    rows, group, seconds = stretch_rows(frame), capture_numbers(frame), frame.seconds()
    out = []
    for number in np.unique(group):
        inside = np.flatnonzero(group == number)
        for first in range(0, inside.size, rows):
            part = inside[first : first + rows]
            p, d = _mean(prefill[part]), _mean(decode[part])
            end = seconds[part[-1]] + frame.window_s
            out.append(Stretch(int(number), float(seconds[part[0]]), float(end), p, d))
    return tuple(out)


def _mean(values: Floats) -> float:
    good = np.isfinite(values)
    return float(values[good].mean()) if good.mean() >= STRETCH_COVERAGE and good.any() else math.nan


def mix_of(frame: ServiceFrame, resamples: Integers) -> Mix | None:
    """Return the mix of a service with both pools, None without a row that shows both unsaturated."""
    prefill, decode = work_of(frame, "prefill")[0], work_of(frame, "decode")[0]
    common = np.isfinite(prefill) & np.isfinite(decode)
    common &= ~saturated_rows(frame, "prefill") & ~saturated_rows(frame, "decode")
    p, d = np.where(common, prefill, 0.0), np.where(common, decode, 0.0)
    if not d.sum() > 0 or not p.sum() > 0:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = p[resamples].sum(axis=1) / d[resamples].sum(axis=1)
    p, d = np.where(common, prefill, np.nan), np.where(common, decode, np.nan)
    stretches = stretches_of(frame, p, d)
    busy = _busy(stretches)
    noise = stretch_noise(frame, p, d)
    return Mix(float(np.nansum(p) / np.nansum(d)), draws, stretches, busy, noise, _spread(busy, noise))


def _busy(stretches: tuple[Stretch, ...]) -> Floats:
    decode = np.array([s.decode for s in stretches])
    mix = np.array([s.mix for s in stretches])
    known = np.isfinite(mix) & (mix > 0)
    if not known.any():
        return np.empty(0)
    busy: Floats = mix[known & (decode >= BUSY_SHARE * np.quantile(decode[known], 0.95))]
    return busy


def stretch_noise(frame: ServiceFrame, prefill: Floats, decode: Floats) -> float:
    """Return the standard deviation of ln mix of one stretch, from second differences of its parts.

    Parts are 10-minute means in production and single windows in a pressure test; the noise of a stretch is
    theirs ÷ √ of parts.
    """
    rows = stretch_rows(frame)
    part = max(1, rows // STRETCH_PARTS) if frame.kind == "production" else 1
    group = capture_numbers(frame)
    with np.errstate(invalid="ignore", divide="ignore"):
        pieces = [
            np.log(p / d)
            for p, d in zip(
                disjoint_means(prefill, part, group), disjoint_means(decode, part, group), strict=True
            )
        ]
    return second_difference_noise(pieces) / math.sqrt(rows / part)


def _spread(busy: Floats, noise: float) -> float:
    if busy.size < STRETCHES_MIN:
        return math.nan
    low, high = np.quantile(np.log(busy), [0.1, 0.9])
    scatter = NORMAL_DECILES * noise if math.isfinite(noise) else 0.0
    return math.sqrt(max(0.0, float(high - low) ** 2 - scatter**2))

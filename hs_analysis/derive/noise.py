"""Noise of a signal at flat load, and the dead band and cooldowns that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.constants import BAND_MIN
from hs_analysis.derive.rows import Groups, smooth_rows
from hs_analysis.schema.constants import (
    COOLDOWN_IN_S,
    COVERAGE_MIN,
    FALSE_CROSSINGS_PER_DAY,
    ROWS_MIN,
    SUSTAINED_S,
)
from hs_analysis.statistics.noise import crossing_z, second_difference_noise

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Band:
    """Dead band of a signal as ratios of wanted to current instances, and the noise it rests on."""

    scale_out_ratio: float
    scale_in_ratio: float
    noise_cv: float


def disjoint_means(values: Floats, rows: int, group: Groups) -> list[Floats]:
    """Return the means of consecutive blocks of `rows` rows of each capture, NaN under 70 % coverage."""
    out = []
    for number in np.unique(group):
        part = values[group == number]
        part = part[: part.size // rows * rows].reshape(-1, rows)
        good = np.isfinite(part)
        held = good.sum(axis=1)
        total = np.where(good, part, 0.0).sum(axis=1)
        out.append(np.where(held >= COVERAGE_MIN * rows, total / np.maximum(held, 1), np.nan))
    return out


def noise_cv(values: Floats, window_s: float, group: Groups, *, set_load: bool = False) -> float:
    """Return the noise of 5-minute means of a signal as a share of its mean, NaN where it can't be estimated.

    From second differences of disjoint 5-minute means; of rows (scaled by √ of rows per mean) where there
    are fewer than 12 means, or where the load was set on purpose: a test moves within minutes, and second
    differences of 5-minute means would call that noise.
    """
    rows = smooth_rows(window_s, SUSTAINED_S)
    means = disjoint_means(values, rows, group)
    level = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
    if not set_load and sum(int(np.isfinite(piece).sum()) for piece in means) >= ROWS_MIN:
        noise = second_difference_noise(means)
    else:
        noise = second_difference_noise(disjoint_means(values, 1, group)) / math.sqrt(rows)
    return noise / level if level > 0 else math.nan


def dead_band(cv: float, instances: float) -> Band:
    """Return the dead band for a signal of noise `cv` on a pool of `instances`.

    z = Φ⁻¹(1 − a / (2 · 86400 / W)); θ_out = max(0.05, z·cv); θ_in = max(0.10, z·cv + 1/n): rounding up to
    whole instances must not trigger scale-in.
    """
    z = crossing_z(FALSE_CROSSINGS_PER_DAY, SUSTAINED_S)
    out = max(BAND_MIN[0], z * cv)
    into = max(BAND_MIN[1], z * cv + 1.0 / instances)
    return Band(1.0 + out, max(0.0, 1.0 - into), cv)


def cooldowns(startup_s: float) -> tuple[float, float]:
    """Return the cooldowns (out, in) in seconds: W and max(600, 2 · start-up).

    Noise is kept out by the mean and the band. To wait for the correlation time of the load would keep
    what a ramp asked for long after it: on simulated services that cost hours and held no limit better.
    """
    return SUSTAINED_S, max(COOLDOWN_IN_S, 2.0 * startup_s)

"""Noise of a signal at flat load, and the dead band and cooldowns that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hs_analysis.derive.constants import BAND_MIN
from hs_analysis.derive.rows import smooth_rows
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import (
    COVERAGE_MIN,
    FALSE_CROSSINGS_PER_DAY,
    RESTS_S,
    ROWS_MIN,
    SHORTEST_S,
    SUSTAINED_S,
)
from hs_analysis.statistics.noise import crossing_z, largest_sd, second_difference_noise


@dataclass(frozen=True)
class Noise:
    """Noise of the two readings of a signal as shares of their means: the newest, and the highest of 5 min.

    NaN where it can't be estimated.
    """

    newest_cv: float
    highest_cv: float


@dataclass(frozen=True)
class Band:
    """Dead band of a signal as ratios of wanted to current instances, and the noise it rests on."""

    scale_out_ratio: float
    scale_in_ratio: float
    noise: Noise


def disjoint_means(values: Floats, rows: int, group: Integers) -> list[Floats]:
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


def disjoint_maxima(values: Floats, rows: int, group: Integers) -> list[Floats]:
    """Return the highest of consecutive blocks of `rows` values of each capture, NaN under 70 % coverage."""
    out = []
    for number in np.unique(group):
        part = values[group == number]
        part = part[: part.size // rows * rows].reshape(-1, rows)
        held = np.isfinite(part).sum(axis=1)
        highest = np.where(np.isfinite(part), part, -np.inf).max(axis=1, initial=-np.inf)
        out.append(np.where(held >= COVERAGE_MIN * rows, highest, np.nan))
    return out


def noise_of(values: Floats, window_s: float, group: Integers, *, set_load: bool = False) -> Noise:
    """Return the noise of the readings that a policy compares, as shares of their means.

    The newest reading is the mean of 60 s, or a row where rows are wider; the highest is that of five such
    readings. From second differences of disjoint means of 60 s and of disjoint 5-minute maxima. From rows, as
    if they were independent, where there are fewer than 12 blocks, or where the load was set on purpose: a
    test moves within minutes, and second differences of blocks would call that noise.
    """
    rows = smooth_rows(window_s, SHORTEST_S)
    means = disjoint_means(values, rows, group)
    per_highest = smooth_rows(max(window_s, SHORTEST_S), SUSTAINED_S)
    first = np.concatenate([np.full(piece.size, n) for n, piece in enumerate(means)]).astype(np.int64)
    maxima = disjoint_maxima(np.concatenate(means), per_highest, first)
    of_rows = second_difference_noise(disjoint_means(values, 1, group)) / math.sqrt(rows)

    def share_of_mean(blocks: list[Floats], where_few: float) -> float:
        known = np.concatenate([np.empty(0), *blocks])
        known = known[np.isfinite(known)]
        if not known.size or not known.mean() > 0:
            return math.nan
        few = set_load or known.size < ROWS_MIN
        return (where_few if few else second_difference_noise(blocks)) / float(known.mean())

    return Noise(share_of_mean(means, of_rows), share_of_mean(maxima, of_rows * largest_sd(per_highest)))


def dead_band(noise: Noise, instances: float, window_s: float) -> Band:
    """Return the dead band for a signal on a pool of `instances` that is looked at every `window_s`.

    z = Φ⁻¹(1 − a / (2 · 86400 / W)) with W = 60 s, or a row where rows are wider; θ_out = max(0.05, z·cv of
    the newest reading); θ_in = max(0.20, z·cv of the highest + 1/n): rounding up to whole instances must not
    trigger scale-in.
    """
    z = crossing_z(FALSE_CROSSINGS_PER_DAY, max(window_s, SHORTEST_S))
    out = max(BAND_MIN[0], z * noise.newest_cv)
    into = max(BAND_MIN[1], z * noise.highest_cv + 1.0 / instances)
    return Band(1.0 + out, max(0.0, 1.0 - into), noise)


def cooldowns() -> tuple[float, float]:
    """Return the rests (out, in) in seconds.

    None before a scale-out: instances that were asked for and are not ready are counted. Noise is kept out by
    the readings and the band. To wait for the correlation time of the load would keep what a ramp asked for
    long after it: on simulated services that cost hours and held no limit better.
    """
    return RESTS_S

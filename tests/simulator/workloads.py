"""Offered load and token mixes: how many requests come, when, and what each of them brings.

The rate of requests is a product of shapes,

    rate(t) = peak · day(t) · week(t) · wander(t) · bursts(t) · overload(t)      [requests/s]

each positive and dimensionless, and arrivals are a Poisson process of that rate. All shapes and sizes are
choices of this project; the day's outline (trough before dawn, two peaks, a dip between them) follows the one
of arXiv:2508.19559, Fig. 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import lfilter

Floats = NDArray[np.float64]

DAY_S = 86_400.0
DAY_OUTLINE = (
    (0.0, 2.5, 4.5, 7.0, 11.0, 13.5, 16.0, 19.0, 21.0, 24.0),
    (0.40, 0.10, 0.0, 0.25, 0.90, 0.68, 1.0, 0.66, 0.62, 0.40),
)
"""Hours of the day and load between trough (0) and peak (1): read off the figure named above, roughly."""

GRID_S = 10.0
"""Width of the steps on which rates and mixes are laid out [s]."""

CACHED_SHARE = (8.0, 3.0)
"""Beta parameters of the share of a prompt that a prefix hit leaves out; mean 8/11; a choice of this
project."""


@dataclass(frozen=True)
class LoadShape:
    """How the request rate moves; the defaults give one rate for ever.

    Attributes
    ----------
    night
        Trough ÷ peak of the day cycle [ratio]; 1 = no cycle.
    first_day, first_hour
        Day of the week (0 = Monday) and hour of the day at which the history starts.
    weekend
        Factor on Saturdays and Sundays [ratio].
    wander_sd, wander_s
        Standard deviation and correlation time [s] of ln rate as an Ornstein-Uhlenbeck process.
    ramps_per_day
        Steps that double or halve the rate within four minutes and last an hour.
    bursts_per_day
        Surges of 60 % that last three to six minutes.
    overload
        (first hour, hours, factor) of a stretch of more load, None without one.
    """

    night: float = 1.0
    first_day: int = 1
    first_hour: float = 0.0
    weekend: float = 1.0
    wander_sd: float = 0.0
    wander_s: float = 3600.0
    ramps_per_day: float = 0.0
    bursts_per_day: float = 0.0
    overload: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class TokenMix:
    """What a request brings.

    Attributes
    ----------
    prompt, output
        Mean tokens of a prompt and of an answer.
    prompt_cv, output_cv
        Standard deviation ÷ mean; lengths are log-normal.
    hit
        Share of requests that find a prefix in the cache [ratio].
    prompt_drift, output_drift
        ln of the factor by which the mean moves over the history, as half a turn of a cosine and back.
    hit_drift
        What is added to `hit` at the far end of that turn [ratio].
    """

    prompt: float = 1400.0
    output: float = 320.0
    prompt_cv: float = 0.6
    output_cv: float = 0.5
    hit: float = 0.35
    prompt_drift: float = 0.0
    output_drift: float = 0.0
    hit_drift: float = 0.0


@dataclass(frozen=True)
class MixPath:
    """Mean tokens and hit share on a regular grid of `GRID_S`; arrays of shape (steps,)."""

    prompt: Floats
    output: Floats
    hit: Floats

    def means(self) -> Floats:
        """Return mean prompt, cache-missed and output tokens per step, shape (3, steps)."""
        shape, rest = CACHED_SHARE
        missed = self.prompt * (1.0 - self.hit * shape / (shape + rest))
        return np.stack([self.prompt, missed, self.output])


@dataclass(frozen=True)
class Arrivals:
    """Requests in order of arrival; arrays of shape (n,).

    Times in s since the start of the history; `cached` is the part of `prompt` found in the prefix cache, so
    that `prompt − cached` tokens have to be computed. Token counts are whole numbers ≥ 1.
    """

    time_s: Floats
    prompt: Floats
    cached: Floats
    output: Floats

    @property
    def missed(self) -> Floats:
        """Prompt tokens that have to be computed."""
        return self.prompt - self.cached

    def __len__(self) -> int:
        return self.time_s.size


def grid(hours: float) -> Floats:
    """Return the starts of the steps of `GRID_S` that cover the hours, in s."""
    return np.arange(0.0, hours * 3600.0, GRID_S)


def day_cycle(t: Floats, night: float) -> Floats:
    """Return a day's shape between `night` and 1: trough at 4.5 h, peaks at 11 h and 16 h, a dip between."""
    outline = PchipInterpolator(*DAY_OUTLINE)
    return night + (1.0 - night) * np.asarray(outline(t / 3600.0 % 24.0))


def wander(t: Floats, sd: float, correlation_s: float, rng: np.random.Generator) -> Floats:
    """Return an Ornstein-Uhlenbeck path of standard deviation `sd`, shape of `t` (regular grid).

    x[k+1] = φ·x[k] + sd·√(1 − φ²)·ε, φ = exp(−Δ ÷ correlation time): the exact discretisation.
    """
    if sd == 0.0 or t.size < 2:
        return np.zeros(t.size)
    phi = math.exp(-float(t[1] - t[0]) / correlation_s)
    noise = rng.standard_normal(t.size) * sd * math.sqrt(1.0 - phi * phi)
    noise[0] = rng.standard_normal() * sd
    return np.asarray(lfilter([1.0], [1.0, -phi], noise))


def load_curve(shape: LoadShape, hours: float, rng: np.random.Generator) -> Floats:
    """Return rate ÷ peak on the grid, shape (steps,); its 99 % quantile outside an overload is 1."""
    t = grid(hours)
    clock = t + 3600.0 * shape.first_hour
    curve = day_cycle(clock, shape.night)
    if shape.night < 1.0:
        days = int(clock[-1] // DAY_S) + 1
        each_day = 1.0 + 0.05 * rng.standard_normal(days)
        curve = curve * np.interp(clock, DAY_S * (np.arange(days) + 0.55), each_day)
    weekday = (shape.first_day + (clock // DAY_S).astype(int)) % 7
    curve = curve * np.where(weekday >= 5, shape.weekend, 1.0)
    curve = curve * np.exp(wander(t, shape.wander_sd, shape.wander_s, rng))
    curve = curve * _steps(t, shape.ramps_per_day, rng) * _bursts(t, shape.bursts_per_day, rng)
    curve = curve / np.quantile(curve, 0.99)
    if shape.overload:
        first, length, factor = shape.overload
        inside = np.interp(
            t / 3600.0, [first, first + 0.25, first + length, first + length + 0.25], [0, 1, 1, 0]
        )
        curve = np.maximum(curve, inside * factor * (1.0 + wander(t, 0.04, 900.0, rng)))
    return curve


def _steps(t: Floats, per_day: float, rng: np.random.Generator) -> Floats:
    """Return factors of 2 or 1/2 that set in over 240 s, hold about an hour, and go over 240 s."""
    log_factor = np.zeros(t.size)
    for _ in range(rng.poisson(per_day * t[-1] / DAY_S) if per_day else 0):
        begin, hold = rng.uniform(0.0, t[-1]), rng.uniform(2400.0, 5400.0)
        sign = rng.choice([-1.0, 1.0])
        knots = [begin, begin + 240.0, begin + 240.0 + hold, begin + 480.0 + hold]
        log_factor += sign * math.log(2.0) * np.interp(t, knots, [0.0, 1.0, 1.0, 0.0])
    return np.exp(np.clip(log_factor, -math.log(2.0), math.log(2.0)))


def _bursts(t: Floats, per_day: float, rng: np.random.Generator) -> Floats:
    factor = np.ones(t.size)
    for _ in range(rng.poisson(per_day * t[-1] / DAY_S) if per_day else 0):
        begin, length = rng.uniform(0.0, t[-1]), rng.uniform(180.0, 360.0)
        factor[(t >= begin) & (t < begin + length)] = 1.6
    return factor


def mix_path(mix: TokenMix, hours: float, rng: np.random.Generator) -> MixPath:
    """Return the means over time: the drift of the mix, and a wander of 2 % that every mix has."""
    t = grid(hours)
    turn = 0.5 - 0.5 * np.cos(2.0 * math.pi * t / (hours * 3600.0))
    small = [np.exp(wander(t, 0.02, 7200.0, rng)) for _ in range(2)]
    return MixPath(
        mix.prompt * np.exp(mix.prompt_drift * turn) * small[0],
        mix.output * np.exp(mix.output_drift * turn) * small[1],
        np.clip(mix.hit + mix.hit_drift * turn + wander(t, 0.02, 7200.0, rng), 0.0, 0.95),
    )


def arrivals(rate: Floats, path: MixPath, mix: TokenMix, rng: np.random.Generator) -> Arrivals:
    """Return a Poisson process of the given rate with lengths drawn about the path's means.

    Parameters
    ----------
    rate
        Requests/s on the grid, shape (steps,).
    path
        Means on the same grid.
    mix
        Spread of the lengths.
    rng
        Source of chance.
    """
    counts = rng.poisson(rate * GRID_S)
    step = np.repeat(np.arange(rate.size), counts)
    time_s = np.sort((step + rng.random(step.size)) * GRID_S)
    prompt = _lengths(path.prompt[step], mix.prompt_cv, rng)
    output = np.maximum(2.0, _lengths(path.output[step], mix.output_cv, rng))
    share = rng.beta(*CACHED_SHARE, size=step.size) * (rng.random(step.size) < path.hit[step])
    cached = np.minimum(np.floor(prompt * share), prompt - 1.0)
    return Arrivals(time_s, prompt, cached, output)


def steady_arrivals(
    rate: float,
    prompt: float,
    output: float,
    hit: float,
    mix: TokenMix,
    hours: float,
    rng: np.random.Generator,
) -> Arrivals:
    """Return a Poisson process of one rate [requests/s] and one mix, for pressure tests."""
    t = grid(hours)
    path = MixPath(np.full(t.size, prompt), np.full(t.size, output), np.full(t.size, hit))
    return arrivals(np.full(t.size, rate), path, mix, rng)


def _lengths(mean: Floats, cv: float, rng: np.random.Generator) -> Floats:
    """Return whole log-normal lengths ≥ 1 of the given means: σ² = ln(1 + cv²), μ = ln mean − σ²/2."""
    sigma = math.sqrt(math.log1p(cv * cv))
    drawn = mean * np.exp(sigma * rng.standard_normal(mean.size) - sigma * sigma / 2.0)
    return np.maximum(1.0, np.round(drawn))

"""Answers by intervention: what the same physics does under loads that are held still.

Capacity at an objective is the largest load per instance at which at most the allowed share of windows
violates it, found by bisection over constant loads; elasticity and noise of a signal come from runs at
several levels. Nothing here looks at a recorded history.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hs_analysis.schema.settings import Slo
from simulator.measures import EVERY_SECOND, Looks, offered, signals, tbt_over, ttft_over
from simulator.physics import Service, Trace, simulate
from simulator.workloads import CACHED_SHARE, TokenMix, steady_arrivals

Floats = NDArray[np.float64]

WARM_H = 0.25
"""Start of each constant-load run that is left out [h]: pools start empty."""

TEST_H = 1.25
TEST_SEEDS = 4
"""Hours and runs per level of a capacity test: 300 windows of a minute, so that a share of 5 % is known to
about one point."""

LEVELS = (0.30, 1.08)
"""Range of loads that is searched, as a share of the throughput without an objective [ratio]."""

HALVINGS = 5
"""Bisection steps over that range, which leave 4 %; inside it the probit of the share is taken as linear."""

WORK = {"prefill": "missed", "decode": "output", "mixed": "output"}
"""Tokens that are the work of each role."""


@dataclass(frozen=True)
class Point:
    """A load held still: requests/s and the mean tokens and hit share of a request."""

    rate: float
    prompt: float
    output: float
    hit: float

    def tokens(self, role: str) -> float:
        """Return the mean work a request brings to a role [tokens]."""
        shape, rest = CACHED_SHARE
        return self.output if role != "prefill" else self.prompt * (1.0 - self.hit * shape / (shape + rest))


def press(
    service: Service, role: str, point: Point, spread: TokenMix, hours: float, rng: np.random.Generator
) -> Trace:
    """Run one pool alone at a constant load."""
    requests = steady_arrivals(point.rate, point.prompt, point.output, point.hit, spread, hours, rng)
    return simulate(service, requests, hours, rng, only=None if role == "mixed" else role)


def violating_share(traces: list[Trace], role: str, slo: Slo) -> float:
    """Return the share of windows over the objective; a window without samples counts as one over it.

    Prefill answers for TTFT, decode for TBT, a single pool for both.
    """
    bad = []
    for trace in traces:
        shares = np.zeros(int(trace.hours * 3600 // slo.window_s))
        if slo.ttft_s is not None and role != "decode":
            shares = np.fmax(shares, np.nan_to_num(ttft_over(trace, slo.ttft_s, slo.window_s), nan=1.0))
        if slo.tbt_s is not None and role != "prefill":
            shares = np.fmax(shares, np.nan_to_num(tbt_over(trace, slo.tbt_s, slo.window_s), nan=1.0))
        bad.append((shares > 1.0 - slo.quantile)[round(WARM_H * 3600 / slo.window_s) :])
    return float(np.mean(np.concatenate(bad)))


def throughput_tps(service: Service, role: str, point: Point, spread: TokenMix) -> float:
    """Return what one instance of slowness 1 could do without any objective [tokens/s of the role]."""
    rng = np.random.default_rng(0)
    requests = steady_arrivals(20.0, point.prompt, point.output, point.hit, spread, 0.1, rng)
    if service.shared:
        law = service.shared
        work = law.prompt_work_s(requests.missed) + law.output_work_s(requests.output)
        return float(requests.output.sum() / work.sum())
    if role == "prefill":
        return float(requests.missed.sum() / service.prefill.service_s(requests.missed).sum())
    held = point.prompt + point.output / 2.0
    size = min(service.decode.batch, service.decode.kv_tokens / (point.prompt + point.output))
    return size / service.decode.step_s(size, size * held)


def capacity(
    service: Service, role: str, point: Point, spread: TokenMix, slo: Slo, seed: int
) -> float | None:
    """Return the offered work per instance at which the objective just holds [tokens/s].

    Parameters
    ----------
    service
        Laws and instances of the pools; the pool of `role` is tested at its own size.
    role
        prefill, decode or mixed.
    point
        Mix that is held; its rate does not matter.
    spread
        Spread of the lengths.
    slo
        Limits, quantile, window and allowed share of windows.
    seed
        Every level is run with the same chance.

    Returns
    -------
    None where even the lowest level violates or even the highest does not.
    """
    count = len(service.lives[role])
    mean_speed = float(np.mean([1.0 / life.slowness for life in service.lives[role]]))
    top = throughput_tps(service, role, point, spread) * mean_speed

    def share_at(level: float) -> float:
        rate = level * top * count / point.tokens(role)
        traces = [
            press(
                service,
                role,
                replace(point, rate=rate),
                spread,
                TEST_H + WARM_H,
                np.random.default_rng([seed, k]),
            )
            for k in range(TEST_SEEDS)
        ]
        return violating_share(traces, role, slo)

    level = crossing(share_at, *LEVELS, slo.allowed_window_share)
    return None if level is None else level * top


def crossing(share_at: Callable[[float], float], low: float, high: float, allowed: float) -> float | None:
    """Return the level in [low, high] at which a rising share passes `allowed`, by bisection in logs."""
    below, above = share_at(low), share_at(high)
    if below > allowed or above <= allowed:
        return None
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        share = share_at(middle)
        if share > allowed:
            high, above = middle, share
        else:
            low, below = middle, share
    z_low, z_high, z = (float(ndtri(min(max(share, 1e-3), 1.0 - 1e-3))) for share in (below, above, allowed))
    return low * math.pow(high / low, (z - z_low) / (z_high - z_low))


@dataclass(frozen=True)
class Response:
    """How a signal answers to load that is held at several levels.

    Attributes
    ----------
    load, mean
        Load [tokens/s of the pool] and mean signal per level, shape (levels,).
    noise
        Robust spread of five-minute means about their own load's share, median over levels; in units of the
        signal.
    elasticity
        Slope of ln mean on ln load, NaN where the signal is zero somewhere or there is one level.
    snr
        (largest − smallest mean) ÷ noise.
    top_separation
        P(a five-minute mean at the highest level > one at the middle level).
    """

    load: Floats
    mean: Floats
    noise: float
    elasticity: float
    snr: float
    top_separation: float


def respond(
    service: Service, role: str, levels: list[Point], spread: TokenMix, looks: Looks, seed: int
) -> dict[str, Response]:
    """Return the response of every signal that one pool drives.

    Parameters
    ----------
    service
        Laws and instances.
    role
        The pool that is loaded.
    levels
        Loads from low to high, all of one mix.
    spread, looks, seed
        Spread of lengths, how often somebody looks, source of chance.
    """
    window_s = 300
    loads, means, exact = [], [], []
    skip = round(WARM_H * 3600 / window_s)
    for number, point in enumerate(levels):
        rng = np.random.default_rng([seed, 1000 + number])
        trace = press(service, role, point, spread, 1.5 + WARM_H, rng)
        found = signals(trace, window_s, looks, rng)
        loads.append(offered(trace, window_s)[WORK[role]][skip:])
        means.append({name: values[skip:] for name, values in found.items()})
        # The mean is taken from every second, so that only the noise is that of the looks.
        whole = signals(trace, window_s, EVERY_SECOND, rng)
        exact.append({name: float(np.nanmean(values[skip:])) for name, values in whole.items()})
    names = set.intersection(*(set(found) for found in means))
    return {
        name: _response(loads, [found[name] for found in means], np.array([level[name] for level in exact]))
        for name in sorted(names)
    }


def _response(loads: list[Floats], values: list[Floats], mean: Floats) -> Response:
    load = np.array([float(np.mean(x)) for x in loads])
    positive = bool(np.all(mean > 0))
    slope = float(np.polyfit(np.log(load), np.log(mean), 1)[0]) if positive and load.size > 1 else math.nan
    follow = slope if math.isfinite(slope) else 0.0
    spreads = []
    for x, y in zip(loads, values, strict=True):
        # What moves because the offered load of the window moved is no noise of the signal.
        left = y - np.nanmean(y) * (1.0 + follow * (x / np.mean(x) - 1.0))
        spreads.append(float(np.nanstd(left, ddof=1)))
    noise = float(np.median(spreads))
    reach = float(mean.max() - mean.min())
    middle = values[len(values) // 2]
    wins = float(
        np.mean((values[-1][:, None] > middle[None, :]) + 0.5 * (values[-1][:, None] == middle[None, :]))
    )
    return Response(load, mean, noise, slope, reach / noise if noise > 0 else math.inf, wins)

"""What a trace shows, window by window: offered work, signals of the pools, and shares over a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from simulator.decode import Seconds
from simulator.physics import GAP_SPREAD, Trace
from simulator.readings import collected, kv_usage, misread, sm_activity, utilisation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Looks:
    """How often somebody looks [s]: scrapes, and the collector of GPU metrics."""

    scrape_s: int = 15
    collect_s: int = 30


EVERY_SECOND = Looks(1, 1)
"""Nothing is missed."""


def per_window(time_s: Floats, weight: Floats, window_s: float, windows: int) -> Floats:
    """Return the sum of the weights of the moments in each window, shape (windows,); others are left out."""
    inside = np.isfinite(time_s) & (time_s >= 0) & (time_s < window_s * windows)
    number = (time_s[inside] / window_s).astype(int)
    return np.bincount(number, weights=weight[inside], minlength=windows).astype(float)


def offered(trace: Trace, window_s: float) -> dict[str, Floats]:
    """Return offered work per window, by arrival: requests, prompt, missed and output tokens per second."""
    windows = int(trace.hours * 3600 // window_s)
    requests = trace.requests
    brought = {
        "requests": np.ones(len(requests)),
        "prompt": requests.prompt,
        "missed": requests.missed,
        "output": requests.output,
    }
    return {
        name: per_window(requests.time_s, value, window_s, windows) / window_s
        for name, value in brought.items()
    }


def ttft_over(trace: Trace, limit_s: float, window_s: float) -> Floats:
    """Return the share of first tokens of each window that came later than the limit, NaN without any."""
    windows = int(trace.hours * 3600 // window_s)
    late = (trace.ttft_s > limit_s).astype(float)
    with np.errstate(invalid="ignore"):
        return per_window(trace.first_s, late, window_s, windows) / per_window(
            trace.first_s, np.ones(late.size), window_s, windows
        )


def tbt_over(trace: Trace, limit_s: float, window_s: float) -> Floats:
    """Return the share of token gaps of each window longer than the limit, NaN without any.

    A gap is log-normal about the step time of its second: P(gap > limit) = Φ(ln(step ÷ limit) ÷ spread).
    The one gap a request that holds its hand-over is left out: it is one in hundreds.
    """
    role = "mixed" if "mixed" in trace.seconds else "decode"
    windows = int(trace.hours * 3600 // window_s)
    tokens, late = np.zeros(windows), np.zeros(windows)
    for seconds in trace.seconds[role]:
        at = seconds.first + np.arange(seconds.tokens.size, dtype=float)
        with np.errstate(divide="ignore"):
            share = ndtr(np.log(np.maximum(seconds.gap_s, 1e-9) / limit_s) / GAP_SPREAD)
        tokens += per_window(at, seconds.tokens, window_s, windows)
        late += per_window(at, seconds.tokens * share, window_s, windows)
    with np.errstate(invalid="ignore"):
        return np.where(tokens > 0, late / tokens, np.nan)


def signals(trace: Trace, window_s: int, looks: Looks, rng: np.random.Generator) -> dict[str, Floats]:
    """Return what each signal of the pools reads, one mean per window; every instance lives throughout.

    Keys are ``signal@role``; totals are sums over the pool, utilisations and memory are means over it.
    """
    windows = int(trace.hours * 3600 // window_s)
    found: dict[str, Floats] = {}
    for role, lives in trace.seconds.items():
        found |= {
            f"{name}@{role}": value
            for name, value in _gauges(trace, role, lives, window_s, looks, rng).items()
        }
    requests, first = trace.requests, trace.first_s
    emitter = "mixed" if "mixed" in trace.seconds else "prefill"
    if emitter in trace.seconds:
        count = per_window(first, np.ones(first.size), window_s, windows)
        found[f"prefill_tps@{emitter}"] = per_window(first, requests.prompt, window_s, windows) / window_s
        found[f"prefill_tps_effective@{emitter}"] = (
            per_window(first, requests.missed, window_s, windows) / window_s
        )
        with np.errstate(invalid="ignore"):
            waited = np.where(np.isfinite(first), trace.ttft_s, 0.0)
            found["ttft@service"] = per_window(first, waited, window_s, windows) / count
    for role in ("decode", "mixed"):
        if role in trace.seconds:
            found |= _token_flow(trace, role, window_s, windows)
    return found


def _gauges(
    trace: Trace, role: str, lives: tuple[Seconds, ...], window_s: int, looks: Looks, rng: np.random.Generator
) -> dict[str, Floats]:
    windows = int(trace.hours * 3600 // window_s)
    stacks: dict[str, list[Floats]] = {
        name: [] for name in ("gpu_util", "sm_activity", "running", "queue_length", "kv_usage")
    }
    for seconds in lives:
        phase = int(rng.integers(looks.collect_s, 2 * looks.collect_s))
        looked, util = collected(utilisation(seconds, role), looks.collect_s, phase, 1)
        active = collected(sm_activity(seconds, role, trace.service), looks.collect_s, phase, looks.collect_s)
        stacks["gpu_util"].append(_mean_at(looked, misread(util, rng), window_s, windows))
        stacks["sm_activity"].append(_mean_at(*active, window_s, windows))
        at = np.arange(int(rng.integers(looks.scrape_s)), seconds.running.size, looks.scrape_s)
        for name, values in (
            ("running", seconds.running),
            ("queue_length", seconds.waiting),
            ("kv_usage", kv_usage(seconds, role, trace.service)),
        ):
            stacks[name].append(_mean_at(at, values[at], window_s, windows))
    pooled = {"running": np.sum, "queue_length": np.sum}
    return {name: pooled.get(name, np.mean)(np.stack(rows), axis=0) for name, rows in stacks.items()}


def _mean_at(at: NDArray[np.int64], values: Floats, window_s: int, windows: int) -> Floats:
    moments = at.astype(float)
    count = per_window(moments, np.ones(at.size), window_s, windows)
    with np.errstate(invalid="ignore"):
        return per_window(moments, values, window_s, windows) / count


def _token_flow(trace: Trace, role: str, window_s: int, windows: int) -> dict[str, Floats]:
    tokens, waited = np.zeros(windows), np.zeros(windows)
    longer = math.exp(GAP_SPREAD**2 / 2.0)
    for seconds in trace.seconds[role]:
        at = seconds.first + np.arange(seconds.tokens.size, dtype=float)
        tokens += per_window(at, seconds.tokens, window_s, windows)
        waited += per_window(at, seconds.tokens * seconds.gap_s * longer, window_s, windows)
    hand_over = trace.hand_over_s()
    started = np.isfinite(hand_over)
    moment = np.where(started, trace.first_s + np.where(started, hand_over, 0.0), np.inf)
    waited += per_window(moment, np.where(started, hand_over, 0.0), window_s, windows)
    with np.errstate(invalid="ignore"):
        return {f"decode_tps@{role}": tokens / window_s, f"tbt@{role}": waited / tokens}

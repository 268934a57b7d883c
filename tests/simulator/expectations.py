"""What should be said of each signal, from its response to loads that were held still.

The labels follow physics, not the tool's own statistics: a signal is in proportion when its mean under
intervention goes with load to the power 0.75 to 1.35, five-minute means stand well clear of their noise, and
the relation does not move with the mix over the history. Answers near one of these limits are *borderline*:
two honest histories of the same service may differ there, and they are not scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.pressure import Response

Floats = NDArray[np.float64]

LATENCIES = ("ttft", "tbt")
QUEUES = ("queue_length",)
"""Signals that bend with load or are empty without it: at best a guard, whatever their slope."""

ELASTIC = ((0.10, 0.03), (0.70, 0.06), (1.40, 0.12))
"""Limits between flat, weak, in proportion and steep, and how near to each an answer is borderline; the
outer rims of the middle range are the 0.75 and 1.35 above, and a little inside of them."""

CLEAR_SNR, SIZING_SNR = 3.0, 5.0
SNR_RIM = 0.3
"""Least reach ÷ noise of a usable signal and of one that may size pools, and the relative rim about both."""

STEADY, STEADY_LATENCY = 0.20, 0.60
STEADY_RIM = 0.3
"""Largest sd of ln signal over 3-h blocks at one load, relative to max(0.3, elasticity), and its rim."""

SEPARATES = (0.90, 0.98)
"""P(top load reads higher than middle load) below which a latency or queue is no guard, above which it is."""

RANGE, RANGE_RIM = 1.6, 0.07
"""Least q95 ÷ q05 of five-minute loads that can tell anything, and its relative rim."""

RANGE_HELD = 1.25
"""The same per instance where an autoscaler held it still: between the two a signal may be told, or not."""


@dataclass(frozen=True)
class Expected:
    """The verdict physics gives to one signal.

    Attributes
    ----------
    verdict
        proportional, guard, unusable, or unknown where the history cannot tell.
    borderline
        Whether it lies at a limit and is not scored.
    elasticity, snr, drift
        What it rests on; NaN where it does not apply.
    """

    verdict: str
    borderline: bool
    elasticity: float = math.nan
    snr: float = math.nan
    drift: float = 0.0


def expected(
    signal: str, response: Response, drift: float, load_range: float, *, held: bool = False
) -> Expected:
    """Return what should be said of a signal of a history long enough to judge.

    Parameters
    ----------
    signal
        Its id, without the role.
    response
        What it does under intervention, over the loads of the history.
    drift
        sd of ln signal over three-hour blocks of the history's mixes, at one load.
    load_range
        q95 ÷ q05 of the offered load.
    held
        Whether an autoscaler held the load per instance still: then a range from 1.25 may do, and answers on
        one under 1.6 are not scored.
    """
    slope = response.elasticity
    relative = drift / max(0.3, abs(slope) if math.isfinite(slope) else 0.0)
    found = replace(_judged(signal, response, relative), elasticity=slope, snr=response.snr, drift=relative)
    near_range = abs(math.log(load_range / RANGE)) < RANGE_RIM
    if held and RANGE_HELD < load_range < RANGE:
        return replace(found, borderline=True)
    if load_range < RANGE:
        return replace(
            found, verdict="unknown", borderline=near_range or (held and load_range > 0.9 * RANGE_HELD)
        )
    return replace(found, borderline=found.borderline or near_range)


def _judged(signal: str, response: Response, relative: float) -> Expected:
    slope = response.elasticity
    snr = _with_mix(response, relative)
    lagging = signal in LATENCIES or signal in QUEUES
    if not np.any(response.mean > 0):
        return Expected("unusable", False)
    rims = [_near(snr, CLEAR_SNR)]
    verdict = "guard" if lagging else "proportional"
    steady = STEADY_LATENCY if signal in LATENCIES else STEADY
    if signal not in QUEUES:
        rims.append(abs(math.log(max(relative, 1e-9) / steady)) < STEADY_RIM)
        if relative > steady:
            verdict = "unusable"
    if not math.isfinite(slope):  # empty at some level: what counts is whether the top stands out
        slope = 1.0
    # Another order of the same mixes would tilt the slope by about as much as they move the signal.
    moved = relative * max(0.3, abs(slope))
    rims += [abs(slope - limit) < rim + moved for limit, rim in (ELASTIC[:1] if lagging else ELASTIC)]
    if slope < ELASTIC[0][0] or snr < CLEAR_SNR:
        verdict = "unusable"
    if lagging:
        rims.append(SEPARATES[0] <= response.top_separation <= SEPARATES[1])
        return Expected("unusable" if response.top_separation < SEPARATES[0] else verdict, any(rims))
    rims.append(_near(snr, SIZING_SNR))
    if verdict == "proportional" and not (ELASTIC[1][0] <= slope <= ELASTIC[2][0] and snr >= SIZING_SNR):
        verdict = "guard"
    clear = (
        slope < ELASTIC[0][0] - ELASTIC[0][1] or snr < CLEAR_SNR * (1.0 - SNR_RIM) or relative > steady * 1.35
    )
    return Expected(verdict, any(rims) and not (verdict == "unusable" and clear))


def _with_mix(response: Response, relative: float) -> float:
    """Return reach ÷ noise with what the mix moves as noise: who looks at load alone sees both."""
    slope = response.elasticity if math.isfinite(response.elasticity) else 0.0
    reach = float(response.mean.max() - response.mean.min())
    moved = relative * max(0.3, abs(slope)) * float(response.mean.mean())
    if reach <= 0.0 or moved == 0.0:
        return response.snr
    return 1.0 / math.hypot(1.0 / max(response.snr, 1e-9), moved / reach)


def _near(snr: float, limit: float) -> bool:
    return math.isfinite(snr) and limit * (1.0 - SNR_RIM) < snr < limit * (1.0 + SNR_RIM)

"""What a test has to send: tokens a request brings, what pools carried, and how noisy a window is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.constants import HIGHEST_QUANTILE, SUSTAINED_S
from hs_analysis.schema.results import Derived

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PoolLoad:
    """One role as a test meets it.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    instances
        Usual count.
    gpus
        GPUs of an instance, None when unknown.
    carried
        Load per instance that is known to hold, or the most that was seen [tokens/s].
    tokens
        Work a request brings [tokens], None where requests are not counted.
    noise
        Standard deviation of ln load of a 5-minute mean, None when not known [1].
    """

    role: str
    instances: int
    gpus: float | None
    carried: float
    tokens: float | None
    noise: float | None


def pools_of(frame: ServiceFrame, derived: Derived) -> dict[str, PoolLoad]:
    """Return the pools of a service whose work and size are known, by role."""
    found = {}
    for role in frame.pools:
        counts = frame.values("instances", role)
        work = _work(frame, role)
        per_instance = work / np.where(counts > 0, counts, np.nan)
        if not np.isfinite(per_instance).any():
            continue
        capacity = derived.capacity_of(role)
        known = capacity.per_instance if capacity is not None else None
        carried = known if known is not None else float(np.nanquantile(per_instance, HIGHEST_QUANTILE))
        signal = derived.threshold_of(SERVED[role], role)
        noise = signal.noise_cv if signal is not None else None
        usual = max(1, round(float(np.nanmedian(counts))))
        gpus = frame.gpus_per_instance.get(role)
        found[role] = PoolLoad(role, usual, gpus, carried, _tokens(frame, work), noise)
    return {role: pool for role, pool in found.items() if pool.carried > 0}


def _work(frame: ServiceFrame, role: str) -> Floats:
    if frame.has("offered_tps", role):
        return frame.values("offered_tps", role)
    return frame.values(SERVED[role], role)


def _tokens(frame: ServiceFrame, work: Floats) -> float | None:
    """Return work ÷ requests over windows that know both, None without any."""
    rate = frame.values("request_rate", "service")
    both = np.isfinite(rate) & np.isfinite(work)
    if not both.any() or not rate[both].sum() > 0:
        return None
    tokens = float(work[both].sum() / rate[both].sum())
    return tokens if tokens > 0 else None


def window_noise(pool: PoolLoad, rate: float, window_s: float, usual_rate: float | None) -> float:
    """Return the standard deviation of ln load of one window at a request rate.

    The noise of 5-minute means of this very history, scaled with the requests a window holds:
    noise · √(300 · usual rate ÷ (window · rate)); without it √(2 ÷ requests), as Poisson arrivals of
    exponential lengths have.
    """
    requests = max(rate * window_s, 1.0)
    if pool.noise is not None and usual_rate is not None and usual_rate > 0:
        return pool.noise * math.sqrt(SUSTAINED_S * usual_rate / requests)
    return math.sqrt(2.0 / requests)


def usual_rate(frame: ServiceFrame) -> float | None:
    """Return the mean request rate of a service, None when not counted [requests/s]."""
    rate = frame.values("request_rate", "service")
    return float(np.nanmean(rate)) if np.isfinite(rate).any() and np.nanmean(rate) > 0 else None

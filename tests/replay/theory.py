"""Queues whose answers are known: formulas, and a plain event-by-event simulation."""

from __future__ import annotations

import heapq
import math

import numpy as np


def erlang_c(servers: int, load: float) -> float:
    """Return the chance that a customer of an M/M/c queue waits; ``load`` is the utilisation of a server."""
    offered = servers * load
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - load)
    return last / (sum(terms) + last)


def mmc_wait_tail(servers: int, load: float, service_s: float, wait_s: float) -> float:
    """Return P(wait > t) of an M/M/c queue."""
    return erlang_c(servers, load) * math.exp(-servers * (1 - load) / service_s * wait_s)


def md1_mean_wait(load: float, service_s: float) -> float:
    """Return the mean wait of an M/D/1 queue (Pollaczek and Khinchine)."""
    return load * service_s / (2 * (1 - load))


def waits(arrivals_s: np.ndarray, services_s: np.ndarray, servers: int) -> np.ndarray:
    """Return the wait of every customer of a first-come queue, one by one."""
    free = [0.0] * servers
    found = np.empty(arrivals_s.size)
    for i, (at, service) in enumerate(zip(arrivals_s.tolist(), services_s.tolist(), strict=True)):
        start = max(at, heapq.heappop(free))
        heapq.heappush(free, start + service)
        found[i] = start - at
    return found


def poisson_times(rate: float, horizon_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return arrival times of a Poisson process."""
    gaps = rng.exponential(1 / rate, int(rate * horizon_s * 1.1) + 100)
    times = np.cumsum(gaps)
    return times[times < horizon_s]

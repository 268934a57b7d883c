"""One service from requests to last tokens: front end, pools, and what each second of each instance was like.

A request is accepted by the front end, waits for and passes prefill (or the single pool); its first token
goes out when prefill ends, its KV cache moves to a decode instance, where it waits for room and gets the
rest of its tokens. Time to first token = front end + wait + prefill. The wait for room on the decode side is
inside the gap between the first and the second token: one gap in hundreds, so that no quantile of gaps shows
it.

What is chosen here and stands for no hardware: front end 25 ms (log-normal, sd of ln 0.3), KV transfer 15 ms
+ 2 µs per prompt token, a common wobble of all step times (0.5 %, correlated over two hours) for clocks and
neighbours, and single gaps spread about the step time (sd of ln 0.12).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.decode import DecodeLaw, Seconds, serve_decode
from simulator.lives import Life
from simulator.prefill import (
    PrefillLaw,
    PrefillTrace,
    busy_seconds,
    level_seconds,
    serve_prefill,
)
from simulator.shared import SharedLaw, serve_shared
from simulator.workloads import GRID_S, Arrivals, wander

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FRONT_END_S, FRONT_END_SPREAD = 0.025, 0.3
TRANSFER_S, TRANSFER_TOKEN_S = 0.015, 2.0e-6
WOBBLE_SD, WOBBLE_S = 0.005, 7200.0
GAP_SPREAD = 0.12
"""sd of ln(gap ÷ step time); the median gap is the step time."""


@dataclass(frozen=True)
class Service:
    """The laws and instances of a service: prefill and decode, or one shared pool.

    ``lives`` maps the role (prefill, decode; or mixed) to its instances.
    """

    lives: dict[str, tuple[Life, ...]]
    prefill: PrefillLaw = field(default_factory=PrefillLaw)
    decode: DecodeLaw = field(default_factory=DecodeLaw)
    shared: SharedLaw | None = None
    wobble_sd: float = WOBBLE_SD

    @property
    def roles(self) -> tuple[str, ...]:
        """Its pools: ("prefill", "decode") or ("mixed",)."""
        return ("mixed",) if self.shared else ("prefill", "decode")

    def with_lives(self, **lives: tuple[Life, ...]) -> Service:
        """Return the same service with other instances in some pools."""
        return replace(self, lives={**self.lives, **lives})


@dataclass(frozen=True)
class Stay:
    """The stay of every request in one pool, in the order of the requests; shape (n,), inf = not yet.

    `life` is the number of its instance (−1 = none), `enter_s` when it came to the pool, `start_s` when it
    was taken up, `end_s` when it left.
    """

    life: Integers
    enter_s: Floats
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True)
class Trace:
    """Everything that happened: requests with their moments, and the seconds of every instance.

    Attributes
    ----------
    service, requests
        What was simulated.
    hours
        Length of the history.
    first_s, end_s
        First and last token of each request [s], inf where it lies outside the history.
    stays
        Per role.
    seconds
        Per role, one entry per life.
    """

    service: Service
    requests: Arrivals
    hours: float
    first_s: Floats
    end_s: Floats
    stays: dict[str, Stay]
    seconds: dict[str, tuple[Seconds, ...]]

    @property
    def ttft_s(self) -> Floats:
        """Time to first token [s], inf where it never came."""
        return self.first_s - self.requests.time_s

    def hand_over_s(self) -> Floats:
        """Return what the gap after the first token holds beside a step [s], shape (n,)."""
        if "decode" not in self.stays:
            return np.zeros(len(self.requests))
        with np.errstate(invalid="ignore"):
            return np.asarray(self.stays["decode"].start_s - self.first_s)


def simulate(
    service: Service, requests: Arrivals, hours: float, rng: np.random.Generator, only: str | None = None
) -> Trace:
    """Run a service under a load.

    Parameters
    ----------
    service
        Laws and instances.
    requests
        Sorted by arrival; those after `hours` are not allowed.
    hours
        Length of the history; requests may outlive it.
    rng
        Source of the wobble and of the front end's delays.
    only
        Simulate this pool alone, as if the other were never short of anything: decode then gets every
        request when it reaches the front end, prefill sees none of decode. The roles meet only through the
        arrivals.
    """
    seconds = round(hours * 3600.0)
    slow, delay = chances(service, requests, hours, rng)
    if service.shared:
        return _simulate_shared(service, requests, hours, delay)
    reach = requests.time_s + delay
    stays: dict[str, Stay] = {}
    rows: dict[str, tuple[Seconds, ...]] = {}
    first = end = reach
    if only != "decode":
        stays["prefill"] = _prefilled(service, requests, reach, slow)
        first = end = stays["prefill"].end_s
        rows["prefill"] = prefill_seconds(service, requests, stays["prefill"], seconds)
    if only != "prefill":
        scale = np.repeat(slow, int(GRID_S))[:seconds]
        stays["decode"], rows["decode"] = _decoded(service, requests, first, scale)
        end = stays["decode"].end_s
    return Trace(service, requests, hours, first, end, stays, rows)


def chances(
    service: Service, requests: Arrivals, hours: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the wobble of step times on the grid, and the front end's delay of each request [s]."""
    slow = np.exp(wander(np.arange(0.0, round(hours * 3600.0), GRID_S), service.wobble_sd, WOBBLE_S, rng))
    return slow, FRONT_END_S * np.exp(FRONT_END_SPREAD * rng.standard_normal(len(requests)))


def prefill_work_s(service: Service, requests: Arrivals, reach: Floats, slow: Floats) -> Floats:
    """Return the time each prompt takes an instance of slowness 1 when it reaches the pool [s]."""
    factor = slow[np.minimum((reach / GRID_S).astype(int), slow.size - 1)]
    return np.asarray(service.prefill.service_s(requests.missed) * factor)


def handed_s(first: Floats, prompt: Floats) -> Floats:
    """Return when the caches of prompts reach decode, first tokens being out at `first` [s]."""
    return np.asarray(first + TRANSFER_S + TRANSFER_TOKEN_S * prompt)


def _prefilled(service: Service, requests: Arrivals, reach: Floats, slow: Floats) -> Stay:
    """Pass the requests through prefill in the order they reach it."""
    line = np.argsort(reach, kind="stable")
    work = prefill_work_s(service, requests, reach, slow)
    served: PrefillTrace = serve_prefill(
        reach[line], work[line], service.lives["prefill"], service.prefill.routing
    )
    life, start, end = (np.empty(len(requests), dtype) for dtype in (np.int64, float, float))
    life[line], start[line], end[line] = served.life, served.start_s, served.end_s
    return Stay(life, reach, start, end)


def _decoded(
    service: Service, requests: Arrivals, first: Floats, scale: Floats
) -> tuple[Stay, tuple[Seconds, ...]]:
    """Pass the requests through decode in the order their caches arrive."""
    handed = handed_s(first, requests.prompt)
    line = np.argsort(handed, kind="stable")
    answer = requests.output[line] - 1.0
    served = serve_decode(
        handed[line], requests.prompt[line], answer, service.decode, service.lives["decode"], scale
    )
    life, start, end = (np.empty(len(requests), dtype) for dtype in (np.int64, float, float))
    life[line], start[line], end[line] = served.life, served.start_s, served.end_s
    return Stay(life, handed, start, end), served.seconds


def _simulate_shared(service: Service, requests: Arrivals, hours: float, delay: Floats) -> Trace:
    """Run a single pool; the front end's delay comes on top of what the pool makes of the arrivals."""
    if service.shared is None:
        raise ValueError("the service has no shared pool")
    served = serve_shared(requests, service.shared, service.lives["mixed"], round(hours * 3600.0))
    stay = Stay(served.life, requests.time_s, served.start_s, served.end_s)
    return Trace(
        service, requests, hours, served.first_s + delay, served.end_s + delay, {"mixed": stay},
        {"mixed": served.seconds},
    )  # fmt: skip


def prefill_seconds(service: Service, requests: Arrivals, stay: Stay, seconds: int) -> tuple[Seconds, ...]:
    """Return the seconds of each prefill instance, from its opening until it is closed and empty."""
    rows = []
    for number, life in enumerate(service.lives["prefill"]):
        own = np.flatnonzero(stay.life == number)
        own = own[np.argsort(stay.start_s[own], kind="stable")]
        enter, start, end = (values[own] for values in (stay.enter_s, stay.start_s, stay.end_s))
        first = min(max(0, int(life.open_s)), seconds)
        last = max(life.close_s, end[-1] if end.size else 0.0) + 1.0
        stop = max(first, int(min(last, seconds)))
        zeros = np.zeros(stop - first)
        begin, after = first + 1, stop + 1  # levels at the end of the second
        running = level_seconds(start, end, begin, after)
        waiting = level_seconds(enter, start, begin, after)
        # A prompt holds its cache from the start of its prefill until decode has fetched it.
        fetched = handed_s(end, requests.prompt[own])
        held = level_seconds(start, fetched, begin, after, requests.prompt[own])
        rows.append(
            Seconds(first, running, waiting, zeros, zeros, held, busy_seconds(start, end, first, stop))
        )
    return tuple(rows)

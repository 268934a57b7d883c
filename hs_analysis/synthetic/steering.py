"""The physics in closed loop: somebody looks at the pools once a minute and asks for counts.

Prefill is served up to the next look, then decode second by second up to it, so that what is asked for
changes all that follows and nothing before. An instance asked for takes requests after the start-up time;
one sent away takes none from then on, finishes what it has, and can be taken back while it is watched. The
latest to come is the first to go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hs_analysis.synthetic.decode import DecodePool, Seconds
from hs_analysis.synthetic.lives import Life
from hs_analysis.synthetic.physics import (
    GAP_SPREAD,
    Service,
    Stay,
    Trace,
    chances,
    handed_s,
    prefill_seconds,
    prefill_work_s,
)
from hs_analysis.synthetic.prefill import PrefillPool
from hs_analysis.synthetic.readings import (
    PREFILL_KV_TOKENS,
    SM_FULL,
    kv_usage,
    sm_activity,
    utilisation,
)
from hs_analysis.synthetic.workloads import GRID_S, Arrivals

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOOK_S = 60
"""Time between two looks [s]."""

MOVED_S = 1.0
"""Time within which a cache has moved to decode, at any prompt length there is [s]."""

SLOWNESS_SD = 0.02
"""sd of the slowness of instances that come, as of those of a recorded history."""


@dataclass(frozen=True)
class Sight:
    """What was seen in the last `LOOK_S` seconds.

    Attributes
    ----------
    t_s
        Now [s since the start of the history].
    values
        ``signal@role``: served and offered rates of the pools, means of prefill's GPUs per ready instance,
        sequences in decode's batches, mean latencies [s]; absent without samples.
    asked, ready
        Instances per role that are wanted now, and that took requests when the look ended.
    """

    t_s: float
    values: Mapping[str, float]
    asked: Mapping[str, int]
    ready: Mapping[str, int]


@dataclass(frozen=True)
class Order:
    """Instances wanted of a pool from now on, and how many of those added are taken back from watching."""

    count: int
    restored: int = 0


Steering = Callable[[Sight], Mapping[str, Order]]


@dataclass(frozen=True)
class Stint:
    """How long one instance was paid for: from asking to its end [s since the start of the history]."""

    role: str
    from_s: float
    to_s: float


@dataclass(frozen=True)
class Steered:
    """What happened under a steering: the trace, what was paid, and the wanted counts per look and role."""

    trace: Trace
    stints: tuple[Stint, ...]
    asked: Mapping[str, tuple[int, ...]]

    def instance_hours(self, from_s: float, to_s: float) -> float:
        """Return instance-hours of all pools paid in a stretch."""
        parts = (max(0.0, min(s.to_s, to_s) - max(s.from_s, from_s)) for s in self.stints)
        return sum(parts) / 3600.0


@dataclass
class _Crew:
    """The instances of one pool as a controller sees them, changed in place."""

    pool: PrefillPool | DecodePool
    there: list[int]
    asked_s: dict[int, float]
    left_s: dict[int, float] = field(default_factory=dict)
    watched: list[int] = field(default_factory=list)

    def obey(
        self, order: Order, now: int, startup_s: float, watch_s: float, rng: np.random.Generator
    ) -> None:
        self.watched = [one for one in self.watched if now - self.left_s[one] < watch_s]
        for _ in range(min(order.restored, len(self.watched))):
            self._take_back(self.watched.pop(), now)
        while len(self.there) < order.count:
            slowness = 1.0 + SLOWNESS_SD * float(rng.standard_normal())
            number = self.pool.add(Life(f"steered-{len(self.asked_s)}", now + startup_s, slowness=slowness))
            self.there.append(number)
            self.asked_s[number] = now
        while len(self.there) > order.count:
            self._send_away(self.there.pop(), now)

    def ready(self, now: float) -> int:
        return sum(self.pool.lives[one].open_s < now for one in self.there)

    def _take_back(self, number: int, now: int) -> None:
        del self.left_s[number]
        self.there.append(number)
        if isinstance(self.pool, DecodePool):
            self.pool.reopen(number, now)
        else:
            self.pool.reopen(number)

    def _send_away(self, number: int, now: int) -> None:
        self.left_s[number] = now
        started = self.pool.lives[number].open_s <= now
        if started:
            self.watched.append(number)
        self.pool.close(number, now)


def steer(
    service: Service,
    requests: Arrivals,
    hours: float,
    rng: np.random.Generator,
    steering: Steering,
    *,
    startup_s: float,
    watch_s: float = 0.0,
    gauge_s: int = 1,
) -> Steered:
    """Run a prefill and a decode pool under a load while somebody steers their counts.

    Parameters
    ----------
    service
        Laws, and the instances that are there at the start; none of them closes by itself.
    requests
        Sorted by arrival, none after `hours`.
    hours
        Length, whole minutes.
    rng
        Source of the wobble, the front end's delays, and the slowness of instances that come.
    steering
        Called every `LOOK_S`, first at their end; a role it does not name keeps its count.
    startup_s
        From asking for an instance to its first request [s].
    watch_s
        How long an instance sent away is kept, and paid, at least [s].
    gauge_s
        Gauges are those of one second in so many, as exporters and engines show them between two readings;
        counters, mean latencies and SM activity, which is averaged on the GPU, are those of the whole look.

    Raises
    ------
    ValueError
        For a service of one shared pool.
    """
    if service.shared:
        raise ValueError("steering knows prefill and decode pools, not a shared one")
    slow, delay = chances(service, requests, hours, rng)
    reach = requests.time_s + delay
    run = _Run(service, requests, reach, slow, gauge_s)
    asked: dict[str, list[int]] = {role: [] for role in run.crews}
    for now in range(0, round(hours * 3600.0), LOOK_S):
        orders = steering(run.sight(now)) if now else {}
        for role, crew in run.crews.items():
            if role in orders:
                crew.obey(orders[role], now, startup_s, watch_s, rng)
            asked[role].append(len(crew.there))
        run.pass_look(now)
    return Steered(
        run.trace(hours), tuple(run.stints(hours * 3600.0, watch_s)), {r: tuple(v) for r, v in asked.items()}
    )


class _Run:
    """Both pools and the requests between them, changed in place."""

    def __init__(
        self, service: Service, requests: Arrivals, reach: Floats, slow: Floats, gauge_s: int
    ) -> None:
        self.service, self.requests, self.reach, self.gauge_s = service, requests, reach, gauge_s
        self.scale = np.repeat(slow, int(GRID_S))
        self.prefill = PrefillPool(service.lives["prefill"])
        self.decode = DecodePool(
            service.decode, requests.prompt, requests.output - 1.0, service.lives["decode"]
        )
        self.crews = {
            role: _Crew(pool, list(range(len(pool.lives))), dict.fromkeys(range(len(pool.lives)), 0.0))
            for role, pool in (("prefill", self.prefill), ("decode", self.decode))
        }
        self.life = np.full(len(requests), -1, np.int64)
        self.start, self.first = (np.full(len(requests), np.inf) for _ in range(2))
        self.line = np.argsort(reach, kind="stable")
        self.due = reach[self.line]
        self.missed = requests.missed
        self.work = prefill_work_s(service, requests, reach, slow)
        self.next = self.computed = self.joined = 0  # all before them: in prefill, computed, decoding
        self.moving, self.arrives = np.zeros(0, np.int64), np.zeros(0)  # caches on their way to decode

    def pass_look(self, now: int) -> None:
        """Let the time until the next look pass."""
        until = int(np.searchsorted(self.due, now + LOOK_S, side="left"))
        sent = self.line[self.next : until]
        served = self.prefill.serve(self.due[self.next : until], self.work[sent])
        self.life[sent], self.start[sent], self.first[sent] = served.life, served.start_s, served.end_s
        self.next = until
        arrives = np.r_[self.arrives, handed_s(served.end_s, self.requests.prompt[sent])]
        moving = np.r_[self.moving, sent]
        order = np.lexsort((moving, arrives))
        there = int(np.searchsorted(arrives[order], now + LOOK_S, side="left"))
        self.decode.send(moving[order[:there]], arrives[order[:there]])
        self.moving, self.arrives = moving[order[there:]], arrives[order[there:]]
        self.decode.advance(now, self.scale[now : now + LOOK_S])

    def sight(self, now: int) -> Sight:
        """Return what the last look saw."""
        ready = {role: crew.ready(now) for role, crew in self.crews.items()}
        asked = {role: len(crew.there) for role, crew in self.crews.items()}
        values = self._prefill_seen(now, max(1, ready["prefill"])) | self._decode_seen(now)
        return Sight(float(now), values, asked, ready)

    def _prefill_seen(self, now: int, ready: int) -> dict[str, float]:
        since, requests = now - LOOK_S, self.requests
        came, come = (int(np.searchsorted(requests.time_s, at)) for at in (since, now))
        self.computed = _passed(self.first, since - MOVED_S, self.computed)
        own = slice(self.computed, come)
        first, start, prompt = self.first[own], self.start[own], requests.prompt[own]
        done = (first >= since) & (first < now)
        handed = handed_s(first, prompt)
        at = np.arange(since + self.gauge_s // 2, now, self.gauge_s)
        shown, kept = (_mean_inside(start, end, at, 1) for end in (first, handed))
        running = float(shown.sum())
        busy = float(_mean_inside(start, first, np.array([since]), LOOK_S).sum())
        values = {
            "request_rate@service": (come - came) / LOOK_S,
            "prefill_tps@prefill": float(prompt[done].sum()) / LOOK_S,
            "prefill_tps_effective@prefill": float(self.missed[own][done].sum()) / LOOK_S,
            "running@prefill": running,
            "gpu_util@prefill": running / ready,
            "sm_activity@prefill": SM_FULL * busy / ready,
            "kv_usage@prefill": float(prompt @ kept) / PREFILL_KV_TOKENS / ready,
        }
        if done.any():
            values["ttft@service"] = float((first - requests.time_s[own])[done].mean())
        return values

    def _shown(self, one: Seconds, since: int) -> Flags:
        """Return which seconds of an instance its gauges show."""
        second = one.first + np.arange(one.running.size) - since
        return np.asarray(second % self.gauge_s == self.gauge_s // 2)

    def _decode_seen(self, now: int) -> dict[str, float]:
        since, pool = now - LOOK_S, self.decode
        lives = [seconds for seconds in pool.recent(since) if seconds.running.size]
        tokens = sum(float(one.tokens.sum()) for one in lives)
        waited = sum(float(one.tokens @ one.gap_s) for one in lives) * math.exp(GAP_SPREAD**2 / 2.0)
        self.joined = _passed(pool.starts, since, self.joined)
        starts = pool.starts[self.joined : int(np.searchsorted(self.requests.time_s, now))]
        begun = self.joined + np.flatnonzero((starts >= since) & (starts < now))
        waited += float((pool.starts[begun] - self.first[begun]).sum())
        shown = [(one, self._shown(one, since)) for one in lives]
        gauges = {
            "gpu_util@decode": [utilisation(one, "decode")[at].mean() for one, at in shown if at.any()],
            "sm_activity@decode": [sm_activity(one, "decode", self.service).mean() for one in lives],
            "kv_usage@decode": [
                kv_usage(one, "decode", self.service)[at].mean() for one, at in shown if at.any()
            ],
        }
        values = {name: float(np.mean(found)) for name, found in gauges.items() if found}
        looks = LOOK_S // self.gauge_s
        values["decode_tps@decode"] = tokens / LOOK_S
        values["running@decode"] = sum(float(one.running[at].sum()) for one, at in shown) / looks
        values["queue_length@decode"] = sum(float(one.waiting[at].sum()) for one, at in shown) / looks
        if tokens > 0:
            values["tbt@service"] = waited / tokens
        return values

    def trace(self, hours: float) -> Trace:
        """Return everything that happened, as a fixed schedule of the same lives would have left it."""
        served = self.decode.trace()
        service = self.service.with_lives(prefill=tuple(self.prefill.lives), decode=tuple(self.decode.lives))
        handed = handed_s(self.first, self.requests.prompt)
        stays = {
            "prefill": Stay(self.life, self.reach, self.start, self.first),
            "decode": Stay(served.life, handed, served.start_s, served.end_s),
        }
        rows = {
            "prefill": prefill_seconds(service, self.requests, stays["prefill"], round(hours * 3600.0)),
            "decode": served.seconds,
        }
        return Trace(service, self.requests, hours, self.first, served.end_s, stays, rows)

    def stints(self, end_s: float, watch_s: float) -> list[Stint]:
        """Return what was paid: an instance that left is kept while it is watched and until it is empty."""
        found = []
        for role, crew in self.crews.items():
            life = self.life if role == "prefill" else self.decode.chosen
            leaves = self.first if role == "prefill" else self.decode.ends
            for number, asked_s in crew.asked_s.items():
                to = end_s
                if number in crew.left_s:
                    to = crew.left_s[number]
                    if crew.pool.lives[number].open_s <= to:
                        to = max(to + watch_s, float(leaves[life == number].max(initial=0.0)))
                found.append(Stint(role, asked_s, min(to, end_s)))
        return found


def _passed(moments: Floats, since: float, known: int) -> int:
    """Return how many of the first requests had all passed a moment, `known` of them known to have."""
    while known < moments.size and moments[known] < since:
        known += 1
    return known


def _mean_inside(start: Floats, end: Floats, at: NDArray[np.int64], length_s: int) -> Floats:
    """Return how much of some stretches, each of a length, each request spent between two moments [ratio]."""
    total = np.zeros(start.size)
    for begin in at:
        total += np.clip(np.minimum(end, begin + length_s) - np.maximum(start, begin), 0.0, None)
    return total / (at.size * length_s)

"""The physics in closed loop: somebody looks at the pools once a minute and asks for counts.

Prefill is served up to the next look, then decode second by second up to it, so that what is asked for
changes all that follows and nothing before. An instance asked for takes requests after the start-up time;
one sent away takes none from then on, finishes what it has, and can be taken back while it is watched. The
latest to come is the first to go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.decode import DecodePool
from simulator.lives import Life
from simulator.measures import EVERY_SECOND, Looks
from simulator.physics import (
    Service,
    Stay,
    Trace,
    chances,
    handed_s,
    prefill_seconds,
    prefill_work_s,
)
from simulator.prefill import PrefillPool
from simulator.sights import LOOK_S, Scrapes, Sight, Stays, decode_seen, prefill_seen
from simulator.workloads import GRID_S, Arrivals

Floats = NDArray[np.float64]

SLOWNESS_SD = 0.02
"""sd of the slowness of instances that come, as of those of a recorded history."""


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
    looks: Looks = EVERY_SECOND,
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
    looks
        How often targets are scraped and GPUs are read (`sights`); without it everything up to the look is
        shown.

    Raises
    ------
    ValueError
        For a service of one shared pool.
    """
    if service.shared:
        raise ValueError("steering knows prefill and decode pools, not a shared one")
    slow, delay = chances(service, requests, hours, rng)
    reach = requests.time_s + delay
    run = _Run(service, requests, reach, slow, Scrapes(looks, rng.spawn(1)[0]))
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
        self, service: Service, requests: Arrivals, reach: Floats, slow: Floats, scrapes: Scrapes
    ) -> None:
        self.service, self.requests, self.reach, self.scrapes = service, requests, reach, scrapes
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
        self.next = 0  # all before it went to prefill
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
        stays = Stays(self.requests, self.missed, self.life, self.start, self.first, self.decode)
        there = len(self.prefill.lives)
        values = prefill_seen(self.scrapes, stays, now, there, max(1, ready["prefill"]))
        values |= decode_seen(self.scrapes, stays, self.service, now)
        return Sight(float(now), values, asked, ready)

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

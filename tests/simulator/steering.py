"""The physics in closed loop: somebody looks at the pools every so often and asks for counts.

Prefill is served up to the next look, then decode second by second up to it, so that what is asked for
changes all that follows and nothing before. An instance asked for takes requests after the start-up time;
one sent away takes none from then on, finishes what it has, and can be taken back while it is watched. The
latest to come is the first to go. An instance that dies is replaced by a new one at once, as a deployment
does: what it was decoding is lost, what it had not yet prefilled goes back to the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.decode import DecodePool
from simulator.faults import Spell
from simulator.lives import Life
from simulator.physics import (
    GAP_SPREAD,
    Service,
    Stay,
    Trace,
    chances,
    handed_s,
    prefill_seconds,
    prefill_work_s,
)
from simulator.prefill import PrefillPool
from simulator.prometheus import Passed, Prometheus
from simulator.workloads import GRID_S, Arrivals

Floats = NDArray[np.float64]

LOOK_S = 60
"""Time between two looks where nothing else is said [s]."""

SLOWNESS_SD = 0.02
"""sd of the slowness of instances that come, as of those of a recorded history."""


@dataclass(frozen=True)
class Order:
    """Instances wanted of a pool from now on, and how many of those added are taken back from watching."""

    count: int
    restored: int = 0


@dataclass(frozen=True)
class Sight:
    """What is seen at a look: now [s since the start of the history], and the counts of each role.

    ``asked`` are the instances that are wanted, ``ready`` those that took requests when the look ended.
    """

    t_s: float
    asked: Mapping[str, int]
    ready: Mapping[str, int]


Steering = Callable[[Sight], Mapping[str, Order]]


@dataclass(frozen=True)
class Stint:
    """How long one instance was paid for: from asking to its end [s since the start of the history]."""

    role: str
    from_s: float
    to_s: float


@dataclass(frozen=True)
class Steered:
    """What happened under a steering: the trace, what was paid, and the wanted counts per look and role.

    ``lost`` are the requests that died with a decode instance.
    """

    trace: Trace
    stints: tuple[Stint, ...]
    asked: Mapping[str, tuple[int, ...]]
    lost: NDArray[np.int64]

    def instance_hours(self, from_s: float, to_s: float) -> float:
        """Return instance-hours of all pools paid in a stretch."""
        parts = (max(0.0, min(s.to_s, to_s) - max(s.from_s, from_s)) for s in self.stints)
        return sum(parts) / 3600.0


@dataclass(frozen=True)
class _Market:
    """What instances asked for now are like: paid from, ready, and the source of their slowness."""

    paid_from_s: float
    ready_s: float
    rng: np.random.Generator


@dataclass
class _Crew:
    """The instances of one pool as a controller sees them, changed in place."""

    pool: PrefillPool | DecodePool
    there: list[int]
    asked_s: dict[int, float]
    left_s: dict[int, float] = field(default_factory=dict)
    watched: list[int] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)

    def obey(self, order: Order, now: int, market: _Market, watch_s: float) -> None:
        self.watched = [one for one in self.watched if now - self.left_s[one] < watch_s]
        for _ in range(min(order.restored, len(self.watched))):
            self._take_back(self.watched.pop(), now)
        while len(self.there) < order.count:
            slowness = 1.0 + SLOWNESS_SD * float(market.rng.standard_normal())
            life = Life(f"steered-{len(self.asked_s)}", market.ready_s, slowness=slowness)
            number = self.pool.add(life)
            self.there.append(number)
            self.asked_s[number] = market.paid_from_s
        while len(self.there) > order.count:
            self._send_away(self.there.pop(), now)

    def ready(self, now: float) -> int:
        return sum(self.pool.lives[one].open_s < now for one in self.there)

    def struck(self, share: float, now: int, rng: np.random.Generator) -> list[int]:
        """Return which of the ready instances end, and strike them off."""
        ready = [one for one in self.there if self.pool.lives[one].open_s < now]
        count = min(len(ready), max(1, math.floor(share * len(ready))))
        chosen = sorted(rng.choice(ready, count, replace=False).tolist()) if ready else []
        for number in chosen:
            self.there.remove(number)
            self.left_s[number] = now
            self.dead.add(number)
        return chosen

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
    look_s: int = LOOK_S,
    prometheus: Prometheus | None = None,
    spells: Sequence[Spell] = (),
) -> Steered:
    """Run a prefill and a decode pool under a load while somebody steers their counts.

    Parameters
    ----------
    service
        Laws, and the instances that are there at the start; none of them closes by itself.
    requests
        Sorted by arrival, none after `hours`; those that `spells` bring are among them (`faults.crowded`).
    hours
        Length, whole looks.
    rng
        Source of the wobble, the front end's delays, the slowness of instances that come and who is lost.
    steering
        Called every `look_s`, first at their end; a role it does not name keeps its count.
    startup_s
        From asking for an instance to its first request [s].
    watch_s
        How long an instance sent away is kept, and paid, at least [s].
    look_s
        Time between two looks [s].
    prometheus
        What scrapes the pools, for the steering to query.
    spells
        What goes wrong when.

    Raises
    ------
    ValueError
        For a service of one shared pool.
    """
    if service.shared:
        raise ValueError("steering knows prefill and decode pools, not a shared one")
    slow, delay = chances(service, requests, hours, rng)
    reach = requests.time_s + delay
    run = _Run(service, requests, reach, slow, prometheus)
    asked: dict[str, list[int]] = {role: [] for role in run.crews}
    for now in range(0, round(hours * 3600.0), look_s):
        market = _market(spells, now, startup_s, rng)
        for spell in spells:
            if spell.from_s == now:
                run.strike(spell, now, market, rng)
        orders = steering(run.sight(now)) if now else {}
        for role, crew in run.crews.items():
            if role in orders:
                crew.obey(orders[role], now, market, watch_s)
            asked[role].append(len(crew.there))
        run.pass_look(now, look_s, spells)
    stints = tuple(run.stints(hours * 3600.0, watch_s))
    return Steered(run.trace(hours), stints, {r: tuple(v) for r, v in asked.items()}, run.decode.lost)


def _market(spells: Sequence[Spell], now: int, startup_s: float, rng: np.random.Generator) -> _Market:
    paid = ready = float(now)
    for spell in spells:
        if now in spell and not spell.fault.stock:
            paid = max(paid, spell.to_s)
        if now in spell and not (spell.fault.stock and spell.fault.starts):
            ready = max(ready, spell.to_s)
    return _Market(paid, ready + startup_s, rng)


class _Run:
    """Both pools and the requests between them, changed in place."""

    def __init__(
        self,
        service: Service,
        requests: Arrivals,
        reach: Floats,
        slow: Floats,
        prometheus: Prometheus | None,
    ) -> None:
        self.service, self.requests, self.reach = service, requests, reach
        self.prometheus = prometheus
        self.scale = np.repeat(slow, int(GRID_S))
        self.prefill = PrefillPool(service.lives["prefill"], service.prefill.routing)
        self.decode = DecodePool(
            service.decode, requests.prompt, requests.output - 1.0, service.lives["decode"]
        )
        self.crews = {
            role: _Crew(pool, list(range(len(pool.lives))), dict.fromkeys(range(len(pool.lives)), 0.0))
            for role, pool in (("prefill", self.prefill), ("decode", self.decode))
        }
        self.life = np.full(len(requests), -1, np.int64)
        self.start, self.first, self.handed = (np.full(len(requests), np.inf) for _ in range(3))
        self.line = np.argsort(reach, kind="stable")
        self.due = reach[self.line]
        self.missed = requests.missed
        self.work = prefill_work_s(service, requests, reach, slow)
        self.next = 0  # all before it went to prefill
        self.moving, self.arrives = np.zeros(0, np.int64), np.zeros(0)  # caches on their way to decode
        self.inside = np.zeros(0, np.int64)  # what prefill instances have, as far as it is scraped
        self.joining = np.zeros(0, np.int64)  # what was sent to decode and has joined no batch
        self.leaving = np.zeros(0, np.int64)  # what has joined a batch and has not ended

    def strike(self, spell: Spell, now: int, market: _Market, rng: np.random.Generator) -> None:
        """Let happen what happens at the start of a fault."""
        fault = spell.fault
        if fault.removed:
            crew = self.crews["prefill"]
            crew.obey(Order(max(1, math.floor(len(crew.there) * (1.0 - fault.removed)))), now, market, 0.0)
        if not fault.lost:
            return
        for crew in self.crews.values():
            wanted = len(crew.there)
            gone = crew.struck(fault.lost, now, rng)
            crew.obey(Order(wanted), now, market, 0.0)
            for number in gone:
                crew.pool.kill(number, now)
            if crew.pool is self.prefill:
                self._line_up_again(gone, now)

    def _line_up_again(self, gone: Sequence[int], now: int) -> None:
        """Send what dead instances had not prefilled to the others."""
        back = self.inside_of(gone, now)
        kept = ~np.isin(self.moving, back)
        self.moving, self.arrives = self.moving[kept], self.arrives[kept]
        self._prefill(back, np.full(back.size, float(now)))

    def inside_of(self, numbers: Sequence[int], now: int) -> NDArray[np.int64]:
        """Return the requests that prefill instances have and did not finish before now, in their order."""
        mine = np.flatnonzero(np.isin(self.life, numbers) & (self.first > now))
        return np.asarray(mine[np.argsort(self.start[mine], kind="stable")])

    def pass_look(self, now: int, look_s: int, spells: Sequence[Spell]) -> None:
        """Let the time until the next look pass."""
        then = now + look_s
        until = int(np.searchsorted(self.due, then, side="left"))
        sent = self.line[self.next : until]
        self._prefill(sent, self.due[self.next : until])
        self.next = until
        order = np.lexsort((self.moving, self.arrives))
        there = int(np.searchsorted(self.arrives[order], then, side="left"))
        sent_on = self.moving[order[:there]]
        self.decode.send(sent_on, self.arrives[order[:there]])
        self.joining = np.concatenate([self.joining, sent_on])
        self.moving, self.arrives = self.moving[order[there:]], self.arrives[order[there:]]
        if self.prometheus is None:
            self.decode.advance(now, self.scale[now:then])
            return
        self.inside = np.concatenate([self.inside, sent])
        self._scrape(self.prometheus, now, then, spells)

    def _prefill(self, sent: NDArray[np.int64], reach: Floats) -> None:
        """Give requests to prefill, and their caches to the way."""
        served = self.prefill.serve(reach, self.work[sent])
        self.life[sent], self.start[sent], self.first[sent] = served.life, served.start_s, served.end_s
        self.handed[sent] = handed_s(served.end_s, self.requests.prompt[sent])
        self.moving = np.concatenate([self.moving, sent])
        self.arrives = np.concatenate([self.arrives, self.handed[sent]])

    def _scrape(self, kept: Prometheus, now: int, then: int, spells: Sequence[Spell]) -> None:
        law = self.service.decode
        block = self.decode.block(now, self.scale[now:then])
        requests = self.requests
        columns = (
            self.life, self.reach, self.start, self.first, self.handed, requests.prompt, self.missed,
        )  # fmt: skip
        kept.scrape_front(self._passed(block, now, then), now, then)
        self.inside = kept.scrape_prefill(self.prefill.servers, self.inside, columns, now, then)
        kept.scrape_decode(block, (*law.step, law.kv_tokens), now)
        for spell in spells:
            every = spell.fault.resets_s
            if now in spell and every and (now - spell.from_s) % every < kept.looks.scrape_s:
                kept.restart_counters(now, then)
            if now in spell and not spell.fault.scraped:
                kept.silence(now, then + 1)

    def _passed(self, block: Floats, now: int, then: int) -> Passed:
        """Return what passed the front end: what was sent to decode joins a batch there."""
        time_s = self.requests.time_s
        came = slice(*np.searchsorted(time_s, (now, then), side="right").tolist())
        first = self.inside[(self.first[self.inside] > now) & (self.first[self.inside] <= then)]
        starts = self.decode.starts[self.joining]
        joined = self.joining[starts <= then]
        self.joining = self.joining[starts > then]
        self.leaving = np.concatenate([self.leaving, joined])
        ends = self.decode.ends[self.leaving]
        ended = self.leaving[ends <= then]
        self.leaving = self.leaving[ends > then]
        tokens, gaps = np.nan_to_num(block[:, :, 2]), np.nan_to_num(block[:, :, 3])
        return Passed(
            time_s[came], self.first[first], self.first[first] - time_s[first], self.decode.starts[joined],
            self.decode.starts[joined] - self.first[joined], tokens.sum(axis=0),
            (tokens * gaps).sum(axis=0) * math.exp(GAP_SPREAD**2 / 2.0), self.requests.prompt[first],
            self.decode.ends[ended], self.requests.cached[ended],
        )  # fmt: skip

    def sight(self, now: int) -> Sight:
        """Return what is seen now."""
        ready = {role: crew.ready(now) for role, crew in self.crews.items()}
        asked = {role: len(crew.there) for role, crew in self.crews.items()}
        return Sight(float(now), asked, ready)

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
                    if crew.pool.lives[number].open_s <= to and number not in crew.dead:
                        to = max(to + watch_s, float(leaves[life == number].max(initial=0.0)))
                found.append(Stint(role, asked_s, min(to, end_s)))
        return found

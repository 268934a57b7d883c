"""What somebody who looks at the pools at work is shown: counters and gauges as of the last scrapes.

Each target is scraped at an offset of its own, so that a look shows what its counters gained between the last
scrape before the look before and the last one before this look, as a query of Prometheus does; gauges are the
mean of the samples that it got in between. A GPU is read by its collector at a phase of its own and shows the
last reading at each scrape: the utilisation of one second, the SM activity of the time since the reading
before. With an interval of one second everything up to the look itself is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.decode import DecodePool, Seconds
from simulator.measures import Looks
from simulator.physics import GAP_SPREAD, Service, handed_s
from simulator.readings import (
    PREFILL_KV_TOKENS,
    SM_FULL,
    kv_usage,
    sm_activity,
    utilisation,
)
from simulator.workloads import Arrivals

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LOOK_S = 60
"""Time between two looks [s]."""

MOVED_S = 1.0
"""Time within which a cache has moved to decode, at any prompt length there is [s]."""


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
class Stays:
    """The requests of both pools as far as they have got, and the decode pool.

    Shape (n,) each: prompt tokens that no cache holds, prefill's instance (−1: none yet), when its
    computation began and gave the first token [s], inf where not yet.
    """

    requests: Arrivals
    missed: Floats
    life: Integers
    start_s: Floats
    first_s: Floats
    decode: DecodePool


@dataclass(frozen=True)
class _Ages:
    """How old the samples of each instance of a pool are at a point of the grid [s], shape (instances,).

    Whole seconds since its engine's and its GPU exporter's last scrape, and the phase at which its GPUs are
    read.
    """

    engine_s: Integers
    gpu_s: Integers
    phase_s: Integers


@dataclass
class Scrapes:
    """Who was scraped when, and how far all before have been seen; changed in place.

    Attributes
    ----------
    looks
        Intervals of scrapes, of which a look holds a whole number, and of the collector of GPU metrics.
    rng
        Source of the offsets.
    """

    looks: Looks
    rng: np.random.Generator
    front_s: int = field(init=False)
    ages: dict[str, Integers] = field(default_factory=dict)
    computed: int = 0
    joined: int = 0

    def __post_init__(self) -> None:
        """Draw the front end's offset."""
        if LOOK_S % self.looks.scrape_s:
            raise ValueError(f"a look of {LOOK_S} s is no whole number of scrapes of {self.looks.scrape_s} s")
        self.front_s = int(self.rng.integers(self.looks.scrape_s))

    @property
    def oldest_s(self) -> float:
        """How old the oldest thing can be that a look still shows [s]."""
        return LOOK_S + self.looks.scrape_s + 2.0 * self.looks.collect_s + MOVED_S

    def of(self, role: str, instances: int) -> _Ages:
        """Return the ages of the instances there have been, drawing those of new ones."""
        known = self.ages.get(role, np.zeros((0, 3), np.int64))
        highs = (self.looks.scrape_s, self.looks.scrape_s, self.looks.collect_s)
        drawn = self.rng.integers(highs, size=(max(0, instances - len(known)), 3))
        self.ages[role] = np.concatenate([known, drawn])
        return _Ages(*self.ages[role].T)

    def scraped_s(self, since: int, age_s: Integers) -> list[Integers]:
        """Return when the samples of a look were scraped, one after another; each of the ages' shape."""
        grid = range(since + self.looks.scrape_s, since + LOOK_S + 1, self.looks.scrape_s)
        return [at - age_s for at in grid]

    def read_s(self, since: int, ages: _Ages) -> list[Integers]:
        """Return when the GPUs were read that the samples of a look show, as `scraped_s`."""
        every, phase = self.looks.collect_s, ages.phase_s
        return [at - (at - phase) % every for at in self.scraped_s(since, ages.gpu_s)]


def prefill_seen(scrapes: Scrapes, stays: Stays, now: int, instances: int, ready: int) -> dict[str, float]:
    """Return what the look that ends now shows of the service's arrivals and of prefill.

    Parameters
    ----------
    scrapes, stays
        Who is scraped when, and what has happened.
    now
        End of the look [s since the start of the history].
    instances, ready
        Prefill instances there have ever been, and those of them that take requests, at least 1.
    """
    since, requests = now - LOOK_S, stays.requests
    scrapes.computed = _passed(stays.first_s, now - scrapes.oldest_s, scrapes.computed)
    own = slice(scrapes.computed, int(np.searchsorted(requests.time_s, now)))
    ages = scrapes.of("prefill", instances)
    life, first, start = stays.life[own], stays.first_s[own], stays.start_s[own]
    prompt = requests.prompt[own]
    handed = handed_s(first, prompt)
    age = ages.engine_s[life]
    done = (first >= since - age) & (first < now - age)
    engine = scrapes.scraped_s(since, ages.engine_s)
    running, held = (
        np.mean([_inside(start, end, at[life] - 1, 1) for at in engine], axis=0) for end in (first, handed)
    )
    read, every = scrapes.read_s(since, ages), scrapes.looks.collect_s
    busy = np.mean([_inside(start, first, at[life] - 1, 1) for at in read], axis=0)
    active = np.mean([_inside(start, first, at[life] - every, every) for at in read], axis=0)
    front = now - scrapes.front_s
    came, come = np.searchsorted(requests.time_s, (front - LOOK_S, front))
    values = {
        "request_rate@service": float(come - came) / LOOK_S,
        "prefill_tps@prefill": float(prompt[done].sum()) / LOOK_S,
        "prefill_tps_effective@prefill": float(stays.missed[own][done].sum()) / LOOK_S,
        "running@prefill": float(running.sum()),
        "gpu_util@prefill": float(busy.sum()) / ready,
        "sm_activity@prefill": SM_FULL * float(active.sum()) / ready,
        "kv_usage@prefill": float(prompt @ held) / PREFILL_KV_TOKENS / ready,
    }
    answered = (first >= front - LOOK_S) & (first < front)
    if answered.any():
        values["ttft@service"] = float((first - requests.time_s[own])[answered].mean())
    return values


def decode_seen(scrapes: Scrapes, stays: Stays, service: Service, now: int) -> dict[str, float]:
    """Return what the look that ends now shows of decode, as `prefill_seen`."""
    since, pool = now - LOOK_S, stays.decode
    ages = scrapes.of("decode", len(pool.lives))
    recent = pool.recent(int(max(0.0, now - scrapes.oldest_s)))
    lives = {number: one for number, one in recent.items() if one.running.size}
    engine, read = scrapes.scraped_s(since, ages.engine_s), scrapes.read_s(since, ages)
    gpu, samples = np.array(read).T.tolist(), np.array(engine).T.tolist()
    every = scrapes.looks.collect_s
    shown: dict[str, list[Floats]] = {
        "gpu_util": [_spans(utilisation(one, "decode"), one, gpu[n], 1) for n, one in lives.items()],
        "sm_activity": [
            _spans(sm_activity(one, "decode", service), one, gpu[n], every) for n, one in lives.items()
        ],
        "kv_usage": [
            _spans(kv_usage(one, "decode", service), one, samples[n], 1) for n, one in lives.items()
        ],
    }
    means = {name: [found.mean() for found in rows if found.size] for name, rows in shown.items()}
    values = {f"{name}@decode": float(np.mean(found)) for name, found in means.items() if found}
    points = LOOK_S // scrapes.looks.scrape_s
    for name, level in (("running", "running"), ("queue_length", "waiting")):
        sums = (_spans(getattr(one, level), one, samples[n], 1).sum() for n, one in lives.items())
        values[f"{name}@decode"] = float(sum(sums)) / points
    gained = sum(float(_part(one.tokens, one, now - ages.engine_s[n]).sum()) for n, one in lives.items())
    values["decode_tps@decode"] = gained / LOOK_S
    return values | _gaps_seen(scrapes, stays, list(lives.values()), now)


def _gaps_seen(scrapes: Scrapes, stays: Stays, lives: list[Seconds], now: int) -> dict[str, float]:
    """Return the mean gap between tokens that the front end saw, nothing where it saw none."""
    front = now - scrapes.front_s
    tokens = sum(float(_part(one.tokens, one, front).sum()) for one in lives)
    if tokens <= 0:
        return {}
    waited = sum(float(_part(one.tokens * one.gap_s, one, front).sum()) for one in lives)
    starts = stays.decode.starts
    scrapes.joined = _passed(starts, now - scrapes.oldest_s, scrapes.joined)
    starts = starts[scrapes.joined : int(np.searchsorted(stays.requests.time_s, now))]
    begun = scrapes.joined + np.flatnonzero((starts >= front - LOOK_S) & (starts < front))
    handing = float((stays.decode.starts[begun] - stays.first_s[begun]).sum())
    return {"tbt@service": (waited * math.exp(GAP_SPREAD**2 / 2.0) + handing) / tokens}


def _part(values: Floats, one: Seconds, until: int) -> Floats:
    """Return the seconds of an instance in the `LOOK_S` before a moment."""
    begin = max(0, until - LOOK_S - one.first)
    return values[begin : max(0, until - one.first)]


def _spans(values: Floats, one: Seconds, ends: list[int], length_s: int) -> Floats:
    """Return the means of an instance's seconds over stretches that end at some moments.

    Shape (stretches with one of its seconds in them,).
    """
    parts = (values[max(0, end - length_s - one.first) : max(0, end - one.first)] for end in ends)
    return np.array([np.add.reduce(part) / part.size for part in parts if part.size])


def _passed(moments: Floats, since: float, known: int) -> int:
    """Return how many of the first requests had all passed a moment, `known` of them known to have."""
    while known < moments.size and moments[known] < since:
        known += 1
    return known


def _inside(start_s: Floats, end_s: Floats, begin_s: Integers, length_s: int) -> Floats:
    """Return how much of a stretch of its own each request spent between two moments [ratio]."""
    spent = np.minimum(end_s, begin_s + length_s) - np.maximum(start_s, begin_s)
    return np.asarray(np.clip(spent, 0.0, None) / length_s)

"""A single pool that does both, bound by compute: work adds up, nothing is for free.

A request brings

    w = w0 + b·m + e·(L − 1)      [s of one instance's time]

for m cache-missed prompt tokens and L output tokens. An instance with n running requests gives each of them
1/n of its time (processor sharing; Kleinrock 1976): the first token comes when w0 + b·m is done, later ones
every e·n. At most `slots` run at once, others wait in line; the router picks the instance with the fewest
requests. The instance is busy exactly while it has a request, so that its busy share is the offered work: the
case in which GPU utilisation follows load. With one instance, no limit and Poisson arrivals it is the queue
M/G/1-PS, whose mean number is ρ/(1 − ρ) whatever the lengths are. The numbers are choices of this project.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.decode import Seconds
from simulator.lives import Life
from simulator.workloads import Arrivals

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SharedLaw:
    """Work per request, prompt token and output token [s], requests that run at once, KV memory [tokens]."""

    fixed_s: float = 0.004
    prompt_s: float = 1.1e-4
    output_s: float = 4.0e-3
    slots: int = 24
    kv_tokens: float = 120_000.0

    @classmethod
    def of_images(cls, speed: float = 1.0) -> SharedLaw:
        """Return the law of an engine that makes one image after the other; its work is the prompt's."""
        return cls(fixed_s=0.15, prompt_s=1.0e-3 / speed, output_s=1.0e-4, slots=1)

    def prompt_work_s(self, missed: Floats) -> Floats:
        """Return the work before the first token of prompts of `missed` tokens [s]."""
        return self.fixed_s + self.prompt_s * missed

    def output_work_s(self, output: Floats) -> Floats:
        """Return the work after the first token of answers of `output` tokens [s]."""
        return self.output_s * np.maximum(output - 1.0, 0.0)


@dataclass(frozen=True)
class SharedTrace:
    """What became of each request, shape (n,): instance, start, first and last token [s], inf = not yet.

    ``seconds`` has one entry per life.
    """

    life: Integers
    start_s: Floats
    first_s: Floats
    end_s: Floats
    seconds: tuple[Seconds, ...]


class _Instance:
    """The state of one instance; a plain record, changed in place at each event."""

    __slots__ = (
        "events",
        "line",
        "load",
        "marks",
        "next_s",
        "now_s",
        "prompting",
        "running",
        "slowness",
        "virtual",
    )

    def __init__(self, slowness: float) -> None:
        self.slowness, self.now_s, self.virtual, self.next_s = slowness, 0.0, 0.0, np.inf
        self.running, self.prompting, self.load = 0, 0, 0.0
        self.marks: list[tuple[float, int, bool]] = []  # (V at the mark, request, is its last)
        self.line: deque[int] = deque()
        self.events: list[tuple[float, int, int, int]] = [(0.0, 0, 0, 0)]  # (t, running, prompting, waiting)


def serve_shared(requests: Arrivals, law: SharedLaw, lives: tuple[Life, ...], seconds: int) -> SharedTrace:
    """Serve requests in a single pool of instances that live through the whole history.

    Parameters
    ----------
    requests
        Sorted by arrival, shape (n,).
    law
        Work per token and limits.
    lives
        Instances; only their slowness counts.
    seconds
        Length of the history [s]; what happens later is left out.
    """
    n = len(requests)
    first, last = law.prompt_work_s(requests.missed), law.output_work_s(requests.output)
    works = list(zip(first.tolist(), last.tolist(), strict=True))
    starts, firsts, ends = np.full(n, np.inf), np.full(n, np.inf), np.full(n, np.inf)
    chosen = np.full(n, -1, np.int64)
    pool = [_Instance(life.slowness) for life in lives]
    sent = [0.0] * len(pool)
    for request, now in enumerate(requests.time_s.tolist()):
        for state in pool:
            while state.next_s <= now:
                _pass_mark(state, works, starts, firsts, ends)
        best = min(range(len(pool)), key=lambda i: pool[i].load + sent[i])
        sent[best] += 1e-7
        state = pool[best]
        _move_to(state, now)
        chosen[request] = best
        state.load += 1.0
        if state.running < law.slots:
            _start(state, request, works, starts)
        else:
            state.line.append(request)
        _note(state)
    for state in pool:
        while state.next_s <= seconds:
            _pass_mark(state, works, starts, firsts, ends)
    held = requests.prompt + requests.output
    tables = []
    for i, state in enumerate(pool):
        own = chosen == i
        kept = np.where(own & np.isfinite(starts), held, 0.0)
        token_s = law.output_s * state.slowness
        tables.append(_by_second(state.events, token_s, seconds, starts[own], ends[own], kept[own]))
    return SharedTrace(chosen, starts, firsts, ends, tuple(tables))


def _move_to(state: _Instance, now: float) -> None:
    """Let time pass without an event: each running request gets 1/n of it."""
    if state.running:
        state.virtual += (now - state.now_s) / (state.running * state.slowness)
    state.now_s = now


def _start(state: _Instance, request: int, works: list[tuple[float, float]], starts: Floats) -> None:
    heapq.heappush(state.marks, (state.virtual + works[request][0], request, False))
    state.running += 1
    state.prompting += 1
    starts[request] = state.now_s


def _note(state: _Instance) -> None:
    """Write down the new state and when the next mark is due."""
    state.events.append((state.now_s, state.running, state.prompting, len(state.line)))
    if state.marks:
        state.next_s = state.now_s + (state.marks[0][0] - state.virtual) * state.running * state.slowness
    else:
        state.next_s = np.inf


def _pass_mark(
    state: _Instance,
    works: list[tuple[float, float]],
    starts: Floats,
    firsts: Floats,
    ends: Floats,
) -> None:
    """Let the next mark happen: a first token, or a request that is done and makes room."""
    mark, request, is_last = heapq.heappop(state.marks)
    state.virtual, state.now_s = mark, state.next_s
    if is_last:
        ends[request] = state.now_s
        state.running -= 1
        state.load -= 1.0
        if state.line:
            _start(state, state.line.popleft(), works, starts)
    else:
        firsts[request] = state.now_s
        state.prompting -= 1
        heapq.heappush(state.marks, (mark + works[request][1], request, True))
    _note(state)


def _by_second(
    events: list[tuple[float, int, int, int]],
    token_s: float,
    seconds: int,
    start: Floats,
    end: Floats,
    held: Floats,
) -> Seconds:
    """Integrate the events over whole seconds: (running − prompting) ÷ (e·running) tokens come per second.

    `token_s` is e, the work of a token on this instance.
    """
    t, running, prompting, waiting = np.array(events).T
    edges = np.arange(seconds + 1.0)
    span = np.diff(t, append=max(float(seconds), t[-1]))
    emitting = running - prompting
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(running > 0, emitting / (token_s * running), 0.0)
    levels = (rate, emitting, (running > 0).astype(float))
    totals = [np.r_[0.0, np.cumsum(level * span)] for level in levels]
    times = np.r_[t, t[-1] + span[-1]]
    tokens, sequences, busy = (np.diff(np.interp(edges, times, total)) for total in totals)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(tokens > 1e-9, sequences / tokens, token_s)
    at = np.searchsorted(t, edges[1:], side="right") - 1
    kept = _level(start, held, edges[1:]) - _level(end, held, edges[1:])
    return Seconds(0, running[at], waiting[at], tokens, gap, kept, busy)


def _level(moments: Floats, weight: Floats, at: Floats) -> Floats:
    order = np.argsort(moments, kind="stable")
    total = np.r_[0.0, np.cumsum(weight[order])]
    return np.asarray(total[np.searchsorted(moments[order], at, side="right")])

"""A decode pool: continuous batching under a limit on sequences and one on KV memory.

Every sequence of an instance gets one token per engine step. A step takes

    τ = (t0 + t1·B + t2·K) · slowness      [s]

with B running sequences and K tokens of KV cache held: weights are read once a step (t0), each sequence
costs its share of the dense layers (t1), each held token its share of reading the cache (t2). A request is
admitted while B < `batch` and the tokens reserved for it and the others (prompt and whole answer) fit into
`kv_tokens`; else it waits in line at its instance. The router picks the instance with the fewest requests.

A sequence that joins when an instance has counted V tokens per sequence leaves at V + its answer: one running
sum per instance carries all of its sequences (processor sharing in virtual time; Kleinrock 1976). Time goes
in steps of one second, in which B, K and so τ are held; joining and leaving inside a second are counted
exactly.
The law is the usual roofline reading of batched decoding; the numbers are choices of this project.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from hs_analysis.synthetic.lives import FOREVER_S, Life

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TIE = 1e-7
"""What a request already sent weighs against one that is there: it only breaks ties, in turns."""


@dataclass(frozen=True)
class DecodeLaw:
    """Step law and limits of one decode instance: s, s per sequence, s per held token; sequences; tokens."""

    fixed_s: float = 0.016
    sequence_s: float = 4.0e-4
    token_s: float = 1.6e-7
    batch: int = 128
    kv_tokens: float = 400_000.0

    def step_s(self, sequences: float, held: float) -> float:
        """Return the time of a step on an instance of slowness 1 [s]."""
        return self.fixed_s + self.sequence_s * sequences + self.token_s * held


@dataclass(frozen=True)
class Seconds:
    """One instance, second by second from `first`; arrays of shape (seconds,), levels at the second's end.

    ``tokens`` are those emitted in the second, ``gap_s`` the mean time between tokens of one sequence in it,
    ``busy`` the share of it in which there was work.
    """

    first: int
    running: Floats
    waiting: Floats
    tokens: Floats
    gap_s: Floats
    held: Floats
    busy: Floats


@dataclass(frozen=True)
class DecodeTrace:
    """What became of each request, shape (n,): instance, joined and left the batch [s], inf where not yet.

    ``seconds`` has one entry per life.
    """

    life: Integers
    start_s: Floats
    end_s: Floats
    seconds: tuple[Seconds, ...]


class _Instance:
    """The state of one instance; a plain record, changed in place second by second."""

    __slots__ = (
        "first", "held", "leaving", "line", "load", "log", "number", "open", "pace", "reserved", "running",
        "slowness", "tokens", "virtual",
    )  # fmt: skip

    def __init__(self, number: int, first: int, slowness: float) -> None:
        self.number, self.first, self.slowness = number, first, slowness
        self.open, self.running, self.load = True, 0, 0.0
        self.held = self.reserved = self.virtual = self.tokens = self.pace = 0.0
        self.leaving: list[tuple[float, int, float, float]] = []  # (V at the end, request, prompt, answer)
        self.line: deque[tuple[int, float, float]] = deque()  # (request, prompt, answer)
        self.log = tuple(array("d") for _ in range(6))


def serve_decode(
    ready_s: Floats,
    prompt: Floats,
    answer: Floats,
    law: DecodeLaw,
    lives: tuple[Life, ...],
    scale: Floats,
) -> DecodeTrace:
    """Decode requests whose KV cache arrives at `ready_s`.

    Parameters
    ----------
    ready_s, prompt, answer
        Sorted times [s], prompt tokens held, tokens to emit (≥ 1); shape (n,).
    law
        Step law and limits.
    lives
        Instances; one that closed finishes what it has and what waits at it.
    scale
        Factor on the step time of all instances, per second of the history, shape (seconds,).

    Returns
    -------
    DecodeTrace with the seconds of each life from its opening until it is empty or the history ends.
    """
    pool = DecodePool(law, ready_s.size, lives)
    requests = zip(range(ready_s.size), ready_s.tolist(), prompt.tolist(), answer.tolist(), strict=True)
    pool.coming.extend(requests)
    for second, factor in enumerate(scale.tolist()):
        pool.advance(second, factor)
    return pool.trace()


class DecodePool:
    """A decode pool, second by second; instances come and go between seconds, changed in place.

    ``coming`` holds the requests on their way, (number, cache arrives [s], prompt, answer) by arrival;
    whoever runs the pool adds them before their second. ``starts`` and ``ends`` are those of `DecodeTrace`.
    """

    def __init__(self, law: DecodeLaw, requests: int, lives: Iterable[Life] = ()) -> None:
        self.law = law
        self.lives: list[Life] = []
        self.coming: deque[tuple[int, float, float, float]] = deque()
        self.starts, self.ends = np.full(requests, np.inf), np.full(requests, np.inf)
        self.chosen = np.full(requests, -1, np.int64)
        self._changes: dict[int, list[tuple[int, bool]]] = {}
        self._made: dict[int, _Instance] = {}
        self._accepting: list[_Instance] = []
        self._alive: list[_Instance] = []
        for life in lives:
            self.add(life)

    def add(self, life: Life) -> int:
        """Let an instance come, and go if it closes; return its number."""
        number = len(self.lives)
        self.lives.append(life)
        self._changes.setdefault(max(0, int(life.open_s)), []).append((number, True))
        if life.close_s < FOREVER_S:
            self._changes.setdefault(max(0, int(life.close_s)), []).append((number, False))
        return number

    def close(self, number: int, second: int) -> None:
        """Give an instance nothing more from a second on, not yet passed; it finishes what it has."""
        self.lives[number] = replace(self.lives[number], close_s=float(second))
        self._changes.setdefault(second, []).append((number, False))

    def reopen(self, number: int, second: int) -> None:
        """Take a closed instance back from a second on; what it idled away meanwhile is logged as idle."""
        self.lives[number] = replace(self.lives[number], close_s=FOREVER_S)
        state = self._made[number]
        if state not in self._alive:
            idle = (0.0, 0.0, 0.0, self.law.step_s(1, 0.0) * state.slowness, 0.0, 0.0)
            for column, value in zip(state.log, idle, strict=True):
                column.extend([value] * (second - state.first - len(column)))
            self._alive.append(state)
        self._changes.setdefault(second, []).append((number, True))

    def advance(self, second: int, factor: float) -> None:
        """Let one second pass in which the steps of all instances take `factor` of their time."""
        if second in self._changes:
            self._open_and_close(second)
        law, alive, accepting, coming = self.law, self._alive, self._accepting, self.coming
        for state in alive:
            state.pace = 1.0 / (law.step_s(state.running or 1, state.held) * factor * state.slowness)
        while accepting and coming and coming[0][1] < second + 1.0:
            request, at, held, tokens = coming.popleft()
            best = min(accepting, key=_load)
            best.load += 1.0 + TIE
            self.chosen[request] = best.number
            part = at - second if at > second else 0.0
            if not best.line and _fits(best, held + tokens, law):
                self.starts[request] = second + part
                _join(best, request, held, tokens, part)
            else:
                best.line.append((request, held, tokens))
        for state in alive:
            _advance(state, second, law, self.starts, self.ends)
        if len(accepting) < len(alive):
            self._alive = [state for state in alive if state.open or state.running or state.line]

    def emitted(self, first: int) -> tuple[float, float]:
        """Return the tokens emitted since a second, and the step time summed over them [s]."""
        tokens = waited = 0.0
        for state in self._made.values():  # also those that have gone since
            since = max(0, first - state.first)
            if since >= len(state.log[2]):
                continue
            made, gaps = np.array(state.log[2][since:]), np.array(state.log[3][since:])
            tokens += float(made.sum())
            waited += float(made @ gaps)
        return tokens, waited

    def batched(self, first: int, last: int) -> float:
        """Return the mean number of sequences in all batches between two seconds."""
        total = 0.0
        for state in self._made.values():
            total += float(sum(state.log[0][max(0, first - state.first) : max(0, last - state.first)]))
        return total / (last - first)

    def trace(self) -> DecodeTrace:
        """Return what has happened."""
        rows = tuple(_seconds(self._made.get(number)) for number in range(len(self.lives)))
        return DecodeTrace(self.chosen, self.starts, self.ends, rows)

    def _open_and_close(self, second: int) -> None:
        for number, opens in self._changes.pop(second):
            life = self.lives[number]
            if number in self._made:
                self._made[number].open = opens
            elif opens and life.close_s > life.open_s:
                self._made[number] = _Instance(number, second, life.slowness)
                self._alive.append(self._made[number])
        self._accepting = [state for state in self._alive if state.open]


_load = attrgetter("load")


def _fits(state: _Instance, tokens: float, law: DecodeLaw) -> bool:
    return state.running < law.batch and (state.reserved + tokens <= law.kv_tokens or state.running == 0)


def _join(state: _Instance, request: int, held: float, tokens: float, part: float) -> None:
    """Let a request into the batch when `part` of the current second has gone."""
    heapq.heappush(state.leaving, (state.virtual + part * state.pace + tokens, request, held, tokens))
    state.running += 1
    state.held += held
    state.reserved += held + tokens
    state.tokens -= part * state.pace


def _advance(state: _Instance, second: int, law: DecodeLaw, starts: Floats, ends: Floats) -> None:
    """Bring an instance to the end of the second: emit tokens, let out who is done, let in who waits."""
    running, pace = state.running, state.pace
    after = state.virtual + pace
    emitted = state.tokens + running * pace
    leaving = state.leaving
    while leaving and leaving[0][0] <= after:
        end, request, held, tokens = heapq.heappop(leaving)
        ends[request] = second + 1.0 - (after - end) / pace
        emitted -= after - end
        state.running -= 1
        state.load -= 1.0
        state.held -= held + tokens
        state.reserved -= held + tokens
    state.virtual, state.tokens = after, 0.0
    state.held += emitted
    line = state.line
    while line and _fits(state, line[0][1] + line[0][2], law):
        request, held, tokens = line.popleft()
        starts[request] = second + 1.0
        _join(state, request, held, tokens, 0.0)
    log = state.log
    log[0].append(state.running)
    log[1].append(len(line))
    log[2].append(emitted)
    log[3].append(1.0 / pace)
    log[4].append(state.held)
    log[5].append(1.0 if running else 0.0)


def _seconds(state: _Instance | None) -> Seconds:
    """Return the log of an instance; one that never opened has none."""
    if state is None:
        empty = np.zeros(0)
        return Seconds(0, empty, empty, empty, empty, empty, empty)
    return Seconds(state.first, *(np.array(column) for column in state.log))

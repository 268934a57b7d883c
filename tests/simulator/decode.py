"""A decode pool: continuous batching under a limit on sequences and one on KV memory.

Every sequence of an instance gets one token per engine step. A step takes

    τ = (t0 + t1·B + t2·K) · slowness      [s]

with B running sequences and K tokens of KV cache held: weights are read once a step (t0), each sequence
costs its share of the dense layers (t1), each held token its share of reading the cache (t2). A request is
admitted while B < `batch` and the tokens reserved for it and the others (prompt and whole answer) fit into
`kv_tokens`; else it waits in line at its instance. The router picks the instance with the fewest requests, of
all, of two drawn at random ("power of two choices", Mitzenmacher 2001), or takes them in turns.

Where ``least_s`` is given a step takes at least that much per sequence, so that it has a knee:

    τ = max(t0 + t1·B + t2·K, t3·B) · slowness      [s]

the roofline itself (Williams, Waterman & Patterson 2009): left of the knee memory is what a step waits for,
right of it arithmetic, and an instance emits 1 ÷ t3 tokens a second however many sequences it has.

A sequence that joins when an instance has counted V tokens per sequence leaves at V + its answer: one running
sum per instance carries all of its sequences (processor sharing in virtual time; Kleinrock 1976). Time goes
in steps of one second, in which B, K and so τ are held; joining and leaving inside a second are counted
exactly.
The law is the usual roofline reading of batched decoding; the numbers are choices of this project.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.batching import COLUMNS, INSTANCE, LEAST, NOBODY, REQUEST, pass_seconds
from simulator.lives import FOREVER_S, Life

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK_S = 3600
"""Seconds passed and logged at once [s]."""


@dataclass(frozen=True)
class DecodeLaw:
    """Step law and limits of one decode instance: s, s per sequence, s per held token; sequences; tokens.

    ``least_s`` is the least s per sequence; ``routing`` one of `batching.LEAST`, `TWO`, `TURNS`.
    """

    fixed_s: float = 0.016
    sequence_s: float = 4.0e-4
    token_s: float = 1.6e-7
    batch: int = 128
    kv_tokens: float = 400_000.0
    least_s: float = 0.0
    routing: int = LEAST

    @property
    def step(self) -> tuple[float, float, float, float]:
        """The law of a step as compiled loops take it."""
        return self.fixed_s, self.sequence_s, self.token_s, self.least_s

    def step_s(self, sequences: float, held: float) -> float:
        """Return the time of a step on an instance of slowness 1 [s]."""
        memory_s = self.fixed_s + self.sequence_s * sequences + self.token_s * held
        return max(memory_s, self.least_s * sequences)


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


@dataclass
class _Log:
    """What was logged of an instance since its first second, in parts of shape (seconds, `COLUMNS`)."""

    first: int
    parts: list[Floats] = field(default_factory=list)
    seconds: int = 0

    def add(self, rows: Floats) -> None:
        self.parts.append(rows)
        self.seconds += len(rows)

    def since(self, second: int) -> Floats:
        """Return the rows from a second on."""
        wanted = self.first + self.seconds - max(second, self.first)
        if wanted <= 0:
            return np.zeros((0, COLUMNS))
        found, place = 0, len(self.parts)
        while found < wanted:
            place -= 1
            found += len(self.parts[place])
        return np.concatenate(self.parts[place:])[-wanted:]


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
    pool = DecodePool(law, prompt, answer, lives)
    pool.send(np.arange(ready_s.size), ready_s)
    pool.advance(0, scale)
    return pool.trace()


class DecodePool:
    """A decode pool, second by second; instances come and go between seconds, changed in place.

    Parameters
    ----------
    law
        Step law and limits.
    prompt, answer
        Prompt tokens held and tokens to emit of all requests there will be; shape (n,).
    lives
        Instances known beforehand.
    """

    def __init__(self, law: DecodeLaw, prompt: Floats, answer: Floats, lives: Iterable[Life] = ()) -> None:
        self.law = law
        self.lives: list[Life] = []
        self._requests = np.zeros(prompt.size, REQUEST)
        self._requests["prompt"], self._requests["answer"] = prompt, answer
        self._requests["chosen"] = self._requests["next"] = NOBODY
        self._requests["arrives"] = self._requests["starts"] = self._requests["ends"] = np.inf
        self._coming = np.zeros(0, np.int64)
        self._sent = 0
        self._changes: dict[int, list[tuple[int, bool]]] = {}
        self._logs: dict[int, _Log] = {}
        self._alive: list[int] = []
        self._lost: list[Integers] = []
        self._states = np.zeros(0, INSTANCE)
        room = min(law.batch, prompt.size)
        self._batch_ends, self._batch = np.zeros((0, room)), np.zeros((0, room), np.int64)
        for life in lives:
            self.add(life)

    @property
    def starts(self) -> Floats:
        """When each request joined a batch [s], inf where not yet; shape (n,)."""
        return self._requests["starts"]

    @property
    def ends(self) -> Floats:
        """When each request left [s], inf where not yet; shape (n,)."""
        return self._requests["ends"]

    @property
    def chosen(self) -> Integers:
        """The instance of each request, −1 where none yet; shape (n,)."""
        return self._requests["chosen"]

    def add(self, life: Life) -> int:
        """Let an instance come, and go if it closes; return its number."""
        number = len(self.lives)
        self.lives.append(life)
        state = np.zeros(1, INSTANCE)
        state["slowness"], state["head"] = life.slowness, NOBODY
        self._states = np.append(self._states, state)
        self._batch_ends, self._batch = (
            np.concatenate([rows, np.zeros_like(rows, shape=(1, rows.shape[1]))])
            for rows in (self._batch_ends, self._batch)
        )
        self._changes.setdefault(max(0, int(life.open_s)), []).append((number, True))
        if life.close_s < FOREVER_S:
            self._changes.setdefault(max(0, int(life.close_s)), []).append((number, False))
        return number

    def close(self, number: int, second: int) -> None:
        """Give an instance nothing more from a second on, not yet passed; it finishes what it has."""
        self.lives[number] = replace(self.lives[number], close_s=float(second))
        self._changes.setdefault(second, []).append((number, False))

    def kill(self, number: int, second: int) -> Integers:
        """Let an instance end at once, before a second; return the requests that are lost with it."""
        self.lives[number] = replace(self.lives[number], close_s=float(second))
        state = self._states[number : number + 1]
        for name in ("open", "running", "waiting", "load", "held", "reserved", "tokens"):
            state[name] = 0
        state["head"] = NOBODY
        self._alive.remove(number)
        lost = np.flatnonzero((self.chosen == number) & np.isinf(self.ends))
        self._lost.append(lost)
        return lost

    @property
    def lost(self) -> Integers:
        """The requests that were lost with an instance."""
        return np.concatenate([np.zeros(0, np.int64), *self._lost])

    def reopen(self, number: int, second: int) -> None:
        """Take a closed instance back from a second on; what it idled away meanwhile is logged as idle."""
        self.lives[number] = replace(self.lives[number], close_s=FOREVER_S)
        if number not in self._alive:
            log = self._logs[number]
            idle = (0.0, 0.0, 0.0, self.law.step_s(1, 0.0) * self.lives[number].slowness, 0.0, 0.0)
            log.add(np.tile(idle, (second - log.first - log.seconds, 1)))
            self._alive.append(number)
        self._changes.setdefault(second, []).append((number, True))

    def send(self, numbers: Integers, arrives_s: Floats) -> None:
        """Let requests come, sorted by arrival and none before those sent earlier; before their second."""
        self._requests["arrives"][numbers] = arrives_s
        self._coming = np.concatenate([self._coming, numbers])

    def advance(self, second: int, factors: Floats) -> None:
        """Let seconds pass, from `second` on, in which all steps take `factors` of their time."""
        for _ in self._advance(second, factors):
            pass

    def block(self, second: int, factors: Floats) -> Floats:
        """Let seconds pass as `advance`, and return them: NaN where an instance was not there.

        Shape (instances, seconds, `COLUMNS`).
        """
        rows = np.full((len(self.lives), factors.size, COLUMNS), np.nan)
        for start, logged in self._advance(second, factors):
            for number, found in logged.items():
                rows[number, start - second : start - second + len(found)] = found
        return rows

    def _advance(self, second: int, factors: Floats) -> Iterator[tuple[int, dict[int, Floats]]]:
        end = second + factors.size
        cuts = sorted({second, end, *range(second, end, BLOCK_S), *self._changes})
        inside = [cut for cut in cuts if second <= cut <= end]
        for start, stop in itertools.pairwise(inside):
            if start in self._changes:
                self._open_and_close(start)
            yield start, self._pass(start, factors[start - second : stop - second])

    def _pass(self, second: int, factors: Floats) -> dict[int, Floats]:
        law, alive = self.law, np.array(self._alive, np.int64)
        log = np.empty((len(self.lives), factors.size, COLUMNS))
        there, sent = pass_seconds(
            self._states, alive, alive.size, self._requests, self._coming, self._batch_ends, self._batch,
            second, factors, law.step,
            (law.batch, law.kv_tokens), (law.routing, self._sent), log,
        )  # fmt: skip
        self._sent += sent
        rows = {n: log[n, : int(self._states["logged"][n])].copy() for n in self._alive}
        for number, found in rows.items():
            self._logs[number].add(found)
        self._alive, self._coming = alive[:there].tolist(), self._coming[sent:]
        return rows

    def recent(self, since: int) -> dict[int, Seconds]:
        """Return the seconds from one on of every instance that ever opened, gone or not, by its number."""
        return {number: _seconds(log, since) for number, log in self._logs.items()}

    def trace(self) -> DecodeTrace:
        """Return what has happened."""
        rows = tuple(_seconds(self._logs.get(number)) for number in range(len(self.lives)))
        return DecodeTrace(self.chosen.copy(), self.starts.copy(), self.ends.copy(), rows)

    def _open_and_close(self, second: int) -> None:
        for number, opens in self._changes.pop(second):
            life = self.lives[number]
            if number in self._logs:
                self._states["open"][number] = opens
            elif opens and life.close_s > life.open_s:
                self._logs[number] = _Log(second)
                self._states["open"][number] = True
                self._alive.append(number)


def _seconds(log: _Log | None, since: int = 0) -> Seconds:
    """Return the log of an instance from a second on; one that never opened has none."""
    if log is None:
        return Seconds(0, *np.zeros((COLUMNS, 0)))
    return Seconds(max(log.first, since), *np.ascontiguousarray(log.since(since).T))

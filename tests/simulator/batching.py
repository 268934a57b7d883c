"""The seconds of a decode pool and the line of a prefill pool as compiled loops over plain records.

What they compute is said in ``decode`` and ``prefill``. Heaps are kept in flat arrays, lines are chained
through the requests that wait in them, so that nothing is allocated inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Records = NDArray[np.void]
Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without allocations arrays need no counting of their references: that halves the time and more."""


TIE = 1e-7
"""What a request already sent weighs against one that is there: it only breaks ties, in turns."""

NOBODY = -1
"""Number of no request."""

LEAST, TWO, TURNS = 0, 1, 2
"""Whom a router takes: the one with the least of all; of two drawn for the request; each in turn."""

MASK = 0xFFFFFFFF

INSTANCE = np.dtype([
    ("open", "i8"), ("running", "i8"), ("waiting", "i8"), ("head", "i8"), ("tail", "i8"), ("logged", "i8"),
    ("slowness", "f8"), ("load", "f8"), ("held", "f8"), ("reserved", "f8"), ("virtual", "f8"),
    ("tokens", "f8"), ("pace", "f8"),
])  # fmt: skip
"""A decode instance: who waits is a chain of requests from ``head`` to ``tail``; tokens; tokens per s."""

REQUEST = np.dtype([
    ("chosen", "i8"), ("next", "i8"), ("arrives", "f8"), ("prompt", "f8"), ("answer", "f8"),
    ("starts", "f8"), ("ends", "f8"),
])  # fmt: skip
"""A request at decode: its instance, who waits behind it, times [s], tokens."""

SERVER = np.dtype([
    ("entered", "i8"), ("opens", "f8"), ("closes", "f8"), ("free", "f8"), ("slowness", "f8"),
])  # fmt: skip
"""A prefill instance: whether it is in the line, and times [s]."""

COLUMNS = 6
"""Figures logged per second, those of ``decode.Seconds``."""


def compiled(function: Function) -> Function:
    """Compile a function that takes records and numbers."""
    made: Function = numba.njit(**OPTIONS)(function)
    return made


def entry(function: Function) -> Function:
    """Compile a function that Python calls, and keep what was compiled on disk."""
    made: Function = numba.njit(cache=True, **OPTIONS)(function)
    return made


@compiled
def _sift_up(ends: Floats, numbers: Integers, size: int, end: float, request: int) -> None:
    """Put a request into the heap of an instance, least (end, request) first."""
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if ends[parent] < end or (ends[parent] == end and numbers[parent] < request):
            break
        ends[at], numbers[at] = ends[parent], numbers[parent]
        at = parent
    ends[at], numbers[at] = end, request


@compiled
def _drop_first(ends: Floats, numbers: Integers, size: int) -> None:
    """Take the first request out of a heap of `size`."""
    size -= 1
    end, request = ends[size], numbers[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        other = child + 1
        if other < size and (
            ends[other] < ends[child] or (ends[other] == ends[child] and numbers[other] < numbers[child])
        ):
            child = other
        if end < ends[child] or (end == ends[child] and request < numbers[child]):
            break
        ends[at], numbers[at] = ends[child], numbers[child]
        at = child
    ends[at], numbers[at] = end, request


@compiled
def _join(
    state: Any, requests: Records, ends: Floats, numbers: Integers, request: int, second: float, part: float
) -> None:
    """Let a request into the batch when `part` of the current second has gone."""
    one = requests[request]
    one.starts = second + part
    _sift_up(ends, numbers, state.running, state.virtual + part * state.pace + one.answer, request)
    state.running += 1
    state.held += one.prompt
    state.reserved += one.prompt + one.answer
    state.tokens -= part * state.pace


@compiled
def _fits(state: Any, tokens: float, batch: int, kv_tokens: float) -> bool:
    return bool(state.running < batch and (state.reserved + tokens <= kv_tokens or state.running == 0))


@compiled
def _finish_second(
    state: Any, requests: Records, ends: Floats, numbers: Integers, second: float, limits: tuple[int, float],
    row: Floats,
) -> None:  # fmt: skip
    """Bring an instance to the end of the second: emit tokens, let out who is done, let in who waits."""
    running, pace = state.running, state.pace
    after = state.virtual + pace
    emitted = state.tokens + running * pace
    while state.running > 0 and ends[0] <= after:
        end, one = ends[0], requests[numbers[0]]
        _drop_first(ends, numbers, state.running)
        one.ends = second + 1.0 - (after - end) / pace
        emitted -= after - end
        state.running -= 1
        state.load -= 1.0
        state.held -= one.prompt + one.answer
        state.reserved -= one.prompt + one.answer
    state.virtual, state.tokens = after, 0.0
    state.held += emitted
    while state.head != NOBODY:
        request = state.head
        if not _fits(state, requests[request].prompt + requests[request].answer, limits[0], limits[1]):
            break
        state.head = requests[request].next
        state.waiting -= 1
        _join(state, requests, ends, numbers, request, second + 1.0, 0.0)
    row[0], row[1], row[2] = state.running, state.waiting, emitted
    row[3], row[4], row[5] = 1.0 / pace, state.held, 1.0 if running else 0.0


@compiled
def candidates(routing: int, number: int, count: int) -> tuple[int, int]:
    """Return the two of `count` instances between which the router decides, `NOBODY` for all of them.

    In turns both are one. Two are drawn by bits of the request's number that are mixed as xxHash ends
    (Collet, XXH32 avalanche): the same number has the same two, and no order of numbers shows in them.
    """
    if routing == LEAST or count < 2:
        return NOBODY, NOBODY
    if routing == TURNS:
        return number % count, number % count
    bits = (number + 1) & MASK
    bits = ((bits ^ (bits >> 15)) * 2246822519) & MASK
    bits = ((bits ^ (bits >> 13)) * 3266489917) & MASK
    bits ^= bits >> 16
    one = bits % count
    return one, (one + 1 + bits // count % (count - 1)) % count


@compiled
def _send(
    states: Records, alive: Integers, there: int, requests: Records, ends: Floats, numbers: Integers,
    request: int, second: float, limits: tuple[int, float], route: tuple[int, int],
) -> bool:  # fmt: skip
    """Send a request to the open instance with the fewest of those the router looks at; False without one."""
    best, seen, count = NOBODY, 0, 0
    for place in range(there):
        count += states[alive[place]].open
    first, other = candidates(route[0], route[1], count)
    for place in range(there):
        number = alive[place]
        if not states[number].open:
            continue
        looked_at = first in (NOBODY, seen) or seen == other
        if looked_at and (best == NOBODY or states[number].load < states[best].load):
            best = number
        seen += 1
    if best == NOBODY:
        return False
    one, state = requests[request], states[best]
    state.load += 1.0 + TIE
    one.chosen = best
    part = one.arrives - second if one.arrives > second else 0.0
    if state.head == NOBODY and _fits(state, one.prompt + one.answer, limits[0], limits[1]):
        _join(state, requests, ends[best], numbers[best], request, second, part)
        return True
    if state.head == NOBODY:
        state.head = request
    else:
        requests[state.tail].next = request
    state.tail = request
    state.waiting += 1
    return True


@entry
def pass_seconds(
    states: Records, alive: Integers, there: int, requests: Records, coming: Integers, ends: Floats,
    numbers: Integers, second: int, factors: Floats, step: tuple[float, float, float, float],
    limits: tuple[int, float], route: tuple[int, int], log: Floats,
) -> tuple[int, int]:  # fmt: skip
    """Let seconds pass in which no instance opens or closes; change records and arrays in place.

    Parameters
    ----------
    states, requests
        All instances (`INSTANCE`) and requests (`REQUEST`).
    alive, there
        Numbers of the instances that are open or have work, in order of coming, and how many.
    coming
        Requests on their way, by arrival.
    ends, numbers
        Per instance the heap of its batch: tokens per sequence at the end, request; shape (instances, room).
    second, factors
        The first second, and the factor on all step times in each.
    step, limits
        The law: s, s per sequence, s per held token, least s per sequence; sequences, tokens.
    route
        Whom the router takes, and the number of the first of `coming`.
    log
        Filled: shape (instances, seconds, `COLUMNS`); each state's ``logged`` says how many rows of it.

    Returns
    -------
    How many instances are still alive, and how many of `coming` were sent.
    """
    sent = 0
    for place in range(there):
        states[alive[place]].logged = 0
    for passed in range(factors.size):
        now = float(second + passed)
        for place in range(there):
            state = states[alive[place]]
            sequences = max(1, state.running)
            time_s = max(step[0] + step[1] * sequences + step[2] * state.held, step[3] * sequences)
            state.pace = 1.0 / (time_s * factors[passed] * state.slowness)
        while sent < coming.size and requests[coming[sent]].arrives < now + 1.0:
            to = (route[0], route[1] + sent)
            if not _send(states, alive, there, requests, ends, numbers, coming[sent], now, limits, to):
                break
            sent += 1
        left = 0
        for place in range(there):
            number = alive[place]
            state = states[number]
            row = log[number, state.logged]
            _finish_second(state, requests, ends[number], numbers[number], now, limits, row)
            state.logged += 1
            if state.open or state.running or state.head != NOBODY:
                alive[left] = number
                left += 1
        there = left
    return there, sent


@entry
def pass_line(
    servers: Records, reach: Floats, work: Floats, route: tuple[int, int], chosen: Integers, starts: Floats,
    ends: Floats,
) -> int:  # fmt: skip
    """Serve requests first come, first served; change the servers and fill the last three in place.

    Parameters
    ----------
    servers
        All instances (`SERVER`).
    reach, work
        Sorted moments of arrival, and the time each takes an instance of slowness 1 [s]; shape (n,).
    route
        Whom the router takes, and the number of the first request; the least is the one free first.
    chosen, starts, ends
        Instance, and start and end of the computation [s]; shape (n,).

    Returns
    -------
    How many were served; fewer than n when no instance accepts work, now or later.
    """
    for request in range(reach.size):
        now = reach[request]
        best, seen, count = NOBODY, 0, 0
        for number in range(servers.size):
            one = servers[number]
            if not one.entered and one.opens <= now:
                one.entered = 1
            count += 1 if one.entered and one.closes > now else 0
        first, other = candidates(route[0], route[1] + request, count)
        for number in range(servers.size):
            one = servers[number]
            if not one.entered or one.closes <= now:
                continue
            looked_at = first in (NOBODY, seen) or seen == other
            if looked_at and (best == NOBODY or one.free < servers[best].free):
                best = number
            seen += 1
        if best == NOBODY:  # wait for the next one to open
            for number in range(servers.size):
                one = servers[number]
                comes = not one.entered and one.closes > one.opens
                if comes and (best == NOBODY or one.opens < servers[best].opens):
                    best = number
            if best == NOBODY:
                return request
            servers[best].entered = 1
        one = servers[best]
        start = max(one.free, now)
        chosen[request], starts[request] = best, start
        ends[request] = start + work[request] * one.slowness
        one.free = ends[request]
    return int(reach.size)

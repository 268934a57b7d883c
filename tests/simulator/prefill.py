"""A prefill pool: requests wait in line and are computed one by one on the instance that is free first.

    S = a·⌈m ÷ C⌉ + b·m + c·m²      [s]

is the time that m cache-missed prompt tokens take in chunks of C: a launch cost per chunk, a cost per token
(the dense layers) and one per pair of tokens (attention). The router sends a request to the instance with the
least unfinished work, which is the same as one first-come first-served line in front of all of them: a queue
of the kind M/G/k (Kiefer & Wolfowitz 1955). A router that looks at two drawn at random, or takes instances in
turns, makes a line in front of each. The equations are textbook; the numbers are choices of this project and
claim nothing about hardware.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.batching import LEAST, SERVER, Records, pass_line
from simulator.lives import FOREVER_S, Life

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PrefillLaw:
    """Time law of one prefill instance: s per chunk, s per token, s per token², tokens per chunk.

    ``routing`` is one of `batching.LEAST`, `TWO`, `TURNS`.
    """

    chunk_s: float = 0.014
    token_s: float = 2.4e-4
    pair_s: float = 8.0e-9
    chunk: float = 2048.0
    routing: int = LEAST

    def service_s(self, missed: Floats) -> Floats:
        """Return the time to compute prompts of `missed` tokens on an idle instance [s]."""
        return (
            self.chunk_s * np.ceil(missed / self.chunk)
            + self.token_s * missed
            + self.pair_s * missed * missed
        )


@dataclass(frozen=True)
class PrefillTrace:
    """What became of each request, shape (n,): instance, and start and end of its computation [s]."""

    life: Integers
    start_s: Floats
    end_s: Floats


class PrefillPool:
    """The line in front of a prefill pool; instances come and go between requests, changed in place."""

    def __init__(self, lives: Iterable[Life] = (), routing: int = LEAST) -> None:
        self.lives: list[Life] = []
        self._routing, self._sent = routing, 0
        self._servers = np.zeros(0, SERVER)
        for life in lives:
            self.add(life)

    def add(self, life: Life) -> int:
        """Let an instance come; return its number."""
        self.lives.append(life)
        server = np.array([(0, life.open_s, life.close_s, life.open_s, life.slowness)], SERVER)
        self._servers = np.append(self._servers, server)
        return len(self.lives) - 1

    def close(self, number: int, at_s: float) -> None:
        """Give an instance nothing more from a time on; one that closes before it opens never comes."""
        self.lives[number] = replace(self.lives[number], close_s=at_s)
        self._servers["closes"][number] = at_s

    def reopen(self, number: int) -> None:
        """Take a closed instance back, with the work it still has."""
        self.close(number, FOREVER_S)

    @property
    def servers(self) -> Records:
        """All instances there have been, as `batching.SERVER`."""
        return self._servers

    def kill(self, number: int, at_s: float) -> None:
        """Let an instance end at once; what it had is no longer its own."""
        self.close(number, at_s)
        self._servers["free"][number] = min(at_s, float(self._servers["free"][number]))

    def serve(self, reach_s: Floats, service_s: Floats) -> PrefillTrace:
        """Serve the next requests: first come, first served on the instances that accept work.

        Parameters
        ----------
        reach_s
            Sorted times of arrival, none before those served earlier [s], shape (n,).
        service_s
            Time on an instance of slowness 1 [s], shape (n,).

        Raises
        ------
        ValueError
            When no instance accepts work, now or later.
        """
        n = reach_s.size
        chosen, starts, ends = np.empty(n, np.int64), np.empty(n), np.empty(n)
        route = (self._routing, self._sent)
        served = pass_line(self._servers, reach_s, service_s, route, chosen, starts, ends)
        if served < n:
            raise ValueError(f"no prefill instance accepts work after {reach_s[served]:.0f} s")
        self._sent += n
        return PrefillTrace(chosen, starts, ends)


def serve_prefill(
    arrival_s: Floats, service_s: Floats, lives: tuple[Life, ...], routing: int = LEAST
) -> PrefillTrace:
    """Serve requests first come, first served on the instances that accept work.

    Parameters
    ----------
    arrival_s
        Sorted arrival times, shape (n,).
    service_s
        Time on an instance of slowness 1, shape (n,).
    lives
        Instances with the time from which, and until which, they accept work; accepted work is finished. A
        request that finds none waits for the next one to open.
    routing
        One of `batching.LEAST`, `TWO`, `TURNS`.

    Raises
    ------
    ValueError
        When a request comes after the last instance stopped accepting.
    """
    return PrefillPool(lives, routing).serve(arrival_s, service_s)


def busy_seconds(start_s: Floats, end_s: Floats, first: int, stop: int) -> Floats:
    """Return the busy share of each whole second in [first, stop) of one instance, shape (stop − first,).

    Its requests, in order, must not overlap.
    """
    edges = np.arange(first, stop + 1, dtype=float)
    if start_s.size == 0:
        return np.zeros(stop - first)
    times = np.stack([start_s, end_s], axis=1).ravel()
    gained = np.stack([np.zeros(start_s.size), end_s - start_s], axis=1).ravel().cumsum()
    return np.diff(np.interp(edges, times, gained))


def level_seconds(
    enter_s: Floats, leave_s: Floats, first: int, stop: int, weight: Floats | None = None
) -> Floats:
    """Return how many (or how much weight) are inside at the start of each second of [first, stop)."""
    edges = np.arange(first, stop, dtype=float)
    total = np.zeros(stop - first)
    for moments, sign in ((enter_s, 1.0), (leave_s, -1.0)):
        order = np.argsort(moments, kind="stable")
        gained = np.r_[0.0, np.cumsum(np.ones(moments.size) if weight is None else weight[order])]
        total += sign * gained[np.searchsorted(moments[order], edges, side="right")]
    return total

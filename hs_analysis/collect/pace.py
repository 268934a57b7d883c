"""When to ask again: no faster than agreed, and after a refusal as late as the server wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

ATTEMPTS = 6
"""How often one query is tried while the server is busy or failing."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Waits double from the first to the longest [s]: with six attempts about half a minute in all."""

LONGEST_RETRY_AFTER_S = 600.0
"""A server that asks for longer pauses in all, before it answers one query, is taken as down [s]."""


@dataclass
class Pace:
    """Spaces queries out.

    ``queries_per_s`` is the highest rate; ``clock`` [s] and ``sleep`` [s] come from outside, so that tests
    do not wait.
    """

    queries_per_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _next: float = field(default=0.0, init=False)

    def wait(self) -> None:
        """Wait until the next query may start."""
        now = self.clock()
        if now < self._next:
            self.sleep(self._next - now)
            now = self._next
        self._next = now + 1.0 / self.queries_per_s


def backoff_s(attempt: int) -> float:
    """Return the wait before attempt number ``attempt`` + 1, counted from 1 [s]."""
    return float(min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S))


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the pause that a Retry-After header asks for [s]: seconds or an HTTP date; None when neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None

"""A client of a scripted server, with a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from collect.recording_server import Script, serving

from hs_analysis.collect.access import Access
from hs_analysis.collect.pace import Pace
from hs_analysis.collect.server import Server


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def ask(clock: Clock) -> Iterator[Callable]:
    """Return a maker of clients for a script; every note is kept."""
    stack = []

    def make(script: Script, access: Access | None = None, rate: float = 1e9, timeout_s: float = 10.0):
        serves = serving(script)
        url, asked = serves.__enter__()
        stack.append(serves)
        notes: list[str] = []
        pace = Pace(rate, lambda: clock.now, clock.sleep)
        return Server(url, access or Access(), pace, notes.append, timeout_s), asked, notes

    yield make
    for serves in reversed(stack):
        serves.__exit__(None, None, None)

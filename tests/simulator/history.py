"""A history: one kind, one seed, everything that follows from them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.dumps import write_dumps
from simulator.kinds import Kind, kind_of
from simulator.physics import Trace, simulate
from simulator.record import record
from simulator.scrapes import Series
from simulator.services import STARTUP_S, Drawn, another_day, draw, stranger_of
from simulator.truth import Truth, truth_of
from simulator.workloads import DAY_S, arrivals

MONDAY_UNIX_S = 1772409600
"""2026-03-02 00:00 UTC, the Monday before each history."""


@dataclass(frozen=True)
class History:
    """A simulated history and, on demand, its answers.

    Attributes
    ----------
    kind, seed
        What it was made from: equal ones give equal bytes.
    start_unix_s
        When it starts, in whole seconds since 1970 UTC.
    drawn
        Service and load.
    trace
        What happened.
    stranger
        The other service whose gauges were recorded, None for most kinds.
    """

    kind: Kind
    seed: int
    start_unix_s: int
    drawn: Drawn = field(repr=False)
    trace: Trace = field(repr=False)
    stranger: Trace | None = field(repr=False, default=None)

    @property
    def startup_s(self) -> float:
        """Time from asking for an instance to its first request [s]."""
        return STARTUP_S

    @property
    def grid_unix_s(self) -> NDArray[np.int64]:
        """Times of the range query [s since 1970 UTC]."""
        step = self.kind.setup.step_s
        return self.start_unix_s + np.arange(step, round(self.kind.hours * 3600.0) + 1, step, dtype=np.int64)

    def series(self) -> list[Series]:
        """Return what a Prometheus would have kept, sorted by labels."""
        chance = _chance(self.kind, self.seed, "scrapes")
        return record(self.trace, self.kind.setup, chance, float(self.start_unix_s), self.stranger)

    @cached_property
    def truth(self) -> Truth:
        """The answers; working them out takes several times as long as the history itself."""
        return truth_of(
            self.kind, self.drawn, self.trace, zlib.crc32(f"{self.kind.name}{self.seed}".encode())
        )


def _chance(kind: Kind, seed: int, purpose: str) -> np.random.Generator:
    """Return a source of chance per purpose, so that one more draw here moves nothing there."""
    return np.random.default_rng([zlib.crc32(kind.name.encode()), seed, zlib.crc32(purpose.encode())])


def history(kind: Kind | str, seed: int) -> History:
    """Simulate a history.

    Parameters
    ----------
    kind
        One of `KINDS` or its name.
    seed
        Any whole number ≥ 0.
    """
    kind = kind_of(kind) if isinstance(kind, str) else kind
    drawn = draw(kind, _chance(kind, seed, "service"))
    trace = _run(kind, drawn, seed, "")
    stranger = None
    if kind.event == "stranger":
        other = stranger_of(kind, drawn, _chance(kind, seed, "stranger"))
        stranger = _run(kind, other, seed, "stranger's ")
    start = MONDAY_UNIX_S + round(DAY_S * kind.load.first_day + 3600.0 * kind.load.first_hour)
    return History(kind, seed, start, drawn, trace, stranger)


def shortened(name: str, hours: float = 2.5) -> History:
    """Simulate a history of a kind, cut to a few busy hours."""
    kind = kind_of(name)
    return history(replace(kind, hours=hours, load=replace(kind.load, first_hour=8.0)), 5)


def _run(kind: Kind, drawn: Drawn, seed: int, whose: str) -> Trace:
    requests = arrivals(drawn.rate, drawn.path, kind.mix, _chance(kind, seed, f"{whose}arrivals"))
    return simulate(drawn.service, requests, kind.hours, _chance(kind, seed, f"{whose}physics"))


def fresh_history(made: History, day: int) -> History:
    """Simulate another history of the same service: same laws and usual load, other news, mix and arrivals.

    Parameters
    ----------
    made
        The first one.
    day
        Which of the others, ≥ 1.
    """
    kind, seed = made.kind, made.seed
    drawn = another_day(
        kind, made.drawn, _chance(kind, seed, "service"), _chance(kind, seed, f"another day {day}")
    )
    trace = _run(kind, drawn, seed, f"day {day}'s ")
    return History(kind, seed, made.start_unix_s, drawn, trace)


def write(made: History, folder: Path, *, answers: Path | None = None) -> tuple[Path, ...]:
    """Write a history's dumps into a folder, and its answers into a file elsewhere where that is asked for.

    Returns
    -------
    The dump files, sorted.
    """
    files = write_dumps(made.series(), made.grid_unix_s, folder, one_file=made.kind.setup.one_file)
    if answers is not None:
        answers.write_text(json.dumps(made.truth.as_dict(), indent=1, sort_keys=True) + "\n", "utf-8")
    return files

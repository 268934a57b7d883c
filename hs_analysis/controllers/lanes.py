"""What controllers see and answer, for many lanes at once.

A lane is one controller on one fleet: a candidate policy, a baseline, or one of them under a fault. All lanes
of a batch have controllers of one structure (the same signals and kinds of rule) and differ in numbers, so
that a rule is written once for arrays; a single controller is a batch of one. Why a lane decided what it did
is a code (`Why`), which `in_words` turns into a sentence where somebody reads it.

How a parameter of a controller says where its default comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np

from hs_analysis.schema.arrays import Floats, Integers, Mask

Key = tuple[str, str]
"""(signal, role) of a reading."""

ROUNDING = 1e-9
"""Relative slack before a count is rounded up [ratio]: 3 × target ÷ target must stay 3 in floating point."""


class Why(IntEnum):
    """Why a pool was asked for what it was."""

    NOTHING = 0
    HOLDS = 1
    GROWS = 2
    SHRINKS = 3
    MISSING = 4
    RESTS = 5
    STEP_LIMIT = 6
    VETOED = 7
    BLIND = 8
    GUARD = 9
    RESTORED = 10
    RATIO = 11
    BOUND = 12
    PLANNED = 13
    NO_PLAN = 14
    ON_HOLD = 15
    STARTING = 16
    FALLBACK = 17
    PANIC = 18
    IDLE = 19
    DISABLED = 20
    GPU_LIMIT = 21


(
    NOTHING, HOLDS, GROWS, SHRINKS, MISSING, RESTS, STEP_LIMIT, VETOED, BLIND, GUARD, RESTORED, RATIO, BOUND,
    PLANNED, NO_PLAN, ON_HOLD, STARTING, FALLBACK, PANIC, IDLE, DISABLED, GPU_LIMIT,
) = map(int, Why)  # plain numbers: an array takes members of an enumeration over one by one  # fmt: skip


WORDS: Mapping[Why, str] = {
    Why.NOTHING: "",
    Why.HOLDS: "the signal asks for {wanted}: hold",
    Why.GROWS: "the signal asks for {wanted}: out to {after}",
    Why.SHRINKS: "the signal asks for {wanted}: in to {after}",
    Why.MISSING: "the signal is missing: hold",
    Why.RESTS: "the signal asks for {wanted}, resting after an action: hold",
    Why.STEP_LIMIT: "the signal asks for {wanted}, a step limit allows {after}",
    Why.VETOED: "the signal asks for {wanted}, a guard is over its limit: hold",
    Why.BLIND: "the signal asks for {wanted}, a guard is missing: hold",
    Why.GUARD: "a guard is over its limit: out to {after}",
    Why.RESTORED: "a guard is over its limit: instances under observation come back, {after}",
    Why.RATIO: "follows the ratio: {after}",
    Why.BOUND: "the signal asks for {wanted}, a bound allows {after}",
    Why.PLANNED: "timetable: {after}",
    Why.NO_PLAN: "no timetable entry for this time: hold",
    Why.ON_HOLD: "the policy is on hold",
    Why.STARTING: "instances are starting: hold",
    Why.FALLBACK: "the signal is missing, the fallback asks for {after}",
    Why.PANIC: "panic asks for {wanted}: {after}",
    Why.IDLE: "no trigger is active: rests at {after}",
    Why.DISABLED: "the signal asks for {wanted}, scale-in is off: hold",
    Why.GPU_LIMIT: "the signal asks for {wanted}, the GPUs of the service allow {after}",
}
"""Sentence of each code; ``wanted`` are the instances asked for before limits, ``after`` the count."""


def in_words(code: int, wanted: float, after: float) -> str:
    """Return a code as a sentence; ``wanted`` may be NaN where nothing was asked for."""
    return WORDS[Why(code)].format(
        wanted="nothing" if np.isnan(wanted) else f"{wanted:.4g}", after=f"{after:g}"
    )


def changes(code: Integers, start: Floats, count: Floats) -> Integers:
    """Return codes with a hold named by what became of the count over several decisions."""
    if not some(count != start):
        return code
    held = code == HOLDS
    named = np.where(held & (count > start), GROWS, code)
    found: Integers = np.where(held & (count < start), SHRINKS, named)
    return found


def some(values: Mask) -> bool:
    """Say whether any value is true: ``any`` for small arrays, which a function of numpy is slow on."""
    return 1 in values.tobytes()


@dataclass(frozen=True, slots=True)
class Scraped:
    """What was scraped: per reading the last values of each lane, shape (rows, lanes), oldest first.

    NaN where nothing was scraped, or before the first row. ``window_s`` is the width of a row. Every reading
    has the same rows, the newest of them completed just now.

    ``uneven`` says how a row came: by how much the sum up to the end of each of its parts but the last is
    above an even share of the row [unit of the reading, of a whole row], shape (parts − 1, rows, lanes).
    A reading that is absent there does not change within a row.
    """

    window_s: float
    values: Mapping[Key, Floats]
    uneven: Mapping[Key, Floats] = field(default_factory=dict)

    def last(self, key: Key) -> Floats:
        """Return the newest value of each lane, NaN where it brought none. Shape (lanes,)."""
        newest: Floats = self.values[key][-1]
        return newest

    def mean(self, key: Key, seconds: float) -> Floats:
        """Return the mean of the known values of the last ``seconds``, NaN without any. Shape (lanes,).

        As a range query answers: a gap shorter than the range is bridged, a longer one is not.
        """
        return mean_known(self.values[key][-self.rows(seconds) :])

    def means_within(self, key: Key, seconds: float, looks: int) -> Floats:
        """Return the mean over ``seconds`` at each of the evenly spaced looks of the newest row.

        Shape (looks, lanes), in the order of time; the last one is `mean`. A range that ends within a row
        holds the part of it that had come, and as much less of the row that it begins in. Where a row of the
        range or before it is missing, or parts and looks do not go into each other, every look reads `mean`.
        """
        last = self.mean(key, seconds)
        uneven, values, reach = self.uneven.get(key), self.values[key], self.rows(seconds)
        if looks == 1 or uneven is None or (len(uneven) + 1) % looks or len(values) <= reach:
            return np.broadcast_to(last, (looks, *last.shape))
        every = (len(uneven) + 1) // looks
        come = uneven[every - 1 :: every]
        left = np.arange(looks - 1, 0, -1)[:, None] / looks
        with np.errstate(invalid="ignore"):  # a value that can't be known is infinite
            moved = left * (values[-reach - 1] - values[-1]) + come[:, -1] - come[:, -reach - 1]
            early = np.maximum(np.add.reduce(values[-reach:]) + moved, 0.0) / reach
        return np.concatenate([np.where(np.isnan(early), last, early), last[None]])

    def means(self, key: Key, seconds: float, over_s: float) -> Floats:
        """Return the means over ``seconds`` that ended in each row of the last ``over_s``, the newest first.

        Shape (rows, lanes), NaN without a known value.
        """
        rows = self.values[key]
        return means_known(rows, self.rows(seconds), max(1, min(self.rows(over_s), len(rows))))

    def highest(self, key: Key, window_s: float, over_s: float) -> Floats:
        """Return the highest of the means over ``window_s`` that ended in the last ``over_s``.

        Shape (lanes,), NaN where none of them is known: ``max_over_time(avg_over_time(x[w])[over:row])``.
        """
        found: Floats = np.fmax.reduce(self.means(key, window_s, over_s))
        return found

    def rows(self, seconds: float) -> int:
        """Return how many rows make a time, at least one."""
        return max(1, round(seconds / self.window_s))


def mean_known(rows: Floats) -> Floats:
    """Return the mean of the known values of each lane, NaN without any. Shape (lanes,)."""
    if len(rows) == 1:
        newest: Floats = rows[0]
        return newest
    total: Floats = np.add.reduce(rows, axis=0)
    if len(rows) and not some(np.isnan(total)):
        return total / len(rows)
    known = ~np.isnan(rows)
    return _mean_of(np.where(known, rows, 0.0).sum(axis=0), known.sum(axis=0))


def means_known(rows: Floats, width: int, ends: int) -> Floats:
    """Return `mean_known` of ``width`` rows up to each of the last ``ends``, the newest first.

    Shape (ends, lanes). The first means hold fewer rows where there are no more.
    """
    short = width + ends - 1 - len(rows)
    if short > 0:
        rows = np.concatenate([np.full((short, rows.shape[1]), np.nan), rows])
    if width == 1:
        return rows[-ends:][::-1]
    rows = rows[-(width + ends - 1) :]
    total: Floats = rows[:ends]
    for place in range(1, width):
        total = total + rows[place : place + ends]
    if not some(np.isnan(total)):
        return (total / width)[::-1]
    known = ~np.isnan(rows)
    values = np.where(known, rows, 0.0)
    places = range(width)
    total = sum((values[place : place + ends] for place in places), start=np.zeros_like(total))
    count = sum((known[place : place + ends] for place in places), start=np.zeros(total.shape, np.int64))
    return _mean_of(total, count)[::-1]


def _mean_of(total: Floats, count: Integers) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The pools of each lane when a decision is due, and what was scraped up to then.

    Attributes
    ----------
    t_s
        Time of the decision [Unix s], shape (lanes,).
    window_s
        Time to the next one [s].
    desired, ready
        Instances asked for (whole numbers) and able to serve, per role, shape (lanes,) each.
    scraped
        Readings; nothing later than ``t_s``.
    reporting
        Instances that were ready in each row that was scraped, per role, as rows of ``scraped``.
    """

    t_s: Floats
    window_s: float
    desired: Mapping[str, Floats]
    ready: Mapping[str, Floats]
    scraped: Scraped
    reporting: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return self.t_s.size


@dataclass(slots=True)
class Orders:
    """What is asked for, shape (lanes,) per role.

    Attributes
    ----------
    counts
        Instances asked for; a role that is absent keeps its count.
    code, wanted
        `Why`, and the instances that the signal asks for before limits, NaN without.
    restored
        How many of those added never stopped running; absent = none.
    draining
        Instances taken out that run on under observation, and are paid for; absent = none.
    """

    counts: dict[str, Floats]
    code: dict[str, Integers]
    wanted: dict[str, Floats]
    restored: dict[str, Floats] = field(default_factory=dict)
    draining: dict[str, Floats] = field(default_factory=dict)


@dataclass(slots=True)
class PoolOrders:
    """What the controllers of one pool ask for, shape (lanes,) each.

    Attributes
    ----------
    count
        Instances asked for (whole numbers).
    code
        `Why`.
    wanted
        Instances that the signal asks for before windows, limits and bounds; NaN without.
    """

    count: Floats
    code: Integers
    wanted: Floats


class Batch(Protocol):
    """Controllers of one structure with their memory, one per lane."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""

    def step(self, fleet: Fleet) -> Orders:
        """Decide in every lane, and remember what is needed for the next decision."""

    def take(self, lanes: Integers) -> Self:
        """Return the same controllers, with all that they remember, for some lanes; one may come twice."""

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of these controllers, then those of others, which came from them by `take`."""


@lru_cache
def key_of(signal: str, role: str) -> Key:
    """Return the reading of a pool's signal; ``signal@role`` is a reading of another pool."""
    name, _, owner = signal.partition("@")
    return name, owner or role


def round_up(instances: Floats) -> Floats:
    """Return the least whole numbers that are enough; float noise adds none. NaN stays NaN."""
    return np.ceil(instances * (1.0 - ROUNDING))


class PerLane:
    """Something whose arrays have one value a lane, the lane as their last axis."""

    def take(self, lanes: Integers) -> Self:
        """Return the same for some lanes; one may come twice, and nothing is shared with the original."""
        taken = copy.copy(self)
        for name, value in vars(self).items():
            object.__setattr__(taken, name, _taken(value, lanes))
        return taken

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of this one, then those of others, which differ from it in values alone."""
        joined = copy.copy(self)
        for name, value in vars(self).items():
            object.__setattr__(joined, name, _beside([value, *(vars(other)[name] for other in others)]))
        return joined


def _taken(value: Any, lanes: Integers) -> Any:
    if isinstance(value, np.ndarray):
        return np.take(value, lanes, axis=-1)  # rows stay rows in memory
    if callable(getattr(value, "take", None)):
        return value.take(lanes)
    if isinstance(value, dict):
        return {key: _taken(one, lanes) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_taken(one, lanes) for one in value)
    return value


def _beside(values: Sequence[Any]) -> Any:
    """Return values of several, the lanes of the first in front; what has no lanes is that of the first."""
    first = values[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(values, axis=-1)
    if callable(getattr(first, "beside", None)):
        return first.beside(values[1:])
    if isinstance(first, dict):
        return {key: _beside([one[key] for one in values]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(_beside(column) for column in zip(*values, strict=True))
    return first


class ByLane(PerLane):
    """Widths of a reading, a set of them a lane: what is read once for each distinct set.

    Parameters
    ----------
    widths
        Parameters of the reading [s], shape (lanes,) each.
    """

    def __init__(self, *widths: Sequence[float]) -> None:
        sets = list(zip(*widths, strict=True))
        self.distinct = tuple(dict.fromkeys(sets))
        self.lanes_of = tuple(np.array([one == found for one in sets]) for found in self.distinct)

    @property
    def longest_s(self) -> float:
        """The longest sum of a set [s]."""
        return float(max(map(sum, self.distinct)))

    def read(self, read: Callable[..., Floats]) -> Floats:
        """Return what ``read`` answers for all lanes to the widths of each lane. Shape (lanes,)."""
        found = read(*self.distinct[0])
        for widths, own in zip(self.distinct[1:], self.lanes_of[1:], strict=True):
            found = np.where(own, read(*widths), found)
        return found


def decisions(window_s: float, sync_s: float) -> int:
    """Return how many decisions lie in a row."""
    return max(1, round(window_s / sync_s))


def documented(unit: str, source: str) -> dict[str, str]:
    """Return the metadata of a parameter's field: its unit and where its default is documented."""
    return {"unit": unit, "source": source}

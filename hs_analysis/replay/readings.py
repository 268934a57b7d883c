"""What a controller could have scraped at counts that were never run: one value a signal, row and lane.

A controller looks more often than once a row, at ranges that end within it. How a row came is not recorded.
It is drawn: its parts are independent but for their sum, and differ by the noise of counting that the history
shows from row to row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np

from hs_analysis.controllers.lanes import ROUNDING, Scraped, some
from hs_analysis.replay.demand import DemandTrace, Key, rows_of
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.queue_attribution import waits_of
from hs_analysis.replay.signals import (
    UNKNOWN,
    Quantile,
    SignalModel,
    factors,
    kept_ratio,
    quantile_of,
    waited,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask

SAME_FLOAT = 1e-9
"""Part of a row's sum or mean by which its steps differ from it in floating point [ratio]."""

BUILT_IN = ("queued_tokens",)
"""Readings of the simulated pool itself: work waiting [tokens]; a front end or engine can export it."""

Row = int | Integers
"""A row of the demand that all lanes are at, or the row that each lane is at, shape (lanes,)."""

OFFERED = ("request_rate", "offered_tps", "offered_tps_trailing")
"""Recorded columns that rise with the demand when a fault raises it."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A completed row, shape (lanes,) per pool: tokens served and left in the queue, instances ready (mean).

    ``wait`` is the mean age of the backlog [s]; ``factor`` what a fault makes of the demand [ratio];
    ``altered`` whether it does.
    """

    served: Mapping[str, Floats]
    queued: Mapping[str, Floats]
    ready: Mapping[str, Floats]
    wait: Mapping[str, Floats]
    factor: Floats
    altered: Mask


class SameState:
    """Follows row by row in which lanes a pool is in the state that was recorded (``same``).

    Work and counts that are the same leave the same queues: such a pool reads what was recorded, latencies
    and waits included. A pool is in that state from the first row on, loses it in a row with another count,
    and gets it back after a row in which nothing waited, here or there (``calm``). A decode pool also needs
    its work as it came then: from a prefill pool that is in its recorded state or calm. A gap ends both, and
    so does a row whose demand is altered. Shape (lanes,) per pool.
    """

    def __init__(self, demand: DemandTrace, lanes: int) -> None:
        self.counts = {role: demand.column("instances", role) for role in demand.offered}
        self.waited = {role: waited(demand, role) for role in demand.offered}
        self.same = {role: np.ones(lanes, bool) for role in demand.offered}
        self.calm = {role: np.ones(lanes, bool) for role in demand.offered}

    def see(self, row: Row, passed: Passed) -> None:
        """Take in the completed row."""
        usual = ~passed.altered
        for role, counts in self.counts.items():
            ready = passed.ready[role]
            ran = (ready > 0) & (np.abs(ready - counts[row]) <= SAME_FLOAT * ready) & usual
            self.same[role] = ran & (self.same[role] | self.calm[role])
            self.calm[role] = (passed.wait[role] == 0) & usual & ~self.waited[role][row]
        if "decode" in self.same and "prefill" in self.same:
            self.same["decode"] = self.same["decode"] & self.undisturbed("prefill")

    def undisturbed(self, role: str) -> Mask:
        """Say whether what a pool hands on came as it was recorded."""
        return self.same[role] | self.calm[role]

    def take(self, lanes: Integers) -> Self:
        """Return the states of some lanes."""
        other = copy(self)
        other.same = {role: flags[lanes] for role, flags in self.same.items()}
        other.calm = {role: flags[lanes] for role, flags in self.calm.items()}
        return other

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the states of the lanes of this one, then of others on the same demand."""
        joined = copy(self)
        for name in ("same", "calm"):
            parts = [getattr(one, name) for one in (self, *others)]
            setattr(joined, name, {role: np.concatenate([one[role] for one in parts]) for role in self.same})
        return joined


class LastRows:
    """The last rows of a series, of every lane; as many as ``depth``, NaN before the first one.

    Each row is written twice, so that the last rows are always one block. ``before`` are the rows before the
    first one, shape (rows,) or (rows, lanes). Of several ``series``, all have one more axis in front.
    """

    def __init__(
        self, depth: int, lanes: int, before: Floats | None = None, series: tuple[int, ...] = ()
    ) -> None:
        self.depth, self.next = depth, 0
        self.rows = np.full((*series, 2 * depth, lanes), math.nan)
        for value in () if before is None else np.moveaxis(before, len(series), 0)[-depth:]:
            self.add(value)

    def add(self, values: Floats | float) -> None:
        """Add the newest row."""
        self.rows[..., self.next, :] = self.rows[..., self.next + self.depth, :] = values
        self.next = (self.next + 1) % self.depth

    def last(self) -> Floats:
        """Return the last rows, oldest first, shape (depth, lanes); not to be changed."""
        found: Floats = self.rows[..., self.next : self.next + self.depth, :]
        return found

    def take(self, lanes: Integers) -> Self:
        """Return the history of some lanes."""
        other = copy(self)
        other.rows = np.take(self.rows, lanes, axis=-1)
        return other

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the histories of the lanes of this one, then of others, by their age."""
        joined = copy(self)
        last = np.concatenate([one.last() for one in (self, *others)], axis=-1)
        joined.next, joined.rows = 0, np.concatenate([last, last], axis=-2)
        return joined


class Slots:
    """What the controllers of a batch scraped: per slot the last rows of each of its lanes.

    Parameters
    ----------
    held
        Per slot the number of the reading that it holds in each lane.
    depth
        How many rows are kept.
    before
        What each reading was in the rows before the first one, shape (rows,) each.
    noise
        Variance ÷ mean of a row of each reading; NaN for one that does not change within a row.
    parts
        Of how many parts a row is made.
    """

    def __init__(
        self, held: Mapping[Key, Integers], depth: int, before: Sequence[Floats], window_s: float,
        noise: Floats, parts: int,
    ) -> None:  # fmt: skip
        self.depth, self.window_s, self.slots = depth, window_s, tuple(held)
        self.numbers = np.stack(list(held.values())) if held else np.zeros((0, 0), np.int64)
        rows = np.stack(before)[self.numbers].swapaxes(1, 2) if held else None
        self.scraped = LastRows(depth, self.numbers.shape[1], rows, self.numbers.shape[:1])
        self.noise = np.nan_to_num(noise)[self.numbers]
        self.uneven = LastRows(depth, self.numbers.shape[1], series=(len(self.slots), parts - 1))

    @property
    def held(self) -> dict[Key, Integers]:
        """Per slot the number of the reading that it holds in each lane."""
        return dict(zip(self.slots, self.numbers, strict=True))

    def of(self, table: Floats) -> Floats:
        """Return what the slots hold of a row of all readings, shape (keys, lanes of the batch).

        Shape (slots, lanes).
        """
        held: Floats = table[self.numbers, np.arange(self.numbers.shape[1])]
        return held

    def add(self, scraped: Floats, true: Floats, uneven: Floats) -> None:
        """Take in a row: what was scraped and what was true, shape (slots, lanes), and how the row came.

        ``uneven`` is a row of `uneven_parts`, shape (parts − 1, lanes or 1). A value that is not the true one
        comes evenly.
        """
        self.scraped.add(scraped)
        known = (scraped == true) & np.isfinite(scraped)
        spread = np.sqrt(np.maximum(self.noise * np.where(known, scraped, 0.0), 0.0))
        self.uneven.add(spread[:, None] * uneven)

    def seen(self) -> Scraped:
        """Return what the controllers may look at."""
        values, uneven = (
            dict(zip(self.slots, kept.last(), strict=True)) for kept in (self.scraped, self.uneven)
        )
        return Scraped(self.window_s, values, uneven)

    def take(self, lanes: Integers) -> Self:
        """Return what some lanes scraped."""
        other = copy(self)
        if self.slots:
            other.numbers, other.noise = self.numbers[:, lanes], self.noise[:, lanes]
            other.scraped, other.uneven = self.scraped.take(lanes), self.uneven.take(lanes)
        return other

    def beside(self, others: Sequence[Self]) -> Self:
        """Return what the lanes of this one scraped, then those of others."""
        joined = copy(self)
        joined.numbers = np.concatenate([one.numbers for one in (self, *others)], axis=1)
        joined.noise = np.concatenate([one.noise for one in (self, *others)], axis=1)
        joined.scraped = self.scraped.beside([one.scraped for one in others])
        joined.uneven = self.uneven.beside([one.uneven for one in others])
        return joined


class Readings:
    """What signals read in every lane of a run, row by row.

    Parameters
    ----------
    keys
        Readings (signal, role), each once.
    depth
        Rows for which it is kept which instances reported.
    demand, model
        What was recorded, and how signals answer.
    lanes
        How many.
    """

    def __init__(
        self, keys: Sequence[Key], depth: int, demand: DemandTrace, model: FleetModel, lanes: int
    ) -> None:
        self.demand, self.window_s, self.keys = demand, demand.window_s, tuple(keys)
        self.at = {key: read_from(key, model) or (key[0], "service") for key in self.keys}
        self.columns = {key: demand.column(*at) for key, at in self.at.items()}
        self.models = {key: model.signals.get(at) for key, at in self.at.items()}
        self.factors = {
            key: factors(signal, self.at[key], demand)
            for key, signal in self.models.items()
            if signal is not None and signal.kind == "served"
        }
        self.kept = {
            key: kept_ratio(signal, self.at[key], demand)
            for key, signal in self.models.items()
            if signal is not None
        }
        for key, factor in self.factors.items():
            self.kept[key] = np.where(np.isnan(self.kept[key]), factor, self.kept[key])
        self.waits = {
            key: waits_of(model.waits, _latency(at[0]), at[1], demand.offered) for key, at in self.at.items()
        }
        self.holds = {key: self._held(key) for key in self.keys}
        self.quantiles = {key: asked for key in self.keys if (asked := quantile_of(key[0]))}
        self.off = {key: np.full(lanes, -1) for key in self.quantiles}
        self.was_altered = np.zeros(lanes, bool)
        longest = max((rows_of(q.range_s, demand.window_s) for q in self.quantiles.values()), default=0)
        self.past = {
            (name, role): LastRows(longest, lanes)
            for role in (demand.offered if longest else ())
            for name in ("served", "ready", "wait")
        }
        self.reporting = {
            role: LastRows(depth, lanes, demand.past("instances", role)) for role in demand.offered
        }

    @property
    def noise(self) -> Floats:
        """Variance ÷ mean of a row of each reading, NaN where it is not known. Shape (keys,)."""
        return np.array([one.noise if (one := self.models[key]) else math.nan for key in self.keys])

    @property
    def reach_rows(self) -> int:
        """How many rows back a reading looks at what passed in a lane, at least one."""
        return max((past.depth for past in self.past.values()), default=1)

    def read(self, row: Row, passed: Passed, state: SameState) -> Floats:
        """Return what each signal reads in a completed row, NaN where it was not there.

        Shape (keys, lanes).
        """
        for (name, role), past in self.past.items():
            past.add(getattr(passed, name)[role])
        for role, counts in self.reporting.items():
            counts.add(passed.ready[role])
        usual = ~(passed.altered | self.was_altered)
        came = {role: rate[row] * self.window_s * passed.factor for role, rate in self.demand.offered.items()}
        kept = {role: usual & is_passed(passed.served[role], work) for role, work in came.items()}
        found = np.empty((len(self.keys), passed.factor.size))
        with np.errstate(invalid="ignore", divide="ignore"):  # where no instance is ready
            for number, key in enumerate(self.keys):
                found[number] = self._reading(key, row, passed, state, kept)
        self.was_altered = passed.altered
        return found

    def take(self, lanes: Integers) -> Self:
        """Return the readings of some lanes."""
        other = copy(self)
        other.was_altered = self.was_altered[lanes]
        other.off = {key: rows[lanes] for key, rows in self.off.items()}
        for name in ("past", "reporting"):
            setattr(other, name, {key: one.take(lanes) for key, one in getattr(self, name).items()})
        return other

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the readings of the lanes of this one, then of others on the same demand."""
        joined = copy(self)
        every = (self, *others)
        joined.was_altered = np.concatenate([one.was_altered for one in every])
        joined.off = {key: np.concatenate([one.off[key] for one in every]) for key in self.off}
        for name in ("past", "reporting"):
            mine = getattr(self, name)
            found = {key: one.beside([getattr(o, name)[key] for o in others]) for key, one in mine.items()}
            setattr(joined, name, found)
        return joined

    def _reading(
        self, key: Key, row: Row, passed: Passed, state: SameState, kept: Mapping[str, Mask]
    ) -> Floats | float:
        """Return what one signal reads; ``kept`` per pool: lanes in which all that came was served."""
        model = self.models[key]
        if model is None and key[0] in BUILT_IN:
            return passed.queued.get(key[1], math.nan)
        recorded = self.columns[key][row]
        unknown = recorded != recorded  # NaN, of a number as of an array
        if model is None or (isinstance(row, int) and unknown):
            return math.nan
        if self.at[key][0] in OFFERED:
            recorded = recorded * passed.factor
        if model.kind == "quantile":
            return self._quantile(key, model, row, recorded, state)
        if model.kind == "recorded":
            return recorded
        same = self._as_it_was(key, model, state)
        if not isinstance(row, int):
            same = same | unknown
        if not some(~same):
            return recorded
        return np.where(same, recorded, self._elsewhere(key, model, row, passed, kept[model.pool]))

    def _elsewhere(self, key: Key, model: SignalModel, row: Row, passed: Passed, kept: Mask) -> Floats:
        """Return what a signal reads where its pool is not as it was recorded."""
        rate = passed.served[model.pool] / self.window_s
        if model.kind == "served":
            found: Floats = rate * np.where(kept, self.kept[key][row], self.factors[key][row])
            return found
        ready, ratio = passed.ready[model.pool], self.kept[key][row]
        value = np.interp(rate / ready, model.loads, model.values)
        if model.per_instance:
            value = value * ready
        if model.kind == "queue" and model.tokens_per_request:
            value = value + passed.queued[model.pool] / model.tokens_per_request
        told = ratio == ratio  # no NaN, of a number as of an array
        if not isinstance(row, int) or told:
            value = np.where(kept & told, value * ratio, value)
        for role, tokens in model.waits:
            value = value + passed.queued[role] / tokens
        for role, share in self.waits[key].items():
            if role in passed.wait:
                value = value + share * passed.wait[role]
        serves = ready > 0
        return np.where(serves, value, math.nan) if some(~serves) else value

    def _quantile(
        self, key: Key, model: SignalModel, row: Row, recorded: Floats | float, state: SameState
    ) -> Floats | float:
        """Return a quantile over its range: as recorded where all its rows were so, else of their load.

        Nothing that the history never showed is read: above its highest load per instance, while nothing
        waits, the value is unknown.
        """
        asked = self.quantiles[key]
        rows = min(rows_of(asked.range_s, self.window_s), int(np.min(row)) + 1)
        unknown = np.isnan(recorded)
        self.off[key] = np.where(self._as_it_was(key, model, state) | unknown, self.off[key], row)
        gone = self.off[key] <= row - rows
        if not some(~gone):
            return recorded
        ready = self.past["ready", model.pool].last()[-rows:]
        served = self.past["served", model.pool].last()[-rows:]
        loads = np.where(ready > 0, served / self.window_s / ready, math.nan)
        known = ~np.isnan(loads)
        count = known.sum(axis=0)
        load = np.where(known, loads, 0.0).sum(axis=0) / np.maximum(count, 1)
        waited_s = self._waited(key, asked, rows, load.size)
        value = np.interp(load, model.loads, model.values) + waited_s
        value = np.where((load > model.known_to * (1.0 + SAME_FLOAT)) & ~(waited_s > 0), UNKNOWN, value)
        value = np.where(count > 0, value, math.nan)
        return np.where(gone | unknown, recorded, value)

    def _waited(self, key: Key, asked: Quantile, rows: int, lanes: int) -> Floats:
        """Return what the waits of the last rows add to a quantile over them [s]: requests wait alike."""
        total = np.zeros((rows, lanes))
        for role, share in self.waits[key].items():
            if ("wait", role) in self.past:
                total += share * np.nan_to_num(self.past["wait", role].last()[-rows:])
        if not some(total != 0.0):
            return np.zeros(lanes)
        total.sort(axis=0)
        found: Floats = total[max(0, math.ceil(asked.share * rows * (1.0 - ROUNDING)) - 1)]
        return found

    def _held(self, key: Key) -> tuple[str, ...]:
        """Return the pools whose waits a signal holds, beside the one whose load it follows."""
        model = self.models[key]
        if model is None:
            return ()
        held = {*self.waits[key], *(role for role, _ in model.waits)} - {model.pool}
        return tuple(sorted(held & set(self.demand.offered)))

    def _as_it_was(self, key: Key, model: SignalModel, state: SameState) -> Mask:
        """Whether a signal reads what was recorded: its pool is as it was, and what else it holds came so."""
        same = state.same.get(model.pool)
        if same is None:
            return np.zeros(self.was_altered.size, bool)
        for role in self.holds[key]:
            same = same & state.undisturbed(role)
        return same


def read_from(key: Key, model: FleetModel) -> Key | None:
    """Return whose column a reading is: the pool's own, else the service's; None where nothing models it."""
    return next((at for at in (key, (key[0], "service")) if at in model.signals), None)


def uneven_parts(rows: int, parts: int, seed: int) -> Floats:
    """Draw how rows come in parts, in units of the standard deviation of what a row brings.

    Parts of a row are independent and equal in law, and their sum is that of the row. Returned is by how much
    the sum up to the end of each part but the last is above its even share: a Brownian bridge at those times,
    of variance j · (parts − j) ÷ parts².

    Shape (rows, parts − 1).
    """
    drawn = np.random.default_rng(seed).standard_normal((rows, parts)) / math.sqrt(parts)
    drawn -= drawn.mean(axis=1, keepdims=True)
    return drawn.cumsum(axis=1)[:, :-1]


def is_passed(served: Floats, offered: Floats) -> Mask:
    """Say whether a pool served in a row what came in it: nothing waited, before or after [tokens]."""
    same: Mask = np.abs(served - offered) <= SAME_FLOAT * offered
    return same


def _latency(signal: str) -> str:
    """Return the latency that a signal is, or is a quantile of."""
    asked = quantile_of(signal)
    return asked.latency if asked else signal

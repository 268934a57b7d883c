"""What a Prometheus keeps of the pools at work, and what its queries answer while they work.

Every target is scraped at an offset of its own, a whole second; a GPU is read by its collector at a phase of
its own and repeats the last reading in between An engine is there from the
moment it takes requests until it is closed and empty; one that dies is gone at once. Readings of GPUs are
kept without the exporter's noise and rounding, which pools of several instances average away.

A query is answered as of a moment e from the samples in (e − range, e], as in Prometheus 3:

* `rate`: the increase with resets found, extrapolated to the ends of the range but no further than half a
  sampling interval beyond the first and last sample where those are farther from the ends than 1.1 of it, and
  never below zero at the beginning (promql/functions.go, extrapolatedRate);
* `mean`, `highest`: over the samples of each instance;
* both summed or averaged over the instances that have an answer; None where none has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.batching import Records, compiled, entry
from simulator.measures import Looks
from simulator.readings import DECODE_UTIL, IDLE_SM, PREFILL_KV_TOKENS, SM_FULL, SM_SEQUENCES, SM_WEIGHTS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Pooling = Literal["sum", "avg"]

PROMPT, MISSED, TOKENS, REQUESTS = range(4)
RUNNING, WAITING, KV, GPU, ACTIVE, INSIDE = range(4, 10)
COUNTED, KEPT = 4, 10
"""What a sample of an instance holds: counters of prompt and missed tokens as of first tokens, of generated
tokens and of requests; levels of the engine, the last readings of its GPUs, and the missed tokens that the
router gave it and that are not prefilled yet."""

BUSY, SEEN, UTIL, SM, CARRIED = range(4, 9)
"""What is carried from look to look beside the counters: seconds that GPUs were busy (decode: that their SMs
were), as of now and of the last reading; that reading; and how many these are."""

STARTED, FIRSTS, TTFT, GAPS, GAP, ASKED, CACHED, FRONT = range(8)
"""What the front end counts: requests started, first tokens and their latencies, gaps between tokens and
their lengths [s], prompt tokens at first tokens and cached ones at the end of requests; and how many these
are."""

LATENCIES = {"ttft": (TTFT, FIRSTS), "tbt": (GAP, GAPS)}

PASSING = {
    "request_rate": (STARTED,), "passing_prompt_tps": (ASKED,), "passing_cached_tps": (CACHED,),
    "passing_output_tps": (FIRSTS, GAPS),
}  # fmt: skip
"""The counters of the front end whose rates add up to a signal."""

COUNTERS = {"prefill_tps": PROMPT, "prefill_tps_effective": MISSED, "decode_tps": TOKENS}
"""The counter whose rate a signal is; a decode instance's prompt tokens are not kept."""

GAUGES = {
    "running": RUNNING, "queue_length": WAITING, "kv_usage": KV, "gpu_util": GPU, "sm_activity": ACTIVE,
    "in_flight_tokens": INSIDE,
}  # fmt: skip

FARTHEST = 1.1
"""How far an end of a range may lie from the next sample and still be reached [sampling intervals]."""


@dataclass
class _Targets:
    """The instances of a pool as scrape targets, changed in place.

    Attributes
    ----------
    age_s, phase_s
        How long before each point of the grid they are scraped, and when in its interval their GPUs are read;
        whole seconds, shape (instances,).
    kept
        The samples, shape (instances, points, `KEPT`); NaN = none.
    carried
        What is carried from look to look, shape (instances, `CARRIED`).
    reset
        What the counters had counted when they last restarted, shape (instances, `COUNTED`).
    """

    age_s: Integers
    phase_s: Integers
    kept: Floats
    carried: Floats
    reset: Floats


@dataclass(frozen=True)
class Passed:
    """What passed the front end in some seconds.

    Attributes
    ----------
    started_s
        Moments at which requests came [s].
    first_s, ttft_s
        Moments of first tokens, and how long they took [s].
    joined_s, handed_s
        Moments at which sequences joined a decode batch, and how long that took since the first token [s].
    tokens, gaps_s
        Tokens of each second, and the sum of the gaps before them [s].
    prompt
        Prompt tokens of the requests whose first token came.
    ended_s, cached
        Moments at which requests ended [s], and their cached prompt tokens.
    """

    started_s: Floats
    first_s: Floats
    ttft_s: Floats
    joined_s: Floats
    handed_s: Floats
    tokens: Floats
    gaps_s: Floats
    prompt: Floats
    ended_s: Floats
    cached: Floats

    def until(self, moment: int, from_s: int) -> Floats:
        """Return what the front end has counted up to a moment, shape (`FRONT`,)."""
        first, joined = self.first_s <= moment, self.joined_s <= moment
        seconds = slice(0, moment - from_s)
        return np.array(
            [
                (self.started_s <= moment).sum(), first.sum(), self.ttft_s[first].sum(),
                self.tokens[seconds].sum(), self.gaps_s[seconds].sum() + self.handed_s[joined].sum(),
                self.prompt[first].sum(), self.cached[self.ended_s <= moment].sum(),
            ],
            float,
        )  # fmt: skip


@dataclass
class Prometheus:
    """A Prometheus that scrapes the pools while they work.

    Attributes
    ----------
    looks
        Intervals of scrapes and of the collector of GPU metrics [s].
    hours
        How long it runs.
    rng
        Source of the offsets.
    front_s
        The front end's offset [s].
    """

    looks: Looks
    hours: float
    rng: np.random.Generator
    front_s: int = field(init=False)
    targets: dict[str, _Targets] = field(init=False)
    front: Floats = field(init=False)
    _passed: Floats = field(init=False)
    _reset: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Draw the front end's offset; no target is known yet."""
        self.front_s = int(self.rng.integers(self.looks.scrape_s))
        points = round(self.hours * 3600.0) // self.looks.scrape_s + 2
        empty = np.zeros(0, np.int64)
        self.targets = {
            role: _Targets(
                empty, empty, np.zeros((0, points, KEPT)), np.zeros((0, CARRIED)), np.zeros((0, COUNTED))
            )
            for role in ("prefill", "decode")
        }  # fmt: skip
        self.front = np.full((points, FRONT), np.nan)
        self._passed, self._reset = np.zeros(FRONT), np.zeros(FRONT)

    def of(self, role: str, instances: int) -> _Targets:
        """Return the targets of the instances there have been, drawing the offsets of new ones."""
        known = self.targets[role]
        more = instances - known.age_s.size
        if more > 0:
            ages, phases = (self.rng.integers(high, size=more) for high in vars(self.looks).values())
            known.age_s, known.phase_s = np.r_[known.age_s, ages], np.r_[known.phase_s, phases]
            unknown = np.full((more, known.kept.shape[1], KEPT), np.nan)
            known.kept = np.concatenate([known.kept, unknown])
            known.carried = np.concatenate([known.carried, np.zeros((more, CARRIED))])
            known.reset = np.concatenate([known.reset, np.zeros((more, COUNTED))])
        return known

    def silence(self, from_s: int, to_s: int) -> None:
        """Forget what was scraped in [from, to), as if nothing had been."""
        for one in self.targets.values():
            moments = self._moments(one.age_s[:, None])
            one.kept[(moments >= from_s) & (moments < to_s)] = np.nan
        moments = self._moments(np.array([self.front_s]))
        self.front[(moments >= from_s) & (moments < to_s)] = np.nan

    def restart_counters(self, from_s: int, to_s: int) -> None:
        """Let each target's counters begin at zero with its first scrape in (from, to], which is lost."""
        every = self.looks.scrape_s
        for one in self.targets.values():
            _restart(one.kept, one.reset, one.age_s, from_s, to_s, every, COUNTED)
        for moment in _grid(self.front_s, from_s, to_s, every)[:1]:
            point = (moment + self.front_s) // every
            self._reset += np.nan_to_num(self.front[point])
            self.front[point] = np.nan

    def scrape_front(self, passed: Passed, from_s: int, to_s: int) -> None:
        """Scrape the front end in (from, to], in which something has passed it."""
        every = self.looks.scrape_s
        for moment in _grid(self.front_s, from_s, to_s, every):
            counted = self._passed + passed.until(moment, from_s)
            self.front[(moment + self.front_s) // every] = counted - self._reset
        self._passed = self._passed + passed.until(to_s, from_s)

    def scrape_prefill(
        self, servers: Records, there: Integers, columns: tuple[Any, ...], from_s: int, to_s: int
    ) -> Integers:
        """Scrape the prefill instances in (from, to]; return the requests that are still there.

        Parameters
        ----------
        servers
            All instances there have been.
        there
            Requests that were sent to an instance and had not left it at `from_s`.
        columns
            Per request of the history: instance, reached the pool, computation began, gave its first token,
            was fetched [s], prompt and missed tokens.
        """
        one = self.of("prefill", servers.size)
        left = np.empty(there.size, np.int64)
        count = _scrape_prefill(
            one.kept, one.carried, one.reset, one.age_s, one.phase_s, servers, there, columns, left,
            (from_s, to_s, self.looks.scrape_s, self.looks.collect_s),
        )  # fmt: skip
        return left[:count]

    def scrape_decode(
        self, block: Floats, law: tuple[float, float, float, float, float], from_s: int
    ) -> None:
        """Scrape the decode instances in the seconds of a block.

        Parameters
        ----------
        block
            The seconds from `from_s` on, NaN where an instance was not there; shape (instances, seconds,
            `batching.COLUMNS`).
        law
            Step time: s, s per sequence, s per held token, least s per sequence; memory of an instance
            [tokens].
        """
        one = self.of("decode", block.shape[0])
        _scrape_decode(
            one.kept, one.carried, one.reset, one.age_s, one.phase_s, block, law,
            (from_s, self.looks.scrape_s, self.looks.collect_s),
        )  # fmt: skip

    def rate(
        self, signal: str, role: str, range_s: float, at_s: float, pooled: Pooling = "sum"
    ) -> float | None:
        """Return the rate of a signal's counter over a range that ends at a moment [1/s].

        Parameters
        ----------
        signal
            One of `COUNTERS`, or of `PASSING`.
        role
            Whose counters: prefill or decode; any for those of the front end.
        range_s, at_s
            The range, and its end [s since the start].
        pooled
            Sum or mean over instances.
        """
        every = self.looks.scrape_s
        if signal in PASSING:
            rates = [self._front_rate(row, range_s, at_s) for row in PASSING[signal]]
            return None if None in rates else sum(rate for rate in rates if rate is not None)
        one = self.targets[role]
        rows = one.kept[:, :, COUNTERS[signal]]
        return _rate(rows, one.age_s, every, float(range_s), float(at_s), pooled == "avg")

    def latency(self, signal: str, range_s: float, at_s: float) -> float | None:
        """Return the mean latency that the front end has seen [s]: ttft or tbt; arguments as `rate`.

        The rate of its sum ÷ the rate of its count, None where nothing was counted.
        """
        total, count = LATENCIES[signal]
        spent, counted = (self._front_rate(row, range_s, at_s) for row in (total, count))
        return spent / counted if spent is not None and counted else None

    def _front_rate(self, row: int, range_s: float, at_s: float) -> float | None:
        ages = np.array([self.front_s])
        rows = self.front[None, :, row]
        return _rate(rows, ages, self.looks.scrape_s, float(range_s), float(at_s), average=False)

    def mean(
        self, signal: str, role: str, range_s: float, at_s: float, pooled: Pooling = "sum"
    ) -> float | None:
        """Return a gauge's mean over a range, summed or averaged over instances; arguments as `rate`."""
        one = self.targets[role]
        rows, avg = one.kept[:, :, GAUGES[signal]], pooled == "avg"
        return _level(rows, one.age_s, self.looks.scrape_s, float(range_s), float(at_s), avg, False)

    def highest(
        self, signal: str, role: str, range_s: float, at_s: float, pooled: Pooling = "sum"
    ) -> float | None:
        """Return each instance's highest sample in a range, summed or averaged; arguments as `rate`."""
        one = self.targets[role]
        rows, avg = one.kept[:, :, GAUGES[signal]], pooled == "avg"
        return _level(rows, one.age_s, self.looks.scrape_s, float(range_s), float(at_s), avg, True)

    def _moments(self, ages: Integers) -> Integers:
        """Return when the point of each column was scraped, by age; shape (ages, points)."""
        return np.arange(len(self.front)) * self.looks.scrape_s - ages


def _grid(age_s: int, from_s: int, to_s: int, every_s: int) -> range:
    """Return when a target is scraped in (from, to]."""
    return range(from_s + 1 + (-age_s - from_s - 1) % every_s, to_s + 1, every_s)


@compiled
def _first_after(moment: int, age: int, every: int) -> int:
    """Return the first second after a moment at which a target of some age or phase is met."""
    return moment + 1 + (-age - moment - 1) % every


@compiled
def _read_prefill(
    carried: Floats, n: int, there: Integers, columns: tuple[Any, ...], read: int, collect: int, opened: bool
) -> None:
    """Let the collector read the GPUs of a prefill instance."""
    life, start, first = columns[0], columns[2], columns[3]
    busy = before = carried[n, BUSY]
    for k in range(there.size):
        r = there[k]
        if life[r] == n:
            busy += max(0.0, min(first[r], read) - start[r])
            before += max(0.0, min(first[r], read - 1.0) - start[r])
    if opened:
        carried[n, UTIL] = busy - before
        carried[n, SM] = max(SM_FULL * (busy - carried[n, SEEN]) / collect, IDLE_SM)
    carried[n, SEEN] = busy


@compiled
def _sample_prefill(
    sample: Floats, carried: Floats, n: int, there: Integers, columns: tuple[Any, ...], moment: int
) -> None:
    """Fill the samples of a prefill instance, counters as if they had never been reset."""
    life, reach, start, first, fetched, prompt, missed = columns
    for row in range(sample.size):
        sample[row] = carried[n, row] if row < COUNTED else 0.0
    for k in range(there.size):
        r = there[k]
        if life[r] != n:
            continue
        if first[r] <= moment:
            sample[PROMPT] += prompt[r]
            sample[MISSED] += missed[r]
            sample[TOKENS] += 1.0
            sample[REQUESTS] += 1.0
        elif start[r] <= moment:
            sample[RUNNING] += 1.0
        elif reach[r] <= moment:
            sample[WAITING] += 1.0
        if reach[r] <= moment < first[r]:
            sample[INSIDE] += missed[r]
        if start[r] <= moment < fetched[r]:
            sample[KV] += prompt[r] / PREFILL_KV_TOKENS
    sample[KV] = min(1.0, sample[KV])
    sample[GPU], sample[ACTIVE] = carried[n, UTIL], carried[n, SM]


@compiled
def _leave(carried: Floats, there: Integers, columns: tuple[Any, ...], until: int, left: Integers) -> int:
    """Book the requests that have left their instance, and keep the others."""
    life, start, first, fetched, prompt, missed = (
        columns[0], columns[2], columns[3], columns[4], columns[5], columns[6],
    )  # fmt: skip
    count = 0
    for k in range(there.size):
        r = there[k]
        if fetched[r] > until:
            left[count] = r
            count += 1
            continue
        n = life[r]
        carried[n, PROMPT] += prompt[r]
        carried[n, MISSED] += missed[r]
        carried[n, TOKENS] += 1.0
        carried[n, REQUESTS] += 1.0
        carried[n, BUSY] += first[r] - start[r]
    return count


@entry
def _scrape_prefill(
    kept: Floats, carried: Floats, reset: Floats, age: Integers, phase: Integers, servers: Records,
    there: Integers, columns: tuple[Any, ...], left: Integers, times: tuple[int, int, int, int],
) -> int:  # fmt: skip
    """Do what `Prometheus.scrape_prefill` says."""
    since, until, every, collect = times
    for n in range(servers.size):
        one = servers[n]
        if one.closes <= since and one.free <= since:
            continue
        read = _first_after(since, -phase[n], collect)
        for moment in range(_first_after(since, age[n], every), until + 1, every):
            while read <= moment:
                _read_prefill(carried, n, there, columns, read, collect, read > one.opens)
                read += collect
            if moment < one.opens or (one.closes <= moment and one.free <= moment):
                continue
            point = (moment + age[n]) // every
            _sample_prefill(kept[n, point], carried, n, there, columns, moment)
            for row in range(COUNTED):
                kept[n, point, row] -= reset[n, row]
        while read <= until:
            _read_prefill(carried, n, there, columns, read, collect, read > one.opens)
            read += collect
    return _leave(carried, there, columns, until, left)


@entry
def _scrape_decode(
    kept: Floats, carried: Floats, reset: Floats, age: Integers, phase: Integers, block: Floats,
    law: tuple[float, float, float, float, float], times: tuple[int, int, int],
) -> None:  # fmt: skip
    """Do what `Prometheus.scrape_decode` says."""
    since, every, collect = times
    for n in range(block.shape[0]):
        for k in range(block.shape[1]):
            second, end = block[n, k], since + k + 1
            if np.isnan(second[0]):
                continue
            carried[n, TOKENS] += second[2]
            sequences = max(law[1] * second[0] + law[2] * second[4], law[3] * second[0] - law[0])
            full = (SM_WEIGHTS * law[0] + SM_SEQUENCES * sequences) / (law[0] + sequences)
            carried[n, BUSY] += full if second[5] > 0 else IDLE_SM
            if (end - phase[n]) % collect == 0:
                carried[n, UTIL] = DECODE_UTIL * second[5]
                carried[n, SM] = (carried[n, BUSY] - carried[n, SEEN]) / collect
                carried[n, SEEN] = carried[n, BUSY]
            if (end + age[n]) % every == 0:
                sample = kept[n, (end + age[n]) // every]
                sample[:] = 0.0
                sample[TOKENS] = np.floor(carried[n, TOKENS] + 1e-6) - reset[n, TOKENS]
                sample[RUNNING], sample[WAITING] = second[0], second[1]
                sample[KV] = min(1.0, second[4] / law[4])
                sample[GPU], sample[ACTIVE] = carried[n, UTIL], carried[n, SM]


@entry
def _restart(
    kept: Floats, reset: Floats, age: Integers, since: int, until: int, every: int, counters: int
) -> None:
    """Do what `Prometheus.restart_counters` says."""
    for n in range(age.size):
        moment = _first_after(since, age[n], every)
        if moment > until:
            continue
        sample = kept[n, (moment + age[n]) // every]
        for row in range(counters):
            if not np.isnan(sample[row]):
                reset[n, row] += sample[row]
        sample[:] = np.nan


@compiled
def _points(age: int, every: int, range_s: float, at: float) -> tuple[int, int]:
    """Return the first point of a target in (at − range, at], and that after its last."""
    first = int(np.floor((at - range_s + age) / every)) + 1
    return max(0, first), int(np.floor((at + age) / every)) + 1


@compiled
def _rate_of(row: Floats, low: int, high: int, age: int, every: int, range_s: float, at: float) -> float:
    """Return one counter's rate over its points in [low, high), NaN with fewer than two samples."""
    count, gained, begin, first, last = 0, 0.0, 0.0, 0, 0
    before = np.nan
    for point in range(low, min(high, row.size)):
        value = row[point]
        if np.isnan(value):
            continue
        if count == 0:
            begin, first = value, point
        else:
            gained += value - before if value >= before else value
        before, last = value, point
        count += 1
    if count < 2:
        return np.nan
    span = float((last - first) * every)
    usual = span / (count - 1)
    to_start = first * every - age - (at - range_s)
    to_end = at - (last * every - age)
    if to_start >= FARTHEST * usual:
        to_start = usual / 2.0
    if gained > 0.0 and begin >= 0.0:
        to_start = min(to_start, span * begin / gained)
    if to_end >= FARTHEST * usual:
        to_end = usual / 2.0
    return gained * (span + to_start + to_end) / span / range_s


@entry
def _rates(rows: Floats, ages: Integers, every: int, range_s: float, at: float) -> tuple[float, int]:
    """Return the sum of the counters' rates, and how many have one."""
    total, known = 0.0, 0
    for n in range(rows.shape[0]):
        low, high = _points(ages[n], every, range_s, at)
        found = _rate_of(rows[n], low, high, ages[n], every, range_s, at)
        if not np.isnan(found):
            total += found
            known += 1
    return total, known


@entry
def _levels(
    rows: Floats, ages: Integers, every: int, range_s: float, at: float, top: bool
) -> tuple[float, int]:
    """Return the sum of the gauges' means or highest samples, and how many have one."""
    total, known = 0.0, 0
    for n in range(rows.shape[0]):
        low, high = _points(ages[n], every, range_s, at)
        summed, count, most = 0.0, 0, -np.inf
        for point in range(low, min(high, rows.shape[1])):
            if not np.isnan(rows[n, point]):
                summed += rows[n, point]
                most = max(most, rows[n, point])
                count += 1
        if count:
            total += most if top else summed / count
            known += 1
    return total, known


def _rate(rows: Floats, ages: Integers, every: int, range_s: float, at: float, average: bool) -> float | None:
    total, known = _rates(rows, ages, every, range_s, at)
    return (total / known if average else total) if known else None


def _level(
    rows: Floats, ages: Integers, every: int, range_s: float, at: float, average: bool, top: bool
) -> float | None:
    total, known = _levels(rows, ages, every, range_s, at, top)
    return (total / known if average else total) if known else None

"""Kthena's AutoscalingPolicy: metric targets with tolerance, rate limits, panic, and a band for the ratio.

After https://github.com/volcano-sh/kthena at v1.0.0, pkg/autoscaler (algorithm, autoscaler, datastructure),
and the defaults of its admission webhook. What differs from a HorizontalPodAutoscaler:

- a role that has no metric that can be read stops the decision of all roles, and nothing of it is remembered;
  of several metrics those that can be read decide, to shrink too;
- no count that was found keeps a pool up: only what Kthena recommended itself counts in its windows;
- a limit counts from the lowest (to grow) or highest (to shrink) count of its period, not from the count at
  the start of it, and percentages round the change down;
- panic lifts windows and limits, and shrinks nothing;
- the ratio is repaired at each decision, after the limits: the role that falls short is raised, the other one
  is lowered only where a bound forbids that. It looks for no pair of whole counts, so that the ratio may stay
  outside a narrow band.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.controllers import hpa
from hs_analysis.controllers.hpa import (
    Hpa,
    Metric,
    Moments,
    NewestFirst,
    RatePolicy,
    Rules,
    Targets,
    by_kind,
    in_tolerance,
    numbers,
)
from hs_analysis.controllers.lanes import (
    BOUND,
    HOLDS,
    MISSING,
    PANIC,
    STEP_LIMIT,
    Fleet,
    PerLane,
    PoolOrders,
    changes,
    decisions,
    documented,
    round_up,
    some,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask

SOURCES = "https://github.com/volcano-sh/kthena/tree/v1.0.0/pkg/autoscaler"
DEFAULTS = f"{SOURCES}/webhook/autoscalingpolicy_mutator.go"

INSTANT_S = 1e-6
"""Slack of an age beside a window or a period [s]."""

SCALE_UP = Rules(0.0, (RatePolicy("Pods", 4, 60.0), RatePolicy("Percent", 100, 60.0)))
SCALE_DOWN = Rules(300.0, (RatePolicy("Pods", 0, 60.0), RatePolicy("Percent", 100, 60.0)))
"""What the webhook fills in where a direction is not given."""


@dataclass(frozen=True)
class Kthena:
    """One role of a disaggregated target, its metrics read from Prometheus. A hold of 0 s never panics."""

    metrics: tuple[Metric, ...]
    min_replicas: int = field(default=1, metadata=documented("instances", SOURCES))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )
    tolerance: float = field(default=0.10, metadata=documented("ratio", SOURCES))
    up: Rules = field(default=SCALE_UP, metadata=documented("", DEFAULTS))
    down: Rules = field(default=SCALE_DOWN, metadata=documented("", DEFAULTS))
    panic_threshold: float | None = field(default=2.0, metadata=documented("ratio", DEFAULTS))
    panic_percent: int = field(default=0, metadata=documented("percent", DEFAULTS))
    panic_period_s: float = field(default=0.0, metadata=documented("s", DEFAULTS))
    panic_hold_s: float = field(default=0.0, metadata=documented("s", DEFAULTS))
    sync_s: float = field(default=15.0, metadata=documented("s", f"{SOURCES}/util/settings.go"))

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return self.scaler.signals

    @property
    def scaler(self) -> Hpa:
        """Targets, tolerance, windows, limits and bounds in the terms of a HorizontalPodAutoscaler."""
        return Hpa(
            self.metrics,
            self.min_replicas,
            self.max_replicas,
            self.tolerance,
            self.sync_s,
            self.up,
            self.down,
        )


@dataclass(frozen=True)
class RatioConstraint:
    """``ratioConstraint``: prefill ÷ decode stays within ``low`` … ``high``; bounds as (least, most)."""

    low: float
    high: float
    prefill: tuple[int, int]
    decode: tuple[int, int]


def structure(parameters: Kthena) -> Hashable:
    """Return what policies of one batch have in common; they may differ in every other number."""
    return hpa.structure(parameters.scaler)


@dataclass
class _Limits(PerLane):
    """The rate limits of one direction (1 or −1) of all lanes, shape (lanes,) each."""

    sign: int
    select: str
    kinds: tuple[str, ...]
    values: tuple[Floats, ...]
    period_s: Floats
    window_s: Floats

    @staticmethod
    def of(rules: Sequence[Rules], sign: int) -> _Limits:
        """Return rules that have kinds of policies in common, one a lane."""
        columns = list(zip(*map(by_kind, rules), strict=True))
        return _Limits(
            sign,
            rules[0].select,
            tuple(column[0].kind for column in columns),
            tuple(numbers([policy.value for policy in column]) for column in columns),
            numbers([max((policy.period_s for policy in one.policies), default=0.0) for one in rules]),
            numbers([one.stabilization_s for one in rules]),
        )

    def end(self, past: Floats) -> Floats:
        """Return the count that they allow, from the extreme count of the period."""
        if self.select == "Disabled":
            return past
        ends = [
            past + self.sign * (value if kind == "Pods" else np.floor(past * value / 100.0))
            for kind, value in zip(self.kinds, self.values, strict=True)
        ]
        if not ends:
            return np.full(past.shape, self.sign * np.inf)
        wider = (self.select == "Max") == (self.sign > 0)
        found: Floats = (np.maximum if wider else np.minimum).reduce(ends)
        return np.where(self.period_s > 0, found, self.sign * np.inf)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision falls.

    Its time [Unix s], shape (lanes,), the time to the next one [s], and how many are left in the row.
    """

    t_s: Floats
    spacing_s: float
    left: int


class KthenaBatch(Targets):
    """Roles of disaggregated targets, one a lane, before the ratio is looked at, with what they remember.

    They remember recommendations and the counts after the limits of each decision, and until when panic lasts
    [Unix s]. Memory is changed in place by `step` and `decide`. Steps follow each other by rows of one width.

    Parameters
    ----------
    parameters
        One role a lane, of one `structure`.
    role
        The pool that they scale.
    """

    def __init__(self, parameters: Sequence[Kthena], role: str) -> None:
        super().__init__([one.scaler for one in parameters], role)
        self.up = _Limits.of([one.up for one in parameters], 1)
        self.down = _Limits.of([one.down for one in parameters], -1)
        self.tolerance = numbers([one.tolerance for one in parameters])
        self.threshold = numbers([one.panic_threshold or np.inf for one in parameters])
        self.percent = numbers([one.panic_percent for one in parameters])
        self.panic_period_s = numbers([one.panic_period_s for one in parameters])
        self.hold_s = numbers([one.panic_hold_s for one in parameters])
        self.fixed = self.least == self.most
        self.until_s = np.full(len(parameters), -np.inf)
        self.last_s = np.full(len(parameters), np.nan)
        self.clock_s = 0.0
        self.recommended = NewestFirst(0, len(parameters), np.nan)
        self.corrected = NewestFirst(0, len(parameters), np.nan)
        self.times = Moments(0)
        self._ahead_s = 0.0
        self.settled = False

    def step(self, fleet: Fleet) -> PoolOrders:
        """Ask for the count of every pool: the decisions of a row, evenly spread over it."""
        start = count = fleet.desired[self.role]
        shares, left = self.shares(fleet), decisions(fleet.window_s, self.sync_s)
        spacing_s = fleet.window_s / left
        why: Integers = np.full(start.shape, HOLDS)
        for place in range(left):
            now = Moment(fleet.t_s + place * spacing_s, spacing_s, left - place - 1)
            orders = self.decide([share[place] for share in shares], now, count)
            moved = orders.count != count
            why = np.where(moved | (place == 0), orders.code, why)
            count = orders.count
            if self.settled and not some(moved) and are_even(shares, place):
                self.repeat(now)
                break
        orders.code = changes(why, start, count)
        return orders

    def shares(self, fleet: Fleet) -> list[Floats]:
        """Return what each metric asks for in instances at each decision of a row, shape (decisions, lanes).

        Not rounded; NaN where it has no finite value.
        """
        looks = decisions(fleet.window_s, self.sync_s)
        values = [metric.read_within(fleet.scraped, self.role, looks) for metric in self.metrics]
        return [
            np.where(np.isfinite(value), value, np.nan) / metric.target
            for metric, value in zip(self.metrics, values, strict=True)
        ]

    def lacks(self, shares: Sequence[Floats], current: Floats) -> Mask:
        """Say in which lanes a metric is needed and none can be read: then no role is decided."""
        decided = (current < self.least) | (current > self.most) | self.fixed
        known = [~np.isnan(share[-1]) for share in shares]
        found: Mask = ~(np.logical_or.reduce(known) | decided)
        return found

    def repeat(self, now: Moment) -> None:
        """Remember the decisions left in the row, which ask for what the last one did."""
        for _ in range(now.left):
            self._remember(
                self.clock_s + now.spacing_s, self.recommended.newest(1)[0], self.corrected.newest(1)[0]
            )

    def decide(
        self, shares: Sequence[Floats], now: Moment, current: Floats, halted: Mask | None = None
    ) -> PoolOrders:
        """Decide once in every lane, and remember it.

        ``settled`` says whether the decisions left in the row ask for the same if the counts are the same.
        """
        self._in_time(now)
        wanted, fixed = self._wanted(shares, current), self.fixed
        runs = ~np.isnan(wanted) & ~fixed
        if halted is not None:
            runs, fixed = runs & ~halted, fixed & ~halted
        asked = np.minimum(np.maximum(wanted, self.least), self.most)
        panics = self._panics(asked, current, runs, now.t_s)
        after, limited, stays = self._stabilised(asked, current, runs & ~panics, now)
        if some(panics):
            after = np.where(panics, self._panicking(asked, current), after)
        corrected = np.minimum(np.maximum(after, self.least), self.most)
        count = np.where(runs, corrected, np.where(fixed, self.least, current))
        self.settled = not some(runs & (asked != current) & ~stays)
        self._remember(self.clock_s, np.where(runs, asked, np.nan), np.where(runs, corrected, np.nan))
        code = np.where(runs & (asked != wanted), BOUND, HOLDS)
        code[limited] = STEP_LIMIT
        code[panics & (count > current)] = PANIC
        code[~runs & ~fixed] = MISSING
        return PoolOrders(count, changes(code, current, count), np.where(runs, wanted, np.nan))

    def _wanted(self, shares: Sequence[Floats], current: Floats) -> Floats:
        """Return the bound that is broken, else the largest count of the metrics that can be read, or NaN."""
        found = []
        with np.errstate(divide="ignore", invalid="ignore"):
            for share in shares:
                near = in_tolerance(share / current, self.tolerance, self.tolerance)
                found.append(np.where(near, current, round_up(share)))
        largest: Floats = found[0] if len(found) == 1 else np.fmax.reduce(found)
        low, high = current < self.least, current > self.most
        return np.where(low, self.least, np.where(high, self.most, largest))

    def _panics(self, asked: Floats, current: Floats, runs: Mask, t_s: Floats) -> Mask:
        """Say which lanes are in panic, and remember until when."""
        if not some(self.hold_s > 0):
            return np.zeros(runs.shape, bool)
        with np.errstate(invalid="ignore"):  # a pool of zero at a threshold of infinity
            due = runs & (asked >= current * self.threshold) & (self.hold_s > 0)
        found: Mask = due | (runs & (t_s < self.until_s - INSTANT_S))
        self.until_s = np.where(due, t_s + self.hold_s, self.until_s)
        return found

    def _stabilised(
        self, asked: Floats, current: Floats, runs: Mask, now: Moment
    ) -> tuple[Floats, Mask, Mask]:
        """Return the counts after windows and limits, outside of panic.

        Also where a limit holds, and where every decision left in the row brings the same from the count of
        now. Windows and periods only lose what is older: one that gives the same as the row ends gives it in
        between, too, and a limit that does not hold now holds no more.
        """
        found, limited, stays = asked, np.zeros(asked.shape, bool), np.zeros(asked.shape, bool)
        grows, shrinks = runs & (asked > current), runs & (asked < current)
        if some(grows):
            least, later = self._recommended(asked, self.up.window_s, np.fmin, now)
            allowed = self.up.end(np.fmin(current, self._past(self.up.period_s, np.fmin)))
            found = np.where(grows, np.maximum(current, np.minimum(least, allowed)), found)
            limited = grows & (allowed < least)
            stays = grows & ((later <= current) | ((later == least) & ~limited))
        if some(shrinks):
            most, later = self._recommended(asked, self.down.window_s, np.fmax, now)
            allowed = self.down.end(np.fmax(current, self._past(self.down.period_s, np.fmax)))
            found = np.where(shrinks, np.minimum(current, np.maximum(most, allowed)), found)
            held = shrinks & (allowed > most)
            limited, stays = limited | held, stays | shrinks & ((later >= current) | (later == most) & ~held)
        return found, limited, stays

    def _panicking(self, asked: Floats, current: Floats) -> Floats:
        """Return the counts in panic: growth in percent of the lowest count of its period, and no removal."""
        past = np.fmin(current, self._past(self.panic_period_s, np.fmin))
        allowed = past + np.floor(past * self.percent / 100.0)
        limited = np.where((self.panic_period_s > 0) & (past > 0), np.minimum(asked, allowed), asked)
        return np.maximum(limited, current)

    def _recommended(
        self, asked: Floats, window_s: Floats, which: np.ufunc, now: Moment
    ) -> tuple[Floats, Floats]:
        """Return the extreme of what is and was recommended within a window, now and as the row ends."""
        if not some(window_s > 0):
            return asked, asked
        ages = self.clock_s - self.times.newest(self.times.depth)
        past = self.recommended.newest(self.recommended.depth)
        found, later = (
            which(asked, which.reduce(np.where(ages < window_s - ahead_s, past, np.nan)))
            for ahead_s in (INSTANT_S, INSTANT_S + now.left * now.spacing_s)
        )
        return found, later

    def _past(self, period_s: Floats, which: np.ufunc) -> Floats:
        """Return the extreme of the counts that held in a period, NaN without.

        A count holds until the next decision that has one. The last one is looked at for two periods, and a
        count that held for longer than that is left out.
        """
        counts = self.corrected.newest(self.corrected.depth)
        ages = self.clock_s - self.times.newest(self.times.depth)
        known = ~np.isnan(counts)
        ended = np.full(counts.shape, -np.inf)
        np.maximum.accumulate(np.where(known, ages, -np.inf)[:-1], axis=0, out=ended[1:])
        last = np.isneginf(ended)
        held_s = ages - np.where(last, 0.0, ended)
        inside = (last | (ended < period_s - INSTANT_S)) & (held_s < 2 * period_s - INSTANT_S)
        found: Floats = which.reduce(np.where(inside, counts, np.nan))
        return found

    def _in_time(self, now: Moment) -> None:
        """Let the clock run to a decision; make room for what is remembered at the first one."""
        if not self.times.depth:
            periods = (self.up.period_s, self.down.period_s, self.panic_period_s)
            windows = (self.up.window_s, self.down.window_s)
            reach_s = max(3 * max(map(np.max, periods)), *map(np.max, windows))
            depth = math.ceil(reach_s / now.spacing_s) + 2
            lanes = now.t_s.size
            self.recommended, self.corrected = (NewestFirst(depth, lanes, np.nan) for _ in range(2))
            self.times = Moments(depth)
        else:
            self.clock_s += float(now.t_s[0] - self.last_s[0]) - self._ahead_s
        self._ahead_s = 0.0
        self.last_s = now.t_s

    def _remember(self, clock_s: float, asked: Floats, corrected: Floats) -> None:
        """Remember a decision at a time of the clock."""
        self._ahead_s += clock_s - self.clock_s
        self.clock_s = clock_s
        self.recommended.add(asked)
        self.corrected.add(corrected)
        self.times.add(clock_s)


def are_even(shares: Sequence[Floats], place: int) -> bool:
    """Say whether what is asked for does not change between a decision and the end of its row."""
    return not any(some(share[place:-1] != share[-1]) for share in shares if len(share) > place + 1)


@dataclass(frozen=True)
class RatioBand(PerLane):
    """Ratio constraints of all lanes: ends of the band and bounds of the counts, shape (lanes,) each."""

    low: Floats
    high: Floats
    prefill_least: Floats
    prefill_most: Floats
    decode_least: Floats
    decode_most: Floats

    @staticmethod
    def of(constraints: Sequence[RatioConstraint]) -> RatioBand:
        """Return one constraint a lane as arrays."""
        return RatioBand(
            numbers([one.low for one in constraints]),
            numbers([one.high for one in constraints]),
            numbers([one.prefill[0] for one in constraints]),
            numbers([one.prefill[1] for one in constraints]),
            numbers([one.decode[0] for one in constraints]),
            numbers([one.decode[1] for one in constraints]),
        )

    def of_prefill(self, counts: Floats) -> Floats:
        """Return prefill counts within their bounds."""
        return np.minimum(np.maximum(counts, self.prefill_least), self.prefill_most)

    def of_decode(self, counts: Floats) -> Floats:
        """Return decode counts within their bounds."""
        return np.minimum(np.maximum(counts, self.decode_least), self.decode_most)


def within_ratio(counts: Mapping[str, Floats], band: RatioBand) -> dict[str, Floats]:
    """Return counts after Kthena's repair of prefill ÷ decode.

    Counts go to their bounds first; two of 0 stay, one of 0 becomes 1. Then the role that falls short is
    raised to the end of the band. Where its bound forbids that it takes the bound, and the other role is
    lowered to the end of the band. The ends are compared and rounded in floating point, as Kthena does.
    """
    prefill = band.of_prefill(counts["prefill"].astype(float))
    decode = band.of_decode(counts["decode"].astype(float))
    serves = (prefill > 0) | (decode > 0)
    if some((prefill == 0) | (decode == 0)):
        prefill = np.where(serves & (prefill == 0), band.of_prefill(np.ones_like(prefill)), prefill)
        decode = np.where(serves & (decode == 0), band.of_decode(np.ones_like(decode)), decode)
    after_prefill, after_decode = prefill, decode
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = prefill / decode
        short_prefill, short_decode = serves & (ratio < band.low), serves & (ratio > band.high)
        if some(short_prefill):
            more = np.ceil(band.low * decode)
            after_prefill = np.where(short_prefill, more, prefill)
            blocked = short_prefill & (more > band.prefill_most)
            after_decode = np.where(blocked, np.floor(band.prefill_most / band.low), decode)
        if some(short_decode):
            more = np.ceil(prefill / band.high)
            after_decode = np.where(short_decode, more, after_decode)
            blocked = short_decode & (more > band.decode_most)
            after_prefill = np.where(blocked, np.floor(band.high * band.decode_most), after_prefill)
    return {**counts, "prefill": band.of_prefill(after_prefill), "decode": band.of_decode(after_decode)}

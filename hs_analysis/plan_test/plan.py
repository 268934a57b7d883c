"""The tests that would answer a run's refusals and floors: pools, levels, minutes, cost, interval.

What a test has to send follows from the run: the tokens that a request brings, what the pools carried, and
how noisy a window is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import (
    HIGHEST_QUANTILE,
    NORMAL_95,
    SUSTAINED_S,
    SYSTEMATIC_SHARE,
    TEST_VIOLATING_MIN,
)
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Derived, Refusal
from hs_analysis.schema.sweeps import Level, PlannedTest
from hs_analysis.statistics.queueing import size_factor


@dataclass(frozen=True)
class PoolLoad:
    """One role as a test meets it.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    instances
        Usual count.
    gpus
        GPUs of an instance, None when unknown.
    carried
        Load per instance that is known to hold, or the most that was seen [tokens/s].
    tokens
        Work a request brings [tokens], None where requests are not counted.
    noise
        Standard deviation of ln load of a 5-minute mean, None when not known [1].
    """

    role: str
    instances: int
    gpus: float | None
    carried: float
    tokens: float | None
    noise: float | None


def pools_of(frame: ServiceFrame, derived: Derived) -> dict[str, PoolLoad]:
    """Return the pools of a service whose work and size are known, by role."""
    found = {}
    for role in frame.pools:
        counts = frame.values("instances", role)
        work = _work(frame, role)
        per_instance = work / np.where(counts > 0, counts, np.nan)
        if not np.isfinite(per_instance).any():
            continue
        capacity = derived.capacity_of(role)
        known = capacity.per_instance if capacity is not None else None
        carried = known if known is not None else float(np.nanquantile(per_instance, HIGHEST_QUANTILE))
        signal = derived.threshold_of(*frame.served(role))
        noise = signal.noise_cv if signal is not None else None
        usual = max(1, round(float(np.nanmedian(counts))))
        gpus = frame.gpus_per_instance.get(role)
        found[role] = PoolLoad(role, usual, gpus, carried, _tokens(frame, work), noise)
    return {role: pool for role, pool in found.items() if pool.carried > 0}


def _work(frame: ServiceFrame, role: str) -> Floats:
    if frame.has("offered_tps", role):
        return frame.values("offered_tps", role)
    return frame.served_values(role)


def _tokens(frame: ServiceFrame, work: Floats) -> float | None:
    """Return work ÷ requests over windows that know both, None without any."""
    rate = frame.values("request_rate", "service")
    both = np.isfinite(rate) & np.isfinite(work)
    if not both.any() or not rate[both].sum() > 0:
        return None
    tokens = float(work[both].sum() / rate[both].sum())
    return tokens if tokens > 0 else None


def window_noise(pool: PoolLoad, rate: float, window_s: float, usual_rate: float | None) -> float:
    """Return the standard deviation of ln load of one window at a request rate.

    The noise of 5-minute means of this very history, scaled with the requests a window holds:
    noise · √(300 · usual rate ÷ (window · rate)); without it √(2 ÷ requests), as Poisson arrivals of
    exponential lengths have.
    """
    requests = max(rate * window_s, 1.0)
    if pool.noise is not None and usual_rate is not None and usual_rate > 0:
        return pool.noise * math.sqrt(SUSTAINED_S * usual_rate / requests)
    return math.sqrt(2.0 / requests)


def usual_rate(frame: ServiceFrame) -> float | None:
    """Return the mean request rate of a service, None when not counted [requests/s]."""
    rate = frame.values("request_rate", "service")
    return float(np.nanmean(rate)) if np.isfinite(rate).any() and np.nanmean(rate) > 0 else None


# Defaults of this project.

STEP = 1.15
"""Ratio of two neighbouring levels: closer ones cost time, wider ones leave the limit in a gap."""

SEARCH = (0.6, 2.5)
"""Levels of a search, as a share of what is known to be carried: the lowest keeps the limit for sure, the
highest is beyond where any floor measured on simulated services lay under its capacity [ratio]."""

ABOUT_LIMIT = (0.6, 1.3)
"""Levels about a limit that was met but not pinned, as a share of it [ratio]."""

DOWN_LEVELS = 3
"""Levels repeated on the way down: memory that fills and caches that warm look like load on a ramp up."""

MINUTES_MIN = 5.0
"""Shortest level [min]; measured on captures of real components: five minutes about the limit."""

LONGEST_MIN = 480.0
"""Longest test [min]: a working day, for which a rig can be had. Beyond it the levels are cut."""

NOISE_SHARE = 1.0 / 3.0
"""Share of the systematic term that the noise of a level's mean may reach [ratio]: below it more minutes buy
nothing."""

SCRAPES = 4
"""Scrapes that make a window of a pressure test."""

WINDOW_MIN_S = 15.0
"""Shortest window of a pressure test [s]."""

SIZE_ERROR = 0.05
"""Loss of capacity that a smaller pool in the test may cause [ratio]."""

SEARCHED = ("no_violations", "thin", "load_range", "no_common_rows", "hours")
"""Refusals of a capacity that a search upwards answers: few windows over a limit may have been chance, and it
may lie as far above them as one that was never met."""

PLANNED_RATIO = ("capacity_floor", "capacity_refused", "thin", "load_range")
"""Codes of a ratio that follows from tests of its pools."""

PINNED = ("cannot_fit", "indicative", "one_role")
"""Refusals of a capacity that levels about the limit answer."""

OTHER = {"prefill": "decode", "decode": "prefill"}
"""The pool that must not run short while the other is pressed."""


@dataclass(frozen=True)
class Precision:
    """What the estimator of a pressure test is known to leave, by role.

    Attributes
    ----------
    systematic
        Standard deviation of ln capacity that no repetition removes.
    """

    systematic: Mapping[str, float]


def plan_service(frame: ServiceFrame, derived: Derived, precision: Precision) -> tuple[PlannedTest, ...]:
    """Return the cheapest tests that answer a service's refusals and floors, capacities first.

    Refusals that no load can answer (a metric to export, a limit to give) have no test: their own words say
    what to do. A ratio follows from the capacities, so its test is those of the pools that lack one.

    Parameters
    ----------
    frame
        The service.
    derived
        What it left open.
    precision
        The estimator's own error.
    """
    pools = pools_of(frame, derived)
    tests: dict[str, PlannedTest] = {}
    for refusal in derived.refusals:
        what, _, role = refusal.what.partition("@")
        if what == "capacity" and role in pools and refusal.code in (*SEARCHED, *PINNED):
            tests[refusal.what] = _capacity_test(frame, refusal, pools, precision)
    for role in pools:
        capacity = derived.capacity_of(role)
        reason = capacity.reason if capacity is not None else None
        if reason is not None and reason.code == "indicative":
            refusal = Refusal(f"capacity@{role}", reason.code, reason.text, "")
            tests[refusal.what] = _capacity_test(frame, refusal, pools, precision)
    ratio = next((r for r in derived.refusals if r.what == "pd_ratio"), None)
    needed = [test for test in tests.values() if test.role in OTHER]
    left = [one for one in derived.refusals if one.what.startswith("capacity@") and one.what not in tests]
    if ratio is not None and ratio.code in PLANNED_RATIO and needed and not left:
        tests[ratio.what] = _ratio_test(frame, ratio, needed, precision)
    return tuple(tests.values())


def _capacity_test(
    frame: ServiceFrame, refusal: Refusal, pools: Mapping[str, PoolLoad], precision: Precision
) -> PlannedTest:
    role = refusal.what.partition("@")[2]
    pool = pools[role]
    low, high = ABOUT_LIMIT if refusal.code in PINNED else SEARCH
    count = math.ceil(math.log(high / low) / math.log(STEP))
    loads = [pool.carried * low * (high / low) ** (i / count) for i in range(count + 1)]
    size = _test_size(pool)
    top_rate = loads[-1] * size / pool.tokens if pool.tokens else None
    sizes = {role: size} | _other_size(role, pools, top_rate)
    window_s = max(WINDOW_MIN_S, SCRAPES * _interval_s(frame))
    middle = pool.carried * size / pool.tokens if pool.tokens else None
    noise = window_noise(pool, middle or 1.0, window_s, usual_rate(frame))
    minutes, wanted = _minutes(noise / precision.systematic[role], window_s, len(loads) + DOWN_LEVELS)
    held = 60.0 * minutes / window_s
    spread = math.sqrt(precision.systematic[role] ** 2 + math.log(STEP) ** 2 / 12.0 + noise**2 / held)
    levels = tuple(
        Level(i + 1, load, load * size / pool.tokens if pool.tokens else None, minutes)
        for i, load in enumerate([*loads, *loads[-2 : -2 - DOWN_LEVELS : -1]])
    )
    hours = sum(level.minutes for level in levels) / 60.0
    isl, osl = (pools[r].tokens if r in pools else None for r in ("prefill", "decode"))
    return PlannedTest(
        service=frame.service,
        what=refusal.what,
        code=refusal.code,
        role=role,
        prefill=sizes.get("prefill"),
        decode=sizes.get("decode"),
        mixed=sizes.get("mixed"),
        levels=levels,
        instance_hours=hours * sum(sizes.values()),
        gpu_hours=_gpu_hours(sizes, pools, hours),
        expect_ratio=math.exp(NORMAL_95 * spread) - 1.0,
        spread=spread,
        isl=isl,
        osl=osl if osl else pool.tokens,
        text=_summary(role, levels, minutes) + _shortened(levels, minutes, wanted, noise, window_s),
        evidence=evidence.path(frame.service, "derive", refusal.what),
    )


def _summary(role: str, levels: Sequence[Level], minutes: float) -> str:
    latency = {"prefill": "TTFT", "decode": "TBT"}.get(role, "TTFT or TBT")
    return (
        f"step the load of {role} up from {levels[0].load:,.0f} tokens/s per instance,"
        f" {percent(STEP - 1, whole=True)} and {minutes:.0f} minutes a level;"
        f" stop two levels after {latency} breaks its limit, then repeat"
        f" the last {DOWN_LEVELS} levels before that on the way down; record the same metrics and give them"
        f" to hsa run --pressure-test"
    )


def _minutes(noise_ratio: float, window_s: float, levels: int) -> tuple[float, float]:
    """Return how long a level is held, and how long its noise, in systematic terms, asks for [min]."""
    wanted, least = (
        max(MINUTES_MIN, math.ceil(max(TEST_VIOLATING_MIN, windows) * window_s / 60.0))
        for windows in (math.ceil((noise_ratio / NOISE_SHARE) ** 2), 0)
    )
    return min(wanted, max(least, float(LONGEST_MIN // levels))), wanted


def _shortened(levels: Sequence[Level], minutes: float, wanted: float, noise: float, window_s: float) -> str:
    """Return what a test leaves open that would take longer than a working day, and why; else nothing."""
    total = minutes * len(levels)
    if minutes < wanted:
        return (
            f". It is cut to {total / 60.0:.0f} h, and the interval is what that gives: at this request rate"
            f" the noise of a window of {window_s:.0f} s is {percent(noise, whole=True)}, which"
            f" {wanted:,.0f} minutes a level ({wanted * len(levels) / 60.0:,.0f} h) would average out."
            " More instances in the test narrow it"
        )
    if total > LONGEST_MIN:
        return (
            f". It takes {total / 60.0:.0f} h: a window is {window_s:.0f} s, as values come every"
            f" {window_s / SCRAPES:.0f} s; scrape more often for a shorter test"
        )
    return ""


def _test_size(pool: PoolLoad) -> int:
    """Return the fewest instances that carry, each, what they carry in the usual pool, to 5 %.

    Prefill loses to its size, decode nothing; two at least, so that routing is part of the test.
    """
    if pool.role != "prefill":
        return min(2, pool.instances)
    sizes = np.arange(min(2, pool.instances), pool.instances + 1)
    kept = size_factor(sizes.astype(float), float(pool.instances))
    return int(sizes[np.argmax(kept >= 1.0 - SIZE_ERROR)])


def _other_size(role: str, pools: Mapping[str, PoolLoad], rate: float | None) -> dict[str, int]:
    """Return how many instances of the other pool keep it under what it is known to carry."""
    other = OTHER.get(role)
    if other is None or other not in pools:
        return {}
    pool = pools[other]
    if rate is None or pool.tokens is None:
        return {other: pool.instances}
    return {other: max(1, math.ceil(rate * pool.tokens / pool.carried))}


def _interval_s(frame: ServiceFrame) -> float:
    """Return the shortest time between values that carry news [s]."""
    return min((info.interval_s for info in frame.signals if info.interval_s > 0), default=WINDOW_MIN_S)


def _gpu_hours(sizes: Mapping[str, int], pools: Mapping[str, PoolLoad], hours: float) -> float | None:
    gpus = [(count, pools[role].gpus) for role, count in sizes.items()]
    if any(each is None for _, each in gpus):
        return None
    return hours * sum(count * (each or 0.0) for count, each in gpus)


def _ratio_test(
    frame: ServiceFrame, refusal: Refusal, needed: Sequence[PlannedTest], precision: Precision
) -> PlannedTest:
    """Return the sum of the tests of both pools: the ratio follows from their capacities."""
    sampling = sum(test.spread**2 - precision.systematic[test.role] ** 2 for test in needed)
    systematic = SYSTEMATIC_SHARE * math.hypot(*(precision.systematic[role] for role in OTHER))
    spread = math.sqrt(systematic**2 + sampling)
    gpu_hours = [test.gpu_hours for test in needed]
    first = needed[0]
    named = " and ".join(test.what for test in needed)
    text = f"run the tests of {named}: the ratio follows from both capacities"
    return replace(
        first, what=refusal.what, code=refusal.code, role="", levels=(), prefill=None, decode=None,
        instance_hours=sum(test.instance_hours for test in needed),
        gpu_hours=None if None in gpu_hours else sum(hours or 0.0 for hours in gpu_hours),
        expect_ratio=math.exp(NORMAL_95 * spread) - 1.0, spread=spread, text=text,
        evidence=evidence.path(frame.service, "derive", "pd_ratio"),
    )  # fmt: skip

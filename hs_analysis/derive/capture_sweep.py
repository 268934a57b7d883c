"""A sweep of splits in captures: load steps, token mixes, and what each split served under each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hs_analysis import evidence
from hs_analysis.derive.bench_points import split_table
from hs_analysis.derive.edges import Edges, way_between
from hs_analysis.derive.load import capture_numbers, shares_over
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.sweep import Trial, Verdict, answer, continuous, decides
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import empty
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import SPLITS, SweepResult

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Defaults of this project, set on captures of real serving components.

STEP_GAIN = 12.0
"""Log likelihood that a change of the arrival rate has to gain to be a step [nats]."""

STEP_RATIO = 1.15
"""Smallest ratio of the rates of two steps, and of two load levels."""

STEP_ROWS_MIN = 3
"""Fewest windows of a step."""

LOADED_SHARE = 0.8
"""Last share of a step that is judged: before it a queue is still building [ratio]."""

LIMITED_AGE_S = 3.0
"""A role whose backlog is older than this, and older than the other's, holds the split back [s]."""


@dataclass(frozen=True)
class Step:
    """One load step of one capture: the rows of its loaded part, and the requests/s offered."""

    capture: int
    rows: Integers
    rate: float


def segments(counts: Floats) -> list[tuple[int, int]]:
    """Return the stretches (first, end) of a series of Poisson counts between changes of its rate.

    Binary segmentation: a stretch is cut where the two rates gain more than 12 nats of likelihood and lie a
    factor of 1.15 apart. NaN counts belong to no rate and are skipped over.
    """
    open_, out = [(0, counts.size)], []
    while open_:
        first, end = open_.pop()
        cut = _cut(counts[first:end])
        if cut is None:
            out.append((first, end))
        else:
            open_ += [(first, first + cut), (first + cut, end)]
    return sorted(out)


def _cut(counts: Floats) -> int | None:
    known = np.isfinite(counts)
    total, rows = np.where(known, counts, 0.0).cumsum(), known.cumsum()
    best, at = STEP_GAIN, None
    for cut in range(1, counts.size):
        left, right = total[cut - 1], total[-1] - total[cut - 1]
        n, m = int(rows[cut - 1]), int(rows[-1] - rows[cut - 1])
        if n == 0 or m == 0 or left + right == 0:
            continue
        gain = _log(left, n) + _log(right, m) - _log(left + right, n + m)
        low, high = sorted((left / n, right / m))
        if gain > best and high >= STEP_RATIO * low:
            best, at = gain, cut
    return at


def _log(count: float, rows: int) -> float:
    return count * math.log(count / rows) if count > 0 else 0.0


def steps_of(frame: ServiceFrame) -> tuple[Step, ...]:
    """Return the load steps of every capture; stretches of under three windows are none."""
    rate, group = frame.values("request_rate", "service"), capture_numbers(frame)
    served = frame.values("decode_tps", "decode")
    found = []
    for number in np.unique(group):
        inside = np.flatnonzero((group == number) & np.isfinite(rate) & np.isfinite(served))
        for first, end in segments(rate[inside] * frame.window_s):
            rows = inside[first:end]
            rows = rows[math.ceil((1.0 - LOADED_SHARE) * rows.size) :]
            if end - first >= STEP_ROWS_MIN:
                found.append(Step(int(number), rows, float(rate[rows].mean())))
    return tuple(found)


def _chained(values: Sequence[float], ratio: float) -> list[int]:
    """Return a cluster number per value: sorted neighbours up to `ratio` apart belong together."""
    order = np.argsort(values, kind="stable")
    number, out = 0, [0] * len(values)
    for before, after in pairwise(order):
        number += int(values[after] > ratio * values[before])
        out[after] = number
    return out


@dataclass(frozen=True)
class MixGroup:
    """Captures of one token mix: their numbers, and mean prompt and output length [tokens]."""

    captures: tuple[int, ...]
    isl: float
    osl: float


def mix_groups(frame: ServiceFrame) -> tuple[MixGroup, ...]:
    """Return the captures by token mix: lengths of one mix are up to 25 % apart."""
    group = capture_numbers(frame)
    length = [frame.values(name, "service") for name in ("input_length", "output_length")]
    means = {
        int(n): tuple(float(np.nanmedian(x[group == n])) for x in length)
        for n in np.unique(group)
        if all(np.isfinite(x[group == n]).any() for x in length)
    }
    numbers = list(means)
    apart = math.exp(DRIFT_SPREAD)
    keys = list(zip(*(_chained([means[n][i] for n in numbers], apart) for i in (0, 1)), strict=True))
    found = []
    for key in sorted(set(keys)):
        inside = tuple(n for n, k in zip(numbers, keys, strict=True) if k == key)
        isl, osl = (float(np.median([means[n][i] for n in inside])) for i in (0, 1))
        found.append(MixGroup(inside, isl, osl))
    return tuple(found)


def capture_sweeps(
    frame: ServiceFrame, slo: Slo, edges: Edges | None = None
) -> tuple[tuple[SweepResult, ...], pl.DataFrame]:
    """Return the ratio tests in a service's captures, and their splits (contract ``splits``).

    A test is two captures or more of one token mix with different splits. Splits compete within one load
    level: under the limits at the level at which the best split serves most within them, on decode TPS alone
    at the highest level that two splits saw. The continuous ratio is read from all levels.

    Parameters
    ----------
    frame
        The service.
    slo
        The limits.
    edges
        Per latency the limit and the histogram edges about it [s], for the interpolated share.
    """
    if not {"prefill", "decode"} <= set(frame.pools) or len(frame.captures()) < 2:
        return (), empty(SPLITS)
    steps = steps_of(frame)
    results: list[SweepResult] = []
    tables = [empty(SPLITS)]
    for mix in mix_groups(frame):
        own = [step for step in steps if step.capture in mix.captures]
        trials = {id(step): _trial(frame, step, mix, slo, edges or {}) for step in own}
        if len({t.pair for t in trials.values()}) < 2:
            continue
        levels = _levels(own, trials)
        if not levels:
            continue
        name = f"sweep:{mix.isl:.0f}+{mix.osl:.0f}"
        base = SweepResult(
            frame.service, "captures", mix.isl, mix.osl,
            evidence=evidence.path(frame.service, "derive", name),
        )  # fmt: skip
        results += _answers(levels, base, slo)
        tables.append(split_table(base, tuple(trials[id(step)] for step in own)))
    return tuple(results), pl.concat(tables)


def _levels(steps: Sequence[Step], trials: Mapping[int, Trial]) -> list[tuple[Trial, ...]]:
    """Return the trials by load level, lowest first; levels that one split alone saw are left out."""
    numbers = _chained([step.rate for step in steps], STEP_RATIO)
    found = []
    for number in sorted(set(numbers)):
        level = tuple(trials[id(step)] for step, n in zip(steps, numbers, strict=True) if n == number)
        if len({t.pair for t in level}) > 1:
            found.append(level)
    return found


def _answers(levels: Sequence[tuple[Trial, ...]], base: SweepResult, slo: Slo) -> list[SweepResult]:
    every = [trial for level in levels for trial in level]
    balance = continuous(every)
    limits = [name for name in ("ttft", "tbt") if slo.limit_s(name) is not None]
    out = []
    if limits:
        judged = replace(base, ttft_s=slo.ttft_s, tbt_s=slo.tbt_s, quantile=slo.quantile)
        found = [answer(level, limits, judged, balance=balance) for level in levels]
        best = max(found, key=lambda one: one.score or -1.0)
        out.append(replace(best, decides=decides(every, limits)))
    out.append(answer(levels[-1], (), base, balance=balance))
    return out


def _trial(frame: ServiceFrame, step: Step, mix: MixGroup, slo: Slo, edges: Edges) -> Trial:
    def mean(signal: str, role: str) -> float:
        values = frame.values(signal, role)[step.rows]
        return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan

    decode_tps, first = mean("decode_tps", "decode"), mean("first_token_rate", "service")
    prefill_tps = mean("prefill_tps_effective", "prefill")
    ttft, within_ttft = _judged(frame, step, "ttft", slo, edges)
    tbt, within_tbt = _judged(frame, step, "tbt", slo, edges)
    if ttft != "unknown" and _behind(frame, step) > 1.0 - slo.quantile:
        ttft = "fails"
    p, d = (mean("instances", role) for role in ("prefill", "decode"))
    return Trial(
        p, d, None, step.rate, decode_tps, _known(prefill_tps), _known(_served(first, decode_tps, mix)),
        ttft, tbt, within_ttft * within_tbt, limited=_limited(frame, step),
        label=frame.captures()[step.capture],
    )  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _served(first_tokens: float, decode_tps: float, mix: MixGroup) -> float:
    """Return the requests/s a split finishes: output tokens by their mean length, at most first tokens."""
    return float(np.fmin(decode_tps / mix.osl, first_tokens))


def _behind(frame: ServiceFrame, step: Step) -> float:
    """Return the share of arrivals by which first tokens stay behind."""
    arrived, first = (
        frame.values(name, "service")[step.rows] for name in ("request_rate", "first_token_rate")
    )
    return float(1.0 - np.nansum(first) / np.nansum(arrived)) if np.isfinite(first).any() else 0.0


def _judged(frame: ServiceFrame, step: Step, latency: str, slo: Slo, edges: Edges) -> tuple[Verdict, float]:
    """Return whether a limit holds in the step, and the interpolated share of samples inside it."""
    if slo.limit_s(latency) is None:
        return "unknown", 1.0
    shares = [values[step.rows] for values in shares_over(frame, "service", (latency,))]
    if not np.isfinite(shares[0]).any():
        return "unknown", 1.0
    low_share, high_share = (float(np.nanmean(values)) for values in shares)
    within = 1.0 - (low_share + (high_share - low_share) * way_between(edges, latency))
    allowed = 1.0 - slo.quantile
    verdict: Verdict = "meets" if low_share <= allowed else "fails" if high_share > allowed else "undecided"
    return verdict, within


def _limited(frame: ServiceFrame, step: Step) -> Literal["prefill", "decode"] | None:
    age = {
        role: float(np.median(np.nan_to_num(frame.values("backlog_age_s", role)[step.rows])))
        for role in ("prefill", "decode")
    }
    if age["prefill"] > LIMITED_AGE_S and age["prefill"] > age["decode"]:
        return "prefill"
    return "decode" if age["decode"] > LIMITED_AGE_S else None

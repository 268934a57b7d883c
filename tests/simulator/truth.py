"""The answers to a history: what was offered, what was short, and what interventions say of its service."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.settings import Slo
from simulator.expectations import Expected, expected
from simulator.kinds import Kind
from simulator.lives import Life
from simulator.measures import Looks, offered, per_window, tbt_over, ttft_over
from simulator.physics import Service, Trace
from simulator.pressure import (
    WORK,
    Response,
    capacity,
    respond,
    throughput_tps,
)
from simulator.services import Drawn, mean_point
from simulator.workloads import GRID_S, MixPath

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROW_S = 300.0
BLOCK_S = 10800.0
MINUTE_S = 60.0

OLD_S, UNCLEAR_S = 10.0, (5.0, 16.0)
"""A pool is short in a minute in which those who come wait longer than this; in between it is not scored."""

DRIFTS = math.log(1.25)
"""Spread of ln hourly mix, q90 − q10, above which no single ratio is right."""

HOURS_MIN = 6.0
LEVELS = 6


@dataclass(frozen=True)
class Truth:
    """What is true of a history.

    Attributes
    ----------
    roles
        Role per pod.
    signals
        Verdict per ``signal@role`` that physics gives.
    capacity
        Per role, offered work per instance at which the objective just holds [tokens/s]; two values where the
        service changed halfway; empty where no level tested violates it.
    peak_share
        Per role, 99 % quantile of five-minute offered work per instance ÷ the smaller capacity [ratio].
    ratio
        Σ prefill work ÷ Σ decode work · decode capacity ÷ prefill capacity; None for a single pool.
    ratio_accept
        Statuses of the ratio that are right.
    short, unclear
        Minutes in which some pool was short, and those not scored; shape (minutes,).
    violations
        Per role, windows that violated the objective.
    offered
        Offered work per five minutes: requests, prompt, missed and output tokens per second.
    nothing_recommended
        Whether any recommendation is wrong.
    lag_s
        Known delay of a signal against its load [s].
    """

    roles: dict[str, str]
    signals: dict[str, Expected]
    capacity: dict[str, tuple[float, ...]]
    peak_share: dict[str, float]
    ratio: float | None
    ratio_accept: tuple[str, ...]
    short: Flags
    unclear: Flags
    violations: dict[str, int]
    offered: dict[str, Floats]
    nothing_recommended: bool
    lag_s: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for a JSON file."""
        return {
            "roles": self.roles,
            "signals": {
                name: {
                    "verdict": e.verdict, "borderline": e.borderline, "elasticity": _plain(e.elasticity),
                    "snr": _plain(e.snr), "drift": _plain(e.drift),
                }
                for name, e in self.signals.items()
            },
            "capacity": {role: list(values) for role, values in self.capacity.items()},
            "peak_share": self.peak_share,
            "ratio": self.ratio,
            "ratio_accept": list(self.ratio_accept),
            "short_minutes": np.flatnonzero(self.short).tolist(),
            "unclear_minutes": np.flatnonzero(self.unclear).tolist(),
            "violations": self.violations,
            "offered_300s": {
                name: [round(float(v), 3) for v in values] for name, values in self.offered.items()
            },
            "nothing_recommended": self.nothing_recommended,
            "lag_s": self.lag_s,
        }  # fmt: skip


def _plain(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def truth_of(kind: Kind, drawn: Drawn, trace: Trace, seed: int) -> Truth:
    """Work out the answers to a history by pressing the same service with loads held still."""
    point = mean_point(drawn.rate, drawn.path)
    slo = kind.slo
    stills = still_pools(kind, drawn, trace)
    found: dict[str, tuple[float, ...]] = {}
    for role in trace.service.roles:
        values = [capacity(still, role, point, kind.mix, slo, seed) for still in stills]
        found[role] = tuple(value for value in values if value is not None)
    work = offered(trace, ROW_S)
    shares = {role: _peak_share(trace, role, work, found[role]) for role in found}
    short, unclear = short_minutes(trace)
    ratio, accept = _ratio(found, shares, work, short)
    signals = _signals(kind, drawn, trace, stills, work, short, seed)
    return Truth(
        {life.pod: role for role, lives in trace.service.lives.items() for life in lives},
        signals, found, shares, ratio, accept, short, unclear, _violations(trace, slo), work,
        kind.unanswerable, _lags(kind, trace.service.roles),
    )  # fmt: skip


def _lags(kind: Kind, roles: tuple[str, ...]) -> dict[str, float]:
    """Return how late the GPU metrics of a delaying pipeline read, empty without one.

    On top of the delay a value is on average half a collection old, and a mean over a collection speaks of
    its middle.
    """
    gpu = kind.setup.gpu
    if gpu is None or gpu.delay_s == 0.0:
        return {}
    late = {"gpu_util": gpu.delay_s + gpu.collect_s / 2, "sm_activity": gpu.delay_s + gpu.collect_s}
    return {f"{name}@{role}": lag for role in roles for name, lag in late.items()}


def alive(lives: tuple[Life, ...], at_s: Floats) -> Floats:
    """Return how many instances take requests at some times, shape of `at_s`."""
    there = [(at_s >= one.open_s) & (at_s < one.close_s) for one in lives]
    return np.asarray(np.sum(there, axis=0), dtype=float)


def still_pools(kind: Kind, drawn: Drawn, trace: Trace) -> list[Service]:
    """Return the service with still pools of their usual size: one, or before and after a release."""
    service = drawn.service
    if kind.event == "release":
        return [
            service.with_lives(
                **{
                    role: tuple(
                        replace(one, open_s=-1.0, close_s=1e12) for one in lives if one.old_names is old
                    )
                    for role, lives in service.lives.items()
                }
            )
            for old in (True, False)
        ]
    at = np.arange(MINUTE_S / 2, trace.hours * 3600, MINUTE_S)
    pools = {}
    for role, lives in service.lives.items():
        usual = max(1, int(np.median(alive(lives, at))))
        pools[role] = tuple(replace(one, open_s=-1.0, close_s=1e12) for one in lives[:usual])
    return [service.with_lives(**pools)]


def _peak_share(trace: Trace, role: str, work: dict[str, Floats], found: tuple[float, ...]) -> float:
    middle = ROW_S * (0.5 + np.arange(float(work["output"].size)))
    count = np.maximum(alive(trace.service.lives[role], middle), 1.0)
    if not found:
        return math.nan
    return float(np.quantile(work[WORK[role]] / count, 0.99)) / min(found)


def short_minutes(trace: Trace) -> tuple[Flags, Flags]:
    """Return the minutes in which requests waited over 10 s for a pool, and those too near to it to score.

    The wait of a minute is the mean over the requests that came to the pool in it; the two minutes about each
    change are unclear too.
    """
    minutes = int(trace.hours * 60)
    worst = np.zeros(minutes)
    for stay in trace.stays.values():
        came = np.isfinite(stay.enter_s)
        waited = np.minimum(stay.start_s[came], trace.hours * 3600) - stay.enter_s[came]
        total = per_window(stay.enter_s[came], np.maximum(waited, 0.0), MINUTE_S, minutes)
        count = per_window(stay.enter_s[came], np.ones(waited.size), MINUTE_S, minutes)
        worst = np.maximum(worst, total / np.maximum(count, 1.0))
    short = worst > OLD_S
    unclear = (worst > UNCLEAR_S[0]) & (worst < UNCLEAR_S[1])
    for change in np.flatnonzero(np.diff(short.astype(int))):
        unclear[max(0, change - 1) : change + 3] = True
    return short, unclear


def _violations(trace: Trace, slo: Slo) -> dict[str, int]:
    """Return how many windows violated the limit that each role answers for."""
    count: dict[str, int] = {}
    late = 1.0 - slo.quantile
    for role in trace.service.roles:
        bad = np.zeros(int(trace.hours * 3600 // slo.window_s), dtype=bool)
        if slo.ttft_s is not None and role != "decode":
            bad |= np.nan_to_num(ttft_over(trace, slo.ttft_s, slo.window_s)) > late
        if slo.tbt_s is not None and role != "prefill":
            bad |= np.nan_to_num(tbt_over(trace, slo.tbt_s, slo.window_s)) > late
        count[role] = int(bad.sum())
    return count


def _ratio(
    found: dict[str, tuple[float, ...]],
    shares: dict[str, float],
    work: dict[str, Floats],
    short: Flags,
) -> tuple[float | None, tuple[str, ...]]:
    if "mixed" in found:
        return None, ("refused",)
    rows = work["missed"].size
    calm = ~short[: rows * 5].reshape(rows, 5).any(axis=1)
    mix = work["missed"][calm].sum() / work["output"][calm].sum()
    value = mix * found["decode"][-1] / found["prefill"][-1] if all(found.values()) else None
    spread = _hourly_spread(work)
    if spread > DRIFTS * 1.15:
        return value, ("drifting",)
    # Whether it is given where it could be is counted apart; where no limit came near it must not be.
    far = all(shares[role] < 0.9 for role in ("prefill", "decode"))
    accept: tuple[str, ...] = ("floor", "refused") if far else ("ok", "floor", "refused")
    return value, (*accept, "drifting") if spread > DRIFTS * 0.8 else accept


def _hourly_spread(work: dict[str, Floats]) -> float:
    """Return q90 − q10 of ln(prefill work ÷ decode work) over whole hours; 0 without any."""
    hours = work["missed"].size // 12
    if hours == 0:
        return 0.0
    missed, output = (
        work[name][: hours * 12].reshape(hours, 12).sum(axis=1) for name in ("missed", "output")
    )
    low, high = np.quantile(np.log(missed / output), [0.1, 0.9])
    return float(high - low)


def _load_range(load: Floats) -> float:
    """Return q95 ÷ q05 of the rows that carry at least a fifth of the 95 % quantile."""
    used = load[load >= 0.2 * np.quantile(load, 0.95)]
    low, high = np.quantile(used, [0.05, 0.95])
    return float(high / low)


def _signals(
    kind: Kind,
    drawn: Drawn,
    trace: Trace,
    stills: list[Service],
    work: dict[str, Floats],
    short: Flags,
    seed: int,
) -> dict[str, Expected]:
    """Return what should be said of each signal: of the service as it is at the end of the history."""
    stills = stills[-1:]
    looks = kind.setup.looks
    rows = work["output"].size
    calm = ~short[: rows * 5].reshape(rows, 5).any(axis=1)
    middle = ROW_S * (0.5 + np.arange(float(rows)))
    found: dict[str, Expected] = {}
    for role in trace.service.roles:
        count = np.maximum(alive(trace.service.lives[role], middle), 1.0)
        load = (work[WORK[role]] / count)[calm]
        responses = _responses(kind, drawn, stills, role, load, looks, seed)
        drifts = _drifts(kind, drawn, stills, role, float(np.median(load)), looks, seed)
        held, whole = kind.event == "autoscaled", _load_range(work[WORK[role]][calm])
        span = _load_range(load)
        for name, response in responses.items():
            signal = name.split("@")[0]
            # A rate can be told from the pool's total where its load per instance was held still.
            reach = max(span, whole) if held and signal.endswith(("_tps", "_effective")) else span
            found[name] = expected(signal, response, drifts.get(name, 0.0), reach, held=held)
        if role != "prefill" and kind.setup.frontend:
            found["request_rate@service"] = _request_rate(drawn, max(span, whole) if held else span)
    return {name: _circumstance(kind, name, one) for name, one in found.items() if _exported(kind, name)}


def _exported(kind: Kind, name: str) -> bool:
    if name.startswith(("gpu_util", "sm_activity")):
        return kind.setup.gpu is not None
    return True


def _circumstance(kind: Kind, name: str, one: Expected) -> Expected:
    """Return the expectation as the history's length, or a wrong join, bends it."""
    if kind.unanswerable and kind.hours < HOURS_MIN:
        return replace(one, verdict="unknown", borderline=False)
    foreign = name.startswith(("gpu_util", "sm_activity", "running", "kv_usage", "queue_length"))
    if kind.event == "stranger" and foreign:  # an empty line of somebody else's may be untestable as well
        return replace(one, verdict="unusable", borderline=name.startswith("queue_length"))
    return one


def _responses(
    kind: Kind, drawn: Drawn, stills: list[Service], role: str, load: Floats, looks: Looks, seed: int
) -> dict[str, Response]:
    """Press the still service at levels that span the history's loads per instance."""
    service, point = stills[-1], mean_point(drawn.rate, drawn.path)
    size = len(service.lives[role])
    top = 0.95 * throughput_tps(service, role, point, kind.mix)
    high = min(float(np.quantile(load, 0.95)), top)
    low = max(float(np.quantile(load, 0.05)), 0.2 * high)
    levels = [
        replace(point, rate=level * size / point.tokens(role))
        for level in np.geomspace(low, max(high, 1.05 * low), LEVELS)
    ]
    return respond(service, role, levels, kind.mix, looks, seed)


def _drifts(
    kind: Kind, drawn: Drawn, stills: list[Service], role: str, load: float, looks: Looks, seed: int
) -> dict[str, float]:
    """Return the sd over three-hour blocks of ln signal at one load while the mix moves."""
    mix = kind.mix
    if not (mix.prompt_drift or mix.output_drift or mix.hit_drift):
        return {}
    steps = int(BLOCK_S / GRID_S)
    blocks = max(2, drawn.rate.size // steps)
    means: list[dict[str, float]] = []
    for block in range(blocks):
        inside = slice(block * steps, (block + 1) * steps)
        part = replace(drawn, rate=drawn.rate[inside], path=_slice(drawn, inside))
        point = mean_point(part.rate, part.path)
        service = stills[-1]
        point = replace(point, rate=load * len(service.lives[role]) / point.tokens(role))
        answer = respond(service, role, [point], mix, looks, seed + block)
        means.append({name: float(one.mean[0]) for name, one in answer.items()})
    names = set.intersection(*(set(one) for one in means))
    return {
        name: float(np.std([math.log(one[name]) for one in means], ddof=1))
        for name in names
        if all(one[name] > 0 for one in means)
    }


def _slice(drawn: Drawn, inside: slice) -> MixPath:
    path = drawn.path
    return replace(path, prompt=path.prompt[inside], output=path.output[inside], hit=path.hit[inside])


def _request_rate(drawn: Drawn, span: float) -> Expected:
    """Return what requests per second say of decode work: all, while the tokens of an answer stand still."""
    steps = int(BLOCK_S / GRID_S)
    blocks = max(2, drawn.rate.size // steps)
    means = [
        float(
            np.average(
                drawn.path.output[k * steps : (k + 1) * steps],
                weights=drawn.rate[k * steps : (k + 1) * steps],
            )
        )
        for k in range(blocks)
        if drawn.rate[k * steps : (k + 1) * steps].size
    ]
    drift = float(np.std(np.log(means), ddof=1)) if len(means) > 1 else 0.0
    perfect = Response(np.array([1.0, 2.0]), np.array([1.0, 2.0]), 0.0, 1.0, math.inf, 1.0)
    return expected("request_rate", perfect, drift, span)

"""Lanes against the scalar reference: the same numbers, whatever runs beside them and whatever goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from replay.reference_simulation import FIELDS, Rows, ScalarPool, Trouble, simulate_slowly
from replay.services import D_CAPACITY, P_CAPACITY, SETTINGS, day, derived, service

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import Hpa, Metric, RatePolicy, Rules
from hs_analysis.replay.demand import DemandTrace, demands
from hs_analysis.replay.faults import FAULTS, FaultRows, steep_stretches, struck, watched_until
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.simulate import (
    Control,
    Run,
    Schedule,
    SimulationResult,
    simulate_all,
)


def trace(
    rng: np.random.Generator, *, pair: bool, window_s: float, rows: int = 160
) -> tuple[DemandTrace, FleetModel]:
    """Return a capture with noise, gaps, jumps and recorded queues, and a fleet near its ceiling."""
    prefill = day(rows, 4 * P_CAPACITY, swing=0.5, noise=0.1, seed=int(rng.integers(1000)))
    prefill *= rng.choice([1.0, 1.0, 1.0, 1.6], rows)
    loads = {"prefill": prefill, "decode": prefill / 7.3} if pair else {"decode": prefill / 2.3}
    counts = {role: np.repeat(rng.integers(2, 8, rows // 20), 20).astype(float) for role in loads}
    util = loads["decode"] / counts["decode"] / 4_000.0 * np.exp(0.05 * rng.standard_normal(rows))
    frame = service(
        loads, counts, window_s=window_s, gpu_util__decode=util,
        request_rate__service=loads["decode"] / 200.0, queue_length__decode=rng.choice([0.0, 1.0], rows),
        backlog_age_s__decode=rng.choice([0.0, 0.0, 3.0], rows),
    )  # fmt: skip
    families = {"queue_length": ("queue", "sum")}
    infos = tuple(
        replace(info, family=families[info.signal][0], pool=families[info.signal][1])
        if info.signal in families
        else info
        for info in frame.signals
    )
    model = fit_fleet(replace(frame, signals=infos), derived(), SETTINGS)
    starts = {role: float(rng.choice([0.0, 45.0, 240.0, 500.0])) for role in model.pools}
    pools = {role: replace(pool, startup_s=starts[role]) for role, pool in model.pools.items()}
    (part,) = demands(frame)
    gap = np.isin(np.arange(rows), rng.choice(np.arange(2, rows), 6, replace=False))
    dark = {key: np.where(gap, np.nan, values) for key, values in part.recorded.items()}
    offered = {role: np.where(gap, np.nan, rate) for role, rate in part.offered.items()}
    return replace(part, offered=offered, recorded=dark, gap=gap), replace(model, pools=pools)


def scaler(rng: np.random.Generator, model: FleetModel, signal: str, decode_target: float) -> Autoscaler:
    """Return HPAs with targets, windows and limits at random, which share their structure by signal."""

    def hpa(name: str, target: float, kind: str) -> Hpa:
        share = RatePolicy("Percent", int(rng.integers(20, 200)), float(rng.choice([15.0, 60.0, 120.0])))
        up = Rules(float(rng.choice([0.0, 120.0])), (share,), tolerance=float(rng.uniform(0.0, 0.2)))
        down = Rules(float(rng.choice([0.0, 300.0, 600.0])), (share,), tolerance=float(rng.uniform(0.0, 0.3)))
        width_s = float(rng.choice([60.0, 300.0]))
        metric = Metric(name, target * float(rng.uniform(0.6, 1.2)), kind, width_s)  # type: ignore[arg-type]
        return Hpa((metric,), 1, int(rng.integers(6, 30)), up=up, down=down)

    kind = "Pods" if signal == "gpu_util" else "AverageValue"
    pools = {"decode": hpa(signal, decode_target, kind)}
    if "prefill" in model.pools:
        pools["prefill"] = hpa("prefill_tps_effective", P_CAPACITY, "AverageValue")
    return Autoscaler("hpa", pools)


def controls(rng: np.random.Generator, part: DemandTrace, model: FleetModel) -> list[Control]:
    """Return schedules of both kinds, one of them with holes, and HPAs on three signals."""
    found: list[Control] = []
    for running in (True, False):
        for _ in range(2):
            counts = {
                role: np.repeat(rng.integers(1, 9, part.rows // 5), 5).astype(float) for role in model.pools
            }
            counts["decode"][rng.integers(0, part.rows, 9)] = math.nan
            found.append(Schedule(counts, running))
    found.append(Schedule({role: part.counts(role) for role in model.pools}))
    for signal, target in (("decode_tps", D_CAPACITY), ("gpu_util", 0.4), ("queue_length", 2.0)):
        found += [scaler(rng, model, signal, target) for _ in range(2)]
    return [found[at] for at in rng.permutation(len(found))]


def assert_equal(found: SimulationResult, slow: Rows, why: object) -> None:
    """Every field of every pool and row, to 1e-9."""
    for name in FIELDS[:6]:
        for role, values in slow.of[name].items():
            np.testing.assert_allclose(
                getattr(found, name)[role], values, rtol=1e-9, atol=1e-6, err_msg=f"{why} {name} {role}"
            )
    for role, chances in slow.violation.items():
        np.testing.assert_allclose(
            found.violation[role], chances, rtol=1e-9, atol=1e-9, err_msg=f"{why} {role}"
        )


@pytest.mark.parametrize(
    ("seed", "pair", "window_s"), [(0, True, 60.0), (1, False, 60.0), (2, True, 300.0), (3, False, 15.0)]
)
def test_lanes_equal_the_reference(seed: int, pair: bool, window_s: float) -> None:
    """Eleven controls run together give what each gives alone in the reference."""
    rng = np.random.default_rng(seed)
    part, model = trace(rng, pair=pair, window_s=window_s, rows=160 if window_s < 300.0 else 60)
    every = controls(rng, part, model)
    results = simulate_all(every, part, model)
    assert sum(float(result.queued["decode"].max()) > 0 for result in results) > 3
    for number, (control, found) in enumerate(zip(every, results, strict=True)):
        assert_equal(found, simulate_slowly(control, part, model), (seed, number))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 60))
def test_lanes_equal_the_reference_in_many_cases(seed: int) -> None:
    """Windows, pools, gaps and controls at random."""
    rng = np.random.default_rng(seed)
    test_lanes_equal_the_reference(seed, bool(rng.integers(2)), float(rng.choice([15.0, 30.0, 60.0, 300.0])))


def trouble_of(fault: str, rows: FaultRows, lag: int, window_s: float, startup_s: float) -> Trouble:
    """Return what a fault is, in the words of the scalar reference."""

    def burst(row: int) -> float:
        since_s, rise_s = (row - rows.first) * window_s, max(startup_s, 1.0)
        up, down = since_s / rise_s, (2.0 * rise_s + 600.0 - since_s) / rise_s
        return 1.0 + min(1.0, max(0.0, min(up, down))) if row in rows else 1.0

    def strike(row: int, t_s: float, pools: dict[str, ScalarPool]) -> None:
        for role, pool in pools.items():
            if row == rows.first and fault == "stuck_start_up":
                pool.blocked = True
            if row == rows.first and fault == "no_stock":
                pool.stock = pool.ready + sum(count for _, count in pool.starting)
            if row == rows.first and fault == "lost_group":
                pool.lose(max(1.0, math.floor(0.25 * pool.ready)), t_s)
            if row == rows.first and fault == "wrong_ratio" and (role == "prefill" or len(pools) == 1):
                pool.ask(max(1.0, math.floor(0.5 * pool.desired)), t_s)
            if row == rows.last and fault == "stuck_start_up":
                pool.unblock(t_s)
            if row == rows.last and fault == "no_stock":
                pool.stock = math.inf
                pool.launch(t_s)

    true_values: dict[tuple[str, str], list[float]] = {}

    def scraped(key: tuple[str, str], row: int, true: float, before: list[float]) -> float:
        past = true_values.setdefault(key, [])
        past.append(true)
        if row not in rows:
            return true
        shown = {
            "metric_gap": math.nan,
            "stale_metric": true if math.isnan(before[-1]) else before[-1],
            "clock_skew": past[-1 - lag],
            "counter_reset": 0.0 if (row - rows.first) % lag == 0 else true,
        }
        return shown.get(fault, true)

    factors = {"doubled_traffic": lambda row: 2.0 if row in rows else 1.0, "burst": burst}
    return Trouble(factors.get(fault, lambda _: 1.0), strike, scraped)


@pytest.mark.parametrize(("seed", "pair"), [(4, True), pytest.param(5, False, marks=pytest.mark.slow)])
def test_faults_equal_the_reference(seed: int, pair: bool) -> None:
    """Each fault in lanes of its own, branched off the undisturbed run, is a whole scalar replay with it."""
    rng = np.random.default_rng(seed)
    part, model = trace(rng, pair=pair, window_s=60.0, rows=320)
    every = controls(rng, part, model)[::2]
    stretch = steep_stretches(part, model)[0]
    (hit,) = struck(Run(every, part, model), FAULTS, [stretch])
    last, startup_s = watched_until(stretch, part), max(pool.startup_s for pool in model.pools.values())
    moved = set()
    undisturbed = [simulate_slowly(control, part, model, None, last) for control in every]
    for lane, (number, fault) in enumerate(zip(hit.order.tolist(), hit.of_lane.tolist(), strict=True)):
        name, control = FAULTS[fault].name, every[number]
        slow = simulate_slowly(control, part, model, trouble_of(name, stretch, 10, 60.0, startup_s), last)
        calm = undisturbed[number]
        for kind in ("desired", "ready", "served", "queued"):
            for role, values in slow.of[kind].items():
                found = getattr(hit.log, kind)[role][:, lane]
                np.testing.assert_allclose(
                    found, values[hit.first :], rtol=1e-9, atol=1e-6, err_msg=f"{name} {number} {kind} {role}"
                )
                if not np.array_equal(values, calm.of[kind][role], equal_nan=True):
                    moved.add(name)
    assert moved == {fault.name for fault in FAULTS}

"""Batches against the reference: the same counts at every step, for lanes of different numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from controllers.batches import batch_of
from controllers.reference import Controller, PoolView
from hypothesis import given, settings
from hypothesis import strategies as st
from seeds import first

from hs_analysis.controllers import hpa, keda, kthena
from hs_analysis.controllers.hpa import Hpa, Metric, Operand, RatePolicy, Rules, Surge
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.controllers.kthena import Kthena
from hs_analysis.controllers.lanes import Fleet, Scraped, Why

Draw = np.random.Generator
SIGNALS = ("load", "queue")
KINDS = ("AverageValue", "Value", "Pods")
BEHAVIORS = ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower")


def one_of(rng: Draw, choices: Any) -> Any:
    """Return one of some choices, as it is."""
    return choices[int(rng.integers(len(choices)))]


def some_rules(rng: Draw, lanes: int) -> list[Rules]:
    """Return rules of one direction with kinds in common."""
    kinds = [one_of(rng, ("Pods", "Percent")) for _ in range(int(rng.integers(0, 4)))]
    select = one_of(rng, ("Max", "Max", "Min", "Disabled"))
    windows = (0.0, 0.0, 15.0, 40.0, 60.0, 120.0, 300.0, 3600.0)
    return [
        Rules(
            one_of(rng, windows),
            tuple(
                RatePolicy(kind, int(rng.integers(1, 120 if kind == "Percent" else 6)), one_of(rng, PERIODS))
                for kind in kinds
            ),
            select,
            one_of(rng, (None, 0.0, 0.05, 0.3)),
        )
        for _ in range(lanes)
    ]


PERIODS = (15.0, 15.0, 20.0, 60.0, 90.0, 300.0, 1800.0)


def some_metrics(rng: Draw, lanes: int, *, kinds: tuple[str, ...] = KINDS) -> list[tuple[Metric, ...]]:
    """Return metrics with readings, ranges and kinds in common."""
    columns = []
    for _ in range(int(rng.integers(1, 4))):
        kind, signal = one_of(rng, kinds), one_of(rng, SIGNALS)
        averaging_s, how, each = (
            one_of(rng, (15.0, 60.0, 300.0)),
            one_of(rng, ("sum", "max", "min")),
            one_of(rng, (False, True)),
        )
        others = [(one_of(rng, SIGNALS), one_of(rng, (60.0, 120.0))) for _ in range(int(rng.integers(0, 2)))]
        surges = [None, *(Surge(one_of(rng, (15.0, 60.0, 120.0)), one_of(rng, (0.8, 1.1))) for _ in range(3))]
        columns.append(
            [
                Metric(
                    signal, float(rng.uniform(40, 160)), kind, averaging_s,
                    tuple(Operand(name, range_s, float(rng.uniform(0.2, 2.0))) for name, range_s in others),
                    how, each, one_of(rng, surges),
                )
                for _ in range(lanes)
            ]
        )  # fmt: skip
    return list(zip(*columns, strict=True))


def some_hpas(rng: Draw, lanes: int, *, kinds: tuple[str, ...] = KINDS) -> list[Hpa]:
    """Return controllers of one structure."""
    metrics = some_metrics(rng, lanes, kinds=kinds)
    up, down = some_rules(rng, lanes), some_rules(rng, lanes)
    sync_s = one_of(rng, (15.0, 15.0, 60.0))
    return [
        Hpa(
            metrics[lane], int(rng.integers(0, 5)), int(rng.integers(6, 40)), one_of(rng, (0.0, 0.1, 0.2)),
            sync_s, up[lane], down[lane],
        )
        for lane in range(lanes)
    ]  # fmt: skip


def some_kedas(rng: Draw, lanes: int) -> list[Keda]:
    """Return ScaledObjects of one structure."""
    behavior, idles = one_of(rng, (None, *BEHAVIORS)), one_of(rng, (False, False, True))
    found = []
    for scaler in some_hpas(rng, lanes, kinds=("AverageValue", "Value")):
        fallback = (
            Fallback(int(rng.integers(0, 40)), one_of(rng, (0, 0, 4, 9)), behavior) if behavior else None
        )
        least = int(rng.integers(1, 4)) if idles else one_of(rng, (0, 0, 0, 2))
        found.append(
            Keda(
                scaler, least, scaler.max_replicas, 0 if idles else None, one_of(rng, (30.0, 60.0)),
                one_of(rng, (0.0, 60.0, 240.0)), one_of(rng, (0.0, 60.0)), one_of(rng, (False, False, True)),
                fallback,
            )
        )  # fmt: skip
    return found


def some_kthenas(rng: Draw, lanes: int) -> list[Kthena]:
    """Return roles of one structure."""
    return [
        Kthena(
            one.metrics, one_of(rng, (one.min_replicas, one.max_replicas)), one.max_replicas, one.tolerance,
            _one_period(one.up), _one_period(one.down), one_of(rng, (None, 1.3, 2.0)),
            int(rng.integers(50, 1000)), one_of(rng, (0.0, 15.0, 60.0)), one_of(rng, (0.0, 60.0, 180.0)),
            one.sync_s,
        )
        for one in some_hpas(rng, lanes, kinds=("AverageValue",))
    ]  # fmt: skip


def _one_period(rules: Rules) -> Rules:
    """Return rules whose policies have the period of the first: Kthena has one a direction."""
    policies = tuple(replace(one, period_s=rules.policies[0].period_s) for one in rules.policies)
    return replace(rules, policies=policies)


MAKERS = {"hpa": some_hpas, "keda": some_kedas, "kthena": some_kthenas}


def some_readings(rng: Draw, rows: int, lanes: int) -> dict[str, np.ndarray]:
    """Return loads that wander, jump, fall to nothing and go missing, shape (rows, lanes) a signal."""
    found = {}
    for signal in SIGNALS:
        steps = rng.normal(0.0, 0.15, (rows, lanes)) + (rng.random((rows, lanes)) < 0.03) * rng.normal(0, 1)
        value = 700.0 * np.exp(np.clip(np.cumsum(steps, axis=0), -3.0, 1.0))
        quiet = np.sin(np.arange(rows)[:, None] / 9.0 + rng.uniform(0, 6, lanes)) < -0.7
        value = np.where(quiet, 0.0, value)
        gaps = np.repeat(rng.random((rows // 6 + 1, lanes)) < 0.15, 6, axis=0)[:rows]
        found[signal] = np.where(gaps, np.nan, value)
    return found


def compare(kind: str, seed: int, *, lanes: int, rows: int) -> None:
    """Walk a batch and one reference controller a lane side by side; demand equal counts at every step."""
    rng = np.random.default_rng(seed)
    parameters = MAKERS[kind](rng, lanes)
    batch, alone = batch_of(parameters), [Controller(one) for one in parameters]
    window_s = one_of(rng, (15.0, 60.0, 120.0))
    readings = some_readings(rng, rows, lanes)
    began = rng.integers(0, 3) * 1e6
    counts = rng.integers(0, 20, lanes).astype(float)
    retake = int(rng.integers(2, rows))
    for row in range(rows):
        if row == retake:  # some lanes go on twice, and apart, as under faults
            chosen = rng.integers(0, lanes, lanes)
            kept, batch = batch, batch.take(chosen)
            kept.step(_fleet(readings, counts, counts, row, began, window_s))
            alone, counts = [alone[lane].copy() for lane in chosen], counts[chosen]
        starting = (rng.random(lanes) < 0.3) * rng.integers(0, 4, lanes)
        ready = np.maximum(0.0, counts - starting) + one_of(rng, (0.0, 0.3))
        fleet = _fleet(readings, counts, ready, row, began, window_s)
        views = [_view(fleet, lane, readings, row) for lane in range(lanes)]
        expected = [one.step(view) for one, view in zip(alone, views, strict=True)]
        orders = batch.step(fleet)
        assert orders.count.tolist() == expected, (kind, seed, row)
        assert all(Why(code) for code in orders.code)
        lost = (rng.random(lanes) < 0.02) * rng.integers(0, 3, lanes)  # what others do to the pool
        counts = np.maximum(0.0, orders.count - lost)


def _fleet(
    readings: dict[str, np.ndarray],
    counts: np.ndarray,
    ready: np.ndarray,
    row: int,
    began: float,
    window_s: float,
) -> Fleet:
    scraped = {(signal, "decode"): column[:row] for signal, column in readings.items()}
    times = np.full(counts.size, began + row * window_s)
    return Fleet(times, window_s, {"decode": counts}, {"decode": ready}, Scraped(window_s, scraped))


def _view(fleet: Fleet, lane: int, readings: dict[str, np.ndarray], row: int) -> PoolView:
    columns = {signal: column[:, lane].tolist() for signal, column in readings.items()}
    return PoolView(
        "decode", float(fleet.t_s[lane]), fleet.window_s, int(fleet.desired["decode"][lane]),
        float(fleet.ready["decode"][lane]), columns, row,
    )  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", first(6, range(12)))
def test_a_batch_asks_for_what_each_controller_asks_for_alone(kind: str, seed: int) -> None:
    """Two hundred rows of seven lanes: missing values, starting pods, lost pods, lanes taken twice."""
    compare(kind, seed, lanes=7, rows=200)


@pytest.mark.parametrize("kind", MAKERS)
@given(st.integers(100, 2**32 - 1))
@settings(max_examples=20)
def test_a_batch_is_its_controllers_whatever_their_structure(kind: str, seed: int) -> None:
    """Short walks over many structures."""
    compare(kind, seed, lanes=3, rows=25)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_batches_over_many_structures(kind: str) -> None:
    """A hundred structures, two hundred rows each."""
    for seed in range(1000, 1100):
        compare(kind, seed, lanes=5, rows=200)


def test_lanes_that_differ_in_numbers_share_a_structure() -> None:
    """Targets, tolerances, windows, policies' values and periods, bounds, thresholds: one batch."""
    rng = np.random.default_rng(0)
    for maker, structure in (
        (some_hpas, hpa.structure),
        (some_kedas, keda.structure),
        (some_kthenas, kthena.structure),
    ):
        assert len({structure(one) for one in maker(rng, 20)}) == 1  # type: ignore[operator]


def test_taken_lanes_have_memory_of_their_own() -> None:
    """What a copy sees later changes nothing for the lanes it came from."""
    one = Hpa((Metric("load", 100.0),))
    batch = batch_of([one])
    readings = {"load": np.full((20, 1), 300.0)}
    counts = np.array([10.0])
    batch.step(_fleet(readings, counts, counts, 1, 0.0, 60.0))
    twin = batch.take(np.array([0, 0]))
    surged = {"load": np.full((20, 2), 2000.0)}
    twin.step(_fleet(surged, np.array([10.0, 10.0]), np.array([10.0, 10.0]), 2, 0.0, 60.0))
    asked = [
        int(batch.step(_fleet(readings, counts, counts, row, 0.0, 60.0)).count[0]) for row in range(2, 8)
    ]
    assert asked == [10, 10, 10, 10, 3, 3]


def test_readings_of_another_pool_are_named_with_it() -> None:
    """``signal@role`` reads the other pool; the reach is the longest range."""
    metric = Metric("load@prefill", 100.0, others=(Operand("queue", 300.0),))
    batch = batch_of([Hpa((metric,))])
    assert batch.keys == (("load", "prefill"), ("queue", "decode"))
    assert batch.reach_s == 300.0
    one, nothing = {"decode": np.ones(1)}, {key: np.empty((0, 1)) for key in batch.keys}
    orders = batch.step(Fleet(np.zeros(1), 60.0, one, one, Scraped(60.0, nothing)))
    assert orders.count.tolist() == [1.0]
    assert math.isnan(orders.wanted[0])
    assert Why(orders.code[0]) is Why.MISSING

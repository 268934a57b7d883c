"""Kthena's AutoscalingPolicy: the counts of its own tests, and what they leave open."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from controllers import reference
from controllers.batches import batch_of, fleet, walk
from controllers.fleets import fleet as fleet_of_roles
from controllers.test_cases import CASES, cases
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hs_analysis.controllers.hpa import Metric, RatePolicy, Rules
from hs_analysis.controllers.kthena import (
    Kthena,
    KthenaBatch,
    Moment,
    RatioBand,
    RatioConstraint,
    within_ratio,
)
from hs_analysis.controllers.lanes import Why
from hs_analysis.controllers.registry import Autoscaler
from hs_analysis.controllers.registry import batch_of as autoscalers

KTHENA = YAML(typ="safe").load(CASES / "kthena.yaml")
EVER_S = 1800.0
"""The longest window that Kthena takes [s]."""
LOAD = Metric("load", 100.0, averaging_s=15.0)
OPEN = Rules(0.0, (RatePolicy("Pods", 100, 15.0),))
OFF = Rules(0.0, (RatePolicy("Pods", 0, 15.0), RatePolicy("Percent", 0, 15.0)), "Disabled")
NAN = math.nan


def limits(written: list[Any]) -> Rules:
    """Return one direction of a case; whatever was seen or held lies within its window and period."""
    instances, percent, select = written
    policies = (RatePolicy("Pods", instances, EVER_S), RatePolicy("Percent", percent, EVER_S))
    return Rules(EVER_S, policies, "Max" if select == "Or" else "Min")


@cases(KTHENA, "recommended")
def test_kthena_recommendations(case: dict[str, Any]) -> None:
    """Largest metric that is known, tolerance, bounds before metrics; nothing where none is known."""
    names = [f"m{place}" for place in range(len(case["metrics"]))]
    values = {name: [value] for name, (value, _) in zip(names, case["metrics"], strict=True)}
    metrics = tuple(Metric(name, target) for name, (_, target) in zip(names, case["metrics"], strict=True))
    role = Kthena(metrics, *case["bounds"], case["tolerance"], OPEN, OPEN)
    asked = batch_of([role]).step(fleet(values, [case["current"]], window_s=15.0))
    assert asked.count.tolist() == [case["count"]]


@cases(KTHENA, "corrected")
def test_kthena_windows_limits_and_panic(case: dict[str, Any]) -> None:
    """Extremes of what was asked for and of what ran, Or and And, and panic."""
    up, down = limits(case["up"]), limits(case["down"])
    role = Kthena(
        (Metric("load", 1.0),), *case["bounds"], 0.0, up, down, None, case.get("panic", 0), EVER_S, 1.0
    )
    batch = batch_of([role])
    batch._in_time(Moment(np.zeros(1), 15.0, 1))
    for name in ("seen", "held"):
        for count in case.get(name, []):
            pair = {"seen": NAN, "held": NAN, name: float(count)}
            batch._remember(0.0, np.array([pair["seen"]]), np.array([pair["held"]]))
    batch.until_s[:] = np.inf if "panic" in case else -np.inf
    seen = fleet({"load": [case["wanted"]]}, [case["current"]], window_s=15.0)
    assert batch.step(seen).count.tolist() == [case["count"]]


def paired(prefill: int, decode: int, constraint: RatioConstraint) -> tuple[int, int]:
    """Return one pair of counts after the constraint."""
    counts = {"prefill": np.array([float(prefill)]), "decode": np.array([float(decode)])}
    found = within_ratio(counts, RatioBand.of([constraint]))
    return int(found["prefill"][0]), int(found["decode"][0])


@cases(KTHENA, "ratio")
def test_kthena_ratio(case: dict[str, Any]) -> None:
    """The role that falls short is raised; the other one shrinks only where a bound forbids that."""
    prefill, decode = case["most"]
    band = RatioConstraint(*case["band"], (0, prefill), (0, decode))
    assert paired(*case["counts"], band) == tuple(case["after"])


@cases(KTHENA, "fixed")
def test_kthena_fixed_role(case: dict[str, Any]) -> None:
    """A role of one count takes it, metrics or not."""
    role = Kthena((LOAD,), *case["bounds"])
    assert walk(role, [NAN], case["current"], window_s=15.0) == [case["count"]]


def test_kthena_ratio_looks_for_no_pair_of_whole_counts() -> None:
    """Of 7 decode instances 1.02 to 1.1 are none: 8 is out of the band, and at 8 to 7 decode is raised."""
    band = RatioConstraint(1.02, 1.1, (1, 20), (1, 20))
    assert paired(7, 7, band) == (8, 7)
    assert paired(8, 7, band) == (8, 8)


@given(st.integers(0, 30), st.integers(0, 15), st.floats(0.3, 3.0), st.floats(1.0, 1.6), st.integers(5, 40))
def test_kthena_ratio_is_repaired_as_written(
    prefill: int, decode: int, low: float, width: float, most: int
) -> None:
    """Any counts and bands: what the plain rule says, within the bounds."""
    band = RatioConstraint(low, low * width, (1, most), (0, most))
    found = paired(prefill, decode, band)
    alone = reference.within_ratio({"prefill": prefill, "decode": decode}, band)
    assert found == (alone["prefill"], alone["decode"])
    assert 1 <= found[0] <= most
    assert 0 <= found[1] <= most


def roles(values: dict[str, list[float]], counts: dict[str, int], band: RatioConstraint | None = None) -> Any:
    """Return what one object asks for after rows of 60 s, for prefill and decode."""
    batch = autoscalers([Autoscaler("kthena", dict.fromkeys(counts, Kthena((LOAD,), 1, 40)), band)])
    readings = {("load", role): column for role, column in values.items()}
    return batch.step(fleet_of_roles(readings, counts))


def test_kthena_decides_for_no_role_where_the_metric_of_one_is_missing() -> None:
    """Decode would grow to 8; without the metric of prefill both counts hold, and no ratio is repaired."""
    band = RatioConstraint(1.0, 1.2, (1, 40), (1, 40))
    orders = roles({"prefill": [400.0, NAN], "decode": [400.0, 800.0]}, {"prefill": 4, "decode": 4})
    both = roles({"prefill": [400.0, 400.0], "decode": [400.0, 800.0]}, {"prefill": 4, "decode": 4})
    tied = roles({"prefill": [400.0, NAN], "decode": [400.0, 800.0]}, {"prefill": 8, "decode": 4}, band)
    assert {role: one.tolist() for role, one in both.counts.items()} == {"prefill": [4], "decode": [8]}
    assert {role: one.tolist() for role, one in orders.counts.items()} == {"prefill": [4], "decode": [4]}
    assert {role: one.tolist() for role, one in tied.counts.items()} == {"prefill": [8], "decode": [4]}
    assert [Why(code[0]) for code in orders.code.values()] == [Why.MISSING, Why.MISSING]


def test_kthena_shrinks_on_the_metrics_that_are_known() -> None:
    """Of two metrics one is missing: the other one decides, to shrink too."""
    role = Kthena((LOAD, Metric("queue", 1.0)), 1, 100, down=OPEN)
    seen = fleet({"load": [300.0], "queue": [NAN]}, [9], window_s=15.0)
    assert batch_of([role]).step(seen).count.tolist() == [3]


def test_kthena_repairs_the_ratio_at_each_decision() -> None:
    """Decode grows by one a decision, four in a row; prefill follows it though its own load asks for none."""
    slow = Kthena((LOAD,), 1, 40, up=Rules(0.0, (RatePolicy("Pods", 1, 15.0),)))
    batch = autoscalers(
        [Autoscaler("kthena", {"prefill": slow, "decode": slow}, RatioConstraint(1.0, 2.0, (1, 40), (1, 40)))]
    )
    seen = fleet_of_roles(
        {("load", "prefill"): [400.0], ("load", "decode"): [900.0]}, {"prefill": 4, "decode": 4}
    )
    orders = batch.step(seen)
    assert {role: one.tolist() for role, one in orders.counts.items()} == {"prefill": [8], "decode": [8]}
    assert Why(orders.code["prefill"][0]) is Why.RATIO


@pytest.mark.parametrize(
    ("high", "down", "counts"),
    [
        (1.04, OPEN, {"prefill": 8, "decode": 7}),
        (1.04, OFF, {"prefill": 26, "decode": 25}),
        (1.15, OFF, {"prefill": 8, "decode": 7}),
    ],
)
def test_kthena_leaves_a_narrow_band_or_climbs_to_its_next_pair(
    high: float, down: Rules, counts: dict[str, int]
) -> None:
    """7 and 7 are asked for, and of 1.02 to 1.04 the first pair is 26 to 25: raised, prefill is over it.

    Where nothing may shrink, each decision raises a role further on; in a band that holds 8 to 7 none does.
    """
    role = Kthena((LOAD,), 1, 60, 0.1, OPEN, down)
    band = RatioConstraint(1.02, high, (1, 60), (1, 60))
    batch = autoscalers([Autoscaler("kthena", {"prefill": role, "decode": role}, band)])
    found = {"prefill": 7, "decode": 7}
    for row in range(1, 16):
        readings = {("load", name): [700.0] * row for name in found}
        asked = batch.step(fleet_of_roles(readings, found, t_s=60.0 * row)).counts
        found = {name: int(one[0]) for name, one in asked.items()}
    assert found == counts


def test_kthena_does_not_keep_the_count_that_it_found() -> None:
    """Five minutes of window, and nothing recommended yet: the first decision shrinks, unlike an HPA's."""
    role = Kthena((LOAD,), 1, 100)
    assert walk(role, [200.0], 9, window_s=15.0) == [2]


def test_kthena_limits_count_from_the_extreme_of_the_period() -> None:
    """Grown by 4 and shrunk again within a minute, a pool may grow from its lowest count only."""
    four = Rules(0.0, (RatePolicy("Pods", 4, 60.0),))
    role = Kthena((LOAD,), 1, 100, up=four, down=Rules(0.0, (RatePolicy("Pods", 100, 15.0),)))
    assert walk(role, [400.0, 800.0, 200.0, 2000.0, 2000.0], 4, window_s=15.0) == [4, 8, 2, 6, 6]


def test_kthena_percentages_round_down() -> None:
    """25 % of 3 is no instance: a pool that small grows by its one instance only."""
    quarter = Rules(0.0, (RatePolicy("Pods", 0, 15.0), RatePolicy("Percent", 25, 15.0)))
    role = Kthena((LOAD,), 1, 100, up=quarter, down=quarter)
    assert walk(role, [3000.0], 3, window_s=15.0) == [3]
    assert walk(role, [3000.0], 9, window_s=15.0) == [11]
    assert walk(role, [100.0], 9, window_s=15.0) == [7]


def test_kthena_defaults_are_those_of_its_webhook() -> None:
    """4 instances or 100 % in a minute, no panic; 100 % down after five minutes."""
    role = Kthena((LOAD,), 1, 100)
    assert walk(role, [3000.0], 4, window_s=15.0) == [8]
    assert walk(role, [3000.0], 2, window_s=15.0) == [6]
    assert walk(role, [900.0] * 2 + [200.0] * 6, 9) == [9] * 6 + [2, 2]


def test_kthena_panic_lifts_windows_and_limits_and_shrinks_nothing() -> None:
    """From twice the pool on, for a hold: 100 % of the lowest count of 30 s, and no removal."""
    role = Kthena((LOAD,), 1, 100, 0.1, OPEN, OPEN, 2.0, 100, 30.0, 60.0)
    slow = dataclasses.replace(role, up=Rules(300.0, (RatePolicy("Pods", 1, 15.0),)))
    assert walk(slow, [400.0, 3000.0, 3000.0, 3000.0, 3000.0], 4, window_s=15.0) == [4, 8, 8, 16, 16]
    assert walk(role, [400.0, 900.0] + [100.0] * 5, 4, window_s=15.0) == [4, 8, 8, 8, 8, 1, 1]
    assert walk(dataclasses.replace(slow, panic_hold_s=0.0), [3000.0], 4, window_s=15.0) == [5]


@given(st.integers(0, 2**32 - 1))
def test_kthena_ratio_of_many_lanes_is_that_of_each(seed: int) -> None:
    """Lanes with bands and bounds of their own move as they do alone."""
    rng = np.random.default_rng(seed)
    bands = []
    for _ in range(40):
        low, least, most = rng.uniform(0.3, 3.0), rng.integers(1, 4, 2), rng.integers(4, 30, 2)
        high = low * rng.uniform(1.0, 1.6)
        bounds = [(int(a), int(b)) for a, b in zip(least, most, strict=True)]
        bands.append(RatioConstraint(low, high, bounds[0], bounds[1]))
    prefill, decode = rng.integers(0, 30, 40), rng.integers(0, 30, 40)
    found = within_ratio({"prefill": prefill, "decode": decode}, RatioBand.of(bands))
    for lane, band in enumerate(bands):
        alone = reference.within_ratio({"prefill": int(prefill[lane]), "decode": int(decode[lane])}, band)
        assert (found["prefill"][lane], found["decode"][lane]) == (alone["prefill"], alone["decode"])


@pytest.mark.parametrize("window_s", [15.0, 60.0])
def test_kthena_of_two_roles_is_that_of_each_without_a_ratio(window_s: float) -> None:
    """Without a constraint each role asks for what it asks for alone, sync by sync or a row at once."""
    role = Kthena((LOAD,), 1, 40)
    loads = [400.0, 900.0, 2000.0, 300.0, 300.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    batch = autoscalers([Autoscaler("kthena", {"prefill": role, "decode": role})])
    counts, both = {"prefill": 4, "decode": 6}, []
    for rows in range(1, len(loads) + 1):
        readings = {("load", name): loads[:rows] for name in counts}
        seen = fleet_of_roles(readings, counts, t_s=rows * window_s, window_s=window_s)
        counts = {name: int(one[0]) for name, one in batch.step(seen).counts.items()}
        both.append(counts)
    assert [one["prefill"] for one in both] == walk(role, loads, 4, window_s=window_s)
    assert [one["decode"] for one in both] == walk(role, loads, 6, window_s=window_s)


def every_count(seed: int, lanes: int) -> list[np.ndarray]:
    """Return counts and reasons of random objects over a moving load, row by row of four decisions."""
    rng = np.random.default_rng(seed)

    def direction() -> Rules:
        limit = RatePolicy("Pods", int(rng.integers(1, 5)), float(rng.choice([15.0, 60.0, 90.0])))
        return Rules(float(rng.choice([0, 40, 90, 150])), (limit,))

    objects = []
    for _ in range(lanes):
        panic = (2.0, 100, 30.0, float(rng.choice([0.0, 60.0])))
        low = float(rng.uniform(0.5, 1.5))
        band = RatioConstraint(low, low * float(rng.uniform(1.0, 1.4)), (1, 30), (1, 30))
        role = Kthena((LOAD,), int(rng.integers(1, 4)), 30, 0.1, direction(), direction(), *panic)
        objects.append(Autoscaler("kthena", {"prefill": role, "decode": role}, band))
    batch = autoscalers(objects)
    counts: dict[str, Any] = {"prefill": np.full(lanes, 6.0), "decode": np.full(lanes, 6.0)}
    loads = {name: np.repeat(rng.uniform(200, 2000, (10, lanes)), 3, axis=0) for name in counts}
    loads["prefill"] *= rng.uniform(0.9, 1.1, (30, lanes))
    loads["decode"][rng.random((30, lanes)) < 0.05] = NAN
    found = []
    for row in range(1, 31):
        readings = {("load", name): loads[name][:row] for name in counts}
        orders = batch.step(fleet_of_roles(readings, counts, t_s=row * 60.0))
        counts = orders.counts
        found += [np.array(list(one.values())) for one in (orders.counts, orders.code)]
    return found


@pytest.mark.parametrize("seed", range(10))
def test_kthena_decisions_that_repeat_are_those_that_are_left_out(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a row is remembered unlooked at where it brings the same: as if each were decided."""
    quick = every_count(seed, 2)
    never = property(lambda _: False, lambda _, value: None)
    monkeypatch.setattr(KthenaBatch, "settled", never, raising=False)
    each = every_count(seed, 2)
    assert all(np.array_equal(one, other) for one, other in zip(quick, each, strict=True))

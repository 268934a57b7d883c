"""GPUs of a whole service: kept in the step of the rule that scales all pools at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from controllers.fleets import fleet
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.controllers.heteroscale import (
    GpuLimit,
    HeteroScale,
    HeteroScaleBatch,
    LatencyGuard,
    PoolRule,
    RatioUpkeep,
    within_gpus,
)
from hs_analysis.controllers.lanes import Why

GPUS = {"prefill": 8.0, "decode": 4.0}
PREFILL, DECODE, TTFT = ("prefill_tps", "prefill"), ("decode_tps", "decode"), ("ttft", "prefill")


def lanes(**counts: list[float]) -> dict[str, np.ndarray]:
    """Return counts of two pools in lanes."""
    return {role: np.array(values, float) for role, values in counts.items()}


def test_growth_is_cut_by_one_share_in_every_lane() -> None:
    """What fits stays; else both pools get the same share of what they want beyond what they keep."""
    wanted = lanes(prefill=[4, 10, 20], decode=[5, 20, 3])
    gpus = {role: np.full(3, one) for role, one in GPUS.items()}
    found = within_gpus(wanted, lanes(prefill=[2, 2, 2], decode=[3, 3, 3]), gpus, np.full(3, 96.0))
    assert {role: counts.tolist() for role, counts in found.items()} == {
        "prefill": [4, 6, 10], "decode": [5, 12, 3],
    }  # fmt: skip


def rule(limit: int, least: int = 1, **changes: Any) -> HeteroScale:
    """Return a rule of two primaries, 100 tokens/s an instance, under a limit of GPUs."""
    pools = {
        role: PoolRule(signal, 100.0, rest_in_s=0.0, least=least, is_strict=True)
        for signal, role in (PREFILL, DECODE)
    }
    return HeteroScale(pools, gpus=GpuLimit(limit, GPUS), **changes)


def ask(control: HeteroScale | HeteroScaleBatch, load: tuple[float, float], counts: tuple[int, int]) -> Any:
    """Return the orders of one lane at a load of prefill and decode."""
    batch = HeteroScaleBatch([control]) if isinstance(control, HeteroScale) else control
    readings = {PREFILL: [load[0]], DECODE: [load[1]]}
    return batch.step(fleet(readings, {"prefill": counts[0], "decode": counts[1]}))


def of(orders: Any) -> tuple[float, float]:
    """Return the counts of the first lane."""
    return float(orders.counts["prefill"][0]), float(orders.counts["decode"][0])


def test_growth_of_one_pool_takes_nothing_from_the_other() -> None:
    """96 GPUs: ten of prefill leave room for four of decode, and it says what held it."""
    orders = ask(rule(96), (1000.0, 1000.0), (10, 2))
    assert of(orders) == (10, 4)
    assert orders.code["decode"][0] == Why.GPU_LIMIT
    assert orders.wanted["decode"][0] == 10
    assert of(ask(rule(96), (200.0, 1000.0), (10, 2))) == (2, 10)  # what leaves makes room at once


def test_fleet_above_the_limit_comes_down_to_it() -> None:
    """Each pool by the same share above its least."""
    assert of(ask(rule(96), (1600.0, 1600.0), (16, 16))) == (8, 8)


def test_users_maximum_brings_a_pool_down_at_once() -> None:
    """A guessed maximum leaves the pool where it stands."""
    for strict, count in ((True, 4), (False, 9)):
        pools = {"decode": PoolRule("decode_tps", 100.0, most=4, is_strict=strict)}
        orders = HeteroScaleBatch([HeteroScale(pools)]).step(fleet({DECODE: [900.0]}, {"decode": 9}))
        assert orders.counts["decode"][0] == count


def test_instances_under_observation_hold_their_gpus() -> None:
    """They run on and may come back, so that nothing starts in their place."""
    batch = HeteroScaleBatch([rule(96, observe_s=600.0)])
    assert of(ask(batch, (200.0, 400.0), (10, 4))) == (2, 4)
    assert of(ask(batch, (200.0, 2000.0), (2, 4))) == (2, 4)


@st.composite
def fleets(draw: Any) -> tuple[list[HeteroScale], list[dict[str, float]], list[list[list[float]]]]:
    """Return controls of one structure, GPUs of their instances, and per step a load of both pools a lane."""
    follows, soft = draw(st.booleans()), draw(st.booleans())
    number = draw(st.integers(1, 3))
    controls = []
    for _ in range(number):
        gpus = {role: draw(st.sampled_from([0.5, 1.0, 2.0, 8.0, 1 / 3])) for role in GPUS}
        least = {role: draw(st.integers(1, 4)) for role in GPUS}
        needed = math.ceil(sum(least[role] * gpus[role] for role in GPUS) - 1e-9)
        limit = needed + draw(st.integers(0, 60))
        guard = LatencyGuard("ttft", "prefill", 1.0, ((1.0, 0.5),))
        pools = {
            "prefill": PoolRule(
                "" if follows else "prefill_tps",
                100.0,
                rest_in_s=0.0,
                least=least["prefill"],
                guards=(guard,),
            ),
            "decode": PoolRule("decode_tps", 100.0, rest_in_s=0.0, least=least["decode"]),
        }
        upkeep = RatioUpkeep("decode", draw(st.floats(0.2, 5.0)), 0.1) if follows else None
        controls.append(
            HeteroScale(pools, upkeep, observe_s=120.0 if soft else None, gpus=GpuLimit(limit, gpus))
        )
    load = st.floats(0.0, 5000.0)
    one = st.lists(load, min_size=3, max_size=3)
    steps = draw(st.lists(st.lists(one, min_size=number, max_size=number), min_size=2, max_size=6))
    return controls, [dict(c.gpus.per_instance) for c in controls if c.gpus], steps


@given(fleets(), st.integers(1, 30), st.integers(1, 30))
def test_no_lane_ever_holds_more_gpus_than_its_limit(made: Any, prefill: int, decode: int) -> None:
    """Whatever it reads, guards and restored instances included; a start above the limit comes down to it.

    Once it is there what is under observation fits too.
    """
    controls, gpus, steps = made
    batch = HeteroScaleBatch(controls)
    counts: dict[str, Any] = {
        "prefill": np.full(len(controls), float(prefill)), "decode": np.full(len(controls), float(decode)),
    }  # fmt: skip
    fitted = np.zeros(len(controls), bool)
    for number, loads in enumerate(steps):
        rows = np.array(loads).T
        seen = {PREFILL: rows[:1], DECODE: rows[1:2], TTFT: rows[2:] / 2500.0}
        orders = batch.step(fleet(seen, counts, t_s=60.0 * number))
        counts = orders.counts
        for lane, control in enumerate(controls):
            limit = control.gpus.limit + 1e-6
            assert sum(counts[role][lane] * gpus[lane][role] for role in GPUS) <= limit
            paid = {role: counts[role][lane] + orders.draining.get(role, [0] * 9)[lane] for role in GPUS}
            fits = sum(paid[role] * gpus[lane][role] for role in GPUS) <= limit
            assert fits or not fitted[lane]
            fitted[lane] |= fits

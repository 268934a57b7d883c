"""llm-d's SLO-aware formula: the mathematics of its guide, and the HPA behind it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from controllers.fleets import fleet
from controllers.test_registry import sizing

from hs_analysis.controllers.lanes import Why
from hs_analysis.controllers.registry import CONTROLLERS, Autoscaler
from hs_analysis.controllers.slo_aware import SCALER, Latency, SloAware, SloAwareBatch

NAN, INF = float("nan"), float("inf")
TTFT, TPOT = ("ttft", "pool"), ("tpot", "pool")
POOL = SloAware(
    (Latency("ttft", 3.0), Latency("tpot", 0.1)), scaler=dataclasses.replace(SCALER, min_replicas=1)
)


def seen(
    ttft: list[float], tpot: list[float], count: int, *, ready: float | None = None, window_s: float = 60.0
) -> Any:
    """Return a pool after some rows of both latencies."""
    ready = count if ready is None else ready
    return fleet({TTFT: ttft, TPOT: tpot}, {"pool": count}, ready={"pool": ready}, window_s=window_s)


@pytest.mark.parametrize(
    ("ttft", "tpot", "wanted"),
    [
        ([0.9], [0.03], 0.3),
        ([0.9], [0.08], 0.8),
        ([3.3], [0.03], 1.1),
        ([90.0], [0.03], 2.0),
        ([NAN], [NAN], 0.0),
        ([NAN], [0.05], 0.5),
    ],
)
def test_the_signal_is_the_worse_share_of_the_slo(
    ttft: list[float], tpot: list[float], wanted: float
) -> None:
    """Of 3 s and 100 ms; at most 2, and nothing reads as idle."""
    found = SloAwareBatch([POOL], "pool").saturation(seen(ttft, tpot, 4))
    assert found.tolist() == pytest.approx([wanted])


def test_an_object_to_which_a_gap_is_no_idle_pool_holds_its_count() -> None:
    """One latency of two is enough; in one batch each lane keeps its own reading."""
    holds = dataclasses.replace(POOL, missing_is_idle=False)
    batch = SloAwareBatch([holds], "pool")
    assert np.isnan(batch.saturation(seen([NAN], [NAN], 4))).all()
    assert batch.saturation(seen([NAN], [0.05], 4)).tolist() == pytest.approx([0.5])
    assert batch.step(seen([NAN], [NAN], 4)).count.tolist() == [4.0]
    falls = SloAwareBatch([POOL], "pool")
    assert falls.formula(falls.saturation(seen([NAN], [NAN], 4)), seen([NAN], [NAN], 4)).tolist() == [0.0]


def test_the_signal_is_clamped_before_it_is_averaged() -> None:
    """Three rows of 15 s: one sample of thirty times the SLO counts as two."""
    batch = SloAwareBatch([POOL], "pool")
    found = batch.saturation(seen([9.0, 0.9, 90.0, 0.9], [0.01] * 4, 4, window_s=15.0))
    assert found.tolist() == pytest.approx([(0.3 + 2.0 + 0.3) / 3])


@pytest.mark.parametrize(
    ("s", "n", "r", "wanted"),
    [
        (0.54, 4, 4, 4),
        (0.41, 4, 4, 4),
        (0.66, 4, 4, 4 + math.ceil(4 * (0.66 / 0.55 - 1))),
        (2.0, 3, 3, 3 + math.ceil(3 * (2.0 / 0.55 - 1))),
        (1.1, 6, 3, 6),
        (1.1, 4, 3, 4 + math.ceil(4 * (1.1 * 0.75 / 0.55 - 1))),
        (0.66, 4, 2, 3),
        (0.2, 8, 8, 4),
        (0.35, 8, 8, 7),
        (0.39, 8, 4, 8),
        (0.0, 8, 8, 0),
    ],
)
def test_the_formula_is_the_guides(s: float, n: int, r: int, wanted: float) -> None:
    """Over 0.55 with a credit for what starts, under 0.40 without, between them the count."""
    asked = SloAwareBatch([POOL], "pool").formula(np.array([s]), seen([1.0], [0.01], n, ready=r))
    assert asked.tolist() == [wanted]


def test_the_hpa_behind_it_grows_fast_and_shrinks_slowly() -> None:
    """At most four pods or twice as many in a minute; one pod in two minutes, after three."""
    batch, count, counts = SloAwareBatch([POOL], "pool"), 3, []
    latencies = [6.0, 6.0] + [0.3] * 8
    for row in range(1, len(latencies) + 1):
        view = fleet(
            {TTFT: latencies[:row], TPOT: [0.01] * row}, {"pool": count}, t_s=60.0 * row, window_s=60.0
        )
        count = int(batch.step(view).count[0])
        counts.append(count)
    assert counts == [7, 14, 14, 14, 13, 13, 12, 12, 11, 11]


def test_a_latency_that_the_replay_cannot_know_holds_the_count() -> None:
    """It is no missing metric: the router would have had a value."""
    orders = SloAwareBatch([POOL], "pool").step(seen([INF], [0.01], 4))
    assert orders.count.tolist() == [4]
    assert Why(int(orders.code[0])) is Why.MISSING


def test_it_is_set_up_where_limits_and_p90s_are_known() -> None:
    """TTFT drives prefill, TBT decode; else it says what is missing."""
    (row,) = (row for row in CONTROLLERS if row.name == "slo_aware")
    given = {"ttft": 1.0, "tbt": 0.05}
    read = {("ttft_p90_60s", "service"), ("tbt_p90_60s", "decode")}
    found = row.size(sizing(slo_s=given, readable=frozenset(read)))
    assert isinstance(found, Autoscaler)
    assert {role: pool.signals for role, pool in found.pools.items()} == {
        "prefill": ("ttft_p90_60s@service",),
        "decode": ("tbt_p90_60s@decode",),
    }
    assert found.pools["prefill"].scaler.max_replicas == 20
    assert (
        row.size(sizing(slo_s={"ttft": 1.0})) == "the P90 of TTFT over 60 s was not evaluated on this history"
    )
    assert row.size(sizing()) == "no SLO is given for the latency of prefill"

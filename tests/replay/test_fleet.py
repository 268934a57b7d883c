"""The fluid fleet against references and theory: start-up, queues, violation law, most it can serve."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import D_CAPACITY, P_CAPACITY, SETTINGS, derived, pd_day, service

from hs_analysis.replay.constants import CEILING_OVER_CAPACITY, FULLEST
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import (
    FleetModel,
    PoolLanes,
    PoolModel,
    fit_fleet,
    throughput_by_latency,
    violation_probability,
)
from hs_analysis.replay.signals import fit_signals
from hs_analysis.replay.simulate import Schedule, simulate
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Startup
from hs_analysis.schema.settings import Settings

MODEL = PoolModel("decode", 100.0, "ok", 60.0, 110.0, 240.0, "settings", ("tbt",), 85.0)
PAIRED = {"prefill": replace(MODEL, role="prefill", judged=("ttft",)), "decode": MODEL}


def lanes_of(model: PoolModel, *counts: float) -> PoolLanes:
    """Return a pool of one lane a count, in rows of four steps of 15 s."""
    return PoolLanes(model, np.array(counts, float), 60.0, 4)


def pass_row(pool: PoolLanes, *, steps: int = 4) -> None:
    """Let a row pass."""
    for step in range(steps):
        pool.become_ready(step)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=60),
    st.sampled_from([0.0, 60.0, 240.0, 250.0]),
)
def test_ready_is_the_least_desired_over_the_last_start_up(
    counts: list[tuple[int, int]], startup_s: float
) -> None:
    """Cohorts that start late give the same ready count as the rolling minimum of what was asked for."""
    pool = lanes_of(replace(MODEL, startup_s=startup_s), *counts[0])
    asked = [(-math.inf, counts[0])]
    for row, pair in enumerate(counts):
        t_s = row * 60.0
        pool.begin_row()
        pool.ask(np.array(pair, float))
        asked.append((t_s, pair))
        for step in range(4):
            pool.become_ready(step)
            since = t_s + 15.0 * step - startup_s
            until = [at for at, _ in asked[1:]] + [math.inf]
            valid = [pair for (_, pair), end in zip(asked, until, strict=True) if end > since]
            assert pool.ready.tolist() == [min(one) for one in zip(*valid, strict=True)]


def test_restored_instances_are_ready_at_once() -> None:
    """What never stopped running serves again without a start-up; in the next lane nothing comes back."""
    pool = lanes_of(MODEL, 6, 6)
    pool.ask(np.array([4.0, 4.0]))
    pool.begin_row()
    pool.ask(np.array([7.0, 7.0]), np.array([2.0, 0.0]))
    assert (pool.desired.tolist(), pool.ready.tolist()) == ([7, 7], [6, 4])
    for _ in range(4):
        pass_row(pool)
        assert pool.ready.tolist() == [6, 4]
        pool.begin_row()
    pass_row(pool, steps=1)
    assert pool.ready.tolist() == [7, 7]


def run_static(rates: np.ndarray, ceiling: float, window_s: float = 60.0):
    """Simulate one decode instance at a rate per row."""
    frame = service({"decode": rates}, {"decode": 1}, window_s=window_s)
    model = FleetModel({"decode": replace(MODEL, max_throughput=ceiling)}, {}, 0.05)
    return simulate(Schedule({"decode": np.ones(len(rates))}), demands(frame)[0], model)


def test_queue_follows_lindley() -> None:
    """The queue after each row is max(0, queue + arrived − served capacity)."""
    rates = np.random.default_rng(1).gamma(4.0, 22.5, 500)
    result = run_static(rates, 100.0)
    queue, expected = 0.0, []
    for rate in rates:
        queue = max(0.0, queue + (rate - 100.0) * 60.0)
        expected.append(queue)
    np.testing.assert_allclose(result.queued["decode"], expected, atol=1e-6)


@pytest.mark.parametrize("load", [pytest.param(0.8, marks=pytest.mark.slow), 0.9])
def test_mean_queue_agrees_with_queueing_theory(load: float) -> None:
    """Poisson work at a steady server: the mean queue of the slotted M/D/1 within 10 % at two loads.

    Q' = max(0, Q + A − 1), A Poisson(load): mean queue after service = load² ÷ (2 (1 − load)).
    """
    arrivals = np.random.default_rng(3).poisson(load, 60_000).astype(float)
    result = run_static(arrivals, 1.0, window_s=1.0)
    assert result.queued["decode"].mean() == pytest.approx(load**2 / (2 * (1 - load)), rel=0.10)


def test_work_is_conserved_between_pools() -> None:
    """Arrived plus queued before is served plus queued after, and decode gets what prefill has finished."""
    frame = pd_day(400)
    model = FleetModel(
        PAIRED
        | {
            r: replace(p, max_throughput=c) for (r, p), c in zip(PAIRED.items(), (1500.0, 600.0), strict=True)
        },
        {},
        0.05,
    )
    demand = demands(frame)[0]
    counts = {"prefill": np.full(400, 11.0), "decode": np.full(400, 4.0)}
    result = simulate(Schedule(counts), demand, model)
    for role in ("prefill", "decode"):
        before = np.concatenate([[0.0], result.queued[role][:-1]])
        left = result.served[role] + result.queued[role]
        np.testing.assert_allclose(result.arrived[role] + before, left, rtol=1e-9, atol=1e-3)
    assert result.queued["prefill"].max() > 0
    np.testing.assert_allclose(result.arrived["prefill"], demand.offered["prefill"] * 60.0)
    offered = np.cumsum(demand.offered["decode"]) * 60.0
    assert (np.cumsum(result.arrived["decode"]) <= offered * (1 + 1e-9)).all()
    share = np.cumsum(result.arrived["decode"])[-1] / offered[-1]
    assert share == pytest.approx(
        np.cumsum(result.served["prefill"])[-1] / result.arrived["prefill"].sum(), rel=0.02
    )


def test_violation_law_crosses_the_allowed_share_at_capacity() -> None:
    """5 % at capacity, rising with load; certain once the backlog is older than a second."""
    load = np.array([90.0, 100.0, 105.0, 110.0, np.inf, np.nan, 50.0])
    age = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5])
    found = violation_probability(load, age, MODEL, 0.05)
    assert found[1] == pytest.approx(0.05)
    assert found[2] == pytest.approx(1 / (1 + math.exp(-(60 * math.log(1.05) - 2.944439))), rel=1e-6)
    assert (np.diff(found[:4]) > 0).all()
    assert found[4] == 1.0
    assert math.isnan(found[5])
    assert found[6] == 1.0
    unknown = violation_probability(load, age, replace(MODEL, capacity=None), 0.05)
    assert unknown[6] == 1.0
    assert np.isnan(unknown[:6]).all()


def test_fleet_is_learnt_from_history_and_settings() -> None:
    """Ceiling: the highest rate seen, at least 1.1 × the upper end of capacity; defaults are marked."""
    model = fit_fleet(pd_day(), derived(), SETTINGS)
    seen = float(np.max(pd_day().values("decode_tps", "decode") / 4))
    assert model.pools["decode"].max_throughput == pytest.approx(max(seen, 1.1 * 1.05 * D_CAPACITY))
    assert model.pools["prefill"].capacity == P_CAPACITY
    assert model.pools["prefill"].judged == ("ttft",)
    busy = service({"decode": np.full(60, 9000.0)}, {"decode": 4})
    assert fit_fleet(busy, derived(), SETTINGS).pools["decode"].max_throughput == 2250.0
    bare = fit_fleet(pd_day(), replace(derived(), capacity=()), Settings())
    pool = bare.pools["decode"]
    assert (pool.capacity, pool.status, pool.startup_s, pool.startup_from) == (
        None,
        "refused",
        300.0,
        "default",
    )
    assert (pool.target, pool.judged) == (None, ())


def test_a_measured_start_up_time_stands_where_none_is_given() -> None:
    """A lower bound does not."""
    measured = Startup(role="decode", value_s=410.0, ci=(400.0, 420.0), births=5, status="ok", reason=None)
    bound = Startup(role="prefill", value_s=200.0, ci=(190.0, 210.0), births=5, status="floor", reason=None)
    found = replace(derived(), startup=(measured, bound))
    pools = fit_fleet(pd_day(), found, replace(SETTINGS, startup_s={})).pools
    assert (pools["decode"].startup_s, pools["decode"].startup_from) == (410.0, "measured")
    assert pools["prefill"].startup_from == "default"
    told = fit_fleet(pd_day(), found, replace(SETTINGS, startup_s={"decode": 90.0})).pools["decode"]
    assert (told.startup_s, told.startup_from) == (90.0, "settings")


ROWS = 400
SHARE = np.linspace(0.2, 0.9, ROWS)
BATCH_LIMIT = 2.0 * D_CAPACITY
TOKENS, TTFT_S = 1000.0, 0.2


def calm(**latencies: np.ndarray) -> ServiceFrame:
    """Return a service whose pools of ten and four never came near a limit."""
    prompts = SHARE * 10 * P_CAPACITY
    return service(
        {"prefill": prompts, "decode": SHARE * 4 * D_CAPACITY},
        {"prefill": 10, "decode": 4},
        request_rate__service=prompts / TOKENS,
        **latencies,
    )


def with_latencies() -> ServiceFrame:
    """Return it with the latencies of a batch that ends at ``BATCH_LIMIT`` and of prompts that wait late."""
    tbt = 0.01 / (1 - SHARE * D_CAPACITY / BATCH_LIMIT)
    return calm(tbt__decode=tbt, ttft__service=TTFT_S + 0.3 * np.maximum(0.0, SHARE - 0.6))


def model_of(frame: ServiceFrame, status: str) -> FleetModel:
    """Fit the fleet on the whole history."""
    return fit_fleet(frame, derived(status=status), SETTINGS)


def test_a_floor_queues_where_latencies_say_and_not_where_the_load_ended() -> None:
    """One prompt after the other at the lowest TTFT; a batch at its own limit, to the width of a bin."""
    pools = model_of(with_latencies(), "floor").pools
    assert pools["prefill"].max_throughput == pytest.approx(TOKENS / TTFT_S)
    assert pools["prefill"].max_throughput > CEILING_OVER_CAPACITY * P_CAPACITY
    assert pools["decode"].max_throughput == pytest.approx(FULLEST * BATCH_LIMIT, rel=0.01)


def test_a_capacity_that_was_measured_keeps_its_ceiling() -> None:
    """Latencies say nothing against a limit that was met."""
    for role, ceiling in model_of(with_latencies(), "ok").pools.items():
        capacity = {"prefill": P_CAPACITY, "decode": D_CAPACITY}[role]
        assert ceiling.max_throughput < 1.3 * capacity


def test_without_latencies_a_floor_queues_a_little_over_what_it_carried() -> None:
    """Nothing else is known; a TBT that does not rise has no limit either."""
    frame = calm()
    assert throughput_by_latency(frame, "prefill", fit_signals(frame)) == 0.0
    assert (
        model_of(frame, "floor").pools["prefill"].max_throughput
        == model_of(frame, "ok").pools["prefill"].max_throughput
    )
    flat = calm(tbt__decode=np.full(ROWS, 0.01))
    assert throughput_by_latency(flat, "decode", fit_signals(flat)) == 0.0


def test_load_beyond_a_floor_does_not_wait_in_a_queue_that_nobody_saw() -> None:
    """A third over the floor, the pools of a calm history serve what comes; still not within the SLO."""
    model = model_of(with_latencies(), "floor")
    high = {"prefill": np.full(60, 13.0 * P_CAPACITY), "decode": np.full(60, 5.2 * D_CAPACITY)}
    (part,) = demands(service(high, {"prefill": 10, "decode": 4}))
    counts = {"prefill": np.full(60, 10.0), "decode": np.full(60, 4.0)}
    result = simulate(Schedule(counts), part, model)
    assert max(queue[-1] for queue in result.queued.values()) == 0.0
    assert result.violation["decode"].min() > 0.9

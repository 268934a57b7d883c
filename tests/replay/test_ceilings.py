"""Where a pool begins to queue: what ran, a little over capacity, and what latencies say of a floor."""

from __future__ import annotations

import numpy as np
import pytest
from hs_analysis.replay.control import Schedule
from replay.services import D_CAPACITY, P_CAPACITY, SETTINGS, derived, service

from hs_analysis.replay.constants import CEILING_OVER_CAPACITY, FULLEST
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import FleetModel, fit_fleet, throughput_by_latency
from hs_analysis.replay.signals import fit_signals
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 400
LOAD = np.linspace(0.2, 0.9, ROWS)
BATCH_LIMIT = 2.0 * D_CAPACITY
TOKENS, TTFT_S = 1000.0, 0.2


def calm(**latencies: np.ndarray) -> ServiceFrame:
    """Return a service whose pools of ten and four never came near a limit."""
    prompts = LOAD * 10 * P_CAPACITY
    return service(
        {"prefill": prompts, "decode": LOAD * 4 * D_CAPACITY},
        {"prefill": 10, "decode": 4},
        request_rate__service=prompts / TOKENS,
        **latencies,
    )


def told() -> ServiceFrame:
    """Return it with the latencies of a batch that ends at ``BATCH_LIMIT`` and of prompts that wait late."""
    tbt = 0.01 / (1 - LOAD * D_CAPACITY / BATCH_LIMIT)
    return calm(tbt__decode=tbt, ttft__service=TTFT_S + 0.3 * np.maximum(0.0, LOAD - 0.6))


def model_of(frame: ServiceFrame, status: str) -> FleetModel:
    """Fit the fleet on the whole history."""
    return fit_fleet(frame, derived(status=status), SETTINGS)


def test_a_floor_queues_where_latencies_say_and_not_where_the_load_ended() -> None:
    """One prompt after the other at the lowest TTFT; a batch at its own limit, to the width of a bin."""
    pools = model_of(told(), "floor").pools
    assert pools["prefill"].max_throughput == pytest.approx(TOKENS / TTFT_S)
    assert pools["prefill"].max_throughput > CEILING_OVER_CAPACITY * P_CAPACITY
    assert pools["decode"].max_throughput == pytest.approx(FULLEST * BATCH_LIMIT, rel=0.01)


def test_a_capacity_that_was_measured_keeps_its_ceiling() -> None:
    """Latencies say nothing against a limit that was met."""
    for role, ceiling in model_of(told(), "ok").pools.items():
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
    model = model_of(told(), "floor")
    high = {"prefill": np.full(60, 13.0 * P_CAPACITY), "decode": np.full(60, 5.2 * D_CAPACITY)}
    (part,) = demands(service(high, {"prefill": 10, "decode": 4}))
    counts = {"prefill": np.full(60, 10.0), "decode": np.full(60, 4.0)}
    result = simulate(Schedule(counts), part, model)
    assert max(queue[-1] for queue in result.queued.values()) == 0.0
    assert result.violation["decode"].min() > 0.9

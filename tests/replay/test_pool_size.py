"""Queues: the reference against theory and simpy, and the law of pool size against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st
from replay.services import P_CAPACITY, SETTINGS, derived, pd_day, service
from replay.theory import erlang_c, md1_mean_wait, mmc_wait_tail, poisson_times, waits

from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet, violation_probability
from hs_analysis.replay.simulate import Schedule, simulate
from hs_analysis.statistics.constants import SIZE_LOSS
from hs_analysis.statistics.queueing import size_factor, steepness_factor

SERVICE_S, LIMIT_S = 0.4, 1.6
"""A prompt takes 0.4 s; the first token may take 2 s, so that it may wait 1.6 s."""


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.85), (12, 0.9)])
def test_reference_queue_against_erlang(servers: int, load: float) -> None:
    """Share of customers who wait, and of those who wait long, of M/M/c."""
    rng = np.random.default_rng(servers)
    times = poisson_times(servers * load / SERVICE_S, 60_000.0, rng)
    found = waits(times, rng.exponential(SERVICE_S, times.size), servers)
    assert (found > 1e-9).mean() == pytest.approx(erlang_c(servers, load), rel=0.06)
    assert (found > 1.0).mean() == pytest.approx(mmc_wait_tail(servers, load, SERVICE_S, 1.0), rel=0.15)


def test_reference_queue_against_pollaczek_and_khinchine() -> None:
    """Mean wait of M/D/1."""
    rng = np.random.default_rng(1)
    times = poisson_times(0.8 / SERVICE_S, 100_000.0, rng)
    found = waits(times, np.full(times.size, SERVICE_S), 1)
    assert found.mean() == pytest.approx(md1_mean_wait(0.8, SERVICE_S), rel=0.05)


def test_reference_queue_against_simpy() -> None:
    """The same arrivals and services through simpy's resource give the same waits."""
    rng = np.random.default_rng(2)
    times = poisson_times(3 * 0.9 / SERVICE_S, 400.0, rng)
    services = rng.exponential(SERVICE_S, times.size)
    environment = simpy.Environment()
    desk = simpy.Resource(environment, capacity=3)
    found = np.empty(times.size)

    def customer(number: int):
        yield environment.timeout(times[number])
        came = environment.now
        with desk.request() as turn:
            yield turn
            found[number] = environment.now - came
            yield environment.timeout(services[number])

    for number in range(times.size):
        environment.process(customer(number))
    environment.run()
    np.testing.assert_allclose(found, waits(times, services, 3), atol=1e-9)


def capacity_by_queue(servers: int, seed: int) -> float:
    """Return the utilisation at which 5 % of prompts wait too long, by simulation on a grid of loads."""
    shares = []
    grid = np.arange(0.70, 1.0, 0.02)
    for load in grid:
        rng = np.random.default_rng(seed)
        times = poisson_times(servers * load / SERVICE_S, 24_000.0 / servers, rng)
        services = SERVICE_S * rng.gamma(2.0, 0.5, times.size)
        shares.append((waits(times, services, servers) > LIMIT_S).mean())
    return float(np.interp(0.05, np.maximum.accumulate(shares), grid))


@pytest.mark.slow
def test_size_law_against_queues_of_every_size() -> None:
    """Capacity an instance of pools of 2 to 16, against a pool of 16: the law is within a few per cent."""
    reference = capacity_by_queue(16, 7)
    for servers in (2, 4, 8):
        found = capacity_by_queue(servers, 7) / reference
        law = float(size_factor(np.array([float(servers)]), 16.0)[0])
        assert found == pytest.approx(law, abs=0.06)
        assert found < 1.0


def test_size_law_keeps_the_chance_of_a_long_wait() -> None:
    """At a utilisation of 1 − γ ÷ n the share of M/M/n that waits four service times tends to one number."""
    tails = [mmc_wait_tail(n, 1 - SIZE_LOSS / n, SERVICE_S, LIMIT_S) for n in (4, 8, 20, 50)]
    assert max(tails) / min(tails) < 1.3
    by_root = [mmc_wait_tail(n, 1 - 0.5 / math.sqrt(n), SERVICE_S, LIMIT_S) for n in (4, 8, 20, 50)]
    assert max(by_root) / min(by_root) > 100


def test_the_chance_of_a_long_wait_steepens_with_the_pool() -> None:
    """ln P(wait > T) of M/M/n falls with n · (1 − load): twice the pool, twice as steep."""
    slopes = []
    for n in (8, 16):
        at = [math.log(mmc_wait_tail(n, load, SERVICE_S, LIMIT_S)) for load in (0.97, 0.98)]
        slopes.append(at[1] - at[0])
    law = float(steepness_factor(np.array([8.0]), 16.0)[0])
    assert law == 0.5
    assert slopes[0] / slopes[1] == pytest.approx(law, rel=0.1)


@given(st.floats(1, 200), st.floats(1, 200))
def test_size_factor_is_a_share_and_rises_with_the_pool(ready: float, reference: float) -> None:
    """In (0, 1]; 1 from the reference on; no reference, no correction."""
    one, more = size_factor(np.array([ready, ready + 1.0]), reference)
    assert 0 < one <= more <= 1
    assert one == 1.0 or ready < reference
    assert size_factor(np.array([ready]), None)[0] == steepness_factor(np.array([ready]), None)[0] == 1.0
    flatter = steepness_factor(np.array([ready]), reference)[0]
    assert 0 < flatter <= 1
    assert flatter == 1.0 or ready < reference


def test_a_smaller_prefill_pool_violates_at_a_lower_load_an_instance() -> None:
    """At the capacity of eleven instances four violate more than allowed; decode pools are not corrected."""
    model = fit_fleet(pd_day(), derived(), SETTINGS)
    pool = model.pools["prefill"]
    assert pool.reference == pytest.approx(11.0)
    assert model.pools["decode"].reference is None
    load, calm = np.full(2, pool.capacity), np.zeros(2)
    found = violation_probability(load, calm, pool, 0.05, np.array([11.0, 4.0]))
    assert found[0] == pytest.approx(0.05)
    assert found[1] > 0.25
    assert violation_probability(load, calm, pool, 0.05)[1] == pytest.approx(0.05)


def test_a_floor_speaks_of_the_smallest_pools_that_carried_it() -> None:
    """Of pools of two and of ten at the same load an instance it is the two; of ten alone it is ten."""
    floor = derived(status="floor")
    for few, expected in ((2.0, 2.0), (10.0, 10.0)):
        counts = np.where(np.arange(200) < 100, few, 10.0)
        frame = service(
            {"prefill": P_CAPACITY * counts, "decode": counts}, {"prefill": counts, "decode": 4.0}
        )
        pool = fit_fleet(frame, floor, SETTINGS).pools["prefill"]
        assert pool.reference == expected
    load, calm = np.full(2, 0.95 * pool.capacity), np.zeros(2)
    found = violation_probability(load, calm, pool, 0.05, np.array([10.0, 2.0]))
    assert found[1] > 3 * found[0]


def test_the_fluid_alone_does_not_know_the_size() -> None:
    """Same load an instance, a third of the pool: the replay expects more violations in prefill."""
    model = fit_fleet(pd_day(), derived(), SETTINGS)
    shares = []
    for count in (11, 4):
        load = np.full(60, 0.97 * count * 3509.0)
        (part,) = demands(
            service({"prefill": load, "decode": load / 7.3 / 2}, {"prefill": count, "decode": count})
        )
        counts = {role: np.full(60, float(count)) for role in ("prefill", "decode")}
        shares.append(simulate(Schedule(counts), part, model).violation["prefill"].mean())
    assert shares[1] > 5 * shares[0]

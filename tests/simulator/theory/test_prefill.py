"""The prefill pool is the queue it claims to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from simulator.batching import TURNS
from simulator.lives import Life
from simulator.prefill import PrefillLaw, busy_seconds, level_seconds, serve_prefill


def _poisson(rate: float, seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def test_service_time_is_its_formula() -> None:
    """Chunks, tokens and pairs of tokens each cost what the law says."""
    law = PrefillLaw(chunk_s=0.01, token_s=1e-4, pair_s=1e-8, chunk=1000.0)
    assert law.service_s(np.array([1.0, 1000.0, 1001.0])) == pytest.approx(
        [0.01 + 1e-4 + 1e-8, 0.01 + 0.1 + 0.01, 0.02 + 0.1001 + 1e-8 * 1001**2]
    )


def test_three_requests_by_hand() -> None:
    """Two instances: the third request takes the one that is free first."""
    trace = serve_prefill(np.array([0.0, 0.1, 0.2]), np.array([1.0, 0.5, 1.0]), (Life("a"), Life("b")))
    assert trace.start_s.tolist() == [0.0, 0.1, 0.6]
    assert trace.end_s.tolist() == pytest.approx([1.0, 0.6, 1.6])
    assert trace.life[2] == trace.life[1] != trace.life[0]


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_instance_with_equal_requests_is_m_d_1(load: float) -> None:
    """Mean wait = ρ·S ÷ (2·(1 − ρ)) (Pollaczek-Khinchine with constant service)."""
    arrival = _poisson(load / 0.2, 400_000.0, 1)
    trace = serve_prefill(arrival, np.full(arrival.size, 0.2), (Life("a"),))
    wait = (trace.start_s - arrival).mean()
    assert wait == pytest.approx(load * 0.2 / (2 * (1 - load)), rel=0.04)


def test_four_instances_with_exponential_service_follow_erlang_c() -> None:
    """P(wait) and the mean wait are Erlang's for M/M/4 at 80 % load."""
    servers, load, mean = 4, 0.8, 0.5
    arrival = _poisson(servers * load / mean, 200_000.0, 2)
    service = np.random.default_rng(3).exponential(mean, arrival.size)
    trace = serve_prefill(arrival, service, tuple(Life(f"p{i}") for i in range(servers)))
    offered = servers * load
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - load)
    waits = last / (sum(terms) + last)
    wait = trace.start_s - arrival
    assert (wait > 1e-9).mean() == pytest.approx(waits, rel=0.03)
    assert wait.mean() == pytest.approx(waits * mean / (servers * (1 - load)), rel=0.06)


def test_in_turns_each_of_many_instances_is_d_m_1() -> None:
    """Every n-th of Poisson arrivals comes nearly evenly: P(wait) is the root of σ = e^(−(1 − σ) ÷ ρ)."""
    servers, load = 200, 0.7
    arrival = _poisson(load * servers, 4_000.0, 6)
    service = np.random.default_rng(7).exponential(1.0, arrival.size)
    trace = serve_prefill(arrival, service, tuple(Life(f"p{i}") for i in range(servers)), TURNS)
    wait = (trace.start_s - arrival)[arrival > 200.0]
    sigma = brentq(lambda s: s - math.exp(-(1.0 - s) / load), 0.0, 0.99)
    assert (wait > 1e-9).mean() == pytest.approx(sigma, rel=0.02)
    assert wait.mean() == pytest.approx(sigma / (1.0 - sigma), rel=0.03)


def test_little_s_law_holds_for_the_line() -> None:
    """Mean number waiting, looked at each second, = arrivals per second · mean wait."""
    arrival = _poisson(3.0, 50_000.0, 4)
    service = np.random.default_rng(5).lognormal(-1.2, 0.6, arrival.size)
    trace = serve_prefill(arrival, service, (Life("a"), Life("b")))
    waiting = level_seconds(arrival, trace.start_s, 0, 50_000)
    assert waiting.mean() == pytest.approx(3.0 * (trace.start_s - arrival).mean(), rel=0.05)


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.01, 3.0)), min_size=1, max_size=40), st.integers(1, 4)
)
def test_it_is_the_slow_obvious_queue(rows: list[tuple[float, float]], servers: int) -> None:
    """Each request takes the instance that is free first, the slow way."""
    arrival = np.cumsum([gap for gap, _ in rows])
    service = np.array([work for _, work in rows])
    trace = serve_prefill(arrival, service, tuple(Life(f"p{i}") for i in range(servers)))
    free = [0.0] * servers
    for k in range(arrival.size):
        first = min(range(servers), key=free.__getitem__)
        start = max(arrival[k], free[first])
        free[first] = start + service[k]
        assert trace.start_s[k] == pytest.approx(start)
        assert trace.end_s[k] == pytest.approx(free[first])


def test_a_closed_instance_finishes_what_it_has_and_takes_no_more() -> None:
    """Requests after the closing go to the one that opened later; without one there is an error."""
    lives = (Life("a", close_s=5.0), Life("b", open_s=8.0))
    arrival, service = np.array([4.0, 4.5, 6.0, 9.0]), np.full(4, 1.0)
    trace = serve_prefill(arrival, service, lives)
    assert trace.life.tolist() == [0, 0, 1, 1]
    assert trace.start_s.tolist() == [4.0, 5.0, 8.0, 9.0]
    with pytest.raises(ValueError, match="accepts work after 6 s"):
        serve_prefill(arrival[:3], service[:3], lives[:1])


def test_busy_seconds_add_up() -> None:
    """Busy shares of seconds sum to the time worked, split at the second's edges."""
    busy = busy_seconds(np.array([0.5, 2.0]), np.array([1.25, 2.5]), 0, 4)
    assert busy.tolist() == pytest.approx([0.5, 0.25, 0.5, 0.0])
    assert busy_seconds(np.zeros(0), np.zeros(0), 3, 5).tolist() == [0.0, 0.0]

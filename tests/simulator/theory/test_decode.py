"""The decode pool keeps the laws of the queues it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from simulator.batching import TWO
from simulator.decode import DecodeLaw, DecodeTrace, serve_decode
from simulator.lives import Life


def _run(
    law: DecodeLaw, rate: float, mean: float, seconds: int, seed: int, lives: tuple[Life, ...] = (Life("d"),)
) -> tuple[DecodeTrace, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ready = np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))
    answer = np.maximum(1.0, np.round(rng.lognormal(np.log(mean) - 0.125, 0.5, ready.size)))
    trace = serve_decode(ready, np.full(ready.size, 500.0), answer, law, lives, np.ones(seconds))
    return trace, ready, answer


def test_one_sequence_takes_its_tokens_times_the_step() -> None:
    """Alone, an answer of 100 tokens at 50 ms a step takes 5 s, from the moment it came."""
    law = DecodeLaw(fixed_s=0.05, sequence_s=0.0, token_s=0.0)
    trace = serve_decode(np.array([1.3]), np.array([10.0]), np.array([100.0]), law, (Life("d"),), np.ones(20))
    assert trace.start_s[0] == pytest.approx(1.3)
    assert trace.end_s[0] == pytest.approx(6.3)
    assert trace.seconds[0].tokens.sum() == pytest.approx(100.0)


def test_without_a_cost_per_sequence_it_is_m_g_infinity() -> None:
    """Every stay is L·t0, so that the mean number running is λ·E[L]·t0."""
    trace, _, answer = _run(DecodeLaw(0.02, 0.0, 0.0, batch=10**9, kv_tokens=1e12), 2.0, 300.0, 20_000, 1)
    assert trace.seconds[0].running.mean() == pytest.approx(2.0 * answer.mean() * 0.02, rel=0.05)


@pytest.mark.parametrize("load", [0.5, 0.75])
def test_with_only_a_cost_per_sequence_it_is_m_g_1_ps(load: float) -> None:
    """Sequences share 1 ÷ t1 tokens/s: the mean number is ρ ÷ (1 − ρ), whatever the lengths are."""
    law = DecodeLaw(0.0, 0.01, 0.0, batch=10**9, kv_tokens=1e12)
    trace, _, _ = _run(law, load / (400.0 * 0.01), 400.0, 400_000, 2)
    true = trace.seconds[0].tokens.mean() * 0.01
    assert trace.seconds[0].running.mean() == pytest.approx(true / (1 - true), rel=0.1)


def test_little_s_law_holds_in_a_pool() -> None:
    """Mean number running over the pool = completions per second · mean stay."""
    lives = tuple(Life(f"d{i}", slowness=1 + 0.1 * i) for i in range(3))
    trace, ready, _ = _run(DecodeLaw(), 3.0, 350.0, 20_000, 3, lives)
    running = sum(s.running.mean() for s in trace.seconds)
    done = np.isfinite(trace.end_s)
    assert running == pytest.approx(
        ready.size / 20_000 * (trace.end_s - trace.start_s)[done].mean(), rel=0.02
    )


def test_every_token_is_emitted_once() -> None:
    """Tokens of all seconds = answers of finished requests + what running ones have got so far."""
    trace, _, answer = _run(DecodeLaw(), 2.0, 300.0, 5_000, 4, (Life("a"), Life("b")))
    done = np.isfinite(trace.end_s)
    emitted = sum(s.tokens.sum() for s in trace.seconds)
    assert answer[done].sum() <= emitted <= answer.sum()
    quiet, _, all_of_it = _run(DecodeLaw(), 0.5, 300.0, 5_000, 5)
    if np.isfinite(quiet.end_s).all():
        assert quiet.seconds[0].tokens.sum() == pytest.approx(all_of_it.sum())


def test_a_step_with_a_knee_is_the_longer_of_memory_and_arithmetic() -> None:
    """Left of the knee it grows with the tokens held alone, right of it with the sequences alone."""
    law = DecodeLaw(0.1, 0.0, 1e-3, kv_tokens=1e12, least_s=0.05)
    assert [law.step_s(1, 20.0), law.step_s(1, 40.0)] == pytest.approx([0.12, 0.14])
    assert [law.step_s(4, 40.0), law.step_s(8, 40.0)] == pytest.approx([0.2, 0.4])
    ready, answer = np.zeros(8), np.full(8, 25.0)
    trace = serve_decode(ready, np.full(8, 1.0), answer, law, (Life("d"),), np.ones(20))
    # The second in which they come passes at the step of one sequence, 0.1 s; then 15 steps of 0.4 s.
    assert trace.end_s == pytest.approx(np.full(8, 7.0))


def test_right_of_the_knee_a_pool_emits_no_more() -> None:
    """Overloaded it gives 1 ÷ least_s an instance, less the room that stands empty until a second ends; well
    left of the knee a gap is that of an empty one."""
    law = DecodeLaw(0.02, 0.0, 1e-8, 256, 1e12, least_s=8e-4)
    lives = (Life("a"), Life("b"))
    over, _, _ = _run(law, 1.3 * 2 / 8e-4 / 300.0, 300.0, 2_000, 7, lives)
    assert [one.tokens[600:].mean() for one in over.seconds] == pytest.approx([1250.0] * 2, rel=0.01)
    calm, _, _ = _run(law, 0.4 * 2 / 8e-4 / 300.0, 300.0, 2_000, 8, lives)
    assert np.concatenate([one.gap_s for one in calm.seconds]) == pytest.approx(0.02, rel=0.02)


def _longer_than(routing: int, load: float, instances: int) -> list[float]:
    """Return the shares of instances with at least 1, 2, 3 requests: one at a time, lengths exponential."""
    rng, seconds, mean_s = np.random.default_rng(11), 30_000, 100.0
    ready = np.sort(rng.uniform(0.0, seconds, rng.poisson(load * instances / mean_s * seconds)))
    answer = rng.exponential(mean_s, ready.size)
    law = DecodeLaw(1.0, 0.0, 0.0, batch=1, routing=routing)
    lives = tuple(Life(f"d{i}") for i in range(instances))
    trace = serve_decode(ready, np.full(ready.size, 1.0), answer, law, lives, np.ones(seconds))
    there = np.stack([one.running + one.waiting for one in trace.seconds])[:, 3_000:]
    return [float((there >= least).mean()) for least in (1, 2, 3)]


def test_of_two_choices_the_shorter_leaves_lines_doubly_exponentially_short() -> None:
    """At least k requests at λ^(2^k − 1) of many instances (Mitzenmacher 2001, eq. 2)."""
    assert _longer_than(TWO, 0.7, 100) == pytest.approx([0.7, 0.7**3, 0.7**7], rel=0.08)


def test_limits_on_sequences_and_memory_hold_and_make_a_line() -> None:
    """Neither limit is passed, requests wait in order, and none is lost."""
    for law in (DecodeLaw(batch=8), DecodeLaw(kv_tokens=8_000.0)):
        trace, ready, _ = _run(law, 3.0, 300.0, 3_000, 6)
        seconds = trace.seconds[0]
        assert seconds.running.max() <= law.batch
        assert seconds.held.max() <= law.kv_tokens
        assert seconds.waiting.max() > 10
        started = np.isfinite(trace.start_s)
        assert np.all(np.diff(trace.start_s[started]) >= 0)
        finished = np.isfinite(trace.end_s).sum()
        assert finished + seconds.running[-1] + seconds.waiting[-1] == ready.size


def test_memory_grows_with_the_answer_and_is_given_back() -> None:
    """A sequence holds its prompt and what it has got; afterwards nothing."""
    law = DecodeLaw(0.1, 0.0, 0.0)
    trace = serve_decode(np.array([0.0]), np.array([70.0]), np.array([35.0]), law, (Life("d"),), np.ones(6))
    assert trace.seconds[0].held.tolist() == pytest.approx([80.0, 90.0, 100.0, 0.0, 0.0, 0.0])


def test_a_closed_instance_drains_and_its_log_ends() -> None:
    """It takes nothing new, finishes what it has, and its seconds stop when it is empty."""
    law = DecodeLaw(0.1, 0.0, 0.0)
    lives = (Life("old", close_s=5.0), Life("new", open_s=5.0))
    ready = np.array([1.0, 4.0, 6.0])
    trace = serve_decode(ready, np.full(3, 10.0), np.full(3, 50.0), law, lives, np.ones(30))
    assert trace.life.tolist() == [0, 0, 1]
    assert trace.end_s.tolist() == pytest.approx([6.0, 9.0, 11.0])
    assert trace.seconds[0].running.size == 9
    assert trace.seconds[1].first == 5


def test_a_slower_step_scales_the_stay() -> None:
    """The common factor and the instance's own both stretch the step."""
    law = DecodeLaw(0.05, 0.0, 0.0)
    trace = serve_decode(
        np.array([0.0]), np.array([1.0]), np.array([100.0]), law, (Life("d", slowness=2.0),), np.full(40, 1.5)
    )
    assert trace.end_s[0] == pytest.approx(15.0)

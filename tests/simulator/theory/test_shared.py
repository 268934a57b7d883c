"""The compute-bound single pool shares its time as processor sharing says."""

from __future__ import annotations

import numpy as np
import pytest
from simulator.lives import Life
from simulator.shared import SharedLaw, SharedTrace, serve_shared
from simulator.workloads import Arrivals, TokenMix, steady_arrivals

MIX = TokenMix(prompt=1500.0, output=24.0, hit=0.2)


def _arrivals(*rows: tuple[float, float, float]) -> Arrivals:
    time_s, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    return Arrivals(time_s, prompt, np.zeros(time_s.size), output)


def test_two_requests_by_hand() -> None:
    """Alone each would take 1 s; overlapping by half they take 1.5 s each."""
    law = SharedLaw(fixed_s=0.0, prompt_s=0.001, output_s=0.05)
    trace = serve_shared(_arrivals((0.0, 500.0, 11.0), (0.5, 500.0, 11.0)), law, (Life("m"),), 10)
    assert trace.first_s.tolist() == pytest.approx([0.5, 1.5])
    assert trace.end_s.tolist() == pytest.approx([1.5, 2.0])
    seconds = trace.seconds[0]
    assert seconds.busy.tolist() == pytest.approx([1.0, 1.0] + [0.0] * 8)
    assert seconds.tokens.sum() == pytest.approx(20.0)


def _pressed(load: float, law: SharedLaw, lives: tuple[Life, ...], hours: float) -> tuple[SharedTrace, float]:
    probe = steady_arrivals(2.0, MIX.prompt, MIX.output, MIX.hit, MIX, 2.0, np.random.default_rng(0))
    work = float((law.prompt_work_s(probe.missed) + law.output_work_s(probe.output)).mean())
    found = steady_arrivals(
        load * len(lives) / work, MIX.prompt, MIX.output, MIX.hit, MIX, hours, np.random.default_rng(1)
    )
    brought = (law.prompt_work_s(found.missed) + law.output_work_s(found.output)).sum()
    return serve_shared(found, law, lives, round(hours * 3600)), float(brought / (hours * 3600 * len(lives)))


def test_a_slower_instance_takes_longer_and_emits_no_more() -> None:
    """With slowness 2 everything takes twice as long; the tokens are the same."""
    law = SharedLaw(fixed_s=0.0, prompt_s=0.001, output_s=0.05)
    trace = serve_shared(_arrivals((0.0, 500.0, 11.0)), law, (Life("m", slowness=2.0),), 10)
    assert (trace.first_s[0], trace.end_s[0]) == pytest.approx((1.0, 2.0))
    assert trace.seconds[0].tokens.sum() == pytest.approx(10.0)
    assert trace.seconds[0].gap_s[1] == pytest.approx(0.1)


@pytest.mark.parametrize("load", [0.4, 0.75])
def test_one_instance_is_m_g_1_ps(load: float) -> None:
    """The busy share is the offered work, the mean number ρ ÷ (1 − ρ)."""
    trace, true = _pressed(load, SharedLaw(slots=10**6), (Life("m"),), 24.0)
    assert trace.seconds[0].busy.mean() == pytest.approx(true, rel=0.005)
    assert trace.seconds[0].running.mean() == pytest.approx(true / (1 - true), rel=0.07)


def test_slots_are_never_passed_and_nothing_is_lost() -> None:
    """At most `slots` run; started, waiting and finished add up to what came."""
    law = SharedLaw(slots=2)
    trace, _ = _pressed(0.9, law, (Life("m"), Life("n")), 2.0)
    assert max(s.running.max() for s in trace.seconds) == 2
    inside = sum(s.running[-1] + s.waiting[-1] for s in trace.seconds)
    assert np.isfinite(trace.end_s).sum() + inside == trace.end_s.size
    assert np.all(trace.first_s[np.isfinite(trace.end_s)] <= trace.end_s[np.isfinite(trace.end_s)])

"""The answers to a history agree with what happened in it."""

from __future__ import annotations

import numpy as np
import pytest
from simulator import History, shortened
from simulator.measures import offered
from simulator.truth import alive, short_minutes


def test_everything_that_came_is_somewhere(busy: History) -> None:
    """Requests keep their order of moments: arrival, prefill, first token, decode, end."""
    trace = busy.trace
    prefill, decode = trace.stays["prefill"], trace.stays["decode"]
    assert np.all(trace.requests.time_s <= prefill.enter_s)
    assert np.all(prefill.enter_s <= prefill.start_s)
    assert np.all(prefill.start_s < trace.first_s)
    begun = np.isfinite(decode.start_s)
    assert np.all(trace.first_s[begun] < decode.start_s[begun])
    assert np.all(decode.start_s[begun] <= trace.end_s[begun])
    assert begun.mean() > 0.99


def test_offered_work_is_what_arrived(busy: History) -> None:
    """Rates per five minutes add up to the tokens of all requests."""
    work = offered(busy.trace, 300.0)
    assert work["output"].sum() * 300.0 == pytest.approx(busy.trace.requests.output.sum())
    assert np.all(work["missed"] <= work["prompt"])


def test_short_minutes_are_those_with_old_lines() -> None:
    """An hour at twice the capacity is short, the hours before it are not."""
    made = shortened("overload", 2.0)
    short, unclear = short_minutes(made.trace)
    assert short.size == unclear.size == 120
    assert not short[:30].any()
    stay = made.trace.stays["decode"]
    waited = np.minimum(stay.start_s, 7200.0) - stay.enter_s
    minute = np.clip((stay.enter_s // 60).astype(int), 0, 119)
    worst = [waited[minute == m].mean() if (minute == m).any() else 0.0 for m in np.flatnonzero(short)]
    prefill = made.trace.stays["prefill"]
    others = [
        (prefill.start_s - prefill.enter_s)[(prefill.enter_s // 60) == m].mean()
        for m in np.flatnonzero(short)
    ]
    assert all(max(a, b) > 10.0 for a, b in zip(worst, others, strict=True))


def test_instances_are_counted_while_they_take_requests() -> None:
    """A pod is counted from ready to closed."""
    made = shortened("autoscaled", 6.0)
    lives = made.trace.service.lives["decode"]
    count = alive(lives, np.array([0.0, 6 * 3600.0 - 1]))
    assert count[0] == sum(life.open_s < 0 for life in lives)
    assert count[1] == sum(life.close_s > 6 * 3600 for life in lives if life.open_s <= 6 * 3600 - 1)

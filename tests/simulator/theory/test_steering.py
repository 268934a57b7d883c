"""The physics in closed loop is that of fixed schedules, with counts that somebody decides on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from simulator import fresh_history, history, kind_of
from simulator.batching import LEAST, TURNS, TWO
from simulator.decode import DecodeLaw
from simulator.lives import Life
from simulator.physics import Service, simulate
from simulator.prefill import PrefillLaw
from simulator.shared import SharedLaw
from simulator.steering import Order, Steered, Steering, steer
from simulator.workloads import Arrivals, TokenMix, steady_arrivals

STARTUP_S = 240.0


def _requests(rate: float, hours: float) -> Arrivals:
    return steady_arrivals(rate, 1400.0, 320.0, 0.35, TokenMix(), hours, np.random.default_rng(5))


def _service(prefill: int, decode: int, routing: int = LEAST) -> Service:
    return Service(
        {
            "prefill": tuple(Life(f"p{k}") for k in range(prefill)),
            "decode": tuple(Life(f"d{k}") for k in range(decode)),
        },
        PrefillLaw(routing=routing),
        DecodeLaw(routing=routing),
    )


def _run(
    steering: Steering, rate: float = 3.0, hours: float = 0.5, watch_s: float = 0.0, routing: int = LEAST
) -> Steered:
    return steer(
        _service(3, 3, routing), _requests(rate, hours), hours, np.random.default_rng(1), steering,
        startup_s=STARTUP_S, watch_s=watch_s,
    )  # fmt: skip


def _at(moments: Mapping[float, Mapping[str, Order]]) -> Steering:
    return lambda sight: moments.get(sight.t_s, {})


def _same(steered: Steered, rate: float = 3.0, hours: float = 0.5) -> None:
    """Compare with the fixed schedule of the very lives that came about."""
    fixed = simulate(steered.trace.service, _requests(rate, hours), hours, np.random.default_rng(1))
    for role in ("prefill", "decode"):
        assert steered.trace.stays[role].life.tolist() == fixed.stays[role].life.tolist()
        np.testing.assert_allclose(steered.trace.stays[role].end_s, fixed.stays[role].end_s)
        for ours, theirs in zip(steered.trace.seconds[role], fixed.seconds[role], strict=True):
            np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=1e-6)


def test_nobody_steering_is_the_fixed_schedule() -> None:
    """Without orders every request has the stay that the whole-history simulation gives it."""
    steered = _run(_at({}))
    _same(steered)
    assert steered.instance_hours(0.0, 1800.0) == pytest.approx(6 * 0.5)


@pytest.mark.parametrize("routing", [LEAST, TWO, TURNS])
def test_orders_are_the_fixed_schedule_of_the_lives_they_make(routing: int) -> None:
    """Growing after a start-up time and shrinking at once equal a schedule known in advance."""
    steered = _run(
        _at(
            {
                120.0: {"prefill": Order(4), "decode": Order(5)},
                600.0: {"decode": Order(2)},
                900.0: {"prefill": Order(2)},
            }
        ),
        routing=routing,
    )
    assert [life.open_s for life in steered.trace.service.lives["decode"]][3:] == [360.0, 360.0]
    _same(steered)


def test_what_is_cancelled_before_it_is_ready_never_serves_and_is_paid_until_then() -> None:
    """Two minutes of one instance, on top of three and three for half an hour."""
    steered = _run(_at({300.0: {"decode": Order(4)}, 420.0: {"decode": Order(3)}}))
    assert not (steered.trace.stays["decode"].life == 3).any()
    assert steered.instance_hours(0.0, 1800.0) == pytest.approx(3.0 + 120.0 / 3600.0)


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_one_sent_away_is_idle_until_taken_back_and_paid_all_along(role: str) -> None:
    """It gets nothing between the two orders, takes requests at once after the second, and keeps its name."""
    watched = {600.0: {role: Order(2)}, 720.0: {role: Order(3, restored=1)}}
    steered = _run(_at(watched), watch_s=180.0)
    stay = steered.trace.stays[role]
    mine = stay.enter_s[stay.life == 2]
    assert not ((mine > 601.0) & (mine < 719.0)).any()
    assert ((mine >= 720.0) & (mine < 780.0)).any()
    assert len(steered.trace.service.lives[role]) == 3
    assert steered.instance_hours(0.0, 1800.0) == pytest.approx(3.0)
    for one in steered.trace.seconds[role]:
        assert one.first + one.tokens.size == 1800


@pytest.mark.parametrize("watch_s", [0.0, 180.0])
def test_one_sent_away_for_good_is_paid_while_watched_and_until_it_is_empty(watch_s: float) -> None:
    """Three minutes of watching outlast its last answers; without watching those set the end."""
    steered = _run(_at({600.0: {"decode": Order(2)}}), watch_s=watch_s)
    ends = steered.trace.stays["decode"].end_s[steered.trace.stays["decode"].life == 2]
    assert 600.0 < ends.max() < 780.0
    last = 780.0 if watch_s else ends.max()
    assert steered.instance_hours(0.0, 1800.0) == pytest.approx(2.5 + last / 3600.0)


def test_a_shared_pool_is_not_steered() -> None:
    """There is nothing to decide apart."""
    with pytest.raises(ValueError, match="shared"):
        steer(
            Service({}, shared=SharedLaw()), _requests(1.0, 0.1), 0.1, np.random.default_rng(0), _at({}),
            startup_s=0.0,
        )  # fmt: skip


def test_another_day_is_of_the_same_service_and_has_its_own_news() -> None:
    """Still pools stay as they are; the load is of the same size and the arrivals are others."""
    kind = replace(kind_of("too_short"), hours=1.0)
    first = history(kind, 3)
    day, again = fresh_history(first, 1), fresh_history(first, 1)
    assert day.trace.service == first.trace.service
    assert np.quantile(day.drawn.rate, 0.99) == pytest.approx(np.quantile(first.drawn.rate, 0.99))
    assert day.trace.requests.time_s.tolist() != first.trace.requests.time_s.tolist()
    assert day.trace.requests.time_s.tolist() == again.trace.requests.time_s.tolist()


def test_another_autoscaled_day_keeps_the_target_of_the_first() -> None:
    """Its pools move by the new load; laws are the same."""
    kind = replace(kind_of("autoscaled"), hours=2.0)
    first = history(kind, 3)
    day = fresh_history(first, 1)
    assert day.trace.service.decode == first.trace.service.decode
    assert day.trace.service.lives != first.trace.service.lives

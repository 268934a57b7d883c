"""The physics in closed loop is that of fixed schedules, with counts that somebody decides on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from simulator import fresh_history, history, kind_of
from simulator.lives import Life
from simulator.measures import EVERY_SECOND, Looks
from simulator.physics import Service, Trace, simulate
from simulator.readings import kv_usage, sm_activity, utilisation
from simulator.shared import SharedLaw
from simulator.sights import Sight
from simulator.steering import Order, Steered, Steering, steer
from simulator.workloads import Arrivals, TokenMix, steady_arrivals

STARTUP_S = 240.0


def _requests(rate: float, hours: float) -> Arrivals:
    return steady_arrivals(rate, 1400.0, 320.0, 0.35, TokenMix(), hours, np.random.default_rng(5))


def _service(prefill: int, decode: int) -> Service:
    return Service(
        {
            "prefill": tuple(Life(f"p{k}") for k in range(prefill)),
            "decode": tuple(Life(f"d{k}") for k in range(decode)),
        }
    )


def _run(steering: Steering, rate: float = 3.0, hours: float = 0.5, watch_s: float = 0.0) -> Steered:
    return steer(
        _service(3, 3), _requests(rate, hours), hours, np.random.default_rng(1), steering,
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


def test_orders_are_the_fixed_schedule_of_the_lives_they_make() -> None:
    """Growing after a start-up time and shrinking at once equal a schedule known in advance."""
    steered = _run(
        _at(
            {
                120.0: {"prefill": Order(4), "decode": Order(5)},
                600.0: {"decode": Order(2)},
                900.0: {"prefill": Order(2)},
            }
        )
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


def test_what_is_seen_adds_up_to_what_happened() -> None:
    """Served tokens of all looks are those of the trace; the first look comes after a minute."""
    seen: list[Sight] = []

    def watch(sight: Sight) -> Mapping[str, Order]:
        seen.append(sight)
        return {"decode": Order(2)} if sight.t_s == 600.0 else {}

    trace = _run(watch).trace
    assert [sight.t_s for sight in seen] == [60.0 * k for k in range(1, 30)]
    until = seen[-1].t_s
    done = trace.first_s < until
    missed = 60.0 * sum(sight.values["prefill_tps_effective@prefill"] for sight in seen)
    assert missed == pytest.approx(trace.requests.missed[done].sum())
    busy = sum(one.busy[: int(until)].sum() for one in trace.seconds["prefill"])
    assert 180.0 * sum(sight.values["gpu_util@prefill"] for sight in seen) == pytest.approx(busy)
    emitted = sum(one.tokens[: int(until)].sum() for one in trace.seconds["decode"])
    assert 60.0 * sum(sight.values["decode_tps@decode"] for sight in seen) == pytest.approx(emitted)
    batched = sum(one.running[: int(until)].sum() for one in trace.seconds["decode"])
    assert 60.0 * sum(sight.values["running@decode"] for sight in seen) == pytest.approx(batched)
    assert [sight.ready["decode"] for sight in seen] == [3] * 10 + [2] * 19


@pytest.mark.parametrize("signal", ["gpu_util", "sm_activity", "kv_usage"])
@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_gauges_seen_are_those_of_the_instances(role: str, signal: str) -> None:
    """Minute by minute the mean over instances of what their own seconds read (levels at a second's end)."""
    seen: list[Sight] = []

    def watch(sight: Sight) -> Mapping[str, Order]:
        seen.append(sight)
        return {}

    trace = _run(watch).trace
    read = {
        "gpu_util": lambda one: utilisation(one, role),
        "sm_activity": lambda one: sm_activity(one, role, trace.service),
        "kv_usage": lambda one: kv_usage(one, role, trace.service),
    }[signal]
    minutes = np.mean([read(one)[: 60 * len(seen)] for one in trace.seconds[role]], axis=0).reshape(-1, 60)
    found = np.array([sight.values[f"{signal}@{role}"] for sight in seen])
    levels = minutes.mean(axis=1)
    assert found.mean() == pytest.approx(levels.mean(), rel=0.03)
    np.testing.assert_allclose(found, levels, atol=0.3 * levels.mean())


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


def _seen(looks: Looks, hours: float = 2.0, seed: int = 1) -> tuple[list[Sight], Trace]:
    sights: list[Sight] = []
    steered = steer(
        _service(3, 3), _requests(3.0, hours), hours, np.random.default_rng(seed),
        lambda sight: sights.append(sight) or {}, startup_s=STARTUP_S, looks=looks,
    )  # fmt: skip
    return sights, steered.trace


def test_seldom_read_gauges_are_noisier_and_no_other_on_average() -> None:
    """One sample in thirty seconds, and one reading of a GPU, have the mean of all seconds."""
    often, _ = _seen(EVERY_SECOND)
    seldom, _ = _seen(Looks(30, 30))
    for name in ("gpu_util@prefill", "running@prefill", "running@decode", "kv_usage@decode"):
        every, some = (np.array([sight.values[name] for sight in sights[5:]]) for sights in (often, seldom))
        assert some.mean() == pytest.approx(every.mean(), rel=0.1)
        assert (some - every).std() > 0.0


def test_counters_are_those_of_the_last_scrape() -> None:
    """Each instance's tokens are late by an offset of its own, below the scrape interval and always the same:
    no other offsets than some three explain what all looks show, and the front end's is one."""
    sights, trace = _seen(Looks(15, 30), hours=0.5, seed=2)
    looks = np.array([sight.t_s for sight in sights])

    def gained(moments: np.ndarray, weight: np.ndarray, late: float) -> np.ndarray:
        total = np.r_[0.0, np.cumsum(weight[np.argsort(moments, kind="stable")])]
        return np.diff(total[np.searchsorted(np.sort(moments), np.r_[0.0, looks] - late)])

    rates = np.array([sight.values["request_rate@service"] for sight in sights])
    time_s = trace.requests.time_s
    fits = [np.abs(gained(time_s, np.ones(time_s.size), late) / 60.0 - rates).max() for late in range(15)]
    (front,) = (late for late, fit in enumerate(fits) if fit < 1e-9)
    assert front > 0

    shown = 60.0 * np.array([sight.values["prefill_tps_effective@prefill"] for sight in sights])
    life, first = trace.stays["prefill"].life, trace.first_s
    each = [
        np.array([gained(first[life == n], trace.requests.missed[life == n], late) for late in range(15)])
        for n in range(3)
    ]
    sums = each[0][:, None, None] + each[1][None, :, None] + each[2][None, None, :]
    (engines,) = np.argwhere(np.abs(sums - shown).max(axis=-1) < 1e-6)
    assert len(set(engines)) == 3


def test_a_look_holds_whole_scrapes() -> None:
    """Otherwise the samples of two looks could not be of one grid."""
    with pytest.raises(ValueError, match="no whole number of scrapes"):
        _seen(Looks(25, 30), hours=0.1)

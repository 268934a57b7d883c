"""Each fault does what it says to readings, start-ups, stock, instances, counters and load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from simulator.faults import FAULTS, Fault, Spell, burst, crowded, even_spells, steep_spells
from simulator.lives import Life
from simulator.measures import Looks
from simulator.physics import Service
from simulator.prometheus import Prometheus
from simulator.steering import Order, Sight, Steered, steer
from simulator.workloads import GRID_S, TokenMix, steady_arrivals

HOURS, FROM_S, STARTUP_S = 2.0, 1200.0, 240.0
NAMED = {fault.name: fault for fault in FAULTS}
GROWS = {FROM_S + 60.0: {"prefill": Order(5), "decode": Order(6)}}


@dataclass(frozen=True)
class Ran:
    """A run under a fault, its Prometheus and its sights."""

    steered: Steered
    kept: Prometheus
    sights: tuple[Sight, ...]


@cache
def _ran(name: str, grows: bool = False) -> Ran:
    spells = (Spell(NAMED[name], FROM_S),) if name in NAMED else ()
    requests = steady_arrivals(4.0, 1400.0, 320.0, 0.35, TokenMix(), HOURS, np.random.default_rng(5))
    requests = crowded(requests, spells, np.random.default_rng(6))
    kept = Prometheus(Looks(15, 30), HOURS, np.random.default_rng(9))
    sights: list[Sight] = []

    def steering(sight: Sight) -> Mapping[str, Order]:
        sights.append(sight)
        return GROWS.get(sight.t_s, {}) if grows else {}

    service = Service({role: tuple(Life(f"{role}{k}") for k in range(4)) for role in ("prefill", "decode")})
    steered = steer(
        service, requests, HOURS, np.random.default_rng(1), steering, startup_s=STARTUP_S, look_s=15,
        prometheus=kept, spells=spells,
    )  # fmt: skip
    return Ran(steered, kept, tuple(sights))


def _asked_at(moment: float, name: str, role: str) -> tuple[int, int]:
    (sight,) = (one for one in _ran(name).sights if one.t_s == moment)
    return sight.asked[role], sight.ready[role]


@pytest.mark.parametrize("name", ["none", *NAMED])
def test_every_request_is_out_or_inside_or_lost(name: str) -> None:
    """In = out + inside + lost, whatever goes wrong; every token of those that are out was emitted once."""
    steered = _ran(name).steered
    trace, lost = steered.trace, np.zeros(len(steered.trace.requests), bool)
    lost[steered.lost] = True
    decode = trace.stays["decode"]
    out, joined = np.isfinite(decode.end_s), np.isfinite(decode.start_s)
    assert not (out & lost).any()
    inside = ~out & ~lost
    assert out.sum() + inside.sum() + lost.sum() == len(trace.requests)
    # Those inside are late ones, or what an overload left: all of them are somewhere.
    if name != "doubled_traffic":
        assert trace.requests.time_s[inside].min() > HOURS * 3600.0 - 600.0
    running = sum(one.running[-1] for one in trace.seconds["decode"] if _open(trace, one))
    waiting = sum(one.waiting[-1] for one in trace.seconds["decode"] if _open(trace, one))
    assert (inside & joined).sum() == running
    assert (inside & ~joined & (decode.life >= 0)).sum() == waiting
    assert not lost.any() or name == "lost_group"


def _open(trace: object, seconds: object) -> bool:
    return seconds.running.size > 0 and seconds.first + seconds.running.size == HOURS * 3600.0


def test_a_metric_gap_answers_nothing_and_ends_with_two_scrapes() -> None:
    """A range of one minute is empty from a minute on, until two scrapes after the hour."""
    kept = _ran("metric_gap").kept
    for signal, role in (
        ("decode_tps", "decode"),
        ("prefill_tps_effective", "prefill"),
        ("request_rate", ""),
    ):
        assert kept.rate(signal, role, 60.0, FROM_S) is not None
        assert kept.rate(signal, role, 60.0, FROM_S + 60.0) is None
        assert kept.rate(signal, role, 60.0, FROM_S + 3600.0) is None
        assert kept.rate(signal, role, 60.0, FROM_S + 3645.0) is not None
    assert kept.mean("gpu_util", "decode", 60.0, FROM_S + 1800.0) is None


def test_what_is_asked_for_while_start_ups_are_stuck_is_paid_and_starts_after_the_hour() -> None:
    """Three instances: paid from asking on, ready a start-up time after the fault."""
    steered = _ran("stuck_start_up", grows=True).steered
    new = [life for lives in steered.trace.service.lives.values() for life in lives[4:]]
    assert [life.open_s for life in new] == [FROM_S + 3600.0 + STARTUP_S] * 3
    paid = steered.instance_hours(FROM_S + 60.0, FROM_S + 3600.0)
    assert paid == pytest.approx(11 * 3540.0 / 3600.0)


def test_what_is_asked_for_without_stock_waits_unpaid_and_counts_as_asked() -> None:
    """The same, but nothing is paid before the end of the hour."""
    ran = _ran("no_stock", grows=True)
    new = [life for lives in ran.steered.trace.service.lives.values() for life in lives[4:]]
    assert [life.open_s for life in new] == [FROM_S + 3600.0 + STARTUP_S] * 3
    assert ran.steered.instance_hours(FROM_S + 60.0, FROM_S + 3600.0) == pytest.approx(8 * 3540.0 / 3600.0)
    seen = next(one for one in ran.sights if one.t_s == FROM_S + 120.0)
    assert (seen.asked["decode"], seen.ready["decode"]) == (6, 4)


def test_a_lost_group_is_replaced_and_what_it_decoded_is_lost() -> None:
    """One of four in each pool: its sequences are lost, prompts go back to the line, a new one comes."""
    steered = _ran("lost_group").steered
    trace = steered.trace
    for role in ("prefill", "decode"):
        assert _asked_at(FROM_S, "lost_group", role) == (4, 3)
        assert _asked_at(FROM_S + STARTUP_S + 15.0, "lost_group", role) == (4, 4)
        dead = [n for n, life in enumerate(trace.service.lives[role]) if life.close_s == FROM_S]
        assert len(dead) == 1
        stay = trace.stays[role]
        ended = stay.end_s[stay.life == dead[0]]
        seconds = trace.seconds[role][dead[0]]
        assert seconds.first + seconds.running.size <= FROM_S + (role == "prefill")
        assert ended[np.isfinite(ended)].max() <= FROM_S
        series = _ran("lost_group").kept.targets[role]
        assert np.isnan(series.kept[dead[0], int(FROM_S // 15) + 2 :, 0]).all()
    assert 5 < steered.lost.size < 60
    assert np.isfinite(trace.first_s[steered.lost]).all()
    assert steered.instance_hours(0.0, HOURS * 3600.0) == pytest.approx(8 * HOURS, abs=0.001)


def test_prompts_of_a_dead_instance_are_prefilled_elsewhere() -> None:
    """Nobody who reached prefill before the loss goes without a first token, and some were later for it."""
    before, after = (_ran(name).steered.trace for name in ("none", "lost_group"))
    came = before.stays["prefill"].enter_s < FROM_S
    assert np.isfinite(after.first_s[came]).all()
    moved = came & (after.stays["prefill"].life != before.stays["prefill"].life)
    assert moved.any()
    assert (after.stays["prefill"].start_s[moved] >= FROM_S).all()


def test_a_wrong_ratio_leaves_half_of_prefill_until_somebody_asks_for_more() -> None:
    """The count that is asked for is two, decode's stays."""
    assert _asked_at(FROM_S, "wrong_ratio", "prefill") == (2, 2)
    assert _asked_at(FROM_S + 3000.0, "wrong_ratio", "prefill") == (2, 2)
    assert _asked_at(FROM_S, "wrong_ratio", "decode") == (4, 4)


def test_doubled_traffic_is_twice_the_requests_for_an_hour() -> None:
    """Poisson counts: 4/s become 8/s inside, and stay 4/s before and after."""
    time_s = _ran("doubled_traffic").steered.trace.requests.time_s
    counts = np.histogram(time_s, [0.0, FROM_S, FROM_S + 3600.0, HOURS * 3600.0])[0]
    np.testing.assert_allclose(counts / [1200.0, 3600.0, 2400.0], [4.0, 8.0, 4.0], rtol=0.05)
    assert (np.diff(time_s) >= 0).all()


def test_a_burst_rises_holds_and_goes() -> None:
    """Over 240 s half as much again on average, ten minutes twice as much, then what there was."""
    requests = steady_arrivals(40.0, 1400.0, 320.0, 0.35, TokenMix(), 1.0, np.random.default_rng(5))
    time_s = crowded(requests, [Spell(burst(240.0), 600.0)], np.random.default_rng(6)).time_s
    counts = np.histogram(time_s, [0.0, 590.0, 840.0, 1440.0, 1460.0, 3600.0])[0]
    rates = counts / np.diff([0.0, 590.0, 840.0, 1440.0, 1460.0, 3600.0])
    np.testing.assert_allclose(rates[[0, 1, 2, 4]], [40.0, 59.0, 80.0, 40.0], rtol=0.04)


def test_counters_begin_anew_and_rates_are_off_by_a_scrape() -> None:
    """Every ten minutes the counters drop and a sample is missing: a minute's rate falls to two thirds."""
    kept, calm = _ran("counter_reset").kept, _ran("none").kept
    for role, row in (("decode", 2), ("prefill", 0)):
        samples = kept.targets[role].kept[0, :, row]
        known = samples[np.isfinite(samples)]
        assert (np.diff(known) < 0).sum() == 6
        inside = slice(int(FROM_S) // 15 - 1, int(FROM_S + 3600.0) // 15 - 1)
        assert np.isnan(samples[inside]).sum() == 6
    moments = np.arange(FROM_S, FROM_S + 3600.0, 15.0)
    ratio = [
        kept.rate("decode_tps", "decode", 60.0, at) / calm.rate("decode_tps", "decode", 60.0, at)
        for at in moments
    ]
    assert 0.55 < min(ratio) < 0.7
    assert max(ratio) < 1.34
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)


def test_steep_hours_are_those_in_which_load_climbs_most() -> None:
    """Two climbs of a made-up day, the steeper first chosen, three lengths apart; starts are whole looks."""
    hours = np.arange(0.0, 24.0, GRID_S / 3600.0)
    rate = np.interp(hours, [0, 6, 7, 12, 15, 16, 24], [1, 1, 3, 3, 3, 5, 5])
    spells = steep_spells(NAMED["metric_gap"], rate, 2)
    assert [spell.from_s / 3600.0 for spell in spells] == [
        pytest.approx(6.0, abs=0.5),
        pytest.approx(15.0, abs=0.5),
    ]
    assert all(spell.from_s % 60.0 == 0.0 for spell in spells)
    assert spells[0].judged == (spells[0].from_s, spells[0].from_s + 3 * 3600.0)
    many = steep_spells(NAMED["metric_gap"], rate, 20)
    assert min(np.diff([spell.from_s for spell in many])) >= 3 * 3600.0


def test_bursts_come_one_in_each_part_of_the_day() -> None:
    """Six a day, none in the first hour, none within the time that another is judged over."""
    spells = even_spells(burst(240.0), 24.0, 6, np.random.default_rng(3))
    moments = np.array([spell.from_s for spell in spells])
    assert moments.size == 6
    assert moments.min() >= 3600.0
    assert np.diff(moments).min() >= 3 * 840.0 - 60.0
    with pytest.raises(ValueError, match="do not fit"):
        even_spells(Fault("long", "", 9000.0), 24.0, 6, np.random.default_rng(3))

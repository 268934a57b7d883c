"""What recorded latencies say of loads where a capacity is a floor: carried, above it, and of one day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import D_CAPACITY, SETTINGS, day, derived, service

from hs_analysis.derive.capacity_laws import violating
from hs_analysis.replay.backtest import is_one_day, replay_day, replay_service
from hs_analysis.replay.carried import Laws, SeenLoads, laws_of, over_limit, violation_bounds
from hs_analysis.replay.constants import ANOTHER_DAY_SD, CALM_REACH
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import Schedule, SimulationResult, any_of, simulate
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.constants import GROUP_MIN
from hs_analysis.schema.results import Derived

ROWS = 1440
FLOOR = 0.6 * D_CAPACITY


def floors(*, calm: bool | None = None, value: float = FLOOR) -> Derived:
    """Return derived numbers whose capacities are floors."""
    found = derived(status="floor")
    capacity = tuple(replace(one, per_instance=value, calm=calm) for one in found.capacity)
    return replace(found, capacity=capacity)


def seen(over: np.ndarray, **edges: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of windows over the TBT limit."""
    return {"tbt_over__decode": over, "tbt_over_least__decode": over} | edges


def roomy(rows: int = ROWS, over: float = 0.0) -> ServiceFrame:
    """Return days of a decode pool of four that peak at the floor; no window, or all, over the limit."""
    load = np.concatenate([day(1440, 4 * FLOOR / 1.7, seed=n) for n in range(-(-rows // 1440))])[:rows]
    return service({"decode": load}, {"decode": 4}, **seen(np.full(rows, over)))


def test_as_many_over_the_limit_as_are_allowed_break_nothing() -> None:
    """One in ten at the 90 % quantile, where 1 − 0.9 is a hair under 0.1: as capacities count windows."""
    slo = replace(SETTINGS.slo, quantile=0.9)
    shares = np.array([0.1, 0.1 + 1e-6, np.nan])
    (part,) = demands(service({"decode": np.full(3, 100.0)}, {"decode": 4}, **seen(shares)))
    for found in over_limit(part, "tbt", slo):
        np.testing.assert_array_equal(found, [0.0, 1.0, np.nan])
    assert violating(shares, slo).tolist() == [False, True, False]


def at(counts: float, frame: ServiceFrame, law: Laws) -> SimulationResult:
    """Return a fixed count on a history, judged by a law."""
    (part,) = demands(frame)
    model = fit_fleet(frame, floors(), SETTINGS)
    return law.judge(simulate(Schedule({"decode": np.full(part.rows, counts)}), part, model))


def test_nothing_up_to_a_carried_load_is_told_as_broken() -> None:
    """What ran held the limit in every window, so does its replay; half the pool is not known at its peak."""
    frame = roomy()
    law = laws_of(frame, floors(), SETTINGS)
    low, high = violation_bounds([at(4.0, frame, law)], ("decode",)) or (None, None)
    assert low == 0.0
    assert high == pytest.approx(GROUP_MIN / ROWS, abs=0.002)
    low, high = violation_bounds([at(2.0, frame, law)], ("decode",)) or (None, None)
    assert low == 0.0
    assert 0.3 < high < 0.9
    assert at(0.0, frame, law).violation["decode"].min() == 1.0


@pytest.mark.parametrize("late", [0, 1])
def test_what_ran_broke_the_limit_as_often_as_was_seen(late: int) -> None:
    """Its busiest windows are beyond what the laws know, but they were recorded: late in each, or in none.

    The same counts as a policy are charged with all of them.
    """
    frame = roomy()
    busiest = np.argsort(frame.values("decode_tps", "decode"))[-(GROUP_MIN - 1) :]
    over = np.zeros(ROWS)
    over[busiest] = late
    frame = service({"decode": frame.values("decode_tps", "decode")}, {"decode": 4}, **seen(over))
    found = replay_day(frame, floors(), {"four": Schedule({"decode": np.full(ROWS, 4.0)})}, SETTINGS)
    assert found is not None
    four, ran = found.result.policies
    assert ran.slo_violation_ratio == pytest.approx(late * busiest.size / ROWS, rel=0.2)
    assert ran.slo_violation_s == pytest.approx(ran.slo_violation_ratio * ROWS * frame.window_s)
    assert busiest.size <= four.slo_violation_ratio * ROWS + 1e-6 < 2 * busiest.size
    assert four.slo_violation_s == pytest.approx(four.slo_violation_ratio * ROWS * frame.window_s, rel=1e-6)


def test_a_pool_that_surely_violates_needs_no_word_of_the_other() -> None:
    """Nothing is known of prefill: the windows in which decode is late are late all the same."""
    chances = {"prefill": np.full(3, np.nan), "decode": np.array([1.0, 0.5, 0.0])}
    np.testing.assert_array_equal(any_of(chances, ("prefill", "decode"), 3), [1.0, np.nan, np.nan])


def test_windows_over_the_limit_are_told_at_the_loads_they_were_seen_at() -> None:
    """A third of the busiest windows late: that share of them is told, and none of the others."""
    load = np.repeat([100.0, 200.0], 300)
    over = np.where(load > 150.0, np.arange(600) % 3 == 0, 0.0)
    law = SeenLoads(np.arange(600.0), load, over).carried()
    assert law is not None
    found = law.violation(np.array([90.0, 100.0, 200.0, 201.0]))
    assert found[:3].tolist() == pytest.approx([0.0, 0.0, 1 / 3])
    assert np.isnan(found[3])
    assert SeenLoads(np.arange(2.0), load[:2], over[:2]).carried() is None


@pytest.mark.parametrize(("calm", "reach"), [(True, CALM_REACH), (False, 1.0), (None, 1.0)])
def test_far_above_is_told_from_a_little_more(calm: bool | None, reach: float) -> None:
    """A pool that kept its limits easily is trusted a tenth further than one that only just did."""
    frame = roomy()
    law = laws_of(frame, floors(calm=calm), SETTINGS)
    assert law.reach == {"decode": reach}
    assert law.far_above([at(4.0, frame, law)]) == pytest.approx(0.0, abs=0.01)
    assert law.far_above([at(2.0, frame, law)]) > 0.3
    assert (law.far_above([at(4 / 1.05, frame, law)]) > 0.0) is (reach == 1.0)


def test_the_test_window_shows_what_the_first_part_did_not() -> None:
    """A peak that only the rest of the day has was carried: its counts break nothing in the replay."""
    rows = np.arange(ROWS)
    frame = roomy()
    train, test = frame.rows(rows < 600), frame.rows(rows >= 600)
    low = floors(value=0.4 * D_CAPACITY)
    alike = {"four": Schedule({"decode": np.full(ROWS, 4.0)})}
    rows_of = {
        known: replay_service(test, train, low, alike, SETTINGS, whole=whole).result
        for known, whole in (("first", None), ("whole", (frame, floors())))
    }
    named = {known: {row.policy: row for row in one.policies} for known, one in rows_of.items()}
    assert named["first"]["four"].not_known_ratio > 0.2
    assert named["whole"]["four"].slo_violation_ratio is not None
    assert named["whole"]["four"].slo_side == "under"
    assert {one["recorded"].slo_violation_ratio for one in named.values()} == {0.0}
    assert rows_of["whole"].calibration["basis"] == "blocks"
    assert rows_of["whole"].calibration["status"] == "calibrated"


def test_each_block_of_one_day_is_judged_by_the_rest() -> None:
    """A stretch of late windows at loads that the rest carried in time is not foretold: not calibrated."""
    over = np.zeros(ROWS)
    over[240:360] = 0.2
    load = np.full(ROWS, 4 * FLOOR) * (1.0 + 0.1 * np.sin(np.arange(ROWS)))
    frame = service({"decode": load}, {"decode": 4}, **seen(over))
    (part,) = demands(frame)
    model = fit_fleet(frame, floors(), SETTINGS)
    result = simulate(Schedule({"decode": np.full(ROWS, 4.0)}), part, model)
    told = laws_of(frame, floors(), SETTINGS).judge_by_blocks(result).violation["decode"]
    assert np.nanmean(told[240:360]) == pytest.approx(0.0)
    assert np.nanmean(told[400:]) > 0.05


def test_one_day_gives_a_range_of_what_is_saved_and_two_days_a_held_part() -> None:
    """The file is replayed on its own day; a history of two days is not."""
    one, two = roomy(), roomy(2880)
    assert (is_one_day(one), is_one_day(two)) == (True, False)
    assert not is_one_day(replace(one, kind="pressure_test"))
    control = Schedule({"decode": np.full(ROWS, 3.0)})
    found = replay_day(one, floors(), {"p": control}, SETTINGS)
    assert found is not None
    row, ran = found.result.policies
    low, high = row.vs_recorded_ci
    assert (low, high) == pytest.approx(
        (0.25 - 1.96 * ANOTHER_DAY_SD, 0.25 + 1.96 * ANOTHER_DAY_SD), abs=0.01
    )
    assert (ran.policy, ran.slo_side) == ("recorded", "under")
    assert replay_day(two, floors(), {"p": control}, SETTINGS) is None

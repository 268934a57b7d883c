"""Planned tests: what they press, what they cost, and whether following one answers the refusal."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from derive.synthetic import LEVEL_SHARE, SETTINGS, TRUE_SHARE, Service, day_frame, make_frame, with_columns
from scipy.stats import binom

from hs_analysis.derive import derive_service
from hs_analysis.derive.capacity_laws import RULES
from hs_analysis.plan_test import Precision, plan_service
from hs_analysis.plan_test.commands import GENERATORS, command_lines
from hs_analysis.plan_test.plan import LONGEST_MIN, STEP
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Capacity
from hs_analysis.schema.sweeps import PlannedTest

PRECISION = Precision(RULES["pressure_test"][0].systematic)
FEW = replace(SETTINGS, draws=100)


def roomy(seed: int = 6) -> ServiceFrame:
    """Return a day that never comes near a limit, scraped every 5 s, with two GPUs a prefill instance."""
    frame = day_frame(seed, prefill_peak=0.6, decode_peak=0.6, hours=24)
    infos = tuple(replace(info, interval_s=5.0) for info in frame.signals)
    return replace(frame, signals=infos, gpus_per_instance={"prefill": 2.0, "decode": 4.0})


def planned(frame: ServiceFrame) -> dict[str, PlannedTest]:
    derived = derive_service(frame, (), FEW).derived
    return {test.what: test for test in plan_service(frame, derived, PRECISION)}


@pytest.fixture(scope="module")
def plan() -> dict[str, PlannedTest]:
    """The plan of a day with two floors."""
    return planned(roomy())


def test_two_floors_are_answered_by_two_tests_and_the_ratio_by_both(plan: dict[str, PlannedTest]) -> None:
    """Each capacity has its test; the ratio costs what both cost and no load of its own."""
    assert set(plan) == {"capacity@prefill", "capacity@decode", "pd_ratio"}
    prefill, decode, ratio = plan["capacity@prefill"], plan["capacity@decode"], plan["pd_ratio"]
    assert ratio.levels == ()
    assert ratio.instance_hours == pytest.approx(prefill.instance_hours + decode.instance_hours)
    assert ratio.gpu_hours == pytest.approx(prefill.gpu_hours + decode.gpu_hours)
    assert "capacity@prefill" in ratio.text
    # A ratio of two numbers is known worse than the better and better than twice the worse of them.
    assert min(prefill.spread, decode.spread) < ratio.spread < prefill.spread + decode.spread


def test_the_levels_cover_what_is_asked(plan: dict[str, PlannedTest]) -> None:
    """From well under what was carried to well over it, in steps of 15 %, then down again."""
    for what, true in (("capacity@prefill", 4000.0), ("capacity@decode", 1300.0)):
        loads = [level.load for level in plan[what].levels]
        top = loads.index(max(loads))
        assert loads[0] < 0.5 * true < true < loads[top]
        assert max(b / a for a, b in pairwise(loads[: top + 1])) <= STEP + 1e-9
        assert loads[top + 1 :] == loads[top - 1 : top - 4 : -1]
        assert all(level.minutes >= 5 for level in plan[what].levels)


def test_the_cost_is_pools_times_time(plan: dict[str, PlannedTest]) -> None:
    """Instance-hours and GPU-hours are those of both pools over all levels."""
    for test in (plan["capacity@prefill"], plan["capacity@decode"]):
        hours = sum(level.minutes for level in test.levels) / 60
        assert test.instance_hours == pytest.approx(hours * (test.prefill + test.decode))
        assert test.gpu_hours == pytest.approx(hours * (2 * test.prefill + 4 * test.decode))


def test_only_the_pool_in_question_is_pressed(plan: dict[str, PlannedTest]) -> None:
    """At the highest level the other pool carries no more than it is known to carry."""
    derived = derive_service(roomy(), (), FEW).derived
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        test = plan[f"capacity@{role}"]
        tokens = {"prefill": test.isl, "decode": test.osl}
        rate = max(level.request_rate for level in test.levels)
        carried = derived.capacity_of(other).per_instance
        assert rate * tokens[other] / getattr(test, other) <= carried * (1 + 1e-9)
        top = max(level.load for level in test.levels)
        assert rate * tokens[role] / getattr(test, role) == pytest.approx(top)


def test_a_small_pool_stands_for_a_large_one_to_five_percent() -> None:
    """Prefill is not tested on a pool so small that its size costs capacity; decode is, on two."""
    frame = day_frame(1, prefill_peak=0.6, decode_peak=0.6, hours=24, service=Service(prefill=40, decode=30))
    found = planned(frame)
    size = found["capacity@prefill"].prefill
    assert 1 - 0.55 / size >= 0.95 * (1 - 0.55 / 40) > 1 - 0.55 / (size - 1)
    assert size < 20
    assert found["capacity@decode"].decode == 2


def test_what_no_load_answers_has_no_test() -> None:
    """Without an objective there is nothing a load could break: the words ask for the limits instead."""
    frame = roomy()
    bare = replace(FEW, slo=replace(FEW.slo, ttft_s=None, tbt_s=None))
    derived = derive_service(frame, (), bare).derived
    assert {r.code for r in derived.refusals} >= {"no_slo"}
    assert plan_service(frame, derived, PRECISION) == ()


def test_a_ratio_has_no_test_where_one_of_its_pools_has_none() -> None:
    """More load tells nothing of a decode pool whose KV memory is full; prefill's test stays."""
    frame = roomy()
    full = with_columns(frame, {"kv_usage@decode": np.full(frame.table.height, 0.9)})
    derived = derive_service(full, (), FEW).derived
    assert "kv_full" in {refusal.code for refusal in derived.refusals}
    assert [test.what for test in plan_service(full, derived, PRECISION)] == ["capacity@prefill"]
    derived = derive_service(frame, (), FEW).derived
    assert {test.what for test in plan_service(frame, derived, PRECISION)} >= {"pd_ratio"}


def test_refusals_name_the_command() -> None:
    """What a load test would answer says where the test is planned."""
    derived = derive_service(roomy(), (), FEW).derived
    for refusal in derived.refusals:
        if refusal.code in ("no_violations", "capacity_floor"):
            assert "hsa plan-test" in refusal.collect


def follow(test: PlannedTest, service: Service, seed: int) -> ServiceFrame:
    """Return what following a plan records: up to two levels over the limit, then three down."""
    prefill, decode = test.prefill, test.decode
    rig = replace(service, prefill=prefill, decode=decode, window_s=20.0, kind="pressure_test")
    true = {"prefill": service.prefill_capacity, "decode": service.decode_capacity}[test.role]
    up = [level for level in test.levels if level.load <= max(one.load for one in test.levels)]
    up = up[: up.index(max(up, key=lambda level: level.load)) + 1]
    over = [i for i, level in enumerate(up) if level.load > true / TRUE_SHARE * LEVEL_SHARE]
    last = min(over[0] + 1, len(up) - 1) if over else len(up) - 1
    run = [*up[: last + 1], *up[last - 1 : last - 4 : -1]]
    rows = [np.full(round(level.minutes * 60 / rig.window_s), level.request_rate) for level in run]
    return make_frame(rig, np.concatenate(rows), test.isl, test.osl, seed)


def answers(role: str, seeds: range) -> tuple[PlannedTest, list[Capacity]]:
    test = planned(roomy())[f"capacity@{role}"]
    frames = [follow(test, Service(), seed) for seed in seeds]
    found = [derive_service(frame, (), replace(FEW, seed=i)) for i, frame in enumerate(frames)]
    return test, [one.derived.capacity_of(role) for one in found]


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_following_the_plan_answers_as_precisely_as_predicted(role: str) -> None:
    """Over twelve seeds the refusal is answered, the interval holds the truth and is as wide as predicted."""
    test, found = answers(role, range(12))
    true = {"prefill": 4000.0, "decode": 1300.0}[role] / TRUE_SHARE * LEVEL_SHARE
    assert [c.status for c in found] == ["ok"] * 12
    held = sum(c.ci[0] <= true <= c.ci[1] for c in found)
    assert held >= binom.ppf(0.001, 12, 0.95)
    wide = [0.5 * math.log(c.ci[1] / c.ci[0]) for c in found]
    predicted = math.log1p(test.expect_ratio)
    # The median half-width, in logs, is that of the plan to a quarter.
    assert 0.75 < np.median(wide) / predicted < 1.25


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_each_level_has_its_command(generator: str, plan: dict[str, PlannedTest]) -> None:
    """One command a level with its rate and lengths, that a shell reads as it was meant."""
    test = plan["capacity@decode"]
    lines = command_lines(generator, test.levels, test.isl, test.osl, "shop/chat model")
    assert len(lines) == len(set(lines)) == len(test.levels)
    for level, line in zip(test.levels, lines, strict=True):
        words = shlex.split(line)
        assert "chat model" in words
        assert f"{level.request_rate:.4g}" in words
        joined = " ".join(words)
        assert str(round(test.isl)) in joined
        assert str(round(test.osl)) in joined


def test_no_rate_no_command() -> None:
    """Where requests are not counted a level is a load without a rate, and no command is made up."""
    frame = roomy()
    gone = [c for c in frame.table.columns if c.startswith("request_rate")]
    found = planned(replace(frame, table=frame.table.drop(gone)))["capacity@decode"]
    assert all(level.request_rate is None for level in found.levels)
    assert command_lines("aiperf", found.levels, 1, 1, "a/b") == ()


def test_no_plan_is_longer_than_a_working_day(plan: dict[str, PlannedTest]) -> None:
    """A window of few requests is so noisy that its test takes days: cut, it says what is known then."""
    assert not any("It is cut" in test.text for test in plan.values())
    derived = derive_service(roomy(), (), FEW).derived
    noisy = replace(derived, thresholds=tuple(replace(one, noise_cv=0.5) for one in derived.thresholds))
    cut = {test.what: test for test in plan_service(roomy(), noisy, PRECISION)}["capacity@decode"]
    assert sum(level.minutes for level in cut.levels) <= LONGEST_MIN
    assert "It is cut to 8 h" in cut.text
    assert cut.expect_ratio > 2 * plan["capacity@decode"].expect_ratio


def test_a_plan_that_scrapes_make_long_says_so() -> None:
    """Five windows a level are the least: with a value every five minutes that is more than a day."""
    frame = roomy()
    slow = replace(frame, signals=tuple(replace(info, interval_s=300.0) for info in frame.signals))
    found = planned(slow)["capacity@decode"]
    assert sum(level.minutes for level in found.levels) > LONGEST_MIN
    assert "values come every 300 s; scrape more often" in found.text

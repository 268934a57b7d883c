"""Faults: what each does, and what no policy of ours may do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, built, day, derived, pd_day, service

from hs_analysis.controllers import CONTROLLERS
from hs_analysis.errors import UsageError
from hs_analysis.replay.backtest import replay_service_faults, sizing
from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.demand import demands, taking_over
from hs_analysis.replay.faults import (
    FAULTS,
    PLACES,
    FaultRows,
    faults_named,
    replay_faults,
    steep_stretches,
    watched_until,
)
from hs_analysis.replay.fleet import PoolLanes, fit_fleet
from hs_analysis.replay.signals import kept_ratio
from hs_analysis.replay.simulate import Schedule, Simulation, combined_violation, simulate

FRAME = pd_day(480)
MODEL = fit_fleet(FRAME, derived(), SETTINGS)
(DEMAND,) = demands(FRAME)
DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
LEAD = 60
"""Rows in which policies come down from the recorded counts."""
OURS = {"one": built(FRAME, DECODE), "two": built(FRAME, PAIR)}


@pytest.fixture(scope="module")
def table() -> dict:
    """Our policies and KEDA with defaults under every fault, by (policy, fault)."""
    known = sizing(FRAME, MODEL, derived(), OURS.values())
    keda = next(row for row in CONTROLLERS if row.name == "keda").size(known)
    assert not isinstance(keda, str)
    rows = replay_faults({**OURS, "keda": keda}, DEMAND, MODEL, lead=LEAD)
    assert len(rows) == 3 * (1 + len(FAULTS))
    return {(row.policy, row.fault): row for row in rows}


def test_faults_have_names_and_words() -> None:
    """The nine of the command line; an unknown one is a usage error that lists them."""
    names = [fault.name for fault in FAULTS]
    assert names == [
        "metric_gap", "stale_metric", "stuck_start_up", "no_stock", "lost_group", "wrong_ratio",
        "doubled_traffic", "clock_skew", "counter_reset",
    ]  # fmt: skip
    assert all(fault.text for fault in FAULTS)
    assert faults_named(["all"]) == FAULTS
    assert [f.name for f in faults_named(["no_stock", "metric_gap"])] == ["metric_gap", "no_stock"]
    with pytest.raises(UsageError, match="no fault 'fire'") as caught:
        faults_named(["fire"])
    assert "metric_gap" in (caught.value.hint or "")


def test_doubled_traffic_is_seen() -> None:
    """A policy reads the doubled work, not what was recorded of the rows that were doubled."""
    stretch = steep_stretches(DEMAND, MODEL)[0]
    (doubled,) = (fault for fault in FAULTS if fault.name == "doubled_traffic")
    more = doubled.demand(stretch, DEMAND)
    signal = ("decode_tps", "decode")
    kept = kept_ratio(MODEL.signals[signal], signal, more)
    assert np.isnan(kept[stretch.first : stretch.last]).all()
    np.testing.assert_array_equal(
        kept[: stretch.first], kept_ratio(MODEL.signals[signal], signal, DEMAND)[: stretch.first]
    )
    assert np.isfinite(kept[: stretch.first]).any()


def _ramps(*heights: float) -> np.ndarray:
    """Load that climbs within an hour by each height, once in five hours, and falls back at once."""
    flat, climb = np.full(240, 2_000.0), np.linspace(0.0, 1.0, 60)
    return np.concatenate([part for height in heights for part in (flat, 2_000.0 + height * climb)] + [flat])


def test_steep_climbs_are_hit() -> None:
    """The hours start where the load rises at least half as much as anywhere, spread over all such climbs."""
    frame = service({"decode": _ramps(7_000.0, 2_000.0, 6_000.0)}, {"decode": 8})
    (part,) = demands(frame)
    model = fit_fleet(frame, derived(), SETTINGS)
    found = steep_stretches(part, model)
    assert len(found) == PLACES
    assert all(stretch.last - stretch.first == 60 for stretch in found)
    climbs = [(stretch.first - 240) / 300 for stretch in found]
    assert {round(climb) for climb in climbs} == {0, 2}
    assert all(abs(climb - round(climb)) < 0.15 for climb in climbs)
    assert {round((s.first - 240) / 300) for s in steep_stretches(part, model, lead=400)} == {2}


def test_a_load_that_never_climbs_is_hit_once() -> None:
    """There is one hour then; row 0 is none, because nothing was scraped before it."""
    frame = service({"decode": np.full(300, 3_000.0)}, {"decode": 3})
    (part,) = demands(frame)
    assert steep_stretches(part, fit_fleet(frame, derived(), SETTINGS)) == (FaultRows(2, 62),)


LONG = ("one", "hpa", "aibrix_kpa")
"""Controllers that the slow tests add."""

CONTROLS = [
    pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in (*OURS, "hpa", "keda", "aibrix_kpa")
]


@pytest.mark.parametrize("control", [*CONTROLS, "recorded"])
def test_a_fault_is_what_a_whole_replay_with_it_is(control: str) -> None:
    """A simulation that goes on from the undisturbed one does what one from the first row does, exactly."""
    known = sizing(FRAME, MODEL, derived(), OURS.values())
    others = {row.name: row.size(known) for row in CONTROLLERS} | {"recorded": recorded(MODEL, DEMAND)}
    one = OURS.get(control) or others[control]
    stretch = steep_stretches(DEMAND, MODEL)[-1]
    run = Simulation(one, DEMAND, MODEL)
    run.advance(stretch.first - 10)
    for fault in FAULTS:
        hit = fault.demand(stretch, DEMAND).until(watched_until(stretch, DEMAND))
        whole = simulate(one, hit, MODEL, fault.trouble(stretch, hit))
        branch = run.branch(hit, fault.trouble(stretch, hit))
        branch.advance(hit.rows)
        found = branch.result()
        for name in ("desired", "ready", "paid", "queued", "violation"):
            for role, values in getattr(whole, name).items():
                np.testing.assert_array_equal(getattr(found, name)[role], values, fault.name)
        assert found.reason == whole.reason
    run.advance(DEMAND.rows)
    for role, values in simulate(one, DEMAND, MODEL).desired.items():
        np.testing.assert_array_equal(run.result().desired[role], values)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_branch_remembers(control: str) -> None:
    """Going on from any row is the same replay: cooldowns, averages and what starts are taken over."""
    known = sizing(FRAME, MODEL, derived(), OURS.values())
    one = OURS.get(control) or next(row for row in CONTROLLERS if row.name == control).size(known)
    calm, run = simulate(one, DEMAND, MODEL), Simulation(one, DEMAND, MODEL)
    for row in range(4, 400, 6):
        run.advance(row)
        branch = run.branch(DEMAND.until(row + 20))
        branch.advance(row + 20)
        for role, counts in branch.result().desired.items():
            np.testing.assert_array_equal(counts, calm.desired[role][: row + 20])


def test_mean_and_worst_are_those_of_the_hours() -> None:
    """Each hour counts by itself and alike; the worst is the highest, recovery the longest."""
    (fault,) = faults_named(["stuck_start_up"])
    stretches = steep_stretches(DEMAND, MODEL)
    assert len(stretches) > 1
    shares = []
    for stretch in stretches:
        result = simulate(OURS["two"], DEMAND, MODEL, fault.trouble(stretch, DEMAND))
        rows = slice(stretch.first, watched_until(stretch, DEMAND))
        shares.append(combined_violation(result, ("prefill", "decode"))[rows].mean())
    calm, hit = replay_faults({"two": OURS["two"]}, DEMAND, MODEL, (fault,))
    assert (calm.places, hit.places) == (len(stretches), len(stretches))
    assert hit.slo_violation_ratio == pytest.approx(np.mean(shares))
    assert hit.worst_violation_ratio == pytest.approx(np.max(shares))
    assert hit.worst_violation_ratio > hit.slo_violation_ratio > (calm.slo_violation_ratio or 0.0)


def test_counts_taken_over_are_gone_before_a_fault() -> None:
    """Recorded counts far above the need do not shield a policy: the history leads into the first hour."""
    rows = np.arange(FRAME.table.height)
    train, test = FRAME.rows(rows < 240), FRAME.rows(rows >= 240)
    (part,) = demands(test, MODEL.pools)
    (led,) = taking_over((part,), train, 7_200.0)
    assert led.rows == part.rows + 120
    np.testing.assert_array_equal(led.t_s, FRAME.seconds()[120:])
    for role in MODEL.pools:
        np.testing.assert_array_equal(led.offered[role], DEMAND.offered[role][120:])
        np.testing.assert_array_equal(led.past("instances", role), DEMAND.column("instances", role)[60:120])
    assert all(stretch.first >= 120 for stretch in steep_stretches(led, MODEL, lead=120))
    (alone,) = taking_over((part,), test, 7_200.0)
    assert (alone.rows, alone.before) == (part.rows, {})


@pytest.mark.parametrize("policy", OURS)
@pytest.mark.parametrize("fault", ["metric_gap", "stale_metric"])
def test_no_policy_of_ours_shrinks_when_it_cannot_see(table: dict, policy: str, fault: str) -> None:
    """A gap holds the counts; a frozen metric never takes more than the load itself would have taken."""
    (trouble,) = faults_named([fault])
    calm = simulate(OURS[policy], DEMAND, MODEL).desired
    fewest: dict[str, float] = dict.fromkeys(MODEL.pools, math.inf)
    for stretch in steep_stretches(DEMAND, MODEL, LEAD):
        result = simulate(OURS[policy], DEMAND, MODEL, trouble.trouble(stretch, DEMAND))
        inside = slice(stretch.first, stretch.last)
        for role, counts in result.desired.items():
            before, held = counts[stretch.first - 1], counts[inside].min()
            assert held >= (before if fault == "metric_gap" else min(before, calm[role][inside].min()))
            fewest[role] = min(fewest[role], held)
    assert table[(policy, fault)].lowest == fewest


def test_keda_with_defaults_falls_to_its_minimum_in_a_gap(table: dict) -> None:
    """The trap that a ScaledObject without ignoreNullValues=false sets; ours violates less."""
    assert table[("keda", "metric_gap")].lowest["decode"] == OURS["one"].bounds["decode"].min
    assert (
        table[("keda", "metric_gap")].slo_violation_ratio > table[("two", "metric_gap")].slo_violation_ratio
    )


def test_faults_cost_what_they_should(table: dict) -> None:
    """Undisturbed all is calm; a fault of the fleet or of the traffic violates more and is recovered from."""
    for policy in OURS:
        calm = table[(policy, "none")]
        assert calm.recovery_s == 0.0
        for fault in ("stuck_start_up", "no_stock", "lost_group", "doubled_traffic"):
            hit = table[(policy, fault)]
            assert hit.slo_violation_ratio >= calm.slo_violation_ratio
            assert hit.recovery_s is not None
        assert table[(policy, "doubled_traffic")].slo_violation_ratio > calm.slo_violation_ratio + 0.01
        assert table[(policy, "lost_group")].lowest_ready["prefill"] < calm.lowest_ready["prefill"]
        assert table[(policy, "wrong_ratio")].lowest["prefill"] < calm.lowest["prefill"]


def test_stock_holds_what_waits_and_releases_it() -> None:
    """Without stock an increase waits and is not paid for; with it, it starts."""
    pool = PoolLanes(MODEL.pools["decode"], 4.0)
    pool.stock = 5.0
    pool.ask(8.0, 0.0)
    assert (pool.pending, pool.starting) == (3.0, [(240.0, 1.0)])
    pool.ask(7.0, 60.0)
    assert pool.pending == 2.0
    pool.stock = math.inf
    pool.advance(120.0)
    assert (pool.pending, pool.starting[-1]) == (0.0, (360.0, 2.0))
    pool.advance(360.0)
    assert pool.ready == pool.desired == 7.0


def test_what_finds_no_stock_is_not_paid_for() -> None:
    """Ten are asked for, three run and none can be added: three are paid for until there is stock again."""
    frame = service({"decode": np.full(200, 3_000.0)}, {"decode": 3})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    counts = np.where(np.arange(part.rows) <= stretch.first, 3.0, 10.0)
    (fault,) = faults_named(["no_stock"])
    result = simulate(Schedule({"decode": counts}, running=False), part, model, fault.trouble(stretch, part))
    assert result.paid["decode"][stretch.first + 5] == 3.0
    assert result.paid["decode"][stretch.last + 5] == 10.0


def test_lost_instances_come_back_after_a_start_up() -> None:
    """They are started anew, within the stock."""
    pool = PoolLanes(MODEL.pools["decode"], 4.0)
    pool.lose(1.0, 0.0)
    assert (pool.ready, pool.desired) == (3.0, 4.0)
    pool.advance(239.0)
    assert pool.ready == 3.0
    pool.advance(240.0)
    assert pool.ready == 4.0


def test_stuck_instances_start_when_the_fault_ends() -> None:
    """What is asked for in the hour becomes ready a start-up time after it."""
    load = np.concatenate([np.full(100, 3_000.0), np.linspace(3_000.0, 12_000.0, 60), np.full(200, 12_000.0)])
    frame = service({"decode": load}, {"decode": 3})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    counts = np.where(np.arange(part.rows) < stretch.first + 5, 3.0, 10.0)
    (fault,) = faults_named(["stuck_start_up"])
    result = simulate(Schedule({"decode": counts}, running=False), part, model, fault.trouble(stretch, part))
    assert result.ready["decode"][stretch.last + 3] == 3.0
    assert result.ready["decode"][stretch.last + 4] == 10.0


def test_skewed_readings_are_ten_minutes_old() -> None:
    """A policy that reads them decides as it would have ten minutes before."""
    load = day(600, 6_000.0, noise=0.0)
    frame = service({"decode": load}, {"decode": 6})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    (fault,) = faults_named(["clock_skew"])
    alter = fault.trouble(stretch, part).alter
    assert alter is not None
    seen: list[float] = []
    for row in range(stretch.last):
        seen.append(alter(("decode_tps", "decode"), row, float(row), seen))
    assert seen[stretch.first - 1] == stretch.first - 1
    assert seen[stretch.first :] == [row - 10.0 for row in range(stretch.first, stretch.last)]


def test_faults_of_a_service() -> None:
    """Policies, what ran and every autoscaler that can be expressed, on the longest capture."""
    rows = np.arange(FRAME.table.height)
    train, test = FRAME.rows(rows < 240), FRAME.rows(rows >= 240)
    found = replay_service_faults(test, train, derived(), OURS, SETTINGS, faults_named(["no_stock"]))
    assert [row.fault for row in found[:2]] == ["none", "no_stock"]
    names = list(dict.fromkeys(row.policy for row in found))
    assert names[:4] == ["one", "two", "recorded", "hpa"]
    bare = FRAME.table.drop("instances@prefill", "instances@decode")
    assert replay_service_faults(replace(test, table=bare), train, derived(), {}, SETTINGS, FAULTS) == ()

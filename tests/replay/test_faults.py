"""Faults: what each does, and what no policy of ours may do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, built, day, derived, pd_day, plain_policy, primary, service

import hs_analysis.replay.faults as module
from hs_analysis.controllers import CONTROLLERS
from hs_analysis.errors import UsageError
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Bounds
from hs_analysis.replay.backtest import replay_service_faults, sizing
from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.demand import DemandTrace, demands
from hs_analysis.replay.faults import (
    FAULTS,
    PLACES,
    FaultRows,
    FaultStrike,
    fault_shares,
    faults_named,
    replay_faults,
    steep_stretches,
    struck,
    watched_until,
)
from hs_analysis.replay.fleet import FleetModel, PoolLanes, fit_fleet
from hs_analysis.replay.simulate import (
    Control,
    Run,
    Schedule,
    SimulationResult,
    Strike,
    combined_violation,
    simulate,
    simulate_all,
)

FRAME = pd_day(480)
MODEL = fit_fleet(FRAME, derived(), SETTINGS)
(DEMAND,) = demands(FRAME)
DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
POLICIES = {
    name: replace(built(FRAME, keys), controller="heteroscale")
    for name, keys in (("one", DECODE), ("two", PAIR))
}
OURS = {name: control_of(policy) for name, policy in POLICIES.items()}
FIELD = {row.name: row.size(sizing(FRAME, MODEL, derived(), SETTINGS)) for row in CONTROLLERS}


@pytest.fixture(scope="module")
def table() -> dict:
    """Our policies and KEDA with defaults under every fault, by (policy, fault)."""
    keda = FIELD["keda"]
    assert not isinstance(keda, str)
    rows = replay_faults({**OURS, "keda": keda}, DEMAND, MODEL)
    assert len(rows) == 3 * (1 + len(FAULTS))
    return {(row.policy, row.fault): row for row in rows}


@pytest.fixture(scope="module")
def undisturbed() -> dict:
    """Counts of our policies by policy and role, without a fault."""
    return {name: simulate(one, DEMAND, MODEL).desired for name, one in OURS.items()}


def test_faults_have_names_and_words() -> None:
    """The nine of the command line and bursts; an unknown one is a usage error that lists them."""
    names = [fault.name for fault in FAULTS]
    assert names == [
        "metric_gap", "stale_metric", "stuck_start_up", "no_stock", "lost_group", "wrong_ratio",
        "doubled_traffic", "clock_skew", "counter_reset", "burst",
    ]  # fmt: skip
    assert all(fault.text for fault in FAULTS)
    assert faults_named(["all"]) == FAULTS
    assert [f.name for f in faults_named(["no_stock", "metric_gap"])] == ["metric_gap", "no_stock"]
    with pytest.raises(UsageError, match="no fault 'fire'") as caught:
        faults_named(["fire"])
    assert "metric_gap" in (caught.value.hint or "")


def hit_by(
    fault: str, control: Control, part: DemandTrace, model: FleetModel, rows: FaultRows, last: int
) -> Run:
    """Return a run of one lane before a row, with a fault in some rows, that began with the first row."""
    run = Run([control], part, model)
    run.strike = FaultStrike(faults_named([fault]), rows, run)
    run.advance(last)
    return run


def result_of(
    fault: str, control: Control, part: DemandTrace, model: FleetModel, rows: FaultRows
) -> SimulationResult:
    """Replay one control with a fault in some rows."""
    return hit_by(fault, control, part, model, rows, part.rows).results()[0]


def test_doubled_traffic_is_seen() -> None:
    """A policy reads the doubled work, not what was recorded of the rows that were doubled."""
    stretch = steep_stretches(DEMAND, MODEL)[0]
    run = hit_by("doubled_traffic", OURS["two"], DEMAND, MODEL, stretch, stretch.first + 3)
    (lot,) = run.lots
    number = run.readings.keys.index(DECODE[0])
    slot = next(slot for slot, held in lot.slots.held.items() if held[0] == number)
    seen, row = lot.slots.seen().last(slot)[0], stretch.first + 2
    recorded_rate, twice = DEMAND.column("decode_tps", "decode")[row], 2 * DEMAND.offered["prefill"][row]
    assert seen > 1.3 * recorded_rate
    assert seen == pytest.approx(run.log.served["decode"][row, 0] / 60.0)
    assert run.log.arrived["prefill"][row, 0] == pytest.approx(60.0 * twice)


def test_a_burst_doubles_within_a_start_up_and_goes_as_it_came() -> None:
    """Start-up 240 s, in rows of 60 s: four up, ten minutes at twice the load, four down, nothing after."""
    frame = service({"decode": np.full(400, 3_000.0)}, {"decode": 3})
    (part,) = demands(frame)
    model, stretch = fit_fleet(frame, derived(), SETTINGS), FaultRows(100, 160)
    counts = Schedule({"decode": np.full(400, 9.0)})
    arrived = result_of("burst", counts, part, model, stretch).arrived["decode"] / 60.0 / 3_000.0
    up = [1.0, 1.25, 1.5, 1.75]
    np.testing.assert_allclose(arrived[100:104], up)
    np.testing.assert_allclose(arrived[104:115], 2.0)
    np.testing.assert_allclose(arrived[115:118], up[:0:-1])
    np.testing.assert_allclose(np.r_[arrived[:100], arrived[118:]], 1.0)


def test_faults_strike_their_own_lanes() -> None:
    """Each of two controls under each of ten faults: what happens in one lane is in no other."""
    run = Run([OURS["two"], recorded(MODEL, DEMAND)], DEMAND, MODEL)
    stretch = steep_stretches(DEMAND, MODEL)[0]
    (hit,) = struck(run, FAULTS, [stretch])
    assert (hit.lanes, hit.of_lane.size) == (20, 20)
    rows = slice(stretch.first - hit.first, stretch.last - hit.first)
    for lane, (control, fault) in enumerate(zip(hit.order.tolist(), hit.of_lane.tolist(), strict=True)):
        name = FAULTS[fault].name
        alone = hit_by(name, run.controls[control], DEMAND, MODEL, stretch, watched_until(stretch, DEMAND))
        for kind in ("desired", "ready", "arrived", "queued"):
            for role in MODEL.pools:
                whole = getattr(alone.log, kind)[role][hit.first : alone.row, 0]
                found = getattr(hit.log, kind)[role][:, lane]
                np.testing.assert_allclose(found, whole, rtol=1e-9, err_msg=f"{name} {control} {kind} {role}")
        more = (
            hit.log.arrived["prefill"][rows, lane]
            / DEMAND.offered["prefill"][stretch.first : stretch.last]
            / 60
        )
        assert (more.max() > 1.5) == (name in ("doubled_traffic", "burst"))


def test_shares_of_faults_are_those_of_the_table(table: dict) -> None:
    """The short way to the mean chance under each fault gives what the whole table does."""
    found = fault_shares(Run(tuple(OURS.values()), DEMAND, MODEL), FAULTS)
    assert found.shape == (2, len(FAULTS))
    for row, policy in enumerate(OURS):
        for column, fault in enumerate(FAULTS):
            assert found[row, column] == pytest.approx(table[policy, fault.name].slo_violation_ratio)
    bare = replace(MODEL, pools={role: replace(pool, capacity=None) for role, pool in MODEL.pools.items()})
    assert np.isnan(fault_shares(Run(tuple(OURS.values()), DEMAND, bare), FAULTS[:2])).all()


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


def test_a_load_that_never_climbs_is_hit_once() -> None:
    """There is one hour then, after the first two hours, or the first quarter where that is shorter."""
    for rows, first in ((900, 120), (300, 75), (200, 19), (181, 2)):
        frame = service({"decode": np.full(rows, 3_000.0)}, {"decode": 3})
        (part,) = demands(frame)
        found = steep_stretches(part, fit_fleet(frame, derived(), SETTINGS))
        assert found == (FaultRows(first, first + 60),)


LONG = ("one", "hpa", "aibrix_kpa")
"""Controllers that the slow tests add."""

CONTROLS = [
    pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in (*OURS, "hpa", "keda", "aibrix_kpa")
]


@pytest.mark.parametrize("control", [*CONTROLS, "recorded"])
def test_a_fault_is_what_a_whole_replay_with_it_is(control: str) -> None:
    """A run that goes on from the undisturbed one does what one from the first row does, exactly."""
    others = {**FIELD, "recorded": recorded(MODEL, DEMAND)}
    one = OURS.get(control) or others[control]
    stretch = steep_stretches(DEMAND, MODEL)[-1]
    last = watched_until(stretch, DEMAND)
    run = Run([one], DEMAND, MODEL)
    (hit,) = struck(run, FAULTS, [stretch])
    for lane, fault in enumerate(hit.of_lane.tolist()):
        name = FAULTS[fault].name
        whole = hit_by(name, one, DEMAND, MODEL, stretch, last)
        for kind in ("desired", "ready", "paid", "queued", "code"):
            for role, values in getattr(whole.log, kind).items():
                found = getattr(hit.log, kind)[role][:, lane]
                np.testing.assert_allclose(
                    found, values[hit.first : last, 0], rtol=1e-9, err_msg=f"{name} {kind}"
                )
    run.advance(DEMAND.rows)
    for role, values in simulate(one, DEMAND, MODEL).desired.items():
        np.testing.assert_array_equal(run.results()[0].desired[role], values)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_branch_remembers(control: str) -> None:
    """Going on from any row is the same replay: rests, windows and what starts are taken over."""
    one = OURS.get(control) or FIELD[control]
    calm, run = simulate(one, DEMAND, MODEL), Run([one], DEMAND, MODEL)
    for row in range(4, 400, 6):
        run.advance(row)
        branch = run.branch(2, row + 20, Strike())
        branch.advance(row + 20)
        for role, counts in branch.log.desired.items():
            for lane in range(2):
                np.testing.assert_array_equal(counts[:, lane], calm.desired[role][row : row + 20])


EVERY: tuple[Control, ...] = (
    *OURS.values(), recorded(MODEL, DEMAND), *(one for one in FIELD.values() if not isinstance(one, str)),
)  # fmt: skip


def _logs(demand: DemandTrace, stretches: list[FaultRows]) -> list[tuple[int, int, int, dict]]:
    """Return what every controller does under every fault: control, fault, first row, and its rows."""
    found = []
    for hit in struck(Run(EVERY, demand, MODEL), FAULTS, stretches):
        for lane in np.lexsort((hit.of_lane, hit.order)).tolist():
            rows = {
                (kind, role): getattr(hit.log, kind)[role][:, lane]
                for kind in ("desired", "ready", "queued", "wanted", "code")
                for role in hit.log.desired
            }
            found.append((int(hit.order[lane]), int(hit.of_lane[lane]), hit.first, rows))
    return found


@pytest.mark.parametrize(
    "gap", [pytest.param(None, marks=pytest.mark.slow, id="whole"), pytest.param(250, id="gap")]
)
def test_stretches_run_in_step_are_each_as_if_alone(gap: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What controllers remember at different hours is told apart, also where one of them has a gap."""
    gaps = DEMAND.gap.copy()
    if gap is not None:
        gaps[gap] = True
    demand = replace(DEMAND, gap=gaps)
    stretches = [FaultRows(first, first + 20) for first in (70, 105, 230, 300)]
    runs = []

    def counted(group: list, faults: tuple) -> object:
        runs.append(len(group))
        return in_step(group, faults)

    in_step = module._in_step
    monkeypatch.setattr(module, "_in_step", counted)
    together = _logs(demand, stretches)
    assert sorted(runs) == ([4] if gap is None else [1, 3])
    monkeypatch.setattr(module, "LANES_IN_STEP", 1)
    alone = _logs(demand, stretches)
    assert len(together) == len(alone) == len(EVERY) * len(FAULTS) * len(stretches)
    for one, other in zip(together, alone, strict=True):
        assert one[:3] == other[:3]
        for key, values in one[3].items():
            np.testing.assert_array_equal(values, other[3][key], err_msg=f"{one[:3]} {key}")


def test_mean_and_worst_are_those_of_the_hours() -> None:
    """Each hour counts by itself and alike; the worst is the highest, recovery the longest."""
    (fault,) = faults_named(["stuck_start_up"])
    stretches = steep_stretches(DEMAND, MODEL)
    assert len(stretches) > 1
    shares = []
    for stretch in stretches:
        last = watched_until(stretch, DEMAND)
        (result,) = hit_by("stuck_start_up", OURS["two"], DEMAND, MODEL, stretch, last).results()
        rows = slice(stretch.first, last)
        shares.append(combined_violation(result, ("prefill", "decode"))[rows].mean())
    calm, hit = replay_faults({"two": OURS["two"]}, DEMAND, MODEL, (fault,))
    assert (calm.places, hit.places) == (len(stretches), len(stretches))
    assert hit.slo_violation_ratio == pytest.approx(np.mean(shares))
    assert hit.worst_violation_ratio == pytest.approx(np.max(shares))
    assert hit.worst_violation_ratio > hit.slo_violation_ratio > (calm.slo_violation_ratio or 0.0)


def test_counts_taken_over_are_gone_before_a_fault() -> None:
    """Recorded counts far above the need do not shield a policy: the first two hours are not struck."""
    part = replace(DEMAND, recorded=DEMAND.recorded | {
        ("instances", role): np.full(DEMAND.rows, 30.0) for role in MODEL.pools
    })  # fmt: skip
    calm = simulate(OURS["two"], part, MODEL)
    own = simulate(OURS["two"], DEMAND, MODEL)
    stretches = steep_stretches(part, MODEL)
    assert all(stretch.first >= 120 for stretch in stretches)
    first = stretches[0].first
    for role in MODEL.pools:
        assert calm.desired[role][0] == 30 > own.desired[role][first]
        np.testing.assert_array_equal(calm.desired[role][first:], own.desired[role][first:])


def test_only_the_controls_asked_for_are_struck() -> None:
    """Their shares are those of all; the others have none, and the run goes on with every one."""
    every = (*OURS.values(), recorded(MODEL, DEMAND), FIELD["keda"])
    whole = fault_shares(Run(every, DEMAND, MODEL), FAULTS)
    run = Run(every, DEMAND, MODEL)
    some = fault_shares(run, FAULTS, controls=(3, 1))
    np.testing.assert_allclose(some[[1, 3]], whole[[1, 3]], rtol=1e-12)
    assert np.isnan(some[[0, 2]]).all()
    run.advance(DEMAND.rows)
    for found, alone in zip(run.results(), simulate_all(every, DEMAND, MODEL), strict=True):
        for role in MODEL.pools:
            np.testing.assert_array_equal(found.desired[role], alone.desired[role])


@pytest.mark.parametrize("policy", OURS)
@pytest.mark.parametrize("fault", ["metric_gap", "stale_metric"])
def test_no_policy_of_ours_shrinks_when_it_cannot_see(
    table: dict, undisturbed: dict, policy: str, fault: str
) -> None:
    """A gap holds the counts; a frozen metric never takes more than the load itself would have taken."""
    calm = undisturbed[policy]
    fewest: dict[str, float] = dict.fromkeys(MODEL.pools, math.inf)
    for stretch in steep_stretches(DEMAND, MODEL):
        run = hit_by(fault, OURS[policy], DEMAND, MODEL, stretch, stretch.last)
        inside = slice(stretch.first, stretch.last)
        for role, counts in run.log.desired.items():
            before, held = counts[stretch.first - 1, 0], counts[inside, 0].min()
            assert held >= (before if fault == "metric_gap" else min(before, calm[role][inside].min()))
            fewest[role] = min(fewest[role], held)
    assert table[(policy, fault)].lowest == fewest


def test_keda_with_defaults_falls_to_its_minimum_in_a_gap(table: dict) -> None:
    """The trap that a ScaledObject without ignoreNullValues=false sets; ours violates less."""
    assert table[("keda", "metric_gap")].lowest["decode"] == POLICIES["one"].bounds["decode"].min
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


def lanes_of(*counts: float) -> PoolLanes:
    """Return decode pools, one a count, in rows of four steps of 15 s; a start takes 240 s."""
    return PoolLanes(MODEL.pools["decode"], np.array(counts), 60.0, 4)


def pass_rows(pool: PoolLanes, rows: int) -> None:
    """Let whole rows pass."""
    for _ in range(rows):
        for step in range(4):
            pool.become_ready(step)
        pool.begin_row()


def test_stock_holds_what_waits_and_releases_it() -> None:
    """Without stock an increase waits and is not paid for; with it, it starts. The next lane has stock."""
    pool = lanes_of(4.0, 4.0)
    pool.stock = np.array([5.0, math.inf])
    pool.ask(np.array([8.0, 8.0]))
    assert (pool.pending.tolist(), pool.starting.sum(axis=0).tolist()) == ([3, 0], [1, 4])
    pass_rows(pool, 1)
    pool.ask(np.array([7.0, 7.0]))
    assert (pool.pending.tolist(), pool.starting.sum(axis=0).tolist()) == ([2, 0], [1, 3])
    pass_rows(pool, 1)
    pool.stock = np.full(2, math.inf)
    pool.launch()
    assert (pool.pending.tolist(), pool.starting[0].tolist()) == ([0, 0], [2, 0])
    pass_rows(pool, 3)
    assert pool.ready.tolist() == [5, 7]
    pass_rows(pool, 2)
    assert pool.ready.tolist() == pool.desired.tolist() == [7, 7]


def test_what_finds_no_stock_is_not_paid_for() -> None:
    """Ten are asked for, three run and none can be added: three are paid for until there is stock again."""
    frame = service({"decode": np.full(200, 3_000.0)}, {"decode": 3})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    counts = np.where(np.arange(part.rows) <= stretch.first, 3.0, 10.0)
    result = result_of("no_stock", Schedule({"decode": counts}, running=False), part, model, stretch)
    assert result.paid["decode"][stretch.first + 5] == 3.0
    assert result.paid["decode"][stretch.last + 5] == 10.0


def test_lost_instances_come_back_after_a_start_up() -> None:
    """They are started anew, within the stock; a lane that lost none goes on."""
    pool = lanes_of(4.0, 4.0)
    pool.lose(np.array([1.0, 0.0]))
    assert (pool.ready.tolist(), pool.desired.tolist()) == ([3, 4], [4, 4])
    pass_rows(pool, 4)
    assert pool.ready.tolist() == [3, 4]
    pool.become_ready(0)
    assert pool.ready.tolist() == [4, 4]


def test_the_latest_that_starts_is_removed_first() -> None:
    """Then what started before it, then what is ready; what waits for stock goes before all."""
    pool = lanes_of(4.0)
    pool.ask(np.array([6.0]))
    pass_rows(pool, 1)
    pool.stock = np.array([7.0])
    pool.ask(np.array([9.0]))
    assert (pool.pending[0], pool.starting[0, 0], pool.starting[1, 0]) == (2, 1, 2)
    for count, left in ((8.0, (1, 1, 2, 4)), (6.0, (0, 0, 2, 4)), (5.0, (0, 0, 1, 4)), (3.0, (0, 0, 0, 3))):
        pool.ask(np.array([count]))
        assert (pool.pending[0], pool.starting[0, 0], pool.starting[1, 0], pool.ready[0]) == left


def test_stuck_instances_start_when_the_fault_ends() -> None:
    """What is asked for in the hour becomes ready a start-up time after it."""
    load = np.concatenate([np.full(100, 3_000.0), np.linspace(3_000.0, 12_000.0, 60), np.full(200, 12_000.0)])
    frame = service({"decode": load}, {"decode": 3})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    counts = np.where(np.arange(part.rows) < stretch.first + 5, 3.0, 10.0)
    result = result_of("stuck_start_up", Schedule({"decode": counts}, running=False), part, model, stretch)
    assert result.ready["decode"][stretch.last + 3] == 3.0
    assert result.ready["decode"][stretch.last + 4] == 10.0


def test_skewed_readings_are_ten_minutes_old() -> None:
    """A policy that reads them decides as it would have ten minutes before."""
    load = day(600, 6_000.0, noise=0.0)
    frame = service({"decode": load}, {"decode": 6})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    stretch = steep_stretches(part, model)[0]
    model = replace(model, pools={"decode": replace(model.pools["decode"], max_throughput=math.inf)})
    policy = plain_policy(
        primaries=(primary("decode_tps", "decode", 1_000.0),), pd_ratio=None, controller="heteroscale",
        bounds={"decode": Bounds(1, 50)},
    )  # fmt: skip
    run = hit_by("clock_skew", control_of(policy), part, model, stretch, stretch.last)
    (lot,) = run.lots
    seen = lot.slots.seen().values["slot0", "decode"][:, 0]
    np.testing.assert_allclose(seen, load[stretch.last - 10 - seen.size : stretch.last - 10])
    before = hit_by("clock_skew", control_of(policy), part, model, stretch, stretch.first)
    seen = before.lots[0].slots.seen().values["slot0", "decode"][:, 0]
    np.testing.assert_allclose(seen, load[stretch.first - seen.size : stretch.first])


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

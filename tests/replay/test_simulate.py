"""Laws of the replay: steady stays steady, no look-ahead, gaps hold, captures apart, signals that answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import (
    P_CAPACITY,
    SETTINGS,
    built,
    day,
    derived,
    pd_day,
    plain_policy,
    primary,
    service,
)
from replay.services import replayed as by_rule

from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.controllers.heteroscale import ObservedMix, PoolRule, PoolWork, RatioUpkeep
from hs_analysis.controllers.hpa import Hpa, Metric, Operand
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.controllers.kthena import Kthena
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Bounds, Cooldown, Hysteresis, SoftScaleIn
from hs_analysis.policy.waiting import with_waiting
from hs_analysis.replay.demand import answering_load, demands, fill, trailing_mean_of_known
from hs_analysis.replay.fleet import PoolLanes, fit_fleet
from hs_analysis.replay.readings import Passed, Readings, SameState
from hs_analysis.replay.simulate import Run, Schedule, simulate, timeline
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.select import Knobs, with_knobs

DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def replayed(frame: ServiceFrame, primaries=DECODE, history: ServiceFrame | None = None, **changes):
    """Simulate a built policy on the first capture of a frame."""
    policy = replace(built(history or frame, primaries), **changes)
    return by_rule(policy, demands(frame)[0], fit_fleet(history or frame, derived(), SETTINGS))


@pytest.mark.parametrize("primaries", [DECODE, PAIR])
def test_constant_load_ends_in_constant_counts(primaries) -> None:
    """After the way there, nothing moves."""
    frame = service(
        {"prefill": np.full(600, 20_000.0), "decode": np.full(600, 2_700.0)}, {"prefill": 11, "decode": 4}
    )
    result = replayed(frame, primaries)
    for counts in result.desired.values():
        assert np.unique(counts[-300:]).size == 1
    assert result.desired["decode"][-1] == 3


def test_a_calm_row_passes_in_one_step_as_it_does_in_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in which nothing waits or starts give the same numbers as when they are stepped."""
    frame, calm = pd_day(), []
    is_calm = PoolLanes.is_calm
    monkeypatch.setattr(PoolLanes, "is_calm", lambda *row: calm.append(is_calm(*row)) or calm[-1])
    quick = replayed(frame, PAIR)
    assert 0 < sum(calm) < len(calm)
    monkeypatch.setattr(PoolLanes, "is_calm", lambda *_: False)
    stepped = replayed(frame, PAIR)
    assert quick.reasons() == stepped.reasons()
    for name in ("desired", "ready", "paid", "arrived", "served", "queued", "violation"):
        for role, values in getattr(quick, name).items():
            other = getattr(stepped, name)[role]
            np.testing.assert_allclose(values, other, rtol=1e-12, err_msg=f"{name} {role}")


def test_counts_keep_their_bounds() -> None:
    """A day far beyond the bounds stays inside them."""
    frame = pd_day()
    tight = {"prefill": Bounds(9, 12), "decode": Bounds(3, 5)}
    result = replayed(frame, PAIR, bounds=tight)
    for role, bounds in tight.items():
        assert result.desired[role].min() >= bounds.min
        assert result.desired[role].max() <= bounds.max


@pytest.mark.parametrize("primaries", [DECODE, PAIR, (("gpu_util", "prefill"),)])
def test_cutting_the_future_leaves_earlier_rows_unchanged(primaries) -> None:
    """No look-ahead: the first 700 rows are the same with and without what follows."""
    prefill = day(1440, 18_000.0)
    frame = pd_day(
        gpu_util__prefill=0.02 + 0.8 * prefill / 11 / 4000,
        tbt__decode=0.02 + 0.03 * day(1440, 0.5),
        ttft__service=0.3 + 2.0 * day(1440, 0.5, noise=0.2),
    )
    policy = replace(
        built(pd_day(), DECODE),
        primaries=tuple(
            primary(
                s,
                r,
                {"gpu_util": 0.6}.get(s, 2500.0 if r == "prefill" else 1200.0),
                "mean" if s == "gpu_util" else "sum",
            )
            for s, r in primaries
        ),
        hysteresis={r: Hysteresis(1.05, 0.75) for r in ("prefill", "decode")},
        cooldown={r: Cooldown(300.0, 600.0) for r in ("prefill", "decode")},
    )
    model = fit_fleet(frame, derived(), SETTINGS)
    whole = by_rule(policy, demands(frame)[0], model)
    head = by_rule(policy, demands(frame.rows(np.arange(1440) < 700))[0], model)
    assert len(np.unique(whole.desired["decode"][:700])) > 1
    for name in ("desired", "ready", "paid", "served", "queued"):
        for role in ("prefill", "decode"):
            np.testing.assert_array_equal(getattr(head, name)[role], getattr(whole, name)[role][:700])
    assert head.reasons() == whole.reasons()[:700]


def test_decisions_see_completed_rows_only() -> None:
    """A step of load at row 50 is first answered at row 51, with the newest row alone."""
    load = np.where(np.arange(100) < 50, 200.0, 2000.0)
    frame = service({"decode": load}, {"decode": 4}, window_s=60.0)
    policy = plain_policy(
        pd_ratio=None, bounds={"decode": Bounds(1, 100)}, primaries=(primary("decode_tps", "decode", 50.0),)
    )
    model = fit_fleet(frame, derived(), SETTINGS)
    result = by_rule(policy, demands(frame)[0], model)
    assert (result.desired["decode"][:51] == 4).all()
    assert result.desired["decode"][51] == 2000 / 50


def test_instances_start_late_and_leave_at_once() -> None:
    """A scale-out serves 240 s later; a scale-in at once."""
    load = np.concatenate([np.full(30, 200.0), np.full(30, 800.0), np.full(40, 200.0)])
    frame = service({"decode": load}, {"decode": 4})
    policy = plain_policy(pd_ratio=None, primaries=(primary("decode_tps", "decode", 50.0),))
    result = by_rule(policy, demands(frame)[0], fit_fleet(frame, derived(), SETTINGS))
    up = int(np.flatnonzero(np.diff(result.desired["decode"]) > 0)[0]) + 1
    assert result.ready["decode"][up + 3] == 4
    assert result.ready["decode"][up + 4] == result.desired["decode"][up]
    down = int(np.flatnonzero(np.diff(result.desired["decode"]) < 0)[-1]) + 1
    assert result.ready["decode"][down] == result.desired["decode"][down]


def test_instances_under_observation_are_paid_for() -> None:
    """Soft scale-in keeps instances for its time."""
    frame = service({"decode": np.full(40, 100.0)}, {"decode": 4}, tbt__decode=np.linspace(0.01, 0.02, 40))
    policy = plain_policy(
        pd_ratio=None,
        primaries=(primary("decode_tps", "decode", 50.0),),
        soft_scale_in=SoftScaleIn(120.0, "tbt > 0.05 s"),
    )
    result = by_rule(policy, demands(frame)[0], fit_fleet(frame, derived(), SETTINGS))
    at = int(np.flatnonzero(np.diff(result.desired["decode"]) < 0)[0]) + 1
    extra = result.paid["decode"] - result.desired["decode"]
    assert extra[at : at + 3].tolist() == [2.0, 2.0, 0.0]


def test_gap_holds_state_and_is_not_scored() -> None:
    """Without demand nothing moves, and the first row after the gap still can't see."""
    frame = pd_day(300)
    gappy = frame.table.with_columns(
        [
            frame.table[name].set(
                frame.table["t"].is_between(frame.table["t"][100], frame.table["t"][129]), None
            )
            for name in frame.table.columns
            if "@" in name
        ]
    )
    result = replayed(replace(frame, table=gappy), PAIR)
    assert not result.scored[100:130].any()
    assert result.scored.sum() == 270
    for role in ("prefill", "decode"):
        assert np.unique(result.desired[role][99:131]).size == 1
        assert np.unique(result.queued[role][99:130]).size == 1
    assert "missing: hold" in result.reasons()[130]
    assert set(result.reasons()[100:130]) == {""}


def test_missing_metric_never_scales_in_while_demand_is_known() -> None:
    """A metric that stops being exported holds the pool at night's load."""
    frame = pd_day(600)
    blind = frame.table.with_columns(
        frame.table["decode_tps@decode"].set(frame.table["t"] >= frame.table["t"][50], None)
    )
    result = replayed(replace(frame, table=blind), DECODE, history=frame)
    for role in ("prefill", "decode"):
        assert (np.diff(result.desired[role][51:]) >= 0).all()
    assert result.scored.all()


def test_units_of_work_change_nothing() -> None:
    """Counting in thousands of tokens, in signal, capacity and target alike, gives the same counts."""
    frame = pd_day(700)
    policy = built(frame, PAIR)
    model = fit_fleet(frame, derived(), SETTINGS)
    scaled = service(
        {r: frame.values("offered_tps", r) / 1000 for r in ("prefill", "decode")},
        {"prefill": 11, "decode": 4},
    )
    small = replace(
        policy,
        primaries=tuple(
            replace(
                p,
                target_per_instance=replace(p.target_per_instance, value=p.target_per_instance.value / 1000),
            )
            for p in policy.primaries
        ),
    )
    pools = {
        r: replace(
            p, capacity=p.capacity / 1000, max_throughput=p.max_throughput / 1000, target=p.target / 1000
        )
        for r, p in model.pools.items()
    }
    one = by_rule(policy, demands(frame)[0], model)
    other = by_rule(small, demands(scaled)[0], replace(fit_fleet(scaled, derived(), SETTINGS), pools=pools))
    for role in ("prefill", "decode"):
        np.testing.assert_array_equal(one.desired[role], other.desired[role])
        np.testing.assert_allclose(one.violation[role], other.violation[role], rtol=1e-6)


def test_captures_are_apart() -> None:
    """Each capture starts from its own recorded counts with an empty queue."""
    load = np.concatenate([np.full(60, 9_000.0), np.full(60, 1_000.0)])
    frame = service({"decode": load}, {"decode": np.repeat([2.0, 7.0], 60)}, captures=["a"] * 60 + ["b"] * 60)
    parts = demands(frame)
    assert [p.capture for p in parts] == ["a", "b"]
    model = fit_fleet(service({"decode": np.full(60, 3_000.0)}, {"decode": 2}), derived(), SETTINGS)
    policy = plain_policy(pd_ratio=None, primaries=(primary("decode_tps", "decode", 9_000.0),))
    first, second = (by_rule(policy, part, model) for part in parts)
    assert first.queued["decode"][-1] > 0
    assert second.desired["decode"][0] == 7
    assert second.queued["decode"].max() == 0


def test_served_signals_stall_where_the_pool_saturates() -> None:
    """A policy that follows a served rate can't see more than the ceiling of what is ready."""
    load = np.concatenate([np.full(30, 3_000.0), np.full(60, 30_000.0)])
    frame = service({"decode": load}, {"decode": 2})
    model = fit_fleet(service({"decode": np.full(60, 3_000.0)}, {"decode": 2}), derived(), SETTINGS)
    policy = plain_policy(pd_ratio=None, primaries=(primary("decode_tps", "decode", 1250.0),))
    result = by_rule(policy, demands(frame)[0], model)
    ceiling = model.pools["decode"].max_throughput
    assert result.desired["decode"][32] == np.ceil(result.ready["decode"][30] * ceiling / 1250.0)


def test_utilisation_answers_to_load_per_instance() -> None:
    """A mean signal read at other counts follows the curve of history, and gives the count a total would."""
    load = day(1440, 18_000.0, noise=0.0)
    frame = service({"prefill": load}, {"prefill": 11}, gpu_util__prefill=load / 11 / 5000)
    model = fit_fleet(frame, derived(), SETTINGS)
    assert model.signals[("gpu_util", "prefill")].at(2000.0) == pytest.approx(0.4, rel=0.01)
    base = plain_policy(pd_ratio=None, bounds={"prefill": Bounds(1, 40)})
    total = replace(base, primaries=(primary("prefill_tps_effective", "prefill", 2000.0),))
    mean = replace(base, primaries=(primary("gpu_util", "prefill", 0.4, "mean"),))
    demand = demands(frame)[0]
    counts = [by_rule(p, demand, model).desired["prefill"] for p in (total, mean)]
    assert np.abs(counts[0] - counts[1]).mean() < 0.3


def test_raw_prefill_rate_keeps_its_recorded_share_of_cached_tokens() -> None:
    """The raw rate is the served work times the recorded raw ÷ missed ratio."""
    load = np.full(120, 8_000.0)
    frame = service({"prefill": load}, {"prefill": 4}, prefill_tps__prefill=1.5 * load)
    policy = plain_policy(pd_ratio=None, primaries=(primary("prefill_tps", "prefill", 3_000.0),))
    result = by_rule(policy, demands(frame)[0], fit_fleet(frame, derived(), SETTINGS))
    assert result.desired["prefill"][-1] == 4


def test_request_rate_drives_the_pool_it_is_counted_per() -> None:
    """A service signal sizes the decode pool from the recorded rate."""
    frame = service(
        {"decode": np.full(120, 4_000.0)}, {"decode": 4}, request_rate__service=np.full(120, 18.0)
    )
    policy = plain_policy(pd_ratio=None, primaries=(primary("request_rate", "decode", 3.0),))
    assert (
        by_rule(policy, demands(frame)[0], fit_fleet(frame, derived(), SETTINGS)).desired["decode"][-1] == 6
    )


def test_guards_read_the_curve_and_the_queue() -> None:
    """A queue lifts the latency a guard sees, and the guard then grows its pool."""
    rows = 120
    load = np.where(np.arange(rows) < 60, 6_000.0, 60_000.0)
    frame = service({"prefill": load}, {"prefill": 5}, ttft__service=np.full(rows, 0.5))
    history = service({"prefill": day(300, 9_000.0)}, {"prefill": 4}, ttft__service=np.full(300, 0.5))
    policy = replace(
        built(history, (("prefill_tps_effective", "prefill"),)),
        primaries=(primary("prefill_tps_effective", "prefill", 1e9),),
        bounds={"prefill": Bounds(4, 40)},
        pd_ratio=None,
    )
    result = by_rule(policy, demands(frame)[0], fit_fleet(history, derived(), SETTINGS))
    assert result.desired["prefill"][59] == 4
    assert result.desired["prefill"][-1] > 4
    assert any("a guard is over its limit: out" in reason for reason in result.reasons())


def test_recorded_schedule_reproduces_the_counts() -> None:
    """Counts that ran are ready as recorded, changes included."""
    counts = np.repeat([4.0, 6.0, 3.0], 20)
    frame = service({"decode": np.full(60, 2_000.0)}, {"decode": counts})
    result = simulate(Schedule({"decode": counts}), demands(frame)[0], fit_fleet(frame, derived(), SETTINGS))
    np.testing.assert_array_equal(result.ready["decode"], counts)
    assert [result.directions()[row] for row in (0, 20, 40)] == ["", "out", "in"]


def test_timeline_keeps_its_contract() -> None:
    """One row a step; a single pool stands in the decode columns; no SLO, no violations."""
    frame = service({"mixed": np.full(30, 2_000.0)}, {"mixed": 4})
    result = simulate(
        Schedule({"mixed": np.full(30, 4.0)}), demands(frame)[0], fit_fleet(frame, derived(), SETTINGS)
    )
    table = timeline("demo/m", "recorded", result, ())
    assert table.height == 30
    assert table["ready_decode"].to_list() == [4.0] * 30
    assert table["ready_prefill"].null_count() == 30
    assert table["violation_probability"].null_count() == 30


def test_trailing_mean_against_a_loop() -> None:
    """Mean of the last rows that have a value, nothing where the row has none."""
    values = np.array([np.nan, 1.0, 2.0, np.nan, 6.0, 7.0])
    expected = []
    for i, value in enumerate(values):
        window = values[max(0, i - 2) : i + 1]
        expected.append(np.nan if np.isnan(value) else window[~np.isnan(window)].mean())
    np.testing.assert_allclose(trailing_mean_of_known(values, 3), expected)
    np.testing.assert_array_equal(fill(values), [1.0, 1.0, 2.0, 2.0, 6.0, 7.0])
    assert np.isnan(fill(np.full(3, np.nan))).all()


def test_pool_totals_that_answer_to_load_are_read_per_instance() -> None:
    """Requests running: twice the instances at the same work hold the same total only if each holds half."""
    load = day(600, 6_000.0, noise=0.0)
    frame = service({"decode": load}, {"decode": 6}, running__decode=load / 50.0)
    infos = tuple(
        replace(info, family="memory", pool="sum") if info.signal == "running" else info
        for info in frame.signals
    )
    model = fit_fleet(replace(frame, signals=infos), derived(), SETTINGS)
    curve = model.signals[("running", "decode")]
    assert curve.per_instance
    assert curve.at(1000.0) == pytest.approx(20.0, rel=0.05)
    policy = plain_policy(pd_ratio=None, primaries=(primary("running", "decode", 20.0),))
    result = by_rule(policy, demands(frame)[0], model)
    work = by_rule(
        replace(policy, primaries=(primary("decode_tps", "decode", 1000.0),)), demands(frame)[0], model
    )
    assert np.abs(result.desired["decode"] - work.desired["decode"]).mean() < 0.3


def test_a_simulated_backlog_is_requests_in_the_queue() -> None:
    """A queue signal reads its curve plus the backlog ÷ tokens per request."""
    rows = 200
    load = np.concatenate([np.full(100, 2_000.0), np.full(100, 20_000.0)])
    frame = service(
        {"decode": load}, {"decode": 2}, queue_length__decode=np.ones(rows), request_rate__service=load / 500
    )
    infos = tuple(
        replace(info, family="queue", pool="sum") if info.signal == "queue_length" else info
        for info in frame.signals
    )
    frame = replace(frame, signals=infos)
    model = fit_fleet(frame.rows(np.arange(rows) < 100), derived(), SETTINGS)
    assert model.signals[("queue_length", "decode")].tokens_per_request == pytest.approx(500.0)
    (demand,) = demands(frame)
    key, one = ("queue_length", "decode"), np.ones(1)
    seen = Passed(
        {"decode": 60 * 2_000.0 * one}, {"decode": 5_000.0 * one}, {"decode": 3.0 * one}, {"decode": one},
        one, np.zeros(1, bool),
    )  # fmt: skip
    state = SameState(demand, 1)
    state.see(0, seen)
    found = Readings([key], 1, demand, model, 1).read(0, seen, state)
    assert found[0, 0] == pytest.approx(1.5 + 10.0)


@pytest.mark.parametrize("controller", ["hpa", "keda", "heteroscale"])
def test_what_waits_lets_a_pool_grow_beyond_what_counters_can_ask_for(controller: str) -> None:
    """A full pool counts what it serves: a step of growth by counters is at most throughput ÷ target times.

    In a burst of four times the load what waits says how much more; the queue is shorter for it.
    """
    rows, before = 300, 200
    load = np.concatenate([np.full(before, 9_000.0), np.full(rows - before, 36_000.0)])
    throughput = 1.1 * 1.05 * P_CAPACITY
    work = np.minimum(load, 4 * throughput)
    queue = 60.0 * np.cumsum(load - work) / 500.0
    frame = service(
        {"prefill": load, "decode": np.full(rows, 2_700.0)},
        {"prefill": 4, "decode": 4},
        prefill_tps_effective__prefill=work,
        queue_length__prefill=queue,
        backlog_age_s__prefill=queue * 500.0 / work,
        request_rate__service=load / 500.0,
    )
    infos = tuple(
        replace(info, family="queue", pool="sum") if info.signal == "queue_length" else info
        for info in frame.signals
    )
    frame = replace(frame, signals=infos)
    calm = frame.rows(np.arange(rows) < before)
    model = fit_fleet(calm, derived(), SETTINGS)
    assert model.pools["prefill"].max_throughput == pytest.approx(throughput)
    bounds = {role: Bounds(1, 200) for role in ("prefill", "decode")}
    served = replace(built(calm, PAIR), bounds=bounds)
    served = with_knobs(served, Knobs(60.0, 1.05, 300.0, 0.9), controller, "served")
    waits = with_waiting(served, calm, {})
    assert waits.primaries[0].waiting is not None
    assert waits.primaries[0].waiting.tokens_per_request == 500.0
    target = served.primaries[0].target_per_instance.value
    assert target is not None
    beyond, queued = {}, {}
    for name, one in (("served", served), ("waits", waits)):
        result = simulate(control_of(one), demands(frame)[0], model)
        count, ready = result.desired["prefill"], result.ready["prefill"]
        grows = np.flatnonzero(np.diff(count) > 0) + 1
        most = np.ceil(np.maximum(ready[grows], ready[grows - 1]) * throughput / target)
        beyond[name] = int((count[grows] > most).sum())
        queued[name] = float(result.queued["prefill"].sum())
        assert 36_000.0 / target <= count[-1] <= 36_000.0 / target / 0.9 + 1
    assert beyond["served"] == 0
    assert beyond["waits"] > 0
    assert queued["waits"] < 0.3 * queued["served"]


def test_a_burst_violates_at_its_onset_and_not_after_its_end() -> None:
    """Load at 0.8 of capacity with three minutes at 1.4: a mean of five minutes is late at both ends."""
    load = np.full(30, 80.0)
    load[10:13] = 140.0
    answered = answering_load(load, 60.0)
    np.testing.assert_allclose(answered[10], np.sqrt(140.0 * 92.0))
    assert (answered[10:13] > 100.0).all()
    assert (np.delete(answered, [10, 11, 12]) < 100.0).all()
    assert (trailing_mean_of_known(load, 5) > 100.0).tolist().index(True) == 11
    np.testing.assert_array_equal(answering_load(np.array([np.inf, 50.0]), 60.0), [np.inf, 50.0])
    np.testing.assert_array_equal(answering_load(np.array([1.0, np.nan]), 300.0), [1.0, np.nan])


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
def test_a_pool_that_is_not_there_is_left_out(controller: str) -> None:
    """A policy that sizes prefill by the ratio runs a service of which only decode is known."""
    frame = service({"decode": day(200, 3_000.0)}, {"decode": 3})
    policy = replace(built(pd_day(200), DECODE), controller=controller)
    assert policy.sized_roles == ("prefill", "decode")
    result = simulate(control_of(policy), demands(frame)[0], fit_fleet(frame, derived(), SETTINGS))
    assert list(result.desired) == ["decode"]
    assert np.unique(result.desired["decode"]).size > 1


def test_objects_that_add_a_reading_share_a_batch_and_decide_as_they_do_alone() -> None:
    """With and without a second reading, in gaps of it too, and with any fallback: one batch a kind."""
    gap = np.where(np.arange(300) % 40 < 5, np.nan, day(300, 9_000.0))
    frame = service(
        {"prefill": day(300, 9_000.0), "decode": day(300, 2_000.0)}, {"prefill": 6, "decode": 4},
        cached_tps__prefill=gap, cached_tps__decode=gap / 4,
    )  # fmt: skip
    model, demand = fit_fleet(frame, derived(), SETTINGS), demands(frame)[0]
    signals = {"prefill": "prefill_tps_effective", "decode": "decode_tps"}

    def scaler(role: str, *others: Operand) -> Hpa:
        target = 2_000.0 if role == "prefill" else 800.0
        return Hpa((Metric(signals[role], target, others=others),), 1, 40)

    added = Operand("cached_tps", 120.0, 0.5)
    scalers = [{role: scaler(role, *one) for role in signals} for one in ((added,), (), (added,))]
    falls = (Fallback(3, 5), Fallback(2, 9, "currentReplicasIfHigher"), None)
    kedas = [
        {role: Keda(one, 1, 40, fallback=fall, ignore_null_values=False) for role, one in pair.items()}
        for pair, fall in zip(scalers, falls, strict=True)
    ]
    kthenas = [{role: Kthena(one.metrics, 1, 40) for role, one in pair.items()} for pair in scalers]
    kthenas[1] = {
        r: replace(one, up=replace(one.up, policies=one.up.policies[::-1])) for r, one in kthenas[1].items()
    }
    controls = [Autoscaler("any", pair) for pair in (*scalers, *kedas, *kthenas)]
    run = Run(controls, demand, model)
    assert [lot.where.stop - lot.where.start for lot in run.lots] == [3, 3, 3]
    run.advance(demand.rows)
    for control, beside in zip(controls, run.results(), strict=True):
        alone = simulate(control, demand, model)
        for role in signals:
            assert np.array_equal(alone.desired[role], beside.desired[role])
            assert np.array_equal(alone.code[role], beside.code[role])
    counts = [one.desired["prefill"] for one in run.results()]
    assert not np.array_equal(counts[0], counts[1])
    assert len({tuple(one) for one in counts[3:6]}) == 3


def test_ratios_share_a_batch_and_move_as_they_do_alone() -> None:
    """A ratio that follows the mix stands beside one that does not."""
    load = day(300, 2_000.0)
    works = {"prefill": 4.0 * np.roll(load, 60), "decode": load}
    frame = service(works, {"prefill": 6, "decode": 4})
    model, demand = fit_fleet(frame, derived(), SETTINGS), demands(frame)[0]
    mix = ObservedMix(
        PoolWork("prefill_tps_effective", "prefill"), PoolWork("decode_tps", "decode"), 0.5, 300.0
    )
    pools = {"prefill": PoolRule("", np.nan), "decode": PoolRule("decode_tps", 500.0)}
    ups = [RatioUpkeep("decode", 2.0, observed=one) for one in (None, mix, replace(mix, factor=0.6))]
    controls = [HeteroScale(pools, one) for one in ups]
    run = Run(controls, demand, model)
    assert [lot.where.stop - lot.where.start for lot in run.lots] == [3]
    run.advance(demand.rows)
    counts = [one.desired["prefill"] for one in run.results()]
    for control, beside in zip(controls, counts, strict=True):
        assert np.array_equal(simulate(control, demand, model).desired["prefill"], beside)
    assert len({tuple(one) for one in counts}) == 3

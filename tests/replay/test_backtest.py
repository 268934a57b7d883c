"""The backtest of a service: rows, baselines, honesty about what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from replay.services import SETTINGS, built, derived, pd_day, service

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import Hpa, Metric
from hs_analysis.controllers.keda import Keda
from hs_analysis.errors import UsageError
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import PeriodicEntry
from hs_analysis.replay.backtest import replay_service, replay_service_faults, score_policies
from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.calibrate import counts_apart
from hs_analysis.replay.demand import demands, taking_over
from hs_analysis.replay.faults import FAULTS, PLACES_TO_SELECT, fault_shares, faults_named
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import Run, Schedule
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import TIMELINE, check
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Slo

DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def halves(frame: ServiceFrame) -> tuple[ServiceFrame, ServiceFrame]:
    """Return the first 60 % of the rows, and the rest."""
    first = np.arange(frame.table.height) < 0.6 * frame.table.height
    return frame.rows(first), frame.rows(~first)


@cache
def usual():
    """Return `outcome` of a day as it is."""
    return outcome()


def outcome(frame: ServiceFrame | None = None, numbers=None, settings=SETTINGS):
    """Replay the built decode-led and paired policies on the last 40 % of a day."""
    train, test = halves(frame or pd_day())
    policies = {
        "one": control_of(built(train, DECODE, numbers)),
        "two": control_of(built(train, PAIR, numbers)),
    }
    return replay_service(test, train, numbers or derived(), policies, settings), test


def by_name(result) -> dict:
    """Return the rows by policy."""
    return {row.policy: row for row in result.policies}


def test_rows_windows_and_evidence() -> None:
    """Policies in their order, then the baselines; times are ISO UTC; every row links to its chart."""
    found, _ = usual()
    assert [row.policy for row in found.result.policies] == [
        "one",
        "two",
        "static_peak",
        "recorded",
        "oracle",
        "hindsight",
        "hpa",
        "keda",
        "aibrix_apa",
        "aibrix_kpa",
        "dynamo_throughput",
        "kthena",
    ]
    assert found.result.train == ("2026-01-01T00:00:00Z", "2026-01-01T14:24:00Z")
    assert found.result.test == ("2026-01-01T14:24:00Z", "2026-01-02T00:00:00Z")
    assert by_name(found.result)["one"].evidence == "demo%2Fm/replay/one"
    check(found.timeline, TIMELINE)
    assert found.timeline.height == 12 * 576


def test_recorded_hours_reconcile_with_the_counts() -> None:
    """Recorded instance-hours are the instances column times the window."""
    found, test = usual()
    expected = sum(float(np.nansum(test.values("instances", r))) for r in ("prefill", "decode")) / 60
    assert by_name(found.result)["recorded"].instance_hours == pytest.approx(expected)
    hours = found.result.calibration["recorded_instance_hours_all_rows"]
    assert sum(hours.values()) == pytest.approx(expected)


def test_savings_are_against_the_baselines_and_hindsight_serves_all() -> None:
    """1 − hours ÷ baseline hours; who knows the future needs less than static peak and holds the SLO."""
    found, _ = usual()
    rows = by_name(found.result)
    for row in rows.values():
        assert row.vs_recorded == pytest.approx(1 - row.instance_hours / rows["recorded"].instance_hours)
        assert row.vs_static_peak == pytest.approx(
            1 - row.instance_hours / rows["static_peak"].instance_hours
        )
        assert row.vs_hindsight == pytest.approx(1 - row.instance_hours / rows["hindsight"].instance_hours)
        assert row.vs_current is None
        assert row.slo_violation_s == pytest.approx(row.slo_violation_ratio * 576 * 60)
        assert row.slo_violation_tokens is not None
    assert rows["hindsight"].vs_hindsight == 0
    assert rows["static_peak"].actions_per_day == 0
    assert rows["oracle"].instance_hours < rows["static_peak"].instance_hours
    assert rows["oracle"].slo_violation_ratio < 0.002
    assert rows["two"].slo_violation_ratio < 0.01


def test_oracle_asks_one_start_up_ahead() -> None:
    """A load that doubles at row 40 of the test window is asked for at row 36 and served when it comes."""
    load = np.where(np.arange(200) < 160, 2_000.0, 12_000.0)
    train, test = halves(service({"decode": load}, {"decode": 2}))
    rows = replay_service(test, train, derived(), {}, SETTINGS).timeline.filter(pl.col("policy") == "oracle")
    asked, ready = rows["desired_decode"].to_numpy(), rows["ready_decode"].to_numpy()
    assert asked[34:41].tolist() == [2.0, 2.0, 4.0, 5.0, 7.0, 8.0, 10.0]
    assert ready[38:46].tolist() == [2.0, 2.0, 4.0, 5.0, 7.0, 8.0, 10.0, 10.0]


def test_a_timetable_has_each_hour_what_it_needed_when_it_begins() -> None:
    """Three equal days, 10,000 tokens/s from 8 to 16, else 2,000, at a target of 1,400: 8 and 2 instances."""
    hour = np.arange(3 * 720) / 30 % 24
    load = np.where((hour >= 8) & (hour < 16), 10_000.0, 2_000.0)
    train, test = halves(service({"decode": load}, {"decode": 9}, window_s=120.0))
    found = replay_service(test, train, derived(), {}, SETTINGS)
    entries = found.result.calibration["timetable"]
    assert [(e["from"], e["to"], e["decode"]) for e in entries] == [
        ("00:00", "07:56", 2), ("07:56", "16:00", 8), ("16:00", "00:00", 2)
    ]  # fmt: skip
    rows = found.timeline.filter(pl.col("policy") == "timetable")
    at = rows["t"].dt.hour().to_numpy() + rows["t"].dt.minute().to_numpy() / 60
    asked, ready = rows["desired_decode"].to_numpy(), rows["ready_decode"].to_numpy()
    assert set(asked[(at >= 8) & (at < 16)]) == set(ready[(at >= 8) & (at < 16)]) == {8.0}
    assert set(asked[(at < 7.9) | (at >= 16)]) == {2.0}
    assert by_name(found.result)["timetable"].slo_violation_ratio < 0.001


def test_a_timetable_decides_what_its_entries_in_a_policy_do() -> None:
    """The same counts at every row from a policy of mode periodic."""
    hour = np.arange(3 * 288) / 12 % 24
    train, test = halves(service({"decode": 2_000.0 + 300.0 * hour}, {"decode": 9}, window_s=300.0))
    found = replay_service(test, train, derived(), {}, SETTINGS)
    entries = tuple(
        PeriodicEntry(e["from"], e["to"], tuple(e["days"]), e["decode"], e["prefill"])
        for e in found.result.calibration["timetable"]
    )
    policy = replace(built(train, DECODE), mode="periodic", periodic=entries)
    rows = replay_service(test, train, derived(), {"mine": control_of(policy)}, SETTINGS).timeline
    counts = [
        rows.filter(pl.col("policy") == name)["desired_decode"].to_list() for name in ("mine", "timetable")
    ]
    assert counts[0][1:] == counts[1][1:]


def test_counts_of_todays_autoscaler_are_set_beside_those_that_ran() -> None:
    """One that ran as recorded is 0 apart; one of 4 where 9 ran is 5 apart, five ninths of them."""
    train, test = halves(service({"decode": np.full(100, 2_000.0)}, {"decode": 9}))
    fixed = Schedule({"decode": np.full(test.table.height, 4.0)})
    timeline = replay_service(test, train, derived(), {"current": fixed}, SETTINGS).timeline
    (same,) = counts_apart(timeline, "recorded", ("decode",))
    assert (same["pool"], same["rows"], same["apart"]) == ("decode", 40, 0.0)
    (one,) = counts_apart(timeline, "current", ("decode",))
    assert (one["recorded"], one["replayed"], one["apart"]) == (9.0, 4.0, 5.0)
    assert one["apart_ratio"] == pytest.approx(5 / 9)
    assert counts_apart(timeline, "nobody", ("decode",)) == []


def test_static_peak_is_the_training_peak_at_the_target_and_at_most_what_a_floor_ran_with() -> None:
    """The highest 5-min load of the training window ÷ target; over a floor no more than what held the SLO."""
    frame = service({"decode": np.full(100, 6_000.0)}, {"decode": 4})
    train, test = halves(frame)
    counts = replay_service(test, train, derived(), {}, SETTINGS).result.calibration["static_peak_counts"]
    assert counts == {"decode": 5}
    counts = replay_service(test, train, derived(status="floor"), {}, SETTINGS).result.calibration[
        "static_peak_counts"
    ]
    assert counts == {"decode": 4}
    bare = replace(derived(), capacity=(), thresholds=())
    counts = replay_service(test, train, bare, {}, SETTINGS).result.calibration["static_peak_counts"]
    assert counts == {"decode": 4}


def test_what_was_left_out_is_counted() -> None:
    """Gaps, and saturated rows whose load is only what was served, are not scored."""
    saturated = np.zeros(500)
    saturated[350:370] = 1.0
    load = np.full(500, 6_000.0)
    load[400:410] = np.nan
    frame = service({"decode": load}, {"decode": 5}, reference="served", saturated__decode=saturated)
    train, test = halves(frame)
    found = replay_service(test, train, derived(), {}, SETTINGS).result
    assert found.calibration["rows"] == {"scored": 170, "gap": 10, "saturated_without_offered_demand": 20}
    assert by_name(found)["recorded"].instance_hours == pytest.approx(170 * 5 / 60)
    known = replay_service(
        replace(test, reference="offered"), replace(train, reference="offered"), derived(), {}, SETTINGS
    ).result
    assert known.calibration["rows"] == {"scored": 190, "gap": 10, "saturated_without_offered_demand": 0}


def test_uncalibrated_latency_is_withheld_and_kept_aside() -> None:
    """Predicted many, seen none: shares are null in the rows, hours stay."""
    rows = 500
    frame = service(
        {"decode": np.full(rows, 9_000.0)},
        {"decode": 5},
        tbt_over__decode=np.zeros(rows),
    )
    train, test = halves(frame)
    found = replay_service(test, train, derived(), {"p": control_of(built(train, DECODE))}, SETTINGS).result
    assert found.calibration["status"] == "not_calibrated"
    for row in found.policies:
        assert row.slo_violation_ratio is None
        assert (row.slo_violation_s, row.slo_violation_tokens) == (None, None)
    assert found.calibration["uncalibrated_shares"]["recorded"] > 0.5
    assert by_name(found)["p"].instance_hours is not None


def test_default_start_up_is_said_to_be_one() -> None:
    """A start-up time nobody gave is a default in the account."""
    found, _ = outcome(settings=replace(SETTINGS, startup_s={"decode": 120.0}))
    assert found.result.calibration["start_up_s"] == {
        "prefill": {"value": 300.0, "provenance": "default"},
        "decode": {"value": 120.0, "provenance": "settings"},
    }


def test_a_policy_may_not_take_a_baselines_name() -> None:
    """Rows must tell apart."""
    train, test = halves(pd_day())
    with pytest.raises(UsageError, match="may not be named 'oracle'"):
        replay_service(test, train, derived(), {"oracle": control_of(built(train, DECODE))}, SETTINGS)


def test_service_without_counts_is_not_replayed() -> None:
    """No pools: no rows, and the reason."""
    frame = pd_day()
    bare = replace(frame, table=frame.table.drop("instances@prefill", "instances@decode"))
    train, test = halves(bare)
    found = replay_service(test, train, derived(), {"p": control_of(built(frame, DECODE))}, SETTINGS)
    assert (found.result.policies, found.timeline.height) == ((), 0)
    assert found.result.calibration["status"] == "not_tested"
    assert score_policies(bare, derived(), {}, SETTINGS) == {}


def test_equal_inputs_give_equal_results() -> None:
    """Nothing random, nothing that depends on order of work."""
    one, other = usual()[0], outcome()[0]
    assert one.result == other.result
    assert one.timeline.equals(other.timeline)


def test_what_runs_today_is_replayed_as_it_is_set_up() -> None:
    """An autoscaler given by the user is a row like a policy, with its own numbers; faults hit it too."""
    train, test = halves(pd_day(480))
    today = Autoscaler(
        "today",
        {
            "prefill": Keda(Hpa((Metric("prefill_tps_effective", 2_000.0),)), 2, 40),
            "decode": Keda(Hpa((Metric("decode_tps", 900.0),)), 2, 20, ignore_null_values=False),
        },
    )
    found = replay_service(test, train, derived(), {"current": today}, SETTINGS).result
    rows = by_name(found)
    assert next(iter(rows)) == "current"
    assert rows["current"].instance_hours > rows["hpa"].instance_hours
    assert rows["current"].vs_current == 0
    assert rows["hpa"].vs_current == pytest.approx(
        1 - rows["hpa"].instance_hours / rows["current"].instance_hours
    )
    assert "runs today" in found.calibration["baselines"]["current"]
    hit = replay_service_faults(
        test, train, derived(), {"current": today}, SETTINGS, faults_named(["metric_gap"])
    )
    assert hit[1].lowest["prefill"] == 2.0
    assert hit[1].lowest["decode"] > 2.0


def test_reasons_name_what_cannot_be_expressed() -> None:
    """A rule whose parameters no metric holds, and a training window without every hour."""
    found, _ = outcome(pd_day(480))
    assert found.result.calibration["not_expressed"] == {
        "dynamo_load": (
            "its prefill thresholds are shares of the engine's context length, which metrics do not hold"
        ),
        "slo_aware": "the P90 of TTFT over 60 s was not evaluated on this history",
        "timetable": "the training window does not hold every hour of a day",
    }
    assert found.result.calibration["least_instance_hours"] > 0


def test_the_deployed_policy_may_stand_in_sample_and_as_the_neutral_rule() -> None:
    """Its rows are named like baselines, which no file of a user may be."""
    train, test = halves(pd_day(480))
    policy = built(train, PAIR)
    policies = {
        "mine": control_of(policy),
        "in_sample": control_of(policy),
        "heteroscale": control_of(replace(policy, controller="heteroscale")),
    }
    rows = by_name(replay_service(test, train, derived(), policies, SETTINGS).result)
    assert list(rows)[:3] == list(policies)
    same = replace(rows["in_sample"], policy="mine", evidence=rows["mine"].evidence)
    assert same == rows["mine"]
    assert rows["heteroscale"].instance_hours != rows["mine"].instance_hours


def test_candidates_are_scored_undisturbed_and_under_every_fault() -> None:
    """Beside what ran, and a default HPA; the shares are those of the table of faults."""
    frame = pd_day(480)
    ours = {"two": control_of(built(frame, PAIR))}
    found = score_policies(frame, derived(), ours, SETTINGS)
    assert list(found) == ["two", "hpa", "recorded"]
    rows = {
        row.policy: row for row in replay_service(frame, frame, derived(), ours, SETTINGS).result.policies
    }
    for name, one in found.items():
        assert one.score.row.instance_hours == pytest.approx(rows[name].instance_hours)
        assert one.score.row.slo_violation_ratio == pytest.approx(rows[name].slo_violation_ratio)
    (part,) = demands(frame)
    model = fit_fleet(frame, derived(), SETTINGS)
    run = Run((ours["two"], recorded(model, part)), part, model)
    shares = fault_shares(run, FAULTS, PLACES_TO_SELECT)
    for name, row in zip(("two", "recorded"), shares.tolist(), strict=True):
        assert [found[name].fault_ratio[fault.name] for fault in FAULTS] == pytest.approx(row)
    assert all(set(one.fault_ratio) == {fault.name for fault in FAULTS} for one in found.values())
    bare = replace(derived(), capacity=(), thresholds=())
    assert score_policies(frame, bare, ours, SETTINGS)["two"].fault_ratio == {}


def test_faults_are_told_as_one_mean_and_bursts_apart() -> None:
    """Of the test window, at the hours of ``--fault``; nothing without a capacity or a limit to break."""
    train, test = halves(pd_day(720))
    ours = {"two": control_of(built(train, PAIR))}
    hit = ours | {"alone": ours["two"]}
    ours["other"] = control_of(built(train, PAIR[:1]))

    def under_faults(window: ServiceFrame, numbers: Derived) -> Mapping[str, Mapping[str, float]]:
        return replay_service(window, train, numbers, ours, SETTINGS, struck=hit).under_faults

    whole = replay_service(test, train, derived(), ours, SETTINGS, struck=hit)
    found = whole.under_faults
    assert list(found) == ["two", "hpa", "alone"]
    assert found["alone"] == found["two"]
    calm = replay_service(test, train, derived(), ours, SETTINGS)
    assert (calm.result, calm.under_faults) == (whole.result, {})
    (part,) = taking_over(demands(test), train)
    run = Run((ours["two"],), part, fit_fleet(train, derived(), SETTINGS))
    (row,) = fault_shares(run, FAULTS).tolist()
    own = dict(zip((fault.name for fault in FAULTS), row, strict=True))
    assert found["two"]["bursts"] == pytest.approx(own.pop("burst"))
    assert len(own) == 9
    assert found["two"]["faults"] == pytest.approx(sum(own.values()) / 9)
    asked = replay_service_faults(test, train, derived(), ours, SETTINGS, FAULTS)
    for name in ("two", "hpa"):
        shares = found[name]
        all_of = {one.fault: one.slo_violation_ratio for one in asked if one.policy == name}
        assert shares["bursts"] == pytest.approx(all_of["burst"], rel=1e-12)
        nine = [share for fault, share in all_of.items() if fault not in ("none", "burst")]
        assert shares["faults"] == pytest.approx(sum(nine) / 9, rel=1e-12)
    bare = replace(derived(), capacity=(), thresholds=())
    assert under_faults(test, bare) == {}
    dark = replace(test, table=test.table.drop("instances@prefill", "instances@decode"))
    assert under_faults(dark, derived()) == {}
    endless = replace(SETTINGS, slo=Slo())
    assert replay_service(test, train, derived(), ours, endless, struck=hit).under_faults == {}

"""The file of every export target, read back: the counts it sets, what it costs, why it is not replayed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from pipeline.test_objects import FRAME, PAIR, QUEUE_QUERY, SERIES, WAITING_FRAME, WAITING_SERIES, policy_for
from pipeline.test_selected_for import POLICY, backtest, said_of
from replay.services import SETTINGS, derived

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.dynamo import DynamoThroughput
from hs_analysis.current.dynamo import NO_LIMIT
from hs_analysis.export import ExportOptions, Measured, aibrix, export, kthena, kubernetes
from hs_analysis.export.llmd import PACE
from hs_analysis.pipeline.objects import (
    NO_GAUGE,
    Deployed,
    cost_of_idle,
    deployed_as,
    known_service,
    measured_of,
    target_replays,
    with_gauge,
)
from hs_analysis.policy import Policy
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Guard, PeriodicEntry, Ratio
from hs_analysis.policy.rounding import rounded
from hs_analysis.policy.waiting import QUEUE, with_waiting
from hs_analysis.replay.demand import demands
from hs_analysis.replay.faults import faults_named, replay_faults
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate_all
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.names import READ_AS_IDLE, TARGET_TITLES, TRANSLATED
from hs_analysis.schema.results import Estimate

LLMD = Measured(prefill_capacity=Estimate(3_000.0, 2_900.0, 3_100.0), prompt_tokens=600.0)
BAND = Ratio(2, 1, 2.0, 1.5, 2.5, 0.5, "ok")
GUARDS = (Guard("ttft", "prefill", 1.0, "", ()), Guard("tbt", "decode", 0.05, "", ()))


def policy(*, waits: bool) -> Policy:
    """Return a policy with a signal a pool, a band of the ratio and limits of both latencies."""
    made = replace(policy_for("keda"), pd_ratio=BAND, guards=GUARDS)
    return with_waiting(made, WAITING_FRAME, {(QUEUE, "prefill"): QUEUE_QUERY}) if waits else made


def written(target: str, made: Policy) -> Autoscaler:
    """Return the controller that a target's exporter writes, without its files."""
    made = rounded(made)
    pools, _ = kubernetes.sizings(made, "hpa")
    if target == "kthena":
        return kthena.parameters(made, pools, (1.5, 2.5))
    if target == "aibrix":
        return Autoscaler(target, {pool.role: aibrix.parameters(made, pool) for pool in pools})
    if target == "dynamo":
        work = {t.role: t for t in derived().thresholds if (t.signal, t.role) in PAIR}
        roles = {
            role: DynamoThroughput(
                one.signal, one.target_per_instance or 0.0, 180.0, max(1, made.bounds[role].min), NO_LIMIT
            )
            for role, one in work.items()
        }
        return Autoscaler(target, roles)
    own = control_of(made)
    assert isinstance(own, Autoscaler)
    if target == "ome":
        return replace(own, pools={role: replace(one, fallback=None) for role, one in own.pools.items()})
    return own


def read_back(target: str, made: Policy, frame: ServiceFrame = FRAME, series: Any = SERIES) -> Deployed:
    """Return what the files of a target set up."""
    return deployed_as(target, made, frame, derived(), SETTINGS, series)


@pytest.mark.parametrize("waits", [False, True], ids=["work", "work and waiting"])
@pytest.mark.parametrize("target", ["kthena", "aibrix", "kserve", "rbg", "ome", "dynamo"])
def test_a_file_read_back_sets_the_same_counts_at_every_step(target: str, *, waits: bool) -> None:
    """Exported, read and replayed on a day: the controller that was written."""
    frame, series = (WAITING_FRAME, WAITING_SERIES) if waits else (FRAME, SERIES)
    made = policy(waits=waits)
    found = read_back(target, made, frame, series)
    assert found.why_not == ""
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame, model.pools)
    theirs, ours = simulate_all((found.control, written(target, made)), part, model)
    assert set(theirs.desired) == {"prefill", "decode"}
    for role, counts in ours.desired.items():
        assert len(set(counts.tolist())) > 2
        np.testing.assert_array_equal(theirs.desired[role], counts)


def test_a_file_that_holds_another_number_sets_other_counts() -> None:
    """The comparison is not blind."""
    made = policy(waits=False)
    model = fit_fleet(FRAME, derived(), SETTINGS)
    (part,) = demands(FRAME, model.pools)
    own = made.primaries[0]
    first = replace(own, target_per_instance=replace(own.target_per_instance, value=99.0))
    changed = read_back("kthena", replace(made, primaries=(first, *made.primaries[1:]))).control
    theirs, ours = simulate_all((changed, written("kthena", made)), part, model)
    assert any(not np.array_equal(theirs.desired[role], ours.desired[role]) for role in ours.desired)


@pytest.mark.parametrize(
    ("target", "changes", "why"),
    [
        ("llmd", {}, "the prompt tokens of a request are not recorded"),
        ("kthena", {"mode": "hold"}, "no object is written"),
        ("dynamo", {"mode": "hold"}, "no object is written"),
        (
            "aibrix",
            {"mode": "periodic", "periodic": (PeriodicEntry("08:00", "20:00", (), 4, 8),)},
            "schedules are not replayed",
        ),
    ],
)
def test_what_is_not_replayed_says_why(target: str, changes: dict[str, Any], why: str) -> None:
    """The reason of the exporter, or of the reader, which names what it does not know."""
    assert why in read_back(target, replace(policy(waits=False), **changes)).why_not


def test_every_target_has_its_figures_or_why_not() -> None:
    """Rows are shared by files that set up the same; the selected target is first."""
    others = {target: {"policy": "", "why_not": "no gauge"} for target in TARGET_TITLES if target != "keda"}
    others |= {"hpa": {"policy": "as_hpa", "why_not": ""}, "kserve": {"policy": "ours", "why_not": ""}}
    found = target_replays(backtest(others, as_hpa={"instance_hours": 103.0}), "ours")
    by_target = {one.target: one for one in found}
    assert (found[0].target, set(by_target)) == ("keda", set(TRANSLATED))
    assert (by_target["hpa"].policy, by_target["hpa"].instance_hours) == ("as_hpa", 103.0)
    assert by_target["kserve"].policy == by_target["keda"].policy == "ours"
    assert (by_target["llmd"].policy, by_target["llmd"].why_not) == (None, "no gauge")


def test_faults_and_bursts_are_those_of_every_file() -> None:
    """Each file has its own; a run that holds those of the headline alone says nothing of the others."""
    made = backtest({"hpa": {"policy": "as_hpa", "why_not": ""}}, as_hpa={})
    ours, theirs = {"faults": 0.1, "bursts": 0.2}, {"faults": 0.3, "bursts": 0.4}
    made = replace(made, policies=tuple(replace(row, slo_violation_ratio=0.01) for row in made.policies))
    every = with_shares(made, {"policy": ours, "files": {"ours": ours, "as_hpa": theirs}})
    found = {one.target: one for one in target_replays(every, "ours")}
    assert (found["keda"].under_faults, found["keda"].under_bursts) == (0.1, 0.2)
    assert (found["hpa"].under_faults, found["hpa"].under_bursts) == (0.3, 0.4)
    said = said_of(every)["hpa"]
    assert "under faults in 30 % against 10 %, under bursts in 40 % against 20 %" in said
    assert POLICY.controller == "keda"
    older = {one.target: one for one in target_replays(with_shares(made, {"policy": ours}), "ours")}
    assert (older["keda"].under_faults, older["hpa"].under_faults) == (0.1, None)


def with_shares(made: Any, under: dict[str, Any]) -> Any:
    """Return a backtest that knows what faults do."""
    return replace(made, calibration=made.calibration | {"under_faults": under})


@pytest.mark.parametrize("target", ["dynamo", "llmd"])
def test_a_limit_that_no_guard_watches_is_the_slo_that_was_given(target: str) -> None:
    """Where a latency is no guard the policy does not hold its limit; the settings do."""
    made = replace(policy(waits=False), guards=())
    lacking = measured_of(derived(), FRAME, replace(SETTINGS.slo, ttft_s=None, tbt_s=None))
    given = measured_of(derived(), FRAME, replace(SETTINGS.slo, ttft_s=1.5, tbt_s=0.04))
    more = {"prefill_capacity": Estimate(3_000.0, 2_900.0, 3_100.0), "prompt_tokens": 600.0}
    without, written = (
        export(made, target, ExportOptions(measured=replace(one, **more))) for one in (lacking, given)
    )
    (refused,) = (loss.text for loss in without.losses if loss.kind == "refused")
    assert refused.endswith("give --slo")
    assert not [loss for loss in written.losses if loss.kind == "refused"]
    assert ("ttft_ms: 1500" if target == "dynamo" else "TTFT 1.5 s") in "".join(written.files.values())


def in_flight(tokens: np.ndarray) -> ServiceFrame:
    """Return the service with its tokens in flight and the prompt tokens of its requests."""
    rate = FRAME.values("prefill_tps_effective", "prefill")
    columns = {column("in_flight_tokens", "prefill"): tokens, column("request_rate", "service"): rate / 600.0}
    table = FRAME.table.with_columns(pl.Series(name, values) for name, values in columns.items())
    infos = [
        replace(FRAME.signals[0], signal=name, role=role, unit=unit, pool="sum", family=family)
        for name, role, unit, family in (
            ("in_flight_tokens", "prefill", "tokens", "queue"), ("request_rate", "service", "1/s", "load"),
        )
    ]  # fmt: skip
    return replace(FRAME, table=table, signals=(*FRAME.signals, *infos))


def test_llmds_file_is_replayed_on_tokens_in_flight_with_both_readings_of_a_gap() -> None:
    """Written, read back and run; the guide's own queries differ in what a missing gauge is alone."""
    frame = in_flight(FRAME.values("prefill_tps_effective", "prefill") * 0.4)
    found = read_back("llmd", policy(waits=False), frame)
    assert found.why_not == ""
    assert isinstance(found.control, Autoscaler)
    assert found.idle is not None
    prefill, decode = (found.control.pools[role] for role in ("prefill", "decode"))
    assert (prefill.hpa.metrics[0].signal, prefill.ignore_null_values) == ("in_flight_tokens", False)
    assert (prefill.hpa.up, prefill.hpa.down) == PACE
    assert found.idle.pools == {"prefill": replace(prefill, ignore_null_values=True), "decode": decode}
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame, model.pools)
    held, idle = (fault_counts(one, part, model) for one in (found.control, found.idle))
    assert held > idle
    assert read_back("llmd", policy(waits=False)).why_not


def fault_counts(control: Autoscaler, part: Any, model: Any) -> float:
    """Return the fewest prefill instances while no metric can be read."""
    _, gap = replay_faults({"one": control}, part, model, faults_named(["metric_gap"]))
    return gap.lowest["prefill"]


def test_without_a_gauge_and_without_calm_minutes_nothing_tells_the_tokens_in_flight() -> None:
    """The file of llm-d can't be replayed then, and says why in words of its user."""
    known = known_service(FRAME, derived(), SETTINGS, SERIES)
    assert with_gauge(known, policy(waits=False), ExportOptions()) is None
    assert "tokens in flight" in NO_GAUGE


def test_what_reading_a_gap_as_idle_costs_is_said_where_both_were_replayed() -> None:
    """A sentence with both shares, the cost of the loss; nothing where one of them is not known."""
    known = {"slo_violation_ratio": 0.01}
    made = backtest({"llmd": {"policy": "as_llmd", "why_not": ""}}, as_llmd=known)
    files = {"as_llmd": {"faults": 0.1, "bursts": 0.1, "gap": 0.2}, READ_AS_IDLE: {"gap": 0.6}}
    replays = target_replays(with_shares(made, {"files": files}), "ours")
    assert "in 20 % of windows, read as idle in 60 %" in cost_of_idle(replays)
    assert "Little's law" in said_of(with_shares(made, {"files": files}))["llmd"]
    assert cost_of_idle(target_replays(made, "ours")) == ""
    rows = tuple(replace(row, slo_violation_ratio=None) for row in made.policies)
    unknown = with_shares(replace(made, policies=rows), {"files": files})
    assert "is not known" in cost_of_idle(target_replays(unknown, "ours"))
    options = ExportOptions(measured=LLMD, costs={"on_missing_metric": cost_of_idle(replays)})
    export_of = export(replace(policy(waits=False)), "llmd", options)
    (loss,) = (one for one in export_of.losses if one.item == "on_missing_metric")
    assert loss.cost == cost_of_idle(replays)
    assert "read as idle in 60 %" in next(t for n, t in export_of.files.items() if "token-aware" in n)

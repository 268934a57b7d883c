"""What each field of a policy is worth that a file does not say: what is replayed, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pipeline.test_objects import FRAME, PAIR, SERIES, WAITING_FRAME, WAITING_SERIES, policy_for
from pipeline.test_targets_replayed import policy, read_back
from replay.services import SETTINGS, derived, policy_replay

from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.controllers.ablation import as_written, field_of, fields_of
from hs_analysis.controllers.dynamo import DynamoLoad
from hs_analysis.controllers.kthena import RatioConstraint
from hs_analysis.export import ExportOptions, export
from hs_analysis.export.model import NO_COST, Loss, concerning
from hs_analysis.pipeline.field_costs import ADDED, Ablations, ablations, fields_of_file, replayed
from hs_analysis.pipeline.objects import costs_by_field, target_replays
from hs_analysis.pipeline.records import to_plain
from hs_analysis.policy import Policy
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Guard, Primary, SoftScaleIn, Tier
from hs_analysis.policy.rounding import rounded
from hs_analysis.replay import replay_service
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate_all
from hs_analysis.schema.names import TARGET_TITLES
from hs_analysis.schema.replays import ReplayResult

SOFT = SoftScaleIn(120.0, "ttft > 1 s")


def whole(made: Policy) -> HeteroScale:
    """Return HeteroScale's own rule with all of a policy."""
    found = control_of(rounded(replace(made, controller="heteroscale")))
    assert isinstance(found, HeteroScale)
    return found


def policies() -> dict[str, tuple[Policy, Any, Any]]:
    """Return policies by name with the frame and the series that they are read back on."""
    guarded = replace(policy(waits=True), soft_scale_in=SOFT)
    follows = replace(policy_for("keda", PAIR[1:]), soft_scale_in=SOFT, guards=policy(waits=False).guards)
    return {
        "two signals, and what waits": (guarded, WAITING_FRAME, WAITING_SERIES),
        "a pool that follows": (follows, FRAME, SERIES),
        "rests and steps": (
            replace(
                policy_for("keda", PAIR, 0),
                step=replace(guarded.step, max_out_fraction=0.25, dampening=0.5),
                cooldown={role: replace(one, scale_in_s=300.0) for role, one in guarded.cooldown.items()},
            ),
            FRAME,
            SERIES,
        ),
    }


@pytest.mark.parametrize("target", [one for one in TARGET_TITLES if one not in ("heteroscale", "llmd")])
@pytest.mark.parametrize("name", policies())
def test_what_a_file_holds_otherwise_has_a_loss(name: str, target: str) -> None:
    """Read back and run as the policy's own rule: where it is another rule, the losses speak of the field."""
    made, frame, series = policies()[name]
    found = read_back(target, made, frame, series)
    assert isinstance(found.control, Autoscaler), found.why_not
    rule, spoken = whole(made), {field_of(one.item) for one in found.losses if one.changes_counts}
    differs = {one for one in fields_of(rule) if as_written(rule, found.control, one) != rule}
    assert "guards" not in fields_of(rule) or "guards" in differs
    # What waits is a part of a primary.
    spoken |= {"waiting"} if "primaries" in spoken else set()
    assert differs <= spoken


def test_files_that_hold_a_field_alike_share_a_lane() -> None:
    """A lane is run once; a file that binds its pools by a ratio also runs without it."""
    made, frame, series = policies()["two signals, and what waits"]
    read = {target: read_back(target, made, frame, series) for target in ("hpa", "kserve", "kthena")}
    files = {target: (one.control, one.losses) for target, one in read.items()}
    found = ablations("heteroscale", whole(made), files)
    assert found.of["hpa"]["guards"] == found.of["kserve"]["guards"]
    assert found.of["hpa"]["hysteresis"] == ("expressed", "heteroscale")
    kind, lane = found.of["kthena"]["primaries"]
    bound = read["kthena"].control
    assert isinstance(bound, Autoscaler)
    assert isinstance(bound.together, RatioConstraint)
    assert kind == ADDED
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame, model.pools)
    free, apart, tied = simulate_all([found.lanes[lane], replace(bound, together=None), bound], part, model)
    for role, counts in apart.desired.items():
        np.testing.assert_array_equal(free.desired[role], counts)
    assert any(not np.array_equal(tied.desired[role], counts) for role, counts in apart.desired.items())
    rules = [one for one in found.lanes.values() if isinstance(one, HeteroScale)]
    assert all(one != other for n, one in enumerate(rules) for other in rules[:n])


def test_a_planner_that_follows_the_kv_cache_is_told_apart_by_its_bounds() -> None:
    """The planner's file of a policy on KV usage: written, and no field of it ends a run."""
    target = replace(policy_for("keda").primaries[0].target_per_instance, value=0.6)
    own = Primary("kv_usage", "decode", "ratio", "avg(a)", "vllm", target, "mean")
    made = replace(policy_for("keda"), primaries=(own,), pd_ratio=None)
    losses = export(made, "dynamo").losses
    planner = Autoscaler("dynamo", {"decode": DynamoLoad("kv_usage", limits=(0.66, 0.54), min_endpoint=1)})
    found = ablations("heteroscale", whole(made), {"dynamo": (planner, losses)})
    assert "hysteresis" not in found.of["dynamo"]
    kind, lane = found.of["dynamo"]["bounds"]
    assert found.lanes[lane] == as_written(whole(made), planner, "bounds")
    assert kind


@pytest.mark.parametrize("mode", ["periodic", "hold"])
def test_nothing_is_run_for_what_follows_no_metric(mode: str) -> None:
    """A timetable and a policy on hold have no fields that a controller acts on."""
    rule = replace(whole(policy(waits=False)), mode=mode)
    assert ablations("heteroscale", rule, {}) == Ablations()
    assert ablations("heteroscale", None, {}) == Ablations()


def test_they_are_run_beside_the_backtest_and_are_no_rows_of_it() -> None:
    """Figures of each lane as if it were a row; the table, the timeline and the bounds know nothing of it."""
    made, _, _ = policies()["rests and steps"]
    rule = whole(replace(made, guards=(Guard("ttft", "prefill", 1e-6, "", (Tier(1.0, 0.5),)),)))
    lanes = {"free": replace(rule, observe_s=None)}
    run = replay_service(FRAME, FRAME, derived(), {"all": rule}, SETTINGS, struck={"all": rule} | lanes)
    plain = replay_service(FRAME, FRAME, derived(), {"all": rule} | lanes, SETTINGS)
    rows = {row.policy: row for row in plain.result.policies}
    assert run.aside["free"].instance_hours == rows["free"].instance_hours
    assert "free" not in {row.policy for row in run.result.policies}
    assert "free" not in run.timeline["policy"].to_list()
    assert "free" in run.under_faults


def told(**figures: Any) -> tuple[ReplayResult, str]:
    """Return a backtest in which files lost fields, and the name of its headline."""
    rows = {"ours": {}, "heteroscale": {}, "as_kthena": {"instance_hours": 120.0}}
    found = [policy_replay(name, **{"instance_hours": 100.0, "gpu_hours": None,
             "slo_violation_ratio": 0.001} | one) for name, one in rows.items()]  # fmt: skip
    alike = {
        "instance_hours": 100.0, "gpu_hours": None, "slo_violation_ratio": 0.001, "under_faults": 0.02,
        "under_bursts": None,
    }  # fmt: skip
    others = {"heteroscale": "heteroscale", "kthena": "as_kthena"}
    calibration = {
        "deployed": {
            "target": "keda", "policy": "ours",
            "as_others": {name: {"policy": row, "why_not": ""} for name, row in others.items()},
        },
        "under_faults": {"files": {row: {"faults": 0.02} for row in ("ours", *others.values())}},
        "by_field": {
            "figures": {
                "heteroscale": alike,
                "step 0": alike | {"under_faults": 0.021},
                "hysteresis 1": alike | figures,
            },
            "files": {
                "keda": {
                    "guards": ["dropped", "heteroscale"],
                    "step": ["dropped", "step 0"],
                    "hysteresis": ["dropped", "hysteresis 1"],
                },
                "kthena": {"primaries": [ADDED, "heteroscale"]},
            },
        },
    }  # fmt: skip
    return ReplayResult(None, None, calibration, tuple(found)), "ours"


def test_the_cost_of_a_field_is_said_with_its_figures() -> None:
    """Those that read otherwise than all of the policy; what changes most first; nothing where none does."""
    replays = target_replays(*told(instance_hours=110.0, slo_violation_ratio=0.002, under_faults=0.05))
    costs = costs_by_field(replays)
    assert list(costs["keda"]) == ["hysteresis", "step", "guards"]
    assert costs["keda"]["hysteresis"] == (
        "Alone, by HeteroScale's own rule: +10 % instance-hours, windows over the SLO 0.20 % against 0.10 %, "
        "under faults 5.0 % against 2.0 %"
    )
    assert costs["keda"]["guards"] == NO_COST
    assert costs["kthena"]["primaries"].startswith("Without its ratio this file has −16.7 % instance-hours")


def test_nothing_is_said_where_the_rule_itself_was_not_run() -> None:
    """There is nothing to set a field against."""
    result, name = told()
    result.calibration["deployed"]["as_others"].pop("heteroscale")
    assert costs_by_field(target_replays(result, name)) == {}


def test_losses_carry_the_cost_of_their_field() -> None:
    """What changes most is first; a status costs nothing, and a cost of its own is kept."""
    made = policy(waits=False)
    losses = [
        Loss("guards", "dropped", "no guard"),
        Loss("step.dampening", "dropped", "all at once"),
        Loss("primaries", "approximated", "apart", "measured"),
        Loss("replay", "dropped", "a status"),
        Loss("hysteresis", "dropped", "no band"),
    ]
    costs = {"hysteresis": "a lot", "step": "a bit", "guards": NO_COST, "primaries": "other"}
    found = concerning(losses, made, costs)
    assert [(one.item, one.cost) for one in found if one.item != "replay"] == [
        ("primaries", "measured"),
        ("hysteresis", "a lot"),
        ("step.dampening", "a bit"),
        ("guards", NO_COST),
    ]


def test_the_header_names_what_costs_most() -> None:
    """The first line of a file that says what it does otherwise."""
    made = policy(waits=False)
    files = export(made, "keda", ExportOptions(costs={"guards": "A lot", "start_up_s": "A bit"})).files
    (text,) = (text for name, text in files.items() if name.endswith("scaledobjects.yaml"))
    line = next(line for line in text.splitlines() if "Otherwise than the policy" in line)
    assert line.index("A lot") < line.index("A bit")


def test_figures_come_from_the_lane_of_the_field() -> None:
    """Hours and violations of its row, and its shares under faults and bursts."""
    found = Ablations({}, {"keda": {"guards": ("dropped", "lane")}})
    row = policy_replay("lane", instance_hours=7.0, gpu_hours=14.0, slo_violation_ratio=0.25)
    told = replayed(found, {"lane": row}, {"lane": {"faults": 0.5, "bursts": 0.75, "gap": 0.1}})
    (one,) = fields_of_file(to_plain(told), "keda")
    assert vars(one) == {
        "field": "guards", "kind": "dropped", "instance_hours": 7.0, "gpu_hours": 14.0,
        "slo_violation_ratio": 0.25, "under_faults": 0.5, "under_bursts": 0.75,
    }  # fmt: skip
    assert fields_of_file(told, "hpa") == fields_of_file(replayed(Ablations(), {}, {}), "keda") == ()

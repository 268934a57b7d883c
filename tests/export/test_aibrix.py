"""AIBrix PodAutoscalers of a policy: what the CRD and the controller take, what they read, what is lost."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES, two_primaries

from hs_analysis.controllers.aibrix import Kpa
from hs_analysis.export import ExportOptions, Workload, export, kubernetes
from hs_analysis.export.aibrix import ANNOTATION, lint_aibrix, parameters, schedules
from hs_analysis.export.hpa import lint_adapter
from hs_analysis.export.model import load_documents
from hs_analysis.policy.model import Bounds, Cooldown, PeriodicEntry, Step
from hs_analysis.policy.timetable import DAYS, weekly_plan

SCHEMA = json.loads((Path(__file__).parent / "aibrix.schema.json").read_text("utf-8"))
SCALED = [name for name, policy in POLICIES.items() if policy.mode == "metric" and policy.bounds]


def text_of(policy, end, options=None):
    files = export(policy, "aibrix", options).files
    return next((text for name, text in files.items() if name.endswith(end)), "")


def objects(policy, options=None):
    bodies = load_documents(text_of(policy, "podautoscalers.yaml", options))
    return {body["metadata"]["name"].rpartition("-")[2]: body for body in bodies}


def annotation(body, name):
    return body["metadata"]["annotations"][ANNOTATION + name]


def held_s(policy, body):
    """Return the time whose highest value the adapter gives of an object's metric [s]."""
    name = body["spec"]["metricsSources"][0]["targetMetric"]
    rules = load_documents(text_of(policy, "adapter.yaml"))[0]["externalRules"]
    (query,) = (rule["metricsQuery"] for rule in rules if rule["name"]["as"] == name)
    found = re.fullmatch(r"sum\(max_over_time\(<<.Series>>\{.*\}\[(\d+)s\]\)\)", query)
    return float(found[1])


def read(policy, body, signal):
    """Return the controller's parameters as an object says them."""
    spec, given = body["spec"], lambda name: float(annotation(body, name).removesuffix("s"))
    return Kpa(
        signal,
        float(spec["metricsSources"][0]["targetValue"]),
        stable_window_s=spec["observeWindowSeconds"],
        panic_window_s=spec["panicWindowSeconds"],
        max_scale_up_rate=given("max-scale-up-rate"),
        max_scale_down_rate=given("max-scale-down-rate"),
        up_tolerance=given("scale-up-tolerance"),
        down_tolerance=given("scale-down-tolerance"),
        up_cooldown_s=given("scale-up-cooldown-window"),
        down_cooldown_s=given("scale-down-cooldown-window"),
        min_replicas=spec["minReplicas"],
        max_replicas=spec["maxReplicas"],
        highest_s=held_s(policy, body),
    )


@pytest.mark.parametrize("name", SCALED)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """No field that the CRD does not know, none missing."""
    found = objects(POLICIES[name])
    assert found
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_aibrix(body) == []


@pytest.mark.parametrize("name", SCALED)
def test_what_is_written_reads_back_as_the_controllers_parameters(name):
    """Targets, bounds, rates and windows: the object is the parameters, no more."""
    policy = POLICIES[name]
    pools = {pool.role: pool for pool in kubernetes.sizings(policy, "hpa")[0]}
    for role, body in objects(policy).items():
        wanted = parameters(policy, pools[role])
        found = read(policy, body, wanted.signal)
        # The range of the query is the adapter's, in its own file.
        alike = {"max_scale_down_rate": 0.0, "target": 0.0, "averaging_s": 0.0}
        assert replace(found, **alike) == replace(wanted, **alike)
        assert found.max_scale_down_rate == pytest.approx(wanted.max_scale_down_rate, rel=1e-5)
        assert found.target == pytest.approx(wanted.target, rel=1e-5)


def test_a_mutated_key_fails_the_lint():
    """Renaming any single key is caught by our own check alone, annotations too."""
    body = objects(full_policy())["decode"]
    for path, broken in renamed_keys(body):
        if path in [("metadata", "namespace"), ("spec", "subTargetSelector")]:
            continue
        assert lint_aibrix(broken), path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["spec"].update(minReplicas=25), "min ≤ max"),
        (lambda b: b["spec"].update(panicWindowSeconds=60), "panicWindowSeconds"),
        (lambda b: b["spec"].update(scalingStrategy="APA"), "not one of KPA"),
        (lambda b: b["spec"].update(metricsSources=[]), "needs 1"),
        (lambda b: b["spec"]["metricsSources"][0].update(targetValue="0"), "above 0"),
        (lambda b: b["spec"]["metricsSources"][0].update(targetValue=3800), "not a text"),
        (lambda b: b["spec"]["scaleTargetRef"].update(kind="Deployment"), "roles of a StormService"),
        (
            lambda b: b["metadata"]["annotations"].update({ANNOTATION + "up-fluctuation-tolerance": "0"}),
            "is read",
        ),
        (lambda b: b["metadata"]["annotations"].update({ANNOTATION + "scale-up-tolerance": "0.1"}), "total"),
    ],
)
def test_the_lint_repeats_the_rules_of_the_controller(change, says):
    """What it refuses, ignores or would misread is found and named."""
    body = objects(full_policy())["decode"]
    change(body)
    assert any(says in problem for problem in lint_aibrix(body)), lint_aibrix(body)


def test_every_metric_is_served_by_a_rule_that_needs_no_selector():
    """The pool is in the name and in the query: AIBrix asks by namespace and name alone."""
    for policy in (full_policy(), two_primaries()):
        (config,) = load_documents(text_of(policy, "adapter.yaml"))
        assert lint_adapter(config) == []
        served = {rule["name"]["as"]: rule["metricsQuery"] for rule in config["externalRules"]}
        for body in objects(policy).values():
            name = body["spec"]["metricsSources"][0]["targetMetric"]
            role = name.rpartition("_")[2]
            assert f'role="{role}"' in served[name]
            assert 'service="prod/chat"' in served[name]


def test_shrinking_waits_for_the_highest_reading_and_not_for_the_lowest_count() -> None:
    """AIBrix' own window is off, as it holds the lowest count; the query holds the highest reading."""
    policy = full_policy()
    for body in objects(policy).values():
        assert annotation(body, "scale-down-cooldown-window") == "0s"
        assert held_s(policy, body) == policy.reading.over_s
    assert "reading.over_s" not in {loss.item for loss in export(policy, "aibrix").losses}


def test_each_role_of_the_storm_service_has_its_target():
    """3800 per decode instance, 3800 ÷ 0.5 per prefill instance, of one total."""
    found = objects(full_policy())
    assert {role: body["spec"]["metricsSources"][0]["targetValue"] for role, body in found.items()} == {
        "decode": "3800",
        "prefill": "7600",
    }
    for role, body in found.items():
        assert body["spec"]["scaleTargetRef"]["kind"] == "StormService"
        assert body["spec"]["subTargetSelector"] == {"roleName": role}
        assert annotation(body, "storm-service-mode") == "pool"


def test_what_is_checked_before_applying_is_all_that_is_scaled():
    """Every workload; the one StormService of two roles once."""
    known = ExportOptions(workloads={role: Workload(f"chat-{role}") for role in ("prefill", "decode")})
    (line,) = [
        one for one in text_of(full_policy(), "autoscalers.yaml", known).splitlines() if "Check" in one
    ]
    assert line.count("Deployment chat-") == 2
    (line,) = [one for one in text_of(full_policy(), "autoscalers.yaml").splitlines() if "Check" in one]
    assert line.count("StormService ") == 1


def test_a_known_workload_is_scaled_as_a_whole():
    """Only a role of a StormService has a selector and a mode."""
    options = ExportOptions(workloads={"decode": Workload("chat-d")})
    body = objects(full_policy(), options)["decode"]
    assert body["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-d"}
    assert "subTargetSelector" not in body["spec"]
    assert ANNOTATION + "storm-service-mode" not in body["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("step", "rest", "rates"),
    [
        (Step(1.0, 0.25, 0.2), Cooldown(60.0, 60.0), ("1.25", "1.25")),
        (Step(1.0, None, None), Cooldown(60.0, 60.0), ("2", "1000")),
        (Step(1.0, None, 1.0), Cooldown(60.0, 60.0), ("2", "1000")),
        (Step(1.0, None, 0.2), Cooldown(60.0, None), ("2", "1")),
    ],
)
def test_shares_of_a_step_are_rates(step, rest, rates):
    """A fifth less is a rate of 1.25, no limit is a thousandth; at 1 nothing is ever removed."""
    body = objects(full_policy(step=step, cooldown={"decode": rest, "prefill": rest}))["decode"]
    assert (annotation(body, "max-scale-up-rate"), annotation(body, "max-scale-down-rate")) == rates


def test_a_role_without_bounds_gets_no_object_and_a_loss():
    """maxReplicas is required, and no number is made up for it."""
    policy = full_policy(bounds={"decode": Bounds(0, 24)})
    made = export(policy, "aibrix")
    assert list(objects(policy)) == ["decode"]
    assert any(loss.kind == "refused" and "prefill has no bounds" in loss.text for loss in made.losses)


WEEK = (
    PeriodicEntry("22:00", "06:00", ("fri",), 7, 3, "Asia/Tokyo"),
    PeriodicEntry("00:00", "00:00", ("sun",), 2, 2, "Asia/Tokyo"),
    PeriodicEntry("08:00", "20:00", (), 20, None, "Asia/Tokyo"),
    PeriodicEntry("07:00", "09:00", ("mon", "fri"), 9, 4, "Asia/Tokyo"),
)
"""Entries past midnight, of a whole day, of every day, and two that overlap."""


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_schedules_hold_the_timetable_at_every_minute(role):
    """The first entry counts, in a window of one day each; where none holds no schedule does."""
    plan, written = weekly_plan(WEEK, role), schedules(WEEK, role)
    assert all(one["timezone"] == "Asia/Tokyo" for one in written)
    for minute, wanted in enumerate(plan.tolist()):
        day, clock = DAYS[minute // 1440].capitalize(), f"{minute % 1440 // 60:02d}:{minute % 60:02d}"
        held = [
            one["minReplicas"]
            for one in written
            if day in one.get("daysOfWeek", [day]) and one["startTime"] <= clock < one["endTime"]
        ]
        assert held == ([] if math.isnan(wanted) or clock == "23:59" else [wanted]), (day, clock)


def test_a_timetable_becomes_schedules_beside_the_metric():
    """The object of the metric policy with schedules, whose bounds are the counts; losses say the rest."""
    policy = full_policy(mode="periodic", periodic=WEEK)
    made, usual = export(policy, "aibrix"), objects(full_policy())
    for timed, plain in zip(objects(policy).values(), usual.values(), strict=True):
        written = timed["spec"].pop("schedules")
        assert timed == plain
        assert lint_aibrix(timed | {"spec": timed["spec"] | {"schedules": written}}) == []
        jsonschema.validate(timed | {"spec": timed["spec"] | {"schedules": written}}, SCHEMA)
    assert {loss.item for loss in made.losses} >= {"mode", "periodic"}


def test_schedules_that_aibrix_refuses_are_seen():
    """Past midnight, one name twice, two windows at once, an unknown day."""
    (body, *_) = objects(full_policy(mode="periodic", periodic=WEEK)).values()
    first = body["spec"]["schedules"][0]
    for changed, says in (
        ([first | {"startTime": "20:00", "endTime": "06:00"}], "is no window of one day"),
        ([first | {"endTime": "24:00"}], "is no window of one day"),
        ([first, first], "written twice"),
        ([first, first | {"name": "b"}], "overlap on"),
        ([first | {"maxReplicas": 1, "minReplicas": 2}], "is more than"),
        ([first | {"daysOfWeek": ["Monday"]}], "daysOfWeek"),
    ):
        spoilt = body | {"spec": body["spec"] | {"schedules": changed}}
        assert any(says in text for text in lint_aibrix(spoilt)), says


@pytest.mark.parametrize(("mode", "says"), [("hold", "too few episodes")])
def test_what_a_pod_autoscaler_can_not_hold_is_refused(mode, says):
    """No object, and the reason is the loss."""
    policy = full_policy(mode=mode)
    assert not text_of(policy, "podautoscalers.yaml")
    (loss,) = export(policy, "aibrix").losses
    assert says in loss.text


def test_the_missing_dead_band_is_said_before_what_no_object_holds():
    """Losses that change what it does come first; the file starts with at most six lines."""
    made = export(full_policy(recommended=False), "aibrix")
    items = [loss.item for loss in made.losses]
    assert items.index("hysteresis") < items.index("placement")
    text = text_of(full_policy(recommended=False), "podautoscalers.yaml")
    assert sum(line.startswith("#") for line in text.splitlines()) <= 6

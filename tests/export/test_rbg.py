"""Objects for a RoleBasedGroup: what its CRD takes, which workload KEDA writes to, what is lost."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES, two_primaries
from export.test_keda import objects as scaled_objects

from hs_analysis.export import ExportOptions, Measured, export
from hs_analysis.export.model import load_documents
from hs_analysis.export.rbg import lint_rbg

HERE = Path(__file__).parent
SCHEMAS = {
    "CoordinatedPolicy": json.loads((HERE / "coordinatedpolicy.schema.json").read_text("utf-8")),
    "ScaledObject": json.loads((HERE / "scaledobject.schema.json").read_text("utf-8")),
}
BAND = ExportOptions(measured=Measured(ratio_band=(2.25, 2.75)))


def text_of(policy, options=BAND):
    files = export(policy, "rbg", options).files
    return next((text for name, text in files.items() if name.endswith("rolebasedgroup.yaml")), "")


def objects(policy, options=BAND):
    return load_documents(text_of(policy, options))


def coordinated(policy, options=BAND):
    return next((body for body in objects(policy, options) if body["kind"] == "CoordinatedPolicy"), None)


@pytest.mark.parametrize("name", POLICIES)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """No field that a CRD does not know, none missing; a timetable too."""
    found = objects(POLICIES[name])
    assert found
    for body in found:
        jsonschema.validate(body, SCHEMAS[body["kind"]])
        assert lint_rbg(body) == []


@pytest.mark.parametrize("name", POLICIES)
def test_keda_writes_to_the_adapter_of_each_role(name):
    """Everything else is the ScaledObject of the target keda."""
    policy = POLICIES[name]
    alone = scaled_objects(policy)
    for body in objects(policy):
        if body["kind"] != "ScaledObject":
            continue
        reference = body["spec"].pop("scaleTargetRef")
        assert reference == {
            "apiVersion": "workloads.x-k8s.io/v1alpha2",
            "kind": "RoleBasedGroupScalingAdapter",
            "name": body["metadata"]["name"].replace("chat", "fill-in-rolebasedgroup"),
        }
        wanted = alone.pop(body["metadata"]["name"])["spec"]
        del wanted["scaleTargetRef"]
        assert body["spec"] == wanted
    assert alone == {}


@pytest.mark.parametrize(
    ("policy", "options", "skew"),
    [
        (two_primaries(), BAND, "10%"),
        (full_policy(), BAND, "10%"),
        (full_policy(pd_ratio=replace(full_policy().pd_ratio, low=0.5, high=0.501)), BAND, "1%"),
        (two_primaries(), ExportOptions(measured=Measured(ratio_band=(0.001, 9.0))), "99%"),
    ],
)
def test_the_skew_is_half_of_the_interval_of_the_ratio(policy, options, skew):
    """0.25 around 2.5 is 10 %; the policy's own interval (0.45 to 0.56) is as wide, and 1 % is the least."""
    body = coordinated(policy, options)
    (rule,) = body["spec"]["policies"]
    assert rule["strategy"]["scaling"] == {"maxSkew": skew, "progression": "OrderScheduled"}
    assert body["metadata"]["name"] == "fill-in-rolebasedgroup", "the policy is called as the group"


@pytest.mark.parametrize(
    ("policy", "options", "says"),
    [
        (two_primaries(), ExportOptions(), "no interval of the P/D ratio"),
        (replace(two_primaries(), primaries=two_primaries().primaries[:1]), BAND, "one role only"),
    ],
)
def test_without_an_interval_no_policy_of_the_group_is_written(policy, options, says):
    """No percentage is made up, and the roles are scaled all the same."""
    assert coordinated(policy, options) is None
    assert objects(policy, options)
    texts = [loss.text for loss in export(policy, "rbg", options).losses if loss.item == "primaries"]
    assert any(says in text for text in texts)


def test_a_mutated_key_fails_the_lint():
    """Renaming any single key of the group's policy is caught by our own check alone."""
    body = coordinated(full_policy())
    for path, broken in renamed_keys(body):
        if path in [("metadata", "namespace"), ("kind",)]:
            continue
        assert lint_rbg(broken), path


@pytest.mark.parametrize("skew", ["0%", "101%", "5", 5])
def test_a_skew_that_is_no_percentage_is_named(skew):
    """RBG reads it as a part of the wanted count."""
    body = coordinated(full_policy())
    body["spec"]["policies"][0]["strategy"]["scaling"]["maxSkew"] = skew
    assert any("maxSkew" in problem for problem in lint_rbg(body))


def test_a_deployment_is_no_target_in_a_group():
    """The roles of a group have no scale of their own."""
    (body, *_) = [one for one in objects(full_policy()) if one["kind"] == "ScaledObject"]
    body["spec"]["scaleTargetRef"]["kind"] = "Deployment"
    assert any("RoleBasedGroupScalingAdapter" in problem for problem in lint_rbg(body))


def test_nothing_is_written_on_hold():
    """The refusals are the loss; other files start with at most six lines."""
    assert not text_of(full_policy(mode="hold"))
    (loss,) = export(full_policy(mode="hold"), "rbg").losses
    assert "too few episodes" in loss.text
    assert sum(line.startswith("#") for line in text_of(full_policy(recommended=False)).splitlines()) <= 6

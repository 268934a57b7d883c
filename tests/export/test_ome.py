"""OME AutoscalerPolicies of a policy and the patch that attaches them: what is taken, what is lost."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES
from export.test_keda import objects as scaled_objects

from hs_analysis.export import ExportOptions, export
from hs_analysis.export.blanks import PROVIDER
from hs_analysis.export.model import TodaysObject, load_documents
from hs_analysis.export.ome import lint_policies, lint_service
from hs_analysis.policy.model import Bounds

SCHEMA = json.loads((Path(__file__).parent / "ome.schema.json").read_text("utf-8"))
SCALED = [name for name, policy in POLICIES.items() if policy.bounds and policy.unit == "pod"]


def documents(policy, end, options=None):
    files = export(policy, "ome", options).files
    return load_documents(next((text for name, text in files.items() if name.endswith(end)), ""))


def policies(policy):
    return {body["metadata"]["name"]: body for body in documents(policy, "autoscalerpolicies.yaml")}


def patch_of(policy):
    (body,) = documents(policy, "inferenceservice.yaml")
    return body


@pytest.mark.parametrize("name", SCALED)
def test_every_policy_passes_the_strict_schema_and_the_lint(name):
    """No field that the CRD does not know, none missing; a timetable too."""
    found = policies(POLICIES[name])
    assert found
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_policies(body) == []
    assert lint_service(patch_of(POLICIES[name])) == []


@pytest.mark.parametrize("name", SCALED)
def test_ome_renders_the_scaled_object_of_keda(name):
    """With the provider's address and the component's bounds the rest is that of the target keda."""
    alone, spec = scaled_objects(POLICIES[name]), patch_of(POLICIES[name])["spec"]
    for role, component in (("prefill", "engine"), ("decode", "decoder")):
        wanted = alone[f"chat-{role}"]["spec"]
        found = policies(POLICIES[name])[spec[component]["autoscalerPolicyRef"]["name"]]["spec"]["keda"]
        assert found["advanced"] == wanted["advanced"]
        for ours, theirs in zip(found["triggers"], wanted["triggers"], strict=True):
            metadata = {key: text for key, text in theirs["metadata"].items() if key != "serverAddress"}
            assert ours["metadata"] == metadata
            assert ours.get("metricType") == theirs.get("metricType")
        assert spec[component]["maxReplicas"] == wanted["maxReplicaCount"]
        assert spec[component]["minReplicas"] == max(1, wanted["minReplicaCount"])


def test_a_missing_metric_holds_and_no_count_is_made_up_for_it():
    """OME's fallback would set a count; without one the HPA keeps what it has."""
    for body in policies(full_policy()).values():
        assert "fallback" not in body["spec"]["keda"]
        assert body["spec"]["keda"]["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
        assert body["spec"]["keda"]["triggers"][0]["providerRef"] == {"name": PROVIDER}
    losses = {loss.item: loss.text for loss in export(full_policy(), "ome").losses}
    assert "holds the count" in losses["on_missing_metric"]


def test_a_mutated_key_fails_the_lint():
    """Renaming any single key is caught by our own check alone."""
    for body, lint in (
        (policies(full_policy())["chat-decode"], lint_policies),
        (patch_of(full_policy()), lint_service),
    ):
        for path, broken in renamed_keys(body):
            if path == ("metadata", "namespace"):
                continue
            assert lint(broken), path


def first(body):
    return body["spec"]["keda"]["triggers"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: first(b)["metadata"].update(serverAddress="http://p"), "is the provider's"),
        (lambda b: first(b).pop("providerRef"), "providerRef is missing"),
        (lambda b: first(b)["metadata"].update(ignoreNullValues="true"), "empty answer"),
        (lambda b: first(b)["metadata"].update(query="sum(a{{ .Namespace }})"), "variable of OME"),
        (lambda b: first(b).update(name="decode"), "name is unknown"),
        (lambda b: b["spec"].update({"class": "HPA"}), "not one of KEDA"),
        (lambda b: b["spec"]["keda"].update(triggers=[]), "needs 1"),
    ],
)
def test_the_lint_repeats_the_rules_of_the_webhook(change, says):
    """What OME refuses or would misread is found and named."""
    body = policies(full_policy())["chat-decode"]
    change(body)
    assert any(says in problem for problem in lint_policies(body)), lint_policies(body)


def test_bounds_stand_in_the_patch_and_are_checked():
    """The component has them, so that a policy alone would scale within other ones."""
    body = patch_of(full_policy())
    assert body["spec"]["engine"]["minReplicas"] == 2
    body["spec"]["decoder"].update(minReplicas=25)
    assert any("min ≤ max" in problem for problem in lint_service(body))
    assert lint_service({**body, "spec": {}})


def test_a_role_without_bounds_gets_no_policy_and_a_loss():
    """maxReplicas is required, and no number is made up for it."""
    policy = full_policy(bounds={"decode": Bounds(0, 24)})
    made = export(policy, "ome")
    assert list(policies(policy)) == ["chat-decode"]
    assert any(loss.kind == "refused" and "prefill has no bounds" in loss.text for loss in made.losses)
    assert any(loss.item == "bounds.decode.min" for loss in made.losses)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (full_policy(mode="hold"), "too few episodes"),
        (full_policy(unit="group"), "groups of pods"),
        (
            full_policy(primaries=(replace(full_policy().primaries[0], promql='sum(a{b="{{c}}"})'),)),
            "variable",
        ),
    ],
)
def test_what_ome_can_not_hold_is_refused(policy, says):
    """No object, and the reason is the loss."""
    assert not policies(policy)
    (loss,) = export(policy, "ome").losses
    assert says in loss.text


def test_the_first_lines_say_how_it_is_applied():
    """At most six, the policies before the patch that names them."""
    files = export(full_policy(recommended=False), "ome").files
    lines = [line for line in files["prod.chat.autoscalerpolicies.yaml"].splitlines() if line.startswith("#")]
    assert len(lines) <= 6
    assert "--patch-file prod.chat.inferenceservice.yaml" in lines[-2]


def test_the_patch_names_todays_policy_where_its_name_is_kept():
    """A policy that takes the place of one is called like that."""
    options = ExportOptions(todays={"decode": TodaysObject("AutoscalerPolicy", "my-decode", "prod")})
    (patch,) = documents(full_policy(), "inferenceservice.yaml", options)
    named = [part["autoscalerPolicyRef"]["name"] for part in patch["spec"].values()]
    written = documents(full_policy(), "autoscalerpolicies.yaml", options)
    assert named == [body["metadata"]["name"] for body in written]
    assert "my-decode" in named

"""The merge patch of an LLMInferenceService: what the CRD takes, what it says, how it is applied."""

import json
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES, objects

from hs_analysis.export import ExportOptions, export
from hs_analysis.export.kserve import lint_kserve
from hs_analysis.export.model import load_documents
from hs_analysis.policy.model import Bounds

SCHEMA = json.loads((Path(__file__).parent / "kserve.schema.json").read_text("utf-8"))
SCALED = [name for name, policy in POLICIES.items() if policy.bounds]


def written(policy, options=None):
    texts = export(policy, "kserve", options).files
    return next((text for name, text in texts.items() if name.endswith("llminferenceservice.yaml")), "")


def body_of(policy):
    (body,) = load_documents(written(policy))
    return body


@pytest.mark.parametrize("name", SCALED)
def test_every_patch_passes_the_strict_schema_and_the_lint(name):
    """No field that the CRD does not know, none missing; a timetable too."""
    body = body_of(POLICIES[name])
    jsonschema.validate(body, SCHEMA)
    assert lint_kserve(body) == []


@pytest.mark.parametrize("name", SCALED)
def test_each_role_has_the_scaling_of_its_scaled_object(name):
    """Read back as ScaledObjects of KEDA: the same triggers, fallback, behaviour and counts."""
    policy = POLICIES[name]
    alone, spec = objects(policy), body_of(policy)["spec"]
    for role, place in (("decode", spec), ("prefill", spec.get("prefill", {}))):
        scaled = alone[f"chat-{role}"]["spec"]
        scaling = place["scaling"]
        assert scaling["keda"]["triggers"] == scaled["triggers"]
        assert scaling["keda"].get("fallback") == scaled.get("fallback")
        assert scaling["keda"]["advanced"] == scaled["advanced"]
        assert scaling["minReplicas"] == max(1, scaled["minReplicaCount"])
        assert scaling["maxReplicas"] == scaled["maxReplicaCount"]


def test_a_fixed_count_is_deleted_with_the_patch():
    """Replicas and scaling of a role exclude each other, so that null stands beside each scaling."""
    spec = body_of(full_policy())["spec"]
    assert (spec["replicas"], spec["prefill"]["replicas"]) == (None, None)
    assert lint_kserve({**body_of(full_policy()), "spec": {**spec, "replicas": 3}})


def test_a_mutated_key_fails_the_lint():
    """Renaming any single key is caught by our own check alone."""
    body = body_of(full_policy())
    for path, broken in renamed_keys(body):
        if path != ("metadata", "namespace"):
            assert lint_kserve(broken), path


def keda_of(body):
    return body["spec"]["scaling"]["keda"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["spec"]["scaling"].update(minReplicas=0), "minReplicas 0"),
        (lambda b: b["spec"]["scaling"].update(minReplicas=25), "min ≤ max"),
        (lambda b: b["spec"]["scaling"].update(wva={}), "wva is unknown"),
        (lambda b: keda_of(b)["fallback"].update(behavior="scalingModifiers"), "not one of"),
        (
            lambda b: keda_of(b)["advanced"]["horizontalPodAutoscalerConfig"].update(name="x"),
            "name is unknown",
        ),
        (lambda b: keda_of(b).update(triggers=[]), "needs 1"),
        (lambda b: keda_of(b).pop("fallback"), "fallback is missing"),
        (lambda b: b.update(apiVersion="serving.kserve.io/v1alpha1"), "apiVersion and kind"),
    ],
)
def test_the_lint_repeats_the_rules_of_the_crd(change, says):
    """CEL rules and what a cluster would misread are found and named."""
    body = body_of(full_policy())
    change(body)
    assert any(says in problem for problem in lint_kserve(body)), lint_kserve(body)


def test_a_role_without_bounds_gets_no_scaling_and_a_loss():
    """maxReplicas is required, and no number is made up for it."""
    policy = full_policy(bounds={"decode": Bounds(0, 24)})
    made = export(policy, "kserve")
    assert "prefill" not in body_of(policy)["spec"]
    assert any(loss.kind == "refused" and "prefill has no bounds" in loss.text for loss in made.losses)
    assert any(loss.item == "bounds.decode.min" for loss in made.losses)


def test_nothing_is_written_on_hold():
    """The refusals are the loss."""
    policy = full_policy(mode="hold")
    assert not written(policy)
    (loss,) = export(policy, "kserve").losses
    assert "too few episodes" in loss.text


def test_the_first_lines_say_how_it_is_applied():
    """At most six, with the command: applied as a whole the patch would lack the service's own fields."""
    text = written(
        full_policy(recommended=False),
        ExportOptions(namespace="llm", serving={"LLMInferenceService": "chat"}),
    )
    lines = [line for line in text.splitlines() if line.startswith("#")]
    assert len(lines) <= 6
    assert "kubectl patch llminferenceservice chat -n llm --type merge" in lines[-2]

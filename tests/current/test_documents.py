"""Manifest files: which objects are found, at which line, and what is refused with its place."""

import json

import pytest

from hs_analysis.current import read_manifests
from hs_analysis.errors import InputError

HPA = (
    "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {maxReplicas: 3}\n"
)
KEDA = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: b}\nspec: {}\n"


def test_objects_are_found_with_their_lines():
    """Several documents, other objects between them."""
    text = f"{HPA}---\napiVersion: v1\nkind: Service\n---\n{KEDA}---\nmode: disagg\nmax_gpu_budget: 8\n"
    found = read_manifests(text, "f.yaml")
    assert [(one.kind, one.where) for one in found] == [
        ("HorizontalPodAutoscaler", "f.yaml:1"),
        ("ScaledObject", "f.yaml:9"),
        ("Dynamo planner", "f.yaml:14"),
    ]


def test_json_and_lists_are_read():
    """What kubectl get -o json gives."""
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [body, {"kind": "Pod"}]}, indent=1)
    (found,) = read_manifests(text, "f.json")
    assert (found.body["apiVersion"], found.where) == ("autoscaling/v2", "f.json:5")


def test_a_planner_inside_a_deployment_request_is_read():
    """spec.features.planner of a DynamoGraphDeploymentRequest."""
    text = "kind: DynamoGraphDeploymentRequest\nspec: {features: {planner: {mode: disagg}}}\n"
    (found,) = read_manifests(text, "f")
    assert (found.kind, found.body) == ("Dynamo planner", {"mode": "disagg"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HPA.replace("3", "{{ .Values.max }}"), "f:4: a template"),
        (HPA.replace("name: a", "name: ${NAME}"), "f:3: a template"),
        (HPA.replace("v2", "v2beta2"), "f:1: apiVersion autoscaling/v2beta2, only autoscaling/v2"),
        ("kind: Service\n---\nkind: Pod\n", "f: holds no autoscaler, but Service, Pod"),
        ("", "f: is empty"),
        ("a: [1\nb: 2\n", "f:1: no YAML or JSON: a bracket is not closed"),
        ("- 1\n", "f: expected an object"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(text, says):
    """File and line, one sentence, what next."""
    with pytest.raises(InputError) as caught:
        read_manifests(text, "f")
    assert caught.value.line().startswith(says)

"""Parts that an API refuses: one line that says what is wrong and where, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from current.test_translate import KNOWN, TOKENS

from hs_analysis.catalogue import load_catalogue
from hs_analysis.current import (
    read_definitions,
    read_grace_periods,
    read_manifests,
    todays_objects,
    translate,
)
from hs_analysis.errors import HsError, InputError

CATALOGUE = load_catalogue()
META = {"name": "chat-decode", "namespace": "demo", "labels": {"role": "decode"}, "annotations": {"a": "b"}}
STEPS = {"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "tolerance": "0.1", "policies": [
    {"type": "Pods", "value": 4, "periodSeconds": 60}]}  # fmt: skip
BEHAVIOR = {"scaleUp": STEPS, "scaleDown": {"stabilizationWindowSeconds": 300}}
SELECTED = {"name": "tokens", "selector": {"matchLabels": {"role": "decode"}}}
TARGET = {"type": "AverageValue", "averageValue": "900"}
ASKED = {"metric": SELECTED, "target": TARGET}
TRIGGER = {"type": "prometheus", "name": "a", "metricType": "AverageValue", "metadata": {
    "serverAddress": "http://p", "query": TOKENS, "threshold": "9", "activationThreshold": "1"}}  # fmt: skip
CRON = {"type": "cron", "name": "b", "metadata": {
    "timezone": "UTC", "start": "0 8 * * 1", "end": "0 9 * * 1", "desiredReplicas": "6"}}  # fmt: skip
KEDA = {"triggers": [TRIGGER, CRON], "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}}}
FORMULA = {"formula": "a", "target": "900", "metricType": "AverageValue", "activationTarget": "1"}
NAMED = {"name": "chat-decode", "kind": "Deployment", "apiVersion": "apps/v1"}
SCALED = {"maxReplicas": 9, "minReplicas": 1}
SLO = [{"type": "prometheus", "name": name, "metadata": {"query": "up"}}
       for name in ("saturation", "replicas", "readyReplicas")]  # fmt: skip


def thing(api: str, kind: str, spec: Any) -> dict[str, Any]:
    """Return an object."""
    return {"apiVersion": api, "kind": kind, "metadata": META, "spec": spec}


ROLE = {**SCALED, "metrics": [{"name": "tps", "targetValue": "1200"}],
        "metricSources": {"tps": {"prometheus": {"serverURL": "x", "query": TOKENS}}}}  # fmt: skip
OBJECTS = {
    "hpa": thing("autoscaling/v2", "HorizontalPodAutoscaler", {**SCALED, "scaleTargetRef": NAMED, "metrics": [
        {"type": "External", "external": ASKED},
        {"type": "Pods", "pods": ASKED},
        {"type": "Object", "object": {**ASKED, "describedObject": NAMED}},
        {"type": "Resource", "resource": {"name": "cpu", "target": TARGET}},
    ], "behavior": BEHAVIOR}),
    "keda": thing("keda.sh/v1alpha1", "ScaledObject", {**KEDA, "scaleTargetRef": NAMED, "fallback": {
        "failureThreshold": 3, "replicas": 4, "behavior": "static"}, "idleReplicaCount": 0}),
    "formula": thing("keda.sh/v1alpha1", "ScaledObject", {
        **KEDA, "advanced": {"scalingModifiers": FORMULA}, "scaleTargetRef": NAMED}),
    "slo": thing("keda.sh/v1alpha1", "ScaledObject", {
        "triggers": SLO, "advanced": {"scalingModifiers": FORMULA}, "scaleTargetRef": NAMED}),
    "kthena": thing("workload.serving.volcano.sh/v1alpha1", "AutoscalingPolicy", {
        "tolerancePercent": 10,
        "disaggregatedTarget": {"roles": {"prefill": ROLE, "decode": ROLE}, "ratioConstraint": {
            "numeratorRole": "prefill", "minRatio": "1", "maxRatio": "2"}},
        "behavior": {"scaleUp": {"panicPolicy": {"period": "30s"}, "stablePolicy": {"period": "30s"}},
                     "scaleDown": {"period": "30s", "percent": 0, "selectPolicy": "And"}}}),
    "aibrix": thing("autoscaling.aibrix.ai/v1alpha1", "PodAutoscaler", {
        **SCALED, "scalingStrategy": "KPA", "subTargetSelector": {"roleName": "decode"}, "metricsSources": [
            {"metricSourceType": "external", "targetMetric": "tokens", "targetValue": "900"}]}),
    "kserve": thing("serving.kserve.io/v1alpha1", "LLMInferenceService", {
        "scaling": {**SCALED, "keda": {"triggers": [TRIGGER]}},
        "prefill": {"scaling": {**SCALED, "keda": {"triggers": [CRON]}}}}),
    "ome": thing("ome.io/v1beta1", "InferenceService", {
        "engine": {**SCALED, "autoscalerPolicyRef": {"name": "chat-decode"}},
        "decoder": {**SCALED, "autoscalerPolicyRef": {"name": "chat-decode"}}}),
    "ome_policy": thing("ome.io/v1beta1", "AutoscalerPolicy", {
        "class": "KEDA", "keda": {"triggers": [TRIGGER]}}),
    "dynamo": {"mode": "disagg", "optimization_target": "load", "prefill_scale_up_queue_tokens": 10,
               "prefill_scale_down_queue_tokens": 5, "decode_scale_up_kv_rate": 80,
               "decode_scale_down_kv_rate": 60, "max_gpu_budget": 8, "min_endpoint": 1, "ttft": 500},
    "records": {"groups": [{"name": "g", "rules": [
        {"record": "pool:tokens", "expr": TOKENS, "labels": {"role": "decode"}}]}]},
    "adapter": {"externalRules": [{
        "seriesQuery": "vllm:generation_tokens_total", "name": {"as": "tokens", "matches": "x"},
        "seriesFilters": [{"is": "x"}], "metricsQuery": "sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m]))",
        "resources": {"template": "x", "overrides": {"pod": {"resource": "pod"}}}}]},
    "list": {"kind": "List", "items": [thing("keda.sh/v1alpha1", "ScaledObject", {"triggers": [TRIGGER]})]},
}  # fmt: skip
OBJECTS["config_map"] = {"kind": "ConfigMap", "data": {"config.yaml": json.dumps(OBJECTS["adapter"])}}
"""An object of each kind with all that is read of it, and what stands beside them."""
BESIDE = {"ome": ("ome_policy",), "ome_policy": ("ome",), "hpa": ("adapter",), "aibrix": ("adapter",),
          "adapter": ("hpa",), "records": ("keda",), "config_map": ("hpa",)}  # fmt: skip
WRONG: tuple[Any, ...] = ("x", [["x"]], {"x": "y"}, None)


def mutants(body: Any) -> Iterator[tuple[str, Any]]:
    """Yield an object with each of its parts replaced, and which it is."""
    for path in _paths(body):
        for wrong in WRONG:
            whole = copy.deepcopy(body)
            part = whole
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = wrong
            yield f"{'.'.join(map(str, path))} = {wrong!r}", whole


def _paths(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in below:
        yield from _paths(value, (*path, key))


def read(*bodies: Any) -> None:
    """Do everything that is done with a file of ``--current``."""
    texts = [json.dumps(body) for body in bodies]
    rules = [read_definitions(text, "f") for text in texts]
    manifests = [(one, "") for text in texts for one in read_manifests(text, "f")]
    for text in texts:
        read_grace_periods(text, "f")
    todays_objects(manifests, KNOWN.pools)
    translate(manifests, KNOWN, CATALOGUE, sum(rules[1:], rules[0]))


@pytest.mark.parametrize("name", OBJECTS)
def test_a_part_of_another_shape_is_an_error_that_says_so(name: str) -> None:
    """Whatever it is replaced by; what is no error is read or noted."""
    beside = [OBJECTS[other] for other in BESIDE.get(name, ())]
    read(OBJECTS[name], *beside)
    failed = []
    for said, body in mutants(OBJECTS[name]):
        try:
            read(body, *beside)
        except HsError:
            continue
        except Exception as error:
            failed.append(f"{said}: {error!r}")
    assert failed == []


def test_the_error_says_the_place_and_what_next() -> None:
    """One line, with the file and its line."""
    body = copy.deepcopy(OBJECTS["hpa"])
    body["spec"]["metrics"] = "cpu"
    with pytest.raises(InputError, match=r"^f:1: spec\.metrics is no list; .* kubectl get -o yaml$"):
        read_manifests(json.dumps(body), "f")

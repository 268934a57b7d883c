"""The shape of the autoscalers that users bring: HorizontalPodAutoscaler and ScaledObject, whole.

What is exported is checked by its target, more strictly. Here everything passes that the API server and
KEDA's webhook take, so that a fault is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.current.kubernetes import quantity
from hs_analysis.export import shape
from hs_analysis.export.kubernetes import MAX_PERIOD_S, MAX_STABILISATION_S
from hs_analysis.export.shape import Check

_SWITCH = shape.choice(True, False)
_TEXTS = shape.named(shape.text, 0)


def _quantity(value: Any, where: str) -> list[str]:
    """Check a quantity above zero, as a number or as a text."""
    number = None if isinstance(value, bool) else quantity(value)
    return [] if number is not None and number > 0 else [f"{where} {value!r} is no quantity above 0"]


def _zero(value: Any, where: str) -> list[str]:
    """Check a quantity from zero on."""
    return [] if value in (0, "0") else _quantity(value, where)


_SIDE = shape.keys(
    {},
    {
        "stabilizationWindowSeconds": shape.whole(0, MAX_STABILISATION_S),
        "selectPolicy": shape.choice("Max", "Min", "Disabled"),
        "tolerance": _zero,
        "policies": shape.listed(
            shape.keys(
                {
                    "type": shape.choice("Pods", "Percent"),
                    "value": shape.whole(1),
                    "periodSeconds": shape.whole(1, MAX_PERIOD_S),
                }
            )
        ),
    },
)
_BEHAVIOR = shape.keys({}, {"scaleUp": _SIDE, "scaleDown": _SIDE})

_TARGET = shape.keys(
    {"type": shape.choice("Utilization", "Value", "AverageValue")},
    {"value": _quantity, "averageValue": _quantity, "averageUtilization": shape.whole(1)},
)
_SELECTED = shape.keys(
    {"name": shape.text},
    {
        "selector": shape.keys(
            {}, {"matchLabels": _TEXTS, "matchExpressions": shape.listed(shape.anything, 0)}
        )
    },
)
_REFERENCE = shape.keys({"kind": shape.text, "name": shape.text}, {"apiVersion": shape.text})
_PARTS: Mapping[str, tuple[str, Check]] = {
    "Resource": ("resource", shape.keys({"name": shape.text, "target": _TARGET})),
    "ContainerResource": (
        "containerResource", shape.keys({"name": shape.text, "container": shape.text, "target": _TARGET}),
    ),
    "Pods": ("pods", shape.keys({"metric": _SELECTED, "target": _TARGET})),
    "Object": ("object", shape.keys({"describedObject": _REFERENCE, "metric": _SELECTED, "target": _TARGET})),
    "External": ("external", shape.keys({"metric": _SELECTED, "target": _TARGET})),
}  # fmt: skip
"""Type of a metric → the key of its fields, and their check."""

_ANY_METRIC = shape.keys({"type": shape.choice(*_PARTS)}, {key: shape.anything for key, _ in _PARTS.values()})

_VALUES = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}


def _metric(value: Any, where: str) -> list[str]:
    kind = str(value.get("type")) if isinstance(value, Mapping) else ""
    if kind not in _PARTS:
        return _ANY_METRIC(value, where)
    key, check = _PARTS[kind]
    found = shape.keys({"type": shape.text, key: check})(value, where)
    target = (value.get(key) or {}).get("target") if isinstance(value.get(key), Mapping) else None
    if not found and isinstance(target, Mapping):
        wanted = _VALUES[target["type"]]
        if wanted not in target:
            found.append(f"{where}.{key}.target.{wanted} is missing")
        if kind == "External" and target["type"] == "Utilization":
            found.append(f"{where}.{key}.target.type Utilization is for resources")
    return found


_HPA = shape.keys(
    {"scaleTargetRef": _REFERENCE, "maxReplicas": shape.whole(1)},
    {"minReplicas": shape.whole(0), "metrics": shape.listed(_metric, 0), "behavior": _BEHAVIOR},
)

_TRIGGER = shape.keys(
    {"type": shape.text, "metadata": shape.named(shape.anything)},
    {
        "name": shape.text,
        "metricType": shape.choice("AverageValue", "Value", "Utilization"),
        "authenticationRef": shape.keys(
            {"name": shape.text},
            {"kind": shape.choice("TriggerAuthentication", "ClusterTriggerAuthentication")},
        ),
        "useCachedMetrics": _SWITCH,
    },
)  # fmt: skip
_KEDA = shape.keys(
    {
        "scaleTargetRef": shape.keys(
            {"name": shape.text},
            {"kind": shape.text, "apiVersion": shape.text, "envSourceContainerName": shape.text},
        ),
        "triggers": shape.listed(_TRIGGER),
    },
    {
        "pollingInterval": shape.whole(1),
        "cooldownPeriod": shape.whole(0),
        "initialCooldownPeriod": shape.whole(0),
        "idleReplicaCount": shape.whole(0),
        "minReplicaCount": shape.whole(0),
        "maxReplicaCount": shape.whole(1),
        "fallback": shape.keys(
            {"failureThreshold": shape.whole(0), "replicas": shape.whole(0)},
            {
                "behavior": shape.choice(
                    "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower",
                    "scalingModifiers",
                )
            },
        ),
        "advanced": shape.keys(
            {},
            {
                "restoreToOriginalReplicaCount": _SWITCH,
                "horizontalPodAutoscalerConfig": shape.keys({}, {"name": shape.text, "behavior": _BEHAVIOR}),
                "scalingModifiers": shape.keys(
                    {"formula": shape.text, "target": shape.text},
                    {
                        "activationTarget": shape.text,
                        "metricType": shape.choice("AverageValue", "Value"),
                    },
                ),
            },
        ),
    },
)  # fmt: skip

_METADATA = {
    "prometheus": (
        ("serverAddress", "query", "threshold"),
        ("activationThreshold", "authModes", "awsRegion", "customHeaders", "identityOwner",
         "ignoreNullValues", "namespace", "queryParameters", "timeout", "unsafeSsl"),
    ),
    "cron": (("timezone", "start", "end", "desiredReplicas"), ()),
}  # fmt: skip
"""Type of a trigger → metadata that it needs, and that it takes beside. Other types are not looked into."""

KEDA_MOST = 100
"""``maxReplicaCount`` where it is left out [instances]."""


def hpa_faults(body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an HPA of a user's, one sentence a problem, each with its path."""
    found = _top(body) + _HPA(body.get("spec"), "spec")
    if found:
        return found
    spec = body["spec"]
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    return [f"spec.minReplicas {least} is above maxReplicas {most}"] if least > most else []


def scaled_object_faults(body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a ScaledObject of a user's, one sentence a problem, each with its path."""
    found = _top(body) + _KEDA(body.get("spec"), "spec")
    if found:
        return found
    spec = body["spec"]
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", KEDA_MOST)
    if least > most:
        found.append(f"spec.minReplicaCount {least} is above maxReplicaCount {most}")
    if "idleReplicaCount" in spec and spec["idleReplicaCount"] >= least:
        found.append(f"spec.idleReplicaCount {spec['idleReplicaCount']} is not below minReplicaCount {least}")
    for number, trigger in enumerate(spec["triggers"]):
        found += _trigger_faults(trigger, f"spec.triggers[{number}]")
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers")
    nameless = [number for number, trigger in enumerate(spec["triggers"]) if not trigger.get("name")]
    if modifiers and nameless:
        found.append(f"spec.triggers[{nameless[0]}].name is missing, and the formula needs it")
    return found


def _trigger_faults(trigger: Mapping[str, Any], where: str) -> list[str]:
    metadata = trigger["metadata"]
    found = [
        f"{where}.metadata.{key} {value!r} is no text: put it in quotes"
        for key, value in metadata.items()
        if not isinstance(value, str)
    ]
    if trigger["type"] not in _METADATA:
        return found
    needed, more = _METADATA[trigger["type"]]
    check = shape.keys(dict.fromkeys(needed, shape.anything), dict.fromkeys(more, shape.anything))
    found += check(metadata, f"{where}.metadata")
    for key in ("threshold", "activationThreshold"):
        text = metadata.get(key)
        if isinstance(text, str) and quantity(text) is None:
            found.append(f"{where}.metadata.{key} {text!r} is no number")
    return found


def _top(body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong around ``spec``; what the cluster adds is taken."""
    named = shape.keys({"name": shape.text}, dict.fromkeys(
        ("namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp",
         "managedFields", "finalizers", "ownerReferences", "selfLink", "deletionTimestamp", "generateName"),
        shape.anything,
    ))  # fmt: skip
    around = {"apiVersion": shape.text, "kind": shape.text, "metadata": named, "spec": shape.anything}
    return shape.keys(around, {"status": shape.anything})(body, "")

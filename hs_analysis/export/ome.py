"""OME: an AutoscalerPolicy a component, and the merge patch of the InferenceService that uses them.

OME makes a ScaledObject of each policy and takes the bounds and the name of Prometheus from elsewhere. Its
fallback knows counts only, so that none is written: without one a failing query leaves the HPA that KEDA
keeps without a metric, and the count holds. The checks are those of the CRD ome.io/v1beta1 (1.3, alpha) and
of its documentation, which is all that is known of the InferenceService here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hs_analysis.export import blanks, keda, kubernetes, model, rules, shape, translated
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Policy

TITLE = "OME AutoscalerPolicy ome.io/v1beta1 (checked against 1.3, alpha)"
KIND = ("ome.io/v1beta1", "AutoscalerPolicy")
SERVICE = ("ome.io/v1beta1", "InferenceService")
OME_SUFFIX = "autoscalerpolicies.yaml"
SERVICE_SUFFIX = "inferenceservice.yaml"
TARGET: Final = "ome"

COMPONENTS = {"prefill": "engine", "decode": "decoder", "mixed": "engine"}
"""Role → component of an InferenceService."""

_OWN = ("serverAddress", "authModes")
"""Metadata that OME sets from the provider and refuses in a trigger."""

_MULTI_NODE = "OME scales no component whose instances are groups of pods (MultiNode)"
_VARIABLE = "a query holds {{, which OME reads as a variable of its own"
_NO_BOUNDS = "no policy: the component needs maxReplicas, and {role} has no bounds"
_NO_ZERO = "{role} keeps 1: a component with a policy alone may not go to 0"
_MISSING = "without its metric the HPA that KEDA keeps holds the count: OME's fallback knows counts only"


def export_ome(policy: Policy, options: ExportOptions) -> Export:
    """Return the policies, the patch that attaches them with bounds, and the recording rules, with losses.

    Nothing is written in mode hold and for instances that are groups of pods.
    """
    why = translated.refusal(policy, "OME", timetable=True)
    if not why and policy.unit == "group":
        why = _MULTI_NODE
    if why:
        return translated.refused(policy, options, TARGET, why)
    objects, origins, losses = keda.objects_of(policy, options)
    losses += [one for role in objects if role not in policy.bounds for one in _unbounded(policy, role)]
    scaled = {role: body for role, body in objects.items() if role in policy.bounds}
    if not scaled:
        return translated.refused(policy, options, TARGET, translated.NOTHING_SIZED)
    if any("{{" in text for body in scaled.values() for text in _texts(body["spec"])):
        return translated.refused(policy, options, TARGET, _VARIABLE)
    losses = translated.replaced(losses, "on_missing_metric")
    losses.append(Loss("on_missing_metric", "approximated", _MISSING))
    losses += kubernetes.unsized(policy, set(scaled))
    for role in scaled:
        if policy.bounds[role].min < 1:
            losses.append(Loss(f"bounds.{role}.min", "approximated", _NO_ZERO.format(role=role)))
    found = model.concerning(losses, policy, options.costs)
    made = {role: _policy(policy, role, body["spec"], options) for role, body in scaled.items()}
    stem = model.file_stem(policy.service)
    patch = _patch(policy, made, options)
    head = model.header(
        policy, options, TITLE, found, [*(["; ".join(origins)] if origins else []), _check_line(stem, patch)]
    )
    files = dict(rules.export_rules(policy, options).files)
    files[f"{stem}.{OME_SUFFIX}"] = head + model.dump_documents([*made.values()])
    head = model.header(policy, options, "OME InferenceService ome.io/v1beta1, merge patch")
    files[f"{stem}.{SERVICE_SUFFIX}"] = head + model.dump_documents([patch])
    return Export(TARGET, files, found)


def _unbounded(policy: Policy, role: str) -> list[Loss]:
    return kubernetes.unbounded(policy, role, _NO_BOUNDS)


def _policy(policy: Policy, role: str, spec: Mapping[str, Any], options: ExportOptions) -> dict[str, Any]:
    """Return the AutoscalerPolicy of a component from the ScaledObject of its role."""
    triggers = [_trigger(trigger) for trigger in spec["triggers"]]
    body = {"class": "KEDA", "keda": {"triggers": triggers, "advanced": spec["advanced"]}}
    return kubernetes.manifest(policy, role, options, KIND, body)


def _texts(spec: Mapping[str, Any]) -> list[str]:
    """Return the texts in which OME puts its variables."""
    return [text for trigger in spec["triggers"] for text in trigger["metadata"].values()]


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger without a name and, on Prometheus, with a provider in place of an address."""
    metadata = {key: text for key, text in trigger["metadata"].items() if key not in _OWN}
    found: dict[str, Any] = {"type": trigger["type"]}
    if trigger["type"] == "prometheus":
        found |= {"providerRef": {"name": blanks.PROVIDER}, "metricType": trigger["metricType"]}
    return found | {"metadata": metadata}


def _patch(policy: Policy, made: Mapping[str, Any], options: ExportOptions) -> dict[str, Any]:
    """Return the patch of the components whose policies were made."""
    spec = {}
    for role, body in made.items():
        bounds = policy.bounds[role]
        spec[COMPONENTS[role]] = {
            "minReplicas": max(1, bounds.min),
            "maxReplicas": max(1, bounds.max),
            "autoscalerPolicyRef": {"name": body["metadata"]["name"]},
        }
    patch = kubernetes.manifest(policy, "", options, SERVICE, spec)
    patch["metadata"]["name"] = options.serving_name(SERVICE[1])
    return patch


def _check_line(stem: str, patch: Mapping[str, Any]) -> str:
    named = "{name} -n {namespace}".format(**patch["metadata"])
    return (
        f"Check namespace and provider (ome.metricProviders), delete OME's HPA of a component, "
        f"then apply this and: kubectl patch inferenceservice.ome.io {named} --type merge --patch-file "
        f"{stem}.{SERVICE_SUFFIX}"
    )


_CONFIG = shape.keys({"behavior": kubernetes.BEHAVIOR})
_TRIGGER = shape.keys(
    {"type": shape.choice("prometheus", "cron"), "metadata": shape.named(shape.text)},
    {"providerRef": shape.keys({"name": shape.text}), "metricType": shape.choice("AverageValue", "Value")},
)
_SPEC = shape.keys(
    {
        "class": shape.choice("KEDA"),
        "keda": shape.keys(
            {"triggers": shape.listed(_TRIGGER)},
            {"advanced": shape.keys({"horizontalPodAutoscalerConfig": _CONFIG})},
        ),
    }
)
_COMPONENT = shape.keys(
    {
        "minReplicas": shape.whole(1),
        "maxReplicas": shape.whole(1),
        "autoscalerPolicyRef": shape.keys({"name": shape.text}),
    }
)
_SERVICE = shape.keys({}, {"engine": _COMPONENT, "decoder": _COMPONENT})


def lint_policies(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an AutoscalerPolicy of class KEDA, one sentence a problem."""
    found = kubernetes.identity_problems(manifest, KIND) + _SPEC(manifest.get("spec"), "spec")
    if found:
        return found
    for place, trigger in enumerate(manifest["spec"]["keda"]["triggers"]):
        found += [f"triggers[{place}]: {text}" for text in _trigger_problems(trigger)]
    return found


def _trigger_problems(trigger: Mapping[str, Any]) -> list[str]:
    metadata = trigger["metadata"]
    if trigger["type"] != "prometheus":
        return keda.trigger_problems(trigger)
    found = [f"metadata.{key} is the provider's" for key in _OWN if key in metadata]
    if "providerRef" not in trigger:
        found.append("providerRef is missing")
    if any("{{" in text for text in metadata.values()):
        found.append("{{ starts a variable of OME's, and none is used")
    # The address is the provider's; everything else is a trigger of KEDA.
    whole = {"serverAddress": "of the provider", **metadata}
    return found + keda.trigger_problems({**trigger, "metadata": whole})


def lint_service(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the patch of an InferenceService, one sentence a problem."""
    found = kubernetes.identity_problems(manifest, SERVICE) + _SERVICE(manifest.get("spec"), "spec")
    if found:
        return found
    if not manifest["spec"]:
        return ["spec names no component"]
    counts = [(name, one["minReplicas"], one["maxReplicas"]) for name, one in manifest["spec"].items()]
    text = "{}: replica counts {} to {} are not min ≤ max"
    return [text.format(*one) for one in counts if one[1] > one[2]]

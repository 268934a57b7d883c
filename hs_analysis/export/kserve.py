"""KServe: a merge patch that gives an LLMInferenceService's roles the scaling of the policy's ScaledObjects.

KServe writes and owns one ScaledObject a role, so one of ours beside it would fight with it over the same
workload. The checks are those of the CRD serving.kserve.io/v1alpha2 with direct ``keda`` (kserve/kserve#5839,
August 2026). Before it ``keda`` stood under ``wva``, an autoscaler that has ended: older versions refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hs_analysis.export import keda, kubernetes, model, rules, shape, translated
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Policy

TITLE = "KServe LLMInferenceService serving.kserve.io/v1alpha2, merge patch (checked against August 2026)"
KIND = ("serving.kserve.io/v1alpha2", "LLMInferenceService")
KSERVE_SUFFIX = "llminferenceservice.yaml"
TARGET: Final = "kserve"

_NEEDS = "Needs a KServe with scaling.keda (kserve/kserve#5839): older ones demand wva and refuse this."
_NO_BOUNDS = "no scaling: maxReplicas is required, and {role} has no bounds"
_UNIT = "KServe scales the role's Deployment, or its LeaderWorkerSet where the role has workers"
_NO_ZERO = "KServe keeps at least 1 of {role}"
_WRITTEN = ("advanced", "fallback", "triggers")
"""Keys of a ScaledObject that stand under ``keda`` as they are."""


def export_kserve(policy: Policy, options: ExportOptions) -> Export:
    """Return the patch of a policy and its recording rules, with everything that they do not say.

    ``spec.scaling`` is that of decode, or of the only pool; ``spec.prefill.scaling`` that of prefill. In mode
    hold nothing is written.
    """
    why = translated.refusal(policy, "KServe", timetable=True)
    if why:
        return translated.refused(policy, options, TARGET, why)
    objects, origins, losses = keda.objects_of(policy, options)
    spec: dict[str, Any] = {}
    losses.append(Loss("unit", "approximated", _UNIT))
    for role, body in objects.items():
        if role not in policy.bounds:
            losses += kubernetes.unbounded(policy, role, _NO_BOUNDS)
            continue
        place = spec.setdefault("prefill", {}) if role == "prefill" else spec
        # A merge patch deletes what is null: a fixed count and scaling exclude each other.
        place["replicas"] = None
        place["scaling"] = _scaling(body["spec"])
        if policy.bounds[role].min < 1:
            losses.append(Loss(f"bounds.{role}.min", "approximated", _NO_ZERO.format(role=role)))
    losses += kubernetes.unsized(policy, objects.keys() & policy.bounds.keys())
    if not spec:
        return translated.refused(policy, options, TARGET, translated.NOTHING_SIZED)
    found = model.concerning(losses, policy, options.costs)
    body = _patch(policy, options, spec)
    files = dict(rules.export_rules(policy, options).files)
    name = f"{model.file_stem(policy.service)}.{KSERVE_SUFFIX}"
    head = model.header(policy, options, TITLE, found, [*_origins(origins), _apply(body, name)])
    files[name] = head + model.dump_documents([body])
    return Export(TARGET, files, found)


def _patch(policy: Policy, options: ExportOptions, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch with decode first, as the service writes it."""
    ordered = {key: spec[key] for key in ("replicas", "scaling", "prefill") if key in spec}
    body = kubernetes.manifest(policy, "", options, KIND, ordered)
    body["metadata"]["name"] = options.serving_name(KIND[1])
    return body


def _origins(origins: list[str]) -> list[str]:
    return ["; ".join(origins)] if origins else []


def _apply(body: Mapping[str, Any], file: str) -> str:
    named = "{name} -n {namespace}".format(**body["metadata"])
    return (
        f"{_NEEDS} Check serverAddress and names, then: kubectl patch llminferenceservice {named} "
        f"--type merge --patch-file {file}"
    )


def _scaling(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``scaling`` of a role; what acts only on the way to zero is left out, as KServe keeps one."""
    return {
        "minReplicas": max(1, spec["minReplicaCount"]),
        "maxReplicas": spec["maxReplicaCount"],
        "keda": {key: spec[key] for key in _WRITTEN if key in spec},
    }


_FALLBACK = shape.keys(
    {"failureThreshold": shape.whole(1), "replicas": shape.whole(0)},
    {
        "behavior": shape.choice(
            "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"
        )
    },
)
_TRIGGER = shape.keys(
    {"type": shape.text, "metadata": shape.named(shape.text)},
    {
        "name": shape.text,
        "metricType": shape.choice("AverageValue", "Value"),
        "authenticationRef": shape.keys({"name": shape.text}, {"kind": shape.text}),
    },
)
_SCALING = shape.keys(
    {
        "minReplicas": shape.whole(1),
        "maxReplicas": shape.whole(1),
        "keda": shape.keys(
            {"triggers": shape.listed(_TRIGGER)},
            {
                "fallback": _FALLBACK,
                "advanced": shape.keys(
                    {"horizontalPodAutoscalerConfig": shape.keys({"behavior": kubernetes.BEHAVIOR})}
                ),
            },
        ),
    }
)


def lint_kserve(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a patch of an LLMInferenceService's scaling, one sentence a problem."""
    found = kubernetes.identity_problems(manifest, KIND)
    spec = manifest.get("spec") or {}
    found += [f"spec.{key} is unknown" for key in sorted(set(spec) - {"replicas", "scaling", "prefill"})]
    places = {"spec": spec, "spec.prefill": spec.get("prefill")}
    scaled = {where: body for where, body in places.items() if body and set(body) & {"scaling", "replicas"}}
    if not scaled:
        found.append("no role has scaling")
    if "prefill" in spec:
        more = sorted(set(spec["prefill"] or {}) - {"replicas", "scaling"})
        found += [f"spec.prefill.{key} is unknown" for key in more]
    for where, body in scaled.items():
        found += _role_problems(body, where)
    return found


def _role_problems(body: Mapping[str, Any], where: str) -> list[str]:
    if body.get("replicas", "left out") is not None:
        return [f"{where}.replicas is not null, and excludes {where}.scaling"]
    found = _SCALING(body.get("scaling"), f"{where}.scaling")
    if found:
        return found
    scaling = body["scaling"]
    least, most = scaling["minReplicas"], scaling["maxReplicas"]
    if least > most:
        found.append(f"{where}: replica counts {least} to {most} are not min ≤ max")
    triggers = scaling["keda"]["triggers"]
    for place, trigger in enumerate(triggers):
        found += [
            f"{where}.scaling.keda.triggers[{place}]: {text}" for text in keda.trigger_problems(trigger)
        ]
    return found + [f"{where}: {text}" for text in keda.fallback_problems(scaling["keda"], triggers)]

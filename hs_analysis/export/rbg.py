"""RoleBasedGroup: a ScaledObject a role on its scaling adapter, and a policy that grows the roles together.

The adapter has the scale subresource that KEDA writes to; the group makes one for a role with
``scalingAdapter.enable``. The CoordinatedPolicy keeps the progress of the roles together while they grow; it
holds no ratio. The checks are those of the CRDs workloads.x-k8s.io/v1alpha2 of v0.8.0-alpha.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from hs_analysis.export import keda, kubernetes, model, rules, shape, translated
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Policy

TITLE = "RBG CoordinatedPolicy workloads.x-k8s.io/v1alpha2 (0.8.0-alpha.5) and KEDA ScaledObjects (2.20)"
GROUP = "workloads.x-k8s.io/v1alpha2"
KIND = (GROUP, "CoordinatedPolicy")
PARENT = "RoleBasedGroup"
ADAPTER = "RoleBasedGroupScalingAdapter"
RBG_SUFFIX = "rolebasedgroup.yaml"
TARGET: Final = "rbg"
ROLES = ("prefill", "decode")

_NO_POLICY = "no CoordinatedPolicy: {why}; the roles grow apart"
_UNKNOWN = "the run has no interval of the P/D ratio, and maxSkew is its half"
_ONE_POOL = "one role only is scaled"
_SKEW = (
    "no ratio is held: while both roles grow, the parts of them that are placed differ by at most {skew}, "
    "half of the ratio's interval, and a pod that finds no GPU stops the other role too"
)
_UNIT = "a replica of a role is one instance"


def export_rbg(policy: Policy, options: ExportOptions) -> Export:
    """Return the objects of a policy for a RoleBasedGroup and the recording rules, with the losses.

    Without an interval of the P/D ratio no CoordinatedPolicy is written, and a loss says so. In mode hold
    nothing is written.
    """
    why = translated.refusal(policy, "RBG", timetable=True)
    if why:
        return translated.refused(policy, options, TARGET, why)
    objects, origins, losses = keda.objects_of(policy, options)
    if not objects:
        return translated.refused(policy, options, TARGET, "no role has a signal with a target")
    group = options.serving_name(PARENT)
    for role, body in objects.items():
        known = options.workloads.get(role)
        name = known.name if known and known.kind == ADAPTER else f"{group}-{role}"
        body["spec"]["scaleTargetRef"] = {"apiVersion": GROUP, "kind": ADAPTER, "name": name}
    skew, why = _max_skew(policy, options, set(objects))
    bodies = [*([_coordinated(policy, options, skew)] if skew else []), *objects.values()]
    text = _SKEW.format(skew=skew) if skew else _NO_POLICY.format(why=why)
    losses = translated.replaced(losses, "pd_ratio.low", "pd_ratio.high")
    losses += [Loss("unit", "approximated", _UNIT), Loss("primaries", "approximated", text)]
    losses.append(Loss("pd_ratio", "approximated", text))
    found = model.concerning(losses, policy, options.costs)
    roles = " and ".join(objects)
    check = (
        f"Check: serverAddress, namespace, RoleBasedGroup {group} with scalingAdapter.enable true for {roles}"
        f"{'; the CoordinatedPolicy has to be named like the group' if skew else ''}."
    )
    origin = ["; ".join(origins)] if origins else []
    head = model.header(policy, options, TITLE, found, [*origin, check])
    files = dict(rules.export_rules(policy, options).files)
    files[f"{model.file_stem(policy.service)}.{RBG_SUFFIX}"] = head + model.dump_documents(bodies)
    return Export(TARGET, files, found)


def _max_skew(policy: Policy, options: ExportOptions, roles: set[str]) -> tuple[str, str]:
    """Return how far the progress of the roles may differ as a whole percent, or why nothing says it.

    It is half of the width of the ratio's interval over its middle: at the end of a growth, where the parts
    in place are nearly one, the pair in place then lies in the interval as the wanted pair does.
    """
    if not set(ROLES) <= roles:
        return "", _ONE_POOL
    band, ratio = options.measured.ratio_band, policy.pd_ratio
    if ratio is not None and ratio.value:
        band = (ratio.low, ratio.high) if ratio.low is not None and ratio.high is not None else None
    if band is None or not 0.0 < band[0] <= band[1]:
        return "", _UNKNOWN
    half = 100.0 * (band[1] - band[0]) / (band[1] + band[0])
    return f"{min(100, max(1, math.floor(half)))}%", ""


def _coordinated(policy: Policy, options: ExportOptions, skew: str) -> dict[str, Any]:
    rule = {
        "name": "prefill-with-decode",
        "roles": list(ROLES),
        "strategy": {"scaling": {"maxSkew": skew, "progression": "OrderScheduled"}},
    }
    body = kubernetes.manifest(policy, "", options, KIND, {"policies": [rule]})
    body["metadata"]["name"] = options.serving_name(PARENT)
    return body


_SPEC = shape.keys(
    {
        "policies": shape.listed(
            shape.keys(
                {
                    "name": shape.text,
                    "roles": shape.listed(shape.text, 2),
                    "strategy": shape.keys(
                        {
                            "scaling": shape.keys(
                                {
                                    "maxSkew": shape.text,
                                    "progression": shape.choice("OrderScheduled", "OrderReady"),
                                }
                            )
                        }
                    ),
                }
            )
        )
    }
)


def lint_rbg(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an object of the file, one sentence a problem."""
    if manifest.get("kind") != KIND[1]:
        found = keda.lint_scaled_object(manifest)
        reference = (manifest.get("spec") or {}).get("scaleTargetRef") or {}
        if (reference.get("apiVersion"), reference.get("kind")) != (GROUP, ADAPTER):
            found.append(f"spec.scaleTargetRef is not a {GROUP} {ADAPTER}: a role has no scale of its own")
        return found
    found = kubernetes.identity_problems(manifest, KIND) + _SPEC(manifest.get("spec"), "spec")
    if found:
        return found
    for rule in manifest["spec"]["policies"]:
        skew = rule["strategy"]["scaling"]["maxSkew"]
        percent = kubernetes.number(skew.removesuffix("%"))
        if not skew.endswith("%") or not 0.0 < percent <= 100.0:
            found.append(f"maxSkew {skew!r} is not a percentage above 0 and up to 100")
    return found

"""What every autoscaler object of Kubernetes has: target, workload, bounds, behaviour, and its checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from hs_analysis.export import model, queries
from hs_analysis.export.model import ExportOptions, Loss, Workload
from hs_analysis.export.queries import labels_by_role
from hs_analysis.policy.model import Policy, Primary

GROUP_WORKLOAD = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")

# Items that no Kubernetes autoscaler object can hold, and what follows from that.
DROPPED = {
    "pd_ratio.low": "one fixed ratio only",
    "pd_ratio.high": "one fixed ratio only",
    "pd_ratio.max_deviation": "nothing watches the ratio of the two pools",
    "pd_ratio.prefill": "the thresholds hold the ratio as a number, not as a pair",
    "pd_ratio.gpu_types": "every pod counts the same, whatever its GPU",
    "pd_ratio.decode": "the thresholds hold the ratio as a number, not as a pair",
    "step.dampening": "each step takes all of the wanted change",
    "soft_scale_in": "instances taken out are not watched before they stop",
    "placement": "placement is the scheduler's",
    "start_up_s": "instances that start are not waited for beyond their readiness",
    "replay": "a status, not a setting",
    "recommended": "a status, not a setting",
    "confidence": "a status, not a setting",
    "confidence_reasons": "a status, not a setting",
    "refusals": "a status, not a setting",
    "*.target_per_instance.capacity": "a threshold is one number: comments name its capacity",
    "*.target_per_instance.headroom_ratio": "it is in the threshold",
    "*.highest": "one threshold at every load: near the highest total seen more instances than the policy's",
    "*.gpu_types": "every pod counts the same, whatever its GPU: right for the recorded mix of types",
    "*.unit": "thresholds carry no unit",
    "*.source": "named by the query only",
    "*.status": "objects hold no status of a number",
    "*.evidence": "objects hold no links",
    "*.provenance": "objects hold no provenance",
}
APPROXIMATED = {
    "guards": "recorded, but nothing acts on it: a latency divided by instances is no target; alert on it",
    "averaging_s": "the range inside the recorded expression decides",
}


@dataclass(frozen=True)
class PoolSizing:
    """What one pool's threshold is made of.

    Attributes
    ----------
    role
        The pool that is scaled.
    primary
        The signal; its role is the pool it was measured on.
    total
        Whether its recorded pool total is read, because the signal is a mean over instances.
    threshold
        Of the signal's pool total, per instance of ``role`` [unit of the signal].
    origin
        Where the threshold comes from, as a sentence.
    """

    role: str
    primary: Primary
    total: bool
    threshold: float
    origin: str


def known_losses() -> list[Loss]:
    """Return the losses that every Kubernetes autoscaler object has."""
    found = [Loss(item, "dropped", text) for item, text in DROPPED.items()]
    return found + [Loss(item, "approximated", text) for item, text in APPROXIMATED.items()]


def sizings(policy: Policy) -> tuple[list[PoolSizing], list[Loss]]:
    """Return what sizes each pool: its own primary, or the only primary through the ratio."""
    found, losses = [], []
    for index, primary in enumerate(policy.primaries):
        path = f"primaries[{index}]"
        target = primary.target_per_instance.value
        total = _needs_total(primary)
        if total is None or target is None or target <= 0:
            text = "no object: " + ("its query gives no pool total" if total is None else "it has no target")
            losses.append(Loss(path, "refused", text))
            continue
        origin = _origin(primary, target)
        found.append(PoolSizing(primary.role, primary, total, target, origin))
    if len(policy.primaries) == 1 and found:
        follower, lost = _follower(policy, found[0])
        found += follower
        losses += lost
    elif policy.pd_ratio is not None:
        losses.append(
            Loss("pd_ratio", "dropped", "each pool is sized by its own signal, so no ratio is used")
        )
    return found, losses


def _origin(primary: Primary, target: float) -> str:
    """Say what a threshold is, which capacity it comes from, and where that is derived."""
    number, given = model.plain_number(target), primary.target_per_instance
    known, comes = given.capacity, ""
    if known is not None and given.headroom_ratio is not None:
        value, low, high = map(model.plain_number, (known.value, known.low, known.high))
        share = model.plain_number(given.headroom_ratio)
        end = "a floor of" if given.status == "floor" else "the lower end of a capacity of"
        comes = f", {share} × {end} {value} ({low} to {high})"
    evidence = f" ({given.evidence})" if given.evidence else ""
    return f"{primary.role}: threshold {number} {primary.unit} per {primary.role} instance{comes}{evidence}"


def _needs_total(primary: Primary) -> bool | None:
    """Whether the mean has to become a sum first; None when there is no pool total to be had."""
    if not primary.promql:
        return None
    if primary.pool == "sum":
        return False
    return True if queries.pool_total(primary.promql) else None


def _follower(policy: Policy, leader: PoolSizing) -> tuple[list[PoolSizing], list[Loss]]:
    """Return the other pool, tied by dividing the same signal by another threshold."""
    ratio = policy.pd_ratio.value if policy.pd_ratio else None
    role = {"decode": "prefill", "prefill": "decode"}.get(leader.role)
    if role is None or not ratio:
        return [], [Loss("pd_ratio", "dropped", "no ratio is known, so only one pool is scaled")]
    threshold, sign = (
        (leader.threshold / ratio, "÷") if role == "prefill" else (leader.threshold * ratio, "×")
    )
    numbers = [model.plain_number(value) for value in (threshold, leader.threshold, ratio)]
    origin = (
        f"{role}: threshold {numbers[0]} = {numbers[1]} per {leader.role} instance {sign} ratio {numbers[2]}"
    )
    text = f"{role} follows the signal, not the rounded count of {leader.role}: at times a little smaller"
    sizing = PoolSizing(role, leader.primary, leader.total, threshold, origin)
    return [sizing], [Loss("pd_ratio.value", "approximated", text)]


def unsized(policy: Policy, covered: set[str]) -> list[Loss]:
    """Return a loss for every setting of a pool that got no object."""
    roles = sorted({*policy.bounds, *policy.hysteresis, *policy.cooldown} - covered)
    return [
        Loss(f"{table}.{role}", "dropped", f"no object scales {role}")
        for role in roles
        for table in ("bounds", "hysteresis", "cooldown")
    ]


def scaled_object(policy: Policy, role: str, options: ExportOptions) -> dict[str, Any]:
    """Return ``scaleTargetRef`` of a role: the options' workload, else one named by service and role."""
    workload = options.workloads.get(role) or _default_workload(policy, role)
    return {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name}


def _default_workload(policy: Policy, role: str) -> Workload:
    name = f"{model.model_name(policy.service)}-{role}"
    if policy.unit == "group":
        api_version, kind = GROUP_WORKLOAD
        return Workload(name, kind, api_version)
    return Workload(name)


def manifest(
    policy: Policy, role: str, options: ExportOptions, kind: tuple[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    """Return an object of (apiVersion, kind) for a role, in the service's namespace unless said."""
    namespace = options.namespace or model.namespace_of(policy.service) or "default"
    name = f"{model.model_name(policy.service)}-{role}"
    return {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def workload_names(objects: list[dict[str, Any]]) -> str:
    """Return the scaled objects in words, to be checked before applying."""
    refs = [body["spec"]["scaleTargetRef"] for body in objects]
    return ", ".join(f"{ref['kind']} {ref['name']}" for ref in refs)


# Limits of HorizontalPodAutoscaler autoscaling/v2.
MAX_STABILISATION_S = 3600
MAX_PERIOD_S = 1800
# The field `tolerance`: unknown before 1.33, behind a feature gate until 1.35.
TOLERANCE_KNOWN = (1, 33)
TOLERANCE_ON = (1, 35)

_COOLDOWN_TEXT = (
    "{window} s of stabilisation take the highest answer of that time and {period} s limit the steps: "
    "close to a cooldown, not equal"
)
_STEP_TEXT = "{share} % a period, rounded to the larger step; the policy rounds to the smaller one"
_SIZE_TEXT = "one tolerance at every size: below {usual} instances the policy shrinks later than this does"
_DISABLED_TEXT = "the scale-in cooldown of {role} is unknown: scale-in is off; give --startup and run again"


def behaviour(
    policy: Policy, role: str, leader: str, kubernetes: tuple[int, int]
) -> tuple[dict[str, Any], list[Loss]]:
    """Return ``scaleUp`` and ``scaleDown`` of a role, and what of the policy they don't hold.

    Parameters
    ----------
    policy
        The policy.
    role
        Role whose pool is scaled.
    leader
        Role whose signal sizes it; its dead band and cooldown are used where the role has none of its own.
    kubernetes
        Version that decides which fields exist.
    """
    up, up_losses = _up(policy, role, leader)
    down, down_losses = _down(policy, role, leader)
    band, band_losses = _tolerances(policy, role, leader, kubernetes)
    for rules, tolerance in ((up, band.get("scaleUp")), (down, band.get("scaleDown"))):
        if tolerance is not None:
            rules["tolerance"] = tolerance
    return {"scaleUp": up, "scaleDown": down}, up_losses + down_losses + band_losses


def _key(table: dict[str, Any], role: str, leader: str) -> str | None:
    return next((name for name in (role, leader) if name in table), None)


def _up(policy: Policy, role: str, leader: str) -> tuple[dict[str, Any], list[Loss]]:
    key = _key(policy.cooldown, role, leader)
    rest = policy.cooldown[key].scale_out_s if key else None
    # Without a cooldown the policy may act once a window.
    period, losses = _whole(rest if rest is not None else policy.window_s, 1, MAX_PERIOD_S)
    share, rounded = _percent(policy.step.max_out_fraction)
    found = []
    if losses:
        found.append(Loss(f"cooldown.{key}.scale_out_s", "approximated", f"{losses}: {period} s"))
    if rounded:
        found.append(Loss("step.max_out_fraction", "approximated", f"whole percents only: {share} %"))
    step = {"type": "Percent", "value": share, "periodSeconds": period}
    return {"stabilizationWindowSeconds": 0, "policies": [step]}, found


def _down(policy: Policy, role: str, leader: str) -> tuple[dict[str, Any], list[Loss]]:
    key = _key(policy.cooldown, role, leader)
    rest = policy.cooldown[key].scale_in_s if key else None
    if rest is None:
        text = _DISABLED_TEXT.format(role=role)
        losses = [
            Loss(f"cooldown.{key}" if key else "step.max_in_fraction", "approximated", text),
            Loss("step.max_in_fraction", "dropped", f"scale-in of {role} is off"),
        ]
        return {"selectPolicy": "Disabled"}, losses
    window, _ = _whole(rest, 0, MAX_STABILISATION_S)
    period, _ = _whole(rest, 1, MAX_PERIOD_S)
    share, _ = _percent(policy.step.max_in_fraction)
    losses = [
        Loss(
            f"cooldown.{key}.scale_in_s", "approximated", _COOLDOWN_TEXT.format(window=window, period=period)
        ),
        Loss("step.max_in_fraction", "approximated", _STEP_TEXT.format(share=share)),
    ]
    step = {"type": "Percent", "value": share, "periodSeconds": period}
    return {"stabilizationWindowSeconds": window, "policies": [step]}, losses


def _tolerances(
    policy: Policy, role: str, leader: str, kubernetes: tuple[int, int]
) -> tuple[dict[str, str], list[Loss]]:
    key = _key(policy.hysteresis, role, leader)
    if key is None:
        return {}, []
    version = ".".join(map(str, kubernetes))
    if kubernetes < TOLERANCE_KNOWN:
        text = f"Kubernetes {version} has no tolerance field; its cluster-wide 10 % applies to {role}"
        return {}, [Loss(f"hysteresis.{key}", "dropped", text)]
    band = policy.hysteresis[key]
    found = {
        "scaleUp": model.plain_number(max(0.0, round(band.scale_out_ratio - 1.0, 4))),
        "scaleDown": model.plain_number(max(0.0, round(1.0 - band.scale_in_ratio, 4))),
    }
    losses = []
    if kubernetes < TOLERANCE_ON:
        text = f"Kubernetes {version} ignores tolerance unless the gate HPAConfigurableTolerance is on"
        losses.append(Loss(f"hysteresis.{key}", "approximated", text))
    if band.usual_instances is not None:
        text = _SIZE_TEXT.format(usual=model.plain_number(round(band.usual_instances, 1)))
        losses.append(Loss(f"hysteresis.{key}.usual_instances", "dropped", text))
    return found, losses


def _percent(fraction: float) -> tuple[int, bool]:
    percent = max(1, round(fraction * 100))
    return percent, abs(percent - fraction * 100) > 1e-6


def _whole(seconds: float, least: int, most: int) -> tuple[int, str]:
    """Return whole seconds within the API's limits, and why they are not the seconds asked for."""
    whole = min(max(round(seconds), least), most)
    return whole, f"the field holds whole seconds from {least} to {most}" if whole != seconds else ""


# Label → (apiVersion, kind) of the object it names: kube-state-metrics' own labels, and LeaderWorkerSet's.
KINDS = {
    "leaderworkerset_sigs_k8s_io_name": ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    "deployment": ("apps/v1", "Deployment"),
    "statefulset": ("apps/v1", "StatefulSet"),
}


def workloads_of(series: pl.DataFrame, service: str) -> dict[str, Workload]:
    """Return the scaled object per role, for roles whose series name exactly one of a kind.

    Parameters
    ----------
    series
        Frame of contract ``SERIES``.
    service
        ``namespace/model``.
    """
    found = {}
    for role, rows in labels_by_role(series, service).items():
        for label, (api_version, kind) in KINDS.items():
            names = {row[label] for row in rows if row.get(label)}
            if len(names) == 1:
                found[role] = Workload(names.pop(), kind, api_version)
                break
    return found


# KEDA hands targets on in thousandths; anything less becomes 0.
LEAST_THRESHOLD = 0.001
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def object_problems(manifest: Mapping[str, Any], kind: tuple[str, str]) -> list[str]:
    """Return what is wrong with an object's (apiVersion, kind), its name and what it scales."""
    found = []
    if (manifest.get("apiVersion"), manifest.get("kind")) != kind:
        found.append(f"apiVersion and kind are not {' '.join(kind)}")
    name = (manifest.get("metadata") or {}).get("name", "")
    if not _NAME.fullmatch(str(name)):
        found.append(f"metadata.name {name!r} is not a Kubernetes name")
    if not ((manifest.get("spec") or {}).get("scaleTargetRef") or {}).get("name"):
        found.append("spec.scaleTargetRef.name is missing")
    return found


def number(text: str) -> float:
    """Return a text as a number; minus infinity when it is none."""
    try:
        return float(text)
    except ValueError:
        return float("-inf")

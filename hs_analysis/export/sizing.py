"""What one pool's object is made of: the signal that sizes it, its threshold, its workload, its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hs_analysis.export import naming, promql
from hs_analysis.export.model import ExportOptions, Loss, Workload
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
class Sizing:
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


def sizings(policy: Policy) -> tuple[list[Sizing], list[Loss]]:
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
        found.append(Sizing(primary.role, primary, total, target, origin))
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
    number, given = naming.plain_number(target), primary.target_per_instance
    known, comes = given.capacity, ""
    if known is not None and given.headroom_ratio is not None:
        value, low, high = map(naming.plain_number, (known.value, known.low, known.high))
        share = naming.plain_number(given.headroom_ratio)
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
    return True if promql.pool_total(primary.promql) else None


def _follower(policy: Policy, leader: Sizing) -> tuple[list[Sizing], list[Loss]]:
    """Return the other pool, tied by dividing the same signal by another threshold."""
    ratio = policy.pd_ratio.value if policy.pd_ratio else None
    role = {"decode": "prefill", "prefill": "decode"}.get(leader.role)
    if role is None or not ratio:
        return [], [Loss("pd_ratio", "dropped", "no ratio is known, so only one pool is scaled")]
    threshold, sign = (
        (leader.threshold / ratio, "÷") if role == "prefill" else (leader.threshold * ratio, "×")
    )
    numbers = [naming.plain_number(value) for value in (threshold, leader.threshold, ratio)]
    origin = (
        f"{role}: threshold {numbers[0]} = {numbers[1]} per {leader.role} instance {sign} ratio {numbers[2]}"
    )
    text = f"{role} follows the signal, not the rounded count of {leader.role}: at times a little smaller"
    sizing = Sizing(role, leader.primary, leader.total, threshold, origin)
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
    name = f"{naming.model_name(policy.service)}-{role}"
    if policy.unit == "group":
        api_version, kind = GROUP_WORKLOAD
        return Workload(name, kind, api_version)
    return Workload(name)


def manifest(
    policy: Policy, role: str, options: ExportOptions, kind: tuple[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    """Return an object of (apiVersion, kind) for a role, in the service's namespace unless said."""
    namespace = options.namespace or naming.namespace_of(policy.service) or "default"
    name = f"{naming.model_name(policy.service)}-{role}"
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

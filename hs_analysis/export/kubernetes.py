"""What every autoscaler object of Kubernetes has: target, workload, bounds, behaviour, and its checks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, TOLERANCE_KNOWN, Hpa, Rules
from hs_analysis.controllers.keda import Keda
from hs_analysis.errors import ContractError
from hs_analysis.export import blanks, model, queries, shape
from hs_analysis.export.model import ExportOptions, Loss, Workload
from hs_analysis.policy.controls import THOUSANDTHS, control_of, held_target
from hs_analysis.policy.model import Policy, Primary
from hs_analysis.schema.names import KUBERNETES_NAME
from hs_analysis.schema.number_text import share_words

Body = dict[str, Any]
"""A part of an object as plain values."""

SAME_DIGITS = 1e-5
"""Numbers nearer than this are the same: an object's have six digits [ratio]."""

LEAST_THRESHOLD = 1.0 / THOUSANDTHS
"""Targets are handed on in thousandths, anything less becomes 0 [unit of the signal]."""

GROUP_WORKLOAD = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")

APPROXIMATED = {
    "guards": "recorded, but nothing acts on it: a latency divided by instances is no target; alert on it",
}


@dataclass(frozen=True)
class PoolSizing:
    """What one pool's object is written from.

    Attributes
    ----------
    role
        The pool that is scaled.
    scaler
        The controller's parameters: bounds, rules, and one metric with the target per instance of ``role``.
    primary
        The signal that the metric reads; its role is the pool it was measured on.
    threshold
        Of the signal's pool total, per instance of ``role`` [unit of the signal].
    origin
        Where the threshold comes from, as a sentence.
    """

    role: str
    scaler: Hpa | Keda
    primary: Primary
    threshold: float
    origin: str

    @property
    def hpa(self) -> Hpa:
        """Metrics and rules."""
        return self.scaler.hpa if isinstance(self.scaler, Keda) else self.scaler

    @property
    def query(self) -> str:
        """The pool total of the signal, in PromQL."""
        asked = self.primary.promql
        return (queries.pool_total(asked) or asked) if self.total else asked

    @property
    def total(self) -> bool:
        """Whether the recorded pool total is read, because the signal is a mean over instances."""
        return self.primary.pool == "mean"


def known_losses(policy: Policy, controller: str) -> list[Loss]:
    """Return the losses of every Kubernetes autoscaler object, and those of another controller's policy."""
    found = [Loss(item, "dropped", text) for item, text in model.DROPPED.items()]
    found += [Loss(item, "approximated", text) for item, text in APPROXIMATED.items()]
    if policy.controller != controller:
        text = _TRANSLATED.format(was=policy.controller, now=controller)
        found += [Loss(item, "approximated", text) for item in ("controller", "reading", "cooldown", "step")]
    return found


def sizings(policy: Policy, controller: Literal["keda", "hpa"]) -> tuple[list[PoolSizing], list[Loss]]:
    """Return what each pool's object is written from: the parameters with which the controller runs.

    Parameters
    ----------
    policy
        A policy in mode metric.
    controller
        ``keda`` or ``hpa``.
    """
    losses, carried = [], []
    for index, primary in enumerate(policy.primaries):
        why = _uncarried(primary)
        if why:
            losses.append(Loss(f"primaries[{index}]", "refused", f"no object: {why}"))
        else:
            carried.append(primary)
    if not carried:
        return [], losses
    control = control_of(replace(policy, controller=controller))
    pools = control.pools if isinstance(control, Autoscaler) else {}
    found: list[PoolSizing] = []
    for role in (*(primary.role for primary in carried), *sorted(pools)):
        if role in pools and role not in {pool.role for pool in found}:
            sized = _sizing(policy, role, pools[role], carried)
            found += [sized] if sized else []
    return found, losses + _ratio_losses(policy, found)


def _uncarried(primary: Primary) -> str:
    """Return why no object can follow a primary, empty where one can."""
    target = primary.target_per_instance.value
    if not primary.promql or (primary.pool == "mean" and queries.pool_total(primary.promql) is None):
        return "its query gives no pool total"
    if not target or target <= 0:
        return "it has no target"
    return "" if target >= LEAST_THRESHOLD else _SMALL


def _sizing(policy: Policy, role: str, scaler: Hpa | Keda, carried: Sequence[Primary]) -> PoolSizing | None:
    """Return what a pool's object is written from; None where its signal can't be carried out.

    Raises
    ------
    ContractError
        When the parameters hold more metrics than one: no policy has such a pool.
    """
    hpa = scaler.hpa if isinstance(scaler, Keda) else scaler
    if len(hpa.metrics) != 1:
        raise ContractError(f"{role} has {len(hpa.signals)} signals, and an object is written for one metric")
    signal, _, measured = hpa.metrics[0].signal.partition("@")
    wanted = (signal, measured or role)
    primary = next((one for one in carried if (one.signal, one.role) == wanted), None)
    if primary is None:
        return None
    given, threshold = primary.target_per_instance.value or 0.0, hpa.metrics[0].target
    if primary.role == role:
        return PoolSizing(role, scaler, primary, threshold, _origin(primary, threshold))
    ratio = (policy.pd_ratio.held if policy.pd_ratio else None) or 1.0
    if primary.pool == "mean":  # the parameters follow the mean, an object divides the leader's total
        threshold = held_target(given / ratio if role == "prefill" else given * ratio)
    if threshold < LEAST_THRESHOLD:
        return None
    return PoolSizing(role, scaler, primary, threshold, _tied(role, primary, threshold, policy))


def _origin(primary: Primary, threshold: float) -> str:
    """Say what a threshold is, which capacity it comes from, and where that is derived."""
    number, given = model.plain_number(threshold), primary.target_per_instance
    known, comes = given.capacity, ""
    if known is not None and given.headroom_ratio is not None:
        value, low, high = map(model.plain_number, (known.value, known.low, known.high))
        ends, floor = (known.value, known.low), given.status == "floor"
        share = share_words(given.value, given.headroom_ratio, ends, floor=floor)
        comes = f", {share} {value} ({low} to {high})"
    evidence = f" ({given.evidence})" if given.evidence else ""
    unit = f"of {primary.signal}" if primary.unit == "ratio" else primary.unit
    return f"{primary.role}: threshold {number} {unit} per {primary.role} instance{comes}{evidence}"


def _tied(role: str, leader: Primary, threshold: float, policy: Policy) -> str:
    """Say how a pool is tied: the leader's signal is divided by another threshold."""
    given, kept = leader.target_per_instance.value or 0.0, policy.pd_ratio
    ratio = (kept.held if kept else None) or 1.0
    name = "one_primary_bound" if kept and kept.one_primary_bound is not None else "ratio"
    numbers = [model.plain_number(value) for value in (threshold, given, ratio)]
    sign = "÷" if role == "prefill" else "×"
    return (
        f"{role}: threshold {numbers[0]} = {numbers[1]} per {leader.role} instance {sign} {name} {numbers[2]}"
    )


def _ratio_losses(policy: Policy, pools: Sequence[PoolSizing]) -> list[Loss]:
    """Return what of the ratio two objects that size their pools apart do not hold."""
    tied = [pool for pool in pools if pool.role != pool.primary.role]
    stray = str(policy.replay.get("pd_ratio_stray") or "")
    measured = f"In the backtest {stray}." if stray else ""
    if tied:
        role, leader = tied[0].role, tied[0].primary.role
        text = f"{role} follows the signal, not the rounded count of {leader}: at times a little smaller"
        if tied[0].primary.pool == "mean":
            text = f"{role} follows the total over {leader}; its replay follows the mean over {leader}"
        return [Loss("pd_ratio.value", "approximated", text, measured)]
    if len(policy.primaries) == 1:
        return [Loss("pd_ratio", "dropped", "no ratio is known, so only one pool is scaled")]
    found = [Loss("pd_ratio", "dropped", "each pool is sized by its own signal, so no ratio is used")]
    if measured:
        text = "each pool follows its own signal, and nothing ties their counts to the P/D ratio"
        found.append(Loss("primaries", "approximated", text, measured))
    return found


def unsized(policy: Policy, covered: set[str]) -> list[Loss]:
    """Return a loss for every setting of a pool that got no object."""
    roles = sorted({*policy.bounds, *policy.hysteresis, *policy.cooldown} - covered)
    return [
        Loss(f"{table}.{role}", "dropped", f"no object scales {role}")
        for role in roles
        for table in ("bounds", "hysteresis", "cooldown")
    ]


def unbounded(policy: Policy, role: str, text: str) -> list[Loss]:
    """Return the loss of a pool that got no object for want of bounds: of its primary, or its leader's."""
    numbers = [i for i, one in enumerate(policy.primaries) if one.role == role] or [0]
    return [Loss(f"primaries[{numbers[0]}]", "refused", text.format(role=role))]


def scaled_object(policy: Policy, role: str, options: ExportOptions) -> dict[str, Any]:
    """Return ``scaleTargetRef`` of a role: the workload that is known, else a blank of the usual kind."""
    workload = options.workloads.get(role) or _unknown_workload(policy, role)
    return {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name}


def _unknown_workload(policy: Policy, role: str) -> Workload:
    name = blanks.workload(role)
    if policy.unit == "group":
        api_version, kind = GROUP_WORKLOAD
        return Workload(name, kind, api_version)
    return Workload(name)


def manifest(
    policy: Policy, role: str, options: ExportOptions, kind: tuple[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    """Return an object of (apiVersion, kind) for a role, called as the one of today whose place it takes."""
    today = options.todays.get(role)
    replaced = today if today is not None and today.kind == kind[1] else None
    labels = {**(replaced.labels if replaced else {}), **options.labels}
    return {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {
            "name": replaced.name if replaced else f"{model.model_name(policy.service)}-{role}",
            "namespace": (today.namespace if today else None) or namespace(policy, options),
            **({"labels": labels} if labels else {}),
        },
        "spec": spec,
    }


def namespace(policy: Policy, options: ExportOptions) -> str:
    """Return the namespace of a service's objects, a blank where nothing tells it."""
    return options.namespace or model.namespace_of(policy.service) or blanks.NAMESPACE


def workload_names(objects: list[dict[str, Any]]) -> str:
    """Return the scaled objects in words, to be checked before applying."""
    refs = [body["spec"]["scaleTargetRef"] for body in objects]
    return ", ".join(f"{ref['kind']} {ref['name']}" for ref in refs)


# Limits of HorizontalPodAutoscaler autoscaling/v2.
MAX_STABILISATION_S = 3600
MAX_PERIOD_S = 1800
TOLERANCE_ON = (1, 35)
"""Version of Kubernetes from which ``tolerance`` acts without a feature gate."""

_SIDE = shape.keys(
    {},
    {
        "stabilizationWindowSeconds": shape.whole(0, MAX_STABILISATION_S),
        "policies": shape.listed(
            shape.keys(
                {
                    "type": shape.choice("Pods", "Percent"),
                    "value": shape.whole(1),
                    "periodSeconds": shape.whole(1, MAX_PERIOD_S),
                }
            )
        ),
        "selectPolicy": shape.choice("Max", "Min", "Disabled"),
        "tolerance": shape.text,
    },
)
BEHAVIOR = shape.keys({}, {"scaleUp": _SIDE, "scaleDown": _SIDE})
"""Check of ``behavior`` as every object that hands it to an HPA takes it."""

_SMALL = f"its target is below {LEAST_THRESHOLD}, the least that objects hold: choose another signal"
_TRANSLATED = (
    "selected and replayed for {was}; the nearest that {now} can say is written, and it acts otherwise"
)
_DISABLED = "the scale-in cooldown of {role} is unknown: scale-in is off; give --startup and run again"
_UNLIMITED = "nothing rests: Kubernetes' own limits of a step apply to {role}"


def behavior(policy: Policy, pool: PoolSizing, kubernetes: tuple[int, int]) -> tuple[Body, list[Loss]]:
    """Return ``behavior`` of a pool's object, and what of the policy it does not hold."""
    item = f"hysteresis.{_key(policy.hysteresis, pool)}"
    body, losses = behavior_of(pool.hpa.up, pool.hpa.down, kubernetes, item)
    return body, losses + behavior_losses(policy, pool)


def behavior_of(up: Rules, down: Rules, kubernetes: tuple[int, int], item: str) -> tuple[Body, list[Loss]]:
    """Return ``behavior`` of an HPA, and what of the rules a version of Kubernetes does not know.

    Rate policies are written where they are not Kubernetes' own, ``selectPolicy`` where it is not ``Max``.

    Parameters
    ----------
    up, down
        Rules of the two directions; seconds are whole, as the fields hold them.
    kubernetes
        Version that decides which fields exist.
    item
        Path of the dead band in the policy, for its loss.
    """
    known = kubernetes >= TOLERANCE_KNOWN
    body = {
        "scaleUp": _direction(up, SCALE_UP, tolerance=known),
        "scaleDown": _direction(down, SCALE_DOWN, tolerance=known),
    }
    version = ".".join(map(str, kubernetes))
    losses: list[Loss] = []
    if up.tolerance is None and down.tolerance is None:
        return body, losses
    if not known:
        text = f"Kubernetes {version} has no tolerance field; its cluster-wide 10 % applies"
        losses.append(Loss(item, "dropped", text))
    elif kubernetes < TOLERANCE_ON:
        text = f"Kubernetes {version} ignores tolerance unless the gate HPAConfigurableTolerance is on"
        losses.append(Loss(item, "approximated", text))
    return body, losses


def _direction(rules: Rules, default: Rules, *, tolerance: bool) -> Body:
    body: Body = {"stabilizationWindowSeconds": round(rules.stabilization_s)}
    if rules.policies != default.policies:
        body["policies"] = [
            {"type": one.kind, "value": one.value, "periodSeconds": round(one.period_s)}
            for one in rules.policies
        ]
    if rules.select != "Max":
        body["selectPolicy"] = rules.select
    if tolerance and rules.tolerance is not None:
        body["tolerance"] = model.plain_number(rules.tolerance)
    return body


def behavior_losses(policy: Policy, pool: PoolSizing) -> list[Loss]:
    """Return the numbers of the policy that the rules of a pool do not hold as they are."""
    rest_of, band_of = (_key(table, pool) for table in (policy.cooldown, policy.hysteresis))
    up, down = pool.hpa.up, pool.hpa.down
    pairs: list[tuple[str, float | None, float | None]] = [
        ("reading.over_s", policy.reading.over_s, down.stabilization_s)
    ]
    read_s = model.range_s(pool.primary.promql)
    pairs += [("reading.window_s", pool.hpa.metrics[0].averaging_s, read_s)] if read_s else []
    if band_of in policy.hysteresis:
        band, (below, above) = policy.hysteresis[band_of], pool.hpa.tolerances
        pairs.append((f"hysteresis.{band_of}.scale_out_ratio", band.scale_out_ratio, 1.0 + above))
        pairs.append((f"hysteresis.{band_of}.scale_in_ratio", band.scale_in_ratio, 1.0 - below))
    own = next((i for i, one in enumerate(policy.primaries) if one.role == pool.role), None)
    if own is not None:
        item = f"primaries[{own}].target_per_instance.value"
        pairs.append((item, policy.primaries[own].target_per_instance.value, pool.threshold))
    rest = policy.cooldown.get(rest_of)
    for name, rules, default in (("out", up, SCALE_UP), ("in", down, SCALE_DOWN)):
        limit = rules.policies[0] if rules.policies != default.policies else None
        seconds = getattr(rest, f"scale_{name}_s", None)
        pairs.append((f"cooldown.{rest_of}.scale_{name}_s", seconds, limit.period_s if limit else None))
        share = getattr(policy.step, f"max_{name}_fraction")
        pairs.append((f"step.max_{name}_fraction", share, limit.value / 100.0 if limit else None))
    found = [_unlike(item, wanted, held, pool.role) for item, wanted, held in pairs if wanted is not None]
    if down.select == "Disabled":
        item = f"cooldown.{rest_of}" if rest_of in policy.cooldown else "step.max_in_fraction"
        found.append(Loss(item, "approximated", _DISABLED.format(role=pool.role)))
    return [loss for loss in found if loss is not None]


def _key(table: Mapping[str, Any], pool: PoolSizing) -> str:
    """Return whose entry a pool has: its own, else that of the pool whose signal sizes it."""
    return pool.role if pool.role in table else pool.primary.role


def _unlike(item: str, wanted: float, held: float | None, role: str) -> Loss | None:
    """Return a loss where the number that is held is not the policy's."""
    if held is None:
        return Loss(item, "dropped", _UNLIMITED.format(role=role))
    if math.isclose(wanted, held, rel_tol=SAME_DIGITS, abs_tol=SAME_DIGITS):
        return None
    text = f"{model.plain_number(held)} for {role} instead of {model.plain_number(wanted)}"
    return Loss(item, "approximated", text)


_NAME = re.compile(KUBERNETES_NAME)


def identity_problems(manifest: Mapping[str, Any], kind: tuple[str, str]) -> list[str]:
    """Return what is wrong with an object's (apiVersion, kind) and its name, and which top key is unknown."""
    found = []
    if (manifest.get("apiVersion"), manifest.get("kind")) != kind:
        found.append(f"apiVersion and kind are not {' '.join(kind)}")
    name = (manifest.get("metadata") or {}).get("name", "")
    if not _NAME.fullmatch(str(name)):
        found.append(f"metadata.name {name!r} is not a Kubernetes name")
    unknown = sorted(set(manifest) - {"apiVersion", "kind", "metadata", "spec"})
    return found + [f"{key} is unknown" for key in unknown]


def object_problems(manifest: Mapping[str, Any], kind: tuple[str, str]) -> list[str]:
    """Return what is wrong with an object's identity and with what it scales."""
    found = identity_problems(manifest, kind)
    if not ((manifest.get("spec") or {}).get("scaleTargetRef") or {}).get("name"):
        found.append("spec.scaleTargetRef.name is missing")
    return found


def number(text: str) -> float:
    """Return a text as a number; minus infinity when it is none."""
    try:
        return float(text)
    except ValueError:
        return float("-inf")

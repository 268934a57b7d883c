"""llm-d's SLO-aware ScaledObjects: the published formula on P90 latencies over the SLO, one object a pool.

After guides/workload-autoscaling/README.slo-aware.md in https://github.com/llm-d/llm-d (d38c9f0, experimental
there), and its manifests as a fork holds them (zetxqx/llm-d at c397e67, slo-aware/scaledobject.yaml and
prometheus-rule.yaml): signal chain, formula, thresholds and behaviour as published. What differs on purpose:
a latency whose series are not there holds the count, where the guide reads it as idle and drains the pool;
requests that merely stopped still count as idle. The chain of recording rules is one query, so that nothing
else has to be installed. The guide scales one pool by both latencies and calls a pool each future work: TTFT
drives prefill and TPOT decode here, which is our reading of it.

The files go with the token-aware ones and take their place: KEDA refuses two objects on one workload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from hs_analysis.controllers.slo_aware import SCALER, Latency, SloAware
from hs_analysis.export import keda, kubernetes, model
from hs_analysis.export.model import ExportOptions, Loss
from hs_analysis.export.queries import quoted
from hs_analysis.policy.model import Policy

TITLE = "llm-d SLO-aware ScaledObjects keda.sh/v1alpha1 (after the control law of its guide, d38c9f0)"
SLO_AWARE_SUFFIX = "slo-aware.yaml"

QUANTILE = 0.9
"""Quantile of both latencies, as in the guide [ratio]."""
RANGE, STEP = "1m", "15s"
"""Range of its rates, and the interval of its rules."""

DRIVEN_BY = {"prefill": ("ttft",), "decode": ("tbt",), "mixed": ("ttft", "tbt")}
"""Pool → the latencies that size it."""

PREDICTED = {
    "ttft": "llm_d_epp_request_predicted_ttft_seconds",
    "tbt": "llm_d_epp_request_predicted_tpot_seconds",
}
MEASURED = {"ttft": "llm_d_epp_request_ttft_seconds", "tbt": "llm_d_epp_request_streaming_tpot_seconds"}
"""Histograms of the router: what it predicts, and what it measured where it predicts nothing."""

REPLICAS = {
    "Deployment": ("kube_deployment_status_replicas", "kube_deployment_status_replicas_ready", "deployment"),
    "StatefulSet": (
        "kube_statefulset_status_replicas",
        "kube_statefulset_status_replicas_ready",
        "statefulset",
    ),
}
"""Kind of a workload → kube-state-metrics' provisioned and ready replicas, and the label of its name."""

_CREDIT = "(readyReplicas > 0 && readyReplicas < replicas ? readyReplicas / replicas : 1.0)"
FORMULA = (
    f"saturation > {{up}} ? replicas + ceil(replicas * (saturation * {_CREDIT} / {{up}} - 1)) : "
    "(saturation < {down} ? replicas - floor(replicas * (1 - saturation / {down})) : replicas)"
)
"""The guide's formula in expr; its three names are those of the triggers."""

TRIGGERS = ("saturation", "replicas", "readyReplicas")
"""Names of its triggers, in this order."""

_WORDS = re.compile(r"[A-Za-z_]\w*|\d+(?:\.\d+)?|[&|<>=!]+|\S")
_UP, _DOWN = "up", "down"

_INSTEAD = "apply it in place of the token-aware objects: KEDA refuses two on one workload"
_OWN_SIGNAL = (
    "sized by latency ÷ SLO and the count of now, not by the policy's signal, targets, band and limits"
)
_HOLDS = "a latency without series holds the count: the guide reads it as idle and drains the pool"
_PER_POOL = "TTFT sizes prefill and TPOT decode, which the guide calls future work"


def slo_aware_file(policy: Policy, options: ExportOptions) -> str:
    """Return the ScaledObjects of the formula, one a pool; empty where no pool can have one.

    A pool needs a limit on its latency, bounds, and a workload that kube-state-metrics counts.
    """
    limits = options.measured.limits_s(policy)
    objects, _, _ = keda.objects_of(policy, options)
    found = []
    for role, body in objects.items():
        names = [name for name in DRIVEN_BY[role] if name in limits]
        kind = body["spec"]["scaleTargetRef"]["kind"]
        if role not in policy.bounds or len(names) < len(DRIVEN_BY[role]) or kind not in REPLICAS:
            continue
        found.append(_object(body, role, parameters(policy, options, role), options))
    if not found:
        return ""
    losses = (
        Loss("primaries", "approximated", _OWN_SIGNAL),
        Loss("on_missing_metric", "approximated", _HOLDS),
        Loss("pd_ratio", "dropped", _PER_POOL),
    )
    shown = ", ".join(f"{name.upper()} {model.plain_number(limits[name])} s" for name in sorted(limits))
    head = model.header(
        policy, options, TITLE, losses,
        [
            f"An alternative: {_INSTEAD}. P90 ÷ SLO ({shown}); thresholds 0.55 and 0.40 are the guide's own.",
            "Check: serverAddress, namespace in queries (one service in it), kube-state-metrics, the "
            f"router's histograms, {kubernetes.workload_names(found)}.",
        ],
    )  # fmt: skip
    return head + model.dump_documents(found)


def parameters(policy: Policy, options: ExportOptions, role: str) -> SloAware:
    """Return the controller that the object of a pool sets up: what is written is these parameters."""
    limits, bounds = options.measured.limits_s(policy), policy.bounds[role]
    latencies = tuple(Latency(name, limits[name]) for name in DRIVEN_BY[role])
    # From 0 replicas the formula asks for 0 whatever waits.
    hpa = replace(SCALER, min_replicas=max(1, bounds.min), max_replicas=max(1, bounds.max))
    return SloAware(latencies, scaler=hpa, missing_is_idle=False)


def _object(body: dict[str, Any], role: str, scaler: SloAware, options: ExportOptions) -> dict[str, Any]:
    """Return the ScaledObject of a pool: identity, workload and fallback are those of its KEDA object."""
    spec, hpa = body["spec"], scaler.scaler
    namespace = body["metadata"]["namespace"]
    behaviour, _ = kubernetes.behavior_of(hpa.up, hpa.down, options.kubernetes, "")
    if role not in options.todays:
        body["metadata"]["name"] += "-slo-aware"
    kept = {key: spec[key] for key in ("scaleTargetRef", "fallback") if key in spec}
    body["spec"] = {
        "scaleTargetRef": kept["scaleTargetRef"],
        "minReplicaCount": hpa.min_replicas,
        "maxReplicaCount": hpa.max_replicas,
        "fallback": kept["fallback"],
        "advanced": {
            "horizontalPodAutoscalerConfig": {"behavior": behaviour},
            "scalingModifiers": {
                "formula": FORMULA.format(
                    up=model.plain_number(scaler.up), down=model.plain_number(scaler.down)
                ),
                "target": "1",
                "metricType": "AverageValue",
            },
        },
        "triggers": _triggers(spec["scaleTargetRef"], namespace, role, scaler, options),
    }
    return body


def _triggers(
    workload: Mapping[str, Any], namespace: str, role: str, scaler: SloAware, options: ExportOptions
) -> list[dict[str, Any]]:
    counted, ready, label = REPLICAS[workload["kind"]]
    inside = f"namespace={quoted(namespace)},{label}={quoted(workload['name'])}"
    asked = {
        "saturation": saturation(scaler, namespace),
        "replicas": f"max({counted}{{{inside}}})",
        "readyReplicas": f"max({ready}{{{inside}}})",
    }
    access = options.access(role)
    return [
        keda.prometheus_trigger(name, {"query": query, "threshold": "1", "ignoreNullValues": "false"}, access)
        for name, query in asked.items()
    ]


def saturation(scaler: SloAware, namespace: str) -> str:
    """Return the smoothed signal in PromQL: the worse P90 ÷ limit, at most so much, averaged [ratio]."""
    each = [f"{_p90(one.signal, namespace)} / {model.plain_number(one.slo_s)}" for one in scaler.latencies]
    raw = each[0] if len(each) == 1 else f"(({each[0]} >= {each[1]}) or {each[1]})"
    most, smoothed = model.plain_number(scaler.most), f"{scaler.smoothing_s:g}s"
    return f"avg_over_time(clamp_max({raw}, {most})[{smoothed}:{STEP}])"


def _p90(latency: str, namespace: str) -> str:
    """Return the P90 of a latency: predicted, else measured, 0 without requests, nothing without series."""
    inside = f"{{namespace={quoted(namespace)}}}"
    both = [
        f"histogram_quantile({QUANTILE:g}, sum by (le) (rate({name}_bucket{inside}[{RANGE}]))) >= 0"
        for name in (PREDICTED[latency], MEASURED[latency])
    ]
    idle = f"0 * sum(rate({MEASURED[latency]}_count{inside}[{RANGE}]))"
    return f"(({both[0]}) or ({both[1]}) or {idle})"


def read_formula(text: str) -> tuple[float, float] | str:
    """Return the thresholds (up, down) of the guide's formula; of any other how it differs, in a line."""
    ours, theirs = _WORDS.findall(FORMULA.format(up=_UP, down=_DOWN)), _WORDS.findall(text)
    given: dict[str, float] = {}
    for number, (own, other) in enumerate(zip_longest(ours, theirs, fillvalue=""), 1):
        value = _number(other)
        if own in (_UP, _DOWN):
            if value is not None and value == given.setdefault(own, value):
                continue
            wanted = f"{given[own]:g}" if own in given else "a threshold"
        elif own == other or (value is not None and value == _number(own)):
            continue
        else:
            wanted = own or "its end"
        said = f"{other or 'its end'} where llm-d's SLO-aware formula has {wanted}"
        return f"word {number} is {said}: only its two thresholds may differ"
    return given[_UP], given[_DOWN]


def _number(word: str) -> float | None:
    return float(word) if word[:1].isdigit() else None


def thresholds_of(manifest: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the thresholds (up, down) of an object whose formula is the guide's; None for any other."""
    modifiers = ((manifest.get("spec") or {}).get("advanced") or {}).get("scalingModifiers") or {}
    found = read_formula(str(modifiers.get("formula", "")))
    return None if isinstance(found, str) else found


def lint_slo_aware(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a ScaledObject of the formula, one sentence a problem."""
    spec = manifest.get("spec") or {}
    found = kubernetes.object_problems(manifest, keda.KIND) + keda.fallback_problems(
        spec, spec.get("triggers") or []
    )
    names = [str(trigger.get("name")) for trigger in spec.get("triggers") or []]
    if names != list(TRIGGERS):
        found.append("spec.triggers are not saturation, replicas and readyReplicas, which the formula names")
    given, place = thresholds_of(manifest), "spec.advanced.scalingModifiers"
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers") or {}
    if given is None:
        found.append(f"{place}.formula is not the guide's")
    elif not 0.0 < given[1] < given[0]:
        found.append(
            f"{place}.formula: scale-in below {given[1]:g} is not under scale-out above {given[0]:g}"
        )
    if (modifiers.get("target"), modifiers.get("metricType")) != ("1", "AverageValue"):
        found.append(f"{place}: the answer is the count, which takes target '1' and AverageValue")
    if int(spec.get("minReplicaCount", 0)) < 1:
        found.append("spec.minReplicaCount is below 1: from 0 the formula asks for 0 whatever waits")
    for number, trigger in enumerate(spec.get("triggers") or []):
        query = str((trigger.get("metadata") or {}).get("query", ""))
        if "vector(" in query:
            text = "vector(0) reads a missing metric as idle and scales in"
            found.append(f"spec.triggers[{number}]: metadata.query: {text}")
    return found

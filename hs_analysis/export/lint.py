"""What a cluster would refuse, or take and misread, found offline in our own objects.

JSON schemas leave a trigger's metadata open and know no rule across fields, so these checks repeat what
KEDA's own trigger list, its validation rules and its documentation say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REQUIRED_METADATA = {
    "prometheus": ("serverAddress", "query", "threshold", "ignoreNullValues"),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
}
KNOWN_METADATA = {
    "prometheus": {
        *REQUIRED_METADATA["prometheus"],
        "activationThreshold",
        "timeout",
        "namespace",
        "customHeaders",
        "queryParameters",
        "unsafeSsl",
    },
    "cron": set(REQUIRED_METADATA["cron"]),
}
# KEDA hands targets on in thousandths; anything less becomes 0.
LEAST_THRESHOLD = 0.001
# Where maxReplicaCount is left out KEDA takes this.
DEFAULT_MAX_REPLICAS = 100

_RECORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z0-9_]+:[A-Za-z0-9_]+")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def lint_scaled_object(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a KEDA ScaledObject, one sentence a problem; empty when nothing is."""
    spec = manifest.get("spec") or {}
    found = object_problems(manifest, ("keda.sh/v1alpha1", "ScaledObject"))
    triggers = spec.get("triggers") or []
    if not triggers:
        found.append("spec.triggers is empty")
    for number, trigger in enumerate(triggers):
        found += [f"spec.triggers[{number}]: {text}" for text in _lint_trigger(trigger)]
    return found + _lint_replicas(spec) + _lint_fallback(spec, triggers)


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


def lint_rules(groups: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a recording-rules file, one sentence a problem; empty when nothing is."""
    found, seen = [], set()
    if set(groups) != {"groups"}:
        found.append("a rules file holds groups and nothing else")
    for group in groups.get("groups") or []:
        name = group.get("name")
        if not name or name in seen:
            found.append(f"group name {name!r} is missing or used twice")
        seen.add(name)
        if not _DURATION.fullmatch(str(group.get("interval", "15s"))):
            found.append(f"interval {group['interval']!r} is not a duration")
        found += [f"{name}: {text}" for rule in group.get("rules") or [] for text in _lint_rule(rule)]
    return found


def _lint_rule(rule: Mapping[str, Any]) -> list[str]:
    found = []
    if not _RECORD.fullmatch(str(rule.get("record", ""))):
        found.append(f"record {rule.get('record')!r} is not level:name:operation")
    if not str(rule.get("expr", "")).strip():
        found.append(f"{rule.get('record')}: expr is missing")
    for label, value in (rule.get("labels") or {}).items():
        if not _LABEL.fullmatch(label) or not isinstance(value, str):
            found.append(f"{rule.get('record')}: label {label!r} is no label name or its value no string")
    return found


def _lint_trigger(trigger: Mapping[str, Any]) -> list[str]:
    kind, metadata = str(trigger.get("type")), trigger.get("metadata") or {}
    if kind not in REQUIRED_METADATA:
        return [f"type {kind!r} is not one we write"]
    found = [f"metadata.{key} is missing" for key in REQUIRED_METADATA[kind] if not metadata.get(key)]
    found += [f"metadata.{key} is unknown" for key in sorted(set(metadata) - KNOWN_METADATA[kind])]
    found += [f"metadata.{key} is not a string" for key, v in metadata.items() if not isinstance(v, str)]
    if kind == "prometheus" and not found:
        if metadata["ignoreNullValues"] != "false":
            found.append("metadata.ignoreNullValues is not 'false': an empty answer would scale in")
        if number(metadata["threshold"]) < LEAST_THRESHOLD:
            found.append(
                f"metadata.threshold {metadata['threshold']!r} is not a number of at least {LEAST_THRESHOLD}"
            )
        if trigger.get("metricType") == "AverageValue" and not metadata["query"].startswith("sum("):
            found.append("metadata.query is not a sum, so an average per replica of it means nothing")
    return found


def _lint_replicas(spec: Mapping[str, Any]) -> list[str]:
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", DEFAULT_MAX_REPLICAS)
    if least < 0 or most < 1 or least > most:
        return [f"replica counts {least} to {most} are not 0 ≤ min ≤ max and max ≥ 1"]
    return []


def _lint_fallback(spec: Mapping[str, Any], triggers: list[Mapping[str, Any]]) -> list[str]:
    fallback = spec.get("fallback")
    if fallback is None:
        wants = any(trigger.get("type") == "prometheus" for trigger in triggers)
        return ["spec.fallback is missing: a failing query would hold nothing"] if wants else []
    found = [
        f"spec.fallback.{key} is missing" for key in ("failureThreshold", "replicas") if key not in fallback
    ]
    if not any(trigger.get("metricType", "AverageValue") == "AverageValue" for trigger in triggers):
        found.append("spec.fallback needs a trigger of metricType AverageValue")
    return found


def number(text: str) -> float:
    """Return a text as a number; minus infinity when it is none."""
    try:
        return float(text)
    except ValueError:
        return float("-inf")

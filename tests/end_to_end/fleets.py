"""A recorded service as a fleet of several: the same samples, with pods, models and namespaces renamed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hs_analysis.evidence import path

Labels = dict[str, str]
Rename = Callable[[Labels, int], Labels]
"""Takes the labels of a recorded series and the number of a service; returns what it is called there."""

MODEL = "sim-llama-8b"


def model_of(number: int) -> str:
    """Return the model of a service."""
    return f"sim-llama-8b-v{number}"


def by_dynamo_namespace(labels: Labels, number: int) -> Labels:
    """Rename as for services outside Kubernetes: no namespace; the discovery's own tells them apart."""
    return _renamed(labels, number) | _given(labels, "dynamo_namespace", f"graph-{number}")


def by_namespace(labels: Labels, number: int) -> Labels:
    """Rename as for services in Kubernetes namespaces of their own that share the discovery's."""
    return _renamed(labels, number) | {"namespace": f"team-{number}"}


def by_owner(labels: Labels, number: int) -> Labels:
    """Rename as for services of one Kubernetes namespace whose pods are replicas of one StatefulSet each."""
    found = labels | _model(labels, number) | _instance(labels, number) | {"namespace": "serving"}
    return found | _given(labels, "pod", labels.get("pod", "").replace("llama8b", f"llama8b-v{number}"))


def in_one_namespace(labels: Labels, number: int) -> Labels:
    """Rename so that nothing tells whose the prefill workers of a namespace are."""
    return _renamed(labels, number) | {"namespace": "serving"}


def fleet(source: Path, target: Path, numbers: range, rename: Rename) -> Path:
    """Write the answer of a recorded service once for each of several, into one file."""
    answer = json.loads(gzip.decompress(source.read_bytes()))
    recorded = answer["data"]["result"]
    answer["data"]["result"] = [
        {**one, "metric": rename(one["metric"], number)} for number in numbers for one in recorded
    ]
    target.mkdir(parents=True)
    (target / source.name).write_bytes(gzip.compress(json.dumps(answer).encode(), 1, mtime=0))
    return target


def _renamed(labels: Labels, number: int) -> Labels:
    """Give every pool a Deployment of its own, whose pods say nothing of the other pools."""
    return labels | _model(labels, number) | _instance(labels, number) | _pod(labels, number)


def _model(labels: Mapping[str, str], number: int) -> Labels:
    return {name: model_of(number) for name in ("model", "model_name") if name in labels}


def _instance(labels: Mapping[str, str], number: int) -> Labels:
    port = labels["instance"].rpartition(":")[2]
    return {"instance": f"10.0.{number}.1:{port}"} if labels["job"] != "prometheus" else {}


def _pod(labels: Mapping[str, str], number: int) -> Labels:
    """Return the pod renamed: prefill workers are 0 to 2 in the recording, decode workers 3 to 6."""
    if "pod" not in labels:
        return {}
    last = labels["pod"].rpartition("-")[2]
    pool = "front" if "frontend" in labels["pod"] else "ctx" if int(last) < 3 else "gen"
    return {"pod": f"{pool}{number}-7d9f8b6c5-x2z4{'bcdfghj'[int(last)]}"}


def _given(labels: Mapping[str, str], name: str, value: str) -> Labels:
    return {name: value} if name in labels else {}


def numbers_of(plain: Any, name: str) -> Any:
    """Return plain data without the name of a service in texts and links, so that services compare."""
    if isinstance(plain, dict):
        return {key: numbers_of(value, name) for key, value in plain.items()}
    if isinstance(plain, list):
        return [numbers_of(value, name) for value in plain]
    if not isinstance(plain, str):
        return plain
    encoded = path(name, "derive", "capacity").partition("/")[0]
    return plain.replace(name, "SERVICE").replace(encoded, "SERVICE")

"""hsa export: objects that apply as they are, as they are called as today's; and what is left to fill in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

QUERIES = {
    "prefill": 'sum(rate(vllm:prompt_tokens_by_source_total{source="local_compute"}[1m]))',
    "decode": "sum(rate(vllm:generation_tokens_total[1m]))",
}
ADDRESS = "https://thanos.observability.svc:9091/tenant-7"
SCALED = {
    "prefill": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "eu-ingress"},
    "decode": {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "eu-gen"},
}
"""What is scaled; neither name says the pool."""


def keda(role: str) -> dict[str, Any]:
    """Return a ScaledObject of the user's, with names of their own."""
    metadata = {
        "serverAddress": ADDRESS, "query": QUERIES[role], "threshold": "700", "authModes": "bearer",
        "namespace": "tenant-7",
    }  # fmt: skip
    spec = {
        "scaleTargetRef": SCALED[role],
        "minReplicaCount": 2,
        "maxReplicaCount": 9,
        "triggers": [
            {"type": "prometheus", "metadata": metadata, "authenticationRef": {"name": "thanos-token"}}
        ],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": spec}


def hpa(role: str) -> dict[str, Any]:
    """Return a HorizontalPodAutoscaler of the user's."""
    metric = {"metric": {"name": f"{role}_work"}, "target": {"type": "AverageValue", "averageValue": "700"}}
    spec = {
        "scaleTargetRef": SCALED[role],
        "minReplicas": 2,
        "maxReplicas": 9,
        "metrics": [{"type": "External", "external": metric}],
    }
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec}


def identity(body: dict[str, Any]) -> dict[str, Any]:
    """Return what makes an object the user's: its names, what it scales, how it reaches Prometheus."""
    metadata, spec = body["metadata"], body["spec"]
    found = {key: body[key] for key in ("apiVersion", "kind")} | {"metadata": metadata}
    found["scaleTargetRef"] = spec["scaleTargetRef"]
    for trigger in spec.get("triggers", ()):
        asked = ("query", "threshold", "ignoreNullValues", "activationThreshold")
        found["way"] = {key: value for key, value in trigger["metadata"].items() if key not in asked}
        found["authentication"] = trigger.get("authenticationRef")
    return found


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def written(folder: Path, target: str, kind: str) -> dict[str, Any]:
    """Return the objects of a kind that were exported, by name."""
    reader = YAML(typ="safe", pure=True)
    texts = [path.read_text("utf-8") for path in sorted((folder / "exports" / target).glob("*.yaml"))]
    bodies = [body for text in texts for body in reader.load_all(text) if body.get("kind") == kind]
    return {body["metadata"]["name"]: body for body in bodies}


@pytest.mark.parametrize(("target", "make", "version"), [("keda", keda, "1.35"), ("hpa", hpa, "v1.32.4-eks")])
def test_an_export_takes_the_place_of_todays_objects_without_an_edit(
    mine: Path,
    tmp_path: Path,
    hsa: Callable[..., Any],
    target: str,
    make: Callable[[str], dict[str, Any]],
    version: str,
) -> None:
    """Names, namespace, labels, scale target and the way to Prometheus are the user's, object by object.

    The HPA is for a version of Kubernetes that has no field for a tolerance.
    """
    todays, given = {}, []
    for role in ("prefill", "decode"):
        name = f"scale-{role[0]}-tier"
        metadata = {"name": name, "namespace": "serving-eu", "labels": {"team": "search"}}
        todays[name] = make(role) | {"metadata": metadata}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(todays[name]))
        given += ["--current", f"{role}={path}"]
    done = hsa("export", mine, "--target", target, "-q", "--kube-version", version, *given)
    assert done.returncode == 0, done.stderr
    exported = written(mine, target, next(iter(todays.values()))["kind"])
    assert {name: identity(body) for name, body in exported.items()} == {
        name: identity(body) for name, body in todays.items()
    }
    assert "To fill in" not in done.stdout
    assert ("tolerance" in json.dumps(exported)) == (target == "keda")
    assert ("Kubernetes 1.32 has no tolerance field" in done.stdout) == (target == "hpa")
    assert "fill-in-" not in "".join(
        line
        for path in (mine / "exports" / target).iterdir()
        for line in path.read_text("utf-8").splitlines()
        if not line.startswith("#")
    )


def test_names_of_the_settings_are_written_and_the_others_are_one_list(
    mine: Path, tmp_path: Path, hsa: Callable[..., Any]
) -> None:
    """[export] names two things; what is left has its places, and goes when it is named too."""
    config = tmp_path / "hsa.toml"
    config.write_text('[export]\nnamespace = "llm"\ndecode = "LeaderWorkerSet/gen"\n')
    done = hsa("export", mine, "--target", "keda", "-o", "json", "-q", "--config", config)
    (entry,) = json.loads(done.stdout)["exports"]
    names = {one["what"]: (one["value"], one["source"]) for one in entry["names"]}
    assert names["namespace"] == ("llm", "[export]")
    assert names["workload of decode"] == ("LeaderWorkerSet gen", "[export]")
    blanks = {one["text"]: one for one in entry["to_fill"]}
    assert set(blanks) == {"fill-in-prefill-workload", "fill-in-prometheus-address"}
    assert (
        blanks["fill-in-prefill-workload"]["why"]
        == "its pods are called m-prefill-0, m-prefill-1, m-prefill-2"
    )
    (objects,) = (mine / "exports" / "keda").glob("*.scaledobjects.yaml")
    lines = objects.read_text("utf-8").splitlines()
    for one in blanks.values():
        for place in one["places"]:
            name, _, number = place.rpartition(":")
            assert name == objects.name
            assert one["text"] in lines[int(number) - 1]
    with config.open("a") as more:
        more.write('prefill = "Deployment/ingress"\nserver_address = "http://p:9090"\n')
    done = hsa("export", mine, "--target", "keda", "-o", "json", "-q", "--config", config)
    assert json.loads(done.stdout)["exports"][0]["to_fill"] == []

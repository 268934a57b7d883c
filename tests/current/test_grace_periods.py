"""Grace periods of pods: read from any pod template that stands among today's objects."""

from __future__ import annotations

from hs_analysis.current import read_grace_periods

OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: llama-decode}
spec:
  template:
    spec: {terminationGracePeriodSeconds: 120, containers: [{name: engine}]}
---
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: llama-prefill}
spec:
  leaderWorkerTemplate:
    workerTemplate: {spec: {terminationGracePeriodSeconds: 45}}
---
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  services:
    decode: {extraPodSpec: {terminationGracePeriodSeconds: 300}}
    frontend: {replicas: 1}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: s}
spec: {cooldownPeriod: 300}
"""


def test_every_pod_template_is_read_with_the_names_above_it() -> None:
    """Deployment, LeaderWorkerSet and a graph; what says none gives none."""
    found = read_grace_periods(OBJECTS, "o.yaml")
    assert [(one.seconds, one.where) for one in found] == [
        (120.0, "o.yaml:2"), (45.0, "o.yaml:9"), (300.0, "o.yaml:16"),
    ]  # fmt: skip
    assert found[0].names[-1] == "llama-decode"
    assert found[2].names[:2] == ("extraPodSpec", "decode")

"""What an export is: files, and what the target could not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Loss:
    """A policy item that the target does not carry, or not quite.

    Attributes
    ----------
    item
        Path in the policy, such as ``guards[0].tiers``; it covers everything below. ``*.evidence`` covers
        every field of that name below the top, ``*`` the whole policy.
    kind
        ``dropped`` = nothing of it is in the output; ``approximated`` = something close to it is;
        ``refused`` = no object was written for it.
    text
        What that means, and what to do about it.
    """

    item: str
    kind: Literal["dropped", "approximated", "refused"]
    text: str

    def covers(self, path: str) -> bool:
        """Whether the loss speaks of this path of the policy."""
        where = path.replace("[", ".[") + "."
        if self.item.startswith("*."):
            return f"{self.item[1:]}." in where
        return self.item == "*" or where.startswith(self.item.replace("[", ".[") + ".")


@dataclass(frozen=True)
class Export:
    """Files of one target by name, and everything of the policy that they do not say."""

    target: str
    files: dict[str, str]
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class Workload:
    """The object whose replica count is set."""

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"


@dataclass(frozen=True)
class ExportOptions:
    """What the policy does not know of the cluster.

    Attributes
    ----------
    namespace
        Kubernetes namespace of the objects; None takes the service's own.
    workloads
        Scaled object per role; a role that is absent gets ``<model>-<role>``.
    server_address
        Prometheus as seen from the autoscaler.
    scrape_interval_s
        Interval at which the recording rules are evaluated [s].
    kubernetes
        Version of the cluster; fields it does not know are left out.
    policy_sha256
        SHA-256 of policy.yaml, for the header.
    notes
        What the user should know of the expressions; printed above the rules.
    """

    namespace: str | None = None
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    # Address of the usual monitoring stack (kube-prometheus); a placeholder to check.
    server_address: str = "http://prometheus.monitoring.svc:9090"
    scrape_interval_s: float = 15.0
    # First version whose HPA tolerance is on without a feature gate.
    kubernetes: tuple[int, int] = (1, 35)
    policy_sha256: str = ""
    notes: tuple[str, ...] = ()

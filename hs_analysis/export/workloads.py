"""The Kubernetes objects behind the pools, where the input names them."""

from __future__ import annotations

import polars as pl

from hs_analysis.export.model import Workload
from hs_analysis.export.promql import labels_by_role

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

"""Where a series comes from: exporter, namespace and the unit an autoscaler adds, from its labels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hs_analysis.catalogue import Catalogue, Exporter

POD_LABELS = ("exported_pod", "pod_name", "pod")
NAMESPACE_LABELS = ("exported_namespace", "pod_namespace", "namespace")
HOST_LABELS = ("Hostname", "hostname", "node", "host")
GROUP_LABELS = ("leaderworkerset_sigs_k8s_io_name", "leaderworkerset_sigs_k8s_io_group_index")
"""Labels in order of preference; a replica group needs both of its labels (LeaderWorkerSet documentation)."""

NO_NAMESPACE = "-"

PlaceKey = tuple[str, str, str]
"""A place: capture, namespace and name of the scaling unit."""


@dataclass(frozen=True)
class Placed:
    """One series: its exporter, and the place it speaks of.

    ``place`` is the replica group, pod, scrape target or host, None when the labels name none; ``unit_kind``
    says which; ``model`` is lower-cased.
    """

    metric: str
    labels: Mapping[str, str]
    exporter: Exporter
    capture: str
    namespace: str
    place: str | None
    unit_kind: str | None
    model: str | None

    @property
    def key(self) -> PlaceKey | None:
        """The place as a key, None when there is none."""
        return (self.capture, self.namespace, self.place) if self.place else None


def first_label(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of the labels that is there and not empty."""
    return next((labels[name] for name in names if labels.get(name)), None)


def placed(series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue) -> list[Placed]:
    """Return the place of every series, given as (capture, labels with ``__name__``).

    Series of a pod that other series count to a replica group belong to the group too.
    """
    rows = [_placed(capture, labels, catalogue) for capture, labels in series]
    groups: dict[PlaceKey, str] = {}
    for row in rows:
        pod = _pod(row.metric, row.labels, row.exporter)
        if row.unit_kind == "group" and row.place and pod:
            groups[row.capture, row.namespace, pod] = row.place
    if not groups:
        return rows
    return [
        replace(row, place=groups[row.key], unit_kind="group") if row.key and row.key in groups else row
        for row in rows
    ]


def _placed(capture: str, labels: Mapping[str, str], catalogue: Catalogue) -> Placed:
    metric = labels.get("__name__", "")
    exporter = catalogue.exporter_of(metric)
    place, kind = _place(metric, labels, exporter)
    namespace = first_label(labels, NAMESPACE_LABELS) or NO_NAMESPACE
    model = labels.get(exporter.model) if exporter.model else None
    return Placed(metric, labels, exporter, capture, namespace, place, kind, model.lower() if model else None)


def _pod(metric: str, labels: Mapping[str, str], exporter: Exporter) -> str | None:
    """Return the pod a series speaks of; an exporter's own pod is none."""
    if exporter.name == "ksm" and not metric.startswith("kube_pod"):
        return None
    if exporter.name == "dcgm" and "exported_pod" not in labels and "dcgm" in labels.get("pod", ""):
        return None
    return first_label(labels, POD_LABELS)


def _place(metric: str, labels: Mapping[str, str], exporter: Exporter) -> tuple[str | None, str | None]:
    if all(labels.get(name) for name in GROUP_LABELS):
        return "/".join(labels[name] for name in GROUP_LABELS), "group"
    if exporter.name == "ksm" and not metric.startswith("kube_pod"):
        return None, None  # what it counts has no pod
    if pod := _pod(metric, labels, exporter):
        return pod, "pod"
    if labels.get("instance") and exporter.name != "dcgm":
        return labels["instance"], "pod"
    host = first_label(labels, HOST_LABELS)
    return (host, "host") if host else (None, None)

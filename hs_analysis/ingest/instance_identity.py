"""Where a series comes from: exporter, namespace and the unit an autoscaler adds, from its labels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hs_analysis.catalogue import MAPPING, Catalogue, Exporter
from hs_analysis.catalogue.pod_labels import GROUPS, POD_LABEL_PREFIX

POD_LABELS = ("exported_pod", "pod_name", "pod")
NAMESPACE_LABELS = ("exported_namespace", "pod_namespace", "namespace")
TARGET_PODS = ("kubernetes_pod_name", "k8s_pod_name")
TARGET_NAMESPACES = ("kubernetes_namespace", "k8s_namespace_name")
HOST_LABELS = ("Hostname", "hostname", "node", "host")
"""Labels in order of preference. Those of a target name the scraped pod, as Prometheus' example configuration
for Kubernetes and OpenTelemetry's resource attributes do; not what it watches."""

NO_NAMESPACE = "-"

NO_MODEL = frozenset(("", "undefined"))
"""Values of a model label that name none; some TensorRT-LLM servers write the second."""

OriginKey = tuple[str, str, str]
"""A place: capture, namespace and name of the scaling unit."""


@dataclass(frozen=True)
class SeriesOrigin:
    """One series: its exporter, and the place it speaks of.

    ``place`` is the replica group, pod, scrape target or host, None when the labels name none; ``unit_kind``
    says which; ``pod`` is the pod it speaks of, which may be one of several of the place; ``model`` is
    lower-cased.
    """

    metric: str
    labels: Mapping[str, str]
    exporter: Exporter
    capture: str
    namespace: str
    place: str | None
    unit_kind: str | None
    pod: str | None
    model: str | None

    @property
    def key(self) -> OriginKey | None:
        """The place as a key, None when there is none."""
        return (self.capture, self.namespace, self.place) if self.place else None

    @property
    def pod_key(self) -> OriginKey | None:
        """The pod as a key, None when there is none."""
        return (self.capture, self.namespace, self.pod) if self.pod else None


def first_label(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of the labels that is there and not empty."""
    return next((labels[name] for name in names if labels.get(name)), None)


def series_origins(
    series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue
) -> list[SeriesOrigin]:
    """Return the place of every series, given as (capture, labels with ``__name__``).

    Series of a pod that other series count to a replica group belong to the group too.
    """
    rows = [_origin(capture, labels, catalogue) for capture, labels in series]
    groups = {
        row.pod_key: row.place for row in rows if row.unit_kind == "group" and row.place and row.pod_key
    }
    if not groups:
        return rows
    return [
        replace(row, place=groups[row.pod_key], unit_kind="group")
        if row.pod_key and row.pod_key in groups
        else row
        for row in rows
    ]


def group_of(labels: Mapping[str, str]) -> str | None:
    """Return the replica group that pod labels name, None when they name none."""
    for names in GROUPS:
        values = [first_label(labels, (name, POD_LABEL_PREFIX + name)) for name in names]
        if all(values):
            return "/".join(value for value in values if value)
    return None


def _origin(capture: str, labels: Mapping[str, str], catalogue: Catalogue) -> SeriesOrigin:
    metric = labels.get("__name__", "")
    exporter = catalogue.exporter_of(metric)
    pod = _pod(metric, labels, exporter)
    place, kind = _unit_of(metric, labels, exporter, pod)
    namespace = first_label(labels, NAMESPACE_LABELS)
    if namespace is None and _speaks_of_itself(exporter):
        namespace = first_label(labels, TARGET_NAMESPACES)
    model = (labels.get(exporter.model) if exporter.model else None) or ""
    named = model.lower() if model not in NO_MODEL else None
    return SeriesOrigin(
        metric=metric,
        labels=labels,
        exporter=exporter,
        capture=capture,
        namespace=namespace or NO_NAMESPACE,
        place=place,
        unit_kind=kind,
        pod=pod,
        model=named,
    )


def _counts_pods(metric: str, exporter: Exporter) -> bool:
    """Whether kube-state-metrics speaks of something other than a pod; its own pod is not meant."""
    return exporter.name == "ksm" and not metric.startswith("kube_pod")


def _pod(metric: str, labels: Mapping[str, str], exporter: Exporter) -> str | None:
    """Return the pod a series speaks of; an exporter's own pod is none."""
    if _counts_pods(metric, exporter):
        return None
    own = labels.get("pod", "")
    if (
        exporter.watches_gpus
        and "exported_pod" not in labels
        and ("dcgm" in own or "metrics-exporter" in own)
    ):
        return None
    target = first_label(labels, TARGET_PODS) if _speaks_of_itself(exporter) else None
    return first_label(labels, POD_LABELS) or target


def _speaks_of_itself(exporter: Exporter) -> bool:
    """Whether series speak of what is scraped: of an engine or a front end, not of what is watched."""
    return not (exporter.watches_gpus or exporter.host is not None or exporter.name == "ksm")


def _unit_of(
    metric: str, labels: Mapping[str, str], exporter: Exporter, pod: str | None
) -> tuple[str | None, str | None]:
    if exporter.name == MAPPING and labels.get("instance"):
        return labels["instance"], "pod"
    if group := group_of(labels):
        return group, "group"
    if _counts_pods(metric, exporter):
        return None, None
    if pod:
        return pod, "pod"
    if labels.get("instance") and not exporter.watches_gpus and exporter.host is None:
        return labels["instance"], "pod"
    host = first_label(labels, (*((exporter.host,) if exporter.host else ()), *HOST_LABELS))
    return (host, "host") if host else (None, None)

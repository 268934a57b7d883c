"""Who a series speaks of: exporter, place, role, service, instance and GPU type, from its labels alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hs_analysis.catalogue import Catalogue, Exporter

POD_LABELS = ("exported_pod", "pod_name", "pod")
NAMESPACE_LABELS = ("exported_namespace", "pod_namespace", "namespace")
HOST_LABELS = ("Hostname", "hostname", "node", "host")
GROUP_LABELS = ("leaderworkerset_sigs_k8s_io_name", "leaderworkerset_sigs_k8s_io_group_index")
POD_ROLE_LABELS = {
    "label_llm_d_ai_role": {
        "prefill": "prefill", "decode": "decode", "prefill-decode": "mixed", "both": "mixed", "encode": "encode",
    },
    "label_role_name": {"prefill": "prefill", "decode": "decode"},
}  # fmt: skip
"""Pod labels that name the role, as kube_pod_labels exports them (llm-d and AIBrix documentation)."""

_WORDS = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}

DEFAULT_SERVICE = "default"


@dataclass(frozen=True)
class Identity:
    """What the labels of one series say."""

    exporter: str
    emitter_role: str
    role_evidence: str
    service: str | None
    instance: str | None
    unit_kind: str | None
    gpu_type: str | None
    gpu_id: str | None


@dataclass
class _Series:
    metric: str
    labels: Mapping[str, str]
    exporter: Exporter
    capture: str
    namespace: str
    place: str | None
    unit_kind: str | None
    model: str | None


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((labels[name] for name in names if labels.get(name)), None)


def _place(metric: str, labels: Mapping[str, str], exporter: Exporter) -> tuple[str | None, str | None]:
    """Return the scaling unit a series belongs to and its kind: replica group, pod, scrape target or host."""
    if all(labels.get(name) for name in GROUP_LABELS):
        return "/".join(labels[name] for name in GROUP_LABELS), "group"
    if exporter.name == "ksm" and not metric.startswith("kube_pod"):
        return None, None  # its own pod label is the exporter's
    pod = _first(labels, POD_LABELS)
    own_pod = exporter.name == "dcgm" and "exported_pod" not in labels and "dcgm" in labels.get("pod", "")
    if pod and not own_pod:
        return pod, "pod"
    if labels.get("instance") and exporter.name != "dcgm":
        return labels["instance"], "pod"
    host = _first(labels, HOST_LABELS)
    return (host, "host") if host else (None, None)


def whole_word_role(name: str) -> str | None:
    """Return the role a name spells out as a whole word; None when it names none or both."""
    hits = [role for role, word in _WORDS.items() if word.search(name)]
    return hits[0] if len(hits) == 1 else None


def identify(series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue) -> list[Identity]:
    """Return the identity of every series.

    Parameters
    ----------
    series
        (capture, labels with ``__name__``) per series.
    catalogue
        Exporters and their role labels.

    Returns
    -------
    list of Identity, in the order of ``series``.

    Notes
    -----
    The role chain is: front-end metric at the place, role label on any series of the place, pod label
    (kube_pod_labels), whole word in the pod's or deployment's name, unknown. The step is kept as evidence.
    A place is the scaling unit: replica group, pod, scrape target or host.
    """
    rows = [_parsed(capture, labels, catalogue) for capture, labels in series]
    roles = _roles_by_place(rows)
    services = _services(rows)
    gpus = _gpu_types(rows)
    result = []
    for row, service in zip(rows, services, strict=True):
        role, evidence = _role_of(row, roles)
        key = (row.capture, row.namespace, row.place or "")
        gpu_id = row.labels.get(row.exporter.gpu_id) if row.exporter.gpu_id else None
        result.append(
            Identity(
                row.exporter.name, role, evidence, service, row.place, row.unit_kind, gpus.get(key), gpu_id
            )
        )
    return result


def _parsed(capture: str, labels: Mapping[str, str], catalogue: Catalogue) -> _Series:
    metric = labels.get("__name__", "")
    exporter = catalogue.exporter_of(metric)
    place, kind = _place(metric, labels, exporter)
    namespace = _first(labels, NAMESPACE_LABELS) or "-"
    model = labels.get(exporter.model) if exporter.model else None
    return _Series(
        metric, labels, exporter, capture, namespace, place, kind, model.lower() if model else None
    )


PlaceKey = tuple[str, str, str]


def _roles_by_place(rows: Sequence[_Series]) -> dict[PlaceKey, tuple[str, str]]:
    """Return (role, evidence) per (capture, namespace, place) that the first steps of the chain settle."""
    labelled: dict[PlaceKey, set[tuple[str, str]]] = defaultdict(set)
    frontends: dict[PlaceKey, str] = {}
    joined: dict[PlaceKey, tuple[str, str]] = {}
    for row in rows:
        key = (row.capture, row.namespace, row.place or "")
        if row.exporter.frontend:
            frontends.setdefault(key, f"metric:{row.exporter.match}")
        for label, values in row.exporter.role_label.items():
            if role := values.get(row.labels.get(label, "")):
                labelled[key].add((role, f"label:{label}"))
        if row.metric == "kube_pod_labels":
            for label, values in POD_ROLE_LABELS.items():
                if role := values.get(row.labels.get(label, "")):
                    joined[key] = (role, f"pod_label:{label}")
    disaggregated = {key[0] for key, found in labelled.items() if any(role == "prefill" for role, _ in found)}
    settled: dict[PlaceKey, tuple[str, str]] = dict(joined)
    for key, found in labelled.items():
        if len({role for role, _ in found}) == 1:
            role, evidence = min(found)
            alone = role == "decode" and evidence == "label:dynamo_component" and key[0] not in disaggregated
            settled[key] = ("mixed" if alone else role, evidence)
    settled.update({key: ("frontend", evidence) for key, evidence in frontends.items()})
    return settled


def _role_of(row: _Series, roles: Mapping[PlaceKey, tuple[str, str]]) -> tuple[str, str]:
    if row.exporter.frontend:
        return "frontend", f"metric:{row.exporter.match}"
    key = (row.capture, row.namespace, row.place or "")
    if row.place and key in roles:
        return roles[key]
    for source, name in (("pod_name", row.place), ("deployment_name", row.labels.get("deployment"))):
        if name and (role := whole_word_role(name)):
            return role, source
    return "unknown", "none"


def _gpu_types(rows: Sequence[_Series]) -> dict[PlaceKey, str]:
    """Return the GPU model per place: the target label gpu_type, else the GPU exporter's own label."""
    found: dict[PlaceKey, Counter[str]] = defaultdict(Counter)
    for row in rows:
        name = row.labels.get("gpu_type") or (
            row.labels.get(row.exporter.gpu_type) if row.exporter.gpu_type else None
        )
        if name and row.place:
            found[row.capture, row.namespace, row.place][name] += 1
    return {key: min(names, key=lambda n: (-names[n], n)) for key, names in found.items()}


def _services(rows: Sequence[_Series]) -> list[str | None]:
    """Return namespace/model per series; series without a model inherit it from their place or deployment."""
    namespaces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.model:
            namespaces[row.model].add(row.namespace)

    def name(model: str, namespace: str) -> str:
        known = namespaces[model] - {"-"}
        return f"{min(known) if namespace == '-' and len(known) == 1 else namespace}/{model}"

    by_place: dict[PlaceKey, set[str]] = defaultdict(set)
    for row in rows:
        if row.model and row.place:
            by_place[row.capture, row.namespace, row.place].add(name(row.model, row.namespace))
    everything = {name(row.model, row.namespace) for row in rows if row.model}
    only = next(iter(everything)) if len(everything) == 1 else (None if everything else DEFAULT_SERVICE)
    pods = {key: next(iter(found)) for key, found in by_place.items() if len(found) == 1}
    return [_service_of(row, name, pods, only) for row in rows]


def _service_of(
    row: _Series, name: Callable[[str, str], str], pods: Mapping[PlaceKey, str], only: str | None
) -> str | None:
    if row.model:
        return name(row.model, row.namespace)
    if row.place and (found := pods.get((row.capture, row.namespace, row.place))):
        return found
    if deployment := row.labels.get("deployment"):
        children = {
            s
            for (c, n, p), s in pods.items()
            if (c, n) == (row.capture, row.namespace) and p.startswith(f"{deployment}-")
        }
        if len(children) == 1:
            return children.pop()
    return only

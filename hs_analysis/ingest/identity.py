"""Who a series speaks of: exporter, place, role, service, instance and GPU type, from its labels alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hs_analysis.catalogue import MAPPING, Catalogue
from hs_analysis.errors import UsageError
from hs_analysis.ingest.places import NO_NAMESPACE, Placed, PlaceKey, placed
from hs_analysis.ingest.roles import PodLabelJoin, pod_label_join, roles_of
from hs_analysis.schema.settings import Reading

DEFAULT_SERVICE = "default"
"""Name of the service when no series names a model."""


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


def identify(
    series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue, reading: Reading | None = None
) -> list[Identity]:
    """Return the identity of every series.

    Parameters
    ----------
    series
        (capture, labels with ``__name__``) per series.
    catalogue
        Exporters and their role labels, the user's rows included.
    reading
        The user's own patterns: ``roles`` on the instance, ``services`` on a label written ``label=value``.

    Returns
    -------
    list of Identity, in the order of ``series``; nothing in it depends on that order.

    Raises
    ------
    UsageError
        When a pattern of the settings is no regular expression, or names a role that does not exist.
    """
    told = reading or Reading()
    rows = placed(series, catalogue)
    gpus = _gpu_types(rows)
    roles = roles_of(rows, told.roles)
    result = []
    for row, (role, evidence), service in zip(rows, roles, _services(rows, told.services), strict=True):
        gpu_id = row.labels.get(row.exporter.gpu_id) if row.exporter.gpu_id else None
        gpu_type = gpus.get(row.key) if row.key else None
        result.append(
            Identity(row.exporter.name, role, evidence, service, row.place, row.unit_kind, gpu_type, gpu_id)
        )
    return result


def joined_pod_labels(series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue) -> PodLabelJoin:
    """Return how the pods of engines match kube_pod_labels, for series given as to `identify`."""
    return pod_label_join(placed(series, catalogue))


def _gpu_types(rows: Sequence[Placed]) -> dict[PlaceKey, str]:
    """Return the GPU model per place: the target label gpu_type, else the GPU exporter's own label."""
    found: dict[PlaceKey, Counter[str]] = defaultdict(Counter)
    for row in rows:
        own = row.labels.get(row.exporter.gpu_type) if row.exporter.gpu_type else None
        name = row.labels.get("gpu_type") or own
        if name and row.key:
            found[row.key][name] += 1
    return {key: min(names, key=lambda n: (-names[n], n)) for key, names in found.items()}


def _services(rows: Sequence[Placed], mapped: Mapping[str, str]) -> list[str | None]:
    """Return the service per series: the user's, else namespace/model.

    Series without a model inherit it from their pod, their place or their deployment; what a pattern of the
    user's says of one series of a place holds for its others.
    """
    told = _told(rows, mapped)
    namespaces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.model:
            namespaces[row.model].add(row.namespace)

    def name(model: str, namespace: str) -> str:
        known = namespaces[model] - {NO_NAMESPACE}
        inherits = namespace == NO_NAMESPACE and len(known) == 1
        return f"{min(known) if inherits else namespace}/{model}"

    own = [
        told.get(i) or (name(row.model, row.namespace) if row.model else None) for i, row in enumerate(rows)
    ]
    by_place: dict[PlaceKey, set[str]] = defaultdict(set)
    for row, service in zip(rows, own, strict=True):
        for key in {row.pod_key, row.key} - {None}:
            if service and key:
                by_place[key].add(service)
    everything = {service for service in own if service}
    only = next(iter(everything)) if len(everything) == 1 else (None if everything else DEFAULT_SERVICE)
    pods = {key: next(iter(found)) for key, found in by_place.items() if len(found) == 1}
    given = _given_places(rows, told)
    return [
        told.get(i) or (given.get(row.key) if row.key else None) or _service_of(row, name, pods, only)
        for i, row in enumerate(rows)
    ]


def _told(rows: Sequence[Placed], mapped: Mapping[str, str]) -> dict[int, str]:
    """Return the service of the series that a pattern of the user's, or their own label, names."""
    patterns = []
    for pattern, service in mapped.items():
        try:
            patterns.append((re.compile(pattern), service))
        except re.error as error:
            raise UsageError(f"no regular expression: {error}", where=f'services."{pattern}"') from error
    found: dict[int, str] = {}
    for i, row in enumerate(rows if patterns else ()):
        pairs = [f"{label}={value}" for label, value in sorted(row.labels.items()) if label != "__name__"]
        hits = (service for words, service in patterns if any(map(words.search, pairs)))
        if first := next(hits, None):
            found[i] = first
    own = {i: row.labels["service"] for i, row in enumerate(rows) if _is_mapped(row)}
    return own | found


def _is_mapped(row: Placed) -> bool:
    """Whether a series is of the user's own rows and names its service; others' label means another thing."""
    return row.exporter.name == MAPPING and bool(row.labels.get("service"))


def _given_places(rows: Sequence[Placed], told: Mapping[int, str]) -> dict[PlaceKey, str]:
    """Return the places all of whose told series agree on the service."""
    found: dict[PlaceKey, set[str]] = defaultdict(set)
    for i, service in told.items():
        key = rows[i].key
        if key:
            found[key].add(service)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}


def _service_of(
    row: Placed, name: Callable[[str, str], str], pods: Mapping[PlaceKey, str], only: str | None
) -> str | None:
    if row.model:
        return name(row.model, row.namespace)
    for key in (row.pod_key, row.key):
        if key and (found := pods.get(key)):
            return found
    if deployment := row.labels.get("deployment") or row.labels.get("statefulset"):
        children = {
            service
            for (capture, namespace, place), service in pods.items()
            if (capture, namespace) == (row.capture, row.namespace) and place.startswith(f"{deployment}-")
        }
        if len(children) == 1:
            return children.pop()
    return only

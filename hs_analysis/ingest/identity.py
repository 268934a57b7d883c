"""Who a series speaks of: exporter, place, role, service, instance and GPU type, from its labels alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hs_analysis.catalogue import Catalogue
from hs_analysis.ingest.places import NO_NAMESPACE, Placed, PlaceKey, placed
from hs_analysis.ingest.roles import roles_of

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
    list of Identity, in the order of ``series``; nothing in it depends on that order.
    """
    rows = placed(series, catalogue)
    gpus = _gpu_types(rows)
    result = []
    for row, (role, evidence), service in zip(rows, roles_of(rows), _services(rows), strict=True):
        gpu_id = row.labels.get(row.exporter.gpu_id) if row.exporter.gpu_id else None
        gpu_type = gpus.get(row.key) if row.key else None
        result.append(
            Identity(row.exporter.name, role, evidence, service, row.place, row.unit_kind, gpu_type, gpu_id)
        )
    return result


def _gpu_types(rows: Sequence[Placed]) -> dict[PlaceKey, str]:
    """Return the GPU model per place: the target label gpu_type, else the GPU exporter's own label."""
    found: dict[PlaceKey, Counter[str]] = defaultdict(Counter)
    for row in rows:
        own = row.labels.get(row.exporter.gpu_type) if row.exporter.gpu_type else None
        name = row.labels.get("gpu_type") or own
        if name and row.key:
            found[row.key][name] += 1
    return {key: min(names, key=lambda n: (-names[n], n)) for key, names in found.items()}


def _services(rows: Sequence[Placed]) -> list[str | None]:
    """Return namespace/model per series; series without a model inherit it from their place or deployment."""
    namespaces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.model:
            namespaces[row.model].add(row.namespace)

    def name(model: str, namespace: str) -> str:
        known = namespaces[model] - {NO_NAMESPACE}
        inherits = namespace == NO_NAMESPACE and len(known) == 1
        return f"{min(known) if inherits else namespace}/{model}"

    by_place: dict[PlaceKey, set[str]] = defaultdict(set)
    for row in rows:
        if row.model and row.key:
            by_place[row.key].add(name(row.model, row.namespace))
    everything = {name(row.model, row.namespace) for row in rows if row.model}
    only = next(iter(everything)) if len(everything) == 1 else (None if everything else DEFAULT_SERVICE)
    pods = {key: next(iter(found)) for key, found in by_place.items() if len(found) == 1}
    return [_service_of(row, name, pods, only) for row in rows]


def _service_of(
    row: Placed, name: Callable[[str, str], str], pods: Mapping[PlaceKey, str], only: str | None
) -> str | None:
    if row.model:
        return name(row.model, row.namespace)
    if row.key and (found := pods.get(row.key)):
        return found
    if deployment := row.labels.get("deployment"):
        children = {
            service
            for (capture, namespace, place), service in pods.items()
            if (capture, namespace) == (row.capture, row.namespace) and place.startswith(f"{deployment}-")
        }
        if len(children) == 1:
            return children.pop()
    return only

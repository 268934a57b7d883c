"""Who a series speaks of: exporter, place, role, service, instance and GPU type, from its labels alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hs_analysis.catalogue import Catalogue
from hs_analysis.ingest.places import Placed, PlaceKey, placed
from hs_analysis.ingest.roles import PodLabelJoin, pod_label_join, roles_of
from hs_analysis.ingest.services import services_of
from hs_analysis.schema.settings import Reading


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
    for row, (role, evidence), service in zip(rows, roles, services_of(rows, told.services), strict=True):
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

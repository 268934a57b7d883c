"""The role chain: from the labels and names of a place's series to what it does."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from hs_analysis.ingest.places import Placed, PlaceKey

_POD_ROLES = {"prefill": "prefill", "decode": "decode", "encode": "encode"}
_LLM_D_ROLES = {**_POD_ROLES, "prefill-decode": "mixed", "both": "mixed"}
POD_ROLE_LABELS = {
    "label_llm_d_ai_role": _LLM_D_ROLES,
    "llm_d_ai_role": _LLM_D_ROLES,
    "label_role_name": _POD_ROLES,
    "role_name": _POD_ROLES,
}
"""Pod labels that name the role (llm-d and AIBrix documentation), as kube_pod_labels exports them and as a
labelmap rule puts them on the pod's own series."""

DYNAMO_COMPONENT = "dynamo_component"
"""Dynamo's role label. Its decode worker is called backend, and so is a worker that does both."""

_WORDS = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}

Role = tuple[str, str]
"""A role and the step of the chain that decided it."""


def whole_word_role(name: str) -> str | None:
    """Return the role a name spells out as a whole word; None when it names none or both."""
    hits = [role for role, word in _WORDS.items() if word.search(name)]
    return hits[0] if len(hits) == 1 else None


def roles_of(rows: Sequence[Placed]) -> list[Role]:
    """Return (role, evidence) per series.

    Notes
    -----
    First hit wins: front-end metric at the place, role label on any series of the place, pod label, whole
    word in the name of the place or deployment, unknown. A place whose series carry different role labels is
    decided by the later steps. A series without a place speaks for itself only.
    """
    workers = _dynamo_workers(rows)
    labelled = {i: role for i, row in enumerate(rows) if (role := _by_label(row, workers))}
    settled = _settled(rows, labelled)
    return [_role_of(row, settled, labelled.get(i)) for i, row in enumerate(rows)]


def _graph(row: Placed) -> tuple[str, str, str]:
    """Return what one Dynamo deployment shares; its namespace label is not the Kubernetes one."""
    return row.capture, row.namespace, row.labels.get("dynamo_namespace", "")


def _dynamo_workers(rows: Sequence[Placed]) -> set[tuple[str, str, str]]:
    """Return the Dynamo deployments that have prefill workers."""
    return {
        _graph(row)
        for row in rows
        if not row.exporter.frontend and row.labels.get(DYNAMO_COMPONENT) == "prefill"
    }


def _by_label(row: Placed, disaggregated: set[tuple[str, str, str]]) -> Role | None:
    for label, values in row.exporter.role_label.items():
        if role := values.get(row.labels.get(label, "")):
            does_both = label == DYNAMO_COMPONENT and role == "decode" and _graph(row) not in disaggregated
            return "mixed" if does_both else role, f"label:{label}"
    return None


def _settled(rows: Sequence[Placed], labelled: Mapping[int, Role]) -> dict[PlaceKey, Role]:
    """Return the role per place that front-end metrics, role labels or pod labels settle."""
    by_label: dict[PlaceKey, set[Role]] = defaultdict(set)
    by_pod_label: dict[PlaceKey, set[Role]] = defaultdict(set)
    frontends: dict[PlaceKey, Role] = {}
    for i, row in enumerate(rows):
        if row.key is None:
            continue
        if row.exporter.frontend:
            frontends[row.key] = min(frontends.get(row.key, ("~", "")), _frontend(row))
        if i in labelled:
            by_label[row.key].add(labelled[i])
        if found := _by_pod_label(row.labels):
            by_pod_label[row.key].add(found)
    return {**_unanimous(by_pod_label), **_unanimous(by_label), **frontends}


def _by_pod_label(labels: Mapping[str, str]) -> Role | None:
    for label, values in POD_ROLE_LABELS.items():
        if role := values.get(labels.get(label, "")):
            return role, f"pod_label:{label}"
    return None


def _unanimous(found: Mapping[PlaceKey, set[Role]]) -> dict[PlaceKey, Role]:
    return {key: min(roles) for key, roles in found.items() if len({role for role, _ in roles}) == 1}


def _frontend(row: Placed) -> Role:
    return "frontend", f"metric:{row.exporter.match}"


def _role_of(row: Placed, settled: Mapping[PlaceKey, Role], own: Role | None) -> Role:
    if row.exporter.frontend:
        return _frontend(row)
    by_labels = settled.get(row.key) if row.key else own or _by_pod_label(row.labels)
    if by_labels:
        return by_labels
    for source, name in (("pod_name", row.place), ("deployment_name", row.labels.get("deployment"))):
        if name and (role := whole_word_role(name)):
            return role, source
    return "unknown", "none"

"""The role chain: from the labels and names of a place's series to what it does."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hs_analysis.catalogue import MAPPING
from hs_analysis.catalogue.pod_labels import POD_LABEL_PREFIX, POD_ROLES
from hs_analysis.errors import UsageError
from hs_analysis.ingest.places import Placed, PlaceKey
from hs_analysis.patterns import check, hits

EMITTER_ROLES = ("prefill", "decode", "mixed", "encode", "frontend", "ignore")

POD_LABEL_METRIC = "kube_pod_labels"
DYNAMO_COMPONENT = "dynamo_component"
"""Dynamo's role label. Its decode worker is called backend, and so is a worker that does both."""

UNKNOWN = ("unknown", "none")

SHOWN_MISSES = 5
"""Pods a join's miss names [count]."""

_WORDS = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}

Role = tuple[str, str]
"""A role and the step of the chain that decided it."""


@dataclass(frozen=True)
class PodLabelJoin:
    """How the join of series with kube_pod_labels on (namespace, pod) went; all empty without that metric.

    Attributes
    ----------
    matched
        Pods that have both.
    without_labels
        Pods with engine series, and none in kube_pod_labels (left misses), sorted.
    without_series
        Pods in kube_pod_labels with a role label, and no engine series (right misses), sorted.
    contradictory
        Pods to which kube_pod_labels gives several roles (many-to-many matches), sorted.
    """

    matched: int
    without_labels: tuple[str, ...]
    without_series: tuple[str, ...]
    contradictory: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence per kind of miss, empty when the join is whole."""
        kinds = (
            (self.without_labels, "pods export engine metrics and have no kube_pod_labels"),
            (self.without_series, "pods have a role label and export no engine metrics"),
            (self.contradictory, "pods have several roles in kube_pod_labels: none is taken"),
        )
        return tuple(
            f"{len(pods)} {what} ({', '.join(pods[:SHOWN_MISSES])}{', …' * (len(pods) > SHOWN_MISSES)})"
            for pods, what in kinds
            if pods
        )


def whole_word_role(name: str) -> str | None:
    """Return the role a name spells out as a whole word; None when it names none or both."""
    hits = [role for role, word in _WORDS.items() if word.search(name)]
    return hits[0] if len(hits) == 1 else None


def roles_of(rows: Sequence[Placed], mapped: Mapping[str, str] | None = None) -> list[Role]:
    """Return (role, evidence) per series.

    Parameters
    ----------
    rows
        The series with their places.
    mapped
        The user's own: regular expression on the name of the place or pod → role, the first that is found in
        it wins.

    Notes
    -----
    First hit wins: the user's mapping, front-end metric at the place, role label on any series of the place,
    pod label, whole word in the name of the place or deployment, unknown. A place whose series carry
    different role labels is decided by the later steps. A series without a place speaks for itself only. What
    an instance does (`behaviour`) is asked when all of these say nothing.

    Raises
    ------
    UsageError
        When a pattern is no regular expression or names a role that does not exist.
    """
    patterns = _patterns(mapped or {}, rows)
    workers = _dynamo_workers(rows)
    labelled = {i: role for i, row in enumerate(rows) if (role := _by_label(row, workers))}
    settled = _settled(rows, labelled)
    return [_by_user(row, patterns) or _role_of(row, settled, labelled.get(i)) for i, row in enumerate(rows)]


def pod_label_join(rows: Sequence[Placed]) -> PodLabelJoin:
    """Return how the series of engines match kube_pod_labels on (namespace, pod)."""
    labels: dict[PlaceKey, set[str]] = defaultdict(set)
    engines: set[PlaceKey] = set()
    for row in rows:
        if row.pod_key is None:
            continue
        if row.metric == POD_LABEL_METRIC:
            found = _by_pod_label(row.labels)
            labels[row.pod_key] |= {found[0]} if found else set()
        elif row.model and not row.exporter.frontend:
            engines.add(row.pod_key)
    if not labels:
        return PodLabelJoin(0, (), (), ())
    several = {key for key, roles in labels.items() if len(roles) > 1}
    with_role = {key for key, roles in labels.items() if roles}
    return PodLabelJoin(
        len(engines & set(labels)),
        _names(engines - set(labels)),
        _names(with_role - engines),
        _names(several),
    )


def _names(keys: set[PlaceKey]) -> tuple[str, ...]:
    return tuple(sorted(f"{namespace}/{pod}" for _, namespace, pod in keys))


def _patterns(mapped: Mapping[str, str], rows: Sequence[Placed]) -> list[tuple[str, frozenset[str], str]]:
    """Return each pattern of the user's with the names of `rows` that it is found in, and its role."""
    found = []
    names = {name for row in rows if mapped for name in _names_of(row) if name}
    for pattern, role in mapped.items():
        if role not in EMITTER_ROLES:
            raise UsageError(
                f"no role {role!r}", where=f'roles."{pattern}"', hint=f"roles: {', '.join(EMITTER_ROLES)}"
            )
        found.append((pattern, hits(check(pattern, f'roles."{pattern}"'), names), role))
    return found


def _names_of(row: Placed) -> tuple[str | None, ...]:
    """Return the names that a pattern of the user's may be on."""
    return row.place, row.pod, _workload(row)


def _by_user(row: Placed, patterns: Sequence[tuple[str, frozenset[str], str]]) -> Role | None:
    for pattern, named, role in patterns:
        if not named.isdisjoint(_names_of(row)):
            return role, f"user:{pattern}"
    if row.exporter.name == MAPPING and (found := _by_label(row, set())):
        return found[0], "user:role"
    return None


def _workload(row: Placed) -> str | None:
    """Return the Deployment or StatefulSet that a series of kube-state-metrics speaks of."""
    return row.labels.get("deployment") or row.labels.get("statefulset")


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
    for label, values in POD_ROLES.items():
        for name in (POD_LABEL_PREFIX + label, label):
            if role := values.get(labels.get(name, "")):
                return role, f"pod_label:{name}"
    return None


def _unanimous(found: Mapping[PlaceKey, set[Role]]) -> dict[PlaceKey, Role]:
    return {key: min(roles) for key, roles in found.items() if len({role for role, _ in roles}) == 1}


def _frontend(row: Placed) -> Role:
    return "frontend", f"metric:{row.exporter.prefix_of(row.metric)}"


def _role_of(row: Placed, settled: Mapping[PlaceKey, Role], own: Role | None) -> Role:
    if row.exporter.frontend:
        return _frontend(row)
    by_labels = settled.get(row.key) if row.key else own or _by_pod_label(row.labels)
    if by_labels:
        return by_labels
    for source, name in (("pod_name", row.place), ("pod_name", row.pod), ("deployment_name", _workload(row))):
        if name and (role := whole_word_role(name)):
            return role, source
    return UNKNOWN

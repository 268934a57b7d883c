"""What a cluster calls the things that exports name, each with where that was found.

The user's settings come first, then today's objects, then kube-state-metrics, then labels and names of pods.
Nothing is guessed: where several names are found, or none, the files hold a blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import polars as pl

from hs_analysis.catalogue.pod_labels import OF_DEPLOYMENT, OF_REPLICA_SET, POD_LABEL_PREFIX
from hs_analysis.errors import first_of
from hs_analysis.export import blanks
from hs_analysis.export.model import TodaysObject, Workload, namespace_of
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.names import WORKLOAD_KINDS
from hs_analysis.schema.settings import ClusterNames

SETTINGS = "[export]"
"""Where a name is from that the user gave."""

POD_OWNER, SET_OWNER = "kube_pod_owner", "kube_replicaset_owner"
"""Metrics of kube-state-metrics: what runs a pod, and what runs a ReplicaSet."""

GROUP_LABEL = "leaderworkerset_sigs_k8s_io_name"
"""Pod label with the LeaderWorkerSet, which stands above the StatefulSets that run its pods."""

KIND_LABELS = {"deployment": "Deployment", "statefulset": "StatefulSet"}
"""Label of a series → kind of the object that it names, as service discovery attaches them."""

SERVING_LABELS = {
    "ModelServing": ("modelserving_volcano_sh_name", {}),
    "StormService": ("storm_service_name", {}),
    "LLMInferenceService": (
        "app_kubernetes_io_name", {"app_kubernetes_io_part_of": "llminferenceservice"},
    ),
    "RoleBasedGroup": ("rolebasedgroup_workloads_x_k8s_io_name", {}),
    "InferenceService": ("ome_io_inferenceservice", {}),
}  # fmt: skip
"""Kind that deploys a whole service → pod label with its name, and labels that such pods have beside it."""

SHOWN = 3
"""Names that a reason lists [count]."""


@dataclass(frozen=True)
class NameFound:
    """One name: what it is of, the name, and where it was found."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class NamesOfCluster:
    """What is known of one service: names by what they are of, where they are from, what was found instead.

    Attributes
    ----------
    namespace, server_address, workloads, serving, todays, labels
        As ``ExportOptions`` has them; None or absent where nothing tells.
    found
        Every name with its source.
    unknown
        By the blank that stands for a name: what was found in its place.
    """

    namespace: str | None
    server_address: str | None
    workloads: Mapping[str, Workload]
    serving: Mapping[str, str]
    todays: Mapping[str, TodaysObject]
    labels: Mapping[str, str]
    found: tuple[NameFound, ...]
    unknown: Mapping[str, str]


@dataclass(frozen=True)
class _Named:
    """A workload and where it was found, or why none was."""

    workload: Workload | None
    told: str


@dataclass
class _Notes:
    """What was found, and what was found in place of a name."""

    found: list[NameFound] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, value: str, source: str) -> None:
        self.found.append(NameFound(what, value, source))


def names_of(
    service: str,
    roles: Sequence[str],
    asked: ClusterNames,
    server_address: str | None,
    todays: Mapping[str, TodaysObject],
    series: pl.DataFrame,
    *,
    alone: bool,
) -> NamesOfCluster:
    """Return what a cluster calls the things that a service's exports name.

    Parameters
    ----------
    service
        ``namespace/model``.
    roles
        Its pools.
    asked, server_address
        What the user said under ``[export]``.
    todays
        Object of today per role.
    series
        All series (``SERIES``).
    alone
        Whether it is the run's only service. The user's names of workloads are of one service.
    """
    notes, capture = _Notes(), _Capture(series, service)
    namespace = _namespace(service, asked, todays, notes)
    address = _address(server_address, todays, notes)
    workloads = {}
    for role in roles:
        named = _workload(role, asked, todays.get(role), capture, alone=alone)
        if named.workload is None:
            notes.unknown |= dict.fromkeys((blanks.workload(role), blanks.pods(role)), named.told)
        else:
            workloads[role] = named.workload
            notes.add(f"workload of {role}", f"{named.workload.kind} {named.workload.name}", named.told)
    serving = _serving(asked, capture, notes, alone=alone)
    for role, one in todays.items():
        notes.add(f"{one.kind} of {role}", one.name, one.where)
    labels = dict(label.split("=", 1) for label in asked.labels)
    for name, value in labels.items():
        notes.add("label", f"{name}={value}", SETTINGS)
    kept = {
        role: replace(
            one,
            namespace=asked.namespace or one.namespace,
            access=replace(one.access, server_address=server_address or one.access.server_address),
        )
        for role, one in todays.items()
    }
    return NamesOfCluster(
        namespace, address, workloads, serving, kept, labels, tuple(notes.found), notes.unknown
    )


def _namespace(
    service: str, asked: ClusterNames, todays: Mapping[str, TodaysObject], notes: _Notes
) -> str | None:
    if asked.namespace:
        notes.add("namespace", asked.namespace, SETTINGS)
        return asked.namespace
    said: dict[str, str] = {}
    for one in todays.values():
        if one.namespace:
            said.setdefault(one.namespace, one.where)
    if len(said) == 1:
        ((namespace, where),) = said.items()
        notes.add("namespace", namespace, where)
        return namespace
    own = namespace_of(service)
    if own:
        notes.add("namespace", own, "labels of the series")
    return own


def _address(asked: str | None, todays: Mapping[str, TodaysObject], notes: _Notes) -> str | None:
    if asked:
        notes.add("address of Prometheus", asked, SETTINGS)
        return asked
    said: dict[str, str] = {}
    for one in todays.values():
        if one.access.server_address:
            said.setdefault(one.access.server_address, one.where)
    for address, where in said.items():
        notes.add("address of Prometheus", address, where)
    if len(said) > 1:
        notes.unknown[blanks.ADDRESS] = f"--current has {first_of(sorted(said), SHOWN, ' and ')}"
    return next(iter(said)) if len(said) == 1 else None


def _workload(
    role: str, asked: ClusterNames, today: TodaysObject | None, capture: _Capture, *, alone: bool
) -> _Named:
    """Return what runs a pool's pods, from the source that is trusted most."""
    said, why = asked.workloads.get(role), ""
    if said and alone:
        return _Named(workload(said), SETTINGS)
    if said:
        why = f"[export] {role} is of one service and the run has several: choose it with --service; "
    if today is not None and today.workload is not None:
        return _Named(today.workload, today.where)
    found = capture.workload(role)
    return found if found.workload else _Named(None, why + found.told)


def workload(text: str) -> Workload:
    """Return the workload that a setting names: ``KIND/NAME`` or ``GROUP/VERSION/KIND/NAME``."""
    *version, kind, name = text.split("/")
    return Workload(name, kind, "/".join(version) or WORKLOAD_KINDS[kind])


def _serving(asked: ClusterNames, capture: _Capture, notes: _Notes, *, alone: bool) -> dict[str, str]:
    if asked.serving and alone:
        notes.add("object of the service", asked.serving, SETTINGS)
        return dict.fromkeys(blanks.SERVING, asked.serving)
    found = {}
    for kind, (label, beside) in SERVING_LABELS.items():
        names = capture.values(label, beside)
        if len(names) == 1:
            found[kind] = names[0]
            notes.add(kind, names[0], f"label {label}")
        elif names:
            notes.unknown[blanks.parent(kind)] = f"label {label} has {first_of(names, SHOWN, ' and ')}"
    return found


class _Capture:
    """What the series of one service say of the objects behind its pods."""

    def __init__(self, series: pl.DataFrame, service: str) -> None:
        self._series, self._service = series, service

    @cached_property
    def _rows(self) -> list[tuple[str, str, Mapping[str, str]]]:
        """Role, metric and labels of the service's series."""
        own = self._series.filter(pl.col("service") == self._service)
        return [
            (role, metric, label_map(labels))
            for role, metric, labels in own.select("emitter_role", "metric", "labels").iter_rows()
        ]

    def values(self, label: str, beside: Mapping[str, str]) -> list[str]:
        """Return the values of a pod label on the service's series, sorted."""
        return sorted(
            {
                value
                for _, _, labels in self._rows
                if (value := _pod_label(labels, label))
                and all(_pod_label(labels, name) == wanted for name, wanted in beside.items())
            }
        )

    def workload(self, role: str) -> _Named:
        """Return what runs the pods of a role: kube-state-metrics first, then labels, then names of pods.

        The first source that names anything decides; where it names several things, none is taken.
        """
        rows = [(metric, labels) for emitter, metric, labels in self._rows if emitter == role]
        for source in (self._groups, self._owners, self._labelled, self._by_pod_name):
            found = sorted(source(rows), key=lambda one: (one[0].kind, one[0].name))
            if len({one for one, _ in found}) == 1:
                return _Named(*found[0])
            if found:
                return _Named(None, _several(found))
        return _Named(None, _numbered(rows))

    def _groups(self, rows: _Rows) -> Iterator[tuple[Workload, str]]:
        names = {name for _, labels in rows if (name := _pod_label(labels, GROUP_LABEL))}
        for name in names:
            yield _known("LeaderWorkerSet", name), f"label {GROUP_LABEL}"

    def _owners(self, rows: _Rows) -> Iterator[tuple[Workload, str]]:
        """Yield what kube_pod_owner says of the pods; a ReplicaSet's own owner is what is scaled."""
        said = {
            (labels.get("owner_kind", ""), labels.get("owner_name", ""))
            for metric, labels in rows
            if metric == POD_OWNER
        }
        for owner in said:
            is_set = owner[0] == "ReplicaSet"
            kind, name, source = self._set_owner(owner[1]) if is_set else (*owner, POD_OWNER)
            if name and kind in WORKLOAD_KINDS:
                yield _known(kind, name), source

    def _set_owner(self, name: str) -> tuple[str, str, str]:
        """Return kind and name of what runs a ReplicaSet, by its own series, else by how it is called."""
        if owned := self._sets.get(name):
            return *owned, SET_OWNER
        found = OF_REPLICA_SET.fullmatch(name)
        return "Deployment", found[1] if found else "", f"{POD_OWNER}, and the name of the ReplicaSet"

    @cached_property
    def _sets(self) -> Mapping[str, tuple[str, str]]:
        rows = self._series.filter(pl.col("metric") == SET_OWNER)["labels"]
        found = [label_map(labels) for labels in rows]
        return {
            one.get("replicaset", ""): (one.get("owner_kind", ""), one.get("owner_name", "")) for one in found
        }

    def _labelled(self, rows: _Rows) -> Iterator[tuple[Workload, str]]:
        for label, kind in KIND_LABELS.items():
            for name in {labels[label] for _, labels in rows if labels.get(label)}:
                yield _known(kind, name), f"label {label}"

    def _by_pod_name(self, rows: _Rows) -> Iterator[tuple[Workload, str]]:
        """Yield the Deployment in the names of pods, where each pod is called as a Deployment's is."""
        found = [OF_DEPLOYMENT.fullmatch(pod) for pod in _pods(rows)]
        names = {one["deployment"] for one in found if one}
        if all(found):
            for name in names:
                yield _known("Deployment", name), "names of pods"


_Rows = Sequence[tuple[str, Mapping[str, str]]]
_POD_LABELS = ("exported_pod", "pod_name", "pod", "kubernetes_pod_name", "k8s_pod_name")


def _known(kind: str, name: str) -> Workload:
    return Workload(name, kind, WORKLOAD_KINDS[kind])


def _pod_label(labels: Mapping[str, str], name: str) -> str:
    """Return a pod's label as service discovery or kube_pod_labels writes it; empty for none."""
    return labels.get(name) or labels.get(POD_LABEL_PREFIX + name) or ""


def _pods(rows: _Rows) -> list[str]:
    names = {next((labels[n] for n in _POD_LABELS if labels.get(n)), "") for _, labels in rows}
    return sorted(names - {""})


def _several(found: Sequence[tuple[Workload, str]]) -> str:
    names = list(dict.fromkeys(f"{one.kind} {one.name}" for one, _ in found))
    shown = first_of(names, SHOWN, " and ")
    return f"{found[0][1]}: {shown}; one object scales one of them by the load of all"


def _numbered(rows: _Rows) -> str:
    """Return how the pods are called, where that alone does not tell what runs them."""
    pods = _pods(rows)
    return f"its pods are called {first_of(pods, SHOWN)}" if pods else ""

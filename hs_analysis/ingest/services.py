"""Which service a series speaks of: the user's word, its model, or what it shares with series that name one.

A series without a model inherits its service from its pod, then its place, then what runs its pod, then what
it was deployed with, then its Dynamo namespace, then its Kubernetes namespace; outside Kubernetes its scrape
job comes last. A step decides where exactly one service fits. Nothing is guessed: what no step decides goes
to the only service of its capture, and belongs to none where there are several.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hs_analysis.catalogue import MAPPING
from hs_analysis.catalogue.pod_labels import DYNAMO_NAMESPACES, GRAPHS, POD_LABEL_PREFIX, WORKLOADS
from hs_analysis.ingest.places import NO_NAMESPACE, Placed, PlaceKey, first_label
from hs_analysis.patterns import check, hits

DEFAULT_SERVICE = "default"
"""Name of the service when no series names a model."""

_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
"""What Kubernetes makes random parts of names of (apimachinery's rand.SafeEncodeString)."""

_OF_DEPLOYMENT = re.compile(rf"(?P<set>(?P<deployment>.+)-{_SAFE}{{6,10}})-{_SAFE}{{5}}")
_OF_REPLICA_SET = re.compile(rf"(.+)-{_SAFE}{{6,10}}")
_NUMBERED = re.compile(r"(.+)-\d+")
_GENERATED = re.compile(rf"(.+)-{_SAFE}{{5}}")
_NO_OWNER = frozenset(("", "<none>"))

_Key = tuple[str, str, str, str]
"""What series may share: its kind, capture, namespace and name."""


def services_of(rows: Sequence[Placed], mapped: Mapping[str, str] | None = None) -> list[str | None]:
    """Return the service per series; None where several may be meant.

    Parameters
    ----------
    rows
        The series with their places.
    mapped
        The user's own: regular expression on ``label=value`` → service. What it says of one series of a place
        holds for the others of that place.

    Raises
    ------
    UsageError
        When a pattern is no regular expression.
    """
    named = _named(rows, _told(rows, mapped or {}))
    only = _only(rows, named)
    if all(service is None for service in named):
        return [DEFAULT_SERVICE] * len(rows)
    if all(only.get(row.capture) for row in rows):
        return [service or only[row.capture] for row, service in zip(rows, named, strict=True)]
    pods = _of_places(rows, named)
    shared = shared_by_place(rows, named)
    joined = _joined(shared)
    by_workload = _Workloads(shared, joined)

    def inherited(row: Placed) -> str | None:
        for key in (row.pod_key, row.key):
            if key and (found := pods.get(key)):
                return found
        if row.key:
            return joined.services[row.key]
        alone = Shared(row.capture, row.namespace)
        alone.learn(row)
        return by_workload.of(row) or joined.evidence.of(alone)

    return [
        service or inherited(row) or only.get(row.capture) for row, service in zip(rows, named, strict=True)
    ]


def controllers_of(pod: str) -> tuple[str, ...]:
    """Return what runs a pod by its name, nearest first: ReplicaSet and Deployment, or one controller.

    Empty for a name that follows no convention of Kubernetes.
    """
    if found := _OF_DEPLOYMENT.fullmatch(pod):
        return found["set"], found["deployment"]
    found = _NUMBERED.fullmatch(pod) or _GENERATED.fullmatch(pod)
    return (found[1],) if found else ()


def _named(rows: Sequence[Placed], told: Mapping[int, str]) -> list[str | None]:
    """Return the service of the series that the user or their own model names."""
    namespaces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.model:
            namespaces[row.model].add(row.namespace)

    def name(row: Placed) -> str | None:
        if not row.model:
            return None
        known = namespaces[row.model] - {NO_NAMESPACE}
        inherits = row.namespace == NO_NAMESPACE and len(known) == 1
        return f"{min(known) if inherits else row.namespace}/{row.model}"

    given = _given_places(rows, told)
    return [
        told.get(i) or (given.get(row.key) if row.key else None) or name(row) for i, row in enumerate(rows)
    ]


def _told(rows: Sequence[Placed], mapped: Mapping[str, str]) -> dict[int, str]:
    """Return the service of the series that a pattern of the user's, or their own label, names."""
    pairs = [_pairs(row) for row in rows] if mapped else []
    every = {pair for some in pairs for pair in some}
    named = [(hits(check(words, f'services."{words}"'), every), service) for words, service in mapped.items()]
    found: dict[int, str] = {}
    for i, some in enumerate(pairs):
        if first := next((service for where, service in named if not where.isdisjoint(some)), None):
            found[i] = first
    own = {i: row.labels["service"] for i, row in enumerate(rows) if _is_mapped(row)}
    return own | found


def _pairs(row: Placed) -> set[str]:
    """Return the labels of a series as the user's patterns see them, ``label=value``."""
    return {f"{label}={value}" for label, value in row.labels.items() if label != "__name__"}


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


def _only(rows: Sequence[Placed], named: Sequence[str | None]) -> dict[str, str]:
    """Return the service per capture that has exactly one, or has none while the whole input has one."""
    found: dict[str, set[str]] = {row.capture: set() for row in rows}
    for row, service in zip(rows, named, strict=True):
        if service:
            found[row.capture].add(service)
    everything = set().union(*found.values())
    return {
        capture: next(iter(names or everything))
        for capture, names in found.items()
        if len(names or everything) == 1
    }


def _of_places(rows: Sequence[Placed], named: Sequence[str | None]) -> dict[PlaceKey, str]:
    """Return the pods and places whose series name exactly one service."""
    found: dict[PlaceKey, set[str]] = defaultdict(set)
    for row, service in zip(rows, named, strict=True):
        for key in {row.pod_key, row.key} - {None}:
            if service and key:
                found[key].add(service)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}


@dataclass
class Shared:
    """What the series of one place say that others may say too."""

    capture: str
    namespace: str
    pods: set[str] = field(default_factory=set)
    controllers: set[str] = field(default_factory=set)
    deployments: set[str] = field(default_factory=set)
    graphs: set[str] = field(default_factory=set)
    dynamo: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    frontend: bool = False

    def learn(self, row: Placed) -> None:
        """Add what one series of the place says."""
        if row.pod and row.pod not in self.pods:
            self.pods.add(row.pod)
            nearest, *further = controllers_of(row.pod) or ("",)
            self.controllers |= {nearest} - _NO_OWNER
            self.deployments.update(further)
        labels = row.labels
        self.graphs.update(_values(labels, GRAPHS))
        self.dynamo.update(_values(labels, DYNAMO_NAMESPACES))
        for label, kind in WORKLOADS:
            if (name := labels.get(label, "")) not in _NO_OWNER:
                self.controllers.add(name)
                if labels.get(kind) == "ReplicaSet" and (found := _OF_REPLICA_SET.fullmatch(name)):
                    self.deployments.add(found[1])
        if job := labels.get("job"):
            self.jobs.add(job)
        self.frontend = self.frontend or row.exporter.frontend

    def steps(self) -> Iterator[tuple[_Key, ...]]:
        """Yield what may be shared, the most telling first; one that is not known has no keys."""
        kinds = (
            ("controller", self.controllers), ("controller", self.deployments), ("graph", self.graphs),
            ("dynamo", self.dynamo), ("namespace", {self.namespace} - {NO_NAMESPACE}),
            ("job", set() if self.pods else self.jobs),
        )  # fmt: skip
        for kind, names in kinds:
            yield tuple((kind, self.capture, self.namespace, name) for name in sorted(names))


def _values(labels: Mapping[str, str], names: Sequence[str]) -> set[str]:
    found = (first_label(labels, (name, POD_LABEL_PREFIX + name)) for name in names)
    return {value for value in found if value}


def shared_by_place(rows: Sequence[Placed], named: Sequence[str | None]) -> dict[PlaceKey, Shared]:
    """Return what the series of every place share; ``named`` is the known service per series."""
    found: dict[PlaceKey, Shared] = {}
    for row, service in zip(rows, named, strict=True):
        if row.key is None:
            continue
        place = found.setdefault(row.key, Shared(row.capture, row.namespace))
        place.learn(row)
        if service:
            place.services.add(service)
    known = {(one.capture, one.namespace, pod) for one in found.values() for pod in one.pods}
    for (
        one
    ) in found.values():  # a worker of a LeaderWorkerSet is called after its leader, name-1-3 after name-1
        leaders = [name for name in one.controllers if (one.capture, one.namespace, name) in known]
        one.deployments.update(name for leader in leaders for name in controllers_of(leader))
    return found


class _Evidence:
    """Which services are known by what places share.

    An engine shows where its service runs. A front end may serve several, and shows only where those are that
    no engine shows.
    """

    def __init__(self, places: Mapping[PlaceKey, Shared]) -> None:
        self._found: dict[_Key, set[str]] = defaultdict(set)
        self._dynamo: dict[tuple[str, str], set[str]] = defaultdict(set)
        by_engines: dict[tuple[str, str], set[str]] = defaultdict(set)
        for front in (False, True):
            for one in (place for place in places.values() if place.services and place.frontend is front):
                for kind, keys in _by_kind(one):
                    shown = one.services - (by_engines[one.capture, kind] if front else set())
                    self._add(keys, shown)
                    if not front and keys:
                        by_engines[one.capture, kind] |= shown

    def _add(self, keys: Sequence[_Key], services: set[str]) -> None:
        for key in keys:
            self._found[key] |= services
            if key[0] == "dynamo":
                for service in services:
                    self._dynamo[key[1], service].add(key[3])

    def of(self, one: Shared) -> str | None:
        """Return the service of the first step that exactly one fits."""
        for keys in one.steps():
            found = set().union(*(self._found.get(key, ()) for key in keys))
            if len(found) == 1 and self._fits(service := found.pop(), one):
                return service
        return None

    def _fits(self, service: str, one: Shared) -> bool:
        """Whether a service is known in none of the other Dynamo namespaces only."""
        known = self._dynamo.get((one.capture, service), set())
        return not one.dynamo or not known or bool(one.dynamo & known)


def _by_kind(one: Shared) -> Iterator[tuple[str, tuple[_Key, ...]]]:
    for keys in one.steps():
        if keys:
            yield keys[0][0], keys


@dataclass(frozen=True)
class _Joined:
    """The service per place, None where none is known, and what it was told by."""

    services: dict[PlaceKey, str | None]
    evidence: _Evidence


def _joined(places: Mapping[PlaceKey, Shared]) -> _Joined:
    """Return the service of every place; one whose series name several has none."""
    evidence = _Evidence(places)

    def service(one: Shared) -> str | None:
        if one.services:
            return next(iter(one.services)) if len(one.services) == 1 else None
        return evidence.of(one)

    return _Joined({key: service(one) for key, one in places.items()}, evidence)


class _Workloads:
    """Which service a Deployment or StatefulSet runs, by its pods."""

    def __init__(self, places: Mapping[PlaceKey, Shared], joined: _Joined) -> None:
        self._run: dict[_Key, set[str]] = defaultdict(set)
        self._pods: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for key, one in places.items():
            service = joined.services[key]
            if service is None:
                continue
            for name in one.controllers | one.deployments:
                self._run["controller", one.capture, one.namespace, name].add(service)
            names = one.pods or {key[2]}
            self._pods[one.capture, one.namespace] += [(pod, service) for pod in sorted(names)]

    def of(self, row: Placed) -> str | None:
        """Return the only service of a workload's pods, by owner, else by how their names begin."""
        name = row.labels.get("deployment") or row.labels.get("statefulset")
        if not name:
            return None
        found = self._run.get(("controller", row.capture, row.namespace, name), set())
        if not found:
            pods = self._pods.get((row.capture, row.namespace), ())
            found = {service for pod, service in pods if pod.startswith(f"{name}-")}
        return next(iter(found)) if len(found) == 1 else None

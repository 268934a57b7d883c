"""Which service a series speaks of, and the instances that have a role and belong to none.

A series without a model inherits its service from its pod, then its place, then what runs its pod, then what
it was deployed with, then its Dynamo namespace, then its Kubernetes namespace; outside Kubernetes its scrape
job comes last. A step decides where exactly one service fits. Nothing is guessed: what no step decides goes
to the only service of its capture, and belongs to none where there are several.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from hs_analysis.catalogue import MAPPING, Catalogue
from hs_analysis.catalogue.pod_labels import (
    DYNAMO_NAMESPACES,
    GENERATED,
    GRAPHS,
    OF_DEPLOYMENT,
    OF_REPLICA_SET,
    POD_LABEL_PREFIX,
    WORKLOADS,
)
from hs_analysis.errors import first_of
from hs_analysis.ingest.instance_identity import (
    NAMESPACE_LABELS,
    NO_NAMESPACE,
    POD_LABELS,
    TARGET_NAMESPACES,
    TARGET_PODS,
    OriginKey,
    SeriesOrigin,
    first_label,
    series_origins,
)
from hs_analysis.ingest.roles import EMITTER_ROLES, PodLabelJoin, pod_label_join, roles_of
from hs_analysis.patterns import check, hits
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.settings import Reading

DEFAULT_SERVICE = "default"
"""Name of the service when no series names a model."""

_NUMBERED = re.compile(r"(.+)-\d+")
_NO_OWNER = frozenset(("", "<none>"))

_Key = tuple[str, str, str, str]
"""What series may share: its kind, capture, namespace and name."""


def services_of(rows: Sequence[SeriesOrigin], mapped: Mapping[str, str] | None = None) -> list[str | None]:
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
    named = _named(rows, _by_user_or_label(rows, mapped or {}))
    only = _only(rows, named)
    if all(service is None for service in named):
        return [DEFAULT_SERVICE] * len(rows)
    if all(only.get(row.capture) for row in rows):
        return [service or only[row.capture] for row, service in zip(rows, named, strict=True)]
    pods = _by_place(rows, named)
    shared = labels_by_place(rows, named)
    joined = _services_by_place(shared)
    by_workload = _Workloads(shared, joined)

    def inherited(row: SeriesOrigin) -> str | None:
        for key in (row.pod_key, row.key):
            if key and (found := pods.get(key)):
                return found
        if row.key:
            return joined.services[row.key]
        alone = SharedLabels(row.capture, row.namespace)
        alone.learn(row)
        return by_workload.of(row) or joined.evidence.of(alone)

    return [
        service or inherited(row) or only.get(row.capture) for row, service in zip(rows, named, strict=True)
    ]


def controllers_of(pod: str) -> tuple[str, ...]:
    """Return what runs a pod by its name, nearest first: ReplicaSet and Deployment, or one controller.

    Empty for a name that follows no convention of Kubernetes.
    """
    if found := OF_DEPLOYMENT.fullmatch(pod):
        return found["set"], found["deployment"]
    found = _NUMBERED.fullmatch(pod) or GENERATED.fullmatch(pod)
    return (found[1],) if found else ()


def _named(rows: Sequence[SeriesOrigin], stated: Mapping[int, str]) -> list[str | None]:
    """Return the service of the series that the user or their own model names."""
    namespaces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.model:
            namespaces[row.model].add(row.namespace)

    def name(row: SeriesOrigin) -> str | None:
        if not row.model:
            return None
        known = namespaces[row.model] - {NO_NAMESPACE}
        inherits = row.namespace == NO_NAMESPACE and len(known) == 1
        return f"{min(known) if inherits else row.namespace}/{row.model}"

    given = _agreed_places(rows, stated)
    return [
        stated.get(i) or (given.get(row.key) if row.key else None) or name(row) for i, row in enumerate(rows)
    ]


def _by_user_or_label(rows: Sequence[SeriesOrigin], mapped: Mapping[str, str]) -> dict[int, str]:
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


def _pairs(row: SeriesOrigin) -> set[str]:
    """Return the labels of a series as the user's patterns see them, ``label=value``."""
    return {f"{label}={value}" for label, value in row.labels.items() if label != "__name__"}


def _is_mapped(row: SeriesOrigin) -> bool:
    """Whether a series is of the user's own rows and names its service; others' label means another thing."""
    return row.exporter.name == MAPPING and bool(row.labels.get("service"))


def _agreed_places(rows: Sequence[SeriesOrigin], stated: Mapping[int, str]) -> dict[OriginKey, str]:
    """Return the places all of whose told series agree on the service."""
    found: dict[OriginKey, set[str]] = defaultdict(set)
    for i, service in stated.items():
        key = rows[i].key
        if key:
            found[key].add(service)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}


def _only(rows: Sequence[SeriesOrigin], named: Sequence[str | None]) -> dict[str, str]:
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


def _by_place(rows: Sequence[SeriesOrigin], named: Sequence[str | None]) -> dict[OriginKey, str]:
    """Return the pods and places whose series name exactly one service."""
    found: dict[OriginKey, set[str]] = defaultdict(set)
    for row, service in zip(rows, named, strict=True):
        for key in {row.pod_key, row.key} - {None}:
            if service and key:
                found[key].add(service)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}


@dataclass
class SharedLabels:
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

    def learn(self, row: SeriesOrigin) -> None:
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
                if labels.get(kind) == "ReplicaSet" and (found := OF_REPLICA_SET.fullmatch(name)):
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


def labels_by_place(
    rows: Sequence[SeriesOrigin], named: Sequence[str | None]
) -> dict[OriginKey, SharedLabels]:
    """Return what the series of every place share; ``named`` is the known service per series."""
    found: dict[OriginKey, SharedLabels] = {}
    for row, service in zip(rows, named, strict=True):
        if row.key is None:
            continue
        place = found.setdefault(row.key, SharedLabels(row.capture, row.namespace))
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


class _ServiceEvidence:
    """Which services are known by what places share.

    An engine shows where its service runs. A front end may serve several, and shows only where those are that
    no engine shows.
    """

    def __init__(self, places: Mapping[OriginKey, SharedLabels]) -> None:
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

    def of(self, one: SharedLabels) -> str | None:
        """Return the service of the first step that exactly one fits."""
        for keys in one.steps():
            found = set().union(*(self._found.get(key, ()) for key in keys))
            if len(found) == 1 and self._fits(service := found.pop(), one):
                return service
        return None

    def _fits(self, service: str, one: SharedLabels) -> bool:
        """Whether a service is known in none of the other Dynamo namespaces only."""
        known = self._dynamo.get((one.capture, service), set())
        return not one.dynamo or not known or bool(one.dynamo & known)


def _by_kind(one: SharedLabels) -> Iterator[tuple[str, tuple[_Key, ...]]]:
    for keys in one.steps():
        if keys:
            yield keys[0][0], keys


@dataclass(frozen=True)
class _PlaceServices:
    """The service per place, None where none is known, and what it was told by."""

    services: dict[OriginKey, str | None]
    evidence: _ServiceEvidence


def _services_by_place(places: Mapping[OriginKey, SharedLabels]) -> _PlaceServices:
    """Return the service of every place; one whose series name several has none."""
    evidence = _ServiceEvidence(places)

    def service(one: SharedLabels) -> str | None:
        if one.services:
            return next(iter(one.services)) if len(one.services) == 1 else None
        return evidence.of(one)

    return _PlaceServices({key: service(one) for key, one in places.items()}, evidence)


class _Workloads:
    """Which service a Deployment or StatefulSet runs, by its pods."""

    def __init__(self, places: Mapping[OriginKey, SharedLabels], joined: _PlaceServices) -> None:
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

    def of(self, row: SeriesOrigin) -> str | None:
        """Return the only service of a workload's pods, by owner, else by how their names begin."""
        name = row.labels.get("deployment") or row.labels.get("statefulset")
        if not name:
            return None
        found = self._run.get(("controller", row.capture, row.namespace, name), set())
        if not found:
            pods = self._pods.get((row.capture, row.namespace), ())
            found = {service for pod, service in pods if pod.startswith(f"{name}-")}
        return next(iter(found)) if len(found) == 1 else None


NOT_ENGINES = ("prometheus", "ksm", "node")
"""Exporters whose series alone do not show that an instance serves: they speak of whatever runs."""

MOST_SHOWN = 5
"""Names that a sentence lists before it says how many more there are [count]."""

UNNAMED = "unnamed"
"""What a service is called that nothing of the input gives a name."""

_BROAD = (
    *(prefix + name for name in (*DYNAMO_NAMESPACES, *GRAPHS) for prefix in ("", POD_LABEL_PREFIX)),
    *(name for name, _ in WORKLOADS), *NAMESPACE_LABELS, *TARGET_NAMESPACES,
)  # fmt: skip
"""Labels of which one value may cover a whole pool, the most telling first."""

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True)
class Unserved:
    """Instances of one pool that have a role and belong to no service.

    Attributes
    ----------
    namespace
        Their Kubernetes namespace, ``-`` where none is known.
    role
        What they do.
    instances
        Their names, sorted.
    fitting
        Services that may be meant, the likeliest first; empty where none of the input fits.
    beside
        Services in whose namespace they are: what these run is not known whole.
    pattern
        Key for ``[services]`` that picks their series and no other service's; None where no label does.
    proposed
        Service for that key: the likeliest, or a name for a service of their own.
    """

    namespace: str
    role: str
    instances: tuple[str, ...]
    fitting: tuple[str, ...]
    beside: tuple[str, ...]
    pattern: str | None
    proposed: str

    @property
    def line(self) -> str | None:
        """The line for ``[services]`` in hsa.toml; other services that fit stand behind it as a comment."""
        if self.pattern is None:
            return None
        others = [f'"{name}"' for name in self.fitting if name != self.proposed]
        comment = f"  # or {first_of(others, MOST_SHOWN, ' or ')}" if others else ""
        return f"{_quoted(self.pattern)} = {_quoted(self.proposed)}{comment}"

    def sentence(self) -> str:
        """Return who is left out, why, and what to write into hsa.toml."""
        several = len(self.instances) > 1
        where = f" of namespace {self.namespace}" if self.namespace != NO_NAMESPACE else ""
        who = f"{len(self.instances)} {self.role} instance{'s' * several}{where}"
        why = "no service of the input fits"
        if self.fitting:
            fitting = first_of(self.fitting, MOST_SHOWN, " or ")
            why = f"nothing says that {'they are' if several else 'it is'} of {fitting}"
        then = (
            f"add under [services] in hsa.toml: {self.line}"
            if self.line
            else "give their series a label of their own, and name it under [services] in hsa.toml"
        )
        verb, them = ("belong", "them") if several else ("belongs", "it")
        names = first_of(self.instances, MOST_SHOWN)
        left_out = f"{who} {verb} to no service, and no answer counts {them} ({names})"
        return f"{left_out}: {why}; {then}"


def unserved_instances(series: pl.DataFrame, catalogue: Catalogue) -> tuple[Unserved, ...]:
    """Return the instances that have a role and no service, a row per pool.

    Parameters
    ----------
    series
        Frame of contract SERIES, with the roles that the samples showed.
    catalogue
        The catalogue, the user's rows included.

    Returns
    -------
    Sorted by namespace, role and names; empty where every instance with a role has a service. Instances that
    only Prometheus itself or kube-state-metrics speaks of are not meant.
    """
    doubtful = series.filter(
        pl.col("service").is_null()
        & pl.col("instance").is_not_null()
        & pl.col("emitter_role").is_in([role for role in EMITTER_ROLES if role != "ignore"])
        & ~pl.col("source").is_in(NOT_ENGINES)
    )
    if doubtful.is_empty():
        return ()
    labelled = [
        (capture, {**label_map(labels), "__name__": metric})
        for capture, metric, labels in series.select("capture", "metric", "labels").iter_rows()
    ]
    rows = series_origins(labelled, catalogue)
    services = series["service"].to_list()
    fleet = _Places(rows, services, series["emitter_role"].to_list())
    wanted = set(doubtful["series_id"])
    lost = {row.key for row, number in zip(rows, series["series_id"], strict=True) if number in wanted}
    pools: dict[tuple[str, ...], list[OriginKey]] = defaultdict(list)
    for key in sorted(key for key in lost if key and not fleet.places[key].services):
        one = fleet.places[key]
        pools[one.namespace, fleet.role_of(key), _owner(one), *sorted(one.dynamo)].append(key)
    for pool in pools.values():
        fleet.propose(pool)
    found = (fleet.unserved(pool) for pool in pools.values())
    return tuple(sorted(found, key=lambda one: (one.namespace, one.role, one.instances)))


def _owner(one: SharedLabels) -> str:
    """Return what runs the pods of a place, the farthest that is known; empty where nothing is."""
    return min(one.deployments or one.controllers, default="")


class _Places:
    """All places of an input, and what their series are labelled with."""

    def __init__(
        self, rows: Sequence[SeriesOrigin], services: Sequence[str | None], roles: Sequence[str]
    ) -> None:
        self.places = labels_by_place(rows, services)
        self._fitting: dict[OriginKey, tuple[str, ...]] = {}  # of places without a service
        self._proposed: dict[OriginKey, str] = {}
        self._roles: dict[OriginKey, set[str]] = defaultdict(set)
        self._pairs: dict[OriginKey, set[tuple[str, str]]] = defaultdict(set)
        self._served: set[tuple[str, str]] = set()
        for row, service, role in zip(rows, services, roles, strict=True):
            pairs = [(label, value) for label, value in row.labels.items() if label != "__name__"]
            self._served.update(pairs if service else ())
            if row.key:
                self._roles[row.key].add(role)
                self._pairs[row.key].update(pairs)

    def role_of(self, key: OriginKey) -> str:
        """Return the role of a place; series that say none don't count."""
        return min((role for role in self._roles[key] if role in EMITTER_ROLES), default="unknown")

    def propose(self, pool: Sequence[OriginKey]) -> None:
        """Choose a service for the places of a pool, or a name for one of their own."""
        first = self.places[pool[0]]
        fitting = self._by_likelihood(pool)
        name = min(first.dynamo or first.graphs, default=UNNAMED)
        for key in pool:
            self._fitting[key] = tuple(fitting)
            self._proposed[key] = fitting[0] if fitting else f"{first.namespace}/{name}"

    def unserved(self, pool: Sequence[OriginKey]) -> Unserved:
        """Return what is to be said of the places of one pool; every pool must have been proposed for."""
        namespace = self.places[pool[0]].namespace
        fitting = self._fitting[pool[0]]
        return Unserved(
            namespace,
            self.role_of(pool[0]),
            tuple(sorted({name for _, _, name in pool})),
            fitting,
            tuple(self._beside(pool) if namespace != NO_NAMESPACE else sorted(fitting)),
            next(self._patterns(pool), None),
            self._proposed[pool[0]],
        )

    def _beside(self, pool: Sequence[OriginKey]) -> list[str]:
        """Return the services of the pool's namespace."""
        where = {(capture, namespace) for capture, namespace, _ in pool}
        return sorted(
            {s for key, one in self.places.items() if (key[0], key[1]) in where for s in one.services}
        )

    def _by_likelihood(self, pool: Sequence[OriginKey]) -> list[str]:
        """Return the services of the pool's namespace that are not known in other Dynamo namespaces only.

        Those without an instance of the role, found or proposed, come first, then those whose pods are called
        most alike.
        """
        role, own = self.role_of(pool[0]), self.places[pool[0]]
        has = {service for key, service in self._proposed.items() if self.role_of(key) == role}
        dynamo: dict[str, set[str]] = defaultdict(set)
        alike: dict[str, int] = defaultdict(int)
        for key, one in self.places.items():
            for service in one.services:
                dynamo[service] |= one.dynamo
                has |= {service} if role in self._roles[key] else set()
                alike[service] = max(alike[service], _same_start(key[2], pool[0][2]))
        fitting = [
            service
            for service in self._beside(pool)
            if not own.dynamo or not dynamo[service] or own.dynamo & dynamo[service]
        ]
        return sorted(fitting, key=lambda service: (service in has, -alike[service], service))

    def _patterns(self, pool: Sequence[OriginKey]) -> Iterator[str]:
        """Yield keys for ``[services]`` that pick every place of a pool, and none that is another service's.

        A label of the whole pool, the beginning that its pods' names share, or its names.
        """
        foreign = self._foreign(self._proposed[pool[0]])
        common = set.intersection(*(self._pairs[key] for key in pool))
        for label in _BROAD:
            values = [value for name, value in common if name == label]
            if len(values) == 1 and (label, values[0]) not in foreign:
                yield f"^{label}={_escaped(values[0])}$"
        owner = _owner(self.places[pool[0]])
        for label in (
            *reversed((*POD_LABELS, *TARGET_PODS)),
            "instance",
        ):  # the engines' own label before an exporter's
            named = [self._names(key, label) for key in pool]
            values = sorted(set().union(*named))
            if not all(named) or any((label, value) in foreign for value in values):
                continue
            if owner and self._begin_alone(label, f"{owner}-", values):
                yield f"^{label}={_escaped(owner)}-"
            listed = "|".join(map(_escaped, values))
            yield f"^{label}=({listed})$" if len(values) > 1 else f"^{label}={listed}$"

    def _foreign(self, service: str) -> set[tuple[str, str]]:
        """Return the pairs of series that have a service, and of places that another one is proposed for."""
        elsewhere = (self._pairs[key] for key, other in self._proposed.items() if other != service)
        return self._served.union(*elsewhere)

    def _names(self, key: OriginKey, label: str) -> set[str]:
        """Return the values of a label that are names of the place; an exporter's own pod is none."""
        own = self.places[key].pods | {key[2]}
        return {value for name, value in self._pairs[key] if name == label and value in own}

    def _begin_alone(self, label: str, start: str, values: Sequence[str]) -> bool:
        """Whether these values of a label begin so, and no others of the input do."""
        every = self._served.union(*self._pairs.values())
        others = {value for name, value in every if name == label}.difference(values)
        return all(value.startswith(start) for value in values) and not any(
            value.startswith(start) for value in others
        )


def _same_start(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _escaped(text: str) -> str:
    """Return a regular expression for exactly this text, without escapes that are not needed."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _quoted(text: str) -> str:
    """Return a TOML string; what JSON escapes is escaped alike in TOML."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class SeriesIdentity:
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
) -> list[SeriesIdentity]:
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
    how = reading or Reading()
    rows = series_origins(series, catalogue)
    gpus = _gpu_types(rows)
    roles = roles_of(rows, how.roles)
    result = []
    for row, (role, evidence), service in zip(rows, roles, services_of(rows, how.services), strict=True):
        gpu_id = row.labels.get(row.exporter.gpu_id) if row.exporter.gpu_id else None
        gpu_type = gpus.get(row.key) if row.key else None
        result.append(
            SeriesIdentity(
                exporter=row.exporter.name,
                emitter_role=role,
                role_evidence=evidence,
                service=service,
                instance=row.place,
                unit_kind=row.unit_kind,
                gpu_type=gpu_type,
                gpu_id=gpu_id,
            )
        )
    return result


def joined_pod_labels(series: Sequence[tuple[str, Mapping[str, str]]], catalogue: Catalogue) -> PodLabelJoin:
    """Return how the pods of engines match kube_pod_labels, for series given as to `identify`."""
    return pod_label_join(series_origins(series, catalogue))


def _gpu_types(rows: Sequence[SeriesOrigin]) -> dict[OriginKey, str]:
    """Return the GPU model per place: the target label gpu_type, else the GPU exporter's own label."""
    found: dict[OriginKey, Counter[str]] = defaultdict(Counter)
    for row in rows:
        own = row.labels.get(row.exporter.gpu_type) if row.exporter.gpu_type else None
        name = row.labels.get("gpu_type") or own
        if name and row.key:
            found[row.key][name] += 1
    return {key: min(names, key=lambda n: (-names[n], n)) for key, names in found.items()}

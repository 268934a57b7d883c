"""Instances that have a role and belong to no service, and the line of hsa.toml that gives them one."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.catalogue.pod_labels import DYNAMO_NAMESPACES, GRAPHS, POD_LABEL_PREFIX, WORKLOADS
from hs_analysis.ingest.places import NAMESPACE_LABELS, NO_NAMESPACE, POD_LABELS, Placed, PlaceKey, placed
from hs_analysis.ingest.roles import EMITTER_ROLES
from hs_analysis.ingest.services import Shared, shared_by_place
from hs_analysis.schema.frames import label_map

NOT_ENGINES = ("prometheus", "ksm", "node")
"""Exporters whose series alone do not show that an instance serves: they speak of whatever runs."""

SHOWN = 5
"""Names that a sentence lists before it says how many more there are [count]."""

UNNAMED = "unnamed"
"""What a service is called that nothing of the input gives a name."""

_BROAD = (
    *(prefix + name for name in (*DYNAMO_NAMESPACES, *GRAPHS) for prefix in ("", POD_LABEL_PREFIX)),
    *(name for name, _ in WORKLOADS), *NAMESPACE_LABELS,
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
        comment = f"  # or {_listed(others, ' or ')}" if others else ""
        return f"{_quoted(self.pattern)} = {_quoted(self.proposed)}{comment}"

    def sentence(self) -> str:
        """Return who is left out, why, and what to write into hsa.toml."""
        several = len(self.instances) > 1
        where = f" of namespace {self.namespace}" if self.namespace != NO_NAMESPACE else ""
        who = f"{len(self.instances)} {self.role} instance{'s' * several}{where}"
        why = "no service of the input fits"
        if self.fitting:
            why = f"nothing says that {'they are' if several else 'it is'} of {_listed(self.fitting, ' or ')}"
        then = (
            f"add under [services] in hsa.toml: {self.line}"
            if self.line
            else "give their series a label of their own, and name it under [services] in hsa.toml"
        )
        verb, them = ("belong", "them") if several else ("belongs", "it")
        left_out = f"{who} {verb} to no service, and no answer counts {them} ({_listed(self.instances)})"
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
    rows = placed(labelled, catalogue)
    services = series["service"].to_list()
    fleet = _Fleet(rows, services, series["emitter_role"].to_list())
    wanted = set(doubtful["series_id"])
    lost = {row.key for row, number in zip(rows, series["series_id"], strict=True) if number in wanted}
    pools: dict[tuple[str, ...], list[PlaceKey]] = defaultdict(list)
    for key in sorted(key for key in lost if key and not fleet.places[key].services):
        one = fleet.places[key]
        pools[one.namespace, fleet.role_of(key), _owner(one), *sorted(one.dynamo)].append(key)
    for pool in pools.values():
        fleet.propose(pool)
    found = (fleet.unserved(pool) for pool in pools.values())
    return tuple(sorted(found, key=lambda one: (one.namespace, one.role, one.instances)))


def not_known_whole(found: Iterable[Unserved]) -> frozenset[str]:
    """Return the services in whose namespace there are instances without a service."""
    return frozenset(service for one in found for service in one.beside)


def _owner(one: Shared) -> str:
    """Return what runs the pods of a place, the farthest that is known; empty where nothing is."""
    return min(one.deployments or one.controllers, default="")


class _Fleet:
    """All places of an input, and what their series are labelled with."""

    def __init__(self, rows: Sequence[Placed], services: Sequence[str | None], roles: Sequence[str]) -> None:
        self.places = shared_by_place(rows, services)
        self._fitting: dict[PlaceKey, tuple[str, ...]] = {}  # of places without a service
        self._proposed: dict[PlaceKey, str] = {}
        self._roles: dict[PlaceKey, set[str]] = defaultdict(set)
        self._pairs: dict[PlaceKey, set[tuple[str, str]]] = defaultdict(set)
        self._served: set[tuple[str, str]] = set()
        for row, service, role in zip(rows, services, roles, strict=True):
            pairs = [(label, value) for label, value in row.labels.items() if label != "__name__"]
            self._served.update(pairs if service else ())
            if row.key:
                self._roles[row.key].add(role)
                self._pairs[row.key].update(pairs)

    def role_of(self, key: PlaceKey) -> str:
        """Return the role of a place; series that say none don't count."""
        return min((role for role in self._roles[key] if role in EMITTER_ROLES), default="unknown")

    def propose(self, pool: Sequence[PlaceKey]) -> None:
        """Choose a service for the places of a pool, or a name for one of their own."""
        first = self.places[pool[0]]
        fitting = self._by_likelihood(pool)
        name = min(first.dynamo or first.graphs, default=UNNAMED)
        for key in pool:
            self._fitting[key] = tuple(fitting)
            self._proposed[key] = fitting[0] if fitting else f"{first.namespace}/{name}"

    def unserved(self, pool: Sequence[PlaceKey]) -> Unserved:
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

    def _beside(self, pool: Sequence[PlaceKey]) -> list[str]:
        """Return the services of the pool's namespace."""
        where = {(capture, namespace) for capture, namespace, _ in pool}
        return sorted(
            {s for key, one in self.places.items() if (key[0], key[1]) in where for s in one.services}
        )

    def _by_likelihood(self, pool: Sequence[PlaceKey]) -> list[str]:
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

    def _patterns(self, pool: Sequence[PlaceKey]) -> Iterator[str]:
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
        for label in (*reversed(POD_LABELS), "instance"):  # the engines' own label before an exporter's
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

    def _names(self, key: PlaceKey, label: str) -> set[str]:
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


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more

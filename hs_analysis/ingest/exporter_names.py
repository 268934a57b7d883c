"""Metric and label names as exporters write them, told from how other back ends write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from hs_analysis.catalogue import Catalogue, load_catalogue
from hs_analysis.catalogue.pod_labels import POD_LABEL_PREFIX
from hs_analysis.catalogue.rows import HISTOGRAM_ENDINGS
from hs_analysis.errors import first_of
from hs_analysis.ingest.rows import ReadNotes
from hs_analysis.schema.settings import Reading

UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio", "%": "percent"}
"""Unit as UCUM writes it → the word that translation to Prometheus puts behind a name (OpenTelemetry
specification, compatibility with Prometheus)."""

MOST_LABEL_CHARACTERS = 1 << 12
"""A longer label value names nothing [characters]; default of this project."""

_ODD = re.compile(r"[^a-zA-Z0-9]+")
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")

LABELS = {
    "service.instance.id": "instance", "k8s.pod.name": "pod", "k8s.namespace.name": "namespace",
    "k8s.container.name": "container", "k8s.node.name": "node", "k8s.deployment.name": "deployment",
    "pod_name": "pod", "kube_namespace": "namespace", "kube_container_name": "container",
    "kube_deployment": "deployment", "namespace_name": "namespace", "container_name": "container",
    "node_name": "node", "PodName": "pod", "Namespace": "namespace", "ContainerName": "container",
    "NodeName": "node", "uuid": "UUID", "modelname": "modelName", "upper_bound": "le",
}  # fmt: skip
"""Attribute, tag or dimension → the label that Prometheus has for it: semantic conventions of OpenTelemetry,
tags of the Datadog Agent, resource labels of Cloud Monitoring, dimensions of Container Insights."""

POD_LABEL_ATTRIBUTES = ("k8s.pod.label.", "k8s.pod.labels.")
"""What stands before the name of a pod's label in an attribute; the second as older collectors write it."""


@lru_cache(maxsize=1 << 12)
def label_name(name: str) -> str:
    """Return an attribute's name as Prometheus writes it as a label."""
    if name in LABELS:
        return LABELS[name]
    for beginning in POD_LABEL_ATTRIBUTES:
        if name.startswith(beginning):
            return POD_LABEL_PREFIX + _NO_LABEL.sub("_", name.removeprefix(beginning))
    plain = _NO_LABEL.sub("_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def labels_from(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return labels from attributes: of two that become one the first is kept, empty ones are left out."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name and value:
            found.setdefault(label_name(name), value[:MOST_LABEL_CHARACTERS])
    return found


def folded(name: str) -> str:
    """Return a name without case and punctuation: ``vllm.requests:Waiting`` is ``vllm_requests_waiting``."""
    return _ODD.sub("_", name).strip("_").lower()


class ExporterNames:
    """Finds the exporter's name of a metric that a back end renamed, and remembers which it found.

    Parameters
    ----------
    reading
        Names that the user mapped are kept as they stand.
    own
        Names that a back end gives to metrics, where no rule leads from one to the other.
    """

    def __init__(self, reading: Reading, own: Mapping[str, str] | None = None) -> None:
        self._catalogue: Catalogue = load_catalogue()
        self._mapped = frozenset(reading.metrics)
        self._own = own or {}
        self._found: dict[tuple[str, str], str] = {}
        self.renamed: dict[str, str] = {}

    def find(self, name: str, *, unit: str = "") -> str:
        """Return the exporter's name of a metric, the given one where none is known."""
        return self._cached(name, unit, "")

    def find_family(self, name: str, *, unit: str = "") -> str:
        """Return the exporter's name of a histogram, without the endings of its parts."""
        return self._cached(name, unit, HISTOGRAM_ENDINGS[1])

    def is_counter(self, metric: str) -> bool:
        """Whether a metric, by its exporter's name, counts up."""
        return self._catalogue.kind_of(metric) == "counter"

    def is_known(self, metric: str) -> bool:
        """Whether the catalogue or the user knows a metric by this name."""
        return metric in self._mapped or metric in _known()

    def _cached(self, name: str, unit: str, ending: str) -> str:
        key = (name, unit + ending)
        if key not in self._found:
            self._found[key] = found = self._search(name, unit, ending)
            if found != name:
                self.renamed[name] = found
        return self._found[key]

    def _search(self, name: str, unit: str, ending: str) -> str:
        if name in self._own:
            return self._own[name]
        if name + ending in self._mapped or name in self._mapped or name + ending in _known():
            return name
        for spelling in _spellings(name, UNIT_WORDS.get(unit, "")):
            found = _index().get(spelling + ending)
            if found is not None:
                return found.removesuffix(ending)
        return name

    def note(self, notes: ReadNotes) -> None:
        """Say which names were read as others."""
        if self.renamed:
            shown = first_of([f"{a[:60]} is {b}" for a, b in sorted(self.renamed.items())], 3)
            notes.infos.append(f"{len(self.renamed)} metrics have their exporter's names again: {shown}")


def _spellings(name: str, word: str) -> Iterable[str]:
    """Yield the folded names that a metric may have had, the likeliest first."""
    whole = folded(name)
    inner = folded(name.partition(".")[2])
    for base in (whole, inner) if inner else (whole,):
        yield base
        yield f"{base}_total"
        if word:
            yield f"{base}_{word}"
            yield f"{base}_{word}_total"
        if base.endswith("_count"):
            yield f"{base.removesuffix('_count')}_total"


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(load_catalogue().metrics)


@lru_cache(maxsize=1)
def _index() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for metric in load_catalogue().metrics:
        found.setdefault(folded(metric), metric)
    return found

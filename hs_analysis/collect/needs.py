"""Which metrics a study needs: those the catalogue reads, and a few that witness scrapes and roles.

The series are asked for as they are, never summed on the server. A sum over pods adds counters that restart
apart, so that one pod's restart reads as a reset of the whole sum; it hides how many instances report, which
is itself a measurement; and roles are told by the labels a sum takes away. Within one scrape target a sum
over labels nobody reads would be harmless, and saves next to nothing: 4 of 221 series of a Dynamo service
with five workers. What saves is asking for the catalogue's metrics only (221 of 1,209 series there), and for
buckets only where a latency limit is judged by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hs_analysis.catalogue import MAPPING, Catalogue, can_be_asked, is_query
from hs_analysis.catalogue.pod_labels import POD_LABEL_PREFIX, POD_ROLES
from hs_analysis.collect.selectors import Matcher, Selector, one_of
from hs_analysis.schema.settings import Reading

Reach = Literal["pods", "targets", "cluster", "own"]


@dataclass(frozen=True)
class Need:
    """A metric to ask for.

    ``signal`` is the first one that reads it, None for a witness. ``reach`` tells which of its series
    concern the service: those of its ``pods`` only (engines and front ends export nothing else), or out of
    those of all scrape ``targets`` or of the whole ``cluster``; the user's ``own`` metrics concern it as the
    user says, and may carry no namespace at all.
    """

    metric: str
    signal: str | None
    exporter: str
    reach: Reach

    @property
    def is_query(self) -> bool:
        """Whether it is a query of the user's, asked as it stands: no matcher goes into it."""
        return self.reach == "own" and is_query(self.metric)


WITNESSES = (
    "up", "scrape_duration_seconds", "dynamo_component_uptime_seconds", "kube_pod_labels",
    "kube_pod_container_info",
)  # fmt: skip
"""Not signals: who was scraped, values that move at every scrape (where even they repeat, nothing was
scraped), pod labels that tell roles (llm-d, AIBrix), and the images that tell a release from a restart."""

ROLE_LABELS = tuple(POD_LABEL_PREFIX + label for label in POD_ROLES)
"""Labels of kube_pod_labels that tell a role; a pod without them is left out."""

LIMITED = ("ttft", "tbt")
"""Signals that may have a latency limit, which is judged by the buckets of their histograms."""

_REACH: dict[str, Reach] = {"prometheus": "targets", "ksm": "cluster", "node": "cluster", MAPPING: "own"}

NAMESPACE_ALTERNATIVES = ("exported_namespace", "namespace")
"""Where a series' Kubernetes namespace is: an exporter's own namespace gives way to the exported one."""


def needed(catalogue: Catalogue, exporters: Sequence[str] = ()) -> tuple[Need, ...]:
    """Return the metrics a study reads, every name a signal may have, in catalogue order, each once.

    Parameters
    ----------
    catalogue
        Signals and their sources.
    exporters
        Only metrics of these exporters; all of them when empty. Witnesses are always kept.

    Notes
    -----
    What the user maps under ``[metrics]`` is of the exporter ``mapping``: a metric's name, or a query. Names
    of another kind (a legend, a column) are no server's.
    """
    found: dict[str, Need] = {}
    for signal in catalogue.signals:
        for source in signal.sources:
            families = [names.histogram for names in source.names if names.histogram and signal.id in LIMITED]
            for metric in [*source.metrics, *(f"{family}_bucket" for family in families)]:
                found.setdefault(metric, _need(catalogue, metric, signal.id))
    for metric in WITNESSES:
        found.setdefault(metric, _need(catalogue, metric, None))
    return tuple(
        need
        for need in found.values()
        if (not exporters or need.signal is None or need.exporter in exporters) and can_be_asked(need.metric)
    )


def own_notes(asked: Reading) -> tuple[str, ...]:
    """Return what the settings name and no server is asked for, a sentence each."""
    notes = [
        f"{metric!r} of [metrics] is no metric name and no query: it is not asked for"
        for metric in sorted(asked.metrics)
        if not can_be_asked(metric)
    ]
    unread = sorted({text for text in asked.queries.values() if is_query(text)} - set(asked.metrics))
    return (*notes, *(f"{text!r} of [queries] carries no signal: map it under [metrics]" for text in unread))


def _need(catalogue: Catalogue, metric: str, signal: str | None) -> Need:
    exporter = catalogue.exporter_of(metric)
    reach = "cluster" if exporter.watches_gpus else _REACH.get(exporter.name, "pods")
    return Need(metric, signal, exporter.name, reach)


def selector_of(need: Need, matchers: Sequence[Matcher], namespace: str | None) -> Selector:
    """Return the selector of a metric under the user's matchers and namespace.

    A series that was relabelled carries its pod's namespace as ``exported_namespace``; where that is absent
    ``namespace`` counts. Scrape targets (``up``) often have neither, so a namespace does not narrow them; nor
    does what a recording rule made, so that of the user's own metrics series with neither are kept.
    """
    if need.is_query:
        return Selector(need.metric)
    selector = Selector(need.metric).narrowed(*matchers)
    if need.metric == "kube_pod_labels":
        selector = selector.spread(
            [
                (*(Matcher(earlier, "=", "") for earlier in ROLE_LABELS[:i]), Matcher(label, "!=", ""))
                for i, label in enumerate(ROLE_LABELS)
            ]
        )
    if namespace and need.reach != "targets":
        own = need.reach == "own"
        selector = in_namespaces(selector, [Matcher(NAMESPACE_ALTERNATIVES[0], "=", namespace)], without=own)
    return selector


def in_namespaces(selector: Selector, exported: Sequence[Matcher], *, without: bool = False) -> Selector:
    """Return a selector with matchers on ``exported_namespace`` that fall back to ``namespace``.

    ``without``: series that have neither match too.
    """
    exported_label, label = NAMESPACE_ALTERNATIVES
    fallback = [Matcher(label, m.operator, m.value) for m in exported]
    neither = [(Matcher(exported_label, "=", ""), Matcher(label, "=", ""))] if without else []
    return selector.spread([tuple(exported), (Matcher(exported_label, "=", ""), *fallback), *neither])


def around(need: Need, selector: Selector, service: Iterable[Mapping[str, str]]) -> Selector:
    """Return a selector narrowed to the surroundings of the service's own series.

    Scrape targets are those of the service's jobs; what kube-state-metrics says is that of its namespaces.
    Nothing is narrowed by a label that some of the service's series lack, and GPU series never are: on
    hosts without Kubernetes labels only their host tells whose they are.
    """
    rows = list(service)
    if need.reach == "targets":
        jobs = _values(rows, ("job",))
        return selector.narrowed(one_of("job", jobs)) if jobs else selector
    if need.exporter == "ksm":
        names = _values(rows, NAMESPACE_ALTERNATIVES)
        return in_namespaces(selector, [one_of(NAMESPACE_ALTERNATIVES[0], names)]) if names else selector
    return selector


def _values(rows: Sequence[Mapping[str, str]], labels: Sequence[str]) -> list[str]:
    """Return the values of the first label each series has; none when a series has none of them."""
    found = [next((row[label] for label in labels if row.get(label)), "") for row in rows]
    return sorted(set(found)) if found and all(found) else []

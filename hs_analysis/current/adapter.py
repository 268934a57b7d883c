"""Rules of prometheus-adapter: which query stands behind a metric of an HPA.

An External, Pods or Object metric is a name that the adapter made of a series' name, and its query is the
template of the rule. Names are made of the history's own series as the adapter makes them, by
``seriesQuery``, ``seriesFilters``, and ``name.matches`` with ``name.as``. Nothing is guessed of a spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs_analysis.current.model import Stored
from hs_analysis.current.shapes import ADAPTED, require
from hs_analysis.export.queries import escaped, quoted
from hs_analysis.promql import Refused, Selector, parse, picked
from hs_analysis.promql.forms import NAME

GIVE = "give the file of its rule with --current as well"

_NAMED = re.compile(r"""__name__\s*=~?\s*["']\^?([A-Za-z_:][A-Za-z0-9_:]*)\$?["']""")
_GROUP = re.compile(r"\$(?:\{(\w+)\}|(\d+))")
_RESOURCE = "<<.Resource>>"


@dataclass(frozen=True)
class AdapterRule:
    """A rule of prometheus-adapter.

    Attributes
    ----------
    series
        ``seriesQuery``: the series that metrics are made of.
    query
        ``metricsQuery``: the template of the query.
    external
        Whether it serves External metrics; else those of pods and other objects.
    matches, name
        ``name.matches`` and ``name.as``: what a metric is called after its series; empty where not said.
    filters
        ``seriesFilters``: (whether names have to match, pattern).
    labels
        ``resources.overrides``: resource, in the singular → label that names it.
    template
        ``resources.template``: the same for all other resources; empty for the resource's own name.
    namespaced
        ``resources.namespaced``: whether the object's namespace is asked for.
    """

    series: str
    query: str
    external: bool
    matches: str = ""
    name: str = ""
    filters: tuple[tuple[bool, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    template: str = ""
    namespaced: bool = True

    def label_of(self, resource: str) -> str:
        """Return the label that names an object of a resource."""
        found = dict(self.labels).get(resource)
        return found or (self.template.replace(_RESOURCE, resource) if self.template else resource)

    def called(self, series: str) -> str | None:
        """Return what the metric of a series is called; None where the rule makes none of it.

        Raises
        ------
        Refused
            When a pattern of the rule is none, or a group that it names is not there.
        """
        try:
            if any(bool(re.search(pattern, series)) is not wanted for wanted, pattern in self.filters):
                return None
            found = re.search(self.matches or ".*", series)
            if found is None:
                return None
            name = self.name or ("$1" if found.re.groups == 1 else "$0")
            return _GROUP.sub(lambda group: _group_of(found, group[1] or group[2]), name)
        except (re.error, IndexError) as error:
            raise Refused(f"the adapter's rule of {self.series} can't be read: {error}") from error


def _group_of(found: re.Match[str], name: str) -> str:
    return found[int(name) if name.isdigit() else name] or ""


def adapter_rules(body: Mapping[str, Any], where: str = "") -> Iterator[AdapterRule]:
    """Yield the adapter's rules among the keys of a document, as the adapter or its chart has them."""
    rules = body.get("rules")
    lists = [(True, body.get("externalRules")), (False, rules)]
    if isinstance(rules, Mapping):
        lists += [(True, rules.get("external")), (False, rules.get("custom"))]
    for external, found in lists:
        for rule in found if isinstance(found, list) else ():
            if isinstance(rule, Mapping) and "metricsQuery" in rule:
                require(ADAPTED, rule, "the adapter's rule", where)
                yield _rule(rule, external=external)


def _rule(rule: Mapping[str, Any], *, external: bool) -> AdapterRule:
    name, resources = rule.get("name") or {}, rule.get("resources") or {}
    filters = tuple(
        (kind == "is", str(pattern))
        for one in rule.get("seriesFilters") or ()
        for kind, pattern in one.items()
        if kind in ("is", "isNot")
    )
    labels = tuple(
        (_singular(str(of.get("resource", ""))), str(label))
        for label, of in (resources.get("overrides") or {}).items()
    )
    return AdapterRule(
        str(rule.get("seriesQuery", "")),
        str(rule["metricsQuery"]),
        external,
        str(name.get("matches") or ""),
        str(name.get("as") or ""),
        filters,
        labels,
        str(resources.get("template") or ""),
        resources.get("namespaced") is not False,
    )


def _singular(resource: str) -> str:
    """Return a resource as one of it is called: rules name pods and services either way."""
    word = resource.lower()
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


@dataclass(frozen=True)
class AskedMetric:
    """A metric as an HPA asks for it: its name, its selector's labels, and the HPA's namespace where said."""

    name: str
    labels: Mapping[str, str]
    namespace: str = ""


def external_query(asked: AskedMetric, series: Iterable[Stored], rules: Sequence[AdapterRule]) -> str:
    """Return the query behind an External metric.

    Raises
    ------
    Refused
        When no rule, or more than one, makes a metric of that name.
    """
    rule, metric = _serving(asked.name, series, [one for one in rules if one.external])
    text = _filled(rule, metric, [*_within(rule, asked), *_matchers(asked)])
    return re.sub(r"\bby\s*\(\s*<<\.GroupBy>>\s*\)", "", text)


def pods_query(asked: AskedMetric, series: Sequence[Stored], pool: str, rules: Sequence[AdapterRule]) -> str:
    """Return the query behind a metric of a pool's pods, summed over them: its mean is what an HPA compares.

    Raises
    ------
    Refused
        As `external_query`, or when no series of the pool names a pod.
    """
    rule, metric = _serving(asked.name, series, [one for one in rules if not one.external])
    label = rule.label_of("pod")
    pods = sorted(
        {
            one.labels[label]
            for one in series
            if one.ours and one.emitter == pool and one.labels[NAME] == metric and label in one.labels
        }
    )
    if not pods:
        raise Refused(f"not in this history: no series of {metric} names a pod of {pool} by {label}")
    those = f"{label}=~{quoted('|'.join(map(escaped, pods)))}"
    inside = [*_within(rule, asked), those, *_matchers(asked)]
    return f"sum({_grouped(_filled(rule, metric, inside), label)})"


def object_query(
    asked: AskedMetric, kind: str, name: str, series: Iterable[Stored], rules: Sequence[AdapterRule]
) -> str:
    """Return the query behind a metric of one object, such as a Service, that an HPA describes.

    Raises
    ------
    Refused
        As `external_query`.
    """
    rule, metric = _serving(asked.name, series, [one for one in rules if not one.external])
    label = rule.label_of(_singular(kind))
    within = [] if label == rule.label_of("namespace") else _within(rule, asked)
    inside = [*within, f"{label}={quoted(name)}", *_matchers(asked)]
    return _grouped(_filled(rule, metric, inside), label)


def _matchers(asked: AskedMetric) -> list[str]:
    return [f"{label}={quoted(value)}" for label, value in asked.labels.items()]


def _within(rule: AdapterRule, asked: AskedMetric) -> list[str]:
    """Return the matcher of the object's namespace, which the adapter adds to each query."""
    known = rule.namespaced and asked.namespace
    return [f"{rule.label_of('namespace')}={quoted(asked.namespace)}"] if known else []


def _serving(name: str, series: Iterable[Stored], rules: Sequence[AdapterRule]) -> tuple[AdapterRule, str]:
    """Return the rule that serves a metric, and the series that it is made of."""
    labels = [one.labels for one in series]
    found = {
        (rule, metric): None
        for rule in rules
        for metric in _metrics_of(rule, labels)
        if rule.called(metric) == name
    }
    if not found:
        raise Refused(f"{name} is what a rule of the metrics adapter makes of it: {GIVE}")
    if len(found) > 1:
        of = ", ".join(sorted(metric for _, metric in found))
        raise Refused(f"{len(found)} rules of the metrics adapter make {name}, of {of}: leave one of them")
    return next(iter(found))


def _metrics_of(rule: AdapterRule, labels: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the metrics that a rule finds in the history, and the one that it names."""
    try:
        form = parse(rule.series)
    except Refused:
        form = None
    stored = (
        {labels[number][NAME] for number in picked(form, labels)} if isinstance(form, Selector) else set()
    )
    named = form.metric if isinstance(form, Selector) else None
    written = _NAMED.search(rule.series)
    return stored | ({named} if named else {written[1]} if written else set())


def _filled(rule: AdapterRule, metric: str, matchers: Iterable[str]) -> str:
    text = rule.query.replace("<<.Series>>", metric).replace("<<.LabelMatchers>>", ",".join(matchers))
    return re.sub(r"\{\s*,", "{", text)


def _grouped(text: str, label: str) -> str:
    return text.replace("<<.GroupBy>>", label)

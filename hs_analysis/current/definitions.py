"""What stands behind a recorded name and an external metric's name: the rules given beside the objects.

A name says nothing by its spelling. A recorded name is the expression of its recording rule, and an external
metric is the query of the adapter's rule; without the rule neither is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.current.model import Stored
from hs_analysis.export.selector import escaped, quoted
from hs_analysis.promql import Form, Refused, Selector, parse, picked
from hs_analysis.promql.forms import NAME, Binary, Number, OverTime, Subquery, Union
from hs_analysis.promql.history import Labels

GIVE = "give the file of its rule with --current as well"

_SERIES = re.compile(r"""\s*(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)?\s*(?:\{(?P<inside>.*)\})?\s*""", re.DOTALL)
_NAMED = re.compile(r"""__name__\s*=~?\s*["']\^?([^"'$]+)\$?["']""")

POD = "pod"
"""Label by which the adapter tells pods apart."""


@dataclass(frozen=True)
class Record:
    """A recording rule: its name, expression and static labels."""

    name: str
    expr: str
    labels: Labels


@dataclass(frozen=True)
class AdapterRule:
    """A rule of prometheus-adapter: the metric it serves, the series behind it, and the query's template.

    ``external`` tells a rule for External metrics from one for metrics of pods.
    """

    name: str
    series: str
    query: str
    external: bool


@dataclass(frozen=True)
class Definitions:
    """All rules given beside today's objects."""

    records: tuple[Record, ...] = ()
    adapter: tuple[AdapterRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.records or self.adapter)

    def __add__(self, other: Definitions) -> Definitions:
        return Definitions(self.records + other.records, self.adapter + other.adapter)


def definitions_in(bodies: Iterable[Mapping[str, Any]]) -> Definitions:
    """Return the recording and adapter rules among the documents of a file, in their order.

    Read are rule files, PrometheusRule objects, configurations of the adapter, and ConfigMaps that hold one.
    """
    records: list[Record] = []
    adapter: list[AdapterRule] = []
    for body in bodies:
        for part in (body, *_embedded(body)):
            records += map(_record, _recording_rules(part))
            for external, rules in _adapter_lists(part):
                adapter += [
                    _adapter_rule(rule, external) for rule in _mappings(rules) if "metricsQuery" in rule
                ]
    return Definitions(tuple(records), tuple(adapter))


def resolved(form: Form, known: Definitions) -> Form:
    """Return an expression with every recorded name replaced by its rule's expression.

    Raises
    ------
    Refused
        When no rule, or more than one, records what a selector of the name picks.
    """
    names = {record.name for record in known.records}

    def of(selector: Selector) -> Form:
        metric = selector.metric or ""
        if metric in names:
            return _recorded(selector, known)
        if metric.count(":") > 1:
            raise Refused(f"{metric} is a recorded name: {GIVE}", where=selector.place)
        return selector

    return _mapped(form, of)


def external_query(name: str, labels: Mapping[str, str], known: Definitions) -> str:
    """Return the query behind an external metric and the labels it is asked with.

    Raises
    ------
    Refused
        When no rule of the adapter serves the name.
    """
    rule = _rule(name, known, external=True)
    text = _filled(rule, [f'{label}="{value}"' for label, value in labels.items()])
    return re.sub(r"\bby\s*\(\s*<<\.GroupBy>>\s*\)", "", text)


def pods_query(
    name: str, labels: Mapping[str, str], series: Iterable[Stored], pool: str, known: Definitions
) -> str:
    """Return the query behind a metric of a pool's pods, summed over them: its mean is what an HPA compares.

    Raises
    ------
    Refused
        When no rule of the adapter serves the name, or no series of the pool names a pod.
    """
    rule = _rule(name, known, external=False)
    pods = sorted(
        {
            one.labels[POD]
            for one in series
            if one.ours and one.emitter == pool and one.labels[NAME] == rule.series and POD in one.labels
        }
    )
    if not pods:
        raise Refused(f"not in this history: no series of {rule.series} names a pod of {pool}")
    inside = [
        f"{POD}=~{quoted('|'.join(map(escaped, pods)))}",
        *(f'{label}="{value}"' for label, value in labels.items()),
    ]
    return f"sum({_filled(rule, inside).replace('<<.GroupBy>>', POD)})"


def _rule(name: str, known: Definitions, *, external: bool) -> AdapterRule:
    rule = next((one for one in known.adapter if one.name == name and one.external == external), None)
    if rule is None:
        raise Refused(f"{name} is what a rule of the metrics adapter makes of it: {GIVE}")
    return rule


def _filled(rule: AdapterRule, matchers: Iterable[str]) -> str:
    text = rule.query.replace("<<.Series>>", rule.series).replace("<<.LabelMatchers>>", ",".join(matchers))
    return re.sub(r"\{\s*,", "{", text)


def _embedded(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what the values of a ConfigMap hold, where they are YAML."""
    if body.get("kind") != "ConfigMap":
        return
    for text in (body.get("data") or {}).values():
        try:
            inside = YAML(typ="safe", pure=True).load(str(text))
        except YAMLError:
            continue
        if isinstance(inside, Mapping):
            yield inside


def _mappings(found: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list; nothing of what is none."""
    yield from (one for one in (found if isinstance(found, list) else ()) if isinstance(one, Mapping))


def _recording_rules(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    spec = body.get("spec")
    groups = body.get("groups") or (spec.get("groups") if isinstance(spec, Mapping) else None)
    for group in _mappings(groups):
        yield from (rule for rule in _mappings(group.get("rules")) if "record" in rule)


def _record(rule: Mapping[str, Any]) -> Record:
    labels = {str(name): str(value) for name, value in (rule.get("labels") or {}).items()}
    return Record(str(rule["record"]), str(rule.get("expr", "")), labels)


def _adapter_lists(body: Mapping[str, Any]) -> Iterator[tuple[bool, Any]]:
    """Yield the adapter's lists of rules and whether they are for External; as it or its chart has them."""
    rules = body.get("rules")
    yield True, body.get("externalRules")
    yield False, rules
    if isinstance(rules, Mapping):
        yield True, rules.get("external")
        yield False, rules.get("custom")


def _adapter_rule(rule: Mapping[str, Any], external: bool) -> AdapterRule:
    """Return a rule of the adapter; without a name of its own the metric is called as its series."""
    query = str(rule.get("seriesQuery", ""))
    found = _SERIES.fullmatch(query)
    inside = _NAMED.search(found["inside"] or "") if found else None
    series = (found["name"] if found else None) or (inside[1] if inside else "")
    served = rule.get("name") or {}
    return AdapterRule(str(served.get("as") or series), series, str(rule["metricsQuery"]), external)


def _recorded(selector: Selector, known: Definitions) -> Form:
    """Return the expression of the one rule that a selector of a recorded name picks."""
    others = tuple(one for one in selector.matchers if one.label != NAME)
    rules = [one for one in known.records if one.name == selector.metric]
    for matcher in others:
        if not all(matcher.label in one.labels for one in rules):
            what = (
                f"{selector.metric}: its rule sets no label {matcher.label}, so {matcher} can't be followed"
            )
            raise Refused(what, where=selector.place)
    chosen = [one for one in rules if picked(Selector(others), [one.labels])]
    if len({one.expr for one in chosen}) != 1:
        what = (
            f"{len(chosen)} of {len(rules)} rules that record {selector.metric} have the labels of {selector}"
        )
        raise Refused(what, where=selector.place)
    return parse(chosen[0].expr)


def _mapped(form: Form, of: Any) -> Form:
    """Return a form with its selectors replaced."""
    if isinstance(form, Selector):
        found: Form = of(form)
        return found
    if isinstance(form, Number):
        return form
    if isinstance(form, Binary | Union):
        return replace(form, left=_mapped(form.left, of), right=_mapped(form.right, of))
    if isinstance(form, OverTime):
        if isinstance(form.of, Subquery):
            return replace(form, of=replace(form.of, of=_mapped(form.of.of, of)))
        inner = of(form.of)
        return replace(form, of=inner if inner is form.of else Subquery(inner, None, form.place))
    return replace(form, of=_mapped(form.of, of))

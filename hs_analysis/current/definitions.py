"""The rules given beside today's objects, and what stands behind a recorded name.

A name says nothing by its spelling. A recorded name is the expression of its recording rule, and without the
rule it is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.current.adapter import GIVE, AdapterRule, adapter_rules
from hs_analysis.promql import Form, Refused, Selector, parse, picked
from hs_analysis.promql.forms import NAME, Binary, Number, OverTime, Subquery, Union
from hs_analysis.promql.history import Labels


@dataclass(frozen=True)
class Record:
    """A recording rule: its name, expression and static labels."""

    name: str
    expr: str
    labels: Labels


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
            adapter += adapter_rules(part)
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

"""Files of today's autoscalers: objects, each with its line, and the rules behind recorded names.

Templates are refused. A name says nothing by its spelling: a recorded name is the expression of its recording
rule, and without the rule it is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.current import shapes
from hs_analysis.current.adapter import GIVE, AdapterRule, adapter_rules
from hs_analysis.errors import InputError
from hs_analysis.promql import Form, Refused, Selector, parse, picked
from hs_analysis.promql.forms import NAME, Binary, Number, OverTime, Subquery, Union
from hs_analysis.promql.history import Labels
from hs_analysis.schema.places import documents_of, lines_of_documents, yaml_fault


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


def definitions_in(bodies: Iterable[Mapping[str, Any]], where: str = "") -> Definitions:
    """Return the recording and adapter rules among the documents of a file, in their order.

    Read are rule files, PrometheusRule objects, configurations of the adapter, and ConfigMaps that hold one.
    """
    records: list[Record] = []
    adapter: list[AdapterRule] = []
    for body in bodies:
        for part in (body, *_embedded(body, where)):
            for rule in _recording_rules(part):
                shapes.require(shapes.RECORD, rule, "the recording rule", where)
                records.append(_record(rule))
            adapter += adapter_rules(part, where)
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


def _embedded(body: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the values of a ConfigMap hold, where they are YAML."""
    if body.get("kind") != "ConfigMap":
        return
    shapes.require(shapes.CONFIG_MAP, body, "", where)
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


HPA, KEDA, DYNAMO = "HorizontalPodAutoscaler", "ScaledObject", "Dynamo planner"
KTHENA, AIBRIX, KSERVE = "AutoscalingPolicy", "PodAutoscaler", "LLMInferenceService"
OME, OME_POLICY = "InferenceService", "AutoscalerPolicy"
SERVING = {
    KTHENA: "workload.serving.volcano.sh/",
    AIBRIX: "autoscaling.aibrix.ai/",
    KSERVE: "serving.kserve.io/",
    OME: "ome.io/",
    OME_POLICY: "ome.io/",
}
"""Kind of a serving stack's autoscaler → how its ``apiVersion`` begins."""

_SPECS = {
    HPA: shapes.HPA, KEDA: shapes.KEDA, KTHENA: shapes.KTHENA, AIBRIX: shapes.AIBRIX, KSERVE: shapes.KSERVE,
    OME: shapes.OME, OME_POLICY: shapes.OME_POLICY,
}  # fmt: skip
"""Kind of an object → the check of its ``spec``."""

PLANNER_KEYS = {
    "optimization_target", "prefill_scale_up_queue_tokens", "decode_scale_up_kv_rate", "max_gpu_budget",
    "prefill_min_endpoint", "decode_min_endpoint", "pre_deployment_sweeping_mode",
}  # fmt: skip
"""Keys that only the configuration of Dynamo's planner has."""

_TEMPLATE = re.compile(r"\{\{[-\s]*[.$\w\"(]|\$\{[A-Za-z_]\w*\}")
_OF_ALERTS = re.compile(r"\{\{[^{}]*\$(?:value|labels|externalLabels|externalURL)\b[^{}]*\}\}")
_KINDS = (
    f"{HPA} autoscaling/v2, KEDA {KEDA}, a Dynamo planner configuration, or an object of Kthena, AIBrix, "
    "KServe or OME"
)


@dataclass(frozen=True)
class AutoscalerManifest:
    """One object of an autoscaler: its kind, its body as plain data, and its file and line."""

    kind: str
    body: Mapping[str, Any]
    where: str


def read_definitions(text: str, file: str) -> Definitions:
    """Return the recording and adapter rules of a file, none where it holds none."""
    each = (definitions_in((body,), f"{file}:{line}") for line, body in _objects(text, file))
    return sum(each, Definitions())


def read_manifests(text: str, file: str) -> tuple[AutoscalerManifest, ...]:
    """Return the autoscaler objects of a file, in order; other objects are passed over.

    A file with rules alone, recording rules or those of an adapter, gives none.

    Parameters
    ----------
    text
        YAML or JSON, one or several documents, also a ``kind: List``.
    file
        Its name, for messages.

    Raises
    ------
    InputError
        When it is a template that was never rendered, no YAML or JSON, holds an HPA of an older API version,
        or no autoscaler at all; with file and line.
    """
    refuse_templates(text, file)
    found, others = [], []
    for line, body in _objects(text, file):
        where = f"{file}:{line}"
        kind = _kind_of(body, where)
        if kind:
            planner = planner_of(body) if kind == DYNAMO else body
            shapes.require_shape(_SPECS.get(kind), body, where)
            found.append(AutoscalerManifest(kind, planner, where))
        else:
            others.append(str(body.get("kind") or "a document without kind"))
    if not found and not read_definitions(text, file):
        what = f"holds no autoscaler, but {', '.join(dict.fromkeys(others))}" if others else "is empty"
        raise InputError(what, where=file, hint=f"give a {_KINDS}")
    return tuple(found)


@dataclass(frozen=True)
class GracePeriod:
    """How long the pods of a template have to end their requests [s]: names above it, the nearest first."""

    seconds: float
    names: tuple[str, ...]
    where: str


GRACE_KEY = "terminationGracePeriodSeconds"


def read_grace_periods(text: str, file: str) -> tuple[GracePeriod, ...]:
    """Return the grace periods that the pod templates of a file say, in their order.

    Of any kind of object that holds one: Deployment, StatefulSet, LeaderWorkerSet, graph of Dynamo. A
    template that says none gives none.
    """
    found: list[GracePeriod] = []
    for line, body in _objects(text, file):
        meta = body.get("metadata")
        name = str(meta.get("name", "")) if isinstance(meta, Mapping) else ""
        found += [
            GracePeriod(seconds, (*reversed(path), name), f"{file}:{line}")
            for path, seconds in _graces(body, ())
        ]
    return tuple(found)


def _graces(part: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the grace periods inside an object, with the keys above each."""
    if isinstance(part, list):
        for one in part:
            yield from _graces(one, path)
    if not isinstance(part, Mapping):
        return
    for key, value in part.items():
        if key == GRACE_KEY and isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)
        else:
            yield from _graces(value, (*path, str(key)))


def refuse_templates(text: str, file: str) -> None:
    """Raise for a file that was never rendered, with its line.

    What Prometheus itself fills into an alert's annotations is none: it stays in a file that is rendered.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if _TEMPLATE.search(_OF_ALERTS.sub("", line.partition(" #")[0])):
            hint = "render it first, e.g. helm template, or take it from the cluster: kubectl get -o yaml"
            raise InputError(f"a template: {line.strip()}", where=f"{file}:{number}", hint=hint)


@lru_cache(maxsize=64)  # files of several targets hold the same rules
def _objects(text: str, file: str) -> tuple[tuple[int, Mapping[str, Any]], ...]:
    """Return (line, body) of every document, lists taken apart; bodies are to read and not to change."""
    return tuple(_parsed(text, file))


def _parsed(text: str, file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        documents = documents_of(text)
    except YAMLError as error:
        problem, where = yaml_fault(error, file)
        raise InputError(f"no YAML or JSON: {problem}", where=where) from error
    filled = [(line, document) for line, document in documents if document is not None]
    for number, (line, document) in enumerate(filled):
        if not isinstance(document, Mapping):
            raise InputError("expected an object with keys", where=file)
        bodies = [(line, document)]
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            lines = dict(enumerate(lines_of_documents(text))).get(number, {})
            bodies = [(lines.get(f"items[{at}]", line), body) for at, body in enumerate(document["items"])]
        for at_line, body in bodies:
            if not isinstance(body, Mapping):
                raise InputError("expected an object with keys", where=f"{file}:{at_line}")
            yield at_line, json.loads(json.dumps(body, default=str))


def _kind_of(body: Mapping[str, Any], where: str) -> str:
    """Return the kind of an autoscaler's object, empty for any other object."""
    api, kind = str(body.get("apiVersion", "")), str(body.get("kind", ""))
    if kind == HPA:
        if api != "autoscaling/v2":
            hint = "take it in the new form: kubectl get hpa.v2.autoscaling NAME -o yaml"
            raise InputError(
                f"apiVersion {api or 'missing'}, only autoscaling/v2 is read", where=where, hint=hint
            )
        return HPA
    if kind == KEDA and api.startswith("keda.sh/"):
        return KEDA
    if kind in SERVING and api.startswith(SERVING[kind]):
        return kind
    return DYNAMO if planner_of(body) else ""


def planner_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the planner's configuration in a file of its own or in a deployment request; empty for none."""
    if PLANNER_KEYS & set(body):
        return body
    inside: Any = body
    for key in ("spec", "features", "planner"):
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}

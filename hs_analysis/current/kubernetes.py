"""HorizontalPodAutoscalers and KEDA ScaledObjects as parameters of the replay's controllers.

KEDA evaluates a formula over triggers (``scalingModifiers``) with expr
(https://expr-lang.org/docs/language-definition) over the answers of named triggers:
https://keda.sh/docs/latest/concepts/scaling-deployments/#scaling-modifiers. Read are the name of one
trigger, weighted sums of several (``sum([a, b])`` and ``mean([a, b])`` too), and the largest or least of
several, times or over numbers. Everything else is refused by name and place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from hs_analysis.catalogue import Catalogue
from hs_analysis.controllers import hpa
from hs_analysis.controllers.keda import CRON, Fallback, Keda
from hs_analysis.current.adapter import AskedMetric, external_query, object_query, pods_query
from hs_analysis.current.documents import Definitions
from hs_analysis.current.model import Addend, How, Known, MetricRead, name_in
from hs_analysis.current.queries import EMPTY_IS_ZERO, QuantileAnswer, Query, read_query
from hs_analysis.current.schedule import CronSchedule, read_schedule
from hs_analysis.errors import InputError
from hs_analysis.export.shape import amount
from hs_analysis.promql import Refused

_KINDS = {
    ("sum", "sum", "AverageValue"): "AverageValue",
    ("sum", "sum", "Value"): "Value",
    # The mean of an instance against its target, times the instances: the total ÷ target.
    ("sum", "avg", "Value"): "AverageValue",
    ("mean", "sum", "AverageValue"): "Pods",
    ("mean", "avg", "AverageValue"): "AverageValue",
    ("mean", "avg", "Value"): "Value",
}
"""(how the signal adds up, what the query makes of it, target type) → kind of the replay's metric."""

TWICE_DIVIDED = (
    "a mean over instances is divided by their number once more (AverageValue): the count follows the mean "
    "alone, whatever the load; use Value, or a sum"
)

OF_ANOTHER_POOL = (
    "a sum of {signal} over the instances of {role} moves with their number, and is not replayed"
)


def quantity(value: object) -> float | None:
    """Return a Kubernetes quantity (``3800``, ``45m``, ``2Ki``) as a number; None when it is none."""
    return amount(str(value).strip())


def metric_read(
    query: Query, kind: str, target: float, text: str, pool: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    """Return a pool's metric with its target in the signal's unit, and what to note; None if it can't be run.

    A mean summed over the instances of another pool needs the count of that pool, which no rule of this one
    sees.
    """
    forms = {(_adds(one), one.over) for one in (query, *query.others)}
    if len(forms) > 1:
        told = (f"{one.over} of {one.signal}@{one.role}" for one in (query, *query.others))
        return None, (*query.notes, f"{' and '.join(told)} do not add up over instances alike")
    ((adds, over),) = forms
    found = _KINDS.get((adds, over, kind))
    if found is None:
        return None, (*query.notes, f"{over} of {query.signal} with {kind} is not read")
    if found == "Pods" and query.role not in (pool, "service"):
        return None, (*query.notes, OF_ANOTHER_POOL.format(signal=query.signal, role=query.role))
    notes = query.notes
    if (adds, over, kind) == ("mean", "avg", "AverageValue"):
        notes = (*notes, TWICE_DIVIDED)
    if any(one.surge for one in query.others):
        return None, (*query.notes, "a range that changes with the load is read of the first signal alone")
    others = tuple(
        Addend(one.signal, one.role, one.averaging_s, _factor_of(query.scale / one.scale))
        for one in query.others
    )
    read = MetricRead(
        query.signal, query.role, target * query.scale, found, query.averaging_s, query.scale, text, others,
        query.how, query.surge, query.highest_s,
    )  # fmt: skip
    return read, notes


def _factor_of(scale: float) -> float:
    """Return a factor as a query says it: without the last digits that dividing back and forth changes."""
    return float(f"{scale:.12g}")


def _adds(query: Query) -> str:
    return "sum" if query.pool == "sum" else "mean"


_WORDS = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/)"
    r"|(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_$][\w$]*)"
    r"|(?P<text>\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`)"
    r"|(?P<sign>\?\?|\?\.|&&|\|\||==|!=|<=|>=|\*\*|\.\.|.)",
    re.DOTALL,
)
_CALLS = ("max", "min", "sum", "mean")
_REFUSED = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), "the comparison {}"),
    **dict.fromkeys(("&&", "||", "!", "and", "or", "not", "in", "matches", "contains"), "the condition {}"),
    **dict.fromkeys(("**", "^"), "the power {}"),
    **dict.fromkeys(("?", ":", "if", "else"), "a choice ({})"),
    "??": "the default {} for a trigger that fails",
    "%": "the remainder {}",
    "|": "the pipe {}",
    "let": "the variable after {}",
}
"""Signs and words of expr → what they are called."""

MOST_WORDS = 500
"""Words and signs of a formula [words]: the reader calls itself, a deep nest could end the process."""


@dataclass(frozen=True)
class Weighed:
    """Answers of triggers, each times a number, and what is made of them.

    Attributes
    ----------
    how
        ``sum``, ``max`` or ``min`` of the weighted answers.
    terms
        (trigger, weight), each trigger once, in the order of the formula.
    """

    how: How
    terms: tuple[tuple[str, float], ...]


def read_formula(text: str, triggers: Collection[str]) -> Weighed:
    """Return what a formula makes of the answers of the triggers it names.

    Parameters
    ----------
    text
        The formula.
    triggers
        Names of the object's triggers.

    Raises
    ------
    Refused
        When it is more than that: names the function, sign or trigger, and its place.
    """
    reader = _FormulaReader(text, triggers)
    found = reader.whole()
    if isinstance(found, float):
        raise Refused("it names no trigger")
    return found


@dataclass(frozen=True)
class _FormulaWord:
    kind: str
    text: str
    place: str


_END = _FormulaWord("end", "", "at its end")
_Value = float | Weighed


class _FormulaReader:
    """Reads a formula by its grammar: sums of products of numbers, names, calls and parentheses."""

    def __init__(self, text: str, triggers: Collection[str]) -> None:
        self.triggers = triggers
        found = [one for one in _WORDS.finditer(text) if one.lastgroup != "space"]
        self.words = [_FormulaWord(one.lastgroup or "", one[0], f"column {one.start() + 1}") for one in found]
        if len(self.words) > MOST_WORDS:
            raise Refused(f"it has {len(self.words)} words and signs, more than {MOST_WORDS}")
        self.next = 0

    def whole(self) -> _Value:
        found = self._sum()
        if self._here is not _END:
            self._refuse(self._here)
        return found

    @property
    def _here(self) -> _FormulaWord:
        return self.words[self.next] if self.next < len(self.words) else _END

    def _take(self, *texts: str) -> _FormulaWord | None:
        """Return the next word and pass it if it is one of these; else None."""
        word = self._here
        if word is _END or word.kind == "text" or word.text not in texts:
            return None
        self.next += 1
        return word

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            self._refuse(self._here)

    def _refuse(self, word: _FormulaWord) -> NoReturn:
        if word is _END:
            raise Refused("it ends too early")
        known = _REFUSED.get(word.text) if word.kind in ("sign", "name") else None
        what = (known or ("the text {}" if word.kind == "text" else "{}")).format(word.text)
        raise Refused(f"{what} is not read", where=word.place)

    def _sum(self) -> _Value:
        found = self._product()
        while sign := self._take("+", "-"):
            found = _added(found, self._product(), sign)
        return found

    def _product(self) -> _Value:
        found = self._single()
        while sign := self._take("*", "/"):
            found = _multiplied(found, self._single(), sign)
        return found

    def _single(self) -> _Value:
        word = self._here
        if sign := self._take("-", "+"):
            inner = self._single()
            if sign.text == "-" and not isinstance(inner, float):
                raise Refused("a trigger with a minus is not read", where=sign.place)
            return -inner if sign.text == "-" else inner  # type: ignore[operator]
        if self._take("("):
            inside = self._sum()
            self._need(")")
            return inside
        if word.kind == "number":
            self.next += 1
            return float(word.text.replace("_", ""))
        if word.kind != "name" or word.text in _REFUSED:
            self._refuse(word)
        self.next += 1
        return self._called(word) if self._take("(") else self._trigger(word)

    def _trigger(self, word: _FormulaWord) -> Weighed:
        if word.text not in self.triggers:
            named = ", ".join(sorted(self.triggers)) or "none has a name"
            raise Refused(f"no trigger is named {word.text}, its triggers: {named}", where=word.place)
        return Weighed("sum", ((word.text, 1.0),))

    def _called(self, word: _FormulaWord) -> _Value:
        if word.text not in _CALLS:
            raise Refused(f"the function {word.text} is not read", where=word.place)
        listed = self._take("[") is not None
        given = [self._sum()]
        while self._take(","):
            given.append(self._sum())
        if listed:
            self._need("]")
        if not listed and word.text == "sum":
            raise Refused("sum takes one list: sum([a, b])", where=word.place)
        self._need(")")
        if word.text in ("sum", "mean"):
            found = given[0]
            for other in given[1:]:
                found = _added(found, other, word)
            return _multiplied(found, float(len(given)), word) if word.text == "mean" else found
        return _extreme(given, word)


def _added(left: _Value, right: _Value, sign: _FormulaWord) -> _Value:
    if isinstance(left, float) and isinstance(right, float):
        return left - right if sign.text == "-" else left + right
    if isinstance(left, float) or isinstance(right, float):
        raise Refused("a number added to a trigger is not read", where=sign.place)
    if sign.text == "-":
        raise Refused("a difference of triggers (-) is not read", where=sign.place)
    for one in (left, right):
        if one.how != "sum":
            raise Refused(f"a sum with a {one.how} in it is not read", where=sign.place)
    return _together("sum", (left, right))


def _multiplied(left: _Value, right: _Value, sign: _FormulaWord) -> _Value:
    """Return a product, or a quotient where the sign divides (``/``, and the call of a mean)."""
    divides = sign.text in ("/", "mean")
    if isinstance(left, float) and not isinstance(right, float) and not divides:
        left, right = right, left
    if not isinstance(right, float):
        what = "a division by a trigger (/)" if divides else "a product of triggers (*)"
        raise Refused(f"{what} is not read", where=sign.place)
    if divides and right == 0:
        raise Refused("a division by 0 is not read", where=sign.place)
    factor = 1.0 / right if divides else right
    if isinstance(left, float):
        return left * factor
    if not 0.0 < factor < math.inf:
        raise Refused(f"a trigger times {factor:g} is not read", where=sign.place)
    return Weighed(left.how, tuple((name, weight * factor) for name, weight in left.terms))


def _extreme(given: Sequence[_Value], word: _FormulaWord) -> _Value:
    how: How = "max" if word.text == "max" else "min"
    numbers = [one for one in given if isinstance(one, float)]
    if len(numbers) == len(given):
        return max(numbers) if how == "max" else min(numbers)
    if numbers:
        raise Refused(f"a number next to triggers in {how} is not read", where=word.place)
    parts = [one for one in given if isinstance(one, Weighed)]
    for one in parts:
        if len(one.terms) > 1 and one.how != how:
            raise Refused(f"a {how} with a {one.how} in it is not read", where=word.place)
    return _together(how, parts)


def _together(how: How, parts: Sequence[Weighed]) -> Weighed:
    weights: dict[str, float] = {}
    for name, weight in (term for part in parts for term in part.terms):
        before = weights.get(name)
        if before is None:
            weights[name] = weight
        else:
            weights[name] = (
                before + weight if how == "sum" else (max if how == "max" else min)(before, weight)
            )
    return Weighed(how if len(weights) > 1 else "sum", tuple(weights.items()))


@dataclass(frozen=True)
class Reader:
    """What queries are read with: the service, the catalogue, and the rules behind names.

    ``answers`` holds the expression of each quantile that was read, by its (signal, role).
    """

    known: Known
    catalogue: Catalogue
    definitions: Definitions
    answers: dict[tuple[str, str], QuantileAnswer] = field(default_factory=dict)

    def query(self, text: str, pool: str) -> Query | str:
        """Return what a query reads for a pool, or why it is not read."""
        found = read_query(text, pool, self.known, self.catalogue, self.definitions)
        if isinstance(found, Query) and found.answer is not None:
            first = self.answers.setdefault((found.signal, found.role), found.answer)
            if first != found.answer:
                return f"another query of {found.signal}@{found.role} on other series is read already"
        return found

    def metric(self, kind: str, part: Mapping[str, Any], pool: str, namespace: str) -> str:
        """Return the query behind an External metric, one of an object, or one of a pool's pods, summed.

        Raises
        ------
        Refused
            When no rule of the adapter serves it.
        """
        metric = part.get("metric") or {}
        labels = (metric.get("selector") or {}).get("matchLabels") or {}
        asked, rules = AskedMetric(str(metric.get("name", "")), labels, namespace), self.definitions.adapter
        if kind == "External":
            return external_query(asked, self.known.series, rules)
        if kind == "Object":
            described = part.get("describedObject") or {}
            kind_of, name = (str(described.get(key, "")) for key in ("kind", "name"))
            return object_query(asked, kind_of, name, self.known.series, rules)
        return pods_query(asked, self.known.series, pool, rules)


Read = tuple[Any, tuple[MetricRead, ...], tuple[str, ...]]
"""Parameters or None, metrics, notes."""


def read_hpa(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return an HPA's parameters; None when not one of its metrics can be replayed."""
    spec = mapping_of(body, "spec", where)
    metrics, notes = [], []
    for number, entry in enumerate(spec.get("metrics") or []):
        namespace = str((body.get("metadata") or {}).get("namespace") or "")
        read, said = _hpa_metric(entry, pool, reader, namespace)
        metrics += [read] if read else []
        notes += [f"metrics[{number}]: {text}" for text in said]
    if not metrics:
        return None, (), tuple(notes)
    up, down = behaviour_of(spec.get("behavior") or {}, where)
    least, most = whole_number(spec, "minReplicas", 1, where), whole_number(spec, "maxReplicas", None, where)
    parameters = hpa.Hpa(_for_replay(metrics, pool), least, most, up=up, down=down)
    return parameters, tuple(metrics), tuple(notes)


def read_scaled_object(body: Mapping[str, Any], pool: str, reader: Reader, where: str) -> Read:
    """Return a ScaledObject's parameters; None when not one of its triggers can be replayed."""
    spec = mapping_of(body, "spec", where)
    advanced = spec.get("advanced") or {}
    modifiers, triggers = advanced.get("scalingModifiers") or {}, spec.get("triggers") or []
    formula = str(modifiers.get("formula") or "")
    read, notes = (
        _composed(formula, modifiers, triggers, pool, reader) if formula else _alone(triggers, pool, reader)
    )
    timetable = CronSchedule() if formula else read_schedule(triggers)
    notes += timetable.notes
    if not read and not timetable.plan:
        return None, (), tuple(notes)
    metrics = tuple(one.metric for one in read)
    followed = _for_replay(metrics, pool, each=bool(formula)) + ((CRON,) if timetable.plan else ())
    up, down = behaviour_of(
        (advanced.get("horizontalPodAutoscalerConfig") or {}).get("behavior") or {}, where
    )
    if len({(one.active, one.ignored) for one in read}) > 1:
        notes.append("triggers differ in activationThreshold or ignoreNullValues: the first one's are used")
    parameters = Keda(
        hpa.Hpa(followed, up=up, down=down),
        min_replica_count=whole_number(spec, "minReplicaCount", 0, where),
        max_replica_count=whole_number(spec, "maxReplicaCount", 100, where),
        idle_replica_count=whole_number(spec, "idleReplicaCount", None, where)
        if "idleReplicaCount" in spec
        else None,
        polling_interval_s=float(whole_number(spec, "pollingInterval", 30, where)),
        cooldown_period_s=float(whole_number(spec, "cooldownPeriod", 300, where)),
        activation_threshold=read[0].active if read else 0.0,
        ignore_null_values=read[0].ignored if read else True,
        fallback=_fallback(spec.get("fallback"), notes, where),
        plan=timetable.plan,
        zone=timetable.zone,
    )
    return parameters, metrics, tuple(notes)


def left_out(body: Mapping[str, Any], is_hpa: bool, read: int) -> int:
    """Return how many metrics or triggers of an object stand beside the ``read`` ones and are not replayed.

    A formula takes the place of the triggers that it names; only CPU and memory stay beside it.
    """
    spec = body.get("spec") or {}
    triggers = spec.get("metrics" if is_hpa else "triggers") or []
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers") or {}
    if read and not is_hpa and modifiers.get("formula"):
        return sum(1 for trigger in triggers if trigger.get("type") in _RESOURCES)
    cron = 0 if is_hpa or modifiers.get("formula") else read_schedule(triggers).read
    return len(triggers) - read - cron


@dataclass(frozen=True)
class _Trigger:
    """A metric of a ScaledObject, from which value on it is active, and whether it takes nothing for zero."""

    metric: MetricRead
    active: float
    ignored: bool


def _alone(
    triggers: Sequence[Mapping[str, Any]], pool: str, reader: Reader
) -> tuple[list[_Trigger], list[str]]:
    """Return the triggers that can be replayed, each a metric of its own, and what to note."""
    read, notes = [], []
    for number, trigger in enumerate(triggers):
        metadata = trigger.get("metadata") or {}
        if trigger.get("type") == "cron":
            continue  # a schedule of its own
        found = _query_of(trigger, pool, reader)
        said: tuple[str, ...] = (found,) if isinstance(found, str) else ()
        if isinstance(found, Query):
            kind, text = str(trigger.get("metricType", "AverageValue")), str(metadata.get("query", ""))
            bare = _without_empty(found)
            metric, said = _with_target(bare, kind, metadata.get("threshold", ""), "threshold", text, pool)
            if metric is not None:
                ignored = _ignores(trigger, found)
                read.append(_activated(metric, metadata.get("activationThreshold", "0"), ignored=ignored))
        notes += [f"triggers[{number}]: {text}" for text in said]
    return read, notes


def _composed(
    formula: str,
    modifiers: Mapping[str, Any],
    triggers: Sequence[Mapping[str, Any]],
    pool: str,
    reader: Reader,
) -> tuple[list[_Trigger], list[str]]:
    """Return the one metric that a formula makes of the triggers it names, and what to note.

    A target, type and activation of a single trigger are not used. CPU and memory stay beside the formula.
    """
    notes = [
        f"triggers[{number}]: {_not_held(str(trigger.get('type')))}"
        for number, trigger in enumerate(triggers)
        if trigger.get("type") in _RESOURCES
    ]
    named = {str(one["name"]): one for one in triggers if one.get("name")}
    found: list[Query] = []
    ignored: list[bool] = []
    try:
        weighed = read_formula(formula, named)
        for name, weight in weighed.terms:
            query = _query_of(named[name], pool, reader)
            if isinstance(query, str):
                raise Refused(f"{name}: {query}")
            if query.answer is not None and weighed.how == "min":
                raise Refused(f"{name}: a quantile in a min is not read: the replay does not always know it")
            if query.others and weighed.how != "sum":
                raise Refused(f"{name}: a sum of signals in a {weighed.how} is not read")
            if query.highest_s and len(weighed.terms) > 1:
                raise Refused(
                    f"{name}: max_over_time is read of a whole query, not of one trigger of several"
                )
            ignored.append(_ignores(named[name], query))
            parts = (replace(query, others=()), *query.others)
            found += [replace(part, scale=part.scale / weight) for part in parts]
    except Refused as refused:
        return [], [*notes, f"scalingModifiers.formula: {refused.line()}"]
    notes += [f"scalingModifiers.formula: {text}" for part in found for text in _without_empty(part).notes]
    whole = replace(found[0], others=tuple(found[1:]), how=weighed.how, notes=())
    kind = str(modifiers.get("metricType", "AverageValue"))
    metric, said = _with_target(whole, kind, modifiers.get("target", ""), "target", formula, pool)
    notes += [f"scalingModifiers: {text}" for text in said]
    if len(set(ignored)) > 1:
        notes.append("triggers of the formula differ in ignoreNullValues: the first one's is used")
    active = modifiers.get("activationTarget", "0")
    return ([_activated(metric, active, ignored=ignored[0])] if metric is not None else []), notes


def _activated(metric: MetricRead, threshold: Any, *, ignored: bool) -> _Trigger:
    return _Trigger(metric, (quantity(threshold) or 0.0) * metric.scale, ignored)


def _ignores(trigger: Mapping[str, Any], query: Query) -> bool:
    """Whether an empty answer counts as 0: by the trigger, or by ``or vector(0)`` in its query."""
    said = str((trigger.get("metadata") or {}).get("ignoreNullValues", "true")).lower() == "true"
    return said or EMPTY_IS_ZERO in query.notes


def _without_empty(query: Query) -> Query:
    """Return a query without the note that an empty answer is replayed as a missing one: KEDA's is not."""
    return replace(query, notes=tuple(note for note in query.notes if note != EMPTY_IS_ZERO))


def _for_replay(metrics: Sequence[MetricRead], pool: str, *, each: bool = False) -> tuple[hpa.Metric, ...]:
    return tuple(
        hpa.Metric(
            name_in(pool, one), one.target, one.kind, one.averaging_s,  # type: ignore[arg-type]
            tuple(hpa.Operand(name_in(pool, o), o.averaging_s, o.weight) for o in one.others), one.how, each,
            one.surge, one.highest_s,
        )
        for one in metrics
    )  # fmt: skip


_ADAPTED = {"External": "external", "Pods": "pods", "Object": "object"}
"""Types of an HPA's metrics that a metrics adapter serves → the key of their fields."""


def _hpa_metric(
    entry: Mapping[str, Any], pool: str, reader: Reader, namespace: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    kind = str(entry.get("type", ""))
    part = entry.get(_ADAPTED.get(kind, ""))
    if not isinstance(part, Mapping):
        return None, (_not_held_by_hpa(kind, entry),)
    metric = part.get("metric") or {}
    name, target = str(metric.get("name", "")), part.get("target") or {}
    if (metric.get("selector") or {}).get("matchExpressions"):
        return None, (f"{name}: matchExpressions are not read",)
    try:
        text = reader.metric(kind, part, pool, namespace)
    except Refused as refused:
        return None, (_reported(kind, part) + refused.line(),)
    query = reader.query(text, pool)
    if isinstance(query, str):
        return None, (f"{name}: {query}",)
    said = str(target.get("type", "AverageValue"))
    written = target.get("averageValue", target.get("value", ""))
    return _with_target(query, said, written, "target", name, pool)


def _reported(kind: str, part: Mapping[str, Any]) -> str:
    """Return which object a metric of type Object is of, empty for other types."""
    if kind != "Object":
        return ""
    described = part.get("describedObject") or {}
    what = f"{described.get('kind', 'object')} {described.get('name', 'without name')}"
    return f"type Object: what the {what} reports: "


_RESOURCES = ("cpu", "memory")
"""Triggers of KEDA that are Resource metrics of its HPA."""


def _not_held(kind: str) -> str:
    """Return why a trigger of KEDA that asks no Prometheus is not replayed."""
    if kind in _RESOURCES:
        return f"type {kind}: the {kind} use of pods is not in this history"
    if kind == "cron":
        return "type cron: a schedule in a formula is not replayed"
    return f"type {kind or 'missing'}: what it counts is not in this history"


def _not_held_by_hpa(kind: str, entry: Mapping[str, Any]) -> str:
    """Return why a metric of an HPA that no adapter serves is not replayed."""
    part = entry.get({"Resource": "resource", "ContainerResource": "containerResource"}.get(kind, ""))
    if isinstance(part, Mapping):
        return f"type {kind}: the {part.get('name', 'resource')} use of pods is not in this history"
    return f"type {kind or 'missing'} is not in this history"


def _query_of(trigger: Mapping[str, Any], pool: str, reader: Reader) -> Query | str:
    """Return what a trigger of KEDA reads, or why it is not read."""
    kind, metadata = str(trigger.get("type", "")), trigger.get("metadata") or {}
    if kind != "prometheus":
        return _not_held(kind)
    text = str(metadata.get("query", ""))
    query = reader.query(text, pool)
    return f"{text}: {query}" if isinstance(query, str) else query


def _with_target(
    query: Query, kind: str, written: Any, called: str, text: str, pool: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    value = quantity(written)
    if value is None or value <= 0:
        return None, (f"{text}: no {called} above 0",)
    return metric_read(query, kind, value, text, pool)


def behaviour_of(body: Mapping[str, Any], where: str) -> tuple[hpa.Rules, hpa.Rules]:
    """Return the rules of both directions, out and in."""
    return (
        _rules(body.get("scaleUp") or {}, hpa.SCALE_UP, where),
        _rules(body.get("scaleDown") or {}, hpa.SCALE_DOWN, where),
    )


def _rules(body: Mapping[str, Any], default: hpa.Rules, where: str) -> hpa.Rules:
    """Return one direction; what is not said is Kubernetes' own."""
    tolerance = quantity(body["tolerance"]) if body.get("tolerance") is not None else None
    policies = tuple(
        hpa.RatePolicy(
            "Percent" if one.get("type") == "Percent" else "Pods",
            whole_number(one, "value", None, where),
            float(whole_number(one, "periodSeconds", None, where)),
        )
        for one in body.get("policies") or []
    )
    window = whole_number(body, "stabilizationWindowSeconds", round(default.stabilization_s), where)
    select = str(body.get("selectPolicy", "Max"))
    if select not in ("Max", "Min", "Disabled"):
        raise InputError(f"selectPolicy {select!r} is not Max, Min or Disabled", where=where)
    return hpa.Rules(float(window), policies or default.policies, select, tolerance)  # type: ignore[arg-type]


def _fallback(body: Any, notes: list[str], where: str) -> Fallback | None:
    if not isinstance(body, Mapping):
        return None
    behaviour = str(body.get("behavior", "static"))
    if behaviour not in ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"):
        notes.append(f"fallback.behavior {behaviour} is not read: taken as static")
        behaviour = "static"
    return Fallback(
        whole_number(body, "failureThreshold", None, where),
        whole_number(body, "replicas", None, where),
        behaviour,  # type: ignore[arg-type]
    )


def mapping_of(body: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return what an object holds under a key.

    Raises
    ------
    InputError
        When it is no object.
    """
    found = body.get(key)
    if not isinstance(found, Mapping):
        raise InputError(f"{key} is missing", where=where)
    return found


def whole_number(body: Mapping[str, Any], key: str, default: int | None, where: str) -> int:
    """Return a whole number of an object, the default where it says none.

    Raises
    ------
    InputError
        When it is none, or says none and there is no default.
    """
    value = body.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        what = f"{key} is missing" if value is None else f"{key}: expected a whole number, found {value!r}"
        raise InputError(what, where=where)
    return value

"""From the text of a PromQL expression to its form; what is not read is refused by name and place.

The syntax tree is `promql-parser`'s. It carries no positions, so the words of the text are walked along with
it: both come in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import promql_parser as tree

from hs_analysis.promql.forms import (
    AGGREGATIONS,
    ARITHMETIC,
    COMPARISONS,
    COUNTER_FUNCTIONS,
    GAUGE_FUNCTIONS,
    NAME,
    Aggregate,
    AsScalar,
    AsVector,
    Binary,
    Clamp,
    CopiedLabel,
    Form,
    HistogramQuantile,
    Matcher,
    Matching,
    Number,
    OverTime,
    Refused,
    Selector,
    Sign,
    Subquery,
    Union,
    inside,
    is_scalar,
    walk,
)

MOST_WORDS = 500
"""Words and signs of an expression [words]: the parser calls itself, a deep nest could end the process."""

KindOf = Callable[[Selector], Literal["counter", "gauge"] | None]
"""Selector → kind of the series that it picks; None where nobody knows."""

_SIGNS: dict[str, Sign] = {
    "MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~",
}  # fmt: skip
_STRING = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`"
_WORDS = re.compile(
    rf"(?P<space>\s+|\#[^\n]*)"
    rf"|(?P<string>{_STRING})"
    rf"|(?P<braces>\{{(?:{_STRING}|[^{{}}\"'`])*\}})"
    r"|(?P<range>\[[^\]]*\])"
    r"|(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)"
    r"|(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[a-zA-Z0-9]*)"
    r"|(?P<sign>==|!=|<=|>=|.)",
    re.DOTALL,
)
_RAW = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\#[^\n]*|`([^`]*)`")
_GROUPINGS = ("by", "without", "on", "ignoring", "group_left", "group_right")
_KEYWORDS = (*_GROUPINGS, "and", "or", "unless", "bool", "offset", "atan2")
_CLAMPS = ("clamp", "clamp_min", "clamp_max")
_FUNCTIONS = (
    *COUNTER_FUNCTIONS, *GAUGE_FUNCTIONS, *_CLAMPS, "histogram_quantile", "label_replace", "scalar", "vector",
)  # fmt: skip
_COPIES = {"(.+)": False, "(.*)": True}
"""Patterns of label_replace that take a whole value over → whether an empty one too."""


def syntax_problem(text: str) -> str:
    """Return what Prometheus would not parse in an expression, on one line; empty where it parses.

    An expression of too many words to be parsed safely has no problem that is known.
    """
    if len(_WORDS.findall(text)) > MOST_WORDS:
        return ""
    try:
        tree.parse(text)
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


def parse(text: str) -> Form:
    """Return the form of an expression.

    Raises
    ------
    Refused
        When it is no PromQL, or holds anything that is not read: names it and its place.
    """
    words = _Words(text)
    _refuse_functions(words)
    try:
        found = tree.parse(_RAW.sub(_as_quoted, text))
    except ValueError as error:
        raise Refused(f"this is not valid PromQL: {error}") from error
    try:
        return _Reader(words).form(found)
    except RecursionError as error:
        raise Refused("the expression is nested too deeply to be read") from error


def require_kinds(form: Form, kind_of: KindOf) -> None:
    """Raise where a gauge is read as a counter, or a counter as a gauge.

    Series whose kind is not known pass. How many series of a counter there are (``count``) may be asked.

    Raises
    ------
    Refused
        Names the metric and the place.
    """
    if isinstance(form, Selector):
        if kind_of(form) == "counter":
            what = f"{form.metric or form} is a counter and is read without rate or increase"
            raise Refused(what, where=form.place)
        return
    if isinstance(form, Aggregate) and form.function == "count" and isinstance(form.of, Selector):
        return
    if isinstance(form, OverTime) and form.function in COUNTER_FUNCTIONS:
        _require_counter(form, kind_of)
        return
    for part in inside(form):
        require_kinds(part.of if isinstance(part, Subquery) else part, kind_of)


def _require_counter(form: OverTime, kind_of: KindOf) -> None:
    """Raise where what a counter's function is over holds no counter, or reads one wrongly itself."""
    over_time = [one for one in walk(form.of) if isinstance(one, OverTime)]
    for one in over_time:
        require_kinds(one, kind_of)
    leaves = [one for one in walk(form.of) if isinstance(one, Selector)]
    if not over_time and all(kind_of(one) == "gauge" for one in leaves):
        what = f"{leaves[0].metric or leaves[0]} is a gauge, and {form.function} is for counters"
        raise Refused(what, where=form.place)


def _as_quoted(found: re.Match[str]) -> str:
    """Write a raw string as a quoted one: the parser takes its backslashes for escapes."""
    if found[1] is None:
        return found[0]
    inside = found[1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{inside}"'


def _refuse_functions(words: _Words) -> None:
    """Refuse functions that the parser may not know by name."""
    for before, word, after in zip([None, *words.all], words.all, words.all[1:], strict=False):
        called = word.kind == "word" and (after.text == "(" or after.text.lower() in ("by", "without"))
        moment = before is not None and before.text == "@"
        known = word.text in _FUNCTIONS or word.text.lower() in (*_KEYWORDS, *AGGREGATIONS)
        if called and not known and not moment:
            raise Refused(f"{word.text} is not read", where=words.place(word.start))


@dataclass(frozen=True)
class _Word:
    kind: str
    text: str
    start: int


class _Words:
    """The words of an expression, passed one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = (_Word(one.lastgroup or "", one[0], one.start()) for one in _WORDS.finditer(text))
        self.all = [word for word in found if word.kind != "space"]
        if len(self.all) > MOST_WORDS:
            what = f"the expression has {len(self.all)} words and signs, more than {MOST_WORDS}"
            raise Refused(what)
        self.next = 0

    def place(self, start: int) -> str:
        """Return where a character stands, as text; lines are told only where there are several."""
        line, column = self.text.count("\n", 0, start), start - self.text.rfind("\n", 0, start)
        return f"line {line + 1}, column {column}" if "\n" in self.text.strip() else f"column {column}"

    def to(self, *texts: str) -> str:
        """Pass the next word that is one of these, and return its place."""
        return self._to(lambda word: word.text.lower() in texts)

    def to_kind(self, *kinds: str) -> str:
        """Pass the next word of one of these kinds, and return its place."""
        return self._to(lambda word: word.kind in kinds)

    def _to(self, wanted: Callable[[_Word], bool]) -> str:
        for number in range(self.next, len(self.all)):
            if wanted(self.all[number]):
                self.next = number + 1
                return self.place(self.all[number].start)
        return self.place(self.all[-1].start if self.all else 0)

    def skip(self, *texts: str) -> bool:
        """Pass the very next word if it is one of these, with the list in parentheses behind it."""
        if self.next >= len(self.all) or self.all[self.next].text.lower() not in texts:
            return False
        self.next += 1
        if self.next < len(self.all) and self.all[self.next].text == "(" and set(texts) <= set(_GROUPINGS):
            self.to(")")
        return True

    def skip_kind(self, kind: str) -> None:
        """Pass the very next word if it is of this kind."""
        if self.next < len(self.all) and self.all[self.next].kind == kind:
            self.next += 1


class _Reader:
    """Reads a syntax tree along with the words of its text."""

    def __init__(self, words: _Words) -> None:
        self.words = words

    def form(self, node: Any) -> Form:
        read: dict[type, Callable[[Any], Form]] = {
            tree.ParenExpr: self._parenthesis,
            tree.NumberLiteral: self._number,
            tree.VectorSelector: self._selector,
            tree.Call: self._call,
            tree.AggregateExpr: self._aggregate,
            tree.BinaryExpr: self._binary,
            tree.UnaryExpr: self._minus,
        }
        known = read.get(type(node))
        if known is None:
            names = {
                tree.MatrixSelector: "a range without a function over it",
                tree.SubqueryExpr: "a subquery without a function over it",
                tree.StringLiteral: "a text",
            }
            self._refuse(names.get(type(node), f"{node}"), self.words.place(0))
        return known(node)

    def _refuse(self, what: str, place: str) -> NoReturn:
        raise Refused(f"{what} is not read", where=place)

    def _parenthesis(self, node: Any) -> Form:
        self.words.to("(")
        found = self.form(node.expr)
        self.words.to(")")
        return found

    def _number(self, node: Any) -> Number:
        return Number(float(node.val), self.words.to_kind("number", "word"))

    def _minus(self, node: Any) -> Form:
        place = self.words.to("-", "+")
        return Binary("*", Number(-1.0, place), self.form(node.expr), place=place)

    def _selector(self, node: Any) -> Selector:
        place = self.words.to_kind("word", "braces")
        if self.words.all and self.words.all[self.words.next - 1].kind == "word":
            self.words.skip_kind("braces")
        if node.matchers.or_matchers:
            self._refuse("`or` between matchers", place)
        self._refuse_shift(node)
        named = [Matcher(NAME, "=", node.name)] if node.name else []
        others = [Matcher(one.name, _SIGNS[str(one.op)], one.value) for one in node.matchers.matchers]
        return Selector((*named, *others), place)

    def _refuse_shift(self, node: Any) -> None:
        """Refuse a selector or a subquery of another time."""
        if node.offset is not None:
            self.words.skip_kind("range")
            self._refuse("offset", self.words.to("offset"))
        if node.at is not None:
            self.words.skip_kind("range")
            self._refuse("@", self.words.to("@"))

    def _over(self, node: Any) -> tuple[Selector | Subquery, float]:
        """Return what a function over time looks at, and its range [s]."""
        while isinstance(node, tree.ParenExpr):
            self.words.to("(")
            node = node.expr
        if isinstance(node, tree.MatrixSelector):
            found = self._selector(node.vector_selector)
            self.words.to_kind("range")
            return found, node.range.total_seconds()
        inner = self.form(node.expr)
        place = self.words.to_kind("range")
        self._refuse_shift(node)
        if is_scalar(inner):
            self._refuse("a subquery over a number", place)
        step = None if node.step is None else node.step.total_seconds()
        return Subquery(inner, step, place), node.range.total_seconds()

    def _call(self, node: Any) -> Form:
        name = node.func.name
        place = self.words.to(name)
        self.words.to("(")
        found = self._called(name, node.args, place)
        self.words.to(")")
        return found

    def _called(self, name: str, given: list[Any], place: str) -> Form:
        if name in (*COUNTER_FUNCTIONS, *GAUGE_FUNCTIONS):
            over, range_s = self._over(given[0])
            return OverTime(name, over, range_s, place)
        if name == "histogram_quantile":
            quantile = self._constant(given[0], name)
            return HistogramQuantile(quantile, self.form(given[1]), place)
        if name in _CLAMPS:
            inner = self.form(given[0])
            limits = [self._constant(one, name) for one in given[1:]]
            least = limits[0] if name != "clamp_max" else float("-inf")
            return Clamp(inner, least, limits[-1] if name != "clamp_min" else float("inf"), place)
        if name == "label_replace":
            return self._label_replace(given, place)
        return (AsVector if name == "vector" else AsScalar)(self.form(given[0]), place)

    def _constant(self, node: Any, function: str) -> float:
        """Return an argument that must be a plain number."""
        found = self.form(node)
        if isinstance(found, Binary) and isinstance(found.left, Number) and isinstance(found.right, Number):
            found = Number(found.left.value * found.right.value) if found.sign == "*" else found
        if not isinstance(found, Number):
            self._refuse(f"an argument of {function} that is no plain number", self.words.place(0))
        return found.value

    def _label_replace(self, given: list[Any], place: str) -> CopiedLabel:
        inner = self.form(given[0])
        to, replacement, source, pattern = (one.val for one in given[1:])
        if replacement not in ("$1", "${1}") or pattern not in _COPIES:
            self._refuse("a label_replace that does not just copy a label", place)
        return CopiedLabel(inner, to, source, _COPIES[pattern], place)

    def _aggregate(self, node: Any) -> Aggregate:
        function = str(node.op)
        place = self.words.to(function)
        if function not in AGGREGATIONS or node.param is not None:
            self._refuse(function, place)
        self.words.skip("by", "without")
        self.words.to("(")
        inner = self.form(node.expr)
        self.words.to(")")
        self.words.skip("by", "without")
        labels = tuple(node.modifier.labels) if node.modifier else ()
        without = node.modifier is not None and node.modifier.type == tree.AggModifierType.Without
        return Aggregate(function, inner, labels, without, place)

    def _binary(self, node: Any) -> Form:
        left, sign = self.form(node.lhs), str(node.op)
        place = self.words.to(sign)
        modifier = node.modifier
        matching = modifier.matching if modifier else None
        if sign in ("and", "unless", "atan2"):
            beside = f" {_side(matching)}" if matching else ""
            self._refuse(f"{sign}{beside}", place)
        self.words.skip("bool")
        self.words.skip("on", "ignoring")
        self.words.skip("group_left", "group_right")
        if sign == "or":
            if matching is not None:
                self._refuse(f"or {_side(matching)}", place)
            return Union(left, self.form(node.rhs), place)
        if sign not in (*ARITHMETIC, *COMPARISONS):
            self._refuse(sign, place)
        how = self._matching(modifier, sign, place) if modifier else Matching()
        as_bool = bool(modifier and modifier.return_bool)
        return Binary(sign, left, self.form(node.rhs), as_bool, how, place)

    def _matching(self, modifier: Any, sign: str, place: str) -> Matching:
        cardinality = str(modifier.card).rpartition(".")[2]
        filled = modifier.fill_values
        if filled is not None and (filled.lhs is not None or filled.rhs is not None):
            self._refuse("a fill value for a missing side", place)
        matching = modifier.matching
        on = matching is not None and matching.type == tree.LabelModifierType.Include
        labels = tuple(matching.labels) if matching is not None else ()
        if cardinality == "OneToMany":
            self._refuse("group_right", place)
        many = cardinality == "ManyToOne"
        if many and not (sign == "*" and on):
            self._refuse("group_left other than `* on (…) group_left`", place)
        return Matching(labels, on, many, tuple(cast("list[str]", modifier.group_labels or ())))


def _side(matching: Any) -> str:
    return "on" if matching.type == tree.LabelModifierType.Include else "ignoring"

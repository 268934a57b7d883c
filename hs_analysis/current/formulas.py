"""A formula over the triggers of a ScaledObject (``scalingModifiers``), as far as a replay can compute it.

KEDA evaluates the formula with expr (https://expr-lang.org/docs/language-definition) over the answers of
named triggers: https://keda.sh/docs/latest/concepts/scaling-deployments/#scaling-modifiers. Read are the name
of one trigger, weighted sums of several (``sum([a, b])`` and ``mean([a, b])`` too), and the largest or least
of several, times or over numbers. Everything else is refused by name and place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hs_analysis.current.model import How
from hs_analysis.promql import Refused

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
    reader = _Reader(text, triggers)
    found = reader.whole()
    if isinstance(found, float):
        raise Refused("it names no trigger")
    return found


@dataclass(frozen=True)
class _Word:
    kind: str
    text: str
    place: str


_END = _Word("end", "", "at its end")
_Value = float | Weighed


class _Reader:
    """Reads a formula by its grammar: sums of products of numbers, names, calls and parentheses."""

    def __init__(self, text: str, triggers: Collection[str]) -> None:
        self.triggers = triggers
        found = [one for one in _WORDS.finditer(text) if one.lastgroup != "space"]
        self.words = [_Word(one.lastgroup or "", one[0], f"column {one.start() + 1}") for one in found]
        if len(self.words) > MOST_WORDS:
            raise Refused(f"it has {len(self.words)} words and signs, more than {MOST_WORDS}")
        self.next = 0

    def whole(self) -> _Value:
        found = self._sum()
        if self._here is not _END:
            self._refuse(self._here)
        return found

    @property
    def _here(self) -> _Word:
        return self.words[self.next] if self.next < len(self.words) else _END

    def _take(self, *texts: str) -> _Word | None:
        """Return the next word and pass it if it is one of these; else None."""
        word = self._here
        if word is _END or word.kind == "text" or word.text not in texts:
            return None
        self.next += 1
        return word

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            self._refuse(self._here)

    def _refuse(self, word: _Word) -> NoReturn:
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

    def _trigger(self, word: _Word) -> Weighed:
        if word.text not in self.triggers:
            named = ", ".join(sorted(self.triggers)) or "none has a name"
            raise Refused(f"no trigger is named {word.text}, its triggers: {named}", where=word.place)
        return Weighed("sum", ((word.text, 1.0),))

    def _called(self, word: _Word) -> _Value:
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


def _added(left: _Value, right: _Value, sign: _Word) -> _Value:
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


def _multiplied(left: _Value, right: _Value, sign: _Word) -> _Value:
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


def _extreme(given: Sequence[_Value], word: _Word) -> _Value:
    how: How = "max" if word.text == "max" else "min"
    numbers = [one for one in given if isinstance(one, float)]
    if len(numbers) == len(given):
        return max(numbers) if how == "max" else min(numbers)
    if numbers:
        raise Refused(f"a number beside triggers in {how} is not read", where=word.place)
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

"""PromQL selectors as data: matchers, and selectors narrowed by them so that no series is lost or doubled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hs_analysis.errors import UsageError

Operator = Literal["=", "!=", "=~", "!~"]

_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')
_SPECIAL = re.compile(r"([.+*?()|\[\]{}^$\\])")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class LabelMatcher:
    """One label matcher; regular expressions are anchored, an absent label counts as empty."""

    label: str
    operator: Operator
    value: str

    @property
    def text(self) -> str:
        """The matcher as PromQL."""
        return f'{self.label}{self.operator}"{_escaped(self.value)}"'

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels matches."""
        value = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (value == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, value, re.DOTALL)) == (self.operator == "=~")


@dataclass(frozen=True)
class SeriesSelector:
    """The series of a metric that match any of some alternatives, each a conjunction of matchers.

    The alternatives exclude each other, so that ``or`` between them gives each series once.
    """

    metric: str
    alternatives: tuple[tuple[LabelMatcher, ...], ...] = ((),)

    @property
    def match(self) -> tuple[str, ...]:
        """The alternatives as PromQL selectors, as ``/api/v1/series`` takes them in ``match[]``."""
        return tuple(_selector_text(self.metric, matchers) for matchers in self.alternatives)

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether the selector finds a series with these labels."""
        return labels.get("__name__") == self.metric and any(
            all(matcher.accepts(labels) for matcher in matchers) for matchers in self.alternatives
        )

    def narrowed(self, *matchers: LabelMatcher) -> SeriesSelector:
        """Return the selector with more matchers in every alternative."""
        return replace(self, alternatives=tuple((*known, *matchers) for known in self.alternatives))

    def spread(self, alternatives: Sequence[tuple[LabelMatcher, ...]]) -> SeriesSelector:
        """Return the selector with every alternative split into several that exclude each other."""
        return replace(
            self, alternatives=tuple((*known, *more) for known in self.alternatives for more in alternatives)
        )


def query_of(match: Iterable[str]) -> str:
    """Return the one PromQL expression for selectors that exclude each other."""
    return " or ".join(match)


def with_matcher(selector: str, matcher: LabelMatcher) -> str:
    """Return a selector's text with one more matcher."""
    if not selector.endswith("}"):
        return f"{selector}{{{matcher.text}}}"
    inside = selector[selector.index("{") + 1 : -1].strip().rstrip(",")
    return f"{selector[: selector.index('{')]}{{{inside + ',' if inside else ''}{matcher.text}}}"


def one_of(label: str, values: Iterable[str]) -> LabelMatcher:
    """Return the matcher of a label that has one of some values; metacharacters in them are taken as text."""
    return LabelMatcher(label, "=~", "|".join(_SPECIAL.sub(r"\\\1", value) for value in values))


def complement(matcher: LabelMatcher) -> LabelMatcher:
    """Return the matcher of every series that a ``=~`` matcher leaves out."""
    return LabelMatcher(matcher.label, "!~", matcher.value)


def parse_matchers(text: str, flag: str) -> tuple[LabelMatcher, ...]:
    """Return the matchers of a label selector: ``{cluster="a",job=~"vllm.*"}``, braces may be left out.

    Raises
    ------
    UsageError
        For what is no list of matchers; names the place where it stops being one.
    """
    inside = text.strip()
    if inside.startswith("{") and inside.endswith("}"):
        inside = inside[1:-1]
    found: list[LabelMatcher] = []
    at = 0
    while at < len(inside.rstrip().rstrip(",")):
        one = _MATCHER.match(inside, at)
        if one is None or (one.end() < len(inside) and inside[one.end()] != ","):
            raise UsageError(
                f"no label matcher at {inside[at : at + 30].strip()!r}",
                where=flag,
                hint='write e.g. --match \'cluster="prod",job=~"vllm.*"\'',
            )
        label, operator, value = one.groups()
        found.append(LabelMatcher(label, operator, _unescaped(value)))  # type: ignore[arg-type]
        at = one.end() + 1
    return tuple(found)


def _selector_text(metric: str, matchers: Sequence[LabelMatcher]) -> str:
    return f"{metric}{{{','.join(m.text for m in matchers)}}}" if matchers else metric


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), value)

"""What the selectors of a query pick among the history's own series, and what to say when it is nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hs_analysis.current.model import Stored
from hs_analysis.errors import first_of
from hs_analysis.promql.forms import NAME, CopiedLabel, Form, Matcher, Matching, Refused, Selector, walk
from hs_analysis.promql.history import picked

SHOWN = 5
"""Values that a sentence lists before it only counts them [values]."""


@dataclass(frozen=True)
class Row:
    """A series that was picked: its number in the history, and its labels as the query sees them."""

    number: int
    labels: Mapping[str, str]


def rows_of(selector: Selector, series: Sequence[Stored]) -> tuple[Row, ...]:
    """Return the series that a selector picks.

    Raises
    ------
    Refused
        When it picks none: names the matcher, the values that exist and the nearest.
    """
    labels = [one.labels for one in series]
    found = tuple(Row(number, labels[number]) for number in picked(selector, labels))
    if not found:
        raise Refused(f"not in this history: {_why_nothing(selector, series)}", where=selector.place)
    return found


def copied(rows: Iterable[Row], form: CopiedLabel) -> tuple[Row, ...]:
    """Return series with a label taken over from another."""
    return tuple(
        replace(row, labels={**row.labels, form.to: row.labels.get(form.source, "")})
        if row.labels.get(form.source) or form.also_empty
        else row
        for row in rows
    )


def joined(
    rows: Sequence[Row], right: Form, matching: Matching, series: Sequence[Stored], place: str
) -> tuple[Row, ...]:
    """Return the series that a pod-label join leaves.

    Raises
    ------
    Refused
        When the right side is more than one selector, picks nothing, or leaves nothing.
    """
    leaves = [one for one in walk(right) if isinstance(one, Selector)]
    if len(leaves) != 1:
        raise Refused("a join with more than the labels of pods is not read", where=place)
    others = [_values(row.labels, matching.labels) for row in rows_of(leaves[0], series)]
    found = tuple(row for row in rows if _values(row.labels, matching.labels) in others)
    if not found:
        what = f"not in this history: no series has the {' and '.join(matching.labels)} of {leaves[0]}"
        raise Refused(what, where=place)
    return found


def _values(labels: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in names)


def _why_nothing(selector: Selector, series: Sequence[Stored]) -> str:
    """Return which matcher nothing passes, with the values that exist."""
    labels = [one.labels for one in series]
    names = tuple(matcher for matcher in selector.matchers if matcher.label == NAME)
    named = [labels[number] for number in picked(Selector(names), labels)]
    if not named:
        metric = selector.metric or str(selector)
        return f"it holds no {metric}{_nearest(metric, {one[NAME] for one in labels})}"
    for matcher in selector.matchers:
        if not picked(Selector((*names, matcher)), labels):
            return _unmet(matcher, named, selector.metric or str(selector))
    return f"no series of {selector.metric or selector} has all of {selector}"


def _unmet(matcher: Matcher, labels: Sequence[Mapping[str, str]], metric: str) -> str:
    values = {one.get(matcher.label, "") for one in labels} - {""}
    if not values:
        known = sorted({name for one in labels for name in one} - {NAME})
        return f"no series of {metric} has a label {matcher.label}, only {', '.join(known)}"
    near = _nearest(matcher.value, values) if len(values) > 1 else ""
    return (
        f"no series of {metric} has {matcher}, its {matcher.label} is {first_of(sorted(values), SHOWN)}{near}"
    )


def _nearest(text: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(text, sorted(known), n=1, cutoff=0.0)
    return f"; nearest is {found[0]}" if found else ""

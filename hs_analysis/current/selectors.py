"""Which of the history's series a query picks, and what to say where they are not those of one pool."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hs_analysis.current.model import Known, Stored
from hs_analysis.errors import first_of
from hs_analysis.promql.forms import NAME, CopiedLabel, Form, Matcher, Matching, Refused, Selector, walk
from hs_analysis.promql.history import picked

SHOWN = 5
"""Values that a sentence lists before it only counts them [values]."""


@dataclass(frozen=True)
class Row:
    """A series that was picked: its number in the history, and its labels as the query sees them.

    Each copy of it that the server holds is a row of its own.
    """

    number: int
    labels: Mapping[str, str]


def rows_of(selector: Selector, series: Sequence[Stored]) -> tuple[Row, ...]:
    """Return the series that a selector picks.

    Raises
    ------
    Refused
        When it picks none: names the matcher, the values that exist and the nearest.
    """
    rows = [
        Row(number, {**one.labels, **copy} if copy else one.labels)
        for number, one in enumerate(series)
        for copy in one.copies
    ]
    found = tuple(rows[place] for place in picked(selector, [row.labels for row in rows]))
    if not found:
        why = _why_nothing(selector, [row.labels for row in rows])
        raise Refused(f"not in this history: {why}", where=selector.place)
    return found


def copy_labels(series: Sequence[Stored]) -> frozenset[str]:
    """Return the labels in which copies of a series differ."""
    return frozenset(name for one in series for copy in one.copies for name in copy)


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


def _why_nothing(selector: Selector, labels: Sequence[Mapping[str, str]]) -> str:
    """Return which matcher nothing passes, with the values that exist."""
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


CHANGING = ("pod", "exported_pod", "instance", "pod_ip", "endpoint_name")
"""Labels whose values change with each pod: matchers name them last."""


def misfit(
    metric: str, numbers: Collection[int], own: Mapping[tuple[str, str], str], pool: str, known: Known
) -> str:
    """Return how the series that a query picks differ from those of a pool.

    Parameters
    ----------
    metric
        What they are series of.
    numbers
        Which of the history's series are picked.
    own
        (label, value) of that metric that are signals of their own → the signal.
    pool
        The pool that is scaled.
    known
        The service.
    """
    rows = [known.series[number] for number in sorted(numbers)]
    strangers = [one for one in rows if not one.ours]
    if strangers:
        share = f"{len(strangers)} of the {len(rows)} series it picks"
        return f"{metric}: {share} are of no or another service{_told_apart(strangers[0], known)}"
    emitters = sorted({one.emitter for one in rows})
    if len(emitters) > 1:
        together = f"it picks series of {' and '.join(emitters)} together"
        return f"{metric}: {together}, and a replay knows each by itself{_narrowed(rows, pool)}"
    mixed = _added_up(rows, own)
    if mixed:
        return f"{metric}: {mixed}"
    of_pool = [
        one
        for one in known.series
        if one.ours and one.labels["__name__"] == metric and one.emitter == emitters[0]
    ]
    everyone = {one.instance for one in of_pool} - {None}
    chosen = {one.instance for one in rows} - {None}
    if chosen < everyone:
        return f"{metric}: it picks {len(chosen)} of {len(everyone)} instances of {emitters[0]}"
    return f"{metric}: it picks {len(rows)} of the {len(of_pool)} series of {emitters[0]}"


def _added_up(rows: Sequence[Stored], own: Mapping[tuple[str, str], str]) -> str:
    """Return which values of a label are quantities of their own where a query adds them up; else nothing."""
    for label in dict.fromkeys(label for label, _ in own):
        values = sorted({one.labels.get(label, "") for one in rows} - {""})
        if len(values) > 1:
            named = (f'{label}="{value}" ({signal})' for (of, value), signal in own.items() if of == label)
            return (
                f"it adds up {len(values)} values of {label} ({', '.join(values)}), and each is another "
                f"quantity: choose {' or '.join(named)}"
            )
    return ""


def _narrowed(rows: Sequence[Stored], pool: str) -> str:
    """Return the matcher by which the series of one pool, the scaled one if there, differ from the others."""
    emitters = {one.emitter for one in rows}
    role = pool if pool in emitters else min(emitters)
    ours = [one.labels for one in rows if one.emitter == role]
    theirs = [one.labels for one in rows if one.emitter != role]
    names = sorted(
        {label for one in ours for label in one} - {"__name__"}, key=lambda name: (name in CHANGING, name)
    )
    for name in names:
        values, others = ({one.get(name, "") for one in of} for of in (ours, theirs))
        start = _beginning(values)
        if len(values) == 1 and not values & others:
            return f': add a matcher, such as {name}="{values.pop()}" for {role}'
        if start and not any(value.startswith(start) for value in others):
            return f': add a matcher, such as {name}=~"{start}.*" for {role}'
    return ""


def _beginning(values: Collection[str]) -> str:
    """Return what all of some texts begin with."""
    first, last = min(values), max(values)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: min(length, len(last))]


def _told_apart(stranger: Stored, known: Known) -> str:
    """Return labels by which a series of another service differs from all of ours."""
    ours = [one.labels for one in known.series if one.ours]
    found = [
        f'{name}="{value}"'
        for name, value in sorted(stranger.labels.items())
        if name in ("namespace", "model_name", "model", "exported_namespace")
        and all(labels.get(name) != value for labels in ours)
    ]
    return f", such as {', '.join(found)}" if found else ""

"""One difference between two runs as a value: how two answers relate, and whether a user must act on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Plain = Mapping[str, Any]

Relation = Literal[
    "same",
    "changed",
    "moved",
    "overlap",
    "apart",
    "within_bound",
    "past_bound",
    "added",
    "removed",
    "one_schema",
]
"""How the answer of the second run relates to that of the first.

``changed``: words differ. ``moved``: numbers differ and not both have an interval. ``overlap`` and ``apart``:
the 95 % intervals do, or do not. ``within_bound``: a side is one-sided (a floor), so there are no two
intervals to compare, and the other side lies within it. ``past_bound``: the other side lies past it.
``added`` and ``removed``: only one run has an answer. ``one_schema``: a field that only one of two schemas
knows: not compared.
"""

Bound = Literal["", "at_least", "at_most"]

Relevance = Literal["act", "note", "context"]
"""``act``: the decision changed; ``note``: another answer or setting; ``context``: what it was made from."""

SAME_FLOAT = 1e-9
"""Relative difference of numbers that another processor may cause [ratio]."""

MOVED = 0.10
"""A target or bound that moves by more asks for action [ratio]; the limit of the warning on refits, too."""


@dataclass(frozen=True)
class Measure:
    """A number as it is known.

    Attributes
    ----------
    value
        None where it could not be had.
    interval
        Its 95 % interval; None without one, and for a one-sided bound.
    bound
        ``at_least`` for a floor, ``at_most`` for a ceiling, empty for an estimate or a setting.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    bound: Bound = ""


@dataclass(frozen=True)
class RunChange:
    """One answer or setting in both runs.

    Attributes
    ----------
    service
        ``namespace/model``; empty for what is of the whole run.
    part
        ``decision``, ``policy``, ``capacity``, ``signals``, ``backtest``, ``notes`` or ``input``.
    path
        Where it stands: in policy.yaml (``spec.…``), else in summary.json, list entries by their name.
    what
        The same in words.
    before, after
        The two answers as plain data; None where a run has none.
    unit
        Of a number; empty for a plain ratio, a setting without unit and for words.
    before_interval, after_interval
        95 % intervals, of estimates only.
    before_bound, after_bound
        See `Measure`.
    relation
        See `Relation`.
    moved_ratio
        after ÷ before − 1 of two numbers; None else.
    relevance
        See `Relevance`.
    """

    service: str
    part: str
    path: str
    what: str
    before: Any
    after: Any
    unit: str
    before_interval: tuple[float, float] | None
    after_interval: tuple[float, float] | None
    before_bound: Bound
    after_bound: Bound
    relation: Relation
    moved_ratio: float | None
    relevance: Relevance


@dataclass(frozen=True)
class Subject:
    """What a change is of: the first four fields of `RunChange`, with the unit and the weight that it has.

    ``acts`` is ``any`` when every difference asks for action, ``moved`` when one beyond `MOVED` does, else
    empty.
    """

    service: str
    part: str
    path: str
    what: str
    unit: str = ""
    acts: Literal["", "any", "moved"] = ""


def number_change(place: Subject, before: Measure, after: Measure) -> RunChange:
    """Return how a number differs; that of the same value and interval is ``same``."""
    relation = _relation(before, after)
    moved = None
    if before.value and after.value is not None:
        moved = after.value / before.value - 1.0
    return RunChange(
        service=place.service,
        part=place.part,
        path=place.path,
        what=place.what,
        before=before.value,
        after=after.value,
        unit=place.unit,
        before_interval=before.interval,
        after_interval=after.interval,
        before_bound=before.bound,
        after_bound=after.bound,
        relation=relation,
        moved_ratio=moved,
        relevance=_relevance(place, relation, moved),
    )


def text_change(place: Subject, before: Any, after: Any) -> RunChange:
    """Return how an answer in words, or a whole list or mapping, differs."""
    if before == after:
        relation: Relation = "same"
    elif before is None or after is None:
        relation = "added" if before is None else "removed"
    else:
        relation = "changed"
    return _worded(place, before, after, relation, _relevance(place, relation, None))


def schema_change(place: Subject, before: Any, after: Any) -> RunChange:
    """Return a field that only one of two schemas knows."""
    return _worded(place, before, after, "one_schema", "note")


def _worded(place: Subject, before: Any, after: Any, relation: Relation, relevance: Relevance) -> RunChange:
    return RunChange(
        service=place.service,
        part=place.part,
        path=place.path,
        what=place.what,
        before=before,
        after=after,
        unit=place.unit,
        before_interval=None,
        after_interval=None,
        before_bound="",
        after_bound="",
        relation=relation,
        moved_ratio=None,
        relevance=relevance,
    )


def _relevance(place: Subject, relation: Relation, moved: float | None) -> Relevance:
    if place.part == "input":
        return "context"
    if not place.acts or relation == "same":
        return "note"
    # A number that came, went, or was zero has no ratio: it did move.
    far = moved is None or abs(moved) > MOVED + SAME_FLOAT
    return "act" if place.acts == "any" or far else "note"


def _relation(before: Measure, after: Measure) -> Relation:
    if before.value is None or after.value is None:
        if before.value is after.value:
            return "same"
        return "added" if before.value is None else "removed"
    if before.bound != after.bound:
        return "past_bound" if _past(before, after) or _past(after, before) else "within_bound"
    if _equal(before.value, after.value) and _equal_ends(before.interval, after.interval):
        return "same"
    if before.interval is None or after.interval is None:  # two floors, settings, or one of unknown width
        return "moved"
    (low, high), (other_low, other_high) = before.interval, after.interval
    return "overlap" if low <= other_high and other_low <= high else "apart"


def _past(bound: Measure, other: Measure) -> bool:
    """Whether all that the other number may be lies past a one-sided bound."""
    if bound.value is None or other.value is None or not bound.bound:
        return False
    low, high = other.interval or (other.value, other.value)
    return high < bound.value if bound.bound == "at_least" else low > bound.value


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= SAME_FLOAT * max(abs(a), abs(b))


def _equal_ends(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    if a is None or b is None:
        return a is b
    return _equal(a[0], b[0]) and _equal(a[1], b[1])

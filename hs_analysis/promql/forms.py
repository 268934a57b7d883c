"""The forms of PromQL that are read: frozen values, each with its place in the text.

``place`` is no part of a form's identity: two selectors with the same matchers are equal wherever they stand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from hs_analysis.errors import InputError

NAME = "__name__"
"""Label that holds the metric's name."""

BUCKET = "le"
"""Label that holds the upper edge of a histogram's bucket."""

Sign = Literal["=", "!=", "=~", "!~"]

COUNTER_FUNCTIONS = ("rate", "increase", "irate")
"""Functions over time that take a counter."""

GAUGE_FUNCTIONS = (
    "avg_over_time", "max_over_time", "min_over_time", "sum_over_time", "count_over_time", "last_over_time",
)  # fmt: skip
"""Functions over time that take a gauge."""

AGGREGATIONS = ("sum", "avg", "max", "min", "count")
ARITHMETIC = ("+", "-", "*", "/", "%", "^")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


class Refused(InputError):  # noqa: N818 - an answer to the user: this is not read
    """An expression that is not read, or that Prometheus itself refuses; ``where`` is its place."""


def _place() -> str:
    return field(default="", compare=False)


@dataclass(frozen=True)
class Matcher:
    """One label matcher; a missing label is the empty string, a pattern is anchored at both ends (RE2)."""

    label: str
    sign: Sign
    value: str

    def __str__(self) -> str:
        text = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.sign}"{text}"'


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float
    place: str = _place()


@dataclass(frozen=True)
class Selector:
    """Series picked by their labels, the metric's name among them; the newest sample within the lookback."""

    matchers: tuple[Matcher, ...]
    place: str = _place()

    @property
    def metric(self) -> str | None:
        """Name of the metric; None where a pattern picks it, or nothing does."""
        return next((m.value for m in self.matchers if m.label == NAME and m.sign == "="), None)

    def __str__(self) -> str:
        others = [m for m in self.matchers if not (m.label == NAME and m.sign == "=")]
        inside = ",".join(map(str, others))
        return f"{self.metric or ''}{{{inside}}}" if inside else self.metric or ""


@dataclass(frozen=True)
class Subquery:
    """A form evaluated at every multiple of a step; None for the server's evaluation interval."""

    of: Form
    step_s: float | None
    place: str = _place()


@dataclass(frozen=True)
class OverTime:
    """A function of `COUNTER_FUNCTIONS` or `GAUGE_FUNCTIONS` over the last ``range_s`` [s] of each series."""

    function: str
    of: Selector | Subquery
    range_s: float
    place: str = _place()


@dataclass(frozen=True)
class HistogramQuantile:
    """A quantile interpolated within the buckets of a histogram."""

    quantile: float
    of: Form
    place: str = _place()


@dataclass(frozen=True)
class Aggregate:
    """One of `AGGREGATIONS` over series that agree in ``labels``, or in all but those (``without``)."""

    function: str
    of: Form
    labels: tuple[str, ...] = ()
    without: bool = False
    place: str = _place()


@dataclass(frozen=True)
class Matching:
    """Which series of two sides go together.

    Attributes
    ----------
    labels
        Labels that must be equal (``on``), or the only ones that need not be (``ignoring``).
    on
        Which of the two.
    group_left
        Whether several series of the left side may meet one of the right side.
    copied
        Labels that ``group_left`` takes over from the right side.
    """

    labels: tuple[str, ...] = ()
    on: bool = False
    group_left: bool = False
    copied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Binary:
    """One of `ARITHMETIC` or `COMPARISONS` of two sides; ``as_bool`` gives 0 and 1 instead of a filter."""

    sign: str
    left: Form
    right: Form
    as_bool: bool = False
    matching: Matching = Matching()
    place: str = _place()


@dataclass(frozen=True)
class Union:
    """The series of the left side, and of the right side those that the left side lacks."""

    left: Form
    right: Form
    place: str = _place()


@dataclass(frozen=True)
class Clamp:
    """Values held between two limits."""

    of: Form
    least: float
    most: float
    place: str = _place()


@dataclass(frozen=True)
class AsVector:
    """A number as a series without labels."""

    of: Form
    place: str = _place()


@dataclass(frozen=True)
class AsScalar:
    """The value of the only series as a number; NaN where there is none or more than one."""

    of: Form
    place: str = _place()


@dataclass(frozen=True)
class CopiedLabel:
    """A label that takes the value of another; ``also_empty`` where a missing one is taken over too."""

    of: Form
    to: str
    source: str
    also_empty: bool
    place: str = _place()


Form: TypeAlias = (
    Number | Selector | OverTime | HistogramQuantile | Aggregate | Binary | Union | Clamp
    | AsVector | AsScalar | CopiedLabel
)  # fmt: skip


def inside(form: Form | Subquery) -> tuple[Form | Subquery, ...]:
    """Return the forms that a form is made of, in the order of the text."""
    if isinstance(form, Number | Selector):
        return ()
    return (form.left, form.right) if isinstance(form, Binary | Union) else (form.of,)


def walk(form: Form | Subquery) -> Iterator[Form | Subquery]:
    """Yield a form and all inside it, in the order of the text."""
    yield form
    for part in inside(form):
        yield from walk(part)


def selectors(form: Form) -> tuple[Selector, ...]:
    """Return the distinct selectors of a form, in the order of the text."""
    return tuple(dict.fromkeys(one for one in walk(form) if isinstance(one, Selector)))


def without_matchers(form: Any, labels: Collection[str]) -> Any:
    """Return a form whose selectors ask nothing of some labels."""
    match form:
        case Selector():
            kept = tuple(one for one in form.matchers if one.label not in labels)
            return replace(form, matchers=kept)
        case Binary() | Union():
            left, right = without_matchers(form.left, labels), without_matchers(form.right, labels)
            return replace(form, left=left, right=right)
        case Number():
            return form
        case _:
            return replace(form, of=without_matchers(form.of, labels))


def is_scalar(form: Form) -> bool:
    """Whether a form is a number and no vector of series."""
    if isinstance(form, Binary):
        return is_scalar(form.left) and is_scalar(form.right)
    return isinstance(form, Number | AsScalar)

"""Which signal of the catalogue a query reads, of which pool, in which unit, and how it adds up.

A query is what Prometheus makes of it: its selectors pick among the history's own series, and only a query
that picks exactly the series of one signal of one pool, in a form whose value a replay knows at other counts,
is read. Everything else is refused by name: another model's series, one pod of many, both pools together,
another time, the highest value of each instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from hs_analysis.catalogue import Catalogue, Names, Signal, Source, Term
from hs_analysis.controllers.hpa import Surge
from hs_analysis.current.documents import Definitions, resolved
from hs_analysis.current.model import How, Known, Stored
from hs_analysis.current.selectors import Row, copied, copy_labels, joined, misfit, rows_of
from hs_analysis.promql import Form, Refused, Selector, parse, require_kinds
from hs_analysis.promql.forms import (
    BUCKET,
    COMPARISONS,
    Aggregate,
    AsScalar,
    AsVector,
    Binary,
    Clamp,
    CopiedLabel,
    HistogramQuantile,
    Matching,
    Number,
    OverTime,
    Subquery,
    Union,
    is_scalar,
    walk,
    without_matchers,
)
from hs_analysis.replay.signals import IN_FRONT, Quantile
from hs_analysis.schema.aligned import POOL_ROLES

DEFAULT_RANGE_S = 60.0
"""Averaging of a gauge that is read as it stands [s]: one window of the replay."""

EMPTY_IS_ZERO = "or vector(0): the object counts an empty answer as 0, the replay holds the count"

HELD_IN_FRONT = (
    "the requests that a front end holds are replayed as all that waits before it, engines' queues too"
)

FOLLOWS_LOAD = (
    "at counts that ran the recorded quantile is read, at others what it was at such a load of an instance; "
    "above the highest load that ran it is not known, and the replay holds the count"
)

COPIES = (
    "it adds up {copies} copies of each series of {metric}, which differ in {label} alone, and reads {copies}"
    " times the load: take max without ({label}) of each series first"
)
_NO_VALUE = "has no value at counts that never ran"
_OF_ONE_ITSELF = ("sum", "avg", "max", "min")
"""Aggregations that make of one series that series."""

_OVER = {
    ("sum", "sum"): "sum", ("sum", "avg"): "sum", ("avg", "avg"): "avg", ("avg", "sum"): "avg",
}  # fmt: skip
"""Aggregation over aggregation within instances → what it makes of the instances."""


@dataclass(frozen=True)
class QuantileAnswer:
    """An expression without recorded names, and units of its signal per unit of its values [ratio]."""

    form: Form
    scale: float


@dataclass(frozen=True)
class Query:
    """What a query reads.

    Attributes
    ----------
    signal, role
        The catalogue's signal and the pool it speaks of.
    pool
        How the signal adds up over instances: ``sum``, ``mean`` or ``ratio``.
    over
        What the query makes of the instances: ``sum`` or ``avg``.
    scale
        Unit of the signal per unit of the query's answer [ratio].
    averaging_s
        Its range [s].
    notes
        What is only nearly so.
    others
        More signals, of which its answer is made too.
    how
        What is made of several signals: ``sum``, ``max`` or ``min``.
    answer
        Of a quantile the expression whose values are the signal's, in the exporter's unit; else None.
    surge
        When it reads another range; None = never.
    highest_s
        Time whose highest value it gives [s], by ``max_over_time`` around all of it; 0 = the value of now.
    """

    signal: str
    role: str
    pool: str
    over: str
    scale: float
    averaging_s: float
    notes: tuple[str, ...] = ()
    others: tuple[Query, ...] = ()
    how: How = "sum"
    answer: QuantileAnswer | None = None
    surge: Surge | None = None
    highest_s: float = 0.0


@dataclass(frozen=True)
class _QueryPart:
    """One metric of a query: its series, how each is read, and what is made of them.

    ``side`` and ``sign`` are those of a formula's term; ``scale`` is the query's answer per reading.
    """

    metric: str
    rows: tuple[Row, ...]
    read: str
    range_s: float
    over: str = ""
    scale: float = 1.0
    side: str = "num"
    sign: float = 1.0
    place: str = ""
    surge: Surge | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of its series."""
        return frozenset(row.number for row in self.rows)

    @property
    def copies(self) -> int | None:
        """How often each of its series is there; None where they differ in that."""
        counts = set(Counter(row.number for row in self.rows).values())
        return counts.pop() if len(counts) == 1 else None


def read_query(
    text: str, pool: str, known: Known, catalogue: Catalogue, definitions: Definitions | None = None
) -> Query | str:
    """Return what a query reads for a pool, or why it is not read.

    Parameters
    ----------
    text
        PromQL.
    pool
        The pool that is scaled by it.
    known
        Signals of the service that can be replayed, and the series of the history.
    catalogue
        Signals and their metrics.
    definitions
        Rules behind recorded names.
    """
    try:
        form = resolved(parse(text), definitions or Definitions())
        require_kinds(form, lambda selector: catalogue.kind_of(selector.metric) if selector.metric else None)
        notes: list[str] = []
        bare, factor = _without_factors(form, notes)
        if isinstance(bare, Aggregate) and bare.function in _OF_ONE_ITSELF:
            bare = bare.of if isinstance(bare.of, HistogramQuantile) else bare
        if isinstance(bare, HistogramQuantile):
            found = _quantile(bare, factor, pool, known, catalogue, tuple(notes))
            return found if isinstance(found, Query) else found + _mean_instead(form, pool, known, catalogue)
        notes.clear()
        within, highest_s = _within_highest(form)
        parts = _parts(within, known.series, notes)
        notes += _copies_read(parts, known)
        read = _of_parts(parts, pool, known, catalogue, tuple(notes))
        return replace(read, highest_s=highest_s) if isinstance(read, Query) else read
    except Refused as refused:
        return refused.line()


def _within_highest(form: Form) -> tuple[Form, float]:
    """Return what ``max_over_time`` around a whole query is the highest value of, and over which time [s].

    What it is taken of has to be one series, an aggregate: the highest values of instances are of many times.
    The query itself and 0 s where it is no such form.
    """
    outer = form
    if isinstance(outer, Aggregate) and outer.function in _OF_ONE_ITSELF and not outer.labels:
        outer = outer.of
    match outer:
        case OverTime(function="max_over_time", of=Subquery(of=inner)) if _aggregates(inner):
            return inner, outer.range_s
    return form, 0.0


def _mean_instead(form: Form, pool: str, known: Known, catalogue: Catalogue) -> str:
    """Return the mean that could be followed instead of a quantile, where that one is read; else nothing."""
    buckets = {str(one) for one in walk(form) if isinstance(one, Selector) and one.metric}
    named, _, matchers = buckets.pop().partition("{") if len(buckets) == 1 else ("", "", "")
    if not named.endswith("_bucket"):
        return ""
    family, rest = named.removesuffix("_bucket"), f"{{{matchers}" if matchers else ""
    mean = " / ".join(f"sum(rate({family}_{end}{rest}[5m]))" for end in ("sum", "count"))
    found = read_query(mean, pool, known, catalogue)
    return "" if isinstance(found, str) else f"; its mean has one, with a threshold of its own: {mean}"


def _quantile(
    form: HistogramQuantile,
    factor: float,
    pool: str,
    known: Known,
    catalogue: Catalogue,
    notes: tuple[str, ...],
) -> Query | str:
    """Return the signal that a quantile over the buckets of one latency is, or why it is none.

    Its value at other counts is the replay's to know: ``Known.unmodelled`` says of which it does not.
    """
    part = _buckets(form, known.series)
    tried = list(_histograms(part, catalogue))
    if not tried:
        read = catalogue.reader_of(part.metric)
        return (
            f"the {form.quantile:g} quantile of {part.metric} {_NO_VALUE}" if read else _unheard(part.metric)
        )
    found = _fitting(tried, pool, known)
    if not found:
        return _misfit(tried, pool, known)
    told = {*known.readable, *known.recorded}
    aligned = [one for one in found if (one[0].id, one[2]) in told]
    own = [one for one in found if one[1].emitters or one[2] == "service"]  # a front end speaks of no pool
    signal, source, role = (aligned or own or found)[0]
    name = Quantile(signal.id, form.quantile, part.range_s).name
    if (name, role) in known.unmodelled:
        over = f"the {form.quantile:g} quantile of {signal.id} over {part.range_s:g} s"
        return f"{over} {_NO_VALUE}: {known.unmodelled[name, role]}"
    said = (*notes, FOLLOWS_LOAD)
    # The history holds one copy of each series, without what tells it apart.
    answer = QuantileAnswer(without_matchers(form, copy_labels(known.series)), source.scale)
    return Query(name, role, "ratio", "avg", source.scale / factor, 0.0, said, answer=answer)


def _buckets(form: HistogramQuantile, series: Sequence[Stored]) -> _QueryPart:
    """Return the buckets that a quantile is taken of, all of one histogram.

    Raises
    ------
    Refused
        When they are no rates of buckets, when their edges are lost, or when there are several histograms.
    """
    if not 0.0 < form.quantile < 1.0:
        _refuse(f"{_named(form)} {_NO_VALUE}", form.place)
    inner = form.of
    if isinstance(inner, Aggregate) and (
        inner.function != "sum" or (BUCKET in inner.labels) == inner.without
    ):
        _refuse(f"a quantile of {inner.function} without its buckets' edges ({BUCKET}) is empty", inner.place)
    part = _leaf(inner.of if isinstance(inner, Aggregate) else inner, series)
    if part.read != "rate":
        _refuse(f"{_named(form)} of counts since each start {_NO_VALUE}: take it of their rate", form.place)
    shown = [
        _grouped(row, inner) if isinstance(inner, Aggregate) else _without_name(row) for row in part.rows
    ]
    groups = {tuple(pair for pair in labels if pair[0] != BUCKET) for labels in shown}
    if len(groups) > 1:
        _refuse(f"it gives {len(groups)} series, and an autoscaler takes one", form.place)
    return part


def _histograms(part: _QueryPart, catalogue: Catalogue) -> Iterator[_Candidate]:
    """Yield the latencies whose histogram has these buckets."""
    for signal in catalogue.signals:
        for source in signal.sources if signal.family == "latency" else ():
            for names in source.names:
                if names.histogram and part.metric == f"{names.histogram}_bucket":
                    yield signal, source, ((replace(names.terms[0], metric=part.metric), part),)


def _unheard(names: str) -> str:
    return f"{names} is no metric of the catalogue (hsa signals)"


def _refuse(what: str, place: str) -> NoReturn:
    raise Refused(what, where=place)


def _parts(form: Form, series: Sequence[Stored], notes: list[str]) -> tuple[_QueryPart, ...]:
    """Return the metrics that a query is made of.

    Raises
    ------
    Refused
        Where the query's form has no value at counts that never ran, or picks nothing.
    """
    form, scale = _without_factors(form, notes)
    surging = _surging(form)
    if surging is not None:
        fresh, usual, factor = surging
        pairs = zip(_parts(fresh, series, notes), _parts(usual, series, notes), strict=True)
        return tuple(_times(_with_surge(two, one, factor, form.place), scale, two.sign) for one, two in pairs)
    if isinstance(form, Binary) and form.sign in ("/", "+", "-"):
        _require_alike(form, series)
    if isinstance(form, Binary) and form.sign == "/":
        above, below = _parts(form.left, series, notes), _parts(form.right, series, notes)
        return _ratio(form, above, below, scale)
    if isinstance(form, Binary) and form.sign in ("+", "-"):
        sign = 1.0 if form.sign == "+" else -1.0
        right = [_times(one, scale, one.sign * sign) for one in _parts(form.right, series, notes)]
        return (*(_times(one, scale, one.sign) for one in _parts(form.left, series, notes)), *right)
    if isinstance(form, Aggregate) and _is_sum_of_sums(form, series):
        sides = (replace(form, of=form.of.left), replace(form, of=form.of.right))  # type: ignore[union-attr]
        return tuple(_scaled(one, scale, 1.0) for side in sides for one in _parts(side, series, notes))
    if isinstance(form, Aggregate) and form.function in _OF_ONE_ITSELF:
        within = _only(form.of, series, notes)
        if within:
            return tuple(_times(one, scale, one.sign) for one in within)
    return (_scaled(_aggregated(form, series), scale, 1.0),)


def _surging(form: Form) -> tuple[Form, Form, float] | None:
    """Return ``fresh``, ``usual`` and the factor of ``fresh > factor * usual or usual``; None for others."""
    if not isinstance(form, Union) or not isinstance(form.left, Binary):
        return None
    compared, usual = form.left, form.right
    if compared.sign != ">" or compared.as_bool or compared.matching != Matching():
        return None
    right, factor = _factor(compared.right) or (compared.right, 1.0)
    alike = right == usual and len(list(walk(compared.left))) == len(list(walk(usual)))
    return (compared.left, usual, factor) if alike else None


def _with_surge(usual: _QueryPart, fresh: _QueryPart, above: float, place: str) -> _QueryPart:
    """Return a metric that is read over another range while that is higher.

    Raises
    ------
    Refused
        Where the two differ in more than the range.
    """
    if replace(fresh, range_s=usual.range_s, place=usual.place) != usual or not fresh.range_s:
        _refuse("the sides of or differ in more than the range", place)
    return replace(usual, surge=Surge(fresh.range_s, above))


def _is_sum_of_sums(form: Aggregate, series: Sequence[Stored]) -> bool:
    """Whether an aggregation over a sum of series is the sum of both: each series has its like beside it."""
    inner = form.of
    if form.function not in ("sum", "avg") or not isinstance(inner, Binary):
        return False
    if inner.sign != "+" or inner.matching != Matching() or is_scalar(inner.left) or is_scalar(inner.right):
        return False
    left, right = (_labels_of(side, series) for side in (inner.left, inner.right))
    return left is not None and left == right


def _require_alike(form: Binary, series: Sequence[Stored]) -> None:
    """Refuse a formula whose sides have other labels: Prometheus finds no pairs, and the answer is empty."""
    if form.matching != Matching():
        return
    left, right = (_labels_of(side, series) for side in (form.left, form.right))
    if left and right and not left & right:
        _refuse(f"the sides of {form.sign} have other labels, so its answer is empty", form.place)


def _labels_of(form: Form, series: Sequence[Stored]) -> frozenset[tuple[tuple[str, str], ...]] | None:
    """Return the labels of the series that an expression gives; None where it is not told easily."""
    match form:
        case Selector():
            rows = rows_of(form, series)
        case OverTime(of=Selector() as selector):
            rows = rows_of(selector, series)
        case Aggregate():
            inner = _labels_of(form.of, series)
            found = (Row(0, dict(labels)) for labels in inner or ())
            return None if inner is None else frozenset(_grouped(row, form) for row in found)
        case Binary() if is_scalar(form.left) or is_scalar(form.right):
            return _labels_of(form.right if is_scalar(form.left) else form.left, series)
        case _:
            return None
    return frozenset(_without_name(row) for row in rows)


def _without_name(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in row.labels.items() if name != "__name__"))


def _only(form: Form, series: Sequence[Stored], notes: list[str]) -> tuple[_QueryPart, ...]:
    """Return the parts of what an aggregation is over where that is one series already; else nothing."""
    if isinstance(form, Aggregate):
        groups = {_grouped(row, form) for row in _rows_inside(form, series)}
        return _parts(form, series, notes) if len(groups) == 1 else ()
    return _parts(form, series, notes) if _aggregates(form) else ()


def _aggregates(form: Form) -> bool:
    """Whether all that an expression reads is aggregated in it."""
    if isinstance(form, Binary | Union):
        return all(_aggregates(side) or is_scalar(side) for side in (form.left, form.right))
    return isinstance(form, Aggregate | AsVector)


def _rows_inside(form: Aggregate, series: Sequence[Stored]) -> tuple[Row, ...]:
    inner = form.of
    while isinstance(inner, Aggregate) and _of_one_copy(inner, series) is None:
        inner = inner.of
    return _leaf(inner, series).rows


def _of_one_copy(form: Form, series: Sequence[Stored]) -> _QueryPart | None:
    """Return the series of which an aggregation takes each once, whatever copies there are; else None.

    With one group alone only where nothing but copies is merged: at another count it may merge instances.
    """
    if not isinstance(form, Aggregate) or isinstance(form.of, Aggregate):
        return None
    if form.function not in ("max", "min", "avg"):
        return None
    part = _leaf(form.of, series)
    groups: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for row in part.rows:
        groups.setdefault(_grouped(row, form), set()).add(row.number)
    each = [number for numbers in groups.values() for number in numbers]
    dropped = {name for row in part.rows for name in row.labels if name in form.labels}
    of_copies = form.without and dropped <= copy_labels(series)
    if len(each) > len(groups) or len(set(each)) < len(each) or not (of_copies or len(groups) > 1):
        return None
    name = ("__name__", part.metric)
    rows = (Row(min(numbers), dict((*labels, name))) for labels, numbers in groups.items())
    return replace(part, rows=tuple(rows))


def _scaled(part: _QueryPart, scale: float, sign: float) -> _QueryPart:
    return replace(part, scale=part.scale * scale, sign=sign)


def _times(part: _QueryPart, scale: float, sign: float) -> _QueryPart:
    """Return a term of a formula with the factor around it: what is below a ratio has none of it."""
    return _scaled(part, scale if part.side == "num" else 1.0, sign)


def _without_factors(form: Form, notes: list[str]) -> tuple[Form, float]:
    """Return a query without the numbers that multiply it, and their product."""
    scale = 1.0
    while True:
        if isinstance(form, Union) and form.right == AsVector(Number(0.0)):
            notes.append(EMPTY_IS_ZERO)
            form = form.left
            continue
        found = _factor(form)
        if found is None:
            return form, scale
        form, scale = found[0], scale * found[1]


def _factor(form: Form) -> tuple[Form, float] | None:
    """Return what a number multiplies or divides, and the factor; None where there is no such number."""
    if not isinstance(form, Binary) or form.sign not in ("*", "/"):
        return None
    left, right = form.left, form.right
    if isinstance(right, Number):
        _require_factor(right.value, form.place)
        return left, right.value if form.sign == "*" else 1.0 / right.value
    if isinstance(left, Number) and form.sign == "*":
        _require_factor(left.value, form.place)
        return right, left.value
    return None


def _require_factor(value: float, place: str) -> None:
    if not 0.0 < value < float("inf"):
        _refuse(f"the factor {value:g} makes no signal of it", place)


def _ratio(
    form: Binary, above: Sequence[_QueryPart], below: Sequence[_QueryPart], scale: float
) -> tuple[_QueryPart, ...]:
    """Return the parts of a ratio; a sum over the count of the same series is their mean."""
    if len(above) == 1 and len(below) == 1:
        one, other = above[0], below[0]
        if other.over == "count" and one.over == "sum" and other.numbers == one.numbers:
            return (replace(one, over="avg", scale=one.scale * scale / other.scale),)
        if other == replace(one, place=other.place):
            _refuse(f"{one.metric} divided by itself is 1, whatever the load", form.place)
    if any(part.side == "den" for part in (*above, *below)):
        _refuse("a ratio of ratios is no signal of the catalogue", form.place)
    top = tuple(_scaled(one, scale, one.sign) for one in above)
    return (*top, *(replace(one, side="den", scale=1.0 / one.scale) for one in below))


def _aggregated(form: Form, series: Sequence[Stored]) -> _QueryPart:
    """Return one metric and what is made of its series: ``sum``, ``avg`` or ``count``."""
    if not isinstance(form, Aggregate) or _of_one_copy(form, series):
        part = _leaf(form, series)
        if len(part.rows) > 1:
            what = f"it gives {len(part.rows)} series, and an autoscaler takes one: say how they add up"
            _refuse(what, form.place)
        return replace(part, over="sum")
    if form.function in ("max", "min"):
        if isinstance(form.of, Selector | OverTime) and _is_one_of_no_pool(form, series):
            return replace(_leaf(form.of, series), over="sum")
        _refuse(f"the {form.function} over instances {_NO_VALUE}: a replay knows their mean", form.place)
    inner = form.of
    if isinstance(inner, Aggregate) and _of_one_copy(inner, series) is None:
        part = _aggregated_within(inner, series)
        over = _OVER.get((form.function, part.over))
        if over is None:
            _refuse(f"{form.function} of {inner.function} {_NO_VALUE}", form.place)
    else:
        part, over = _of_copies(_leaf(inner, series), form), form.function
    groups = {_grouped(row, form) for row in part.rows}
    if len(groups) > 1:
        _refuse(f"it gives {len(groups)} series, and an autoscaler takes one", form.place)
    return replace(part, over=over)


def _is_one_of_no_pool(form: Aggregate, series: Sequence[Stored]) -> bool:
    """Whether an aggregation is over one series that no instance of a pool exports: it is that series."""
    numbers = {row.number for row in _rows_inside(form, series)}
    return len(numbers) == 1 and series[min(numbers)].emitter not in POOL_ROLES


def _of_copies(part: _QueryPart, form: Aggregate) -> _QueryPart:
    """Return a metric whose every series is added up, or counted, as often as there are copies of it.

    Raises
    ------
    Refused
        Where some series are there more often than others.
    """
    if form.function not in ("sum", "avg", "count"):
        return part
    if part.copies is None:
        _refuse(f"{form.function} takes some series of {part.metric} more often than others", form.place)
    return _scaled(part, 1.0 if form.function == "avg" else float(part.copies), part.sign)


def _aggregated_within(form: Aggregate, series: Sequence[Stored]) -> _QueryPart:
    """Return a metric that is aggregated within each instance first."""
    part = _of_copies(_leaf(form.of, series), form)
    groups: dict[tuple[tuple[str, str], ...], set[str | None]] = {}
    for row in part.rows:
        groups.setdefault(_grouped(row, form), set()).add(series[row.number].instance)
    instances = [one for found in groups.values() for one in found]
    if any(len(found) > 1 for found in groups.values()) or len(set(instances)) < len(instances):
        _refuse(f"{form.function} by {', '.join(form.labels) or 'nothing'} is not by instance", form.place)
    return replace(part, over=form.function)


def _grouped(row: Row, form: Aggregate) -> tuple[tuple[str, str], ...]:
    dropped = {"__name__", *form.labels}
    kept = row.labels.items()
    inside = [(n, v) for n, v in kept if (n not in dropped if form.without else n in form.labels)]
    return tuple(sorted(inside))


def _leaf(form: Form, series: Sequence[Stored]) -> _QueryPart:
    """Return the series of one metric and how each is read."""
    factor = _factor(form)
    if factor is not None:
        return _scaled(_leaf(factor[0], series), factor[1], 1.0)
    once = _of_one_copy(form, series)
    if once is not None:
        return once
    match form:
        case Selector():
            return _picked(form, series, "gauge", 0.0, form.place)
        case OverTime(function="rate" | "increase" | "avg_over_time"):
            inner = form.of.of if isinstance(form.of, Subquery) else form.of
            if not isinstance(inner, Selector):
                _refuse("a subquery of an expression " + _NO_VALUE, form.place)
            read = "gauge" if form.function == "avg_over_time" else "rate"
            part = _picked(inner, series, read, form.range_s, form.place)
            return _scaled(part, form.range_s, 1.0) if form.function == "increase" else part
        case CopiedLabel():
            part = _leaf(form.of, series)
            return replace(part, rows=copied(part.rows, form))
        case Binary(sign="*", matching=matching) if matching.group_left:
            part = _leaf(form.left, series)
            return replace(part, rows=joined(part.rows, form.right, matching, series, form.place))
        case _:
            _refuse(f"{_named(form)} {_NO_VALUE}", form.place)


def _picked(
    selector: Selector, series: Sequence[Stored], read: str, range_s: float, place: str
) -> _QueryPart:
    rows = rows_of(selector, series)
    metrics = sorted({row.labels["__name__"] for row in rows})
    if len(metrics) > 1:
        _refuse(f"one selector picks {len(metrics)} metrics: {', '.join(metrics)}", selector.place)
    return _QueryPart(metrics[0], rows, read, range_s, place=place)


def _named(form: Form) -> str:
    """Return a form by its name in PromQL."""
    match form:
        case OverTime():
            return form.function
        case HistogramQuantile():
            return f"the {form.quantile:g} quantile"
        case Clamp():
            return "clamp"
        case Binary() if form.sign in COMPARISONS:
            return f"a comparison ({form.sign})"
        case Binary() if is_scalar(form.left) or is_scalar(form.right):
            return f"the arithmetic around {form.sign}"
        case Binary():
            return f"{form.sign} of series"
        case Union():
            return "or"
        case Number() | AsScalar() | AsVector():
            return "a number"
        case Aggregate():
            return f"{form.function} inside an expression"
        case _:
            return "this"


def _of_parts(
    parts: Sequence[_QueryPart], pool: str, known: Known, catalogue: Catalogue, notes: tuple[str, ...]
) -> Query | str:
    """Return the signal whose series the parts are, exactly."""
    tried = list(_candidates(parts, catalogue))
    names = " and ".join(dict.fromkeys(part.metric for part in parts))
    signals = () if tried else _addends(parts, catalogue)
    if signals:
        return _sum_of([_of_parts(one, pool, known, catalogue, ()) for one in signals], notes)
    if not tried:
        if any(catalogue.reader_of(part.metric) for part in parts):
            return f"no one signal is read from {names} like this"
        return _unheard(names)
    fitting = _fitting(tried, pool, known)
    if not fitting:
        each = _by_pool(parts, known)
        if each:
            return _sum_of([_of_parts((part,), pool, known, catalogue, ()) for part in each], notes)
        return _misfit(tried, pool, known)
    readable = [one for one in fitting if (one[0].id, one[2]) in known.readable]
    if not readable:
        recorded = [one for one in fitting if (one[0].id, one[2]) in known.recorded]
        signal, _, role = (recorded or fitting)[0]
        why = _NO_VALUE if recorded else "is not in this history"
        return f"{signal.id} of {role} {why}"
    signal, source, role = readable[0]
    return _query(parts, signal, source, role, known.readable[(signal.id, role)], notes)


def _addends(parts: Sequence[_QueryPart], catalogue: Catalogue) -> tuple[Sequence[_QueryPart], ...]:
    """Return the signals that a sum adds up: the first may be made of several metrics, the others of one.

    Empty where it is no such sum.
    """
    for end in range(len(parts) - 1, 0, -1):
        more = parts[end:]
        adds = all(part.side == "num" and part.sign > 0 for part in more)
        if adds and (end == 1 or any(_candidates(parts[:end], catalogue))):
            first = parts[0]
            is_sum = end > 1 or (first.side == "num" and first.sign > 0)
            return (parts[:end], *((part,) for part in more)) if is_sum else ()
    return ()


def _fitting(tried: Sequence[_Candidate], pool: str, known: Known) -> list[tuple[Signal, Source, str]]:
    """Return the signals and pools whose series the parts are exactly, those of the scaled pool first."""
    roles = [pool, *(one for one in ("service", *known.pools) if one != pool)]
    return [
        (signal, source, role)
        for role in roles
        for signal, source, pairs in tried
        if (role != "service" or signal.role == role or (signal.id, role) in known.readable)
        and all(part.numbers == _expected(term, source, role, known) for term, part in pairs)
    ]


def _by_pool(parts: Sequence[_QueryPart], known: Known) -> tuple[_QueryPart, ...]:
    """Return a sum over several pools' series of ours as the pools' own sums; nothing for anything else."""
    if len(parts) > 1 or parts[0].over != "sum":
        return ()
    pools: dict[str, list[Row]] = {}
    for row in parts[0].rows:
        one = known.series[row.number]
        pools.setdefault(one.emitter if one.ours else "", []).append(row)
    if len(pools) < 2 or not set(pools) <= set(known.pools):
        return ()
    return tuple(replace(parts[0], rows=tuple(pools[role])) for role in sorted(pools))


def _sum_of(found: Sequence[Query | str], notes: tuple[str, ...]) -> Query | str:
    """Return a query that adds signals up; where one of them is refused, that refusal."""
    read = [one for one in found if isinstance(one, Query)]
    if len(read) < len(found):
        return next(one for one in found if isinstance(one, str))
    return replace(read[0], others=tuple(read[1:]), notes=notes)


def _query(
    parts: Sequence[_QueryPart], signal: Signal, source: Source, role: str, adds: str, notes: tuple[str, ...]
) -> Query | str:
    above = [part for part in parts if part.side == "num"]
    below = [part for part in parts if part.side == "den"]
    scales = {part.scale for part in above}, {part.scale for part in below} or {1.0}
    overs, ranges = {part.over for part in parts}, {(part.range_s, part.surge) for part in parts}
    if "count" in overs:
        return f"a count of series {_NO_VALUE}"
    if any(len(one) > 1 for one in (*scales, ranges)) or len(overs) > 1:
        return "its parts differ in factor, range or aggregation"
    scale = source.scale / (scales[0].pop() * scales[1].pop())
    over = "avg" if below else overs.pop()
    span, surge = ranges.pop()
    said = (*notes, HELD_IN_FRONT) if signal.id == IN_FRONT else notes
    return Query(signal.id, role, adds, over, scale, span or DEFAULT_RANGE_S, said, surge=surge)


def _copies_read(parts: Sequence[_QueryPart], known: Known) -> list[str]:
    """Return which sums take copies of series for more load; of a ratio none does."""
    if any(part.side == "den" for part in parts):
        return []
    several = [part for part in parts if part.over == "sum" and (part.copies or 1) > 1]
    return [
        COPIES.format(metric=one.metric, copies=one.copies, label=next(iter(copy_labels(known.series))))
        for one in several
    ]


_Candidate = tuple[Signal, Source, tuple[tuple[Term, _QueryPart], ...]]
"""A signal, its source, and which part of the query each term of its formula is."""


def _candidates(parts: Sequence[_QueryPart], catalogue: Catalogue) -> Iterator[_Candidate]:
    """Yield the sources whose formula is made of exactly these metrics, read as they are."""
    for signal in catalogue.signals:
        for source in signal.sources:
            for names in source.names:
                pairs = _paired(parts, source, names)
                if pairs is not None:
                    yield signal, source, pairs


def _paired(
    parts: Sequence[_QueryPart], source: Source, names: Names
) -> tuple[tuple[Term, _QueryPart], ...] | None:
    if len(names.terms) != len(parts) or any(part.read != source.read for part in parts):
        return None
    left = list(parts)
    pairs = []
    for term in names.terms:
        key = (term.metric, term.side, term.sign)
        part = next((one for one in left if (one.metric, one.side, one.sign) == key), None)
        if part is None:
            return None
        left.remove(part)
        pairs.append((term, part))
    return tuple(pairs)


def _expected(term: Term, source: Source, role: str, known: Known) -> frozenset[int]:
    """Return the series that a term of a source has for a role."""
    where = {label: set(values) for label, values in term.where.items()}
    for label, roles in source.role_label.items():
        where[label] = {value for value, of in roles.items() if of == role}
    emitters = (role,) if role in source.emitters else source.emitters
    return frozenset(
        number
        for number, one in enumerate(known.series)
        if one.ours
        and one.labels["__name__"] == term.metric
        and (one.emitter in emitters if emitters else one.emitter != "ignore")
        and all(one.labels.get(label, "") in values for label, values in where.items())
    )


def _misfit(tried: Sequence[_Candidate], pool: str, known: Known) -> str:
    """Return how what a query picks differs from the series of a pool, and what to write instead."""
    part = tried[0][2][0][1]
    own = {
        (label, value): signal.id
        for signal, _, pairs in tried
        for term, of in pairs
        if of is part
        for label, values in term.where.items()
        for value in values
    }
    return misfit(part.metric, part.numbers, own, pool, known)

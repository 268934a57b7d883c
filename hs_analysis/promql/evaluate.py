"""Values of forms over a history, moment by moment, with Prometheus' own semantics.

Which series a form has follows from labels alone; at which moments each of them has a value is a mask beside
the values. NaN is a value: an idle ratio is there and is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from hs_analysis.promql.forms import (
    BUCKET,
    COMPARISONS,
    NAME,
    Aggregate,
    AsScalar,
    AsVector,
    Binary,
    Clamp,
    CopiedLabel,
    Form,
    HistogramQuantile,
    Matching,
    Number,
    OverTime,
    Refused,
    Selector,
    Subquery,
    Union,
    is_scalar,
    selectors,
    walk,
)
from hs_analysis.promql.history import Grid, History, Labels, Rows, picked
from hs_analysis.promql.windows import PROMETHEUS_3, Server, newest, over_time

MOST_VALUES = 1 << 17
"""Values computed at a time [values]: longer stretches are cut, so that they stay in a processor's cache."""

Key = tuple[tuple[str, str], ...]
"""Labels by name: what tells series apart."""

_OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod, "^": np.power,
    "==": np.equal, "!=": np.not_equal, ">": np.greater, "<": np.less, ">=": np.greater_equal,
    "<=": np.less_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Vector:
    """Series and their values at the moments of a grid.

    Attributes
    ----------
    labels
        Labels of each series; the metric's name as ``__name__`` where it is kept.
    values
        Values, NaN where there is none, shape (series, steps).
    present
        Where there is a value, which may be NaN, shape (series, steps).
    """

    labels: tuple[Labels, ...]
    values: np.ndarray
    present: np.ndarray

    def rows(self, numbers: Sequence[int]) -> Vector:
        """Return some of the series."""
        chosen = np.array(numbers, np.intp)
        return Vector(tuple(self.labels[n] for n in numbers), self.values[chosen], self.present[chosen])

    def with_labels(self, labels: Sequence[Labels]) -> Vector:
        """Return the same values under other labels."""
        return Vector(tuple(labels), self.values, self.present)


def evaluate(form: Form, history: History, grid: Grid, server: Server = PROMETHEUS_3) -> Vector:
    """Return the values of a form; a number is one series without labels.

    Parameters
    ----------
    form
        As `parse` returns it.
    history
        Series, with samples from before the grid as far as the form looks back.
    grid
        Moments of the evaluation.
    server
        Version and settings of Prometheus.

    Raises
    ------
    Refused
        Where Prometheus itself refuses, because series can't be told apart or matched, and where a join is
        not with a series of zeros and ones.
    """
    chosen = {one: picked(one, history.labels) for one in selectors(form)}
    widest = max([1, *map(len, chosen.values())])
    ranges = [one.range_s for one in walk(form) if isinstance(one, OverTime) and isinstance(one.of, Subquery)]
    # What a subquery looks back at is computed again for each stretch: no stretch is shorter than that.
    length = max(1, MOST_VALUES // widest, round(max([0.0, *ranges]) * 1e6) // grid.step_us)
    parts = []
    for start in range(0, grid.steps, length):
        steps = min(length, grid.steps - start)
        part = Grid(grid.start_us + start * grid.step_us, grid.step_us, steps)
        parts.append(_Evaluation(history.rows, history.labels, chosen, server).vector(form, part))
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([one.values for one in parts], axis=1)
    return Vector(parts[0].labels, values, np.concatenate([one.present for one in parts], axis=1))


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation: samples, labels, the series that each selector picks, and the server."""

    samples: Rows
    labels: tuple[Labels, ...]
    chosen: dict[Selector, tuple[int, ...]]
    server: Server

    def vector(self, form: Form, grid: Grid) -> Vector:
        """Return a form's values, its series told apart by their labels."""
        match form:
            case Selector():
                back_us = round(self.server.lookback_s * 1e6)
                rows = self.samples.within(self.chosen[form], grid.start_us - back_us, grid.end_us)
                return Vector(self._names(form), *newest(rows, grid, self.server))
            case OverTime():
                return self._over_time(form, grid)
            case HistogramQuantile():
                return _quantiles(self.vector(form.of, grid), form)
            case Aggregate():
                return _aggregated(self.vector(form.of, grid), form)
            case Binary():
                return self._binary(form, grid)
            case Union():
                return _united(self.vector(form.left, grid), self.vector(form.right, grid), form.place)
            case Clamp():
                return _clamped(self.vector(form.of, grid), form)
            case CopiedLabel():
                return _copied(self.vector(form.of, grid), form)
            case Number() | AsScalar() | AsVector():
                inner = form.of if isinstance(form, AsVector) else form
                values = self.scalar(inner, grid)[None, :]
                return Vector(({},), values, np.ones(values.shape, np.bool_))

    def scalar(self, form: Form, grid: Grid) -> np.ndarray:
        """Return the values of a number, shape (steps,)."""
        if isinstance(form, Number):
            return np.full(grid.steps, form.value)
        if isinstance(form, Binary):
            return _computed(form.sign, self.scalar(form.left, grid), self.scalar(form.right, grid))
        if not isinstance(form, AsScalar):
            raise TypeError(f"{form} is no number")
        found = self.vector(form.of, grid)
        only = np.where(found.present, found.values, 0.0).sum(axis=0)
        return np.where(found.present.sum(axis=0) == 1, only, np.nan)

    def _names(self, selector: Selector) -> tuple[Labels, ...]:
        return tuple(self.labels[number] for number in self.chosen[selector])

    def _over_time(self, form: OverTime, grid: Grid) -> Vector:
        range_us = round(form.range_s * 1e6)
        if isinstance(form.of, Subquery):
            labels, rows = self._stepped(form.of, range_us, grid)
        else:
            labels = self._names(form.of)
            rows = self.samples.within(self.chosen[form.of], grid.start_us - range_us, grid.end_us)
        found = Vector(labels, *over_time(form.function, rows, grid, form.range_s, self.server))
        if form.function == "last_over_time":
            return found
        return _without_name(found, form.function, form.place)

    def _stepped(self, form: Subquery, range_us: int, grid: Grid) -> tuple[tuple[Labels, ...], Rows]:
        """Return a form's values at the multiples of a subquery's step as samples."""
        step_us = round((form.step_s or self.server.evaluation_interval_s) * 1e6)
        start_us = (grid.start_us - range_us) // step_us * step_us
        inner = Grid.between(start_us, grid.end_us, step_us * 1e-6)
        found = self.vector(form.of, inner)
        times = np.broadcast_to(inner.times_us, found.present.shape)[found.present]
        starts = np.concatenate([[0], np.cumsum(found.present.sum(axis=1))])
        return found.labels, Rows(starts, times, found.values[found.present], np.zeros(times.size, np.bool_))

    def _binary(self, form: Binary, grid: Grid) -> Vector:
        if is_scalar(form):
            values = self.scalar(form, grid)[None, :]
            return Vector(({},), values, np.ones(values.shape, np.bool_))
        if is_scalar(form.right):
            return _with_number(self.vector(form.left, grid), self.scalar(form.right, grid), form, left=True)
        if is_scalar(form.left):
            return _with_number(self.vector(form.right, grid), self.scalar(form.left, grid), form, left=False)
        return _matched(self.vector(form.left, grid), self.vector(form.right, grid), form)


def _key(labels: Labels) -> Key:
    return tuple(sorted(labels.items()))


def _computed(sign: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return _OPERATIONS[sign](left, right).astype(np.float64)


def _groups(keys: Sequence[Key]) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(key, []).append(number)
    return found


def _distinct(vector: Vector, what: str, place: str) -> Vector:
    """Put series of the same labels together; two at the same moment are refused, as by Prometheus."""
    groups = _groups([_key(labels) for labels in vector.labels])
    if len(groups) == len(vector.labels):
        return vector
    values, present = [], []
    for numbers in groups.values():
        there = vector.present[numbers]
        if (there.sum(axis=0) > 1).any():
            shown = _shown(vector.labels[numbers[0]])
            raise Refused(f"{what} leaves two series with the labels {shown} at one time", where=place)
        present.append(there.any(axis=0))
        added = np.where(there, vector.values[numbers], 0.0).sum(axis=0)
        values.append(np.where(present[-1], added, np.nan))
    labels = tuple(vector.labels[numbers[0]] for numbers in groups.values())
    return Vector(labels, np.array(values), np.array(present))


def _shown(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in _key(labels)) + "}"


def _without_name(vector: Vector, what: str, place: str) -> Vector:
    labels = [{name: value for name, value in one.items() if name != NAME} for one in vector.labels]
    return _distinct(vector.with_labels(labels), what, place)


def _aggregated(vector: Vector, form: Aggregate) -> Vector:
    """Return one series for each group of labels; NaN counts in a sum, and not in a highest or lowest."""

    def kept(labels: Labels) -> Key:
        if form.without:
            return _key({n: v for n, v in labels.items() if n not in (NAME, *form.labels)})
        return _key({n: v for n, v in labels.items() if n in form.labels})

    groups = _groups([kept(labels) for labels in vector.labels])
    shape = (len(groups), vector.values.shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    for number, members in enumerate(groups.values()):
        there = vector.present[members]
        present[number] = there.any(axis=0)
        values[number] = _over_members(form.function, vector.values[members], there)
    values[~present] = np.nan
    return Vector(tuple(map(dict, groups)), values, present)


def _over_members(function: str, values: np.ndarray, there: np.ndarray) -> np.ndarray:
    count = there.sum(axis=0)
    if function == "count":
        return np.asarray(count, np.float64)
    if function in ("max", "min"):
        combine = np.fmax if function == "max" else np.fmin
        return np.asarray(combine.reduce(np.where(there, values, np.nan), axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(there, values, 0.0).sum(axis=0)
        return np.asarray(total if function == "sum" else total / count)


def _with_number(vector: Vector, number: np.ndarray, form: Binary, *, left: bool) -> Vector:
    """Return a vector with a number beside it; ``left`` when the vector stands on the left."""
    sides = (vector.values, number[None, :]) if left else (number[None, :], vector.values)
    found = _computed(form.sign, *sides)
    if form.sign not in COMPARISONS or form.as_bool:
        made = Vector(vector.labels, np.where(vector.present, found, np.nan), vector.present)
        return _without_name(made, form.sign, form.place)
    present = vector.present & (found != 0)
    return Vector(vector.labels, np.where(present, vector.values, np.nan), present)


def _signature(labels: Labels, matching: Matching) -> Key:
    if matching.on:
        return _key({name: value for name, value in labels.items() if name in matching.labels})
    return _key({n: v for n, v in labels.items() if n not in (NAME, *matching.labels)})


def _matched(left: Vector, right: Vector, form: Binary) -> Vector:
    """Return what two vectors give where their labels match."""
    matching = form.matching
    ours = _groups([_signature(labels, matching) for labels in left.labels])
    theirs = _groups([_signature(labels, matching) for labels in right.labels])
    for key, numbers in theirs.items():
        if (right.present[numbers].sum(axis=0) > 1).any():
            _refuse_match("right", key, form)
    pairs: list[tuple[int, int]] = []
    for key, numbers in ours.items():
        met = theirs.get(key, [])
        there = left.present[numbers] & right.present[met].any(axis=0)
        if not matching.group_left and met and (there.sum(axis=0) > 1).any():
            _refuse_match("left", key, form)
        pairs += [(one, other) for one in numbers for other in met]
    one = left.rows([pair[0] for pair in pairs])
    other = right.rows([pair[1] for pair in pairs])
    present = one.present & other.present
    if matching.group_left and not np.isin(other.values[present], (0.0, 1.0)).all():
        raise Refused("a join with a series that is not 0 or 1 is not read", where=form.place)
    found = _computed(form.sign, one.values, other.values)
    if form.sign in COMPARISONS and not form.as_bool:
        present &= found != 0
        found = one.values
    labels = [_result_labels(a, b, form) for a, b in zip(one.labels, other.labels, strict=True)]
    made = Vector(tuple(labels), np.where(present, found, np.nan), present)
    return _distinct(made, form.sign, form.place)


def _refuse_match(side: str, key: Key, form: Binary) -> NoReturn:
    what = f"several series of the {side} side of {form.sign} have the labels {_shown(dict(key))} at one time"
    raise Refused(what, where=form.place)


def _result_labels(left: Labels, right: Labels, form: Binary) -> Labels:
    matching = form.matching
    found = dict(left)
    if form.sign not in COMPARISONS or form.as_bool:
        found.pop(NAME, None)
    if matching.group_left:
        for name in matching.copied:
            found.pop(name, None)
            if name in right:
                found[name] = right[name]
        return found
    if matching.on:
        return {name: value for name, value in found.items() if name in matching.labels}
    return {name: value for name, value in found.items() if name not in matching.labels}


def _united(left: Vector, right: Vector, place: str) -> Vector:
    """Return the left side's series, and the right side's where the left has none of the same labels."""
    taken: dict[Key, np.ndarray] = {}
    for labels, there in zip(left.labels, left.present, strict=True):
        key = _signature(labels, Matching())
        taken[key] = taken[key] | there if key in taken else there
    free = np.zeros(right.present.shape, np.bool_)
    for number, labels in enumerate(right.labels):
        used = taken.get(_signature(labels, Matching()))
        free[number] = right.present[number] if used is None else right.present[number] & ~used
    values = np.concatenate([left.values, np.where(free, right.values, np.nan)])
    made = Vector((*left.labels, *right.labels), values, np.concatenate([left.present, free]))
    return _distinct(made, "or", place)


def _clamped(vector: Vector, form: Clamp) -> Vector:
    if form.least > form.most:
        return vector.rows([])
    values = np.minimum(np.maximum(vector.values, form.least), form.most)
    made = Vector(vector.labels, values, vector.present)
    return _without_name(made, "clamp", form.place)


def _copied(vector: Vector, form: CopiedLabel) -> Vector:
    labels = []
    for one in vector.labels:
        value = one.get(form.source, "")
        changed = dict(one)
        if value:
            changed[form.to] = value
        elif form.also_empty:
            changed.pop(form.to, None)
        labels.append(changed)
    return _distinct(vector.with_labels(labels), "label_replace", form.place)


def _quantiles(vector: Vector, form: HistogramQuantile) -> Vector:
    """Return a quantile of each histogram; series without a number as their bucket's edge are passed over."""
    edges = [_edge(labels.get(BUCKET, "")) for labels in vector.labels]
    numbers = [number for number, edge in enumerate(edges) if edge is not None]
    keys = [
        _key({n: v for n, v in vector.labels[number].items() if n not in (NAME, BUCKET)})
        for number in numbers
    ]
    groups = _groups(keys)
    shape = (len(groups), vector.values.shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    for place, members in enumerate(groups.values()):
        ordered = sorted((numbers[member] for member in members), key=lambda n: edges[n] or 0.0)
        bounds = np.array([edges[number] for number in ordered])
        counts, there = vector.values[ordered], vector.present[ordered]
        present[place] = there.any(axis=0)
        # Buckets come and go with the pods that have them: each set of buckets is a histogram of its own.
        patterns, which = np.unique(there, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            if pattern.any():
                at = np.flatnonzero(which.ravel() == number)
                part = _interpolated(form.quantile, bounds[pattern], counts[np.ix_(pattern, at)])
                values[place, at] = part
    return Vector(tuple(map(dict, groups)), values, present)


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _interpolated(quantile: float, bounds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the quantile of one histogram at each moment.

    Parameters
    ----------
    quantile
        Share of the observations at or below it [ratio].
    bounds
        Upper edges, sorted, shape (buckets,).
    counts
        Observations at or below each edge, shape (buckets, steps).
    """
    steps = counts.shape[1]
    if quantile < 0 or quantile > 1:
        return np.full(steps, -np.inf if quantile < 0 else np.inf)
    if np.isnan(quantile) or not np.isposinf(bounds[-1]):
        return np.full(steps, np.nan)
    edges, first = np.unique(bounds, return_index=True)
    if edges.size < 2:
        return np.full(steps, np.nan)
    # The same edge may be written in two ways; a count never falls with the edge.
    counts = np.maximum.accumulate(np.add.reduceat(counts, first, axis=0), axis=0)
    rank = quantile * counts[-1]
    reached = counts[:-1] >= rank
    bucket = np.where(reached.any(axis=0), reached.argmax(axis=0), edges.size - 1)
    at = np.arange(steps)
    below = np.maximum(bucket - 1, 0)
    start = np.where(bucket > 0, edges[below], 0.0)
    before = np.where(bucket > 0, counts[below, at], 0.0)
    inner = np.minimum(bucket, edges.size - 2)
    with np.errstate(all="ignore"):
        found = start + (edges[inner] - start) * ((rank - before) / (counts[inner, at] - before))
    found = np.where((bucket == 0) & (edges[0] <= 0), edges[0], found)
    found = np.where(bucket == edges.size - 1, edges[-2], found)
    return np.where(counts[-1] == 0, np.nan, found)

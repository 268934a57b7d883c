"""PromQL of a signal for the user's own Prometheus: the very quantity the study judged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from hs_analysis.catalogue import Signal, Source, Term, is_query
from hs_analysis.export import selector as sel
from hs_analysis.export.selector import Labels, Matcher, PodJoin, quoted
from hs_analysis.schema.aligned import POOL_ROLES

# A rate needs two samples in its window even when one scrape fails or comes late (Prometheus' own advice).
SCRAPES_PER_WINDOW = 4
_UNNARROWED = "is a query of yours, taken as it is: it must pick the series of this service and role itself"
_PLAIN_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


@dataclass(frozen=True)
class PromqlExpression:
    """An expression that ends in one series, and what the user should know of it.

    Attributes
    ----------
    expr
        PromQL; empty when no series of the input carries the signal.
    window_s
        Range window inside it [s].
    exact
        Whether it picks exactly the series the study read, judged on the input.
    warnings
        Sentences.
    """

    expr: str
    window_s: float
    exact: bool
    warnings: tuple[str, ...]


def expression(
    signal: Signal, recipe: Source, role: str, series: pl.DataFrame, *, service: str, window_s: float
) -> PromqlExpression:
    """Build the PromQL of one signal of one role.

    Parameters
    ----------
    signal
        Catalogue signal; its ``pool`` says whether the result is a total, a mean or a ratio of totals.
    recipe
        The source the study used.
    role
        prefill, decode, mixed or service.
    series
        Frame of contract ``SERIES``, all services of the input: they are what the selector must leave out.
    service
        ``namespace/model``.
    window_s
        Averaging window wanted [s]; widened to four scrape intervals where it is shorter.
    """
    parts = [_part(term, recipe, role, series, service) for term in recipe.terms]
    window = range_window(window_s, [row.interval_s for part in parts for row in part.wanted])
    missing = sorted({part.term.metric for part in parts if not part.wanted})
    if missing:
        return PromqlExpression("", window, False, (f"no series of {', '.join(missing)} for {role}",))
    texts: list[str] = []
    warnings: dict[str, list[str]] = {}
    exact, pool = True, recipe.pool or signal.pool
    for part in parts:
        selector = sel.select(_scene(part, series, service))
        if is_query(part.term.metric):
            narrowed = bool(selector.matchers or part.where)
            selector = sel.Selector((), None, not narrowed, _UNNARROWED if narrowed else "")
        instance, note = _instance_labels(part.wanted) if pool == "mean" else ((), "")
        matchers = (*part.where, *selector.matchers)
        vector = _vector(part.term.metric, matchers, selector.join, recipe.read, window)
        texts.append(_pooled(vector, pool, instance))
        exact &= selector.exact
        for warning in filter(None, (selector.warning, note)):
            warnings.setdefault(warning, []).append(part.term.metric)
    sentences = tuple(f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in warnings.items())
    return PromqlExpression(_combined(recipe.terms, texts, recipe.scale), window, exact, sentences)


def range_window(window_s: float, intervals_s: Sequence[float | None]) -> float:
    """Return the range window [s]: the wanted one, but no shorter than four scrape intervals."""
    known = [value for value in intervals_s if value is not None and math.isfinite(value)]
    return float(math.ceil(max([window_s, *(SCRAPES_PER_WINDOW * value for value in known)])))


def duration(seconds: float) -> str:
    """Return a Prometheus duration of whole seconds, in the largest unit that holds it."""
    whole = math.ceil(seconds)
    for unit, size in (("h", 3600), ("m", 60)):
        if whole % size == 0 and whole:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def pool_total(promql: str) -> str | None:
    """Turn the mean over instances into its sum, which is what an average-per-replica threshold divides.

    Only the form `expression` writes is understood, ``avg(…)`` with an optional factor; None for any other.
    """
    found = re.fullmatch(r"avg(\(.*\))( [/*] [0-9.e+-]+)?", promql, re.DOTALL)
    if found is None or not _is_one_group(found.group(1)):
        return None
    return "sum" + promql.removeprefix("avg")


def labels_by_role(series: pl.DataFrame, service: str) -> dict[str, list[Labels]]:
    """Return the labels of a service's series, per pool role that emits any."""
    rows = _rows(series.filter(pl.col("service") == service))
    found: dict[str, list[Labels]] = {}
    for row in rows:
        if row.emitter_role in POOL_ROLES:
            found.setdefault(row.emitter_role, []).append(row.labels)
    return found


@dataclass(frozen=True)
class _Row:
    """A series of the input, as far as an expression needs it."""

    labels: Labels
    emitter_role: str
    service: str | None
    instance: str | None
    interval_s: float | None


@dataclass(frozen=True)
class _Part:
    """One term of a formula: the series it wants, and the others of the same metric and state."""

    term: Term
    where: tuple[Matcher, ...]
    wanted: tuple[_Row, ...]
    others: tuple[_Row, ...]


def _rows(series: pl.DataFrame) -> list[_Row]:
    columns = series.select("labels", "emitter_role", "service", "instance", "interval_s")
    return [_Row(_as_dict(labels), *rest) for labels, *rest in columns.iter_rows()]


def _as_dict(labels: Mapping[str, str] | Sequence[Mapping[str, str]]) -> Labels:
    """Return the contract's map, which older polars hands over as a list of key-value pairs."""
    if isinstance(labels, Mapping):
        return labels
    return {pair["key"]: pair["value"] for pair in labels}


def _part(term: Term, recipe: Source, role: str, series: pl.DataFrame, service: str) -> _Part:
    where = _where(term, recipe, role)
    emitters = (role,) if role in recipe.emitters else recipe.emitters
    rows = [
        row
        for row in _rows(series.filter(pl.col("metric") == term.metric))
        if all(matcher.matches(row.labels) for matcher in where)
    ]

    def wanted(row: _Row) -> bool:
        emits = row.emitter_role in emitters if emitters else row.emitter_role != "ignore"
        return emits and row.service == service

    return _Part(term, where, tuple(filter(wanted, rows)), tuple(r for r in rows if not wanted(r)))


def _scene(part: _Part, series: pl.DataFrame, service: str) -> sel.Scene:
    roles = {row.emitter_role for row in part.wanted}
    role = roles.pop() if len(roles) == 1 and roles <= set(POOL_ROLES) else ""
    rivals = [other for other in POOL_ROLES if role and other != role]
    neighbours = series.filter((pl.col("service") == service) & pl.col("emitter_role").is_in(rivals))
    return sel.Scene(
        wanted=[row.labels for row in part.wanted],
        others=[row.labels for row in part.others],
        neighbours=[row.labels for row in _rows(neighbours)],
        pods=[row.labels for row in _rows(series.filter(pl.col("metric") == sel.POD_LABEL_METRIC))],
        role=role,
    )


def _where(term: Term, recipe: Source, role: str) -> tuple[Matcher, ...]:
    """Return the matchers that belong to the quantity itself: a state, a phase, a histogram edge."""
    found = [Matcher(label, values) for label, values in term.where.items()]
    for label, roles in recipe.role_label.items():
        found.append(Matcher(label, tuple(sorted(value for value, r in roles.items() if r == role))))
    return tuple(found)


def _instance_labels(rows: Sequence[_Row]) -> tuple[tuple[str, ...], str]:
    """Return the labels that name the instance, so that several GPUs or ranks of one weigh as one."""
    instances = [row.instance for row in rows]
    names = list(dict.fromkeys([*sel.POD_LABELS, *sorted({name for row in rows for name in row.labels})]))
    # Two labels: a replica group is named by its set and its number.
    for candidate in [*((name,) for name in names), *combinations(names, 2)]:
        values = [tuple(row.labels.get(name, "") for name in candidate) for row in rows]
        pairs = set(zip(values, instances, strict=True))
        if all(map(all, values)) and len(pairs) == len(set(values)) == len(set(instances)):
            return candidate, ""
    if len(set(instances)) == len(rows):
        return (), ""
    return (), "no label names the instance, so each series weighs the same in the mean"


def _vector(metric: str, matchers: Sequence[Matcher], join: PodJoin | None, read: str, window: float) -> str:
    over = duration(window)
    if is_query(metric):
        return f"{'rate' if read == 'rate' else 'avg_over_time'}(({metric})[{over}:])"
    inside = [str(matcher) for matcher in matchers]
    name = metric
    if not _PLAIN_METRIC.fullmatch(metric):
        name, inside = "", [f"__name__={quoted(metric)}", *inside]
    picked = f"{name}{{{','.join(inside)}}}" if inside else name
    text = f"{'rate' if read == 'rate' else 'avg_over_time'}({picked}[{over}])"
    return _joined(text, join) if join else text


def _joined(text: str, join: PodJoin) -> str:
    """Multiply by 1 where the pod carries the role's label; the pod's names are aligned first."""
    for ours, theirs in ((join.namespace, "namespace"), (join.pod, "pod")):
        if ours != theirs:
            text = f'label_replace({text}, "{theirs}", "$1", "{ours}", "(.+)")'
    labels = f"{sel.POD_LABEL_METRIC}{{{Matcher(join.label, join.values)}}}"
    # max: kube-state-metrics may run twice, and one of two equal answers is enough.
    return f"{text} * on (namespace, pod) group_left () max by (namespace, pod) ({labels})"


def _pooled(vector: str, pool: str, instance: Sequence[str]) -> str:
    if pool != "mean":
        return f"sum({vector})"
    return f"avg(avg by ({', '.join(instance)}) ({vector}))" if instance else f"avg({vector})"


def _combined(terms: Sequence[Term], texts: Sequence[str], scale: float) -> str:
    sides: dict[str, str] = {}
    divides = any(term.side == "den" for term in terms)
    for side in ("num", "den"):
        signed = [(term.sign, text) for term, text in zip(terms, texts, strict=True) if term.side == side]
        signed.sort(key=lambda pair: -pair[0])  # a formula starts with what is added
        joined = "".join(f" {'-' if sign < 0 else '+'} {text}" for sign, text in signed)
        joined = joined.removeprefix(" + ").removeprefix(" ")
        sides[side] = f"({joined})" if len(signed) > 1 and (scale != 1.0 or divides) else joined
    expr = f"{sides['num']} / {sides['den']}" if sides["den"] else sides["num"]
    return expr if scale == 1.0 else f"{expr} {_factor(scale)}"


def _factor(scale: float) -> str:
    inverse = round(1.0 / scale)
    if inverse > 1 and math.isclose(inverse * scale, 1.0, rel_tol=1e-9):
        return f"/ {inverse}"
    return f"* {scale:.12g}"


def _is_one_group(text: str) -> bool:
    """Whether the first parenthesis closes at the very end; quoted text is passed over."""
    depth, in_string, skip = 0, False, False
    for position, char in enumerate(text):
        if skip:
            skip = False
        elif in_string:
            skip, in_string = char == "\\", char != '"'
        elif char == '"':
            in_string = True
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return position == len(text) - 1
    return False

"""Which series carry which signal: the catalogue's formulas resolved against the series of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.align.counters import SeriesWindows, WindowStore
from hs_analysis.align.limit_shares import HIGH, LOW, MEAN, SAMPLES
from hs_analysis.catalogue import Catalogue, Signal, Source
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.settings import Slo

TERM_COLUMNS = {
    "signal": pl.String, "source": pl.String, "preference": pl.Int64, "pool": pl.String, "role": pl.String,
    "gpu_group": pl.String, "service": pl.String, "capture": pl.String, "instance": pl.String,
    "emitter": pl.String, "term": pl.Int64, "side": pl.String, "sign": pl.Float64, "series_id": pl.Int64,
    "read": pl.String, "generation": pl.Int64,
}  # fmt: skip
"""Columns of the term table: one row per signal, source and series that enters it.

``term`` is the place in the source's formula; ``emitter`` is what exports the series, ``instance`` the same
where it belongs to a pool; ``generation`` counts the metric's renamings since, 0 = today's name.
"""

MISMATCH = "mismatch"
"""How `scale_evidence` begins where the values fit no scale: the series is left out."""

EDGE_PREFERENCE = 100
"""Added to a histogram's place in the order for each step that its nearest edge lies away from the limit: the
nearest wins, above all one at the limit, except for TTFT, which only a front end sees whole."""

EDGE_STEP = 0.1
"""Step of the distance of an edge from a limit, in logs [1]: nearer ones count as alike. Default of this
project."""


EDGE_TOLERANCE = 1e-9
"""Relative difference below which a limit and an edge are the same number: both are read from decimals."""


EdgeCandidate = tuple[str, int, LimitEdges]
"""Service, preference of the histogram's shares, and its edges."""

_Term = dict[str, object]


@dataclass(frozen=True)
class _Carrier:
    """What a term is for: the signal's name in the table, its catalogue row, and one of its sources.

    ``pool`` is how instances are put together where the catalogue's way is another quantity's.
    """

    name: str
    signal: Signal
    source: Source
    preference: int
    generation: int = 0
    pool: str | None = None


@dataclass(frozen=True)
class _SeriesRow:
    series_id: int
    metric: str
    labels: Mapping[str, str]
    emitter_role: str
    service: str
    capture: str
    instance: str | None
    gpu_type: str | None
    repair: float | None


def _rows(series: pl.DataFrame) -> list[_SeriesRow]:
    columns = (
        "series_id", "metric", "labels", "emitter_role", "service", "capture", "instance", "gpu_type",
        "repair",
    )  # fmt: skip
    scaled = ~pl.col("scale_evidence").fill_null("").str.starts_with(MISMATCH)
    mapped = series.filter(pl.col("service").is_not_null() & scaled).select(columns)
    return [_SeriesRow(labels=label_map(row.pop("labels")), **row) for row in mapped.iter_rows(named=True)]


def _matches(labels: Mapping[str, str], where: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(label) in values for label, values in where.items())


def _role(signal: Signal, source: Source, row: _SeriesRow) -> str | None:
    """Return the role a series gives to a signal, None when it may not carry it."""
    if any(row.labels.get(rank, "0") not in ("", "0") for rank in source.repeats):
        return None
    for label, values in source.role_label.items():
        if label in row.labels:
            return values.get(row.labels[label])
    if source.emitters and row.emitter_role not in source.emitters:
        return None
    if signal.role == "emitter":
        return row.emitter_role if row.emitter_role in POOL_ROLES else None
    if signal.role in POOL_ROLES and row.emitter_role == "mixed":
        return "mixed"
    return signal.role


def resolve_terms(
    series: pl.DataFrame, catalogue: Catalogue, slo: Slo
) -> tuple[pl.DataFrame, tuple[EdgeCandidate, ...]]:
    """Return the term table and the histogram edges around the limits.

    Parameters
    ----------
    series
        Frame of contract SERIES; rows without a service are left out.
    catalogue
        The catalogue.
    slo
        Limits; each that is given adds the shares of samples over its lower and upper edge, and the samples.

    Returns
    -------
    terms
        Columns ``TERM_COLUMNS``; pools with several GPU types appear once per type and once for all.
    edges
        One per service and histogram of a latency signal with a limit; `chosen_edges` picks the ones used.
    """
    rows = _rows(series)
    by_metric: dict[str, list[_SeriesRow]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    terms: list[dict[str, object]] = []
    edges: list[EdgeCandidate] = []
    for signal in catalogue.signals:
        for preference, source in enumerate(signal.sources):
            terms += _formula(signal, source, preference, by_metric)
            limit = slo.limit_s(signal.id)
            if source.histogram and limit is not None:
                shares, around = _over_limit(signal, source, preference, by_metric, limit)
                terms += shares
                edges += around
    table = pl.DataFrame(terms, schema=TERM_COLUMNS)
    return _one_role_per_pool(_with_gpu_groups(table, rows), rows), tuple(edges)


def _formula(
    signal: Signal,
    source: Source,
    preference: int,
    by_metric: Mapping[str, Sequence[_SeriesRow]],
    service: str | None = None,
    name: str = "",
) -> list[_Term]:
    """Return a source's terms where a service's capture has every one of them: a missing part is no zero.

    Of one service where it is named; under the signal's own name where no other is given.

    Each generation of names stands for itself: the window that mixes them is put together per instance.
    """
    terms: list[_Term] = []
    for generation, names in enumerate(source.names):
        carrier = _Carrier(name or signal.id, signal, source, preference, generation)
        parts = []
        for number, term in enumerate(names.terms):
            rows = [row for row in by_metric.get(term.metric, []) if service in (None, row.service)]
            found = [row for row in rows if _matches(row.labels, term.where)]
            scale = source.scale if term.side == "num" else 1.0
            parts.append(_carried(carrier, found, number, term.side, term.sign * scale))
        holders = [{(term["service"], term["capture"]) for term in part} for part in parts]
        whole = set.intersection(*holders) if holders else set()
        terms += [term for part in parts for term in part if (term["service"], term["capture"]) in whole]
    return terms


def _carried(
    carrier: _Carrier, rows: Sequence[_SeriesRow], number: int, side: str, sign: float
) -> list[_Term]:
    signal, source = carrier.signal, carrier.source
    result: list[_Term] = []
    for row in rows:
        role = _role(signal, source, row)
        if role is None:
            continue
        pooled = row.emitter_role in POOL_ROLES
        result.append(
            {
                "signal": carrier.name, "source": source.source, "preference": carrier.preference,
                "pool": carrier.pool or source.pool or signal.pool, "role": role,
                "gpu_group": None, "service": row.service, "capture": row.capture,
                "instance": row.instance if pooled else None, "emitter": row.instance,
                "term": number, "side": side, "sign": sign * (row.repair or 1.0), "series_id": row.series_id,
                "read": source.read, "generation": carrier.generation,
            }
        )  # fmt: skip
    return result


def _over_limit(
    signal: Signal,
    source: Source,
    preference: int,
    by_metric: Mapping[str, Sequence[_SeriesRow]],
    limit: float,
) -> tuple[list[_Term], list[EdgeCandidate]]:
    """Return the terms of the shares over the two edges around a limit, (all − under edge) ÷ all, and of all.

    Where a histogram was renamed the edges are those that it has under each of its names.
    """
    terms: list[_Term] = []
    edges: list[EdgeCandidate] = []
    buckets = list(_buckets(signal, source, by_metric))
    for service in sorted({row.service for _, _, row in buckets}):
        own = [bucket for bucket in buckets if bucket[2].service == service]
        known = _common_edges(own)
        if not known or known[-1] != math.inf:
            continue
        low, high = _around(limit, known)
        comparable = signal.role != "service"  # an engine's TTFT leaves out the queue in front of it
        place = preference + (EDGE_PREFERENCE * _steps_from_edge(limit, low, high) if comparable else 0)
        edges.append((service, place, LimitEdges(signal.id, source.source, limit, low, high)))
        for generation in sorted({g for g, _, _ in own}):
            rows = [(at, row) for g, at, row in own if g == generation]
            for ending, edge in ((LOW, low), (HIGH, high)):
                if edge is not None:
                    carrier = _Carrier(f"{signal.id}_{ending}", signal, source, place, generation)
                    terms += _share_over(carrier, rows, edge)
            samples = _Carrier(f"{signal.id}_{SAMPLES}", signal, source, place, generation, "sum")
            terms += _carried(samples, [row for at, row in rows if at == math.inf], 0, "num", 1.0)
        terms += _formula(signal, source, place, by_metric, service, f"{signal.id}_{MEAN}")
    return terms, edges


def _steps_from_edge(limit: float, low: float | None, high: float) -> int:
    """Return how many steps the nearest edge lies away, begun ones counted; 0 where one lies at the limit."""
    if low == high:
        return 0
    edges = [edge for edge in (low, high) if edge is not None and math.isfinite(edge)]
    return math.ceil(min(abs(math.log(edge / limit)) for edge in edges) / EDGE_STEP) if edges else 1


def _buckets(
    signal: Signal, source: Source, by_metric: Mapping[str, Sequence[_SeriesRow]]
) -> Iterator[tuple[int, float, _SeriesRow]]:
    """Yield (generation of the name, upper edge in the signal's unit, series) of a source's histogram."""
    for generation, names in enumerate(source.names):
        for row in by_metric.get(f"{names.histogram}_bucket", []):
            edge = _edge(row) if _matches(row.labels, names.terms[0].where) else None
            if edge is not None and _role(signal, source, row) is not None:
                yield generation, source.edge(edge), row


def _common_edges(own: Sequence[tuple[int, float, _SeriesRow]]) -> list[float]:
    """Return the edges that every generation of a histogram's names has, sorted."""
    by_generation: dict[int, set[float]] = {}
    for generation, edge, _ in own:
        by_generation.setdefault(generation, set()).add(edge)
    return sorted(set.intersection(*by_generation.values())) if by_generation else []


def _share_over(carrier: _Carrier, own: Sequence[tuple[float, _SeriesRow]], edge: float) -> list[_Term]:
    everything = [row for at, row in own if at == math.inf]
    under = [row for at, row in own if at == edge]
    return [
        *_carried(carrier, everything, 0, "num", 1.0),
        *_carried(carrier, under, 1, "num", -1.0),
        *_carried(carrier, everything, 2, "den", 1.0),
    ]


def _around(limit: float, known: Sequence[float]) -> tuple[float | None, float]:
    """Return the edges around a limit, equal when one lies at it; ``known`` ends at infinity.

    An edge at zero has no logarithm and nothing below it: it is none.
    """
    at = next((edge for edge in known if math.isclose(edge, limit, rel_tol=EDGE_TOLERANCE)), None)
    if at is not None:
        return at, at
    low = max((edge for edge in known if 0.0 < edge < limit), default=None)
    return low, min(edge for edge in known if edge > limit)


def _edge(row: _SeriesRow) -> float | None:
    """Return the upper edge of a bucket, None when the label is no number."""
    try:
        edge = float(row.labels["le"])
    except (KeyError, ValueError):
        return None
    return None if math.isnan(edge) else edge


def chosen_edges(
    candidates: Sequence[EdgeCandidate], sources: pl.DataFrame
) -> tuple[tuple[str, LimitEdges], ...]:
    """Return (service, edges) of the histograms that were chosen, in the order of the candidates.

    Parameters
    ----------
    candidates
        The edges of every histogram, from `resolve_terms`.
    sources
        The chosen sources with service, signal and preference.
    """
    used = set(sources.select("service", "signal", "preference").iter_rows())
    return tuple(
        (service, edges)
        for service, preference, edges in candidates
        if (service, f"{edges.signal}_{HIGH}", preference) in used
    )


def _with_gpu_groups(table: pl.DataFrame, rows: Sequence[_SeriesRow]) -> pl.DataFrame:
    """Repeat the terms of pools that hold several GPU types once per type."""
    types = {row.series_id: row.gpu_type for row in rows}
    typed = table.with_columns(
        pl.col("series_id").replace_strict(types, default=None, return_dtype=pl.String).alias("gpu_group")
    )
    typed = typed.filter(pl.col("instance").is_not_null() & pl.col("gpu_group").is_not_null())
    several = (
        typed.group_by("service", "role")
        .agg(pl.col("gpu_group").n_unique().alias("types"))
        .filter(pl.col("types") > 1)
    )
    return pl.concat([table, typed.join(several.select("service", "role"), ["service", "role"], how="semi")])


def _one_role_per_pool(table: pl.DataFrame, rows: Sequence[_SeriesRow]) -> pl.DataFrame:
    """Give a single pool's front-end signals the pool's role: decode work of a mixed pool is the pool's."""
    pools: dict[str, set[str]] = {}
    for row in rows:
        if row.emitter_role in POOL_ROLES:
            pools.setdefault(row.service, set()).add(row.emitter_role)
    single = [service for service, roles in pools.items() if roles == {"mixed"}]
    is_pool_signal = pl.col("role").is_in(["prefill", "decode"]) & pl.col("service").is_in(single)
    return table.with_columns(
        pl.when(is_pool_signal).then(pl.lit("mixed")).otherwise(pl.col("role")).alias("role")
    )


TermRow = Mapping[str, Any]
"""A row of the term table."""


@dataclass(frozen=True)
class EmitterParts:
    """What one emitter gives under one generation of names; shape (windows,) each.

    Attributes
    ----------
    total, mean, below
        Sum of the terms above the line, of their means over series, and of the terms below it.
    coverage
        Smallest coverage of the terms that are there [ratio].
    parts
        How many terms are there.
    """

    total: np.ndarray
    mean: np.ndarray
    below: np.ndarray
    coverage: np.ndarray
    parts: np.ndarray

    def put(self, other: EmitterParts, where: np.ndarray) -> EmitterParts:
        """Return these with the windows of a mask taken from another."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return EmitterParts(*(np.where(where, theirs, own) for own, theirs in pairs))


@dataclass(frozen=True)
class WindowRange:
    """A stretch of windows: number of the first, and of the one after the last."""

    first: int
    after: int

    @property
    def size(self) -> int:
        """How many windows there are."""
        return self.after - self.first

    def cut(self, windows: SeriesWindows) -> SeriesWindows:
        """Return the windows of a series that lie in this stretch."""
        low, high = max(self.first - windows.first, 0), max(self.after - windows.first, 0)
        if low == 0 and high >= windows.value.size:
            return windows
        return SeriesWindows(windows.first + low, windows.value[low:high], windows.coverage[low:high])

    def within(self, windows: SeriesWindows) -> slice:
        """Return where the windows of a series lie in arrays over this stretch."""
        return slice(windows.first - self.first, windows.first - self.first + windows.value.size)


def window_range_of(terms: Iterable[TermRow], store: WindowStore) -> WindowRange | None:
    """Return the stretch in which any series of the terms has a window, None where none has."""
    series = {term["series_id"] for term in terms}
    found = [bounds for n in series if (bounds := store.bounds("windows", n)) is not None]
    return WindowRange(min(first for first, _ in found), max(after for _, after in found)) if found else None


def emitter_parts(
    terms: Sequence[TermRow],
    store: WindowStore,
    span: WindowRange,
    least_coverage: float | None = None,
) -> EmitterParts:
    """Return the parts of one emitter's formula in each window of a stretch.

    Parameters
    ----------
    terms
        The emitter's terms under one generation of names.
    store
        Windows of the series.
    span
        The stretch.
    least_coverage
        Coverage below which a series counts as missing in a window [ratio]; None takes what there is.
    """
    total, mean, below, parts = (np.zeros(span.size) for _ in range(4))
    coverage = np.full(span.size, np.inf)
    by_term: dict[tuple[int, bool], list[TermRow]] = {}
    for term in terms:
        by_term.setdefault((term["term"], term["side"] == "num"), []).append(term)
    # sums are ordered: floats added in another order differ in their last bits
    for (_, above), own in sorted(by_term.items()):
        value, count, covered = _added_up(own, store, span, least_coverage)
        there = count > 0
        parts += there
        coverage[there] = np.minimum(coverage[there], covered[there])
        if above:
            total += value
            mean += value / np.maximum(count, 1.0)
        else:
            below += value
    return EmitterParts(total, mean, below, coverage, parts)


def _added_up(
    terms: Sequence[TermRow], store: WindowStore, span: WindowRange, least_coverage: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sum, number and greatest coverage of the series of one term in each window.

    A label value that is new in the window says nothing of the scrape: the greatest counts.
    """
    value, count, covered = (np.zeros(span.size) for _ in range(3))
    for term in sorted(terms, key=lambda one: one["series_id"]):
        windows = store.get("windows", term["series_id"])
        if windows is None:
            continue
        windows = span.cut(windows)
        own = span.within(windows)
        there = windows.coverage > 0 if least_coverage is None else windows.coverage >= least_coverage
        value[own] += np.where(there, windows.value * term["sign"], 0.0)
        count[own] += there
        covered[own] = np.maximum(covered[own], windows.coverage)
    return value, count, covered


def grouped(terms: Iterable[TermRow], *names: str) -> dict[tuple[Any, ...], list[TermRow]]:
    """Return the terms by some of their columns, groups and terms in their order."""
    found: dict[tuple[Any, ...], list[TermRow]] = {}
    for term in terms:
        found.setdefault(tuple(term[name] for name in names), []).append(term)
    return found

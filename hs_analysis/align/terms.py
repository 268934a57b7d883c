"""Which series carry which signal: the catalogue's rows resolved against the series of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from hs_analysis.catalogue import Catalogue, Signal, Source
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.settings import Slo

TERM_COLUMNS = {
    "signal": pl.String, "source": pl.String, "preference": pl.Int64, "pool": pl.String, "role": pl.String,
    "gpu_group": pl.String, "service": pl.String, "capture": pl.String, "instance": pl.String, "side": pl.String,
    "sign": pl.Float64, "series_id": pl.Int64, "read": pl.String,
}  # fmt: skip
"""Columns of the term table: one row per signal, source and series that enters it."""

EDGE_PREFERENCE = 100
"""Added to a histogram's place in the order when it has no edge at the limit: an edge at the limit wins, except
for TTFT, which only a front end sees whole."""


@dataclass(frozen=True)
class LimitEdges:
    """The histogram edges around a latency limit [s]; equal when an edge lies at the limit.

    ``low`` is None when the limit lies below the first edge; ``high`` is infinite above the last.
    """

    signal: str
    source: str
    limit_s: float
    low_s: float | None
    high_s: float


@dataclass(frozen=True)
class _Row:
    series_id: int
    metric: str
    labels: Mapping[str, str]
    emitter_role: str
    service: str
    capture: str
    instance: str | None
    gpu_type: str | None


def _rows(series: pl.DataFrame) -> list[_Row]:
    columns = ("series_id", "metric", "labels", "emitter_role", "service", "capture", "instance", "gpu_type")
    rows = []
    for record in series.filter(pl.col("service").is_not_null()).select(columns).iter_rows(named=True):
        raw = record.pop("labels")
        pairs = raw.items() if isinstance(raw, dict) else ((p["key"], p["value"]) for p in raw)
        rows.append(_Row(labels=dict(pairs), **record))
    return rows


def _matches(labels: Mapping[str, str], where: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(label) in values for label, values in where.items())


def _role(signal: Signal, source: Source, row: _Row) -> str | None:
    """Return the role a series gives to a signal, None when it may not carry it."""
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
) -> tuple[pl.DataFrame, tuple[tuple[str, LimitEdges], ...]]:
    """Return the term table and the histogram edges used per service.

    Parameters
    ----------
    series
        Frame of contract SERIES; rows without a service are left out.
    catalogue
        The catalogue.
    slo
        Limits; each that is given adds the shares of samples over its lower and upper edge.

    Returns
    -------
    terms
        Columns ``TERM_COLUMNS``; pools with several GPU types appear once per type and once for all.
    edges
        (service, edges) pairs, one per service and latency signal with a limit.
    """
    rows = _rows(series)
    by_metric: dict[str, list[_Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    terms: list[dict[str, object]] = []
    edges: list[tuple[str, LimitEdges]] = []
    for signal in catalogue.signals:
        for preference, source in enumerate(signal.sources):
            terms += _formula(signal, source, preference, by_metric)
            limit = slo.limit_s(signal.id)
            if source.histogram and limit is not None:
                found = by_metric.get(f"{source.histogram}_bucket", [])
                shares, around = _over_limit(signal, source, preference, found, limit)
                terms += shares
                edges += around
    table = pl.DataFrame(terms, schema=TERM_COLUMNS)
    return _one_role_per_pool(_with_gpu_groups(table, rows), rows), tuple(_kept_edges(edges))


def _formula(
    signal: Signal, source: Source, preference: int, by_metric: Mapping[str, Sequence[_Row]]
) -> list[dict[str, object]]:
    """Return a source's terms for the services that have every one of them: a missing part is no zero."""
    parts = []
    for term in source.terms:
        found = [row for row in by_metric.get(term.metric, []) if _matches(row.labels, term.where)]
        parts.append(
            _carried(signal.id, signal, source, preference, found, term.side, term.sign * source.scale)
        )
    whole = set.intersection(*({str(t["service"]) for t in part} for part in parts)) if parts else set()
    return [term for part in parts for term in part if term["service"] in whole]


def _carried(
    name: str, signal: Signal, source: Source, preference: int, rows: Sequence[_Row], side: str, sign: float
) -> list[dict[str, object]]:
    result = []
    for row in rows:
        role = _role(signal, source, row)
        if role is None:
            continue
        pooled = row.emitter_role in POOL_ROLES
        result.append(
            {
                "signal": name, "source": source.source, "preference": preference, "pool": signal.pool, "role": role,
                "gpu_group": None, "service": row.service, "capture": row.capture,
                "instance": row.instance if pooled else None, "side": side, "sign": sign,
                "series_id": row.series_id, "read": source.read,
            }
        )  # fmt: skip
    return result


def _over_limit(
    signal: Signal, source: Source, preference: int, rows: Sequence[_Row], limit: float
) -> tuple[list[dict[str, object]], list[tuple[str, LimitEdges]]]:
    """Return the terms of the shares over the two edges around a limit: (all − under edge) ÷ all."""
    terms: list[dict[str, object]] = []
    edges: list[tuple[str, LimitEdges]] = []
    for service in sorted({row.service for row in rows}):
        own = [(float(row.labels["le"]), row) for row in rows if row.service == service and _is_edge(row)]
        known = sorted({edge for edge, _ in own})
        if not known or known[-1] != float("inf"):
            continue
        low = max((edge for edge in known if edge <= limit), default=None)
        high = min(edge for edge in known if edge >= limit)
        comparable = signal.role != "service"  # an engine's TTFT leaves out the queue in front of it
        place = preference + (EDGE_PREFERENCE if comparable and low != high else 0)
        edges.append((service, LimitEdges(signal.id, source.source, limit, low, high)))
        for name, edge in ((f"{signal.id}_over_low", low), (f"{signal.id}_over_high", high)):
            if edge is None:
                continue
            everything = [row for at, row in own if at == float("inf")]
            under = [row for at, row in own if at == edge]
            for side, sign, part in (
                ("num", 1.0, everything),
                ("num", -1.0, under),
                ("den", 1.0, everything),
            ):
                terms += _carried(name, signal, source, place, part, side, sign)
    return terms, edges


def _is_edge(row: _Row) -> bool:
    try:
        float(row.labels["le"])
    except (KeyError, ValueError):
        return False
    return True


def _kept_edges(edges: Sequence[tuple[str, LimitEdges]]) -> list[tuple[str, LimitEdges]]:
    """Keep one pair of edges per service and signal: those at the limit first, else the first source's."""
    best: dict[tuple[str, str], tuple[str, LimitEdges]] = {}
    for service, edge in edges:
        key = (service, edge.signal)
        at_limit = edge.low_s == edge.high_s and edge.signal != "ttft"
        if key not in best or (at_limit and best[key][1].low_s != best[key][1].high_s):
            best[key] = (service, edge)
    return list(best.values())


def _with_gpu_groups(table: pl.DataFrame, rows: Sequence[_Row]) -> pl.DataFrame:
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


def _one_role_per_pool(table: pl.DataFrame, rows: Sequence[_Row]) -> pl.DataFrame:
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

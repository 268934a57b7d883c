"""The user's own metrics and tables as rows of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from hs_analysis.catalogue.rows import (
    HISTOGRAM_ENDINGS,
    MAPPING,
    Catalogue,
    Exporter,
    Signal,
    Source,
    Term,
    factor,
)
from hs_analysis.errors import HsError, ManyErrors, UsageError
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.settings import MetricRow, Reading

_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


def is_query(metric: str) -> bool:
    """Whether a metric is called by the query whose answer it is: no selector can narrow it."""
    return "(" in metric


def can_be_asked(metric: str) -> bool:
    """Whether a server can be asked for a metric: its name is one of PromQL, or it is a query itself."""
    return is_query(metric) or _METRIC_NAME.fullmatch(metric) is not None


def with_user_rows(catalogue: Catalogue, reading: Reading) -> Catalogue:
    """Return the catalogue with the metrics and table columns of the settings as first sources.

    Parameters
    ----------
    catalogue
        The shipped rows.
    reading
        ``metrics`` (metric name → what it is) and ``tables`` of samples (column → what it is; a reader names
        the series of a column like the column, and those of a long table like its metric).

    Returns
    -------
    Catalogue with the exporter ``mapping``, which claims these names whatever they begin with; the same
    catalogue when nothing is mapped. A mean that is given as a number per window stays a mean: the mean over
    a pool's instances of a latency, not the ratio of two totals. A shipped source that reads one of the names
    is left out: the user says what the metric is.

    Raises
    ------
    UsageError
        When a signal or a unit does not exist, or a unit does not measure the signal; names the setting and
        what there is.
    ManyErrors
        When there are several such rows.
    """
    faults: list[HsError] = []
    sources: dict[str, list[Source]] = {}
    names: set[str] = set()
    for where, metric, row in _rows(reading):
        try:
            source = _source(catalogue, where, metric, row)
            sources.setdefault(row.signal, []).append(source)
            names.update([metric] if source.histogram is None else histogram_parts(metric))
        except UsageError as error:
            faults.append(error)
    if faults:
        raise faults[0] if len(faults) == 1 else ManyErrors(faults)
    if not names:
        return catalogue
    mapping = Exporter(
        MAPPING, (), "yours", enable="mapped in hsa.toml", model="model", gpu_type="gpu_type",
        role_label={"role": {role: role for role in (*POOL_ROLES, "encode", "frontend", "ignore")}},
        metrics=frozenset(names),
    )  # fmt: skip
    signals = tuple(
        replace(s, sources=(*sources.get(s.id, ()), *(o for o in s.sources if names.isdisjoint(o.metrics))))
        for s in catalogue.signals
    )
    return Catalogue(catalogue.date, (mapping, *catalogue.exporters), signals, catalogue.clock_like)


def _rows(reading: Reading) -> Iterator[tuple[str, str, MetricRow]]:
    """Yield setting, metric and row: metrics by name, then the columns of tables that hold samples."""
    for metric, row in sorted(reading.metrics.items()):
        yield f'metrics."{metric}"', metric, row
    for table, mapped in sorted(reading.tables.items()):
        if mapped.holds == "samples":
            for column, row in sorted(mapped.columns.items()):
                yield f"tables.{table}.columns.{column}", column, row


def _source(catalogue: Catalogue, where: str, metric: str, row: MetricRow) -> Source:
    signal = catalogue.signal(row.signal)
    if signal is None:
        known = [s.id for s in catalogue.signals]
        near = get_close_matches(row.signal, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no signal {row.signal!r}", where=where, hint=hint + "`hsa signals` lists them")
    if row.kind == "histogram":
        return _histogram(signal, where, metric, row)
    counter = row.kind == "counter"
    if counter and signal.pool != "sum":
        what = f"a counter can't carry {signal.id}, which is a {signal.pool} over the pool"
        raise UsageError(what, where=where, hint='say kind = "gauge" for a value per moment')
    scale = 1.0 if row.unit is None else factor(row.unit, signal.unit, counter=counter, where=where)
    return Source(
        source=MAPPING,
        read="rate" if counter else "gauge",
        scale=scale,
        emitters=_emitters(signal),
        role_label={},
        terms=tuple(_terms(metric, row)),
        histogram=None,
        unit=row.unit or "",
        pool="mean" if signal.pool == "ratio" else None,
    )


def histogram_parts(family: str) -> list[str]:
    """Return the metrics that a histogram is made of."""
    return [f"{family}{ending}" for ending in HISTOGRAM_ENDINGS]


def _histogram(signal: Signal, where: str, family: str, row: MetricRow) -> Source:
    """Return the source of a mean that a histogram of the user's counts, and of its shares over a limit.

    Whoever exports it counts: a front end sees the gaps between the tokens that a pool makes.
    """
    if signal.pool != "ratio":
        what = f"a histogram can't carry {signal.id}, which is a {signal.pool} over the pool"
        raise UsageError(
            what, where=where, hint="it has the mean of what it counts: map its _count by itself"
        )
    if family.endswith(HISTOGRAM_ENDINGS):
        hint = f"name the histogram: {family.rpartition('_')[0]}"
        raise UsageError("it names a part of a histogram", where=where, hint=hint)
    if row.weights:
        raise UsageError("a histogram has no weights", where=where, hint="weights are for counters")
    chosen: dict[str, tuple[str, ...]] = {k: (v,) for k, v in sorted(row.where.items())}
    return Source(
        source=MAPPING,
        read="rate",
        scale=1.0 if row.unit is None else factor(row.unit, signal.unit, where=where),
        emitters=POOL_ROLES if signal.role == "emitter" else (),
        role_label={},
        terms=(Term(f"{family}_sum", chosen, 1.0, "num"), Term(f"{family}_count", chosen, 1.0, "den")),
        histogram=family,
        unit=row.unit or "",
    )


def _terms(metric: str, row: MetricRow) -> Iterator[Term]:
    """Yield the series of a metric, or those of each size of requests with what one counts."""
    where: dict[str, tuple[str, ...]] = {k: (v,) for k, v in sorted(row.where.items())}
    sizes = [(label, *one) for label, table in row.weights.items() for one in sorted(table.items())]
    if not sizes:
        yield Term(metric, where, 1.0, "num")
    for label, size, weight in sizes:
        yield Term(metric, where | {label: (size,)}, weight, "num")


def _emitters(signal: Signal) -> tuple[str, ...]:
    """Return whose series count: of a service signal everybody's, of a pool's signal that pool's."""
    if signal.role in ("prefill", "decode"):
        return (signal.role, "mixed")
    return POOL_ROLES if signal.role == "emitter" else ()

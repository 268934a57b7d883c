"""Panels that Grafana exported as CSV: legends for labels, displayed values for numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hs_analysis.catalogue import load_catalogue
from hs_analysis.catalogue.rows import conversion, measured
from hs_analysis.errors import InputError, UsageError, first_of
from hs_analysis.ingest.delimited import (
    Records,
    header_names,
    numbers,
    read_delimited,
    require_names,
    with_unit,
)
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.readers.table import reject_row, timed
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes, series_text
from hs_analysis.ingest.streams import BOM, is_utf16
from hs_analysis.ingest.timestamps import Clock
from hs_analysis.patterns import Span, check, group_names, groups_in
from hs_analysis.schema.settings import Reading

LOSSES = (
    SourceLoss(
        "displayed",
        "a panel's export holds displayed values, thinned to the panel's width: variance and peaks are lost; "
        "export the query from Prometheus where you can",
    ),
    SourceLoss("legends", "a legend replaces the labels of a series: those that it leaves out are lost"),
)

LONGEST_LEGEND = 1 << 12
"""Characters of a legend; a longer one names no series."""

TIME, LONG = "Time", ("Series", "Time", "Value")

_SEPARATOR = re.compile(rb"\s*\"?sep=", re.IGNORECASE)
_PROMETHEUS = re.compile(r"([a-zA-Z_:][\w:]*)?\{(.*)\}")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def is_grafana_csv(head: bytes) -> bool:
    """Whether a head is a panel's export: a first column ``Time``, or ``Series,Time,Value``."""
    names = header_names(head, _skip(head))
    return tuple(names) == LONG or (len(names) > 1 and names[0] == TIME)


def _skip(head: bytes) -> int:
    return 1 if _SEPARATOR.match(head.removeprefix(BOM)) else 0


def read_grafana_csv(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of a panel's export, one a legend.

    Labels come from the legend: as Prometheus writes a series, or by the named groups of ``legend_regex``,
    where the group ``metric`` is the name; without it the name is what the groups leave of the legend. A
    cell's unit is undone; an empty cell is null.

    Raises
    ------
    InputError
        When legends can't be turned into labels (all are listed), or not one time carries a zone.
    UsageError
        When the regular expression is none.
    """
    skip = _skip(dump.head(64))
    if is_utf16(dump.path):
        notes.infos.append("the file is UTF-16, as Grafana writes CSV for Excel")
    clock = Clock(dump.where, dump.reading.tz, dump.reading.time_unit)
    known: dict[str, dict[str, str]] = {}
    for records in read_delimited(dump, notes, skip=skip):
        columns = records.cells.columns
        require_names(columns, (TIME,), "Grafana export", dump.where)
        long = tuple(columns) == LONG
        legends = _legends(records, long=long)
        fresh = [legend for legend in legends if legend not in known]
        known |= _labelled(fresh, dump)
        kept, t_us = timed(records, TIME, clock, notes)
        for legend in legends:
            at = np.arange(kept.cells.height)
            if long:
                at = np.flatnonzero((kept.cells["Series"] == legend).fill_null(value=False).to_numpy())
            column = "Value" if long else legend
            yield from _series(kept, column, at, known[legend], t_us, dump.reading, notes)
        if long:
            _reject_nameless(kept, notes)
    warnings, infos = clock.notes()
    notes.warnings += warnings
    notes.infos += infos
    clock.require_zone()
    _require_numbers(dump, notes)


def _require_numbers(dump: Dump, notes: ReadNotes) -> None:
    """Refuse an export of which no cell was read, by its last one; `3,45` may be 3.45 or 345."""
    rejected = notes.rejections
    if rejected and rejected.total == notes.rows and rejected[-1].reason == "bad_value":
        raise InputError(
            f"not one value is a number: line {rejected[-1].position}: {rejected[-1].detail}",
            where=dump.where, hint="write decimals with a point, for example 3.45, and export again",
        )  # fmt: skip


def _legends(records: Records, *, long: bool) -> list[str]:
    if long:
        return records.cells["Series"].drop_nulls().unique(maintain_order=True).to_list()
    return [name for name in records.cells.columns if name.partition("#")[0] != TIME]


def _reject_nameless(records: Records, notes: ReadNotes) -> None:
    for i in np.flatnonzero(records.cells["Series"].is_null().to_numpy()).tolist():
        reject_row(records, i, "bad_value", "no name in 'Series'", notes)


def _labelled(legends: Sequence[str], dump: Dump) -> dict[str, dict[str, str]]:
    """Return the labels of every legend."""
    pattern = _pattern(dump.reading.legend_regex)
    texts = ["" if len(legend) > LONGEST_LEGEND else _written(legend, legends) for legend in legends]
    if pattern is None:
        read = [_labels(text, dump) for text in texts]
    else:
        places = groups_in(pattern, texts)
        read = [_named(text, place, dump) for text, place in zip(texts, places, strict=True)]
    found = dict(zip(legends, read, strict=True))
    missing = [legend for legend, labels in found.items() if labels is None]
    if missing:
        named = first_of([repr(legend)[:60] for legend in missing], 20)
        what = "do not match --legend-regex" if pattern is not None else "carry no labels"
        raise InputError(
            f"legends that {what}: {named}", where=dump.where,
            hint=r"name the parts, for example --legend-regex '(?P<pod>\S+) (?P<metric>.*)'",
        )  # fmt: skip
    return {legend: labels for legend, labels in found.items() if labels is not None}


def _written(legend: str, legends: Sequence[str]) -> str:
    """Return a legend as the panel has it: a header's second one of a name carries a number of ours.

    Both are then one series, whose values must agree; a pod named after the number would be one too many.
    """
    name, _, number = legend.rpartition("#")
    return (name if number.isdigit() and name in legends else legend).strip()


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    if not group_names(check(text, "--legend-regex")):
        raise UsageError(
            "the regular expression names no group", where="--legend-regex", hint=r"for example (?P<pod>\S+)"
        )
    return text


def _labels(legend: str, dump: Dump) -> dict[str, str] | None:
    """Return the labels of a legend that is a series as Prometheus writes it, or a metric that is known."""
    series = _PROMETHEUS.fullmatch(legend)
    if series is None:
        return {"__name__": legend} if _known_metric(legend, dump.reading) else None
    return {"__name__": series[1] or _stem(dump), **dict(_LABEL.findall(series[2]))}


def _named(legend: str, places: Mapping[str, Span] | None, dump: Dump) -> dict[str, str] | None:
    """Return what the groups of the user's pattern name in a legend; what they leave names the metric."""
    if places is None or not legend:
        return None
    raw = legend.encode("utf-8", "replace")
    groups = {name: raw[start:end].decode() for name, (start, end) in places.items() if end > start}
    left = bytearray(raw)
    for start, end in places.values():
        left[start:end] = b" " * (end - start)
    metric = groups.pop("metric", "") or " ".join(left.decode().split()) or _stem(dump)
    return {"__name__": metric, **groups}


def _known_metric(name: str, reading: Reading) -> bool:
    return name in reading.metrics or load_catalogue().first_signal(name) is not None


def _stem(dump: Dump) -> str:
    return dump.name.rpartition("/")[2].partition(".")[0]


def _series(
    records: Records, column: str, at: np.ndarray, labels: Mapping[str, str], t_us: np.ndarray,
    reading: Reading, notes: ReadNotes,
) -> Iterator[RawSeries]:  # fmt: skip
    cells = records.cells[column]
    found = numbers(cells)
    values, flags, bad = found.values, found.flags, found.bad
    text = series_text(dict(labels))
    for i in at[bad[at]].tolist():
        value = _undone(cells[i], labels["__name__"], reading)
        if value is None:
            reject_row(records, i, "bad_value", f"{cells[i]!r} is no number"[:120], notes, column, text)
        else:
            values[i], flags[i], bad[i] = value, 0, False
    use = at[~bad[at]]
    notes.rows += use.size
    notes.last_series = text
    if use.size:
        yield RawSeries(dict(labels), t_us[use], values[use], flags[use], int(records.lines[use[0]]))


def _undone(text: str, metric: str, reading: Reading) -> float | None:
    """Return a displayed value in the unit the metric has: the user's, the exporter's, else the base unit."""
    read = with_unit(text)
    if read is None:
        return None
    value, unit = read
    if not unit:
        return value
    row = reading.metrics.get(metric)
    if row is not None and row.unit is not None:
        size = conversion(unit, row.unit)
        return None if size is None else value * size
    for signal in load_catalogue().signals:
        for source in signal.sources:
            if len(source.terms) == 1 and source.terms[0].metric == metric and source.read == "gauge":
                size = conversion(unit, signal.unit)
                return None if size is None else value * size / source.scale
    base = measured(unit)
    return None if base is None else value * base[1]

"""Answers of Cloud Monitoring's ``timeSeries.list``, managed Prometheus metrics and others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hs_analysis.errors import first_of
from hs_analysis.ingest.answer_fields import (
    FieldError,
    SampleGatherer,
    member,
    sample_value,
    text_us,
    whole_number,
)
from hs_analysis.ingest.exporter_names import ExporterNames, labels_from
from hs_analysis.ingest.json_records import objects
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes

LOSSES = (
    SourceLoss(
        "adjusted",
        "counters are adjusted: the first sample of each is not there and is taken off the later ones, so "
        "rates are those of the exporter and totals are not",
        always=False,
    ),
    SourceLoss(
        "edges",
        "a bucket holds what lies below its upper edge, not what equals it: values at an edge count to the "
        "next bucket, and a share over a limit at an edge is an upper bound",
        always=False,
    ),
    SourceLoss(
        "aligned",
        "some series were aligned when they were asked for: they hold differences or rates of periods, and "
        "look calmer than the exporter's values; ask without an aligner",
        always=False,
    ),
)

_HEAD = re.compile(rb'\{\s*"(timeSeries|nextPageToken|unit|executionErrors|unreachable)"\s*:')

_LIST = re.compile(rb'\[\s*\{\s*"(metric|metricKind|metadata|points|resource)"\s*:')
"""What the command line prints: the series of all pages in one list."""

PROMETHEUS = "prometheus.googleapis.com/"
_TYPES = re.compile(r"(?P<name>.+)/(?:gauge|counter|histogram|summary|unknown(?::counter)?)")

VALUES = ("doubleValue", "int64Value", "boolValue", "distributionValue")

MOST_BUCKETS = 1 << 12
"""Cloud Monitoring stores at most 200 of a distribution."""


def is_gcp_timeseries(head: bytes) -> bool:
    """Return whether a file begins with an answer of timeSeries.list."""
    is_page = bool(_HEAD.match(head)) and b'"timeSeries"' in head
    return (is_page or bool(_LIST.match(head))) and b'"metricKind"' in head


def read_gcp_timeseries(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of every page or list in a file, distributions as histograms.

    The time of a point is its end. Points of kind DELTA are increases; a counter that began again, which a
    new start time says, gets a sample of 0 there unless it fell.

    Raises
    ------
    InputError
        When the file is cut or no JSON.
    """
    reader = _GcpReader(dump, notes)
    token = None
    for at, document in objects(dump, notes):
        if isinstance(document.get("metric"), dict):
            reader.take(document, at, "")
            yield from reader.gathered.many()
            continue
        if not isinstance(document.get("timeSeries"), list) and not document.get("executionErrors"):
            reader.gathered.reject(at, document, FieldError("bad_json", "no list timeSeries"), "", None)
            continue
        token = document.get("nextPageToken")
        if document.get("executionErrors"):
            errors = str(document["executionErrors"])[:160]
            notes.warnings.append(f"the answer is incomplete: {errors}")
        for i, series in enumerate(member(document, "timeSeries", list)):
            reader.take(series, at, f"timeSeries[{i}]")
            yield from reader.gathered.many()
    if token:
        notes.warnings.append("the last page names a next one (nextPageToken): series may go on there")
    yield from reader.gathered.rest()
    reader.end()


_GcpPoint = tuple[int | None, int, Mapping[str, Any], str]
"""Start and end [us UTC], value, and place of a point."""


class _GcpReader:
    """Turns time series into samples."""

    def __init__(self, dump: Dump, notes: ReadNotes) -> None:
        self.gathered = SampleGatherer(notes)
        self._notes = notes
        self._names = ExporterNames(dump.reading)
        self._restarts = 0
        self._rates: set[str] = set()

    def take(self, series: Any, at: int, path: str) -> None:
        """Take one time series, its points newest first or not."""
        metric = member(series, "metric", dict) if isinstance(series, dict) else {}
        kind = metric.get("type")
        if not isinstance(kind, str) or not kind:
            self.gathered.reject(at, series, FieldError("bad_json", "no metric type"), path, None)
            return
        name, rest = _metric_name(kind), _labels(series, metric)
        metric_kind = series.get("metricKind")
        is_rate = metric_kind == "GAUGE" and "/unknown" not in kind
        if is_rate and self._names.is_counter(self._names.find(name)):
            name = f"{name}:rate"
            self._rates.add(name)
        points = []
        for i, raw in enumerate(member(series, "points", list)):
            where = f"{path}.points[{i}]"
            try:
                points.append(_point(raw, where))
            except FieldError as error:
                self.gathered.reject(at, raw, error, where, {**rest, "__name__": name})
        points.sort(key=lambda point: point[1])
        self._in_order(name, rest, points, metric_kind, at)

    def _in_order(
        self, name: str, rest: Mapping[str, str], points: Sequence[_GcpPoint], kind: Any, at: int
    ) -> None:
        """Gather points in time order, and where counting began."""
        begins = _begins(points) if kind == "CUMULATIVE" else kind == "DELTA"
        last: tuple[int | None, float] | None = None
        for start_us, t_us, value, where in points:
            try:
                made = self._parts(name, value)
            except FieldError as error:
                self.gathered.reject(at, value, error, where, {**rest, "__name__": name})
                continue
            if last is not None:
                begins = kind == "CUMULATIVE" and last[0] != start_us and made[-1][2] >= last[1]
            from_us = None
            if begins and start_us is not None and start_us + 1 < t_us:
                from_us = start_us + 1
                self._restarts += last is not None
            self._gather(made, rest, t_us, from_us, kind, at)
            last = (start_us, made[-1][2])

    def _gather(
        self, made: Sequence[tuple[str, str, float, int]], rest: Mapping[str, str], t_us: int,
        from_us: int | None, kind: Any, at: int,
    ) -> None:  # fmt: skip
        """Gather the samples of one point, and of 0 where counting began."""
        delta = kind == "DELTA"
        if delta:
            self._notes.losses.add("aligned")
        elif kind == "CUMULATIVE":
            self._notes.losses.add("adjusted")
        for name, le, value, flag in made:
            labels = {**rest, "__name__": name, **({"le": le} if le else {})}
            if from_us is not None and kind in ("DELTA", "CUMULATIVE"):
                self.gathered.add(labels, from_us, 0.0, 0, at, increases=delta)
            self.gathered.add(labels, t_us, value, flag, at, increases=delta)

    def _parts(self, name: str, value: Mapping[str, Any]) -> list[tuple[str, str, float, int]]:
        """Return name, edge, value and flag of every sample of a point; the count or the value comes last."""
        kind = next((one for one in VALUES if one in value), None)
        if kind is None:
            raise FieldError("bad_value", f"none of {', '.join(VALUES)}")
        if kind != "distributionValue":
            raw = value[kind]
            number = float(raw) if isinstance(raw, bool) else raw
            return [(self._names.find(name), "", *sample_value(number))]
        self._notes.losses.add("edges")
        family = self._names.find_family(name)
        return _histogram(family, member(value, "distributionValue", dict))

    def end(self) -> None:
        """Say what was found on the way."""
        self._names.note(self._notes)
        if self._rates:
            self._notes.losses.add("aligned")
            self._notes.warnings.append(
                f"{len(self._rates)} counters were asked for with a rate aligner "
                f"({first_of(sorted(self._rates), 3)}): ask without one, or say under [metrics] what they are"
            )
        if self._restarts:
            self._notes.infos.append(
                f"{self._restarts} restarts that no value shows are written as a sample of 0 at the new start"
            )


def _begins(points: Sequence[_GcpPoint]) -> bool:
    """Whether a counter's first point is the first since it began: its start lies a few points before."""
    gaps = [after[1] - before[1] for before, after in pairwise(points) if after[1] > before[1]]
    start_us = points[0][0] if points else None
    return start_us is not None and bool(gaps) and points[0][1] - start_us <= NEAR_START * min(gaps)


NEAR_START = 2.5
"""Points that a counter's start may lie before its first one; default of this project."""


def _metric_name(kind: str) -> str:
    """Return the name in a metric's type: of a Prometheus metric what stands before its kind."""
    inner = kind.removeprefix(PROMETHEUS)
    match = _TYPES.fullmatch(inner) if inner != kind else None
    return match["name"] if match else inner


def _labels(series: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of metric, resource and metadata, of two that are one that of the metric."""
    metadata = member(series, "metadata", dict)
    holders = (
        member(metric, "labels", dict),
        member(member(series, "resource", dict), "labels", dict),
        member(metadata, "userLabels", dict),
        member(metadata, "systemLabels", dict),
    )
    return labels_from((str(k), v) for holder in holders for k, v in holder.items() if isinstance(v, str))


def _point(raw: Any, where: str) -> _GcpPoint:
    """Return start, end, value and place of a point."""
    if not isinstance(raw, dict):
        raise FieldError("bad_json", "a point that is no object")
    interval = member(raw, "interval", dict)
    t_us = text_us(interval.get("endTime"))
    start = interval.get("startTime")
    return None if start is None else text_us(start), t_us, member(raw, "value", dict), where


def _histogram(family: str, value: Mapping[str, Any]) -> list[tuple[str, str, float, int]]:
    count = whole_number(value.get("count", 0))
    mean, flag = sample_value(value.get("mean", 0))
    if count is None or count < 0:
        raise FieldError("bad_value", "count is no whole number")
    counts = [whole_number(one) for one in member(value, "bucketCounts", list)]
    edges = _edges(member(value, "bucketOptions", dict), len(counts))
    if any(one is None or one < 0 for one in counts) or len(counts) > len(edges) + 1:
        raise FieldError("bad_le", f"{len(counts)} bucket counts for {len(edges)} edges")
    made = [(f"{family}_sum", "", mean * count, flag)]
    total = 0
    for i, edge in enumerate(edges):  # trailing counts of 0 are not written
        total += (counts[i] or 0) if i < len(counts) else 0
        made.append((f"{family}_bucket", f"{edge:.12g}", float(total), 0))
    if edges:
        made.append((f"{family}_bucket", "+Inf", float(count), 0))
    return [*made, (f"{family}_count", "", float(count), 0)]


def _edges(options: Mapping[str, Any], most: int) -> list[float]:
    """Return the finite edges of a distribution's buckets, none without options."""
    if explicit := member(options, "explicitBuckets", dict):
        edges = [sample_value(edge)[0] for edge in member(explicit, "bounds", list)]
    elif linear := member(options, "linearBuckets", dict):
        number, width, offset = _three(linear, "numFiniteBuckets", "width", "offset")
        edges = [offset + width * i for i in range(int(number) + 1)]
    elif exponential := member(options, "exponentialBuckets", dict):
        number, growth, scale = _three(exponential, "numFiniteBuckets", "growthFactor", "scale")
        if number * math.log(max(abs(growth), 1.0)) > 700:
            raise FieldError("bad_le", "edges beyond all numbers")
        edges = [scale * growth**i for i in range(int(number) + 1)]
    else:
        return []
    rising = edges == sorted(set(edges)) and not any(map(math.isnan, edges))
    if not rising or not edges or len(edges) > MOST_BUCKETS or most > MOST_BUCKETS:
        raise FieldError("bad_le", "edges of buckets that do not rise, or too many")
    return edges


def _three(options: Mapping[str, Any], number: str, first: str, second: str) -> tuple[float, float, float]:
    count = whole_number(options.get(number))
    one, flag = sample_value(options.get(first))
    other, odd = sample_value(options.get(second, 0))
    if count is None or not 0 < count < MOST_BUCKETS or flag or odd:
        raise FieldError("bad_le", f"{number}, {first} or {second} is no number of a bucket")
    return float(count), one, other

"""Metrics in OTLP's JSON, as the collector's file exporter writes them: one export request a line.

The fields are those of opentelemetry-proto's ``metrics.proto``; JSON writes 64-bit numbers as texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hs_analysis.ingest.answer_fields import (
    FieldError,
    Labels,
    SampleGatherer,
    member,
    sample_value,
    unix_us,
    whole_number,
)
from hs_analysis.ingest.exporter_names import ExporterNames, labels_from
from hs_analysis.ingest.json_records import json_batches
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.rows import NULL, STALE, Dump, RawSeries, ReadNotes

LOSSES = (
    SourceLoss(
        "delta",
        "its counters hold differences: what was counted before the first one and between two that do not "
        "touch is unknown, and totals count from the first file",
        always=False,
    ),
    SourceLoss(
        "exponential",
        "exponential histograms have no edge at your limit: their buckets are read at edges 9 % apart or "
        "further, from 61 us to 1,024 s, so a share over a limit lies between two edges",
        always=False,
    ),
    SourceLoss(
        "gen_ai",
        "the metrics gen_ai.* know no queue, no running requests, no KV cache and no GPU: they are evidence "
        "for latency limits and can scale nothing; export the engine's own metrics too",
        always=False,
    ),
    SourceLoss(
        "summary",
        "summaries give quantiles that can't be put together over instances: only their sums and counts are "
        "read",
        always=False,
    ),
)

DELTA, CUMULATIVE = 1, 2
"""Aggregation temporality: since the last point, or since the start."""

_TEMPORALITIES = {
    1: DELTA, 2: CUMULATIVE,
    "AGGREGATION_TEMPORALITY_DELTA": DELTA, "AGGREGATION_TEMPORALITY_CUMULATIVE": CUMULATIVE,
}  # fmt: skip
"""OTLP writes the number, protobuf's own JSON the name."""

NO_RECORDED_VALUE = 1
"""Bit of ``flags``: the series ended here, as a staleness marker of Prometheus."""

MOST_SCALE = 20
"""Finest scale of an exponential histogram (OpenTelemetry specification, metrics SDK)."""

MOST_BUCKETS = 1 << 12
"""Of one histogram; SDKs keep 160 by default, explicit ones some tens."""

MOST_DEPTH = 4
"""Lists in attributes are written as texts up to here."""

NANOSECONDS = 1_000_000_000

KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")

_START = re.compile(rb'\{\s*"resourceMetrics"\s*:\s*\[')


def is_otlp_jsonl(head: bytes) -> bool:
    """Return whether a file begins with an export request of metrics."""
    return bool(_START.match(head))


def read_otlp_jsonl(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of export requests of metrics, histograms as Prometheus writes them.

    A row is a sample of a series: a histogram's point gives one for each bucket, the sum and the count. A
    counter that began again, which a new start time says, gets a sample of 0 there unless it fell. Points of
    delta temporality are yielded as increases. A point that can't be read is set aside with its place.

    Raises
    ------
    InputError
        When the file can't be opened, or a line or document never ends.
    """
    reader = _OtlpReader(notes, ExporterNames(dump.reading))
    for place, request in json_batches(dump, notes):
        reader.take(place, request)
        yield from reader.gathered.many()
    yield from reader.gathered.rest()
    reader.end()


@dataclass
class _Last:
    """The last point of a series, so far as the next one is judged by it."""

    start_us: int
    t_us: int
    value: float


@dataclass(frozen=True)
class _Point:
    """Where a data point stands, and what all its samples share."""

    place: int
    path: str
    raw: Mapping[str, Any]
    labels: dict[str, str]
    start_us: int | None
    t_us: int
    is_stale: bool


@dataclass
class _OtlpReader:
    """Takes export requests one after the other."""

    notes: ReadNotes
    names: ExporterNames
    gathered: SampleGatherer = field(init=False)
    clashes: int = 0
    restarts: int = 0
    pauses: int = 0
    _last: dict[Labels, _Last] = field(default_factory=dict)
    _scales: dict[Labels, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gathered = SampleGatherer(self.notes)

    def take(self, place: int, request: Mapping[str, Any]) -> None:
        """Take one request; one of another kind is set aside whole."""
        if not isinstance(request.get("resourceMetrics"), list):
            other = next((k for k in ("resourceSpans", "resourceLogs") if k in request), "")
            detail = f"{other} are no metrics" if other else "no list resourceMetrics"
            _reject(self.notes, place, request, detail, "")
            return
        for i, of_resource in enumerate(request["resourceMetrics"]):
            path = f"resourceMetrics[{i}]"
            if not isinstance(of_resource, dict):
                _reject(self.notes, place, of_resource, "no object", path)
                continue
            resource = _attributes(member(of_resource, "resource", dict))
            for j, of_scope in enumerate(member(of_resource, "scopeMetrics", list)):
                inner = f"{path}.scopeMetrics[{j}]"
                if not isinstance(of_scope, dict):
                    _reject(self.notes, place, of_scope, "no object", inner)
                    continue
                shared = {**resource, **_attributes(member(of_scope, "scope", dict))}
                for k, metric in enumerate(member(of_scope, "metrics", list)):
                    self._metric(place, f"{inner}.metrics[{k}]", metric, shared)

    def _metric(self, place: int, path: str, metric: Any, shared: Mapping[str, str]) -> None:
        name = metric.get("name") if isinstance(metric, dict) else None
        kind = next((k for k in KINDS if isinstance(metric, dict) and isinstance(metric.get(k), dict)), None)
        if not isinstance(name, str) or not name or kind is None:
            detail = "no name" if kind else f"none of {', '.join(KINDS)}"
            _reject(self.notes, place, metric, detail, path)
            return
        if name.startswith("gen_ai."):
            self.notes.losses.add("gen_ai")
        unit = metric.get("unit") if isinstance(metric.get("unit"), str) else ""
        data = metric[kind]
        temporality = _TEMPORALITIES.get(_hashable(data.get("aggregationTemporality")))
        for i, raw in enumerate(member(data, "dataPoints", list)):
            where = f"{path}.{kind}.dataPoints[{i}]"
            try:
                point = self._point(place, where, raw, shared)
                if kind not in ("gauge", "summary") and temporality is None:
                    raise FieldError("bad_value", "no aggregation temporality")
                self._samples(kind, name, unit, data, temporality, point)
            except FieldError as error:
                self.gathered.reject(place, raw, error, where, {"__name__": name})

    def _point(self, place: int, path: str, raw: Any, shared: Mapping[str, str]) -> _Point:
        if not isinstance(raw, dict):
            raise FieldError("bad_json", "a data point that is no object")
        own = _attributes(raw)
        self.clashes += sum(1 for key in own if key in shared and shared[key] != own[key])
        t_us = unix_us(raw.get("timeUnixNano"), NANOSECONDS)
        begun = raw.get("startTimeUnixNano")
        start_us = unix_us(begun, NANOSECONDS) if begun not in (None, 0, "0", "") else None
        flags = whole_number(raw.get("flags")) or 0
        labels = _named_labels({**own, **{k: v for k, v in shared.items() if k not in own}})
        return _Point(place, path, raw, labels, start_us, t_us, bool(flags & NO_RECORDED_VALUE))

    def _samples(
        self, kind: str, name: str, unit: str, data: Mapping[str, Any], temporality: int | None, point: _Point
    ) -> None:
        delta = temporality == DELTA
        if kind == "gauge" or (kind == "sum" and data.get("isMonotonic") is not True):
            if kind == "sum" and delta:
                raise FieldError("bad_value", "differences of a level whose start is unknown")
            self._one(self.names.find(name, unit=unit), {}, point, _number(point.raw), counter=False)
        elif kind == "sum":
            self._one(self.names.find(name, unit=unit), {}, point, _number(point.raw), delta=delta)
        elif kind == "summary":
            self.notes.losses.add("summary")
            self._sum_and_count(self.names.find_family(name, unit=unit), point, delta=False)
        else:
            family = self.names.find_family(name, unit=unit)
            edges, counts = self._buckets(kind, point)
            self._sum_and_count(family, point, delta=delta)
            total = 0
            for edge, count in zip(edges, counts, strict=True):
                total += count
                le = "+Inf" if math.isinf(edge) else f"{edge:.12g}"
                self._one(f"{family}_bucket", {"le": le}, point, float(total), delta=delta)
        if delta:
            self.notes.losses.add("delta")

    def _sum_and_count(self, family: str, point: _Point, *, delta: bool) -> None:
        count = whole_number(point.raw.get("count", 0))
        if count is None or count < 0:
            raise FieldError("bad_value", "count is no whole number")
        if "sum" in point.raw:
            value, flag = sample_value(point.raw["sum"])
            self._one(f"{family}_sum", {}, point, value, flag=flag, delta=delta)
        self._one(f"{family}_count", {}, point, float(count), delta=delta)

    def _buckets(self, kind: str, point: _Point) -> tuple[Sequence[float], Sequence[int]]:
        if kind == "histogram":
            return _explicit(point.raw)
        self.notes.losses.add("exponential")
        key = frozenset(point.labels.items())
        scale = whole_number(point.raw.get("scale", 0))
        if scale is None or abs(scale) > MOST_SCALE:
            raise FieldError("bad_value", f"a scale outside of ±{MOST_SCALE}")
        self._scales[key] = scale = min(scale, self._scales.get(key, scale), COARSE_SCALE)
        return _exponential(point.raw, scale)

    def _one(
        self, name: str, more: Mapping[str, str], point: _Point, value: float | None, *,
        flag: int = 0, counter: bool = True, delta: bool = False,
    ) -> None:  # fmt: skip
        """Gather one sample; a counter's also says where it began to count."""
        labels = {**point.labels, **more, "__name__": name}
        if point.is_stale:
            value, flag = math.nan, STALE
        elif value is None:
            value, flag = math.nan, NULL
        if counter and not point.is_stale:
            self._began(labels, point, value, delta=delta)
        self.gathered.add(labels, point.t_us, value, flag, point.place, increases=delta)

    def _began(self, labels: dict[str, str], point: _Point, value: float, *, delta: bool) -> None:
        """Say where a counter began to count, if the samples would not: a microsecond after its start."""
        start_us = point.start_us
        if start_us is None or start_us + 1 >= point.t_us:
            return
        key = frozenset(labels.items())
        last = self._last.get(key)
        if last is not None and last.t_us <= point.t_us:
            touches = start_us == last.t_us if delta else start_us == last.start_us
            if delta and start_us > last.t_us:
                self.pauses += 1
            if not touches and not delta and start_us >= last.t_us and value >= last.value:
                self.restarts += 1
                self.gathered.add(labels, start_us + 1, 0.0, 0, point.place)
        elif last is None and delta:
            self.gathered.add(labels, start_us + 1, 0.0, 0, point.place, increases=True)
        self._last[key] = _Last(start_us, point.t_us, value)

    def end(self) -> None:
        """Say what was found on the way."""
        self.names.note(self.notes)
        if self.clashes:
            self.notes.infos.append(
                f"{self.clashes} attributes of points replace others of the same name of their resource"
            )
        if self.restarts:
            self.notes.infos.append(
                f"{self.restarts} restarts that no value shows are written as a sample of 0 at the new start"
            )
        if self.pauses:
            self.notes.warnings.append(
                f"{self.pauses} differences do not begin where the ones before them end: "
                "what was counted between is missing"
            )


COARSE_SCALE = 3
"""Finest scale that is kept of an exponential histogram: edges 9 % apart, some hundred of them over the
latencies of a service; default of this project."""


def _reject(notes: ReadNotes, place: int, raw: Any, detail: str, path: str) -> None:
    SampleGatherer(notes).reject(place, raw, FieldError("bad_json", detail), path, None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _number(raw: Mapping[str, Any]) -> float | None:
    """Return a point's number; a member that is left out is 0, as in all of protobuf's JSON."""
    if "asDouble" in raw:
        value, flag = sample_value(raw["asDouble"])
        return None if flag else value
    if "asInt" in raw:
        found = whole_number(raw["asInt"])
        if found is None:
            raise FieldError("bad_value", "asInt is no whole number")
        return float(found)
    return 0.0


def _counts(raw: Any) -> list[int]:
    found = [whole_number(one) for one in raw] if isinstance(raw, list) else []
    if len(found) > MOST_BUCKETS or any(one is None or one < 0 for one in found):
        raise FieldError("bad_le", f"bucket counts that are no whole numbers, or over {MOST_BUCKETS}")
    return [one for one in found if one is not None]


def _explicit(raw: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    """Return upper edges, the last one infinite, and what each bucket counts; nothing without buckets."""
    counts = _counts(raw.get("bucketCounts", []))
    bounds = raw.get("explicitBounds", [])
    if not counts and not bounds:
        return [], []
    edges = [sample_value(bound)[0] for bound in bounds] if isinstance(bounds, list) else [math.nan]
    if (
        len(counts) != len(edges) + 1
        or any(math.isnan(edge) for edge in edges)
        or edges != sorted(set(edges))
    ):
        raise FieldError("bad_le", f"{len(counts)} bucket counts for {len(edges)} bounds, which must rise")
    return [*edges, math.inf], counts


def _exponential(raw: Mapping[str, Any], scale: int) -> tuple[list[float], list[int]]:
    """Return upper edges at a coarser scale, the last one infinite, and what each bucket counts.

    Edges are the same whatever a point holds, so that every bucket is one series over time.
    """
    if any(_counts(member(member(raw, "negative", dict), "bucketCounts", list))):
        raise FieldError("native_histogram", "buckets of negative values are not read")
    positive = member(raw, "positive", dict)
    offset = whole_number(positive.get("offset", 0))
    zeros = whole_number(raw.get("zeroCount", 0))
    if offset is None or abs(offset) > 1 << 30 or zeros is None or zeros < 0:
        raise FieldError("bad_value", "offset or zeroCount is no whole number")
    own_scale = whole_number(raw.get("scale", 0)) or 0
    merged: dict[int, int] = {}
    for i, count in enumerate(_counts(positive.get("bucketCounts", []))):
        index = (offset + i) >> (own_scale - scale)
        merged[index] = merged.get(index, 0) + count
    base_log2 = 2.0**-scale
    if any(not -1000 < (index + 1) * base_log2 < 1000 for index in merged):
        raise FieldError("bad_le", "a bucket beyond all numbers")
    least, most = LATENCY_EDGES_LOG2
    low, high = math.floor(least / base_log2), math.ceil(most / base_log2)
    edges = [2.0 ** (index * base_log2) for index in range(low, high + 1)]
    counts = [0] * len(edges)
    beyond = 0
    for index, count in merged.items():
        at = max(index + 1 - low, 0)
        if at < len(edges):
            counts[at] += count
        else:
            beyond += count
    counts[0] += zeros
    return [*edges, math.inf], [*counts, beyond]


LATENCY_EDGES_LOG2 = (-14, 10)
"""Exponents of two of the least and the largest edge that exponential histograms are read at: 61 µs and
1,024 s in seconds; what lies outside counts to the edge buckets; default of this project."""


def _attributes(holder: Mapping[str, Any]) -> dict[str, str]:
    """Return attributes as texts; those without a name or value are left out."""
    found: dict[str, str] = {}
    for one in member(holder, "attributes", list):
        if isinstance(one, dict) and isinstance(one.get("key"), str) and one["key"]:
            found[one["key"]] = _text(one.get("value"), MOST_DEPTH)
    return found


def _text(value: Any, depth: int) -> str:
    """Return an attribute's value as a text: ``{"stringValue": "a"}`` is ``a``, a list has commas."""
    if not isinstance(value, dict) or depth == 0:
        return ""
    for kind, inner in value.items():
        if kind == "arrayValue" and isinstance(inner, dict):
            return ",".join(_text(one, depth - 1) for one in member(inner, "values", list))
        if kind == "kvlistValue" and isinstance(inner, dict):
            pairs = (one for one in member(inner, "values", list) if isinstance(one, dict))
            return ",".join(f"{one.get('key')}={_text(one.get('value'), depth - 1)}" for one in pairs)
        if kind == "boolValue":
            return "true" if inner is True else "false"
        if isinstance(inner, str | int | float):
            return str(inner)
    return ""


def _named_labels(attributes: dict[str, str]) -> dict[str, str]:
    """Return labels as Prometheus has them: job of the service's name, model_name of the model."""
    space, service = attributes.pop("service.namespace", ""), attributes.pop("service.name", "")
    if service and "job" not in attributes:
        attributes["job"] = f"{space}/{service}" if space else service
    model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model")
    if model and "model_name" not in attributes:
        attributes["model_name"] = model
    return labels_from(attributes.items())

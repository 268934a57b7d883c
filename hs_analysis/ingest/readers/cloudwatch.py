"""CloudWatch: answers of GetMetricData with their requests, and the JSON of metric streams.

The agent's Prometheus path writes counters as what they gained and leaves histograms out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hs_analysis.errors import InputError, first_of
from hs_analysis.ingest.answer_fields import (
    FieldError,
    SampleGatherer,
    member,
    sample_value,
    text_us,
    unix_us,
    whole_number,
)
from hs_analysis.ingest.exporter_names import ExporterNames, labels_from
from hs_analysis.ingest.json_records import json_batches, objects
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.request_files import REQUEST_ONLY, request_beside
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes
from hs_analysis.ingest.text_lines import SERIES, BadLabelsError, parse_series

_BUCKETS = SourceLoss(
    "no_histograms",
    "the agent leaves histograms out: there are no latencies, neither means nor shares over a limit, so no "
    "limit can be studied; export them from the engine's own Prometheus",
)
_INCREASES = SourceLoss(
    "increases",
    "counters come as what they gained in each period: a restart does not show, and totals count from the "
    "first file",
)

DATA_LOSSES = (
    SourceLoss(
        "period",
        "one value a period, which is 60 s or more for history older than 3 h: peaks and variance inside it "
        "are lost, and signals look calmer than they are; of more than 15 days only 5 min are kept",
    ),
    _BUCKETS,
    _INCREASES,
    SourceLoss(
        "names_in_request",
        "answers name a series only by the caller's Id and Label: metric, dimensions, period and statistic "
        "are those of the request",
    ),
)
STREAM_LOSSES = (
    SourceLoss(
        "period",
        "one value a minute, the mean of what was put: peaks and variance inside it are lost, and signals "
        "look calmer than they are",
    ),
    _BUCKETS,
    _INCREASES,
)

MARK = b'"MetricDataQueries"'
_ANSWER = re.compile(rb'\{\s*"(MetricDataResults|Messages|NextToken|ResponseMetadata)"\s*:')
_STREAM = re.compile(rb'\{[^{}\n]{0,200}?"metric_stream_name"\s*:')

STREAM_PERIOD_S = 60
"""A metric stream gives every minute [s] (CloudWatch user guide, metric streams)."""

LONGEST_PERIOD_S = 455 * 86_400
"""No period is longer than what is kept [s] (CloudWatch user guide, retention)."""

MOST_DIMENSIONS = 30
"""A metric of CloudWatch has no more."""


def is_cloudwatch_data(head: bytes) -> bool:
    """Return whether a file begins with an answer of GetMetricData, or its request."""
    is_answer = bool(_ANSWER.match(head)) and b'"MetricDataResults"' in head
    return is_answer or (head[:1] == b"{" and MARK in head)


def is_cloudwatch_stream(head: bytes) -> bool:
    """Return whether a file begins with a line of a metric stream."""
    return bool(_STREAM.match(head)) and b'"metric_name"' in head


def read_cloudwatch_data(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of every answer in a file, pages one after the other; a request alone holds none.

    The sum of a counter is what it gained in its period, the average of a gauge its value; any other
    statistic is a series of its own, called ``NAME:statistic``. Without a request a label that is a series as
    Prometheus writes it names one.

    Raises
    ------
    InputError
        When the file is cut or no JSON, or nothing says what the series are.
    """
    reader = _CloudwatchReader(dump, notes)
    requests = list[Mapping[str, Any]]()
    pages, is_last_whole = 0, True
    for at, document in objects(dump, notes):
        if isinstance(document.get("MetricDataQueries"), list):
            requests.append(document)
            if "MetricDataResults" not in document:
                continue
        if not isinstance(document.get("MetricDataResults"), list):
            reader.gathered.reject(
                at, document, FieldError("bad_json", "no list MetricDataResults"), "", None
            )
            continue
        pages += 1
        if pages == 1 and not requests and (beside := request_beside(dump, MARK, _is_request)):
            requests.append(beside[1])
            notes.infos.append(f"series are named by the request in {beside[0]}")
        asked = _queries(requests)
        for i, result in enumerate(document["MetricDataResults"]):
            reader.result(result, asked, at, f"MetricDataResults[{i}]")
        is_last_whole = not document.get("NextToken")
        yield from reader.gathered.many()
    if requests and not pages:
        notes.infos.append(REQUEST_ONLY)
    if not is_last_whole:
        notes.warnings.append("the last page names a next one (NextToken): ask on until there is none")
    if pages and reader.nameless and not reader.named:
        raise InputError(
            f"nothing says what its series are: {first_of(reader.nameless, 3)}", where=dump.where,
            hint="put the request (MetricDataQueries) next to it as NAME.request.json, or into the same file",
        )  # fmt: skip
    yield from reader.gathered.rest()
    reader.end()


def read_cloudwatch_stream(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of a metric stream's lines: means of gauges, and what counters gained in a minute.

    Raises
    ------
    InputError
        When the file can't be opened, or a line never ends.
    """
    reader = _CloudwatchReader(dump, notes)
    for line, found in json_batches(dump, notes):
        try:
            reader.put(found, line)
        except FieldError as error:
            reader.gathered.reject(line, found, error, "", None)
        yield from reader.gathered.many()
    yield from reader.gathered.rest()
    reader.end()


@dataclass(frozen=True)
class MetricQuery:
    """What one query of a request asks for; ``period_s`` is None where it does not say."""

    metric: str
    dimensions: Mapping[str, str]
    stat: str
    period_s: int | None


def _is_request(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("MetricDataQueries"), list)


def _queries(requests: Sequence[Mapping[str, Any]]) -> dict[str, MetricQuery]:
    """Return the queries of requests by Id; expressions name no metric and are left out."""
    found: dict[str, MetricQuery] = {}
    for request in requests:
        for query in member(request, "MetricDataQueries", list):
            wanted = member(query, "MetricStat", dict) if isinstance(query, dict) else {}
            metric = member(wanted, "Metric", dict)
            name = metric.get("MetricName")
            if isinstance(name, str) and name and isinstance(query.get("Id"), str):
                found[query["Id"]] = MetricQuery(
                    name, _dimensions(metric.get("Dimensions")), str(wanted.get("Stat") or "Average"),
                    whole_number(wanted.get("Period")),
                )  # fmt: skip
    return found


def _dimensions(raw: Any) -> dict[str, str]:
    """Return dimensions that stand as a list of names and values, or as an object of them."""
    if isinstance(raw, dict):
        return {str(k): str(v) for k, v in list(raw.items())[:MOST_DIMENSIONS]}
    pairs = [one for one in raw if isinstance(one, dict)] if isinstance(raw, list) else []
    return {str(one.get("Name")): str(one.get("Value") or "") for one in pairs[:MOST_DIMENSIONS]}


class _CloudwatchReader:
    """Turns statistics of periods into samples."""

    def __init__(self, dump: Dump, notes: ReadNotes) -> None:
        self.gathered = SampleGatherer(notes)
        self.nameless: list[str] = []
        self.named = 0
        self._notes = notes
        self._names = ExporterNames(dump.reading)
        self._begun: set[frozenset[tuple[str, str]]] = set()
        self._incomplete: dict[str, int] = {}
        self._other: set[str] = set()

    def result(self, result: Any, asked: Mapping[str, MetricQuery], at: int, path: str) -> None:
        """Take one result of an answer."""
        if not isinstance(result, dict):
            self.gathered.reject(at, result, FieldError("bad_json", "no object"), path, None)
            return
        status = str(result.get("StatusCode") or "Complete")
        if status != "Complete":
            self._incomplete[status] = self._incomplete.get(status, 0) + 1
        times, values = member(result, "Timestamps", list), member(result, "Values", list)
        query = asked.get(str(result.get("Id"))) or _by_label(result.get("Label"))
        if query is None:
            shown = f"Id {str(result.get('Id'))[:40]}, Label {str(result.get('Label'))[:60]}"
            self.nameless.append(shown)
            why = FieldError(
                "bad_value", f"no query says what this is ({shown}); {len(values)} values are left out"
            )
            self.gathered.reject(at, result, why, path, None)
            return
        self.named += 1
        found = []
        for i, value in enumerate(values):
            try:
                if i >= len(times):
                    raise FieldError("bad_ts", "a value without a time")
                found.append((_moment(times[i]), sample_value(value)))
            except FieldError as error:
                self.gathered.reject(at, value, error, f"{path}.Values[{i}]", {"__name__": query.metric})
        self._series(query, sorted(found), at)

    def put(self, found: Mapping[str, Any], line: int) -> None:
        """Take one line of a stream.

        Raises
        ------
        FieldError
            When it is none.
        """
        name = found.get("metric_name")
        value = found.get("value")
        if not isinstance(name, str) or not name or not isinstance(value, dict):
            raise FieldError("bad_json", "no metric_name or no value with sum and count")
        t_us = unix_us(found.get("timestamp"), 1_000)
        total, flag = sample_value(value.get("sum"))
        count, no_count = sample_value(value.get("count"))
        if no_count or count < 0:
            raise FieldError("bad_value", "count is no number from 0 on")
        dimensions = _dimensions(found.get("dimensions"))
        if self._names.is_counter(self._names.find(name)):
            self._series(MetricQuery(name, dimensions, "Sum", STREAM_PERIOD_S), [(t_us, (total, flag))], line)
            return
        mean = (total / count, flag) if count else sample_value(None)
        self._series(MetricQuery(name, dimensions, "Average", STREAM_PERIOD_S), [(t_us, mean)], line)

    def _series(self, query: MetricQuery, found: Sequence[tuple[int, tuple[float, int]]], at: int) -> None:
        name = self._names.find(query.metric)
        labels = labels_from(query.dimensions.items())
        is_counter = self._names.is_counter(name)
        if query.stat != ("Sum" if is_counter else "Average"):
            name = f"{name}:{query.stat.lower()}"
            self._other.add(name)
        labels = {**labels, "__name__": name}
        if query.stat != "Sum" or not is_counter:
            for t_us, (value, flag) in found:
                self.gathered.add(labels, t_us, value, flag, at)
            return
        said = query.period_s or 0
        period_us = (said if 0 < said <= LONGEST_PERIOD_S else _spacing_s(found)) * 1_000_000
        key = frozenset(labels.items())
        if found and key not in self._begun:
            self._begun.add(key)
            self.gathered.add(labels, found[0][0] + 1, 0.0, 0, at, increases=True)
        for t_us, (value, flag) in found:
            self.gathered.add(labels, t_us + period_us, value, flag, at, increases=True)

    def end(self) -> None:
        """Say what was found on the way."""
        self._names.note(self._notes)
        for status, count in sorted(self._incomplete.items()):
            self._notes.warnings.append(
                f"{count} results have the status {status[:40]}: parts of them are missing"
            )
        if self.nameless:
            self._notes.warnings.append(
                f"{len(self.nameless)} results are in no request, left out: {first_of(self.nameless, 2)}"
            )
        if self._other:
            shown = first_of(sorted(self._other), 3)
            self._notes.warnings.append(
                f"{len(self._other)} series are called by their statistic ({shown}): "
                "a counter needs Sum, a gauge Average; or say under [metrics] what they are"
            )


def _by_label(label: Any) -> MetricQuery | None:
    """Return what a label says that is a series as Prometheus writes it, None for any other."""
    raw = label.encode("utf-8", "replace") if isinstance(label, str) and len(label) < 1 << 12 else b""
    match = SERIES.fullmatch(raw) if b"{" in raw else None
    try:
        labels = parse_series(raw, go_escapes=True) if match else {}
    except BadLabelsError:
        return None
    name, stat = labels.pop("__name__", ""), labels.pop("stat", "Average")
    return MetricQuery(name, labels, stat, None) if name else None


def _moment(value: Any) -> int:
    """Return a time: ISO 8601 of the command line, or Unix seconds of an SDK."""
    return text_us(value) if isinstance(value, str) and not value.isdigit() else unix_us(value, 1)


def _spacing_s(found: Sequence[tuple[int, object]]) -> int:
    """Return the distance of periods, at least a minute where there is one period only."""
    gaps = [after - before for (before, _), (after, _) in pairwise(found) if after > before]
    return max(1, min(gaps) // 1_000_000) if gaps else STREAM_PERIOD_S

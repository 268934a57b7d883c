"""One capture of a Prometheus written as other back ends write their metrics, each in its documented form."""

from __future__ import annotations

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from hs_analysis.catalogue import load_catalogue

Series = tuple[dict[str, str], list[tuple[float, str]]]
"""Labels with ``__name__``, and (time [s], value)."""


def capture(path: Path, most: int) -> list[Series]:
    """Return the first samples of every series of a query_range answer that a signal is read from."""
    known = set(load_catalogue().metrics)
    answer = json.loads(gzip.decompress(path.read_bytes()))
    found = [(one["metric"], one["values"]) for one in answer["data"]["result"]]
    end = min(values[0][0] for _, values in found) + 15 * most
    kept = [(labels, [(t, v) for t, v in values if t < end]) for labels, values in found]
    return [(labels, values) for labels, values in kept if labels["__name__"] in known and values]


def prometheus(series: Sequence[Series]) -> bytes:
    result = [{"metric": labels, "values": [[t, v] for t, v in values]} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def victoriametrics(series: Sequence[Series]) -> bytes:
    lines = [
        {
            "metric": labels,
            "values": [float(v) for _, v in values],
            "timestamps": [round(t * 1000) for t, _ in values],
        }
        for labels, values in series
    ]
    return "\n".join(json.dumps(line) for line in lines).encode() + b"\n"


@dataclass(frozen=True)
class Histogram:
    """A histogram at one time: buckets by edge, cumulative, with sum and count."""

    buckets: dict[float, float]
    sum: float
    count: float


def families(series: Sequence[Series]) -> tuple[list[Series], dict[str, dict[Any, dict[float, Histogram]]]]:
    """Return the series that are no part of a histogram with buckets, and the histograms.

    Histograms are by name, by labels (a sorted tuple) and by time.
    """
    bases = {s["__name__"].removesuffix("_bucket") for s, _ in series if s["__name__"].endswith("_bucket")}
    parts: dict[str, dict[Any, dict[float, dict[Any, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    plain = []
    for labels, values in series:
        name = labels["__name__"]
        base = next((name.removesuffix(e) for e in ("_bucket", "_sum", "_count")
                     if name.endswith(e) and name.removesuffix(e) in bases), None)  # fmt: skip
        if base is None:
            plain.append((labels, values))
            continue
        part: Any = float(labels["le"]) if "le" in labels else name.removeprefix(base)
        key = tuple(sorted((k, v) for k, v in labels.items() if k not in ("__name__", "le")))
        for t, v in values:
            parts[base][key][t][part] = float(v)
    made: dict[str, dict[Any, dict[float, Histogram]]] = {}
    for base, by_labels in parts.items():
        made[base] = {
            key: {
                t: Histogram({k: v for k, v in found.items() if not isinstance(k, str)}, found["_sum"],
                             found["_count"])
                for t, found in by_time.items()
            }
            for key, by_time in by_labels.items()
        }  # fmt: skip
    return plain, made


def is_counter(name: str) -> bool:
    return load_catalogue().kind_of(name) == "counter"


TARGET = ("instance", "job", "pod", "namespace", "node")


def _attributes(pairs: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": k, "value": {"stringValue": v}} for k, v in pairs.items()]


def _resource(labels: Mapping[str, str]) -> dict[str, str]:
    names = {"instance": "service.instance.id", "job": "service.name", "pod": "k8s.pod.name",
             "namespace": "k8s.namespace.name", "node": "k8s.node.name"}  # fmt: skip
    return {names[k]: labels[k] for k in TARGET if k in labels}


def _ns(t: float) -> str:
    return str(round(t * 1000) * 1_000_000)


@dataclass
class OtlpRequests:
    """Export requests by time, each of the metrics of every target."""

    delta: bool
    by_time: dict[float, dict[Any, dict[str, Any]]] = field(default_factory=dict)

    def points(self, t: float, labels: Mapping[str, str], name: str, kind: str) -> list[dict[str, Any]]:
        """Return the list of data points of a metric of a target."""
        shape: dict[str, Any] = {} if kind == "gauge" else {"aggregationTemporality": 1 if self.delta else 2}
        shape |= {"isMonotonic": True} if kind == "sum" else {}
        targets = self.by_time.setdefault(t, {})
        metrics = targets.setdefault(tuple(_resource(labels).items()), {})
        made = metrics.setdefault(name, {"name": name, kind: {**shape, "dataPoints": []}})
        return cast("list[dict[str, Any]]", made[kind]["dataPoints"])

    def plain(self, labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> None:
        """Take a gauge or a counter."""
        name = labels["__name__"]
        own = _attributes({k: v for k, v in labels.items() if k not in (*TARGET, "__name__")})
        if is_counter(name) and self.delta:
            for t0, t1, _, gain in steps(values):
                self.points(t1, labels, name, "sum").append(
                    {
                        "attributes": own,
                        "startTimeUnixNano": _ns(t0),
                        "timeUnixNano": _ns(t1),
                        "asDouble": gain,
                    }
                )
            return
        for t, v in values:
            self.points(t, labels, name, "sum" if is_counter(name) else "gauge").append(
                {"attributes": own, "timeUnixNano": _ns(t), "asDouble": float(v)}
            )

    def histogram(self, name: str, key: Any, by_time: Mapping[float, Histogram]) -> None:
        """Take a histogram."""
        own = _attributes({k: v for k, v in key if k not in TARGET})
        last: tuple[float, Any] | None = None
        for t, one in sorted(by_time.items()):
            now = (one.sum, one.count, _apart(one.buckets))
            if not self.delta or last is not None:
                gains = _less(now, last[1]) if self.delta and last else now
                start = {"startTimeUnixNano": _ns(last[0])} if self.delta and last else {}
                self.points(t, dict(key), name, "histogram").append({
                    "attributes": own, "timeUnixNano": _ns(t), **start,
                    "count": str(round(gains[1])), "sum": gains[0],
                    "explicitBounds": [e for e in sorted(one.buckets) if not math.isinf(e)],
                    "bucketCounts": [str(round(n)) for n in gains[2]],
                })  # fmt: skip
            last = (t, now)


def otlp(series: Sequence[Series], *, delta: bool = False) -> bytes:
    """Return one export request a line for each time, as the collector's file exporter writes them."""
    plain, histograms = families(series)
    made = OtlpRequests(delta)
    for labels, values in plain:
        made.plain(labels, values)
    for name, by_labels in histograms.items():
        for key, by_time in by_labels.items():
            made.histogram(name, key, by_time)
    lines = []
    for _, targets in sorted(made.by_time.items()):
        resources = [
            {"resource": {"attributes": _attributes(dict(key))},
             "scopeMetrics": [{"scope": {"name": "prometheusreceiver"}, "metrics": list(metrics.values())}]}
            for key, metrics in targets.items()
        ]  # fmt: skip
        lines.append(json.dumps({"resourceMetrics": resources}))
    return "\n".join(lines).encode() + b"\n"


def _apart(buckets: Mapping[float, float]) -> list[float]:
    counts = [buckets[edge] for edge in sorted(buckets)]
    return [now - before for before, now in zip([0.0, *counts], counts, strict=False)]


def _less(now: Any, before: Any) -> Any:
    if now[1] < before[1]:
        return now
    return (now[0] - before[0], now[1] - before[1], [a - b for a, b in zip(now[2], before[2], strict=True)])


def iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat().replace("+00:00", "Z")


def steps(values: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float, float, float]]:
    """Yield (before, now, value, gain) of neighbouring samples of a counter."""
    for (t0, v0), (t1, v1) in pairwise(values):
        yield t0, t1, float(v1), float(v1) if float(v1) < float(v0) else float(v1) - float(v0)


def _frame(labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    rest = {k: v for k, v in labels.items() if k != "__name__"}
    numbers = [float(v) for _, v in values]
    missing = [i for i, v in enumerate(numbers) if math.isnan(v)]
    return {
        "schema": {
            "refId": "A",
            "meta": {"type": "timeseries-multi", "typeVersion": [0, 1],
                     "executedQueryString": f"Expr: {labels['__name__']}\nStep: 15s"},
            "fields": [
                {"name": "Time", "type": "time", "config": {"interval": 15000}},
                {"name": "Value", "type": "number", "typeInfo": {"frame": "float64"}, "labels": rest},
            ],
        },
        "data": {
            "values": [[round(t * 1000) for t, _ in values], [None if math.isnan(v) else v for v in numbers]],
            **({"entities": [None, {"NaN": missing}]} if missing else {}),
        },
    }  # fmt: skip


def frames(series: Sequence[Series]) -> bytes:
    """Return an answer of Grafana's /api/ds/query, a frame a series."""
    made = [_frame(labels, values) for labels, values in series]
    return json.dumps({"results": {"A": {"status": 200, "frames": made}}}).encode()


def panel_data(series: Sequence[Series]) -> bytes:
    """Return what the inspector saves as panel data: fields that carry their values."""
    listed = []
    for labels, values in series:
        frame = _frame(labels, values)
        fields = [
            {**one, "values": column}
            for one, column in zip(frame["schema"]["fields"], frame["data"]["values"], strict=True)
        ]
        listed.append(
            {"refId": "A", "meta": frame["schema"]["meta"], "fields": fields, "length": len(values)}
        )
    return json.dumps({"state": "Done", "series": listed}, indent=1).encode()


def excel(series: Sequence[Series]) -> bytes:
    """Return the CSV for Excel of a panel with all series joined by time: UTF-16 with tabs."""

    def legend(labels: Mapping[str, str]) -> str:
        pairs = ", ".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
        return f"{labels['__name__']}{{{pairs}}}".replace('"', '""')

    cells: dict[float, dict[int, str]] = defaultdict(dict)
    for i, (_, values) in enumerate(series):
        for t, v in values:
            cells[t][i] = v
    head = ["Time", *(f'"{legend(labels)}"' for labels, _ in series)]
    rows = [
        [str(round(t * 1000)), *(row.get(i, "") for i in range(len(series)))]
        for t, row in sorted(cells.items())
    ]
    text = "\r\n".join("\t".join(row) for row in [head, *rows])
    return b"\xff\xfe" + text.encode("utf-16-le")


DATADOG_NAMES = {
    "vllm:num_requests_running": "vllm.num_requests.running",
    "vllm:num_requests_waiting": "vllm.num_requests.waiting",
    "vllm:kv_cache_usage_perc": "vllm.kv_cache_usage_perc", "vllm:num_preemptions": "vllm.num_preemptions",
    "vllm:time_to_first_token_seconds": "vllm.time_to_first_token.seconds",
    "vllm:inter_token_latency_seconds": "vllm.inter_token_latency.seconds",
    "vllm:e2e_request_latency_seconds": "vllm.e2e_request_latency.seconds",
}  # fmt: skip
"""What the Agent's check of vLLM renames; any other metric keeps its name behind a namespace."""


def datadog_name(name: str) -> str:
    part = next((e for e in ("_bucket", "_sum", "_count", "_total") if name.endswith(e)), "")
    base = name.removesuffix(part)
    renamed = DATADOG_NAMES.get(base, base if base in ("up",) else f"llm.{base}")
    return renamed + {"_total": ".count"}.get(part, part.replace("_", "."))


DATADOG_TAGS = {"pod": "pod_name", "namespace": "kube_namespace", "node": "host", "le": "upper_bound"}


def _datadog(series: Sequence[Series]) -> Iterator[tuple[str, list[str], list[tuple[float, float | None]]]]:
    """Yield query, tags and points of every series: counters as what they gained since their last sample."""
    for labels, values in series:
        name = labels["__name__"]
        if labels.get("le") == "+Inf":
            continue  # it is the count
        tags = [
            f"{DATADOG_TAGS.get(k, k)}:{v}" for k, v in labels.items()
            if k not in ("__name__", "job") and (k != "instance" or "pod" not in labels)
        ]  # fmt: skip
        by = ",".join(DATADOG_TAGS.get(k, k) for k in labels if k != "__name__")
        if is_counter(name):
            query = f"sum:{datadog_name(name)}{{*}} by {{{by}}}.as_count().fill(null)"
            points: list[tuple[float, float | None]] = [(t0, gain) for t0, _, _, gain in steps(values)]
        else:
            query = f"avg:{datadog_name(name)}{{*}} by {{{by}}}.fill(null)"
            points = [(t, None if math.isnan(float(v)) else float(v)) for t, v in values]
        yield query, tags, points


def datadog_v1(series: Sequence[Series]) -> bytes:
    """Return an answer of GET /api/v1/query a query, one after the other."""
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for query, tags, points in _datadog(series):
        answers[query].append(
            {"metric": query.partition(":")[2].partition("{")[0], "scope": ",".join(tags), "tag_set": tags,
             "interval": 15, "unit": None, "expression": query, "aggr": query[:3], "query_index": 0,
             "pointlist": [[t * 1000.0, v] for t, v in points]}
        )  # fmt: skip
    return "\n".join(
        json.dumps({"status": "ok", "res_type": "time_series", "query": query, "series": found})
        for query, found in answers.items()
    ).encode()


def datadog_v2(series: Sequence[Series]) -> bytes:
    """Return a request of POST /api/v2/query/timeseries and its answer behind it."""
    made = list(_datadog(series))
    queries = list(dict.fromkeys(query for query, _, _ in made))
    times = sorted({t for _, _, points in made for t, _ in points})
    request = {
        "type": "timeseries_request",
        "attributes": {
            "formulas": [{"formula": f"q{i}"} for i in range(len(queries))],
            "queries": [
                {"data_source": "metrics", "name": f"q{i}", "query": q} for i, q in enumerate(queries)
            ],
        },
    }
    answer = {
        "type": "timeseries_response",
        "attributes": {
            "series": [
                {"group_tags": tags, "query_index": queries.index(q), "unit": None} for q, tags, _ in made
            ],
            "times": [round(t * 1000) for t in times],
            "values": [[dict(points).get(t) for t in times] for _, _, points in made],
        },
    }
    return f"{json.dumps({'data': request})}\n{json.dumps({'data': answer})}".encode()


def _minutes(values: Sequence[tuple[float, float]]) -> dict[float, list[float]]:
    found: dict[float, list[float]] = defaultdict(list)
    for t, v in values:
        found[t // 60 * 60].append(v)
    return found


def _cloudwatch(series: Sequence[Series]) -> Iterator[tuple[dict[str, str], dict[float, list[float]]]]:
    """Yield labels and the values put in every minute, as the agent's Prometheus path does: no histograms."""
    for labels, values in series:
        name = labels["__name__"]
        if name.endswith(("_bucket", "_sum", "_count")):
            continue
        if is_counter(name):
            yield labels, _minutes([(t0, gain) for t0, _, _, gain in steps(values)])
        else:
            yield labels, _minutes([(t, float(v)) for t, v in values])


def _dimensions(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k != "__name__"}


def cloudwatch_data(series: Sequence[Series]) -> bytes:
    """Return a request of get-metric-data and its answer behind it, newest values first."""
    queries, results = [], []
    for i, (labels, minutes) in enumerate(_cloudwatch(series)):
        counter = is_counter(labels["__name__"])
        dimensions = [{"Name": k, "Value": v} for k, v in _dimensions(labels).items()]
        metric = {"Namespace": "LLM", "MetricName": labels["__name__"], "Dimensions": dimensions}
        stat = {"Metric": metric, "Period": 60, "Stat": "Sum" if counter else "Average"}
        queries.append({"Id": f"m{i}", "MetricStat": stat})
        times = sorted(minutes, reverse=True)
        values = [sum(minutes[t]) if counter else sum(minutes[t]) / len(minutes[t]) for t in times]
        results.append(
            {"Id": f"m{i}", "Label": "x", "Timestamps": [iso(t).replace("Z", "+00:00") for t in times],
             "Values": values, "StatusCode": "Complete"}
        )  # fmt: skip
    request = {"MetricDataQueries": queries, "StartTime": "x", "EndTime": "x"}
    answer = {"MetricDataResults": results, "Messages": []}
    return f"{json.dumps(request, indent=1)}\n{json.dumps(answer)}".encode()


def cloudwatch_stream(series: Sequence[Series]) -> bytes:
    """Return the lines of a metric stream."""
    lines = []
    for labels, minutes in _cloudwatch(series):
        for t, put in minutes.items():
            value = {"count": float(len(put)), "sum": sum(put), "max": max(put), "min": min(put)}
            lines.append(json.dumps(
                {"metric_stream_name": "s", "account_id": "1", "region": "r", "namespace": "LLM",
                 "metric_name": labels["__name__"], "dimensions": _dimensions(labels),
                 "timestamp": round(t * 1000), "value": value, "unit": "None"}
            ))  # fmt: skip
    return "\n".join(lines).encode() + b"\n"


def _gcp(
    labels: Mapping[str, str], kind: str, value_type: str, points: list[dict[str, Any]], suffix: str
) -> Any:
    resource = {k: labels[k] for k in ("namespace", "job", "instance") if k in labels}
    own = {k: v for k, v in labels.items() if k not in ("__name__", *resource)}
    return {
        "metric": {"type": f"prometheus.googleapis.com/{labels['__name__']}/{suffix}", "labels": own},
        "resource": {"type": "prometheus_target", "labels": {"cluster": "c", **resource}},
        "metricKind": kind, "valueType": value_type, "points": points[::-1],
    }  # fmt: skip


def _interval(start: float, end: float) -> dict[str, str]:
    return {"startTime": iso(start), "endTime": iso(end)}


def gcp(series: Sequence[Series]) -> bytes:
    """Return an answer of timeSeries.list, newest points first, counters adjusted by their first sample."""
    plain, histograms = families(series)
    found = []
    for labels, values in plain:
        if not is_counter(labels["__name__"]):
            points = [
                {"interval": _interval(t, t), "value": {"doubleValue": "NaN" if v == "NaN" else float(v)}}
                for t, v in values
            ]
            found.append(_gcp(labels, "GAUGE", "DOUBLE", points, "gauge"))
            continue
        start, zero = values[0][0], float(values[0][1])
        points = []
        for t0, t1, value, gain in steps(values):
            if gain == value:  # it began again, or was at 0
                start, zero = t0, 0.0
            points.append({"interval": _interval(start, t1), "value": {"doubleValue": value - zero}})
        found.append(_gcp(labels, "CUMULATIVE", "DOUBLE", points, "counter"))
    for name, by_labels in histograms.items():
        for key, by_time in by_labels.items():
            (start, zero), *rest = sorted(by_time.items())
            points, last = [], (start, zero)
            for t, one in rest:
                if one.count < last[1].count:
                    start, zero = last[0], Histogram(dict.fromkeys(one.buckets, 0.0), 0.0, 0.0)
                last = (t, one)
                count = round(one.count - zero.count)
                counts = [
                    round(a - b) for a, b in zip(_apart(one.buckets), _apart(zero.buckets), strict=True)
                ]
                while counts and not counts[-1]:
                    counts.pop()
                bounds = [edge for edge in sorted(one.buckets) if not math.isinf(edge)]
                points.append({"interval": _interval(start, t), "value": {"distributionValue": {
                    "count": str(count), "mean": (one.sum - zero.sum) / count if count else 0,
                    "bucketOptions": {"explicitBuckets": {"bounds": bounds}},
                    "bucketCounts": [str(n) for n in counts],
                }}})  # fmt: skip
            found.append(
                _gcp({**dict(key), "__name__": name}, "CUMULATIVE", "DISTRIBUTION", points, "histogram")
            )
    return json.dumps({"timeSeries": found, "unit": "1"}).encode()

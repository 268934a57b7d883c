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

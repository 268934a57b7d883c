"""Files from where dumps come from that hold no metrics over time: what they are, and what to export."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownDamage:
    """Something that pretends to be a dump: how to know it, what it is, what to do."""

    id: str
    recognise: Callable[[bytes], bool]
    what: Callable[[bytes], str]
    hint: str


def _all(*patterns: bytes) -> Callable[[bytes], bool]:
    """Return a test of JSON that holds a match of every pattern."""
    compiled = [re.compile(pattern) for pattern in patterns]
    return lambda head: head.lstrip()[:1] in (b"{", b"[") and all(one.search(head) for one in compiled)


def _says(text: str) -> Callable[[bytes], str]:
    return lambda _head: text


_PANEL_DATA = "save each panel's data (Inspect, JSON, DataFrame JSON), or fetch its queries with hsa pull"
_DASHBOARD = "a Grafana dashboard: it has the queries of panels and not their values"

_LENGTH_BYTES = 4
"""The collector's file exporter writes the length of a message in so many bytes, the largest first."""

_MOST_MESSAGE_BYTES = 1 << 28
_ZSTD = b"\x28\xb5\x2f\xfd"
_FIELD_1 = b"\n"
"""Number and kind of the first field of a message: the list of resources."""


def is_binary_otlp(head: bytes) -> bool:
    """Return whether a file begins as OTLP's binary form: bare, or with the length of a message before it."""
    if _is_text(head):
        return False
    length = int.from_bytes(head[:_LENGTH_BYTES], "big")
    body = head[_LENGTH_BYTES:]
    if 0 < length < _MOST_MESSAGE_BYTES and head[:1] == b"\0" and body[:1] == _FIELD_1:
        return True
    if 0 < length < _MOST_MESSAGE_BYTES and body[:4] == _ZSTD:
        return True
    if head[:1] == _FIELD_1:
        return len(head) > 2
    at = next(
        (i for i, byte in enumerate(head[:5]) if byte < 0x80), None
    )  # CloudWatch: a length of 7-bit parts
    return at is not None and at > 0 and head[at + 1 : at + 2] == _FIELD_1


def _is_text(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8
    return b"\0" not in head


def _error_text(head: bytes) -> str:
    found = re.search(rb'"errors"\s*:\s*\[\s*"([^"]{0,120})', head)
    text = f" ({found[1].decode('utf-8', 'replace')})" if found else ""
    return f"an answer of errors only{text}"


NEAR_MISSES: tuple[KnownDamage, ...] = (
    KnownDamage(
        "grafana-snapshot",
        _all(rb'"snapshot"\s*:\s*\[', rb'"targets"\s*:'),
        _says("a Grafana snapshot for support: its values may be made up"),
        _PANEL_DATA,
    ),
    KnownDamage(
        "grafana-dashboard",
        _all(rb'"panels"\s*:\s*\[', rb'"(schemaVersion|gridPos|templating|targets)"\s*:'),
        _says(_DASHBOARD),
        _PANEL_DATA,
    ),
    KnownDamage(
        "grafana-dashboard-v2",
        _all(rb'"kind"\s*:\s*"Dashboard"', rb'"(elements|spec)"\s*:'),
        _says(_DASHBOARD),
        _PANEL_DATA,
    ),
    KnownDamage(
        "grafana-panel",
        _all(rb'"targets"\s*:\s*\[', rb'"(gridPos|fieldConfig)"\s*:'),
        _says("the settings of a Grafana panel: they hold its queries and not their values"),
        _PANEL_DATA,
    ),
    KnownDamage(
        "datadog-dashboard",
        _all(rb'"widgets"\s*:\s*\[', rb'"(layout_type|definition)"\s*:'),
        _says("a Datadog dashboard: it has the queries of widgets and not their values"),
        "ask GET /api/v1/query for each of its queries and save the answers",
    ),
    KnownDamage(
        "otlp-other",
        _all(rb'\A\s*\{\s*"resource(Spans|Logs|Profiles)"\s*:'),
        lambda head: f"OTLP {_other_signal(head)}, not metrics",
        "add a file exporter to the metrics pipeline of the collector",
    ),
    KnownDamage(
        "cloudwatch-statistics",
        _all(rb'"Datapoints"\s*:\s*\[', rb'"Label"\s*:'),
        _says("an answer of CloudWatch's get-metric-statistics: it names neither dimensions nor period"),
        "ask get-metric-data and put its request next to the answer as NAME.request.json",
    ),
    KnownDamage(
        "gcp-query",
        _all(rb'"timeSeries(Data|Descriptor)"\s*:'),
        _says("an answer of Cloud Monitoring's query language"),
        "ask projects.timeSeries.list, or fetch over its Prometheus API with hsa pull",
    ),
    KnownDamage(
        "errors",
        _all(rb'\A\s*\{\s*"errors"\s*:\s*\['),
        _error_text,
        "repair the query or the keys and export again",
    ),
    KnownDamage(
        "kubectl-top",
        lambda head: bool(re.match(rb"(NAMESPACE\s+)?(POD|NAME)\s+.*CPU\(cores\)\s+.*MEMORY\(bytes\)", head)),
        _says("a table of kubectl top: CPU and memory of one moment, without a time"),
        "fetch the history with hsa pull",
    ),
    KnownDamage(
        "arrow",
        lambda head: head[:6] == b"ARROW1",
        _says("an Arrow file"),
        "write it as Parquet and describe it under [tables] in hsa.toml",
    ),
    KnownDamage(
        "otlp-binary",
        is_binary_otlp,
        _says("binary OTLP (protobuf)"),
        "write JSON: format json without compression in the collector's file exporter, or the JSON output of "
        "the metric stream",
    ),
)
"""What is looked through when no reader knows a file; the first row that fits names it."""


def _other_signal(head: bytes) -> str:
    found = re.search(rb'"resource(Spans|Logs|Profiles)"', head)
    words = {b"Spans": "traces", b"Logs": "logs", b"Profiles": "profiles"}
    return words.get(found[1] if found else b"", "traces, logs or profiles")


def near_miss(head: bytes) -> KnownDamage | None:
    """Return what a file is that no reader knows, None where nothing fits."""
    return next((one for one in NEAR_MISSES if one.recognise(head)), None)

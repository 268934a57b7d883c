"""Files that come from where dumps come from and hold no metrics over time are named, with what works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ingest.bodies import body, element

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import ingest

QUERY = {"expr": "up", "refId": "A"}
PANEL = {"id": 1, "type": "timeseries", "gridPos": {"h": 8}, "targets": [QUERY], "title": "waiting"}
RESOURCE = b"\x0a\x16\x0a\x14\x0a\x0cservice.name\x12\x04\x0a\x02\xff\xfe"
"""A message whose first field is a resource."""

SNAPSHOT = {"panels": [{**PANEL, "targets": [{"snapshot": [{"data": {}}]}]}], "schemaVersion": 42}

GRAFANA, PANEL_DATA, COLLECTOR = "a Grafana dashboard", "DataFrame JSON", "metrics pipeline"
BINARY = "binary OTLP"

MISSES: dict[str, tuple[bytes, str, str]] = {
    "dashboard": (
        json.dumps({"title": "chat", "panels": [PANEL], "schemaVersion": 42}).encode(), GRAFANA, "hsa pull",
    ),
    "dashboard-v2": (b'{"kind": "Dashboard", "spec": {"elements": {}}}', GRAFANA, PANEL_DATA),
    "panel": (json.dumps(PANEL).encode(), "the settings of a Grafana panel", PANEL_DATA),
    "snapshot": (json.dumps(SNAPSHOT).encode(), "a Grafana snapshot for support", PANEL_DATA),
    "datadog": (
        b'{"title": "t", "layout_type": "ordered", "widgets": [{"definition": {}}]}', "a Datadog dashboard",
        "/api/v1/query",
    ),
    "traces": (b'{"resourceSpans": [{"scopeSpans": []}]}\n', "OTLP traces, not metrics", COLLECTOR),
    "logs": (b'{"resourceLogs": []}\n', "OTLP logs, not metrics", COLLECTOR),
    "statistics": (
        b'{"Label": "x", "Datapoints": [{"Timestamp": "t", "Average": 1}]}', "get-metric-statistics",
        "get-metric-data",
    ),
    "mql": (b'{"timeSeriesDescriptor": {}, "timeSeriesData": []}', "query language", "timeSeries.list"),
    "errors": (b'{"errors": ["Forbidden"]}', "an answer of errors only (Forbidden)", "keys"),
    "top": (b"NAME   CPU(cores)   MEMORY(bytes)\nd-0   10m   1Gi\n", "kubectl top", "hsa pull"),
    "arrow": (b"ARROW1\0\0" + bytes(range(200)), "an Arrow file", "Parquet"),
    "otlp-bare": (RESOURCE * 3, BINARY, "format json"),
    "otlp-collector": (len(RESOURCE).to_bytes(4, "big") + RESOURCE, BINARY, "format json"),
    "otlp-zstd": (b"\0\0\0\x40\x28\xb5\x2f\xfd" + RESOURCE, BINARY, "format json"),
    "otlp-stream": (b"\x98\x01" + RESOURCE * 3, BINARY, "JSON output"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MISSES))
def test_a_named_file_is_refused_for_what_it_is(name: str, tmp_path: Path) -> None:
    """The message says what the file is and the export that works."""
    raw, what, hint = MISSES[name]
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(InputError) as refused:
        discover([tmp_path / "file"])
    assert what in refused.value.what
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["dashboard", "otlp-bare"])
def test_inside_a_folder_it_is_skipped_with_the_same_words(name: str, tmp_path: Path) -> None:
    """Alone it is the reason why nothing could be read; beside a dump it is a note of doctor's."""
    raw, what, hint = MISSES[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(raw)
    with pytest.raises(InputError) as refused:
        discover([tmp_path / "in"])
    assert what in refused.value.what
    assert hint in refused.value.hint
    (tmp_path / "in" / "b.json").write_bytes(
        body(element("vllm:num_requests_waiting", [(1764000000, 1)], pod="d-0"))
    )
    found = ingest(discover([tmp_path / "in"]), tmp_path / "data", lambda _name: None)
    ((file, text),) = found.infos
    assert file == "a"
    assert what in text
    assert hint in text


@pytest.mark.parametrize("raw", [b"\n\nhello\n", "größe\n".encode() * 9, b'{"a": 1}', b"\n{}\n"])
def test_other_texts_are_no_near_miss(raw: bytes, tmp_path: Path) -> None:
    """A leading newline is the first byte of a message, too; a text is told by being one."""
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(InputError, match="not a metric dump this tool reads"):
        discover([tmp_path / "file"])

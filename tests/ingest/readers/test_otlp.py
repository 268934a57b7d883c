"""The reader of OTLP metrics as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.otlp import read_otlp_jsonl

T = 1764000000
POD = [{"key": "k8s.pod.name", "value": {"stringValue": "d-0"}}]


def ns(t: float) -> str:
    return str(round(t * 1e9))


def request(*metrics: dict[str, Any], resource: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    attributes = POD if resource is None else resource
    return {
        "resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": metrics}]}]
    }


def lines(*requests: object) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in requests).encode()


def gauge(name: str, value: object, t: float = T, **more: object) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": ns(t), "asDouble": value, **more}]}}


def counter(
    value: object, t: float, start: float | None = None, *, temporality: object = 2
) -> dict[str, Any]:
    point = {"timeUnixNano": ns(t), "asInt": str(value)}
    point |= {} if start is None else {"startTimeUnixNano": ns(start)}
    shape = {"aggregationTemporality": temporality, "isMonotonic": True, "dataPoints": [point]}
    return {"name": "vllm:generation_tokens", "sum": shape}


TTFT = {
    "name": "gen_ai.server.time_to_first_token", "unit": "s",
    "histogram": {"aggregationTemporality": 2, "dataPoints": [{
        "startTimeUnixNano": ns(T), "timeUnixNano": ns(T + 15), "count": "3", "sum": 0.4,
        "explicitBounds": [0.1, 0.25], "bucketCounts": ["1", "2", "0"],
        "attributes": [{"key": "gen_ai.request.model", "value": {"stringValue": "chat"}}],
    }]},
}  # fmt: skip
SMALL = lines(
    request(gauge("vllm:num_requests_waiting", 3), counter(10, T), TTFT), request(counter(12, T + 15))
)


def samples(*requests: object) -> dict[str, list[tuple[int, float | None, str]]]:
    pieces, notes = read(read_otlp_jsonl, lines(*requests))
    assert not notes.rejections, [r.detail for r in notes.rejections]
    return series(pieces)


def test_resource_and_point_attributes_become_labels_and_names_the_exporters() -> None:
    """A point's attribute wins over its resource's; pod, job, instance and model have Prometheus' names."""
    resource = [
        {"key": "k8s.pod.name", "value": {"stringValue": "of-resource"}},
        {"key": "service.namespace", "value": {"stringValue": "llm"}},
        {"key": "service.name", "value": {"stringValue": "vllm"}},
        {"key": "service.instance.id", "value": {"stringValue": "10.0.0.1:8000"}},
        {"key": "k8s.pod.label.llm-d.ai/role", "value": {"stringValue": "decode"}},
        {"key": "ports", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"intValue": 2}]}}},
    ]
    own = {"attributes": [{"key": "k8s.pod.name", "value": {"stringValue": "d-0"}}]}
    found = samples(request(gauge("vllm.num_requests.waiting", 3, **own), resource=resource))
    assert found == {
        'vllm:num_requests_waiting{instance="10.0.0.1:8000", job="llm/vllm", label_llm_d_ai_role="decode", '
        'pod="d-0", ports="1,2"}': [(T * 1_000_000, 3.0, "")]
    }


def test_buckets_are_cumulated_and_named_as_the_translation_to_prometheus_does() -> None:
    """Per-bucket counts become buckets up to an edge; the unit's word ends the name."""
    found = samples(request(TTFT))
    name, labels = "gen_ai_server_time_to_first_token_seconds", 'gen_ai_request_model="chat", '
    rest = 'model_name="chat", pod="d-0"'
    values = {text: rows[0][1] for text, rows in found.items()}
    assert values == {
        f"{name}_sum{{{labels}{rest}}}": 0.4,
        f"{name}_count{{{labels}{rest}}}": 3.0,
        f'{name}_bucket{{{labels}le="0.1", {rest}}}': 1.0,
        f'{name}_bucket{{{labels}le="0.25", {rest}}}': 3.0,
        f'{name}_bucket{{{labels}le="+Inf", {rest}}}': 3.0,
    }


def test_gen_ai_metrics_are_evidence_for_limits_only() -> None:
    """The notes carry the loss that doctor names; without such a metric it is not told."""
    assert read(read_otlp_jsonl, lines(request(TTFT)))[1].losses == {"gen_ai"}
    assert read(read_otlp_jsonl, lines(request(counter(1, T))))[1].losses == set()


@pytest.mark.parametrize("temporality", [2, "AGGREGATION_TEMPORALITY_CUMULATIVE"])
def test_a_new_start_is_a_restart_even_where_the_value_rose(temporality: object) -> None:
    """10, then 12 from a new start: the counter gained 12 and not 2, so a sample of 0 stands at the start."""
    found = samples(
        request(counter(10, T, T - 60, temporality=temporality)),
        request(counter(12, T + 15, T + 5, temporality=temporality)),
        request(counter(13, T + 30, T + 5, temporality=temporality)),
    )
    (rows,) = found.values()
    assert sorted(rows) == [
        (T * 1_000_000, 10.0, ""), ((T + 5) * 1_000_000 + 1, 0.0, ""), ((T + 15) * 1_000_000, 12.0, ""),
        ((T + 30) * 1_000_000, 13.0, ""),
    ]  # fmt: skip


def test_differences_are_increases_and_a_pause_between_them_is_told() -> None:
    """Points of delta temporality are no totals; the first says where counting began."""
    raw = lines(
        request(counter(5, T + 15, T, temporality=1)), request(counter(7, T + 30, T + 15, temporality=1)),
        request(counter(9, T + 90, T + 75, temporality=1)),
    )  # fmt: skip
    pieces, notes = read(read_otlp_jsonl, raw)
    (one,) = pieces
    assert one.increases
    assert one.labels["__name__"] == "vllm:generation_tokens_total"
    assert one.values.tolist() == [0.0, 5.0, 7.0, 9.0]
    assert "delta" in notes.losses
    assert "1 differences do not begin where" in notes.warnings[0]


def test_exponential_buckets_are_merged_to_one_set_of_edges() -> None:
    """Two points of different scale have the same edges, and each counts what lies at or below them."""

    def point(t: float, scale: int, offset: int, counts: list[int]) -> dict[str, Any]:
        positive = {"offset": offset, "bucketCounts": [str(n) for n in counts]}
        return {"timeUnixNano": ns(t), "count": str(sum(counts) + 1), "sum": 1.5, "scale": scale,
                "zeroCount": "1", "positive": positive}  # fmt: skip

    points = [point(T, 4, 0, [1, 1]), point(T + 15, 2, -1, [4, 2])]
    metric = {"name": "vllm:time_to_first_token_seconds",
              "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": points}}  # fmt: skip
    pieces, notes = read(read_otlp_jsonl, lines(request(metric)))
    assert notes.losses == {"exponential"}
    by_edge = {
        text.partition('le="')[2].partition('"')[0]: rows
        for text, rows in series(pieces).items()
        if "le=" in text
    }
    assert [v for _, v, _ in by_edge["1"]] == [1.0, 5.0]  # zeros; zeros and what is below 1
    assert [v for _, v, _ in by_edge[f"{2**0.25:.12g}"]] == [3.0, 7.0]
    assert [v for _, v, _ in by_edge[f"{2**0.125:.12g}"]] == [3.0]  # a finer edge, of the first point alone
    assert [v for _, v, _ in by_edge["+Inf"]] == [3.0, 7.0]


def test_no_recorded_value_is_a_stale_sample() -> None:
    """Bit 0 of the flags ends a series, whatever value stands beside it."""
    found = samples(request(gauge("vllm:num_requests_waiting", 3, flags=1)))
    assert list(found.values()) == [[(T * 1_000_000, None, "stale")]]


@pytest.mark.parametrize(
    ("metric", "reason", "detail"),
    [
        (gauge("m", "x"), "bad_value", '"x" is no number'),
        (gauge("m", 1, t=9e9), "bad_ts", "no Unix time in nanoseconds"),
        (gauge("m", 1, timeUnixNano="x"), "bad_ts", '"x" is no time'),
        (counter(1, T, temporality=0), "bad_value", "no aggregation temporality"),
        ({"name": "m", "gauge": 3}, "bad_json", "none of gauge"),
        ({"gauge": {"dataPoints": []}}, "bad_json", "no name"),
        ({"name": "m", "sum": {"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": ns(T)}]}},
         "bad_value", "differences of a level"),
        ({"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": ns(T), "count": 3, "explicitBounds": [1, 2], "bucketCounts": [3]}]}},
         "bad_le", "1 bucket counts for 2 bounds"),
    ],
)  # fmt: skip
def test_a_bad_point_is_set_aside_with_its_place(metric: dict[str, Any], reason: str, detail: str) -> None:
    """The line, the path inside it, the reason; the good point beside it is read."""
    good = gauge("vllm:num_requests_waiting", 1)
    pieces, notes = read(read_otlp_jsonl, lines(request(good), request(good | gauge("up", 1), metric)))
    (rejected,) = notes.rejections
    assert (rejected.position, rejected.reason) == (2, reason)
    assert detail in rejected.detail
    assert rejected.path.startswith("resourceMetrics[0].scopeMetrics[0].metrics[1]")
    assert sum(one.t_us.size for one in pieces) == 2


def test_lines_of_another_kind_and_a_cut_line_are_set_aside() -> None:
    """Traces and logs in the same file are told by name; a last line without its end is truncated."""
    raw = lines(request(counter(1, T)), {"resourceLogs": []}, {"a": 1}) + SMALL[:200]
    pieces, notes = read(read_otlp_jsonl, raw)
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (2, "bad_json"),
        (3, "bad_json"),
        (4, "truncated"),
    ]
    assert "resourceLogs are no metrics" in notes.rejections[0].detail
    assert len(pieces) == 1


def test_a_document_over_several_lines_is_read_as_well() -> None:
    """Pretty-printed requests, one after the other."""
    raw = (
        json.dumps(request(counter(1, T)), indent=2)
        + "\n"
        + json.dumps(request(counter(2, T + 15)), indent=2)
    )
    pieces, _ = read(read_otlp_jsonl, raw.encode())
    assert [v for rows in series(pieces).values() for _, v, _ in rows] == [1.0, 2.0]


def test_it_is_told_by_its_content() -> None:
    found = sniff(FileStart(SMALL, "any"))
    assert found is not None
    assert found.id == "otlp-jsonl"

"""The reader of Cloud Monitoring's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.gcp import read_gcp_timeseries

T = 1764000000
US = 1_000_000
START = "2025-11-24T16:00:00Z"
WAITING, TOKENS, TTFT = (
    "vllm:num_requests_waiting",
    "vllm:generation_tokens_total",
    "vllm:time_to_first_token_seconds",
)


def point(value: Any, second: int, start: str | None = None, kind: str = "doubleValue") -> dict[str, Any]:
    end = f"2025-11-24T16:{second // 60:02}:{second % 60:02}Z"
    return {"interval": {"startTime": start or end, "endTime": end}, "value": {kind: value}}


def one(metric: str, *points: dict[str, Any], kind: str = "GAUGE", suffix: str = "gauge") -> dict[str, Any]:
    return {
        "metric": {
            "type": f"prometheus.googleapis.com/{metric}/{suffix}", "labels": {"pod": "d-0", "job": "own"},
        },
        "resource": {"type": "prometheus_target", "labels": {"namespace": "llm", "job": "vllm"}},
        "metricKind": kind, "valueType": "DOUBLE", "points": list(points),
    }  # fmt: skip


def answer(*found: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"timeSeries": found, "unit": "1", **more}).encode()


DISTRIBUTION = {
    "count": "6", "mean": 0.5, "bucketCounts": ["1", "2"],
    "bucketOptions": {"explicitBuckets": {"bounds": [0.1, 0.25, 1]}},
}  # fmt: skip
SMALL = answer(
    one(WAITING, point(4, 15), point(3, 0)),
    one(TOKENS, point(7, 30, START), point(5, 15, START), kind="CUMULATIVE", suffix="counter"),
    one(TTFT, point(DISTRIBUTION, 15, START, "distributionValue"), kind="CUMULATIVE", suffix="histogram"),
)
LABELS = 'job="own", namespace="llm", pod="d-0"'


def samples(raw: bytes) -> dict[str, list[tuple[float, float | None]]]:
    """Return (seconds from the start, value) by series in time order."""
    pieces, notes = read(read_gcp_timeseries, raw)
    assert not notes.rejections, [r.detail for r in notes.rejections]
    return {
        name: [((t - T * US) / US, v) for t, v, _ in sorted(rows)] for name, rows in series(pieces).items()
    }


def test_points_have_the_time_of_their_end_and_labels_of_metric_and_resource() -> None:
    """Newest first in the file; a label of the metric wins over the resource's of the same name."""
    assert samples(answer(one(WAITING, point(4, 15), point(3, 0)))) == {
        f"{WAITING}{{{LABELS}}}": [(0.0, 3.0), (15.0, 4.0)]
    }


def test_a_counter_begins_at_its_start_where_that_is_near() -> None:
    """Adjusted counters stand at 0 at their start; one that began long before the answer is left as it is."""
    near = one(TOKENS, point(5, 15, START), point(7, 30, START), kind="CUMULATIVE", suffix="counter")
    far = one(TOKENS, point(5, 615, START), point(7, 630, START), kind="CUMULATIVE", suffix="counter")
    assert samples(answer(near)) == {f"{TOKENS}{{{LABELS}}}": [(1e-6, 0.0), (15.0, 5.0), (30.0, 7.0)]}
    assert samples(answer(far)) == {f"{TOKENS}{{{LABELS}}}": [(615.0, 5.0), (630.0, 7.0)]}


def test_a_new_start_is_a_restart_even_where_the_value_rose() -> None:
    raw = answer(one(TOKENS, point(5, 615, START), point(7, 630, "2025-11-24T16:10:20Z"), kind="CUMULATIVE"))
    assert samples(raw) == {f"{TOKENS}{{{LABELS}}}": [(615.0, 5.0), (620.000001, 0.0), (630.0, 7.0)]}


def test_differences_are_increases() -> None:
    """Kind DELTA is what an aligner made of a counter, or a counter that is written so."""
    raw = answer(
        one(TOKENS, point(7, 30, "2025-11-24T16:00:15Z"), point(5, 15, START), kind="DELTA", suffix="counter")
    )
    pieces, notes = read(read_gcp_timeseries, raw)
    assert [(p.increases, p.values.tolist()) for p in pieces] == [(True, [0.0, 5.0, 7.0])]
    assert notes.losses == {"aligned"}


def test_a_counter_as_a_gauge_is_a_rate() -> None:
    """Its values are per second, so it is not called as the counter is."""
    pieces, notes = read(read_gcp_timeseries, answer(one(TOKENS, point(0.5, 15), suffix="counter")))
    assert [p.labels["__name__"] for p in pieces] == [f"{TOKENS}:rate"]
    assert "rate aligner" in notes.warnings[0]


@pytest.mark.parametrize(
    ("options", "edges"),
    [
        ({"explicitBuckets": {"bounds": [0.1, 0.25, 1]}}, ["0.1", "0.25", "1"]),
        ({"linearBuckets": {"numFiniteBuckets": 2, "width": 0.5, "offset": 1}}, ["1", "1.5", "2"]),
        ({"exponentialBuckets": {"numFiniteBuckets": 2, "growthFactor": 2, "scale": 0.5}}, ["0.5", "1", "2"]),
    ],
)
def test_a_distribution_is_a_histogram(options: dict[str, Any], edges: list[str]) -> None:
    """Counts of buckets, the first below the first edge, become counts up to edges; sum is mean × count."""
    value = {**DISTRIBUTION, "bucketOptions": options}
    found = samples(answer(one(TTFT, point(value, 615, START, "distributionValue"), kind="CUMULATIVE")))
    buckets = {
        name.partition('le="')[2].partition('"')[0]: rows[0][1]
        for name, rows in found.items()
        if "le=" in name
    }
    assert buckets == dict(zip([*edges, "+Inf"], [1.0, 3.0, 3.0, 6.0], strict=True))
    assert found[f"{TTFT}_sum{{{LABELS}}}"] == [(615.0, 3.0)]
    assert found[f"{TTFT}_count{{{LABELS}}}"] == [(615.0, 6.0)]


def test_what_is_missing_is_told() -> None:
    """A page that names a next one, and errors of a part of the query; losses are those of what is there."""
    _, notes = read(read_gcp_timeseries, answer(nextPageToken="x", executionErrors=[{"message": "slow"}]))
    assert len(notes.warnings) == 2
    assert "slow" in notes.warnings[0]
    assert read(read_gcp_timeseries, SMALL)[1].losses == {"adjusted", "edges"}
    assert [r.detail for r in read(read_gcp_timeseries, b'{"a": 1}')[1].rejections] == ["no list timeSeries"]


@pytest.mark.parametrize(
    ("bent", "reason"),
    [
        (point("x", 15), "bad_value"), (point(1, 15, kind="stringValue"), "bad_value"),
        ({"interval": {"endTime": "now"}, "value": {"doubleValue": 1}}, "bad_ts"),
        ({"interval": {"endTime": "2025-11-24T16:00:00"}, "value": {"doubleValue": 1}}, "naive_ts"),
        (7, "bad_json"),
        (point({**DISTRIBUTION, "bucketCounts": ["1"] * 9}, 15, kind="distributionValue"), "bad_le"),
        (point({**DISTRIBUTION, "count": "x"}, 15, kind="distributionValue"), "bad_value"),
    ],
)  # fmt: skip
def test_a_bad_point_is_set_aside_with_its_place(bent: Any, reason: str) -> None:
    """The point beside it is read."""
    pieces, notes = read(read_gcp_timeseries, answer(one(WAITING, point(3, 0), bent)))
    assert [r.reason for r in notes.rejections] == [reason]
    assert (
        notes.rejections[0].path.startswith("timeSeries[0].points[1]")
        or reason == "bad_le"
        or reason == "bad_value"
    )
    assert [p.values.tolist() for p in pieces] == [[3.0]]


def test_a_list_of_series_is_read_as_a_page() -> None:
    """The command line prints the series of all pages as a list."""
    assert samples(json.dumps(json.loads(SMALL)["timeSeries"], indent=2).encode()) == samples(SMALL)


@pytest.mark.parametrize("raw", [SMALL, json.dumps(json.loads(SMALL)["timeSeries"], indent=2).encode()])
def test_it_is_told_by_its_content(raw: bytes) -> None:
    found = sniff(FileStart(raw, "any"))
    assert found is not None
    assert found.id == "gcp-timeseries"

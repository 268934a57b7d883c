"""The readers of CloudWatch's answers and metric streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.cloudwatch import (
    read_cloudwatch_data,
    read_cloudwatch_stream,
)
from hs_analysis.ingest.request_files import REQUEST_ONLY
from hs_analysis.ingest.rows import Dump, ReadNotes

T = 1764000000
US = 1_000_000
FIRST, SECOND = "2025-11-24T16:00:00+00:00", "2025-11-24T16:01:00+00:00"


def query(key: str, metric: str, stat: str = "Average", period: int = 60) -> dict[str, Any]:
    named = {"Namespace": "LLM", "MetricName": metric, "Dimensions": [{"Name": "PodName", "Value": "d-0"}]}
    return {"Id": key, "MetricStat": {"Metric": named, "Period": period, "Stat": stat}}


def request(*queries: dict[str, Any]) -> bytes:
    return json.dumps({"MetricDataQueries": queries}).encode()


def result(key: str, values: list[Any], **more: Any) -> dict[str, Any]:
    return {"Id": key, "Label": "waiting d-0", "Timestamps": [SECOND, FIRST][: len(values)], "Values": values,
            "StatusCode": "Complete", **more}  # fmt: skip


def answer(*results: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"MetricDataResults": results, "Messages": [], **more}).encode()


def line(name: str, t: float, **value: float) -> bytes:
    return json.dumps(
        {"metric_stream_name": "s", "namespace": "LLM", "metric_name": name, "dimensions": {"pod": "d-0"},
         "timestamp": round(t * 1000), "value": value, "unit": "Count"}
    ).encode() + b"\n"  # fmt: skip


WAITING, TOKENS = "vllm:num_requests_waiting", "vllm:generation_tokens_total"
SMALL = request(query("m1", WAITING), query("m2", TOKENS, "Sum")) + answer(
    result("m1", [4.0, 3.0]), result("m2", [7, 5])
)
STREAM = line(WAITING, T, count=4, sum=12, max=5, min=1) + line(TOKENS, T, count=4, sum=100, max=40, min=10)


def samples(raw: bytes) -> dict[str, list[tuple[int, float | None, str]]]:
    pieces, notes = read(read_cloudwatch_data, raw)
    assert not notes.rejections, [r.detail for r in notes.rejections]
    return {name: sorted(rows) for name, rows in series(pieces).items()}


def test_the_average_of_a_gauge_and_the_sum_of_a_counter_are_read() -> None:
    """A gauge at the start of its period; what a counter gained at the end of it, from its first start on."""
    assert samples(SMALL) == {
        f'{WAITING}{{pod="d-0"}}': [(T * US, 3.0, ""), ((T + 60) * US, 4.0, "")],
        f'{TOKENS}{{pod="d-0"}}': [
            (T * US + 1, 0.0, ""), ((T + 60) * US, 5.0, ""), ((T + 120) * US, 7.0, "")
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "stat", "name"),
    [
        (WAITING, "Maximum", f"{WAITING}:maximum"),
        (TOKENS, "Average", f"{TOKENS}:average"),
        (WAITING, "p99", f"{WAITING}:p99"),
    ],
)
def test_another_statistic_is_another_series(metric: str, stat: str, name: str) -> None:
    """A maximum is no mean: it keeps the statistic in its name, and the user is told."""
    pieces, notes = read(
        read_cloudwatch_data, request(query("m1", metric, stat)) + answer(result("m1", [4.0]))
    )
    assert [p.labels["__name__"] for p in pieces] == [name]
    assert name in notes.warnings[0]


def test_a_label_that_is_a_series_needs_no_request() -> None:
    """Without a request a label may name the series; what none names is set aside and told."""
    named = result("m1", [4.0], Label=f'{WAITING}{{pod="d-0"}}', Timestamps=[T])
    pieces, notes = read(read_cloudwatch_data, answer(named, result("m2", [1.0, 2.0])))
    assert series(pieces) == {f'{WAITING}{{pod="d-0"}}': [(T * US, 4.0, "")]}
    assert "2 values are left out" in notes.rejections[0].detail
    with pytest.raises(InputError, match="nothing says what its series are: Id m2, Label waiting d-0"):
        read(read_cloudwatch_data, answer(result("m2", [1.0])))


def test_the_request_beside_the_answer_names_its_series(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(answer(result("m1", [4.0])))
    (tmp_path / "a.request.json").write_bytes(request(query("m1", WAITING)))
    notes = ReadNotes()
    (piece,) = read_cloudwatch_data(Dump(tmp_path / "a.json", "a.json", "a.json"), notes)
    assert piece.labels == {"__name__": WAITING, "pod": "d-0"}
    assert "series are named by the request in a.request.json" in notes.infos
    notes = ReadNotes()
    assert list(read_cloudwatch_data(Dump(tmp_path / "a.request.json", "a", "a"), notes)) == []
    assert notes.infos == [REQUEST_ONLY]


def test_a_long_request_does_not_hide_its_answer() -> None:
    """Five hundred queries are longer than what a format is told by; the answer behind them is read."""
    raw = request(*(query(f"m{i}", WAITING) for i in range(500))) + answer(result("m7", [4.0]))
    found = sniff(FileStart(raw[: 1 << 16], "any"))
    assert found is not None
    assert found.id == "cloudwatch-data"
    assert len(samples(raw)) == 1


def test_what_is_missing_is_told() -> None:
    """A status other than complete, and a page that names a next one; a last page takes that back."""
    pages = [
        answer(result("m1", [4.0], StatusCode="PartialData"), NextToken="x"),
        answer(result("m1", [3.0])),
    ]
    _, notes = read(read_cloudwatch_data, request(query("m1", WAITING)) + pages[0])
    assert any("1 results have the status PartialData" in text for text in notes.warnings)
    assert any("NextToken" in text for text in notes.warnings)
    _, notes = read(read_cloudwatch_data, request(query("m1", WAITING)) + pages[0] + pages[1])
    assert not any("NextToken" in text for text in notes.warnings)


def test_a_stream_gives_means_and_what_was_gained() -> None:
    """Sum over count of a gauge, the sum of a counter; an empty minute has no mean."""
    pieces, notes = read(read_cloudwatch_stream, STREAM + line(WAITING, T + 60, count=0, sum=0, max=0, min=0))
    assert not notes.rejections
    assert series(pieces) == {
        f'{WAITING}{{pod="d-0"}}': [(T * US, 3.0, ""), ((T + 60) * US, None, "null")],
        f'{TOKENS}{{pod="d-0"}}': [(T * US + 1, 0.0, ""), ((T + 60) * US, 100.0, "")],
    }


def test_bad_values_and_lines_are_set_aside_with_their_place() -> None:
    """No number, no zone, no time; lines without a name, a count, or an end."""
    bent = result("m1", [4.0, "x", 2.0], Timestamps=[FIRST, SECOND, "2025-11-24T16:02:00"])
    _, notes = read(read_cloudwatch_data, request(query("m1", WAITING)) + answer(bent))
    assert [(r.reason, r.path) for r in notes.rejections] == [
        ("bad_value", "MetricDataResults[0].Values[1]"), ("naive_ts", "MetricDataResults[0].Values[2]")
    ]  # fmt: skip
    raw = (
        STREAM
        + b'{"a": 1}\n'
        + line(WAITING, T, count=-1, sum=1)
        + line(WAITING, 9e12, count=1, sum=1)
        + STREAM[:40]
    )
    pieces, notes = read(read_cloudwatch_stream, raw)
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (3, "bad_json"), (4, "bad_value"), (5, "bad_ts"), (6, "truncated")
    ]  # fmt: skip
    assert len(pieces) == 2


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(SMALL, "cloudwatch-data"), (answer(result("m1", [1])), "cloudwatch-data"),
     (STREAM, "cloudwatch-stream"), (request(query("m1", WAITING)), "cloudwatch-data")],
)  # fmt: skip
def test_it_is_told_by_its_content(raw: bytes, kind: str) -> None:
    found = sniff(FileStart(raw, "any"))
    assert found is not None
    assert found.id == kind


def test_a_period_that_can_not_be_is_told_by_the_times() -> None:
    """A number of seconds beyond all history does not move a sample out of time."""
    asked = request(query("m1", TOKENS, "Sum", period=1 << 62))
    (rows,) = samples(asked + answer(result("m1", [7, 5]))).values()
    assert [t for t, _, _ in rows] == [T * US + 1, (T + 60) * US, (T + 120) * US]

"""Reports of guidellm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ingest.reading import read

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers import benchmarks
from hs_analysis.ingest.readers.benchmarks import read_guidellm
from hs_analysis.ingest.rows import BenchRows, RequestRows

T = 1_764_072_000


def summary(mean: float, **percentiles: float) -> dict[str, Any]:
    return {"successful": {"mean": mean, "count": 2, "percentiles": percentiles}, "errored": {"mean": 9.9}}


def request(start: float, **more: Any) -> dict[str, Any]:
    return {
        "request_id": "a{]", "request_start_time": T + start, "request_latency": 2.0, "prompt_tokens": 100,
        "output_tokens": 11, "time_to_first_token_ms": 200.0, "inter_token_latency_ms": 10.0, **more,
    }  # fmt: skip


BENCHMARK = {
    "type_": "generative_benchmark",
    "config": {"strategy": {"type_": "constant", "rate": 4.0}, "backend": {"model": "llama"}},
    "requests": {
        "successful": [request(0), request(1.5, cached_tokens=64)],
        "incomplete": [request(2, output_tokens=None)],
        "errored": [],
    },
    "metrics": {
        "request_totals": {"successful": 2, "incomplete": 1, "errored": 0, "total": 3},
        "requests_per_second": summary(4.0),
        "request_concurrency": summary(8.0),
        "prompt_token_count": summary(100.0),
        "output_token_count": summary(11.0),
        "output_tokens_per_second": summary(44.0),
        "time_to_first_token_ms": summary(200.0, p50=190.0, p95=400.0),
        "inter_token_latency_ms": {"successful": {"mean": 0.0, "count": 0, "percentiles": {"p50": 0.0}}},
    },
    "duration": 30.0,
}
REPORT = {"metadata": {"version": 1}, "args": {"rate": [1]}, "benchmarks": [BENCHMARK, BENCHMARK]}


@pytest.mark.parametrize("at_once", [1, 100])
def test_points_and_requests(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unix seconds, latencies in ms; a statistic over nothing is null, not the 0 that is written for it."""
    monkeypatch.setattr(benchmarks, "ROWS_AT_ONCE", at_once)
    raw = json.dumps(REPORT, indent=1).encode()
    pieces, notes = read(read_guidellm, raw, "benchmarks.json")
    assert notes.rows == 8
    points = [p.frame.row(0, named=True) for p in pieces if isinstance(p, BenchRows)]
    assert len(points) == 2
    row = points[0]
    assert (row["model"], row["request_rate"], row["concurrency"], row["requests"]) == (
        "llama",
        4.0,
        8.0,
        2.0,
    )
    assert (row["isl"], row["osl"], row["duration_s"]) == (100.0, 11.0, 30.0)
    assert (row["request_throughput"], row["decode_tps"], row["prefill_tps"]) == (4.0, 44.0, 400.0)
    assert (row["ttft_mean_s"], row["ttft_p50_s"], row["ttft_p95_s"], row["ttft_p99_s"]) == (
        0.2,
        0.19,
        0.4,
        None,
    )
    assert (row["tbt_mean_s"], row["tbt_p50_s"]) == (None, None)
    found = [r for p in pieces if isinstance(p, RequestRows) for r in p.frame.iter_rows(named=True)][:3]
    assert [r["status"] for r in found] == ["ok", "ok", "incomplete"]
    assert [r["arrival"].timestamp() for r in found] == [T, T + 1.5, T + 2]
    assert [r["output_tokens"] for r in found] == [11.0, 11.0, None]
    assert [r["cached_tokens"] for r in found] == [None, 64.0, None]
    assert (found[0]["ttft_s"], found[0]["tbt_s"], found[0]["e2e_s"]) == (0.2, 0.01, 2.0)


def test_it_is_known_by_its_benchmarks_and_a_cut_one_is_told() -> None:
    raw = json.dumps(REPORT).encode()
    found = sniff(FileStart(raw))
    assert isinstance(found, Format)
    assert found.id == "guidellm"
    with pytest.raises(InputError, match=r"ends in the middle at byte \d+"):
        read(read_guidellm, raw[:-200], "benchmarks.json")
    pieces, notes = read(read_guidellm, raw[:-200], "benchmarks.json", salvage=True)
    assert sum(isinstance(p, BenchRows) for p in pieces) == 1
    assert [r.reason for r in notes.rejections] == ["truncated"]


def test_odd_parts_are_set_aside() -> None:
    odd = {"benchmarks": [3, {"requests": {"successful": [5, request(0, prompt_tokens=-1)]}, "metrics": []}]}
    pieces, notes = read(read_guidellm, json.dumps(odd).encode(), "b.json")
    assert [r.reason for r in notes.rejections] == ["bad_json", "bad_json", "bad_value", "bad_value"]
    assert not pieces, "a benchmark that measures nothing is no point"

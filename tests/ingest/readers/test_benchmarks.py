"""Results of load generators: points, and requests where details were saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ingest.reading import frame, read

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers.benchmarks import (
    read_genai_perf,
    read_inferencex,
    read_sglang_bench,
    read_vllm_bench,
)
from hs_analysis.ingest.rows import BenchRows, RequestRows, day
from hs_analysis.ingest.stage import ingest
from hs_analysis.schema.frames import BENCH, REQUESTS, check

VLLM: dict[str, Any] = {
    "date": "20261124-100000", "backend": "vllm", "model_id": "llama", "num_prompts": 100,
    "request_rate": "inf", "max_concurrency": 8, "duration": 50.0, "completed": 100,
    "total_input_tokens": 102400,
    "total_output_tokens": 12800, "request_throughput": 2.0, "output_throughput": 256.0,
    "total_token_throughput": 2304.0, "mean_ttft_ms": 212.4, "median_ttft_ms": 200.0, "p99_ttft_ms": 400.0,
    "mean_tpot_ms": 12.0, "median_tpot_ms": 11.0, "p99_tpot_ms": 30.0, "mean_itl_ms": 13.0,
}  # fmt: skip
DETAILS: dict[str, Any] = {
    "input_lens": [10, 20], "output_lens": [3, 0], "ttfts": [0.21, 0.0], "itls": [[0.03, 0.05], []],
    "start_times": [81234.5, 81236.0], "errors": ["", "Traceback\nTimeout"],
}  # fmt: skip


def known(raw: bytes) -> str:
    found = sniff(FileStart(raw[: 1 << 16]))
    assert isinstance(found, Format)
    return found.id


def parts(pieces: list[Any]) -> tuple[pl.DataFrame, list[Any]]:
    """Return the points as one frame, and the requests."""
    bench = [piece for piece in pieces if isinstance(piece, BenchRows)]
    return frame(bench), [piece for piece in pieces if isinstance(piece, RequestRows)]


def test_vllm_summaries_are_in_ms_and_appended_runs_are_documents() -> None:
    raw = json.dumps(VLLM).encode() + b"\n" + json.dumps({**VLLM, "request_rate": 4.0}, indent=1).encode()
    assert known(raw) == "vllm-bench"
    pieces, notes = read(read_vllm_bench, raw, "b.json")
    got, requests = parts(pieces)
    assert notes.rows == 2
    assert requests == []
    row = got.row(0, named=True)
    expected = {
        "format": "vllm-bench", "kind": "point", "model": "llama", "engine": "vllm",
        "isl": 1024.0, "osl": 128.0,
        "concurrency": 8.0, "request_rate": None, "requests": 100.0, "duration_s": 50.0,
        "request_throughput": 2.0, "prefill_tps": 2048.0, "decode_tps": 256.0, "throughput_basis": "measured",
        "ttft_mean_s": pytest.approx(0.2124), "ttft_p50_s": 0.2, "ttft_p99_s": 0.4, "ttft_p95_s": None,
        "tbt_mean_s": 0.012, "tbt_p50_s": 0.011,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert got["request_rate"].to_list() == [None, 4.0]
    assert got["series"].n_unique() == 1


def test_vllm_details_are_in_seconds_on_a_clock_of_their_own() -> None:
    """Requests have no arrival, only times from the first; a failed one has no TTFT."""
    pieces, notes = read(read_vllm_bench, json.dumps({**VLLM, **DETAILS}).encode(), "b.json")
    _, (requests,) = parts(pieces)
    assert notes.rows == 3
    got = requests.frame
    assert got["arrival"].null_count() == 2
    assert got["arrival_s"].to_list() == [0.0, 1.5]
    assert got["ttft_s"].to_list() == [0.21, None]
    assert got["tbt_s"].to_list() == [pytest.approx(0.04), None]
    assert got["e2e_s"].to_list() == [pytest.approx(0.29), None]
    assert got["status"].to_list() == ["ok", "Timeout"]


def test_a_cut_result_is_an_error_or_salvaged() -> None:
    raw = json.dumps(VLLM).encode() * 2
    with pytest.raises(InputError, match=r"ends in the middle at byte \d+; .*--salvage"):
        read(read_vllm_bench, raw[:-9], "b.json")
    pieces, notes = read(read_vllm_bench, raw[:-9], "b.json", salvage=True)
    assert parts(pieces)[0].height == 1
    assert [r.reason for r in notes.rejections] == ["truncated"]


def test_numbers_that_can_not_be_are_set_aside() -> None:
    _, notes = read(read_vllm_bench, json.dumps({**VLLM, "mean_ttft_ms": -3}).encode(), "b.json")
    assert [(r.reason, r.detail) for r in notes.rejections] == [("bad_value", "ttft_mean_s is below 0")]


SGLANG = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": None,
    "server_info": {"model_path": "llama"}, "duration": 10.0, "completed": 40, "total_input_tokens": 4000,
    "total_output_tokens": 800, "request_throughput": 4.0, "input_throughput": 410.0,
    "output_throughput": 80.0,
    "mean_ttft_ms": 100.0, "mean_itl_ms": 9.0, "p95_itl_ms": 12.0, "concurrency": 3.1,
}  # fmt: skip


def test_sglang_has_a_run_a_line() -> None:
    raw = b"".join(json.dumps(row).encode() + b"\n" for row in (SGLANG, SGLANG))
    assert known(raw) == "sglang-bench"
    got, _ = parts(read(read_sglang_bench, raw, "b.jsonl")[0])
    assert got.height == 2
    row = got.row(0, named=True)
    assert (row["model"], row["engine"], row["isl"], row["osl"]) == ("llama", "sglang", 100.0, 20.0)
    assert (row["prefill_tps"], row["decode_tps"], row["request_rate"]) == (410.0, 80.0, 4.0)
    assert (row["tbt_mean_s"], row["tbt_p95_s"]) == (pytest.approx(0.009), 0.012)


ROW = {
    "hw": "h200", "framework": "dynamo-trt", "model": "dsr1", "precision": "fp8", "disagg": True, "isl": 1024,
    "osl": 1024, "conc": 64, "prefill_num_workers": 2, "decode_num_workers": 1, "num_prefill_gpu": 8,
    "num_decode_gpu": 16, "tput_per_gpu": 800.0, "output_tput_per_gpu": 600.0, "input_tput_per_gpu": 1200.0,
    "mean_ttft": 0.5, "median_ttft": 0.4, "p99_ttft": 2.0, "mean_tpot": 0.01,
}  # fmt: skip


def test_inferencex_is_per_gpu_and_in_seconds() -> None:
    single = {
        "hw": "mi300x",
        "model": "m",
        "conc": 4,
        "tp": 8,
        "tput_per_gpu": 100.0,
        "output_tput_per_gpu": 30.0,
    }
    raw = json.dumps([ROW, {**ROW, "prefill_hw": "b200"}, single, 3]).encode()
    assert known(raw) == "inferencex"
    pieces, notes = read(read_inferencex, raw, "x.json")
    got, _ = parts(pieces)
    row = got.row(0, named=True)
    assert (row["prefill_instances"], row["decode_instances"]) == (2.0, 1.0)
    assert (row["prefill_gpus"], row["decode_gpus"]) == (8.0, 16.0)
    assert (row["prefill_tps"], row["decode_tps"]) == (9600.0, 9600.0)
    assert (row["ttft_mean_s"], row["ttft_p99_s"], row["tbt_mean_s"]) == (0.5, 2.0, 0.01)
    assert row["request_throughput"] == 9600.0 / 1024
    assert got["prefill_gpu_type"].to_list() == ["h200", "b200", None]
    one = got.row(2, named=True)
    assert (one["decode_gpus"], one["decode_tps"], one["prefill_tps"]) == (8.0, 240.0, 560.0)
    assert one["prefill_gpus"] is None
    assert [r.reason for r in notes.rejections] == ["bad_json"]


def test_genai_perf_is_one_point() -> None:
    summary = {
        "request_throughput": {"unit": "requests/sec", "avg": 4.0},
        "request_count": {"unit": "count", "avg": 100.0},
        "time_to_first_token": {"unit": "ms", "avg": 50.0, "p50": 45.0, "p90": 80.0, "p99": 120.0},
        "inter_token_latency": {"unit": "us", "avg": 9000.0, "p95": 11000.0},
        "input_sequence_length": {"unit": "tokens", "avg": 1000.0},
        "output_sequence_length": {"unit": "tokens", "avg": 100.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 401.0},
        "input_config": {"endpoint": {"model_names": ["llama"]}, "loadgen": {"concurrency": 16}},
    }
    raw = json.dumps(summary).encode()
    assert known(raw) == "genai-perf"
    got, _ = parts(read(read_genai_perf, raw, "p.json")[0])
    row = got.row(0, named=True)
    assert (row["model"], row["concurrency"], row["requests"]) == ("llama", 16.0, 100.0)
    assert (row["ttft_mean_s"], row["ttft_p90_s"], row["tbt_mean_s"]) == (0.05, 0.08, 0.009)
    assert (row["prefill_tps"], row["decode_tps"]) == (4000.0, 401.0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("20261124-100000", "2026-11-24"), ("2026-11-24T10:00:00Z", "2026-11-24"),
        (1795525391.5, "2026-11-24"),
        ("yesterday", None), ("20261341-100000", None), ("202611240", None), (81234.5, None), (True, None),
        (None, None), (float("nan"), None), (1e300, None),
    ],
)  # fmt: skip
def test_the_day_of_a_run_is_kept(told: Any, expected: str | None) -> None:
    """As text or Unix seconds; a clock that counts from a start is no day."""
    assert day(told) == expected
    pieces, _ = read(read_vllm_bench, json.dumps({**VLLM, "date": told}).encode(), "b.json")
    assert parts(pieces)[0]["measured_on"].to_list() == [expected]


def test_many_small_documents_are_one_table(tmp_path: Path) -> None:
    """Each file gives a row or two; the table holds all of them, and their requests, as its contract says."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(300):
        detail = DETAILS if number % 3 == 0 else {}
        text = json.dumps(
            {**VLLM, **detail, "max_concurrency": number, "model_id": None if number % 2 else "m"}
        )
        (folder / f"{number:03d}.json").write_text(text)
    found = ingest(discover([folder]), tmp_path / "out", lambda _name: None)
    assert found.bench["concurrency"].to_list() == [float(number) for number in range(300)]
    assert found.bench["model"].null_count() == 150
    assert found.requests.height == 200
    for table, contract in ((found.bench, BENCH), (found.requests, REQUESTS)):
        check(table, contract)
    assert pl.read_parquet(tmp_path / "out" / "bench.parquet").equals(found.bench)

"""What aiperf writes: servers' metrics as Parquet, requests as JSON lines."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.reading import frame, read, series

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import FileStart, Format, sniff
from hs_analysis.ingest.readers.aiperf import carried_on, read_aiperf_jsonl, read_aiperf_parquet

T, S = 1_764_072_000_000_000, 1_000_000
URL = "http://10.0.0.1:8000/metrics"


def parquet(*rows: dict[str, Any]) -> bytes:
    """Return a file with aiperf's columns; a row needs name, type and time [s]."""
    schema = {
        "endpoint_url": pl.String, "metric_name": pl.String, "metric_type": pl.String, "unit": pl.String,
        "description": pl.String, "timestamp_ns": pl.Int64, "model_name": pl.String, "value": pl.Float64,
        "sum": pl.Float64, "count": pl.Float64, "bucket_le": pl.String, "bucket_count": pl.Float64,
    }  # fmt: skip
    filled = [{"endpoint_url": URL, "model_name": "m", **row} for row in rows]
    out = io.BytesIO()
    pl.DataFrame([{name: row.get(name) for name in schema} for row in filled], schema=schema).write_parquet(
        out
    )
    return out.getvalue()


def at(seconds: float) -> int:
    return T * 1000 + round(seconds * 1e9)


LABELS = 'instance="10.0.0.1:8000", model_name="m"'


def test_names_and_labels_are_those_the_servers_exported() -> None:
    """A counter gets its _total back, a histogram its three parts, a target its host and port."""
    rows = [
        {
            "metric_name": "vllm:kv_cache_usage_perc",
            "metric_type": "gauge",
            "timestamp_ns": at(0),
            "value": 0.7,
        },
        {
            "metric_name": "vllm:generation_tokens",
            "metric_type": "counter",
            "timestamp_ns": at(1),
            "value": 50.0,
        },
        {
            "metric_name": "vllm:generation_tokens",
            "metric_type": "counter",
            "timestamp_ns": at(0),
            "value": 0.0,
        },
    ]
    for edge, count in (("0.3", 1.0), ("+Inf", 4.0)):
        rows.append(
            {"metric_name": "h_seconds", "metric_type": "histogram", "timestamp_ns": at(0), "sum": 2.5,
             "count": 4.0, "bucket_le": edge, "bucket_count": count}
        )  # fmt: skip
    pieces, notes = read(read_aiperf_parquet, parquet(*rows), "m.parquet")
    assert series(pieces) == {
        f"h_seconds_sum{{{LABELS}}}": [(T, 2.5, "")],
        f"h_seconds_count{{{LABELS}}}": [(T, 4.0, "")],
        'h_seconds_bucket{instance="10.0.0.1:8000", le="0.3", model_name="m"}': [(T, 1.0, "")],
        'h_seconds_bucket{instance="10.0.0.1:8000", le="+Inf", model_name="m"}': [(T, 4.0, "")],
        f"vllm:generation_tokens_total{{{LABELS}}}": [(T, 0.0, ""), (T + S, 50.0, "")],
        f"vllm:kv_cache_usage_perc{{{LABELS}}}": [(T, 0.7, "")],
    }
    assert notes.types["vllm:generation_tokens_total"] == "counter"
    assert notes.warnings == []


def test_a_hidden_restart_is_carried_over_once() -> None:
    """A fall is a restart: while clamped at 0 nothing is known, later gains are a lower bound, added once."""
    values = [0.0, 100.0, 150.0, 0.0, 0.0, 20.0, 35.0]
    rows = [
        {"metric_name": "x", "metric_type": "counter", "timestamp_ns": at(i), "value": v}
        for i, v in enumerate(values)
    ]
    pieces, notes = read(read_aiperf_parquet, parquet(*rows), "m.parquet")
    got = [(v, flag) for _, v, flag in series(pieces)[f"x_total{{{LABELS}}}"]]
    assert got == [
        (0.0, ""), (100.0, ""), (150.0, ""), (None, "stale"), (None, "stale"), (170.0, ""), (185.0, ""),
    ]  # fmt: skip
    assert "lower bound (1 series)" in notes.warnings[0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_what_is_carried_on_never_falls_and_gains_what_the_reset_rule_gains(raw: list[float]) -> None:
    """No later stage finds a reset to correct, and the total is that of the rule applied once."""
    values, flags = np.array(raw), np.zeros(len(raw), np.uint8)
    carried_on(values, flags)
    kept = values[flags == 0]
    assert np.all(np.diff(kept) >= -1e-6)
    gained = sum(b if b < a else b - a for a, b in itertools.pairwise(raw))
    last = raw[-1]
    if flags[-1] == 0:
        assert kept[-1] == pytest.approx(raw[0] + gained, abs=1e-3)
    else:
        assert last == 0


def test_rows_without_time_name_or_edge_are_set_aside() -> None:
    rows = [
        {"metric_name": "x", "metric_type": "gauge", "timestamp_ns": None, "value": 1.0},
        {"metric_name": None, "metric_type": "gauge", "timestamp_ns": at(0), "value": 1.0},
        {"metric_name": "h", "metric_type": "histogram", "timestamp_ns": at(0), "sum": 1.0, "count": 1.0,
         "bucket_le": "wide", "bucket_count": 1.0},
        {"metric_name": "x", "metric_type": "gauge", "timestamp_ns": at(0), "value": float("nan")},
        {"metric_name": "x", "metric_type": "gauge", "timestamp_ns": at(1), "value": None},
    ]  # fmt: skip
    pieces, notes = read(read_aiperf_parquet, parquet(*rows), "m.parquet")
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (1, "bad_ts"),
        (2, "bad_value"),
        (3, "bad_le"),
    ]
    assert series(pieces) == {f"x{{{LABELS}}}": [(T, None, "nan"), (T + S, None, "null")]}


def test_a_cut_file_and_another_table() -> None:
    whole = parquet({"metric_name": "x", "metric_type": "gauge", "timestamp_ns": at(0), "value": 1.0})
    with pytest.raises(InputError, match="no Parquet file that can be read"):
        read(read_aiperf_parquet, whole[:-20], "m.parquet")
    out = io.BytesIO()
    pl.DataFrame({"timestamp_ns": [1]}).write_parquet(out)
    with pytest.raises(InputError, match="no server metrics of aiperf: metric_name, metric_type is missing"):
        read(read_aiperf_parquet, out.getvalue(), "m.parquet")


def test_it_is_known_by_its_columns(tmp_path: Path) -> None:
    whole = parquet({"metric_name": "x", "metric_type": "gauge", "timestamp_ns": at(0), "value": 1.0})
    (tmp_path / "a.parquet").write_bytes(whole)
    pl.DataFrame({"timestamp_ns": [1], "price": [2]}).write_parquet(tmp_path / "b.parquet")
    found = discover([tmp_path])
    assert [(f.name, f.format.id) for f in found.files] == [("a.parquet", "aiperf-parquet")]
    assert "with the columns timestamp_ns, price" in found.passed[0].why


def record(**metadata: Any) -> dict[str, Any]:
    when = {"request_start_ns": at(0), "request_end_ns": at(2), "benchmark_phase": "profiling"}
    return {
        "metadata": {**when, **metadata},
        "metrics": {
            "input_sequence_length": {"value": 100, "unit": "tokens"},
            "output_sequence_length": {"value": 20, "unit": "tokens"},
            "time_to_first_token": {"value": 212.5, "unit": "ms"},
            "inter_token_latency": {"value": 10, "unit": "ms"},
        },
    }  # fmt: skip


def test_requests_with_how_they_ended() -> None:
    failed = {**record(request_start_ns=at(3)), "error": {"type": "Timeout", "code": 499}}
    lines = [
        record(), record(request_start_ns=at(1), benchmark_phase="warmup"),
        record(was_cancelled=True), failed,
        record(request_start_ns="soon"), {**record(), "metrics": {"ttft": {"value": -1, "unit": "s"}}},
    ]  # fmt: skip
    text = "\n".join(map(json.dumps, lines)) + '\n{"cut'
    pieces, notes = read(read_aiperf_jsonl, text.encode(), "profile_export.jsonl")
    got = frame(pieces)
    assert got["arrival"].dt.epoch("us").to_list() == [T, T + S, T, T + 3 * S]
    assert got["arrival_s"].to_list() == [0.0, 1.0, 0.0, 3.0]
    assert got["status"].to_list() == ["ok", "warmup", "cancelled", "Timeout"]
    assert got.select("prompt_tokens", "output_tokens", "ttft_s", "tbt_s", "e2e_s").row(0) == (
        100.0, 20.0, 0.2125, 0.01, 2.0,
    )  # fmt: skip
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (5, "bad_ts"), (6, "bad_value"), (7, "bad_json"),
    ]  # fmt: skip
    found = sniff(FileStart(text.encode()))
    assert isinstance(found, Format)
    assert found.id == "aiperf-jsonl"

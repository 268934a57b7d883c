"""Reports of guidellm: a point a benchmark, and every request of it, read one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hs_analysis.ingest.bench_rows import (
    POINT,
    day,
    latencies,
    number,
    point_fault,
    raw_bench,
    series_text,
    with_throughput,
)
from hs_analysis.ingest.bytestream import ByteStream
from hs_analysis.ingest.json_documents import items, reject_value, told, whole
from hs_analysis.ingest.json_lines import parsed
from hs_analysis.ingest.raw import Dump, RawBench, RawRequests, ReadNotes
from hs_analysis.ingest.request_rows import fault as request_fault
from hs_analysis.ingest.request_rows import raw_requests

ROWS_AT_ONCE = 1 << 14

_MS = 1e-3

STATUS = {"successful": "ok", "errored": "errored", "incomplete": "incomplete"}
"""Lists of a benchmark's requests → status."""

STRATEGY_HOLDERS = ("config", "args", "scheduler")
MODEL_HOLDERS = ("config", "args", "metadata", "worker")
"""Where versions of guidellm keep the load and the model."""

Row = dict[str, Any]


def is_guidellm(head: bytes) -> bool:
    """Whether a head is a guidellm report."""
    return head[:1] == b"{" and re.search(rb'"benchmarks"\s*:\s*\[', head) is not None


def read_guidellm(dump: Dump, notes: ReadNotes) -> Iterator[RawBench | RawRequests]:
    """Yield the points and requests of a report; memory is one request, whatever its size.

    Times are Unix seconds. Percentiles are over successful requests.

    Raises
    ------
    InputError
        When it is cut or no JSON.
    """
    report: Row = {}
    with whole(dump, notes) as stream:
        stream.skip_mark()
        while stream.peek():
            at, rows = stream.offset, notes.rows
            for key in stream.object_keys():
                if key == "benchmarks" and stream.peek() == b"[":
                    stream.expect(b"[")
                    while stream.peek() != b"]":
                        yield from _benchmark(stream, report, notes)
                    stream.expect(b"]")
                elif key in MODEL_HOLDERS:
                    report[key] = _small(stream)
                else:
                    stream.skip()
            if notes.rows == rows:
                reject_value(at, b"", "bad_json", "a report without a benchmark", notes)


def _small(stream: ByteStream) -> Any:
    """Consume a value; return it decoded when it is an object, else nothing."""
    stream.peek()
    found = parsed(stream.value())
    return found if isinstance(found, dict) else {}


def _benchmark(stream: ByteStream, report: Row, notes: ReadNotes) -> Iterator[RawBench | RawRequests]:
    parts: Row = {}
    stream.peek()
    at = stream.offset
    if stream.peek() != b"{":
        reject_value(at, stream.value(), "bad_json", "a benchmark is an object", notes, "benchmarks")
        return
    for key in stream.object_keys():
        if key == "requests" and stream.peek() == b"{":
            for status in stream.object_keys():
                if stream.peek() == b"[":
                    yield from _requests(stream, STATUS.get(status, status), notes)
                else:
                    stream.skip()
        elif key in ("metrics", *STRATEGY_HOLDERS, *MODEL_HOLDERS) and stream.peek() == b"{":
            parts[key] = _small(stream)
        elif key == "duration" and stream.peek() not in (b"{", b"["):
            raw = stream.value()
            parts[key] = number(raw.strip(b'"').decode("utf-8", "replace")) if len(raw) < 64 else None
        else:
            stream.skip()
    row = _point(parts, report)
    if detail := point_fault(row):
        reject_value(at, told(parts), "bad_value", detail, notes, "benchmarks")
        return
    notes.rows += 1
    yield raw_bench([row])


def _requests(stream: ByteStream, status: str, notes: ReadNotes) -> Iterator[RawRequests]:
    rows: list[Row] = []
    for at, found in items(stream, notes):
        row = _request(found)
        detail = request_fault({k: v for k, v in row.items() if k != "arrival"})
        if all(value is None for value in row.values()):
            detail = "neither a time nor a number"
        if detail:
            reject_value(at, told(found), "bad_value", detail, notes, "requests")
            continue
        rows.append(row)
        if len(rows) >= ROWS_AT_ONCE:
            yield _piece(rows, status, notes)
            rows = []
    if rows:
        yield _piece(rows, status, notes)


def _request(found: Row) -> Row:
    def first(*names: str) -> float | None:
        return next((value for name in names if (value := number(found.get(name))) is not None), None)

    start = first("request_start_time", "start_time")
    first_token, gap = first("time_to_first_token_ms"), first("inter_token_latency_ms")
    return {
        "arrival": None if start is None or not 0 <= start < 4e9 else round(start * 1e6),
        "prompt_tokens": first("prompt_tokens"),
        "cached_tokens": first("cached_tokens"),
        "output_tokens": first("output_tokens"),
        "ttft_s": None if first_token is None else first_token * _MS,
        "tbt_s": None if gap is None else gap * _MS,
        "e2e_s": first("request_latency"),
    }


def _piece(rows: list[Row], status: str, notes: ReadNotes) -> RawRequests:
    notes.rows += len(rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return raw_requests({**columns, "status": [status] * len(rows)}, len(rows))


def _point(parts: Row, report: Row) -> Row:
    metrics = parts.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    totals = metrics.get("request_totals")
    strategy = _strategy(parts)
    row: Row = {
        "format": "guidellm",
        "kind": POINT,
        "model": _model(parts) or _model(report),
        "measured_on": day(parts.get("start_time")),
        "isl": _successful(metrics, "prompt_token_count").get("mean"),
        "osl": _successful(metrics, "output_token_count").get("mean"),
        "concurrency": _successful(metrics, "request_concurrency").get("mean"),
        "request_rate": number(strategy.get("rate")),
        "requests": number(totals.get("successful")) if isinstance(totals, dict) else None,
        "duration_s": parts.get("duration") if isinstance(parts.get("duration"), float) else None,
        "request_throughput": _successful(metrics, "requests_per_second").get("mean"),
        "prefill_tps": _successful(metrics, "prompt_tokens_per_second").get("mean"),
        "decode_tps": _successful(metrics, "output_tokens_per_second").get("mean"),
    }
    row |= latencies("ttft", _successful(metrics, "time_to_first_token_ms"), _MS)
    row |= latencies("tbt", _successful(metrics, "inter_token_latency_ms"), _MS)
    row = with_throughput(row)
    row["series"] = series_text(row)
    return row


def _successful(metrics: Mapping[str, Any], name: str) -> dict[str, float | None]:
    """Return mean and percentiles of a metric over successful requests."""
    found = metrics.get(name)
    found = found.get("successful") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not number(found.get("count", 1)):
        return {}
    percentiles = found.get("percentiles")
    percentiles = percentiles if isinstance(percentiles, dict) else {}
    return {"mean": number(found.get("mean"))} | {
        f"p{p}": number(percentiles.get(f"p{p}")) for p in (50, 90, 95, 99)
    }


def _strategy(parts: Row) -> Row:
    for name in STRATEGY_HOLDERS:
        holder = parts.get(name)
        found = holder.get("strategy") if isinstance(holder, dict) else None
        if isinstance(found, dict):
            return found
    return {}


def _model(parts: Row) -> str | None:
    for name in MODEL_HOLDERS:
        holder = parts.get(name)
        if not isinstance(holder, dict):
            continue
        backend = holder.get("backend")
        for one in (holder, backend if isinstance(backend, dict) else {}):
            model = one.get("model") or one.get("backend_model")
            if isinstance(model, str) and model:
                return model
    return None

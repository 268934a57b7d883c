"""Results of vLLM's and SGLang's benchmarks, InferenceX, genai-perf, aiperf summaries and guidellm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hs_analysis.ingest.json_records import excerpt, items, objects, open_json, parse_object, reject_value
from hs_analysis.ingest.rows import (
    MEASURED,
    POINT,
    UNIT_S,
    BenchRows,
    Dump,
    ReadNotes,
    RequestRows,
    bench_series_text,
    day,
    latencies,
    number,
    point_fault,
    ratio,
    raw_bench,
    raw_requests,
    request_fault,
    times,
    with_throughput,
)
from hs_analysis.ingest.streams import ByteStream

POINTS_AT_ONCE = 1 << 10

MOST_REQUESTS = 1 << 20
"""Of one run with details: each takes some kilobyte until it is a row."""

_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
"""Quantile → how vLLM, SGLang and InferenceX prefix it."""

Row = dict[str, Any]


def _has(head: bytes, *names: str) -> bool:
    return all(re.search(rf'"{name}"\s*:'.encode(), head) for name in names)


def is_vllm_bench(head: bytes) -> bool:
    """Whether a head is a result of ``vllm bench serve``: it alone dates its runs."""
    return (
        head[:1] == b"{" and _has(head, "date", "request_rate") and _has_any(head, "model_id", "num_prompts")
    )


def is_sglang_bench(head: bytes) -> bool:
    """Whether a head is a line of SGLang's bench_serving."""
    named = _has(head, "request_rate", "backend", "dataset_name")
    return head[:1] == b"{" and named and not _has(head, "date")


def is_inferencex(head: bytes) -> bool:
    """Whether a head is a row of InferenceX, or an array of them."""
    start = head.lstrip(b"[ \t\r\n")[:1] == b"{"
    return start and _has_any(head, "hw", "hardware") and _has(head, "conc", "tput_per_gpu")


def is_genai_perf(head: bytes) -> bool:
    """Whether a head is the summary of genai-perf or aiperf: per metric a unit and statistics."""
    summary = re.search(
        rb'"(time_to_first_token|request_throughput|request_latency)"\s*:\s*\{[^}]*"avg"', head
    )
    return head[:1] == b"{" and summary is not None


def _has_any(head: bytes, *names: str) -> bool:
    return any(_has(head, name) for name in names)


def read_vllm_bench(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
    """Yield a point a run; runs appended to one file are several documents.

    Summaries are in ms. With ``--save-detailed`` the requests are yielded too: lengths, TTFT and gaps in s,
    times from the first start, because the clock they are taken on is no wall clock. Of ``date``, the end of
    the run on a local clock, the day is kept.

    Raises
    ------
    InputError
        When a document is cut or no JSON.
    """
    yield from _runs(dump, notes, lambda row: _served(row, "vllm-bench"))


def read_sglang_bench(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
    """Yield a point a line of SGLang's bench_serving, and its requests where details were saved."""
    yield from _runs(dump, notes, lambda row: _served(row, "sglang-bench"))


def read_inferencex(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
    """Yield a point a row of InferenceX; throughputs are per GPU there, latencies in s."""
    yield from _runs(dump, notes, _inferencex)


def read_genai_perf(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
    """Yield the point that a summary of genai-perf or aiperf is; it has no series over time."""
    yield from _runs(dump, notes, _genai_perf)


def _runs(dump: Dump, notes: ReadNotes, point: Callable[[Row], Row]) -> Iterator[BenchRows | RequestRows]:
    rows: list[Row] = []
    for at, found in objects(dump, notes):
        row = point(found)
        if detail := point_fault(row) or _too_many(found):
            reject_value(at, excerpt(found), "bad_value", detail, notes)
            continue
        notes.rows += 1
        rows.append(row)
        if len(rows) == POINTS_AT_ONCE:
            yield raw_bench(rows)
            rows = []
        requests = _requests(found)
        if requests is not None:
            notes.rows += requests.frame.height
            yield requests
    if rows:
        yield raw_bench(rows)


def _too_many(run: Row) -> str:
    """Return what is wrong with a run of more requests than a load generator keeps in memory."""
    ttfts = run.get("ttfts")
    many = isinstance(ttfts, list) and len(ttfts) > MOST_REQUESTS
    return f"more than {MOST_REQUESTS} requests in one run" if many else ""


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) and str(value) else None


def _served(run: Row, name: str) -> Row:
    """Return a run of vLLM's or SGLang's load generator, whose summaries have the same keys."""
    completed, duration = number(run.get("completed")), number(run.get("duration"))
    sent, made = number(run.get("total_input_tokens")), number(run.get("total_output_tokens"))
    server = run.get("server_info")
    server = server if isinstance(server, dict) else {}
    row: Row = {
        "format": name,
        "kind": POINT,
        "model": _text(run.get("model_id")) or _text(server.get("model_path")),
        "engine": _text(run.get("backend") or run.get("endpoint_type")),
        "measured_on": day(run.get("date")),
        "isl": ratio(sent, completed),
        "osl": ratio(made, completed),
        "concurrency": number(run.get("max_concurrency")),
        "request_rate": number(run.get("request_rate")),
        "requests": completed,
        "duration_s": duration,
        "request_throughput": number(run.get("request_throughput")),
        "decode_tps": number(run.get("output_throughput")),
        "prefill_tps": _first(number(run.get("input_throughput")), ratio(sent, duration)),
    }
    row |= latencies("ttft", {q: run.get(f"{stat}_ttft_ms") for q, stat in _STATISTICS.items()}, UNIT_S["ms"])
    gap = "tpot" if "mean_tpot_ms" in run else "itl"
    row |= latencies("tbt", {q: run.get(f"{stat}_{gap}_ms") for q, stat in _STATISTICS.items()}, UNIT_S["ms"])
    row = with_throughput(row)
    row["series"] = bench_series_text({**row, "isl": _rounded(row["isl"]), "osl": _rounded(row["osl"])})
    return row


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _rounded(length: float | None) -> float | None:
    """Round a drawn mean length, so that runs of one shape share a series: two significant digits."""
    return None if length is None else float(f"{length:.2g}")


def _requests(run: Row) -> RequestRows | None:
    """Return the requests of a run whose details were saved, None when they were not.

    Its lists stand side by side, one entry a request; a list of another length says nothing.
    """
    ttfts = run.get("ttfts")
    if not isinstance(ttfts, list) or not ttfts:
        return None
    height = len(ttfts)
    columns = {name: _entries(run.get(name), height) for name in ("input_lens", "output_lens", "start_times")}
    gaps = [_gaps(one) for one in _entries(run.get("itls"), height)]
    errors = _entries(run.get("errors"), height)
    first = min((t for one in columns["start_times"] if (t := number(one)) is not None), default=None)
    starts = [_minus(number(one), first) for one in columns["start_times"]]
    firsts = [_positive(one) for one in ttfts]
    return raw_requests(
        {
            "arrival_s": starts,
            "prompt_tokens": [number(one) for one in columns["input_lens"]],
            "output_tokens": [number(one) for one in columns["output_lens"]],
            "ttft_s": firsts,
            "tbt_s": [None if not gap else sum(gap) / len(gap) for gap in gaps],
            "e2e_s": [None if t is None else t + sum(gap) for t, gap in zip(firsts, gaps, strict=True)],
            "status": [_status(e, t) for e, t in zip(errors, firsts, strict=True)],
        },
        height,
    )


def _entries(value: Any, height: int) -> list[Any]:
    return value if isinstance(value, list) and len(value) == height else [None] * height


def _gaps(value: Any) -> list[float]:
    found = [number(one) for one in value] if isinstance(value, list) else []
    return [one for one in found if one is not None and one >= 0]


def _positive(value: Any) -> float | None:
    """Return a time to first token; a failed request is written as 0, which is none."""
    found = number(value)
    return found if found is not None and found > 0 else None


def _minus(value: float | None, start: float | None) -> float | None:
    return None if value is None or start is None else value - start


def _status(error: Any, first: float | None) -> str:
    if isinstance(error, str) and error:
        return error.strip().splitlines()[-1][:80] if error.strip() else "failed"
    return "ok" if first is not None else "failed"


def _inferencex(found: Row) -> Row:
    metrics = found.get("metrics")
    run = {**found, **metrics} if isinstance(metrics, dict) else found
    apart = run.get("disagg") in (True, "true", "True")
    decode_gpus = _first(number(run.get("num_decode_gpu")) if apart else None, number(run.get("tp")),
                         number(run.get("num_decode_gpu")))  # fmt: skip
    prefill_gpus = number(run.get("num_prefill_gpu")) if apart else None
    made = times(number(run.get("output_tput_per_gpu")), decode_gpus)
    total = times(number(run.get("tput_per_gpu")), _sum(prefill_gpus, decode_gpus) if apart else decode_gpus)
    sent = _first(
        times(number(run.get("input_tput_per_gpu")), prefill_gpus if apart else decode_gpus),
        _minus(total, made),
    )
    row: Row = {
        "format": "inferencex",
        "kind": POINT,
        "model": _text(run.get("model")),
        "engine": _text(run.get("framework")),
        "measured_on": day(run.get("date")),
        "precision": _text(run.get("precision")),
        "disaggregated": apart,
        "prefill_instances": number(run.get("prefill_num_workers")) if apart else None,
        "decode_instances": number(run.get("decode_num_workers")) if apart else 1.0,
        "prefill_gpus": prefill_gpus,
        "decode_gpus": decode_gpus,
        "prefill_gpu_type": _hardware(run, "prefill_hw") if apart else None,
        "decode_gpu_type": _hardware(run, "decode_hw"),
        "isl": number(run.get("isl")),
        "osl": number(run.get("osl")),
        "concurrency": number(run.get("conc")),
        "prefill_tps": sent,
        "decode_tps": made,
        "request_throughput": ratio(made, number(run.get("osl"))),
        "throughput_basis": MEASURED if made is not None else None,
    }
    row |= latencies("ttft", {q: run.get(f"{stat}_ttft") for q, stat in _STATISTICS.items()}, 1.0)
    row |= latencies("tbt", {q: run.get(f"{stat}_tpot") for q, stat in _STATISTICS.items()}, 1.0)
    extra = [f"{key} {value}" for key in ("spec_decoding", "image") if (value := _text(run.get(key)))]
    row["series"] = bench_series_text(row, extra)
    return row


def _hardware(run: Row, key: str) -> str | None:
    """Return the GPU type of a pool, else that of the whole run."""
    return _text(run.get(key)) or _text(run.get("hw") or run.get("hardware"))


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


_SUMMARY = {"mean": "avg", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}


def _genai_perf(run: Row) -> Row:
    records = run.get("records")
    run = {**records, **run} if isinstance(records, dict) else run
    config = run.get("input_config")
    config = config if isinstance(config, dict) else {}
    row: Row = {
        "format": "genai-perf",
        "kind": POINT,
        "model": _model(config),
        "isl": _average(run, "input_sequence_length"),
        "osl": _average(run, "output_sequence_length"),
        "concurrency": _setting(config, "concurrency"),
        "request_rate": _setting(config, "request_rate"),
        "requests": _average(run, "request_count"),
        "duration_s": _seconds(run, "benchmark_duration", "avg"),
        "request_throughput": _average(run, "request_throughput"),
        "decode_tps": _average(run, "output_token_throughput"),
    }
    ttft = {q: _seconds(run, "time_to_first_token", stat) for q, stat in _SUMMARY.items()}
    gap = {q: _seconds(run, "inter_token_latency", stat) for q, stat in _SUMMARY.items()}
    row |= latencies("ttft", ttft, 1.0) | latencies("tbt", gap, 1.0)
    row = with_throughput(row)
    row["series"] = bench_series_text({**row, "isl": _rounded(row["isl"]), "osl": _rounded(row["osl"])})
    return row


def _metric(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = run.get(name)
    return found if isinstance(found, dict) else {}


def _average(run: Mapping[str, Any], name: str) -> float | None:
    return number(_metric(run, name).get("avg"))


def _seconds(run: Mapping[str, Any], name: str, stat: str) -> float | None:
    found = _metric(run, name)
    return times(number(found.get(stat)), UNIT_S.get(str(found.get("unit", "ms"))))


def _setting(config: Any, name: str) -> float | None:
    """Return a setting of the load, wherever a version keeps it."""
    if not isinstance(config, dict):
        return None
    found = number(config.get(name))
    inner: Sequence[Any] = list(config.values())
    return (
        found if found is not None else next((f for c in inner if (f := _setting(c, name)) is not None), None)
    )


def _model(config: Mapping[str, Any]) -> str | None:
    endpoint = config.get("endpoint")
    for holder in (config, endpoint if isinstance(endpoint, dict) else {}):
        for name in ("model", "model_names", "models", "formatted_model_name"):
            value = holder.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value:
                return value
    return None


ROWS_AT_ONCE = 1 << 14


STATUS = {"successful": "ok", "errored": "errored", "incomplete": "incomplete"}
"""Lists of a benchmark's requests → status."""

STRATEGY_HOLDERS = ("config", "args", "scheduler")
MODEL_HOLDERS = ("config", "args", "metadata", "worker")
"""Where versions of guidellm keep the load and the model."""


def is_guidellm(head: bytes) -> bool:
    """Whether a head is a guidellm report."""
    return head[:1] == b"{" and re.search(rb'"benchmarks"\s*:\s*\[', head) is not None


def read_guidellm(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
    """Yield the points and requests of a report; memory is one request, whatever its size.

    Times are Unix seconds. Percentiles are over successful requests.

    Raises
    ------
    InputError
        When it is cut or no JSON.
    """
    report: Row = {}
    with open_json(dump, notes) as stream:
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
    found = parse_object(stream.value())
    return found if isinstance(found, dict) else {}


def _benchmark(stream: ByteStream, report: Row, notes: ReadNotes) -> Iterator[BenchRows | RequestRows]:
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
                    yield from _guidellm_requests(stream, STATUS.get(status, status), notes)
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
        reject_value(at, excerpt(parts), "bad_value", detail, notes, "benchmarks")
        return
    notes.rows += 1
    yield raw_bench([row])


def _guidellm_requests(stream: ByteStream, status: str, notes: ReadNotes) -> Iterator[RequestRows]:
    rows: list[Row] = []
    for at, found in items(stream, notes):
        row = _request(found)
        detail = request_fault({k: v for k, v in row.items() if k != "arrival"})
        if all(value is None for value in row.values()):
            detail = "neither a time nor a number"
        if detail:
            reject_value(at, excerpt(found), "bad_value", detail, notes, "requests")
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
        "ttft_s": None if first_token is None else first_token * UNIT_S["ms"],
        "tbt_s": None if gap is None else gap * UNIT_S["ms"],
        "e2e_s": first("request_latency"),
    }


def _piece(rows: list[Row], status: str, notes: ReadNotes) -> RequestRows:
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
        "model": _guidellm_model(parts) or _guidellm_model(report),
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
    row |= latencies("ttft", _successful(metrics, "time_to_first_token_ms"), UNIT_S["ms"])
    row |= latencies("tbt", _successful(metrics, "inter_token_latency_ms"), UNIT_S["ms"])
    row = with_throughput(row)
    row["series"] = bench_series_text(row)
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


def _guidellm_model(parts: Row) -> str | None:
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

"""What aiperf writes of a run: the servers' metrics as Parquet, and every request as a JSON line."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from hs_analysis.catalogue import load_catalogue
from hs_analysis.errors import InputError
from hs_analysis.ingest.json_records import first_object, json_lines
from hs_analysis.ingest.parquet_rows import MAGIC, column_names, held_whole, open_parquet
from hs_analysis.ingest.rows import (
    NULL,
    STALE,
    UNIT_S,
    Dump,
    RawSeries,
    ReadNotes,
    Rejection,
    RequestRows,
    flagged,
    number,
    raw_requests,
    request_fault,
)
from hs_analysis.ingest.text_lines import reject_line

FIXED = ("endpoint_url", "metric_name", "metric_type", "unit", "description", "timestamp_ns")
VALUES = ("value", "sum", "count", "bucket_le", "bucket_count")
"""Columns of aiperf's server metrics (schema 1.0); every other column is a label."""

LAST_NS = 4_102_444_800_000_000_000
"""2100-01-01 in nanoseconds."""

ROWS_AT_ONCE = 1 << 15

HIDDEN_RESET = "a counter fell: aiperf had hidden a restart; its increase across it is a lower bound"


def is_aiperf_parquet(head: bytes, path: Path | None) -> bool:
    """Whether a file is aiperf's export of server metrics: Parquet with its columns."""
    if head[: len(MAGIC)] != MAGIC or path is None:
        return False
    return {"timestamp_ns", "metric_name", "metric_type"} <= set(column_names(path))


def read_aiperf_parquet(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of aiperf's server metrics under the names the servers exported.

    A row of the file is one value, or one bucket of a histogram; ``_sum`` and ``_count`` stand in each of its
    rows and are read once a time. aiperf gives counters and histograms as what they gained since the run
    began, which differs from the counter itself by a constant: differences are the same, so the values are
    passed on as they are. It writes 0 where a counter fell below its start, so a fall here is a restart. A
    fallen counter is carried on from where it was, once, so that no later stage finds a reset to correct;
    while it stands at the clamp of 0 its value is unknown, and its samples are null with flag ``stale``.

    Raises
    ------
    InputError
        When the file is cut, damaged, or lacks a column.
    """
    with open_parquet(dump) as file:
        names = file.schema_arrow.names
        missing = [name for name in ("metric_name", "metric_type", "timestamp_ns") if name not in names]
        if missing:
            raise InputError(
                f"no server metrics of aiperf: {', '.join(missing)} is missing", where=dump.where,
                hint="describe the table under [tables] in hsa.toml",
            )  # fmt: skip
        table = held_whole(file, dump).drop("row#", "reason#", strict=False)  # no labels: names used below
    labels = sorted(set(table.columns) - set(FIXED) - set(VALUES))
    table = _typed(table, labels).with_row_index("row#", offset=1)
    table = _accepted(table, notes)
    by = ["metric_name", "metric_type", "endpoint_url", *labels]
    hidden = 0
    for key, part in sorted(
        table.group_by(by, maintain_order=True), key=lambda pair: [str(one) for one in pair[0]]
    ):
        named = dict(zip(by, (None if one is None else str(one) for one in key), strict=True))
        hidden += yield from _family(named, part.sort("timestamp_ns", "row#", maintain_order=True), notes)
    if hidden:
        notes.warnings.append(f"{HIDDEN_RESET} ({hidden} series)")


def _typed(table: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Return the table with every column of the schema, as the type it should have; what isn't is null."""
    absent = [name for name in (*FIXED, *VALUES) if name not in table.columns]
    table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    texts = ("endpoint_url", "metric_name", "metric_type", "description", "bucket_le", *labels)
    numbers = ("value", "sum", "count", "bucket_count")
    nested = [name for name, dtype in table.schema.items() if dtype.is_nested() or dtype == pl.Binary]
    table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in nested)
    return table.with_columns(
        *(pl.col(name).cast(pl.String, strict=False) for name in texts),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in numbers),
        pl.col("timestamp_ns").cast(pl.Int64, strict=False),
    )


def _accepted(table: pl.DataFrame, notes: ReadNotes) -> pl.DataFrame:
    """Return the rows that have a name, a time and an edge where they need one; the others are set aside."""
    time = pl.col("timestamp_ns")
    bucket = pl.col("bucket_count").is_not_null()
    reason = (
        pl.when(time.is_null() | (time < 0) | (time >= LAST_NS))
        .then(pl.lit("bad_ts"))
        .when(pl.col("metric_name").is_null() | (pl.col("metric_name") == ""))
        .then(pl.lit("bad_value"))
        .when(bucket & pl.col("bucket_le").cast(pl.Float64, strict=False).is_null() & ~_infinite())
        .then(pl.lit("bad_le"))
    )
    judged = table.with_columns(reason.alias("reason#"))
    details = {"bad_ts": "no time in nanoseconds", "bad_value": "no name", "bad_le": "bucket_le is no number"}
    for row in judged.filter(pl.col("reason#").is_not_null()).iter_rows(named=True):
        reason_code = row.pop("reason#")
        notes.rows += 1
        notes.rejections.append(
            Rejection(
                row.pop("row#"), reason_code, str(row), details[reason_code], "", str(row["metric_name"])
            )
        )
    return judged.filter(pl.col("reason#").is_null()).drop("reason#")


def _infinite() -> pl.Expr:
    return pl.col("bucket_le").is_in(["+Inf", "Inf", "inf", "+inf"])


def _family(
    key: Mapping[str, str | None], part: pl.DataFrame, notes: ReadNotes
) -> Generator[RawSeries, None, int]:
    """Yield the series of one metric with one set of labels; returns how many hid a reset."""
    kind, name = key["metric_type"] or "", key["metric_name"] or ""
    own = {k: v for k, v in key.items() if k not in ("metric_name", "metric_type", "endpoint_url") and v}
    labels = {**own, **({"instance": instance_of(url)} if (url := key["endpoint_url"]) else {})}
    if kind != "histogram":
        exported = _exported(name) if kind == "counter" else name
        notes.types[exported] = kind or "gauge"
        series, hid = _one(part, "value", {**labels, "__name__": exported}, kind == "counter")
        notes.rows += part.height
        yield series
        return hid
    notes.types[name] = kind
    hidden = 0
    once = part.unique("timestamp_ns", keep="first", maintain_order=True)
    for column in ("sum", "count"):
        series, hid = _one(once, column, {**labels, "__name__": f"{name}_{column}"}, counter=True)
        hidden += hid
        notes.rows += once.height
        yield series
    buckets = part.filter(pl.col("bucket_le").is_not_null())
    for (edge,), rows in buckets.group_by("bucket_le", maintain_order=True):
        le = "+Inf" if str(edge).lower().lstrip("+") == "inf" else str(edge)
        series, hid = _one(rows, "bucket_count", {**labels, "__name__": f"{name}_bucket", "le": le}, True)
        hidden += hid
        notes.rows += rows.height
        yield series
    return hidden


def _exported(name: str) -> str:
    """Return the name a counter was exported under: aiperf takes ``_total`` off, as client libraries do."""
    if name.endswith("_total"):
        return name
    catalogue = load_catalogue()
    bare = catalogue.first_signal(name) is not None and catalogue.first_signal(f"{name}_total") is None
    return name if bare else f"{name}_total"


def instance_of(url: str) -> str:
    """Return the target a URL names, as Prometheus' label ``instance`` does: host and port."""
    try:
        return urlsplit(url).netloc or url
    except ValueError:
        return url


def _one(part: pl.DataFrame, column: str, labels: dict[str, str], counter: bool) -> tuple[RawSeries, int]:
    t_us = (part["timestamp_ns"].to_numpy().astype(np.int64) + 500) // 1000
    raw = part[column].to_numpy().astype(np.float64)
    values, flags = flagged(raw)
    values = values.copy()
    flags[part[column].is_null().to_numpy()] = NULL
    hid = carried_on(values, flags) if counter else 0
    return RawSeries(labels, t_us, values, flags, int(part["row#"][0])), hid


def carried_on(values: np.ndarray, flags: np.ndarray) -> int:
    """Carry a counter on over its falls, in place; returns 1 when it fell.

    Parameters
    ----------
    values, flags
        Values since the run began, NaN where a flag says why, shape (n,).

    Notes
    -----
    After a fall the value is what was gained since the restart, less what it had at the start of the run and
    never below 0: a lower bound, added to where the counter was. A 0 there is the clamp and says nothing.
    """
    base, last, clamped, fell = 0.0, 0.0, False, 0
    for i, value in enumerate(values.tolist()):
        if flags[i]:
            continue
        if value < last:
            base, fell, clamped = base + last, 1, True
        clamped = clamped and value <= 0.0
        last = value
        values[i] = base + value
        if clamped:
            values[i], flags[i] = np.nan, STALE
    return fell


def is_aiperf_jsonl(head: bytes) -> bool:
    """Whether the first line is a request as aiperf records it."""
    line = first_object(head)
    return line[:1] == b"{" and all(k in line for k in (b'"metadata"', b'"metrics"', b'"request_start_ns"'))


_LENGTHS = {
    "prompt_tokens": ("input_sequence_length", "isl"),
    "cached_tokens": ("usage_prompt_cache_read_tokens", "cached_tokens"),
    "output_tokens": ("output_sequence_length", "output_token_count", "osl"),
}
_LATENCIES = {
    "ttft_s": ("time_to_first_token", "ttft"),
    "tbt_s": ("inter_token_latency", "itl"),
    "e2e_s": ("request_latency",),
}
"""Column → names that versions of aiperf give it."""


def read_aiperf_jsonl(dump: Dump, notes: ReadNotes) -> Iterator[RequestRows]:
    """Yield the requests of a run, with how each ended; those of the warm-up are marked ``warmup``.

    Times are nanoseconds since 1970.
    """
    rows: list[dict[str, Any]] = []
    start: int | None = None
    for line, found, raw in json_lines(dump, notes):
        row = _request(found)
        if isinstance(row, tuple):
            reject_line(line, raw, *row, notes)
            continue
        start = row["arrival"] if start is None else start
        row["arrival_s"] = (row["arrival"] - start) / 1e6
        rows.append(row)
        if len(rows) >= ROWS_AT_ONCE:
            yield _piece(rows, notes)
            rows = []
    if rows:
        yield _piece(rows, notes)


def _piece(rows: Sequence[Mapping[str, Any]], notes: ReadNotes) -> RequestRows:
    notes.rows += len(rows)
    return raw_requests({name: [row[name] for row in rows] for name in rows[0]}, len(rows))


def _request(found: Mapping[str, Any]) -> dict[str, Any] | tuple[str, str]:
    """Return a request, or reason and detail why it is none."""
    metadata, metrics = found.get("metadata"), found.get("metrics")
    metadata = metadata if isinstance(metadata, dict) else {}
    metrics = metrics if isinstance(metrics, dict) else {}
    start, end = metadata.get("request_start_ns"), number(metadata.get("request_end_ns"))
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < LAST_NS:
        return "bad_ts", "request_start_ns is no time in nanoseconds"
    values: dict[str, float | None] = {
        name: _metric(metrics, names, None) for name, names in _LENGTHS.items()
    } | {name: _metric(metrics, names, UNIT_S) for name, names in _LATENCIES.items()}
    if values["e2e_s"] is None and end is not None and end >= start:
        values["e2e_s"] = (end - start) / 1e9
    if detail := request_fault(values):
        return "bad_value", detail
    return {"arrival": (start + 500) // 1000, **values, "status": _status(found, metadata)}


def _metric(
    metrics: Mapping[str, Any], names: Sequence[str], units: Mapping[str, float] | None
) -> float | None:
    for name in names:
        found = metrics.get(name)
        if isinstance(found, dict) and (value := number(found.get("value"))) is not None:
            size = 1.0 if units is None else units.get(str(found.get("unit", "ms")))
            return None if size is None else value * size
    return None


def _status(found: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    error = found.get("error")
    if isinstance(error, dict):
        return str(error.get("type") or error.get("code") or "error")[:80]
    if error:
        return str(error)[:80]
    if metadata.get("was_cancelled"):
        return "cancelled"
    return "warmup" if metadata.get("benchmark_phase") == "warmup" else "ok"

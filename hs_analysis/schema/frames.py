"""Contracts of every frame that crosses a stage or reaches the disk.

Each contract is a pyarrow schema whose field metadata carries unit and meaning. They exist once, here;
the Parquet files carry them, the reference page is generated from them, and `check` holds frames to them.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from hs_analysis.errors import ContractError

TIME = pa.timestamp("us", tz="UTC")
LABELS = pa.map_(pa.string(), pa.string())


def _field(name: str, dtype: pa.DataType, unit: str, meaning: str, *, null: bool = True) -> pa.Field:
    return pa.field(name, dtype, nullable=null, metadata={"unit": unit, "meaning": meaning})


SERIES = pa.schema(
    [
        _field(
            "series_id",
            pa.int64(),
            "",
            "number of the series, by sorted (capture, metric, labels)",
            null=False,
        ),
        _field("metric", pa.string(), "", "metric name as exported", null=False),
        _field("labels", LABELS, "", "labels without the name", null=False),
        _field("signal", pa.string(), "", "catalogue signal it carries first; null when none"),
        _field(
            "emitter_role",
            pa.string(),
            "",
            "prefill, decode, mixed, encode, frontend, unknown or ignore",
            null=False,
        ),
        _field("role_evidence", pa.string(), "", "the step of the role chain that decided", null=False),
        _field("service", pa.string(), "", "namespace/model; null when unmapped"),
        _field("instance", pa.string(), "", "the unit an autoscaler adds; null when the series names none"),
        _field("unit_kind", pa.string(), "", "group, pod or host"),
        _field("gpu_type", pa.string(), "", "GPU model of the instance; null when unknown"),
        _field("unit", pa.string(), "", "unit of the stored values"),
        _field("kind", pa.string(), "", "counter or gauge", null=False),
        _field("interval_s", pa.float64(), "s", "median time between samples"),
        _field(
            "capture",
            pa.string(),
            "",
            "separate run of the same service; empty when there is one",
            null=False,
        ),
        _field("source", pa.string(), "", "exporter the catalogue gives for the metric; null when unknown"),
    ],
    metadata={"table": "series", "grain": "one row per series"},
)

SAMPLES = pa.schema(
    [
        _field("series_id", pa.int64(), "", "key into series", null=False),
        _field("t", TIME, "UTC", "time of the sample", null=False),
        _field("value", pa.float64(), "unit of the series", "null = missing, never zero"),
        _field(
            "flag",
            pa.string(),
            "",
            "why the value is null: null, nan, pos_inf, neg_inf, stale, sentinel or lookback",
        ),
    ],
    metadata={"table": "samples", "grain": "one row per series and time"},
)

REJECTED = pa.schema(
    [
        _field("file", pa.string(), "", "input file", null=False),
        _field("member", pa.string(), "", "archive member; empty outside archives", null=False),
        _field(
            "position",
            pa.int64(),
            "byte or line",
            "where the row starts in the decompressed file",
            null=False,
        ),
        _field("path", pa.string(), "", "JSON path", null=False),
        _field("series", pa.string(), "", "labels as text", null=False),
        _field("reason", pa.string(), "", "reason code", null=False),
        _field("raw", pa.string(), "", "first 200 characters", null=False),
        _field("detail", pa.string(), "", "what was expected", null=False),
    ],
    metadata={"table": "rejected", "grain": "one row per quarantined sample"},
)

SIGNALS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode, mixed or service", null=False),
        _field("gpu_type", pa.string(), "", "GPU model; null = all together"),
        _field("signal", pa.string(), "", "catalogue signal or derived quantity", null=False),
        _field("source", pa.string(), "", "exporter it came from, or `derived`", null=False),
        _field("t", TIME, "UTC", "start of the window", null=False),
        _field("window_s", pa.float64(), "s", "width of the window", null=False),
        _field(
            "value",
            pa.float64(),
            "unit of the signal",
            "pool total or mean as the catalogue says; null = missing",
        ),
        _field("instances", pa.float64(), "instances", "instances of the pool that reported in the window"),
        _field("coverage", pa.float64(), "ratio 0..1", "share of the window's expected samples present"),
    ],
    metadata={"table": "signals", "grain": "one row per service, capture, role, GPU type, signal and window"},
)

FINDINGS = pa.schema(
    [
        _field("check", pa.string(), "", "name of the check", null=False),
        _field("level", pa.string(), "", "pass, warn or fail", null=False),
        _field("service", pa.string(), "", "service it is about, empty for the whole input", null=False),
        _field("text", pa.string(), "", "what was found and what to do", null=False),
        _field("value", pa.float64(), "as the text says", "the number behind it"),
        _field("start", TIME, "UTC", "first moment it concerns"),
        _field("end", TIME, "UTC", "last moment it concerns"),
    ],
    metadata={"table": "findings", "grain": "one row per check and place"},
)

CONTRACTS: dict[str, pa.Schema] = {
    "series": SERIES,
    "samples": SAMPLES,
    "rejected": REJECTED,
    "signals": SIGNALS,
    "findings": FINDINGS,
}


def empty(contract: pa.Schema) -> pl.DataFrame:
    """Return a frame with the contract's columns and no rows."""
    frame = pl.from_arrow(contract.empty_table())
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type of from_arrow
    return frame


def label_map(raw: Any) -> dict[str, str]:
    """Return the labels of one row: polars gives a map cell as a dict, older releases as a list of pairs."""
    return dict(raw) if isinstance(raw, dict) else {pair["key"]: pair["value"] for pair in raw}


def check(frame: pl.DataFrame, contract: pa.Schema) -> pl.DataFrame:
    """Hold a frame to its contract and return it with the contract's column order.

    Raises
    ------
    ContractError
        When a column is missing, has another type, or is null where it may not be; the message names
        the table and the column.
    """
    table = (contract.metadata or {}).get(b"table", b"frame").decode()
    expected = empty(contract).schema
    for field in contract:
        if field.name not in frame.columns:
            raise ContractError(f"column {field.name} is missing", where=table)
        got, want = frame.schema[field.name], expected[field.name]
        if got != want and not (frame.height == 0 or got == pl.Null):
            raise ContractError(f"column {field.name} is {got}, expected {want}", where=table)
        if not field.nullable and frame[field.name].null_count():
            raise ContractError(
                f"column {field.name} holds {frame[field.name].null_count()} nulls", where=table
            )
    return frame.select(pl.col(name).cast(expected[name]) for name in contract.names)


def to_table(frame: pl.DataFrame, contract: pa.Schema) -> pa.Table:
    """Return the frame as an Arrow table that carries the contract's field metadata."""
    return check(frame, contract).to_arrow().cast(contract)

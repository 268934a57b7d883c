"""Contracts of every frame that crosses a stage or reaches the disk.

Each contract is a pyarrow schema whose field metadata carries unit and meaning. They exist once: those of
frames here, those of results at the results, see `schema.declare`. The Parquet files carry them, the
reference page is generated from them, and `check` holds frames to them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.errors import ContractError

TIME = pa.timestamp("us", tz="UTC")
LABELS = pa.map_(pa.string(), pa.string())

GAP_INTERVALS = 2.5
"""A pause of a series longer than so many of its usual intervals is a gap, which no rate bridges: one scrape
may fail and the next be late [intervals]. Default of this project."""


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
        _field(
            "repair",
            pa.float64(),
            "ratio",
            "factor on the catalogue's scale where this series comes in another unit; null = as catalogued",
        ),
        _field(
            "scale_evidence",
            pa.string(),
            "",
            "how the scale is known: values, siblings, help, assumed or mismatch, and the range seen",
        ),
        _field(
            "copy_label",
            pa.string(),
            "",
            "label in which copies of the series differ (--dedup-label); null = none was given",
        ),
        _field("copies", pa.list_(pa.string()), "", "its values, sorted, of which one copy is stored"),
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
            "why the value is null: null, nan, pos_inf, neg_inf, stale, sentinel, lookback (repeated across "
            "a scrape gap) or frozen (repeated after its instance had gone)",
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

REQUESTS = pa.schema(
    [
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("file", pa.string(), "", "input file the row came from", null=False),
        _field("service", pa.string(), "", "namespace/model; null when the log names none"),
        _field("arrival", TIME, "UTC", "when the request arrived; null when the log has no wall clock"),
        _field("arrival_s", pa.float64(), "s", "the same from the start of the log"),
        _field("prompt_tokens", pa.float64(), "tokens", "prompt length, cached tokens included"),
        _field("cached_tokens", pa.float64(), "tokens", "of those, found in the prefix cache"),
        _field("output_tokens", pa.float64(), "tokens", "tokens generated"),
        _field("ttft_s", pa.float64(), "s", "time to first token"),
        _field("tbt_s", pa.float64(), "s", "mean time between output tokens"),
        _field("e2e_s", pa.float64(), "s", "time from arrival to the last token"),
        _field("status", pa.string(), "", "ok, or how the request failed; null when the log does not say"),
    ],
    metadata={"table": "requests", "grain": "one row per request"},
)

BENCH = pa.schema(
    [
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("file", pa.string(), "", "input file the row came from", null=False),
        _field("format", pa.string(), "", "reader that gave the row", null=False),
        _field(
            "series",
            pa.string(),
            "",
            "rows that differ only in split and load: model, hardware, engine, shape",
            null=False,
        ),
        _field(
            "kind",
            pa.string(),
            "",
            "point (a load was run), prefill or decode (a profile of one role)",
            null=False,
        ),
        _field("model", pa.string(), "", "model as the benchmark names it"),
        _field("engine", pa.string(), "", "serving engine and its version"),
        _field("measured_on", pa.string(), "date", "day it was measured, YYYY-MM-DD; null when not given"),
        _field("precision", pa.string(), "", "number format"),
        _field("disaggregated", pa.bool_(), "", "whether prefill and decode ran apart"),
        _field("prefill_instances", pa.float64(), "instances", "prefill workers; null in a single pool"),
        _field("decode_instances", pa.float64(), "instances", "decode workers, or all of a single pool"),
        _field("prefill_gpus", pa.float64(), "GPUs", "GPUs of all prefill workers"),
        _field("decode_gpus", pa.float64(), "GPUs", "GPUs of all decode workers, or of a single pool"),
        _field("prefill_gpu_type", pa.string(), "", "GPU model of prefill"),
        _field("decode_gpu_type", pa.string(), "", "GPU model of decode, or of a single pool"),
        _field("isl", pa.float64(), "tokens", "mean prompt length"),
        _field("osl", pa.float64(), "tokens", "mean output length"),
        _field("cached_ratio", pa.float64(), "ratio 0..1", "share of prompt tokens found in a cache"),
        _field("context_tokens", pa.float64(), "tokens", "context length of a decode profile point"),
        _field(
            "kv_usage", pa.float64(), "ratio 0..1", "share of the KV cache in use at a decode profile point"
        ),
        _field("concurrency", pa.float64(), "requests", "requests in flight"),
        _field("request_rate", pa.float64(), "requests/s", "requests offered per second"),
        _field("requests", pa.float64(), "requests", "requests that were measured"),
        _field("duration_s", pa.float64(), "s", "how long the load lasted"),
        _field("request_throughput", pa.float64(), "requests/s", "requests completed per second"),
        _field("prefill_tps", pa.float64(), "tokens/s", "prompt tokens served per second, all instances"),
        _field("decode_tps", pa.float64(), "tokens/s", "output tokens served per second, all instances"),
        _field("throughput_basis", pa.string(), "", "measured, or how a missing throughput was estimated"),
        _field("ttft_mean_s", pa.float64(), "s", "mean time to first token"),
        _field("ttft_p50_s", pa.float64(), "s", "median"),
        _field("ttft_p90_s", pa.float64(), "s", "90 % of requests are within it"),
        _field("ttft_p95_s", pa.float64(), "s", "95 % of requests are within it"),
        _field("ttft_p99_s", pa.float64(), "s", "99 % of requests are within it"),
        _field("tbt_mean_s", pa.float64(), "s", "mean time between output tokens (TPOT)"),
        _field("tbt_p50_s", pa.float64(), "s", "median"),
        _field("tbt_p90_s", pa.float64(), "s", "90 % are within it"),
        _field("tbt_p95_s", pa.float64(), "s", "95 % are within it"),
        _field("tbt_p99_s", pa.float64(), "s", "99 % are within it"),
        _field("price_per_hour", pa.float64(), "currency/h", "price of all GPUs together"),
    ],
    metadata={"table": "bench", "grain": "one row per benchmark point"},
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

BIRTHS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field("instance", pa.string(), "", "the instance that came", null=False),
        _field("asked", TIME, "UTC", "when it was asked for; null when the input does not say"),
        _field(
            "asked_by",
            pa.string(),
            "",
            "pod_created, replicas, target or process: what says when it was asked for",
        ),
        _field("first_sample", TIME, "UTC", "first sample of any of its own series", null=False),
        _field("first_served", TIME, "UTC", "first sample in which a counter of its work rose", null=False),
        _field("resolution_s", pa.float64(), "s", "time between samples: it first served within the last"),
    ],
    metadata={"table": "births", "grain": "one row per instance that came inside the window and served"},
)

LIVES = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field("instance", pa.string(), "", "unit an autoscaler adds", null=False),
        _field("life", pa.int64(), "", "number of the life: a restarted instance lives again", null=False),
        _field("started", TIME, "UTC", "first sign of it; null when it was there before the recording"),
        _field(
            "started_by",
            pa.string(),
            "",
            "up: its target was known and did not answer; process: start of its process; reset: its counters "
            "began anew; series: its first sample",
        ),
        _field("away_s", pa.float64(), "s", "time since the last sample of the life before it"),
        _field("ready", TIME, "UTC", "first sample of its own series; null when started is null"),
        _field("watched", pa.bool_(), "", "whether its capture was recorded just before ready"),
        _field("served", TIME, "UTC", "first sample in which a counter of its work rose since it was ready"),
        _field("ended", TIME, "UTC", "last sample of its own series; null when it was there to the end"),
        _field(
            "ended_by",
            pa.string(),
            "",
            "up: its target stopped to answer; reset: its counters began anew; series: its series end",
        ),
        _field("created", TIME, "UTC", "creation of its pod within this life; null when not exported"),
        _field("resolution_s", pa.float64(), "s", "time between samples: each moment is known to within it"),
    ],
    metadata={"table": "lives", "grain": "one row per service, capture, role, instance and life"},
)

FROZEN_SERIES = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field("instance", pa.string(), "", "unit an autoscaler adds", null=False),
        _field("metric", pa.string(), "", "the gauge; empty for all that the instance exports", null=False),
        _field("after", TIME, "UTC", "last true sample: what follows repeats it", null=False),
        _field("until", TIME, "UTC", "last repeat", null=False),
        _field(
            "told_by",
            pa.string(),
            "",
            "up: its target did not answer; clock: a series that always moves did not move; peers: the "
            "others of its pool moved on",
            null=False,
        ),
        _field("series", pa.int64(), "series", "series whose samples are null there", null=False),
    ],
    metadata={"table": "frozen_series", "grain": "one row per service, capture, role, instance and stretch"},
)

INSTANCES = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field("instance", pa.string(), "", "unit an autoscaler adds", null=False),
        _field("t", TIME, "UTC", "start of the row: 300 s, in a pressure test one window", null=False),
        _field("signal", pa.string(), "", "catalogue signal that every instance exports", null=False),
        _field("value", pa.float64(), "unit of the signal", "total, mean or ratio of the instance"),
    ],
    metadata={
        "table": "instances",
        "grain": "one row per service, capture, role, instance, signal and row; at most 64 instances a pool",
    },
)

VERSIONS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name, empty when there is one", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field("what", pa.string(), "", "label, image or metric names that tell a version", null=False),
        _field(
            "tells",
            pa.string(),
            "",
            "version: its name; sign: changes with it; template: with any roll-out; driver: of the node",
            null=False,
        ),
        _field("value", pa.string(), "", "the version it tells", null=False),
        _field("instance", pa.string(), "", "where it was seen; empty where nothing says", null=False),
        _field("first", TIME, "UTC", "first sample there", null=False),
        _field("last", TIME, "UTC", "last sample there", null=False),
    ],
    metadata={
        "table": "versions",
        "grain": "one row per service, capture, role, kind of evidence, version and instance",
    },
)

POOLS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "prefill, decode or mixed", null=False),
        _field(
            "gpus_per_instance",
            pa.float64(),
            "GPUs",
            "GPUs of an instance; null when neither the input nor the settings say",
        ),
    ],
    metadata={"table": "pools", "grain": "one row per service and role that has instances"},
)

DISAGREEMENTS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "prefill, decode, mixed or service", null=False),
        _field("signal", pa.string(), "", "catalogue signal", null=False),
        _field("source", pa.string(), "", "exporter that is used", null=False),
        _field("other", pa.string(), "", "exporter that would be used without it", null=False),
        _field(
            "difference",
            pa.float64(),
            "ln of a ratio",
            "median over windows of |ln(value ÷ value of the other)|",
            null=False,
        ),
    ],
    metadata={
        "table": "disagreements",
        "grain": "one row per service, role and signal whose two best sources differ by more than 5 %",
    },
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
    "requests": REQUESTS,
    "bench": BENCH,
    "signals": SIGNALS,
    "births": BIRTHS,
    "lives": LIVES,
    "frozen_series": FROZEN_SERIES,
    "instances": INSTANCES,
    "versions": VERSIONS,
    "pools": POOLS,
    "disagreements": DISAGREEMENTS,
    "findings": FINDINGS,
}


STUDY_POINTS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("signal", pa.string(), "", "catalogue signal", null=False),
        _field("role", pa.string(), "", "role of the signal", null=False),
        _field("t", TIME, "UTC", "start of the row (5 min in production)", null=False),
        _field("load", pa.float64(), "tokens/s or requests/s", "reference load the signal is judged on"),
        _field("value", pa.float64(), "unit of the signal", "the signal, normalised as the study used it"),
        _field("fit", pa.float64(), "unit of the signal", "isotonic fit at this load"),
        _field("used", pa.bool_(), "", "inside the operating range and not saturated", null=False),
    ],
    metadata={"table": "study_points", "grain": "one row per signal and study row"},
)

CAPACITY_POINTS = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "role", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("t", TIME, "UTC", "start of the 60-s row", null=False),
        _field("load_per_instance", pa.float64(), "tokens/s", "offered work per ready instance, 5-min mean"),
        _field("over_ratio", pa.float64(), "ratio 0..1", "share of samples over the limit"),
        _field(
            "over_least_ratio",
            pa.float64(),
            "ratio 0..1",
            "the same, at its least where one histogram bucket about the limit holds all samples",
        ),
        _field(
            "violates",
            pa.bool_(),
            "",
            "share over the limit is more than the SLO allows; null when undecided",
        ),
        _field("used", pa.bool_(), "", "entered the fit", null=False),
    ],
    metadata={"table": "capacity_points", "grain": "one row per role and window"},
)

CAPACITY_CURVE = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("role", pa.string(), "", "role", null=False),
        _field("load_per_instance", pa.float64(), "tokens/s", "load", null=False),
        _field(
            "violation_probability",
            pa.float64(),
            "ratio 0..1",
            "fitted share of violating windows; of samples over the limit where the law is load levels",
            null=False,
        ),
    ],
    metadata={"table": "capacity_curve", "grain": "one row per role and grid point"},
)

MIX = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("start", TIME, "UTC", "start of the stretch", null=False),
        _field("end", TIME, "UTC", "end of the stretch", null=False),
        _field("prefill_tps", pa.float64(), "tokens/s", "mean offered cache-missed prefill work"),
        _field("decode_tps", pa.float64(), "tokens/s", "mean offered decode work"),
        _field(
            "ratio",
            pa.float64(),
            "prefill ÷ decode",
            "balanced ratio of the stretch; null without both targets",
        ),
    ],
    metadata={"table": "mix", "grain": "one row per stretch"},
)

TIMELINE = pa.schema(
    [
        _field("service", pa.string(), "", "namespace/model", null=False),
        _field("policy", pa.string(), "", "policy name", null=False),
        _field("capture", pa.string(), "", "capture name", null=False),
        _field("t", TIME, "UTC", "start of the step", null=False),
        _field("load_prefill", pa.float64(), "tokens/s", "offered prefill work"),
        _field("load_decode", pa.float64(), "tokens/s", "offered decode work"),
        _field("desired_prefill", pa.float64(), "instances", "count the policy asked for"),
        _field("desired_decode", pa.float64(), "instances", "count the policy asked for"),
        _field("ready_prefill", pa.float64(), "instances", "count able to serve"),
        _field("ready_decode", pa.float64(), "instances", "count able to serve"),
        _field("violation_probability", pa.float64(), "ratio 0..1", "expected share of violating windows"),
        _field("action", pa.string(), "", "out, in, hold or empty"),
        _field("reason", pa.string(), "", "why, in words"),
    ],
    metadata={"table": "timeline", "grain": "one row per policy and step"},
)

DETAILS: dict[str, pa.Schema] = {
    "study_points": STUDY_POINTS,
    "capacity_points": CAPACITY_POINTS,
    "capacity_curve": CAPACITY_CURVE,
    "mix": MIX,
    "timeline": TIMELINE,
}
"""For a single-pool service (role mixed) the decode columns of TIMELINE and MIX carry the pool."""

SPLITS = pa.schema(
    [
        _field("name", pa.string(), "", "service, or what the benchmark points have in common", null=False),
        _field("source", pa.string(), "", "captures or bench", null=False),
        _field("isl", pa.float64(), "tokens", "mean prompt length"),
        _field("osl", pa.float64(), "tokens", "mean output length"),
        _field("label", pa.string(), "", "capture or layout", null=False),
        _field("prefill_instances", pa.float64(), "instances", "prefill", null=False),
        _field("decode_instances", pa.float64(), "instances", "decode", null=False),
        _field("ratio", pa.float64(), "prefill ÷ decode", "in instances", null=False),
        _field("load", pa.float64(), "requests/s or requests in flight", "load of the trial"),
        _field("prefill_tps", pa.float64(), "tokens/s", "prompt tokens served, all instances"),
        _field("decode_tps", pa.float64(), "tokens/s", "output tokens served, all instances"),
        _field("request_throughput", pa.float64(), "requests/s", "requests served"),
        _field("ttft", pa.string(), "", "meets, fails, undecided or unknown", null=False),
        _field("tbt", pa.string(), "", "meets, fails, undecided or unknown", null=False),
        _field(
            "within_ratio",
            pa.float64(),
            "ratio 0..1",
            "share inside the limits; it orders, it certifies nothing",
        ),
        _field("limited", pa.string(), "", "prefill or decode, by where the backlog sits"),
    ],
    metadata={"table": "splits", "grain": "one row per split and load of a ratio test"},
)


def empty(contract: pa.Schema) -> pl.DataFrame:
    """Return a frame with the contract's columns and no rows."""
    return pl.DataFrame(schema=_columns(contract))


@cache
def _columns(contract: pa.Schema) -> pl.Schema:
    return pl.Schema(contract)


def arrow(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a list or a numpy array as an Arrow array; None and NaN are null.

    By way of polars: ``pyarrow.array`` imports pandas where there is one, which takes longer than all arrays
    of a run, and 50 MB.
    """
    return pl.Series(values, nan_to_null=isinstance(values, np.ndarray)).to_arrow().cast(kind)


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
    expected = _columns(contract)
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
    if frame.schema == expected and frame.columns == contract.names:
        return frame
    return frame.select(pl.col(name).cast(expected[name]) for name in contract.names)


def to_table(frame: pl.DataFrame, contract: pa.Schema) -> pa.Table:
    """Return the frame as an Arrow table that carries the contract's field metadata."""
    return check(frame, contract).to_arrow().cast(contract)

"""Types of columns that hold more than one value: intervals, reasons, and rows inside a row of a result."""

from __future__ import annotations

import pyarrow as pa

_TEXT, _NUMBER = pa.string(), pa.float64()
INTERVAL = pa.list_(_NUMBER)
ESTIMATE = pa.struct([("value", _NUMBER), ("low", _NUMBER), ("high", _NUMBER)])
REASON = pa.struct([("code", _TEXT), ("text", _TEXT), ("value", _NUMBER), ("limit", _NUMBER)])
TURN = pa.struct(
    [("code", _TEXT), ("value", _NUMBER), ("limit", _NUMBER), ("distance", _NUMBER), ("verdict", _TEXT)]
)
STRETCH = pa.struct([("start", pa.string()), ("end", pa.string()), ("reason", pa.string())])
RATIO_WINDOW = pa.struct([("start", _TEXT), ("end", _TEXT), ("value", _NUMBER), ("ci", INTERVAL)])
TYPE_RATIO = pa.struct([("prefill_type", pa.string()), ("decode_type", pa.string()), ("value", pa.float64())])
COVERAGE = pa.struct(
    [
        ("covered", pa.int64()), ("blocks", pa.int64()), ("block_s", pa.float64()),
        ("below", pa.list_(pa.int64())), ("above", pa.list_(pa.int64())), ("reason", REASON),
    ]
)  # fmt: skip
REPLICA_GROUP = pa.struct(
    [
        ("prefill", pa.float64()), ("decode", pa.float64()), ("limited", pa.string()),
        ("windows", pa.int64()), ("per_instance_tps", pa.float64()),
    ]
)  # fmt: skip
REPLICA_RATIO = pa.struct(
    [
        ("value", pa.float64()), ("ci", INTERVAL), ("status", pa.string()), ("at_least", pa.float64()),
        ("at_most", pa.float64()), ("reason", REASON), ("prefill_tps", pa.float64()),
        ("decode_tps", pa.float64()), ("groups", pa.list_(REPLICA_GROUP)), ("agrees", pa.bool_()),
        ("text", pa.string()),
    ]
)  # fmt: skip
MOVER = pa.struct([("input", _TEXT), ("share", _NUMBER), ("low", _NUMBER), ("high", _NUMBER)])
FIXED_COST = pa.struct(
    [("name", pa.string())]
    + [
        (name, pa.float64())
        for name in ("ratio", "extra_instance_hours", "sized_on_decode", "short_share", "worst_load")
    ]
)

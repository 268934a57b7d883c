"""Points of benchmarks and profiles, whatever wrote them: values in, a frame of contract BENCH out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from hs_analysis.ingest.raw import LATEST_S, RawBench
from hs_analysis.schema.frames import BENCH, empty

BENCH_SCHEMA: dict[str, pl.DataType] = {
    name: dtype for name, dtype in empty(BENCH).schema.items() if name not in ("capture", "file")
}
"""Columns a reader fills; capture and file are added where the file is known."""

BENCH_NUMBERS = tuple(name for name, dtype in BENCH_SCHEMA.items() if dtype == pl.Float64)

MEASURED = "measured"
BY_COUNT = "requests / duration"
CLOSED_LOOP = "estimated: concurrency / (TTFT + TPOT × (osl − 1))"
"""How a throughput came about (column ``throughput_basis``)."""

POINT, PREFILL, DECODE = "point", "prefill", "decode"

_DAY = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)(?!\d)")

_FIRST_DAY = datetime(2015, 1, 1, tzinfo=UTC)
"""No serving benchmark is older; a smaller number counts from a start."""

QUANTILES = ("mean", "p50", "p90", "p95", "p99")


_MEASURES = (
    "request_throughput", "prefill_tps", "decode_tps",
    *(f"{what}_{quantile}_s" for what in ("ttft", "tbt") for quantile in QUANTILES),
)  # fmt: skip


def number(value: Any) -> float | None:
    """Return a value of a JSON document or a cell as a finite number, None when it is none.

    ``"inf"``, as benchmarks write a rate without limit, is none: nothing was offered at that rate.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def day(value: Any) -> str | None:
    """Return the day a benchmark names, YYYY-MM-DD, None when it names none.

    Benchmarks write ``2026-11-24T…`` or ``20261124-100000``, some of them Unix seconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
        known = _FIRST_DAY.timestamp() <= seconds <= LATEST_S
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}" if known else None
    found = _DAY.match(value.strip()) if isinstance(value, str) else None
    try:
        return date(*(int(part) for part in found.groups())).isoformat() if found else None
    except ValueError:
        return None


def ratio(above: float | None, below: float | None) -> float | None:
    """Return a quotient, None when a part is missing or the divisor is not above 0."""
    return above / below if above is not None and below is not None and below > 0 else None


def times(*factors: float | None) -> float | None:
    """Return a product, None when a factor is missing."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def latencies(prefix: str, values: Mapping[str, Any], scale: float) -> dict[str, float | None]:
    """Return the columns ``<prefix>_<quantile>_s`` from values by quantile, multiplied by ``scale``."""
    return {f"{prefix}_{q}_s": times(number(values.get(q)), scale) for q in QUANTILES}


def series_text(row: Mapping[str, Any], extra: Iterable[str] = ()) -> str:
    """Return what a point is a measurement of: all but its split and its load.

    Model, engine, number format, GPU type and GPUs of an instance, lengths, whether prefill and decode are
    apart, and ``extra``; two points with the same text may be compared over split and load.
    """
    parts = [str(row[name]) for name in ("model", "engine", "precision") if row.get(name)]
    parts += [text for role in ("prefill", "decode") if (text := _hardware(row, role))]
    parts += [f"{name} {row[name]:g}" for name in ("isl", "osl") if row.get(name) is not None]
    if row.get("cached_ratio") is not None:
        parts.append(f"{100 * row['cached_ratio']:g} % cached")
    if row.get("disaggregated"):
        parts.append("disaggregated")
    return " · ".join([*parts, *extra]) or "unnamed"


def _hardware(row: Mapping[str, Any], role: str) -> str:
    each = ratio(row.get(f"{role}_gpus"), row.get(f"{role}_instances"))
    name = row.get(f"{role}_gpu_type")
    if each is None and not name:
        return ""
    text = f"{each:g}×{name or 'GPU'}" if each is not None else str(name)
    return f"{role} {text}" if row.get("disaggregated") else text


def fault(row: Mapping[str, Any]) -> str:
    """Return what a point can't be, empty when nothing: its numbers are not below 0, shares not above 1."""
    for name in BENCH_NUMBERS:
        value = row.get(name)
        if value is not None and value < 0:
            return f"{name} is below 0"
    for name in ("cached_ratio", "kv_usage"):
        if (row.get(name) or 0.0) > 1.0:
            return f"{name} is above 1"
    return ""


def point_fault(row: Mapping[str, Any]) -> str:
    """Return what a measured point can't be, empty when nothing: `fault`, or nothing is measured."""
    if all(row.get(name) is None for name in _MEASURES):
        return "neither a throughput nor a latency"
    return fault(row)


def with_throughput(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point with the throughputs that follow from what it says, and ``throughput_basis`` saying how.

    Requests per second: as measured; else requests / duration; else Little's law over a closed loop,
    concurrency / (TTFT + TPOT × (osl − 1)). Tokens per second: as measured; else requests per second × the
    mean length. A profile of one role is left as it is.
    """
    done = dict(row)
    told = [name for name in ("request_throughput", "prefill_tps", "decode_tps") if row.get(name) is not None]
    basis = MEASURED if told else ""
    if row.get("request_throughput") is None:
        found = ratio(row.get("requests"), row.get("duration_s"))
        if found is None and not told:
            found = ratio(row.get("concurrency"), _whole_time_s(row))
            basis = CLOSED_LOOP if found is not None else basis
        elif found is not None:
            basis = basis or BY_COUNT
        done["request_throughput"] = found
    for name, length in (("prefill_tps", "isl"), ("decode_tps", "osl")):
        if row.get(name) is None:
            done[name] = times(done.get("request_throughput"), row.get(length))
    if row.get("throughput_basis") is None and basis:
        done["throughput_basis"] = basis
    return done


def _whole_time_s(row: Mapping[str, Any]) -> float | None:
    gaps = times(row.get("tbt_mean_s"), None if row.get("osl") is None else row["osl"] - 1)
    ttft = row.get("ttft_mean_s")
    return None if ttft is None or gaps is None else ttft + gaps


def raw_bench(rows: Sequence[Mapping[str, Any]]) -> RawBench:
    """Return points from rows of values; what a row does not say is null."""
    unknown = {name for row in rows for name in row} - set(BENCH_SCHEMA)
    if unknown:
        raise KeyError(f"no columns of bench: {', '.join(sorted(unknown))}")
    filled = [{name: row.get(name) for name in BENCH_SCHEMA} for row in rows]
    return RawBench(pl.DataFrame(filled, schema=BENCH_SCHEMA))

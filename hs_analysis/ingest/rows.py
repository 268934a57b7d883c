"""What readers are given and what they yield, whatever the format."""

from __future__ import annotations

import math
import re
from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias

import numpy as np
import polars as pl

from hs_analysis.ingest.streams import ByteStream, open_decompressed
from hs_analysis.schema.frames import BENCH, REQUESTS, empty
from hs_analysis.schema.settings import Reading

LATEST_S = 4_102_444_800.0
"""Times after 2100-01-01 are not Unix seconds."""

UNIT_S = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds of the units that load generators write."""

RAW_CHARACTERS = 200
SERIES_CHARACTERS = 500
"""How much of a rejected row and of its labels is kept."""

REJECTED_BATCH = 1 << 14
"""Rejected rows in memory at most: some megabytes, whatever a file holds."""

FLAGS = ("", "null", "nan", "pos_inf", "neg_inf", "stale", "sentinel")
"""Why a value is missing, by code; code 0 is a value that is there."""

NULL, NAN, POS_INF, NEG_INF, STALE, SENTINEL = range(1, len(FLAGS))


@dataclass(frozen=True)
class Dump:
    """A file as a reader sees it: where it lies, how messages name it, and how the user wants files read.

    ``name`` is the path below the input, ``member`` the name inside an archive, empty outside one.
    """

    path: Path
    where: str
    name: str
    reading: Reading = field(default_factory=Reading)
    member: str = ""

    @contextmanager
    def handle(self) -> Iterator[BinaryIO]:
        """Open the decompressed bytes.

        Raises
        ------
        InputError
            When the file can't be opened.
        """
        with open_decompressed(self.path) as handle:
            yield handle

    def head(self, size: int) -> bytes:
        """Return the first decompressed bytes, fewer when the file is short or its archive damaged."""
        with self.handle() as handle:
            return ByteStream(handle, size).head(size)

    @contextmanager
    def stream(self, block_bytes: int | None = None) -> Iterator[ByteStream]:
        """Open the decompressed bytes as a stream that knows its place, read in blocks."""
        with self.handle() as handle:
            yield ByteStream(handle, block_bytes)


@dataclass
class Rejection:
    """One row that can't be stored.

    ``position`` is a byte offset in the decompressed file, or a line where the format has lines; ``member``
    the archive member it lies in.
    """

    position: int
    reason: str
    raw: str
    detail: str
    path: str
    series: str
    member: str = ""


class Rejections(UserList[Rejection]):
    """Rejected rows of one file, a list that stays small: full batches are handed on and forgotten.

    Without ``hand_on`` all rows stay. ``total`` counts the rows of both kinds. ``after_batch`` is called with
    the last row of every full batch, and may refuse to go on.
    """

    def __init__(self, hand_on: Callable[[list[Rejection]], None] | None = None) -> None:
        super().__init__()
        self._hand_on = hand_on
        self._handed = 0
        self.after_batch: Callable[[Rejection], None] | None = None

    @property
    def total(self) -> int:
        """Rows rejected so far."""
        return self._handed + len(self.data)

    def append(self, item: Rejection) -> None:
        """Take one row, of which not more is kept than is shown."""
        item.raw, item.detail = item.raw[:RAW_CHARACTERS], item.detail[:RAW_CHARACTERS]
        item.path, item.series = item.path[:SERIES_CHARACTERS], item.series[:SERIES_CHARACTERS]
        self.data.append(item)
        if len(self.data) % REJECTED_BATCH == 0:
            self.flush()
            if self.after_batch is not None:
                self.after_batch(item)

    def extend(self, other: Iterable[Rejection]) -> None:
        """Take many rows."""
        for item in other:
            self.append(item)

    def __iadd__(self, other: Iterable[Rejection]) -> Self:
        self.extend(other)
        return self

    def flush(self) -> None:
        """Hand on what is there."""
        if self._hand_on is not None and self.data:
            self._hand_on(self.data)
            self._handed += len(self.data)
            self.data = []


@dataclass
class RawSeries:
    """Samples of one series as read, in file order.

    Attributes
    ----------
    labels
        Labels with ``__name__``.
    t_us
        Times [us since 1970, UTC], int64, shape (n,).
    values
        Values, NaN where flagged, float64, shape (n,).
    flags
        Codes into FLAGS, uint8, shape (n,).
    offset
        Where the series starts in the decompressed file.
    capture
        Capture inside the file's own, where the format tells several runs apart.
    increases
        Whether the values are what a counter gained since the sample before, not its totals.
    """

    labels: dict[str, str]
    t_us: np.ndarray
    values: np.ndarray
    flags: np.ndarray
    offset: int
    capture: str = ""
    increases: bool = False


@dataclass
class RequestRows:
    """Rows of a request log: a frame of contract REQUESTS without ``file``; ``capture`` may be left out."""

    frame: pl.DataFrame


@dataclass
class BenchRows:
    """Points of a benchmark or a profile: a frame of BENCH without ``file``; ``capture`` may be left out."""

    frame: pl.DataFrame


Piece: TypeAlias = RawSeries | RequestRows | BenchRows
"""What a reader may yield."""


@dataclass
class ReadNotes:
    """What a reader has to say beside what it yields.

    Attributes
    ----------
    rows
        Rows seen: samples, requests or points; every one is yielded or stands in ``rejections``.
    rejections
        Rows that can't be stored.
    warnings
        What the server or the format says about the data: parts may be missing or thinned.
    infos
        Advice on the query, and what the reader had to assume.
    types, helps
        Metric → type and help text, where the format carries them.
    is_time_guessed
        Whether the times are the file's own, because neither its content nor its name says when it was.
    losses
        Codes of what the source can't give, where not every file of its format lacks it.
    last_series, last_t_us
        Last complete series and its last time, for messages about what is cut.
    """

    rows: int = 0
    rejections: Rejections = field(default_factory=Rejections)
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    is_time_guessed: bool = False
    losses: set[str] = field(default_factory=set)
    last_series: str = ""
    last_t_us: int | None = None


def series_text(labels: dict[str, str]) -> str:
    """Return a series as Prometheus writes it: ``name{label="value", …}``, labels sorted."""
    pairs = ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return f"{labels.get('__name__', '')}{{{pairs}}}"


def short_text(labels: dict[str, str]) -> str:
    """Return a series for a message: as `series_text`, cut, a name alone without braces."""
    return series_text(labels).removesuffix("{}")[:SERIES_CHARACTERS]


def flagged(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values with NaN for what is no finite number, and the flag codes that say why."""
    flags = np.zeros(values.size, np.uint8)
    finite = np.isfinite(values)
    if finite.all():
        return values, flags
    flags[np.isnan(values)] = NAN
    flags[np.isposinf(values)] = POS_INF
    flags[np.isneginf(values)] = NEG_INF
    return np.where(finite, values, np.nan), flags


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


def bench_series_text(row: Mapping[str, Any], extra: Iterable[str] = ()) -> str:
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


def bench_fault(row: Mapping[str, Any]) -> str:
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
    return bench_fault(row)


def with_throughput(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point with the throughputs that follow from what it says, and ``throughput_basis`` saying how.

    Requests per second: as measured; else requests / duration; else Little's law over a closed loop,
    concurrency / (TTFT + TPOT × (osl − 1)). Tokens per second: as measured; else requests per second × the
    mean length. A profile of one role is left as it is.
    """
    done = dict(row)
    reported = [
        name for name in ("request_throughput", "prefill_tps", "decode_tps") if row.get(name) is not None
    ]
    basis = MEASURED if reported else ""
    if row.get("request_throughput") is None:
        found = ratio(row.get("requests"), row.get("duration_s"))
        if found is None and not reported:
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


def raw_bench(rows: Sequence[Mapping[str, Any]]) -> BenchRows:
    """Return points from rows of values; what a row does not say is null."""
    unknown = {name for row in rows for name in row} - set(BENCH_SCHEMA)
    if unknown:
        raise KeyError(f"no columns of bench: {', '.join(sorted(unknown))}")
    filled = [{name: row.get(name) for name in BENCH_SCHEMA} for row in rows]
    return BenchRows(pl.DataFrame(filled, schema=BENCH_SCHEMA))


REQUEST_SCHEMA: dict[str, pl.DataType] = {
    name: dtype for name, dtype in empty(REQUESTS).schema.items() if name not in ("capture", "file")
}
"""Columns a reader fills; capture and file are added where the file is known."""


def raw_requests(columns: Mapping[str, Any], height: int) -> RequestRows:
    """Return requests from columns of values; what is not given is null, and NaN is null too.

    Parameters
    ----------
    columns
        Column of REQUESTS → values, shape (height,); ``arrival`` in microseconds UTC.
    height
        Number of rows.
    """
    frame = {name: _series(name, dtype, columns.get(name), height) for name, dtype in REQUEST_SCHEMA.items()}
    return RequestRows(pl.DataFrame(frame))


def _series(name: str, dtype: pl.DataType, values: Any, height: int) -> pl.Series:
    if values is None:
        return pl.Series(name, [None] * height, dtype)
    if dtype == pl.Float64:
        return pl.Series(name, values, pl.Float64, strict=False).fill_nan(None)
    if isinstance(dtype, pl.Datetime):
        return pl.Series(name, values, pl.Int64).cast(dtype)
    return pl.Series(name, values, pl.String)


def request_fault(values: Mapping[str, float | None]) -> str:
    """Return what a request can't be, empty when nothing: no number of it is below 0."""
    below = next((name for name, value in values.items() if value is not None and value < 0), None)
    return f"{below} is below 0" if below is not None else ""


def since_start(t_us: np.ndarray | Sequence[int], start_us: int) -> np.ndarray:
    """Return times as seconds from the start of the log."""
    return (np.asarray(t_us, np.int64) - start_us) / 1e6

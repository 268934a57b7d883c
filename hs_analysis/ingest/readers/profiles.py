"""Measured points and profiles: aiconfigurator's silicon tables and Dynamo's planner profiles."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import (
    MOST_CHARACTERS,
    Records,
    header_names,
    numbers,
    read_delimited,
    require_names,
)
from hs_analysis.ingest.parquet_rows import inflated
from hs_analysis.ingest.readers.table import reject_row
from hs_analysis.ingest.rows import (
    DECODE,
    MEASURED,
    POINT,
    PREFILL,
    UNIT_S,
    BenchRows,
    Dump,
    ReadNotes,
    bench_fault,
    bench_series_text,
    day,
    number,
    raw_bench,
    times,
    with_throughput,
)

SILICON = ("silicon_data_source", "silicon_ttft_ms", "silicon_tpot_ms", "mode", "isl", "osl")

PREFILL_PROFILE = ("prefill_isl", "prefill_ttft", "prefill_thpt_per_gpu")
DECODE_PROFILE = ("x_kv_usage", "y_context_length", "z_itl", "z_thpt_per_gpu")
"""Arrays of Dynamo's planner profile (raw_data.npz), and columns of the same as CSV."""

_CONCURRENCY = re.compile(r"silicon_concurrency=(\d+(?:\.\d+)?)")

_MEASURED = re.compile(r"\bmeasured=([0-9T:.Z-]+)")


ZIP = b"PK\x03\x04"

MOST_PROFILE_BYTES = 64 << 20
"""Arrays of a profile together: real ones have some hundred points."""

MOST_ARRAYS = 64
"""Arrays of a profile: real ones have some ten, and one value may stand for as many rows as another has."""

_UNREADABLE = (
    ValueError, OSError, EOFError, KeyError, MemoryError, RecursionError, NotImplementedError, RuntimeError,
    zipfile.BadZipFile, zlib.error, pl.exceptions.PolarsError,
)  # fmt: skip


def is_silicon(head: bytes) -> bool:
    """Whether a head begins with the header of aiconfigurator's silicon tables."""
    return set(SILICON) <= set(header_names(head))


def is_dynamo_profile(head: bytes) -> bool:
    """Whether a head is Dynamo's profile of prefill or decode, as CSV or as NumPy arrays."""
    if head[: len(ZIP)] == ZIP:
        return b"prefill_isl.npy" in head[:512] or b"x_kv_usage.npy" in head[:512]
    names = set(header_names(head))
    return set(PREFILL_PROFILE) <= names or set(DECODE_PROFILE) <= names


def read_silicon(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows]:
    """Yield the points of a silicon table, aggregated and disaggregated.

    GPUs of a role = workers × TP × PP × attention data-parallel size; without worker counts they are null.
    There is no throughput in the table: it follows from concurrency, TTFT and TPOT, and
    ``throughput_basis`` says so.
    """
    yield from _points(dump, notes, _silicon, SILICON)


def _points(
    dump: Dump,
    notes: ReadNotes,
    point: Callable[[Mapping[str, str | None]], dict[str, Any]],
    needed: Sequence[str],
) -> Iterator[BenchRows]:
    """Yield a point a record; a record with a cell that is no number, or that can't be, is set aside."""
    for records in read_delimited(dump, notes):
        require_names(records.cells.columns, needed, "table of measured points", dump.where)
        rows = []
        for i, cells in enumerate(records.cells.iter_rows(named=True)):
            try:
                row = point(cells)
                detail = bench_fault(row)
            except ValueError as error:
                row, detail = {}, str(error)
            if detail:
                reject_row(records, i, "bad_value", detail[:120], notes)
            else:
                rows.append(row)
        notes.rows += len(rows)
        if rows:
            yield raw_bench(rows)


def _number(cells: Mapping[str, str | None], name: str) -> float | None:
    text = cells.get(name)
    found = number(text)
    if text is not None and found is None:
        raise ValueError(f"{name} is {text!r}, no number")
    return found


def _silicon(cells: Mapping[str, str | None]) -> dict[str, Any]:
    apart = cells.get("mode") == "disagg"
    source = cells.get("silicon_data_source") or ""
    concurrency, measured = _CONCURRENCY.search(source), _MEASURED.search(source)
    row: dict[str, Any] = {
        "format": "aiconfigurator-silicon",
        "kind": POINT,
        "model": cells.get("model_path"),
        "engine": " ".join(t for t in (cells.get("backend"), cells.get("backend_version")) if t) or None,
        "measured_on": day(measured[1]) if measured else None,
        "precision": cells.get("precision"),
        "disaggregated": apart,
        "isl": _number(cells, "isl"),
        "osl": _number(cells, "osl"),
        "concurrency": float(concurrency[1]) if concurrency else None,
        "ttft_mean_s": times(_number(cells, "silicon_ttft_ms"), UNIT_S["ms"]),
        "tbt_mean_s": times(_number(cells, "silicon_tpot_ms"), UNIT_S["ms"]),
    }
    for role in ("prefill", "decode") if apart else ("decode",):
        prefix = f"{role}_" if apart else ""
        workers = _number(cells, f"{role}_num_workers") if apart else 1.0
        shape = (_number(cells, f"{prefix}{name}_size") or 1.0 for name in ("pp", "attention_dp"))
        row[f"{role}_instances"] = workers
        row[f"{role}_gpus"] = times(workers, _number(cells, f"{prefix}tp_size"), *shape)
        row[f"{role}_gpu_type"] = cells.get("system")
    row = with_throughput(row)
    row["series"] = bench_series_text(row, _layout(cells, apart=apart))
    return row


def _layout(cells: Mapping[str, str | None], *, apart: bool) -> list[str]:
    """Return the parallel layout as text: it tells rows apart where worker counts are missing."""
    names = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    prefixes = ("prefill_", "decode_") if apart else ("",)
    parts = []
    for prefix in prefixes:
        sizes = [f"{n.removesuffix('_size')} {cells[prefix + n]}" for n in names if cells.get(prefix + n)]
        if sizes:
            parts.append(f"{prefix.rstrip('_')} {', '.join(sizes)}".strip())
    return parts


def read_dynamo_profile(dump: Dump, notes: ReadNotes) -> Iterator[BenchRows]:
    """Yield the points of Dynamo's planner profile: prefill over length, decode over KV use and context.

    One worker of one GPU group is profiled: rates are per GPU, so ``*_gpus`` and ``*_instances`` are 1.

    Raises
    ------
    InputError
        When the arrays can't be read or their lengths differ.
    """
    if dump.head(len(ZIP)) != ZIP:
        prefill = PREFILL_PROFILE[0] in header_names(dump.head(MOST_CHARACTERS))
        yield from _points(dump, notes, _profile, PREFILL_PROFILE if prefill else DECODE_PROFILE)
        return
    frame = _arrays(dump)
    records = Records(frame, np.arange(1, frame.height + 1), [str(row) for row in frame.iter_rows()])
    rows = []
    bad = np.zeros(frame.height, bool)
    for name in frame.columns:
        bad |= numbers(frame[name]).bad | frame[name].is_null().to_numpy()
    for i, cells in enumerate(frame.iter_rows(named=True)):
        row = {} if bad[i] else _profile(cells)
        detail = "not all arrays have a number here" if bad[i] else bench_fault(row)
        if detail:
            reject_row(records, i, "bad_value", detail, notes)
        else:
            rows.append(row)
    notes.rows += len(rows)
    if rows:
        yield raw_bench(rows)


def _arrays(dump: Dump) -> pl.DataFrame:
    """Return the arrays of an archive as columns; one value that goes for all rows is repeated."""
    try:
        with (
            dump.handle() as handle,
            np.load(io.BytesIO(inflated(handle, dump)), allow_pickle=False) as archive,
        ):
            if sum(member.file_size for member in archive.zip.infolist()) > MOST_PROFILE_BYTES:
                raise ValueError("no profile is so large")
            if len(archive.files) > MOST_ARRAYS:
                raise ValueError("no profile has so many arrays")
            found = {name: np.atleast_1d(archive[name]).ravel().astype(np.float64) for name in archive.files}
        height = max((values.size for values in found.values()), default=0)
        return pl.DataFrame(
            {
                name: np.full(height, values[0]) if values.size == 1 else values
                for name, values in found.items()
            }
        ).with_columns(pl.all().fill_nan(None))
    except _UNREADABLE as error:
        raise InputError(
            "NumPy arrays that can't be read together", where=dump.where, hint="copy the profile again"
        ) from error


def _profile(cells: Mapping[str, Any]) -> dict[str, Any]:
    empty = [name for name, value in cells.items() if value is None]
    if empty:
        raise ValueError(f"{empty[0]} is empty")
    row: dict[str, Any] = {"format": "dynamo-profile", "throughput_basis": MEASURED}
    if "prefill_isl" in cells:
        row |= {
            "kind": PREFILL, "prefill_instances": 1.0, "prefill_gpus": 1.0,
            "isl": _number(cells, "prefill_isl"),
            "ttft_mean_s": times(_number(cells, "prefill_ttft"), UNIT_S["ms"]),
            "prefill_tps": _number(cells, "prefill_thpt_per_gpu"),
        }  # fmt: skip
    else:
        row |= {
            "kind": DECODE, "decode_instances": 1.0, "decode_gpus": 1.0,
            "kv_usage": _number(cells, "x_kv_usage"),
            "context_tokens": _number(cells, "y_context_length"),
            "tbt_mean_s": times(_number(cells, "z_itl"), UNIT_S["ms"]),
            "decode_tps": _number(cells, "z_thpt_per_gpu"),
        }  # fmt: skip
    row["series"] = f"profile of {row['kind']}, per GPU"
    return row

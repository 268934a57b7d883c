"""Tables of a run folder: results of stages as Parquet rows by contract, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa

from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.schema.detail import DETAILS
from hs_analysis.schema.frames import CONTRACTS, check, empty
from hs_analysis.schema.outcomes import OUTCOMES
from hs_analysis.schema.sweeps import TESTS
from hs_analysis.store import read_table, write_table

T = TypeVar("T")

PLACES = {
    "series": "data/series.parquet",
    "samples": "data/samples/*.parquet",
    "rejected": "data/rejected.parquet",
    "requests": "data/requests.parquet",
    "bench": "data/bench.parquet",
    "signals": "data/signals.parquet",
    "births": "data/births.parquet",
    "lives": "data/lives.parquet",
    "frozen_series": "data/frozen_series.parquet",
    "instances": "data/instances.parquet",
    "versions": "data/versions.parquet",
    "findings": "data/findings.parquet",
    "study": "data/study.parquet",
    "recommended": "data/recommended.parquet",
    "study_points": "data/study_points.parquet",
    "capacity": "data/derived/capacity.parquet",
    "demand": "data/derived/demand.parquet",
    "thresholds": "data/derived/thresholds.parquet",
    "startup": "data/derived/startup.parquet",
    "gpu_speeds": "data/derived/gpu_speeds.parquet",
    "releases": "data/derived/releases.parquet",
    "pd_ratio": "data/derived/pd_ratio.parquet",
    "refusals": "data/derived/refusals.parquet",
    "capacity_points": "data/derived/capacity_points.parquet",
    "capacity_curve": "data/derived/capacity_curve.parquet",
    "mix": "data/derived/mix.parquet",
    "sweeps": "data/derived/sweeps.parquet",
    "splits": "data/derived/splits.parquet",
    "bench_speeds": "data/derived/bench_speeds.parquet",
    "profile_ratios": "data/derived/profile_ratios.parquet",
    "planned_tests": "data/planned_tests.parquet",
    "select": "data/select.parquet",
    "drivers": "data/drivers.parquet",
    "replay_windows": "data/replay/windows.parquet",
    "replay_policies": "data/replay/policies.parquet",
    "replay_faults": "data/replay/faults.parquet",
    "replay_placement": "data/replay/placement.parquet",
    "timeline": "data/replay/timeline.parquet",
}
"""Table → file or glob below the run folder; the names of the views of run.duckdb."""

_CONTRACTS: dict[str, pa.Schema] = CONTRACTS | DETAILS | OUTCOMES | TESTS


def contract(table: str) -> pa.Schema:
    """Return the contract of a table."""
    return _CONTRACTS[table]


def write_rows(folder: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write plain records as a table of the run folder, by its contract."""
    contract = _CONTRACTS[table]
    frame = pl.DataFrame([to_plain(row) for row in rows], schema=empty(contract).schema)
    write_table(frame, contract, folder / PLACES[table])


def write_frames(folder: Path, table: str, frames: Iterable[pl.DataFrame]) -> None:
    """Write frames of one contract as one table."""
    contract = _CONTRACTS[table]
    whole = pl.concat([empty(contract), *(check(frame, contract) for frame in frames)])
    write_table(whole, contract, folder / PLACES[table])


def read(folder: Path, table: str) -> pl.DataFrame:
    """Return a table of the run folder; an empty one when it has not been written."""
    path = folder / PLACES[table]
    return read_table(path) if path.exists() else empty(_CONTRACTS[table])


def read_rows(folder: Path, table: str, kind: type[T], service: str, fit: str = "whole") -> tuple[T, ...]:
    """Return the results of one service and fit as dataclasses, in the order they were written."""
    frame = read(folder, table).filter((pl.col("service") == service) & (pl.col("fit") == fit))
    return tuple(from_plain(kind, row) for row in frame.iter_rows(named=True))


def write_json(folder: Path, name: str, data: Any) -> None:
    """Write plain data as JSON below the run folder; NaN is null, the order of keys is kept."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def read_json(folder: Path, name: str) -> Any:
    """Return the plain data of a JSON file below the run folder."""
    return json.loads((folder / name).read_text(encoding="utf-8"))

"""Tables of a run folder: dataclasses and aligned frames as Parquet by contract, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.align import Aligned
from hs_analysis.align.instances import row_width_s
from hs_analysis.pipeline.handover import hand_on, handed, is_handing_on
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column
from hs_analysis.schema.constants import DAY_S, HOUR_S
from hs_analysis.schema.frames import check, empty
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.tables import TABLES
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
    "pools": "data/pools.parquet",
    "disagreements": "data/disagreements.parquet",
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


def contract(table: str) -> pa.Schema:
    """Return the contract of a table."""
    return TABLES[table]


def write_rows(folder: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write plain records as a table of the run folder, by its contract."""
    contract = TABLES[table]
    frame = pl.DataFrame([to_plain(row) for row in rows], schema=empty(contract).schema)
    _write(folder, table, check(frame, contract))


def write_frames(folder: Path, table: str, frames: Iterable[pl.DataFrame]) -> None:
    """Write frames of one contract as one table."""
    contract = TABLES[table]
    _write(folder, table, pl.concat([empty(contract), *(check(frame, contract) for frame in frames)]))


def _write(folder: Path, table: str, frame: pl.DataFrame) -> None:
    path = folder / PLACES[table]
    write_table(frame, TABLES[table], path)
    if is_handing_on():  # in one piece, as it is read
        hand_on(("table", table), [path], frame.rechunk(), _size(frame))


def _size(frame: pl.DataFrame) -> int:
    return int(frame.estimated_size())


def read(folder: Path, table: str) -> pl.DataFrame:
    """Return a table of the run folder; an empty one when it has not been written."""
    path = folder / PLACES[table]

    def found() -> pl.DataFrame:
        return read_table(path) if path.exists() else empty(TABLES[table])

    return handed(("table", table), [path], found, _size).clone()


def scan(folder: Path, table: str) -> pl.LazyFrame:
    """Return a table of the run folder that may be large, unread; an empty one when it was not written."""
    path = folder / PLACES[table]
    return pl.scan_parquet(path) if path.exists() else empty(TABLES[table]).lazy()


def read_rows(folder: Path, table: str, kind: type[T], service: str, fit: str = "whole") -> tuple[T, ...]:
    """Return the results of one service and fit as dataclasses, in the order they were written."""

    def found() -> tuple[T, ...]:
        frame = read(folder, table).filter((pl.col("service") == service) & (pl.col("fit") == fit))
        return tuple(from_plain(kind, row) for row in frame.iter_rows(named=True))

    return handed((table, kind, service, fit), [folder / PLACES[table]], found)


def write_json(folder: Path, name: str, data: Any) -> None:
    """Write plain data as JSON below the run folder; NaN is null, the order of keys is kept."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8", newline="\n")


def read_json(folder: Path, name: str) -> Any:
    """Return the plain data of a JSON file below the run folder."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


SERVICES_FILE = "data/services.json"


def write_aligned(folder: Path, aligned: Aligned) -> None:
    """Write the aligned frames: values of pools and of instances, births, and what is known beside them."""
    write_frames(folder, "signals", [aligned.signals])
    write_frames(folder, "births", [aligned.births])
    write_frames(folder, "lives", [aligned.lives])
    write_frames(folder, "instances", [aligned.instances])
    write_frames(folder, "disagreements", [aligned.disagreements])
    write_rows(
        folder,
        "pools",
        [
            {"service": frame.service, "role": role, "gpus_per_instance": frame.gpus_per_instance.get(role)}
            for frame in aligned.frames
            for role in frame.pools
        ],
    )
    facts = {fact.service: fact for fact in aligned.facts}
    entries = [
        {
            "service": frame.service,
            "window_s": frame.window_s,
            "kind": frame.kind,
            "reference": frame.reference,
            "signals": frame.signals,
            "gpus_per_instance": frame.gpus_per_instance,
            "gpu_types": frame.gpu_types,
            "totals": facts.get(frame.service),
            "slo_edges": [edges for service, edges in aligned.edges if service == frame.service],
        }
        for frame in aligned.frames
    ]
    write_json(folder, SERVICES_FILE, entries)


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of each service beside its values, in the order of alignment."""
    return list(read_json(folder, SERVICES_FILE))


def service_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the services, in the order of alignment."""
    return tuple(str(entry["service"]) for entry in read_entries(folder))


def edges_of(entry: Mapping[str, Any]) -> tuple[LimitEdges, ...]:
    """Return the histogram edges about each limit of a service."""
    return tuple(LimitEdges.from_plain(edge) for edge in entry["slo_edges"])


def read_frames(folder: Path) -> tuple[ServiceFrame, ...]:
    """Return the aligned services as alignment left them."""

    def found() -> tuple[ServiceFrame, ...]:
        signals = _untyped(folder)
        return tuple(_frame(entry, signals) for entry in read_entries(folder))

    files = [folder / PLACES["signals"], folder / SERVICES_FILE]
    return handed("frames", files, found, lambda frames: sum(_size(frame.table) for frame in frames))


def read_frame(folder: Path, service: str) -> ServiceFrame:
    """Return one of the aligned services, without putting the others on their grids."""
    if is_handing_on():
        return next(frame for frame in read_frames(folder) if frame.service == service)
    entry = next(entry for entry in read_entries(folder) if entry["service"] == service)
    return _frame(entry, _untyped(folder))


def _untyped(folder: Path) -> pl.DataFrame:
    """Return the signals over all GPU types."""
    return read(folder, "signals").filter(pl.col("gpu_type").is_null())


def read_instances(folder: Path, part: ServiceFrame) -> pl.DataFrame:
    """Return the rows per instance that lie within the windows of a part of a service, whole."""
    own = read(folder, "instances").filter(pl.col("service") == part.service)
    rest_us = round((row_width_s(part.kind, part.window_s) - part.window_s) * 1e6)
    windows = part.table.select("capture", "t")
    ends = windows.with_columns(pl.col("t") - pl.duration(microseconds=rest_us))
    return own.join(windows, ["capture", "t"], how="semi").join(ends, ["capture", "t"], how="semi")


def _frame(entry: Mapping[str, Any], signals: pl.DataFrame) -> ServiceFrame:
    infos = tuple(from_plain(SignalInfo, info) for info in entry["signals"])
    names = [column(info.signal, info.role) for info in infos]
    own = (
        signals.filter(pl.col("service") == entry["service"])
        .with_columns((pl.col("signal") + "@" + pl.col("role")).alias("name"))
        .filter(pl.col("name").is_in(names))
    )
    table = _grid(own, entry["window_s"]).join(
        own.pivot("name", index=["capture", "t"], values="value"), ["capture", "t"], how="left"
    )
    absent = [pl.lit(None, pl.Float64).alias(name) for name in names if name not in table.columns]
    table = table.with_columns(absent).select("capture", "t", *names).sort("capture", "t")
    return ServiceFrame(
        service=entry["service"],
        window_s=entry["window_s"],
        kind=entry["kind"],
        reference=entry["reference"],
        table=table,
        signals=infos,
        gpus_per_instance=dict(entry["gpus_per_instance"]),
        gpu_types={role: tuple(found) for role, found in entry["gpu_types"].items()},
        limit_edges=edges_of(entry),
    )


def _grid(own: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Return every window between a capture's first and last: windows in which nothing came are rows too."""
    step = round(window_s * 1e6)
    bounds = own.group_by("capture").agg(
        pl.col("t").min().dt.epoch("us").alias("first"), pl.col("t").max().dt.epoch("us").alias("last")
    )
    return (
        bounds.sort("capture")
        .with_columns(pl.int_ranges("first", pl.col("last") + 1, step).alias("t"))
        .explode("t")
        .select("capture", pl.col("t").cast(pl.Datetime("us", "UTC")))
    )


WHOLE_DAYS_APART = 0.2
"""By how much the share of rows before a cut at a whole day may differ from the one asked for [ratio].
Default of this project: two days are halved where three fifths are asked for, and gaps cut no part short."""


def split(frame: ServiceFrame, share: float) -> tuple[ServiceFrame, ServiceFrame]:
    """Return the first part of a service's time and the rest: what is learnt on, and what is tested on.

    The rest of two days and more (an hour may lack) is as many whole days as come nearest to its share, since
    only in whole days night and day weigh alike. Else, and where gaps would move either part by more than a
    fifth, the cut is where ``share`` of the rows lie before it, over all captures together.
    """
    seconds = frame.seconds()
    if not seconds.size:
        return frame, frame
    ordered = np.sort(seconds)
    cut = float(ordered[min(int(share * ordered.size), ordered.size - 1)])
    span_s = float(ordered[-1] - ordered[0]) + frame.window_s
    days = (span_s + HOUR_S) / DAY_S
    if days >= 2.0:
        tested = min(max(1, round((1.0 - share) * days)), int(days) - 1)
        whole = float(ordered[0]) + span_s - tested * DAY_S
        if abs(float((ordered < whole).mean()) - share) <= WHOLE_DAYS_APART:
            cut = whole
    return frame.rows(seconds < cut), frame.rows(seconds >= cut)


def typed_signals(folder: Path) -> pl.DataFrame:
    """Return the aligned rows of a run that have a GPU type."""
    return read(folder, "signals").filter(pl.col("gpu_type").is_not_null())


def typed_rows(signals: pl.DataFrame, part: ServiceFrame) -> pl.DataFrame | None:
    """Return the aligned rows of a part's service and windows that have a GPU type, None without any."""
    own = signals.filter(pl.col("service") == part.service)
    own = own.join(part.table.select("capture", "t"), ["capture", "t"], how="semi")
    return own if own.height else None

"""Aligned service tables on disk: the long table of values, and what is known of columns and pools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hs_analysis.align import Aligned, ServiceFacts
from hs_analysis.align.instance_rows import row_width_s
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.records import from_plain
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column

if TYPE_CHECKING:
    from hs_analysis.derive.edges import Edges

SERVICES_FILE = "data/services.json"


def write_aligned(folder: Path, aligned: Aligned) -> None:
    """Write the aligned frames: values of pools and of instances, births, and what is known beside them."""
    tables.write_frames(folder, "signals", [aligned.signals])
    tables.write_frames(folder, "births", [aligned.births])
    tables.write_frames(folder, "lives", [aligned.lives])
    tables.write_frames(folder, "instances", [aligned.instances])
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
    tables.write_json(folder, SERVICES_FILE, entries)


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of each service beside its values, in the order of alignment."""
    return list(tables.read_json(folder, SERVICES_FILE))


def service_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the services, in the order of alignment."""
    return tuple(str(entry["service"]) for entry in read_entries(folder))


def edges_of(entry: Mapping[str, Any]) -> Edges:
    """Return the histogram edges about each limit of a service."""
    return {
        edge["signal"]: (edge["limit_s"], edge["low_s"], edge["high_s"] or math.inf)
        for edge in entry["slo_edges"]
    }


def read_frames(folder: Path) -> tuple[ServiceFrame, ...]:
    """Return the aligned services as alignment left them."""
    signals = _untyped(folder)
    return tuple(_frame(entry, signals) for entry in read_entries(folder))


def read_frame(folder: Path, service: str) -> ServiceFrame:
    """Return one of the aligned services, without putting the others on their grids."""
    entry = next(entry for entry in read_entries(folder) if entry["service"] == service)
    return _frame(entry, _untyped(folder))


def _untyped(folder: Path) -> pl.DataFrame:
    """Return the signals over all GPU types."""
    return tables.read(folder, "signals").filter(pl.col("gpu_type").is_null())


def read_instances(folder: Path, part: ServiceFrame) -> pl.DataFrame:
    """Return the rows per instance that lie within the windows of a part of a service, whole."""
    own = tables.read(folder, "instances").filter(pl.col("service") == part.service)
    rest_us = round((row_width_s(part.kind, part.window_s) - part.window_s) * 1e6)
    windows = part.table.select("capture", "t")
    ends = windows.with_columns(pl.col("t") - pl.duration(microseconds=rest_us))
    return own.join(windows, ["capture", "t"], how="semi").join(ends, ["capture", "t"], how="semi")


def totals_of(entry: Mapping[str, Any]) -> ServiceFacts | None:
    """Return the recorded totals of a service."""
    return from_plain(ServiceFacts, entry["totals"]) if entry["totals"] else None


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
        entry["service"], entry["window_s"], entry["kind"], entry["reference"], table, infos,
        dict(entry["gpus_per_instance"]), {role: tuple(found) for role, found in entry["gpu_types"].items()},
    )  # fmt: skip


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


def split(frame: ServiceFrame, share: float) -> tuple[ServiceFrame, ServiceFrame]:
    """Return the first part of a service's time and the rest: what is learnt on, and what is tested on.

    The cut is where ``share`` of the rows lie before it, over all captures together.
    """
    seconds = frame.seconds()
    if not seconds.size:
        return frame, frame
    ordered: Sequence[float] = np.sort(seconds).tolist()
    cut = ordered[min(int(share * len(ordered)), len(ordered) - 1)]
    return frame.rows(seconds < cut), frame.rows(seconds >= cut)


def typed_signals(folder: Path) -> pl.DataFrame:
    """Return the aligned rows of a run that have a GPU type."""
    return tables.read(folder, "signals").filter(pl.col("gpu_type").is_not_null())


def typed_rows(signals: pl.DataFrame, part: ServiceFrame) -> pl.DataFrame | None:
    """Return the aligned rows of a part's service and windows that have a GPU type, None without any."""
    own = signals.filter(pl.col("service") == part.service)
    own = own.join(part.table.select("capture", "t"), ["capture", "t"], how="semi")
    return own if own.height else None

"""GPU types against each other in benchmark points of a single pool: output tokens per GPU at equal load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.derive.bench_points import trials_of
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import BenchSpeed

SAME = ("capture", "file", "model", "engine", "precision", "cached_ratio", "isl", "osl")
"""Columns in which the points of one comparison agree."""


def bench_speeds(bench: pl.DataFrame, slo: Slo) -> tuple[BenchSpeed, ...]:
    """Return what each GPU type of a benchmark serves against the others, per GPU.

    Types are compared at the loads (requests/s or in flight) that each was tested at, so that none gains by
    having been tested further; each by its best point there that does not surely break a limit. Points
    without GPUs, decode TPS or load, or with separate prefill, are left out, as is a benchmark of one type.
    """
    load = pl.coalesce("request_rate", "concurrency")
    points = bench.filter((pl.col("kind") == "point") & pl.col("prefill_instances").is_null())
    points = points.with_columns(load=load).drop_nulls(
        ["load", "decode_tps", "decode_gpus", "decode_gpu_type"]
    )
    points = points.filter(pl.col("decode_gpus") > 0).with_columns(
        gpu=pl.col("decode_gpu_type"), each=pl.col("decode_tps") / pl.col("decode_gpus")
    )
    found: list[BenchSpeed] = []
    for key, group in sorted(points.group_by(SAME), key=lambda one: tuple(map(str, one[0]))):
        found += _of_group(dict(zip(SAME, key, strict=True)), group, slo)
    return tuple(found)


def _of_group(named: Mapping[str, Any], group: pl.DataFrame, slo: Slo) -> list[BenchSpeed]:
    setups = ["gpu", "decode_gpus"]
    count = group.select(setups).unique().height
    common = group.group_by("load").agg(pl.struct(setups).n_unique().alias("n")).filter(pl.col("n") == count)
    rows = group.join(common.select("load"), "load", how="semi").sort(*setups, "load")
    if count < 2 or rows.is_empty():
        return []
    limits = [name for name in ("ttft", "tbt") if slo.limit_s(name) is not None]
    trials = trials_of(rows.with_columns(prefill_instances=pl.lit(0.0), decode_instances=pl.lit(1.0)), slo)
    holds = pl.Series([not trial.fails(limits) for trial in trials])
    unknown = any(getattr(trial, limit) == "unknown" for trial in trials for limit in limits)
    best = rows.filter(holds).sort("each", descending=True).unique(setups, keep="first", maintain_order=True)
    if best.height < 2:
        return []
    least = best.row(-1, named=True)
    top = float(common["load"].max())  # type: ignore[arg-type]
    name = " · ".join(
        str(named[key]) for key in ("capture", "model", "engine", "precision", "file") if named[key]
    )
    return [
        BenchSpeed(
            name, named["isl"], named["osl"], row["gpu"], row["decode_gpus"], row["each"], row["load"],
            row["each"] / least["each"], least["gpu"], _caveat(row["load"] >= top, unknown),
        )
        for row in best.iter_rows(named=True)
    ]  # fmt: skip


def _caveat(at_top: bool, unknown: bool) -> Reason | None:
    if unknown:
        return Reason("not_measured", "a latency with a limit was not measured: compared by throughput alone")
    if at_top:
        return Reason("highest_load", "best at the highest common load: it may serve more beyond it")
    return None

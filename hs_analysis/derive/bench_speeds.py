"""GPU types against each other in benchmark points of a single pool: output tokens per GPU at equal load.

What a pool that mixes types is weighed by where its own history can't tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis.derive.bench_points import trials_of
from hs_analysis.schema.gpu_names import same_gpu
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import BenchSpeed

SAME = ("capture", "file", "model", "engine", "precision", "cached_ratio", "isl", "osl")
"""Columns in which the points of one comparison agree."""

LENGTHS_WITHIN = 2.0
"""Factor within which a benchmark's lengths must lie of the service's mean request [ratio]. Default of this
project: speeds of types against each other move less with the lengths than speeds do."""


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


def pool_speeds(
    bench: Sequence[BenchSpeed], types: Sequence[str], request: tuple[float, float] | None, gpus: float | None
) -> dict[str, BenchSpeed]:
    """Return the benchmark's row of each GPU type of a pool, empty where no benchmark has them all.

    Parameters
    ----------
    bench
        Types of benchmarks, as of `bench_speeds`; the one whose lengths are nearest to the request is taken.
    types
        GPU types as the pool names them: a benchmark's type stands for one if it is called the same, else if
        it is the only one there with its model number.
    request
        Computed prompt and output tokens of the service's mean request; None where not counted.
    gpus
        GPUs of an instance: set-ups of that size first; None where not known.
    """
    groups: dict[tuple[str, float, float], list[BenchSpeed]] = {}
    for one in bench:
        if request is not None and one.isl and one.osl and _apart(one.isl, one.osl, request) <= 1.0:
            groups.setdefault((one.name, one.isl, one.osl), []).append(one)
    nearest = sorted(groups, key=lambda key: (_apart(key[1], key[2], request or (1.0, 1.0)), key))
    for key in nearest:
        found = {name: _row_of(name, groups[key], gpus) for name in types}
        known = {name: row for name, row in found.items() if row is not None}
        if len(known) == len(types) == len({row.gpu_type for row in known.values()}):
            return known
    return {}


def _apart(isl: float, osl: float, request: tuple[float, float]) -> float:
    """Return how far two lengths lie from a request's, 1 where the farther one is at the limit."""
    return max(abs(math.log(a / b)) for a, b in zip((isl, osl), request, strict=True)) / math.log(
        LENGTHS_WITHIN
    )


def _row_of(name: str, rows: Sequence[BenchSpeed], gpus: float | None) -> BenchSpeed | None:
    named = {row.gpu_type for row in rows if row.gpu_type == name}
    named = named or {row.gpu_type for row in rows if same_gpu(row.gpu_type, name)}
    own = [row for row in rows if row.gpu_type in named]
    if len(named) != 1:
        return None
    return max(own, key=lambda row: (row.gpus == gpus, row.tps_per_gpu))

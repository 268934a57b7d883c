"""Ratio tests in benchmark points: which points belong together, and what each says of the limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from hs_analysis import evidence
from hs_analysis.derive.sweep import Trial, Verdict, answer
from hs_analysis.schema.frames import empty
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import SPLITS, SweepResult

SAME = (
    "capture", "model", "engine", "precision", "prefill_gpu_type", "decode_gpu_type", "cached_ratio", "isl",
    "osl",
)  # fmt: skip
"""Columns in which the points of one ratio test agree."""

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"))
"""Quantiles that a benchmark point may state, and the names of their columns."""

TIGHTER = (1.0, 0.8, 0.6, 0.4)
"""Shares of the limit on TBT at which a ratio test is judged too: how far a tighter limit moves the ratio.
Default of this project."""


@dataclass(frozen=True)
class RatioTest:
    """The points of one ratio test: what they agree in, and their rows of the contract ``bench``."""

    base: SweepResult
    points: pl.DataFrame


def ratio_tests(bench: pl.DataFrame) -> Iterator[RatioTest]:
    """Yield the ratio tests in benchmark points, by name.

    A ratio test is all points with separate prefill and decode that agree in capture, model, engine,
    precision, GPU types, share of cached tokens and lengths; points that name no model also agree in their
    series. The parallel layout and the size of an instance may differ: a sweep chooses among layouts too,
    and is then judged per GPU.
    """
    points = bench.filter(
        (pl.col("kind") == "point") & (pl.col("prefill_instances") > 0) & (pl.col("decode_instances") > 0)
    )
    keys = [*SAME, pl.when(pl.col("model").is_null()).then("series").alias("own_series")]
    for key, group in sorted(points.group_by(keys), key=lambda found: tuple(map(str, found[0]))):
        named = dict(zip((*SAME, "own_series"), key, strict=True))
        name = _name(named)
        base = SweepResult(
            name, "bench", isl=named["isl"], osl=named["osl"],
            evidence=evidence.path(name, "derive", _what(named["isl"], named["osl"])),
        )  # fmt: skip
        yield RatioTest(base, group.sort("prefill_instances", "decode_instances", "concurrency", "series"))


def _what(isl: float | None, osl: float | None) -> str:
    return f"sweep:{isl or 0:.0f}+{osl or 0:.0f}"


def _name(named: Mapping[str, Any]) -> str:
    gpus = {named["prefill_gpu_type"], named["decode_gpu_type"]} - {None}
    parts = [named["capture"], named["own_series"], named["model"], named["engine"], named["precision"]]
    return " · ".join([*(str(part) for part in parts if part), *sorted(gpus)]) or "unnamed"


def trials_of(points: pl.DataFrame, slo: Slo) -> tuple[Trial, ...]:
    """Return the trials of benchmark points, in their order.

    A latency is judged by its quantile of the objective, else by a higher one that was stated (which can
    only be stricter), else by its mean.
    """
    return tuple(_trial(row, slo) for row in points.iter_rows(named=True))


def _trial(row: Mapping[str, Any], slo: Slo) -> Trial:
    ttft, by_mean = _judged(row, "ttft", slo)
    tbt, also = _judged(row, "tbt", slo)
    gpus = (row["prefill_gpus"], row["decode_gpus"])
    load = row["request_rate"] if row["request_rate"] is not None else row["concurrency"]
    return Trial(
        row["prefill_instances"], row["decode_instances"], None if None in gpus else gpus, load,
        row["decode_tps"], row["prefill_tps"], row["request_throughput"], ttft, tbt,
        mean_only=by_mean or also, label=row["series"],
    )  # fmt: skip


def _judged(row: Mapping[str, Any], latency: str, slo: Slo) -> tuple[Verdict, bool]:
    """Return whether the limit holds, and whether only the mean says so."""
    limit = slo.limit_s(latency)
    if limit is None:
        return "unknown", False
    stated = [
        (quantile, row[f"{latency}_{name}_s"])
        for quantile, name in QUANTILES
        if quantile >= slo.quantile - 1e-9 and row[f"{latency}_{name}_s"] is not None
    ]
    if stated:
        quantile, value = stated[0]
        exact = abs(quantile - slo.quantile) < 1e-9
        return ("meets" if value <= limit else "fails" if exact else "undecided"), False
    mean = row[f"{latency}_mean_s"]
    return ("unknown", False) if mean is None else ("meets" if mean <= limit else "fails", True)


def bench_sweeps(bench: pl.DataFrame, slo: Slo) -> tuple[tuple[SweepResult, ...], pl.DataFrame]:
    """Return the answers of all ratio tests in benchmark points, and their splits (contract ``splits``).

    Each test is judged under the limits given, on decode TPS alone, and, where a limit on TBT was given,
    under 0.8, 0.6 and 0.4 of it. Points of one split alone are no test: they are among the splits only.
    """
    results: list[SweepResult] = []
    tables: list[pl.DataFrame] = []
    for test in ratio_tests(bench):
        trials = trials_of(test.points, slo)
        tables.append(split_table(test.base, trials))
        if len({trial.pair for trial in trials}) < 2:
            continue
        for objective in _objectives(slo):
            limits = [name for name in ("ttft", "tbt") if objective.limit_s(name) is not None]
            base = replace(
                test.base, ttft_s=objective.ttft_s, tbt_s=objective.tbt_s, quantile=objective.quantile
            )
            results.append(answer(trials_of(test.points, objective), limits, base))
        results.append(answer(trials, (), test.base))
    return tuple(results), pl.concat([empty(SPLITS), *tables])


def _objectives(slo: Slo) -> list[Slo]:
    if slo.tbt_s is None:
        return [slo] if slo.given else []
    return [replace(slo, tbt_s=round(slo.tbt_s * share, 9)) for share in TIGHTER]


def split_table(base: SweepResult, trials: tuple[Trial, ...]) -> pl.DataFrame:
    """Return the trials of one test as rows of the contract ``splits``."""
    rows = [
        {
            "name": base.name, "source": base.source, "isl": base.isl, "osl": base.osl, "label": t.label,
            "prefill_instances": t.prefill, "decode_instances": t.decode, "ratio": t.ratio, "load": t.load,
            "prefill_tps": t.prefill_tps, "decode_tps": t.decode_tps,
            "request_throughput": t.request_throughput, "ttft": t.ttft, "tbt": t.tbt,
            "within_ratio": t.within, "limited": t.limited,
        }
        for t in trials
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(SPLITS).schema)

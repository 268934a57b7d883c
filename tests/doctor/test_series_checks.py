"""Checks of series, services and descriptions, each on a small made case."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from doctor.test_checks import frame, scene, series

from hs_analysis.doctor import diagnose
from hs_analysis.schema.frames import BENCH, empty
from hs_analysis.schema.settings import MetricRow, Reading, Settings, TableRow


def found(check: str, **changes: Any) -> list[tuple[str, str]]:
    """Return (level, text) of a check's findings in a scene."""
    rows = diagnose(scene(**changes)).filter(pl.col("check") == check)
    return list(rows.select("level", "text").iter_rows())


def tails(**changes: Any) -> pl.DataFrame:
    """Return one latency as the query gives it: a cliff."""
    plain = {
        "group_no": 0, "moments": 746, "mean": 355.0, "deviation": 1958.0, "high": 13527.0, "peak": 18962.0,
        "carried": 0.66, "service": "ns/m", "metric": "ttft_ms",
    }  # fmt: skip
    return pl.DataFrame([plain | changes], schema_overrides={"carried": pl.Float64})


def test_a_latency_whose_highest_values_carry_the_variance_is_a_cliff() -> None:
    """An exponential tail carries 0.22 of it and is none; nor is what nothing varies in, or few values."""
    ((level, text),) = found("tail", tails=tails())
    assert level == "warn"
    assert "ttft_ms: the highest 1 % of its values carry 66 % of the variance" in text
    assert "deviation 5.5 × the mean" in text
    for plain in ({"carried": 0.22}, {"carried": None}, {"moments": 99}):
        assert found("tail", tails=tails(**plain)) == []


def sized(size: list[float], load: list[float]) -> Any:
    """Return a service whose pool has a size and whose requests a rate in each window."""
    made = frame({"instances@decode": 1.0, "request_rate@service": 1.0}, rows=len(size))
    columns = [pl.Series("instances@decode", size), pl.Series("request_rate@service", load)]
    return replace(made, table=made.table.with_columns(columns))


def test_a_pool_that_moves_with_the_load_is_confounded_with_it() -> None:
    """A fixed pool is not, nor one that moves on its own, nor one over a few windows."""
    load = [10.0 + 5 * math.sin(i / 7) for i in range(60)]
    follows = [float(round(value / 5)) for value in load]
    ((level, text),) = found("confounded", frames=(sized(follows, load),))
    assert level == "pass"
    assert "decode instances move with the request rate (rank correlation 0.9" in text
    for size in ([3.0] * 60, [float(i % 3) for i in range(60)]):
        assert found("confounded", frames=(sized(size, load),)) == []
    assert found("confounded", frames=(sized(follows[:29], load[:29]),)) == []


def test_values_that_the_mapping_calls_averages_are_named() -> None:
    """Only where the input has them."""
    columns = {
        "vllm:generation_tokens_total": MetricRow("decode_tps", averaged=21_600.0),
        "other": MetricRow("decode_tps", averaged=60.0),
    }
    reading = Reading(tables={"t": TableRow(match="*", columns=columns)})
    ((level, text),) = found("averaged", settings=Settings(reading=reading))
    assert level == "warn"
    assert text.startswith("vllm:generation_tokens_total: averages over 21,600 s")
    assert found("averaged") == []


def points(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return benchmark points."""
    plain = {"file": "b.csv", "capture": "", "kind": "point", "format": "table", "series": "s"}
    return pl.DataFrame([plain | row for row in rows], schema=empty(BENCH).schema)


def test_points_of_several_days_and_of_other_gpus_are_told() -> None:
    """Points of one day are not; a GPU type is known by its model number in either spelling."""
    bench = points(
        {"measured_on": "2025-10-29", "decode_gpu_type": "h200_sxm"},
        {"measured_on": "2026-04-17", "decode_gpu_type": "8xMI300X"},
        {"decode_gpu_type": "h200_sxm"},
    )
    ((level, text),) = found("bench_dates", bench=bench)
    assert level == "warn"
    assert "2 points were measured from 2025-10-29 to 2026-04-17 on 2 days, 1 do not say when" in text
    assert found("bench_dates", bench=bench[:1]) == []

    def runs_on(*types: str) -> list[tuple[str, str]]:
        return found("bench_gpus", bench=bench, frames=(replace(frame({}), gpu_types={"decode": types}),))

    assert [level for level, _ in runs_on("NVIDIA H200", "AMD Instinct MI300X")] == ["pass"]
    lacking = [text for level, text in runs_on("NVIDIA H20") if level == "warn"]
    assert lacking == ["no point was measured on NVIDIA H20, which the service runs on"]


@pytest.mark.parametrize(
    ("name", "signal", "unit", "factor"),
    [
        ("ttft_ms", "ttft", None, "1000"),
        ("engine:ttft_milliseconds", "ttft", "s", "1000"),
        ("arrival_rate_rpm", "request_rate", None, "60"),
        ("arrival_rate_per_minute", "request_rate", "rps", "60"),
        ("gpu_pct", "gpu_util", None, "100"),
        ("ttft_ms", "ttft", "ms", None),
        ("ttft_seconds", "ttft", None, None),
        ("gateway_qps", "request_rate", None, None),
        ("arrival_rate_rpm", "request_rate", "req/min", None),
        ("depth_ms", "queue_length", None, None),
        ("ms", "ttft", None, None),
        ("latency_h200", "ttft", None, None),
    ],
)
def test_a_name_that_tells_another_unit_is_doubted(
    name: str, signal: str, unit: str | None, factor: str | None
) -> None:
    """Only a unit of what the signal measures; a bare word is no unit."""
    mapped = Settings(reading=Reading(metrics={name: MetricRow(signal, unit=unit)}))
    got = found("named_unit", settings=mapped, series=series([{"metric": name, "kind": "gauge"}]))
    assert len(got) == (factor is not None)
    if factor:
        assert got[0][0] == "warn"
        assert f"off by a factor of {factor};" in got[0][1]

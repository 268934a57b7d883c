"""What doctor asks of the samples themselves, from a dump to its findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.doctor_stage import lost_whole
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings

BASE_S = 1_764_000_000


def one(metric: str, values: list[float], offset_s: float = 0.0, **labels: str) -> dict[str, Any]:
    """Return a series at 15 s."""
    points = [[BASE_S + offset_s + 15 * k, str(value)] for k, value in enumerate(values)]
    return {"metric": {"__name__": metric, "model_name": "m", "pod": "decode-0", **labels}, "values": points}


def findings(folder: Path, *series: dict[str, Any], beside: Path | None = None) -> pl.DataFrame:
    """Return the findings on a dump of some series, and what lies in another folder."""
    answer = {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}
    (folder / "in").mkdir()
    (folder / "in" / "a.json").write_text(json.dumps(answer))
    run_inputs(
        [folder / "in", *([beside] if beside else [])],
        "doctor",
        Settings(),
        stages=STAGES,
        progress=Silent(),
        run_dir=folder / "run",
    )
    return pl.read_parquet(folder / "run" / "data" / "findings.parquet")


def test_a_second_server_is_found(tmp_path: Path) -> None:
    """The same counter, scraped seven seconds later by the other server of a pair."""
    counter = [1000.0 + 10 * k for k in range(200)]
    later = [value + 5 for value in counter]
    name = "vllm:generation_tokens_total"
    found = findings(
        tmp_path,
        one(name, counter, prometheus_replica="p-0"),
        one(name, later, 7.0, prometheus_replica="p-1"),
    ).filter(pl.col("check") == "replicas")
    assert found["level"].to_list() == ["fail"]
    assert "--dedup-label prometheus_replica" in found["text"][0]


def test_a_histogram_that_was_added_up_is_found(tmp_path: Path) -> None:
    """A bucket below the one of a smaller edge, and no bucket up to +Inf, at every scrape."""
    family = "vllm:time_to_first_token_seconds"
    rising = [float(k) for k in range(200)]
    found = findings(
        tmp_path,
        one(f"{family}_bucket", [2 * value for value in rising], le="0.5"),
        one(f"{family}_bucket", rising, le="1.0"),
        one(f"{family}_count", rising),
        one("vllm:generation_tokens_total", rising),
    ).filter(pl.col("check") == "histograms")
    texts = found["text"].to_list()
    assert any("is not cumulative" in text for text in texts)
    assert any("no bucket up to +Inf" in text for text in texts)


def test_a_counter_below_zero_is_lost_whole(tmp_path: Path) -> None:
    """The finding names metric and file; the series that lost every sample is known, the other is not."""
    name = "vllm:generation_tokens_total"
    rising = [1000.0 + 10 * k for k in range(200)]
    found = findings(tmp_path, one(name, [-v for v in rising], pod="decode-1"), one(name, [-1.0, *rising]))
    told = found.filter(pl.col("check") == "rejected")["text"].to_list()
    assert told == [f"201 rows quarantined: negative_counter, {name} in a.json; see data/rejected.parquet"]
    assert lost_whole(tmp_path / "run") == [f'{name}{{model_name="m", pod="decode-1"}}']


def test_a_table_beside_the_dumps_is_told_with_its_columns(tmp_path: Path) -> None:
    """It holds what a mapping would read."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "fleet.csv").write_text("when,pod,load\n1,a,2\n")
    found = findings(
        tmp_path, one("vllm:generation_tokens_total", [1.0, 2.0, 3.0]), beside=tmp_path / "extra"
    )
    told = found.filter((pl.col("check") == "files") & (pl.col("level") == "warn"))["text"].to_list()
    assert len(told) == 1
    assert "fleet.csv: a table that no reader knows, with the columns when, pod, load; map them" in told[0]

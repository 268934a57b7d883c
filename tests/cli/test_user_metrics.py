"""A counter of the user's own, named in hsa.toml only, from the files to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli.conftest import OWN, SHIPPED
from typer.testing import CliRunner

from hs_analysis.cli.app import app


@pytest.fixture
def runs(finished: Path, own_and_priced: Path) -> tuple[Path, Path]:
    """The run of the history as vLLM exports it, and with the user's counter, a value of which is broken."""
    return finished, own_and_priced


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())["services"][0]
    return found


def tps(run: Path) -> dict[str, Any]:
    rows = summary(run)["signals"]
    (row,) = (row for row in rows if row["signal"] == "decode_tps" and row["gpu_type"] is None)
    return dict(row)


def test_it_is_read_as_a_counter(runs: tuple[Path, Path]) -> None:
    """What no counter can be is set aside, as of a shipped counter."""
    rejected = pl.read_parquet(runs[1] / "data" / "rejected.parquet")
    assert rejected.select("reason", "detail").unique().rows() == [
        ("negative_counter", "a counter is never below 0")
    ]
    series = pl.read_parquet(runs[1] / "data" / "series.parquet").filter(pl.col("metric") == OWN)
    assert series.select("kind", "signal", "source").unique().rows() == [("counter", "decode_tps", "mapping")]


def test_it_is_judged_like_the_shipped_one(runs: tuple[Path, Path]) -> None:
    """The verdict and its numbers are the shipped counter's."""
    shipped, own = (tps(run) for run in runs)
    assert (shipped["source"], own["source"]) == ("vllm", "mapping")
    assert own["verdict"] == shipped["verdict"]
    assert own["pearson"] == pytest.approx(shipped["pearson"], abs=1e-9)
    assert summary(runs[1])["totals"]["output_tokens"] == summary(runs[0])["totals"]["output_tokens"]


def test_it_stands_behind_the_numbers_of_the_report(runs: tuple[Path, Path]) -> None:
    """``hsa explain`` names the user's metric, the policy asks for it, the report shows its source."""
    link = tps(runs[1])["evidence"]
    told = CliRunner().invoke(app, ["explain", link, "--run-dir", str(runs[1]), "-o", "json"])
    assert json.loads(told.stdout)["metrics"] == [OWN]
    asked = [(run / "policy.yaml").read_text("utf-8") for run in runs]
    assert SHIPPED in asked[0]
    assert OWN in asked[1]
    assert SHIPPED not in asked[1]
    assert "mapping" in (runs[1] / "report.html").read_text("utf-8")

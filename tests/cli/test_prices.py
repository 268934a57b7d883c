"""Prices of GPU-hours: cost per policy in summary, table and report, and nothing of it without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.conftest import LIMITS, small_history, write_dumps
from typer.testing import CliRunner

from hs_analysis.cli.app import app

TOML = """[gpus]
"*" = 4
[prices]
"NVIDIA H20" = 2.5
"""


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on GPUs of one type, four an instance, at a price."""
    folder = tmp_path_factory.mktemp("priced")
    (folder / "hsa.toml").write_text(TOML)
    history = small_history()
    for one in history["DCGM_FI_PROF_SM_ACTIVE"]:
        one["metric"]["modelName"] = "NVIDIA H20"
    arguments = ["run", str(write_dumps(folder / "dumps", history)), "--run-dir", str(folder / "run"), "-q"]
    done = CliRunner().invoke(
        app, [*arguments, *LIMITS, "--config", str(folder / "hsa.toml")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return folder / "run"


def test_every_policy_has_its_cost(priced: Path) -> None:
    """GPU-hours at the price; in the table and the report as well."""
    rows = json.loads((priced / "summary.json").read_text())["services"][0]["replay"]["policies"]
    assert rows
    assert all(row["cost"] == pytest.approx(2.5 * row["gpu_hours"]) for row in rows if row["gpu_hours"])
    assert any(row["gpu_hours"] for row in rows)
    table = CliRunner().invoke(app, ["replay", str(priced), "-q"], catch_exceptions=False).stdout
    assert " cost " in table
    assert ">cost</th>" in (priced / "report.html").read_text("utf-8")


def test_without_prices_no_cost_is_shown(finished: Path) -> None:
    """Not as a null, nor as an empty column."""
    rows = json.loads((finished / "summary.json").read_text())["services"][0]["replay"]["policies"]
    assert rows
    assert not any("cost" in row for row in rows)
    table = CliRunner().invoke(app, ["replay", str(finished), "-q"], catch_exceptions=False).stdout
    assert " cost " not in table
    assert ">cost</th>" not in (finished / "report.html").read_text("utf-8")

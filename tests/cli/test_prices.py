"""Prices of GPU-hours: cost per policy in summary, table and report, and nothing of it without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app


def test_every_policy_has_its_cost(own_and_priced: Path) -> None:
    """GPU-hours at the price; in the table and the report as well."""
    priced = own_and_priced
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

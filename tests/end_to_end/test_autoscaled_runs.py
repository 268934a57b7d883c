"""Short autoscaled runs on real GPUs, pooled as pressure tests, from tables to verdicts."""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import here

from hs_analysis.pipeline.results import sections

LIMITS = ("--pressure-test", "--slo", "ttft=500ms", "--slo", "tbt=50ms")


def verdict(source: Path, folder: Path, signal: str) -> dict[str, Any]:
    """Return the verdict on a signal of the only service."""
    config = str(files("hs_analysis") / "mappings" / "wva-h100.toml")
    here("ingest", source, "--run-dir", folder, "--config", config, "-q")
    here("study", folder, "--config", config, "-q", *LIMITS)
    (service,) = sections(folder, "study")
    return next(s for s in service["signals"] if s["signal"] == signal and s["gpu_type"] is None)


@pytest.fixture
def tables(real_data: Path, tmp_path: Path) -> Path:
    """The two tables of the controller's log."""
    source, target = real_data / "wva-h100-autoscaling", tmp_path / "in"
    target.mkdir()
    for name in ("va_timeseries.csv", "pod_timeseries.csv.gz"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_a_cliff_is_at_best_a_guard_and_says_why(tables: Path, tmp_path: Path) -> None:
    """TTFT of 24 runs: a guard by class, too noisy and not linear, each with its number."""
    found = verdict(tables, tmp_path / "run", "ttft")
    reasons = {reason["code"]: reason for reason in found["reasons"]}
    assert found["verdict"] == "guard"
    assert reasons["noise"]["value"] < reasons["noise"]["limit"]
    assert reasons["not_linear"]["value"] > reasons["not_linear"]["limit"]
    assert "class" in reasons
    assert "runs_pooled" in reasons


@pytest.mark.slow
def test_a_clean_line_in_its_place_is_still_a_guard_by_class(tables: Path, tmp_path: Path) -> None:
    """TTFT written anew in proportion to the load of a pod: no noise nor bend is left, the class is."""
    pods: dict[tuple[str, str], set[str]] = {}
    with gzip.open(tables / "pod_timeseries.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            pods.setdefault((row["experiment"], row["ts"][:16]), set()).add(row["pod"])
    path = tables / "va_timeseries.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        count = len(pods.get((row["experiment"], row["ts"][:16]), ())) or int(float(row["replicas"]))
        if (
            row["ttft_ms"] not in ("0", "0.0", "0.00")
            and row["arrival_rate_rpm"]
            and row["avg_output_tokens"]
        ):
            load = float(row["arrival_rate_rpm"]) * float(row["avg_output_tokens"]) / count
            row["ttft_ms"] = f"{0.01 * load:.4f}"
        else:
            row["ttft_ms"] = "0"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = verdict(tables, tmp_path / "run", "ttft")
    codes = {reason["code"] for reason in found["reasons"]}
    assert found["verdict"] == "guard"
    assert "class" in codes
    assert not codes & {"noise", "not_linear"}

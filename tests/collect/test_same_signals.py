"""``hsa pull`` against the server's own dump: the same samples, so the same signals, nothing left open."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest
from collect.snapshot import unpacked
from outside import needs

WINDOW = ("--from", "2026-11-24T12:16:00Z", "--to", "2026-11-24T12:37:30Z")
"""Wider than the capture, so that nothing of the dump is left out."""

KEYS = ["service", "capture", "role", "gpu_type", "signal", "source", "t"]
NEARLY = 1e-9
"""Sums over series in another order [ratio]."""


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What promtool dumps of the snapshot."""
    folder = tmp_path_factory.mktemp("dump")
    command = [needs("promtool"), "tsdb", "dump", str(unpacked(folder))]
    path = folder / "dump.txt"
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


def judged(hsa, source: Path, run: Path) -> tuple[dict[str, list[str]], pl.DataFrame]:
    """The levels that the doctor gives by check, and the signals on the default windows."""
    for stage in (("ingest", source, "--run-dir", run), ("study", run)):
        assert hsa(*stage, "-q").returncode == 0
    done = hsa("doctor", run, "-q", "-o", "json")
    assert done.returncode == 0, done.stderr
    levels: dict[str, list[str]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        levels.setdefault(finding["check"], []).append(finding["level"])
    return levels, pl.read_parquet(run / "data" / "signals.parquet")


@pytest.mark.slow
@pytest.mark.outside("promtool")
def test_what_is_pulled_gives_the_signals_of_the_dump(
    prometheus: str, dump: Path, hsa, tmp_path: Path
) -> None:
    """Every value of every window within float tolerance, no grid found; points of a grid fail both."""
    _, whole = judged(hsa, dump, tmp_path / "whole")
    off = (pl.col("value") - pl.col("value_pulled")).abs() / pl.col("value").abs().clip(NEARLY)
    for step, exact in (((), True), (("--step", "5100ms"), False)):
        folder, run = tmp_path / f"dumps-{exact}", tmp_path / f"run-{exact}"
        done = hsa("pull", "--url", prometheus, *WINDOW, *step, "--out", folder, "--rate", "1000", "-q")
        assert done.returncode == 0, done.stderr
        levels, pulled = judged(hsa, folder, run)
        both = whole.join(pulled, KEYS, "full", nulls_equal=True, suffix="_pulled", coalesce=True)
        apart = both.filter(pl.col("value").is_null() != pl.col("value_pulled").is_null())
        assert both["value"].drop_nulls().len() > 400
        assert (both.height == whole.height and apart.is_empty()) or not exact, apart
        assert (both.select(off.max()).item() < NEARLY) is exact
        assert ("query_grid" not in levels) is exact
        assert levels["plan"] == ["pass"]

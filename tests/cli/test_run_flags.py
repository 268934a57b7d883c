"""What ``hsa run`` takes is told without a run; a run is extended in its own folder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def test_a_dry_run_tells_the_cost_and_writes_nothing(
    hsa: Callable[..., Done], dumps: Path, tmp_path: Path
) -> None:
    """In a line, and in numbers for programs."""
    said = hsa("run", dumps, "--dry-run", cwd=tmp_path)
    assert "samples, 1 service, 0.5 days: about 1 min to read" in said.stdout
    told = hsa("run", dumps, "--dry-run", "-o", "json", cwd=tmp_path)
    found = json.loads(told.stdout)
    assert found["services"] == 1
    assert found["seconds"] > found["reading_s"] > 0
    assert not list(tmp_path.iterdir())


def test_an_extended_run_stays_in_its_folder(hsa: Callable[..., Done], dumps: Path, tmp_path: Path) -> None:
    """Another folder, a folder that is no run, and a new start are refused."""
    both = hsa("run", dumps, "--extend", tmp_path / "run", "--run-dir", tmp_path / "other")
    assert both.returncode == 2
    assert "--extend names the run folder" in both.stderr
    none = hsa("run", dumps, "--extend", tmp_path / "run")
    assert none.returncode == 1
    assert "no such run folder" in none.stderr

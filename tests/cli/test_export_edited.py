"""hsa export --policy: an edited policy is written as it is, and nobody takes its figures for a replay's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def kept(folder: Path) -> dict[str, str]:
    """Return the exported files by path."""
    return {str(path): path.read_text("utf-8") for path in (folder / "exports").rglob("*") if path.is_file()}


def test_an_edited_policy_is_written_and_stamped(mine: Path, tmp_path: Path, hsa: Callable[..., Any]) -> None:
    """Every file begins with what was changed; its loss comes first; `none` brings the run's own back."""
    before = kept(mine)
    text = (mine / "policy.yaml").read_text("utf-8")
    assert text.count("max: 6\n") == 1
    assert "vs_recorded" in text
    edited = tmp_path / "mine.yaml"
    edited.write_text(text.replace("max: 6\n", "max: 9\n"))
    done = hsa("export", mine, "--target", "keda", "-q", "--policy", edited)
    assert done.returncode == 0, done.stderr
    stamp = "EDITED BY HAND (mine.yaml: bounds.prefill.max 6 → 9). The figures of replay and decision are"
    assert done.stdout.startswith(f"keda, demo/m: {stamp}")
    after = kept(mine)
    for path, content in after.items():
        if path.endswith(".losses.json"):
            assert json.loads(content)[0]["text"].startswith(stamp), path
        elif path.endswith(".yaml") and not path.endswith("kustomization.yaml"):
            assert content.startswith(f"# {stamp}"), path
        assert "This file was replayed as well" not in content, path
    (objects,) = [text for path, text in after.items() if path.endswith("keda/demo.m.scaledobjects.yaml")]
    assert "maxReplicaCount: 9" in objects
    (document,) = [text for path, text in after.items() if path.endswith("heteroscale/demo.m.policy.yaml")]
    assert "confidence: low" in document
    assert "vs_recorded" not in document
    (entry,) = [e for e in json.loads(after[str(mine / "exports/index.json")]) if e["target"] == "keda"]
    assert (entry["edited"], entry["doubts"]) == (["bounds.prefill.max 6 → 9"], [])
    assert hsa("export", mine, "--target", "keda", "-q", "--policy", "none").returncode == 0
    assert kept(mine) == before
    edited.write_text(f"# a comment\n{text}")
    assert hsa("export", mine, "--target", "keda", "-q", "--policy", edited).returncode == 0
    assert "EDITED" not in "".join(kept(mine).values()), "a comment is no change of the policy"
    above = re.sub(r"(target_per_instance:\n(?: +#.*\n)* +value: )[\d.]+", r"\g<1>98765.0", text, count=1)
    edited.write_text(above)
    done = hsa("export", mine, "--target", "keda", "-q", "--policy", edited)
    assert "look again: spec.primaries[0].target_per_instance.value: 98765 is above the" in done.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("min: 2", "min: two"), "spec.bounds."),
        (("service: demo/m", "service: other/m"), "is a policy of other/m, the run has demo/m"),
        (("schema: hs", "schema: hx"), "schema is"),
        (("unit: tokens/s", "unit: ms"), "spec.primaries[0].unit: 'ms' is not the unit of"),
    ],
)
def test_a_policy_that_is_none_of_the_run_changes_nothing(
    mine: Path, tmp_path: Path, hsa: Callable[..., Any], change: tuple[str, str], says: str
) -> None:
    """Exit code 1, the reason with its file, and the exports as they were; so is the next command."""
    before = kept(mine)
    edited = tmp_path / "mine.yaml"
    edited.write_text((mine / "policy.yaml").read_text("utf-8").replace(*change))
    done = hsa("export", mine, "--target", "keda", "-q", "--policy", edited)
    assert (done.returncode, "mine.yaml" in done.stderr, says in done.stderr) == (1, True, True), done.stderr
    assert kept(mine) == before
    assert hsa("export", mine, "--target", "keda", "-q").returncode == 0
    assert kept(mine) == before

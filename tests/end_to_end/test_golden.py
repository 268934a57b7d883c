"""The answers of the shipped samples, kept: a change of any of them is seen and has to be meant.

`HSA_UPDATE_GOLDEN=1` writes them again.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import SAMPLES, Finished, run
from ruamel.yaml import YAML

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
REL = 1e-6
"""Relative difference of numbers that another processor or library build may cause."""

NAMES_THE_CODE = ("run", "tool_version")


def _differences(kept: Any, found: Any, place: str = "") -> list[str]:
    """Return where two plain values differ, numbers within `REL`."""
    if isinstance(kept, dict) and isinstance(found, dict):
        keys = sorted({*kept, *found} - set(NAMES_THE_CODE))
        return [d for k in keys for d in _differences(kept.get(k), found.get(k), f"{place}/{k}")]
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        return [
            d
            for i, pair in enumerate(zip(kept, found, strict=True))
            for d in _differences(*pair, f"{place}/{i}")
        ]
    if isinstance(kept, float) or isinstance(found, float):
        numbers = isinstance(kept, int | float) and isinstance(found, int | float)
        if numbers and math.isclose(kept, found, rel_tol=REL, abs_tol=1e-9):
            return []
    return [] if kept == found else [f"{place}: kept {kept!r}, found {found!r}"]


FILES = ("summary.json", "policy.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_run_again_gives_the_same_bytes(
    name: str, root: Path, tmp_path: Path, finished: Finished
) -> None:
    """Nothing in the answers depends on the clock, on chance or on the order of anything."""
    source = root / "data_samples" / name
    done, again = finished(source, *SAMPLES[name]), run(source, tmp_path / "again", *SAMPLES[name])
    for file in FILES:
        assert (done.folder / file).read_bytes() == (again.folder / file).read_bytes(), file


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_answer_of_a_sample_is_the_one_kept(name: str, root: Path, finished: Finished) -> None:
    """summary.json and policy.yaml of a sample are those in tests/golden."""
    done = finished(root / "data_samples" / name, *SAMPLES[name])
    texts = {file: (done.folder / file).read_text("utf-8") for file in FILES}
    for file, text in texts.items():
        kept = GOLDEN / name / file
        if os.environ.get("HSA_UPDATE_GOLDEN"):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text, "utf-8")
    summary = _differences(json.loads((GOLDEN / name / "summary.json").read_text("utf-8")), done.summary)
    assert summary == []
    yaml = YAML(typ="safe")
    assert (
        _differences(
            yaml.load((GOLDEN / name / "policy.yaml").read_text("utf-8")), yaml.load(texts["policy.yaml"])
        )
        == []
    )


def test_a_changed_number_is_seen() -> None:
    """The comparison is not blind."""
    assert _differences({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.1}]}) == ["/a/1/b: kept 2.0, found 2.1"]


def test_missing_signals_are_written_as_found_ones(root: Path, finished: Finished) -> None:
    """The keys of doctor.json stand in one order in every row: none comes from a set."""
    done = finished(root / "data_samples" / "dynamo-pd", *SAMPLES["dynamo-pd"])
    rows = json.loads((done.folder / "data" / "doctor.json").read_text("utf-8"))["signals"]
    found, missing = ([row for row in rows if row["state"] == state] for state in ("found", "missing"))
    order = list(found[0])
    assert missing
    assert all([key for key in row if key in order] == order for row in missing)

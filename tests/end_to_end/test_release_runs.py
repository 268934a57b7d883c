"""A fleet that got a faster engine halfway, from dump files to what is said of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import here
from simulator import History, history, write

SEED = 5008
"""Both pools broke their limits before the release; decode never does after it."""


@pytest.fixture(scope="module")
def made() -> History:
    """The history and its truth."""
    return history("release", SEED)


@pytest.fixture(scope="module")
def folder(made: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its dumps, run as a user would."""
    dumps = tmp_path_factory.mktemp("release")
    write(made, dumps / "in")
    slo = made.kind.slo
    limits = ("--slo", f"ttft={slo.ttft_s}s", "--slo", f"tbt={slo.tbt_s}s")
    here(
        "run", dumps / "in", "--run-dir", dumps / "run", "-q", "--startup", f"{made.startup_s:.0f}s", *limits
    )
    return dumps / "run"


def service(folder: Path) -> dict[str, Any]:
    """Return the only service of a run's summary."""
    (found,) = json.loads((folder / "summary.json").read_text("utf-8"))["services"]
    return dict(found)


@pytest.mark.slow
def test_no_number_is_of_the_engine_that_is_gone(made: History, folder: Path) -> None:
    """Every capacity is the new engine's or bounds it from below; over both the ratio came out half the true.

    1.10 [1.01, 1.20], `ok`, where 2.06 is true.
    """
    found, truth = service(folder), made.truth
    for capacity in found["capacity"]:
        true = truth.capacity[capacity["role"]][-1]
        assert capacity["per_instance"] is None or capacity["status"] == "floor"
        assert capacity["per_instance"] is None or capacity["per_instance"] < true
    ratio = found["pd_ratio"]
    assert ratio["status"] != "ok"
    assert ratio["at_least"] is None or ratio["at_least"] <= truth.ratio
    assert ratio["at_most"] is None or ratio["at_most"] >= truth.ratio


@pytest.mark.slow
def test_what_it_stands_on_is_said_everywhere(folder: Path) -> None:
    """Times, versions and hours in summary, terminal and report; what to wait for in the refusals."""
    found = service(folder)
    assert [one["role"] for one in found["releases"]] == ["prefill", "decode"]
    shown, report = here("derive", folder).stdout, (folder / "report.html").read_text("utf-8")
    for one in found["releases"]:
        assert one["kind"] == "released"
        assert one["start"] < one["end"]
        assert 14.0 < one["used_h"] < 18.0
        assert one["used_h"] + one["left_out_h"] == pytest.approx(32.0, abs=0.1)
        assert one["text"] in " ".join(shown.split())
        assert one["text"] in report
    waits = [r["collect"] for r in found["refusals"] if r["what"].startswith("capacity@")]
    assert waits
    assert all("will have been recorded by" in text for text in waits)


@pytest.mark.slow
def test_a_release_after_the_training_window_is_no_backtest(folder: Path, tmp_path: Path) -> None:
    """Of a history that ends a few hours after the release the first 60 % are the engine before it."""
    gone = datetime.fromisoformat(service(folder)["releases"][0]["end"])
    until = (gone + timedelta(hours=6)).isoformat()
    limits = ("--slo", "ttft=2.2s", "--slo", "tbt=50ms")
    here("run", folder.parent / "in", "--run-dir", tmp_path / "run", "-q", "--to", until, *limits)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    calibration = summary["services"][0]["replay"]["calibration"]
    assert calibration["status"] == "not_calibrated"
    assert "a release came in the test window" in calibration["text"]
    warned = [w["text"] for w in summary["warnings"] if w["code"] == "not_calibrated"]
    assert any("a release came in the test window" in text for text in warned)

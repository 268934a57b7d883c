"""The answer of hsa replay says the worst first."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.cli.output import Table
from hs_analysis.cli.stages import _replayed
from hs_analysis.pipeline import results

SLO = {"ttft_s": 2.5, "tbt_s": 0.05, "allowed_window_share": 0.05}


def backtest(ours: float | None, status: str = "calibrated", edited: float | None = 0.01) -> dict[str, Any]:
    """Return a backtest of the selected policy ``b@decode``, an edited one and the recorded counts."""

    def row(policy: str, ratio: float | None) -> dict[str, Any]:
        side = "unclear" if ratio is None else "over" if ratio > 0.05 else "under"
        return {"policy": policy, "slo_violation_ratio": ratio, "instance_hours": 10.0, "slo_side": side}

    theirs = None if ours is None else 0.01
    rows = [row("edited", edited), row("b@decode", ours), row("recorded", theirs)]
    return {"policies": rows, "calibration": {"status": status, "text": "the mix moved"}}


@pytest.mark.parametrize(
    ("found", "slo", "first"),
    [
        (
            backtest(0.09),
            SLO,
            "WARNING: on the test window the selected policy of s breaks the SLO in 9.0 % of windows",
        ),
        (backtest(0.01, edited=0.5), SLO, "WARNING: on the test window edited of s breaks the SLO in 50 %"),
        (backtest(0.03), SLO, None),
        (backtest(None, "not_calibrated", edited=None), SLO, None),
        (backtest(None, "not_tested"), {}, None),
    ],
)
def test_the_first_line(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], slo: dict[str, Any], first: str | None
) -> None:
    """A broken SLO stands before the table, of the selected policy and of a given one; else no line does."""
    chosen = [{"policy": "b@decode", "chosen": True}]
    kept: dict[str, dict[str, Any]] = {"select": {"selection": chosen}, "replay": {"replay": found}}
    monkeypatch.setattr(results, "sections", lambda folder, stage: [{"service": "s"} | kept[stage]])
    monkeypatch.setattr(results, "unserved", lambda folder, manifest: [])
    monkeypatch.setattr(results, "decisions", lambda folder, manifest: {})
    ran: Any = SimpleNamespace(folder=Path("r"), manifest=SimpleNamespace(settings={"slo": slo}))
    shown = _replayed(ran)
    blocks = list(shown.blocks())
    if first:
        assert str(blocks.pop(0)).startswith(first)
    assert isinstance(blocks[0], Table)
    assert [row["policy"] for row in blocks[0].rows] == ["b@decode", "edited", "recorded"]
    assert shown.data == {"services": [{"service": "s", "replay": found}]}


def test_an_odd_target_of_a_given_policy_stands_before_the_backtest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slip of thousands is replayed, but not without a word."""
    kept: dict[str, dict[str, Any]] = {"select": {"selection": []}, "replay": {"replay": backtest(0.01)}}
    monkeypatch.setattr(results, "sections", lambda folder, stage: [{"service": "s"} | kept[stage]])
    monkeypatch.setattr(results, "unserved", lambda folder, manifest: [])
    monkeypatch.setattr(results, "decisions", lambda folder, manifest: {})
    text = (Path(__file__).resolve().parents[1] / "golden/simulated-days/policy.yaml").read_text("utf-8")
    value = r"( +target_per_instance:\n(?: +#.*\n)* +value: )[\d.]+"
    slip = re.sub(value, r"\g<1>2.8111", text, count=1)

    def first_of(policy: str) -> object:
        beside = {"policies": [{"name": "own.yaml", "text": policy}]}
        ran: Any = SimpleNamespace(folder=Path("r"), manifest=SimpleNamespace(settings={"beside": beside}))
        return next(iter(_replayed(ran).blocks()))

    assert isinstance(first_of(text), Table)
    assert re.match(
        r"look again: own.yaml:\d+: spec.primaries\[0\].*: 2.8111 is far below", str(first_of(slip))
    )


def test_a_given_policy_is_read_once(monkeypatch: pytest.MonkeyPatch, finished: Path, tmp_path: Path) -> None:
    """A pipe has nothing left for a second reading, and what is doubted is what was replayed."""
    run, own = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "own.yaml"
    text = (run / "policy.yaml").read_text("utf-8")
    value = r"( +target_per_instance:\n(?: +#.*\n)* +value: )[\d.]+"
    own.write_text(re.sub(value, r"\g<1>987654", text, count=1), "utf-8")
    read, whole = [], Path.read_text

    def counted(path: Path, *how: Any, **more: Any) -> str:
        read.append(path.name)
        return whole(path, *how, **more)

    monkeypatch.setattr(Path, "read_text", counted)
    done = CliRunner().invoke(app, ["replay", str(run), "--policy", str(own)], catch_exceptions=False)
    assert (done.exit_code, read.count("own.yaml")) == (0, 1)
    assert f"look again: {own}:" in " ".join(done.stdout.split("\n"))

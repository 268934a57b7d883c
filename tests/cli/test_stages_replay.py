"""The answer of hsa replay says the worst first."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A slip of thousands is replayed, but not without a word."""
    kept: dict[str, dict[str, Any]] = {"select": {"selection": []}, "replay": {"replay": backtest(0.01)}}
    monkeypatch.setattr(results, "sections", lambda folder, stage: [{"service": "s"} | kept[stage]])
    monkeypatch.setattr(results, "unserved", lambda folder, manifest: [])
    monkeypatch.setattr(results, "decisions", lambda folder, manifest: {})
    ran: Any = SimpleNamespace(folder=Path("r"), manifest=SimpleNamespace(settings={}))
    own = tmp_path / "own.yaml"
    text = (Path(__file__).resolve().parents[1] / "golden/simulated-days/policy.yaml").read_text("utf-8")
    own.write_text(text, "utf-8")
    assert isinstance(next(iter(_replayed(ran, [str(own)]).blocks())), Table)
    value = r"( +target_per_instance:\n(?: +#.*\n)* +value: )[\d.]+"
    own.write_text(re.sub(value, r"\g<1>2.8111", text, count=1), "utf-8")
    first = str(next(iter(_replayed(ran, [str(own)]).blocks())))
    assert re.match(
        rf"look again: {re.escape(str(own))}:\d+: spec.primaries\[0\].*: 2.8111 is far below", first
    )

"""The answer of hsa replay says the worst first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hs_analysis.cli.output import Table
from hs_analysis.cli.stages import _replayed
from hs_analysis.pipeline import results

SLO = {"ttft_s": 2.5, "tbt_s": 0.05}


def backtest(ours: float | None, status: str = "calibrated") -> dict[str, Any]:
    """Return a backtest of the selected policy ``b@decode``, an edited one and the recorded counts."""

    def row(policy: str, ratio: float | None) -> dict[str, Any]:
        return {"policy": policy, "slo_violation_ratio": ratio, "instance_hours": 10.0}

    theirs = None if ours is None else 0.01
    rows = [row("edited", 0.5), row("b@decode", ours), row("recorded", theirs)]
    return {"policies": rows, "calibration": {"status": status, "text": "the mix moved"}}


@pytest.mark.parametrize(
    ("found", "slo", "first"),
    [
        (backtest(0.03), SLO, "WARNING: on the test window the selected policy of s breaks the SLO in 3.0 %"),
        (backtest(None, "not_calibrated"), SLO, "WARNING: it is not known whether the selected policy of s"),
        (backtest(0.01), SLO, None),
        (backtest(0.01), SLO | {"allowed_window_share": 0.05}, None),
        (
            backtest(0.01),
            SLO | {"allowed_window_share": 0.005},
            "WARNING: on the test window the selected policy of s does not hold the SLO: it is broken",
        ),
        (backtest(None, "not_tested"), {}, None),
    ],
)
def test_the_first_line(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], slo: dict[str, Any], first: str | None
) -> None:
    """More than recorded, or not known: before the table, of the policy that selection took; else no line."""
    chosen = [{"policy": "b@decode", "chosen": True}]
    kept: dict[str, dict[str, Any]] = {"select": {"selection": chosen}, "replay": {"replay": found}}
    monkeypatch.setattr(results, "sections", lambda folder, stage: [{"service": "s"} | kept[stage]])
    monkeypatch.setattr(results, "unserved", lambda folder, manifest: [])
    ran: Any = SimpleNamespace(folder=Path("r"), manifest=SimpleNamespace(settings={"slo": slo}))
    shown = _replayed(ran)
    blocks = list(shown.blocks())
    if first:
        assert str(blocks.pop(0)).startswith(first)
    assert isinstance(blocks[0], Table)
    assert [row["policy"] for row in blocks[0].rows] == ["b@decode", "edited", "recorded"]
    assert shown.data == {"services": [{"service": "s", "replay": found}]}

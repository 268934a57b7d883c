"""The P/D ratio in the decision and below the table of a backtest."""

from __future__ import annotations

from hs_analysis.report.choice import Choice
from hs_analysis.report.decision_words import lines
from hs_analysis.report.replay_words import ratio_notes
from hs_analysis.report.wording import policy_name


def test_notes_say_what_the_rows_with_a_ratio_are() -> None:
    """What off the ratio means, which row holds it, and which ratio could not be had."""
    rows = [{"policy": "x", "pd_stray_ratio": 0.1}, {"policy": "heteroscale"}, {"policy": "ratio_by_mix"}]
    said = {"fixed": "heteroscale", "missing": {"ratio_by_hour": "a pressure test"}}
    what, which, missing = ratio_notes({"policies": rows, "calibration": {"ratio_rows": said}})
    assert what.startswith("off the P/D ratio: windows in which prefill ÷ decode")
    assert which.startswith("P/D ratio by observed mix: HeteroScale's own rule")
    assert which.endswith("held by the row HeteroScale's own rule (neutral)")
    assert missing == "P/D ratio by hour: not replayed: a pressure test"
    assert ratio_notes({"policies": [{"policy": "x"}], "calibration": {}}) == []
    assert policy_name("ratio_fixed") == "P/D ratio fixed"


def test_the_decision_says_what_the_ratio_costs() -> None:
    """One line where counts stray, one where a moving ratio does better; none where there is nothing."""
    decision = {"backtested": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]}
    told = decision | {"ratio_notes": ["off in 12%", "with a ratio by the hour"]}
    said = ["P/D ratio: off in 12%", "P/D ratio: with a ratio by the hour"]
    assert lines(Choice(decision=told))[:2] == said
    assert not any(line.startswith("P/D") for line in lines(Choice(decision=decision)))

"""The first screen of a service: counts are those of the five lines, and bounds where none was replayed."""

from __future__ import annotations

from typing import Any

import polars as pl

from hs_analysis.report import replay_tables
from hs_analysis.report.choice import choose
from hs_analysis.report.first_line import warnings
from hs_analysis.report.first_screen import first_screen, pool_charts
from hs_analysis.report.section_answers import answers
from hs_analysis.report.wording import replayed_on

POLICY = """spec:
  mode: metric
  bounds: {prefill: {min: 2, max: 4}, decode: {min: 1, max: 6}}
"""


def service(**decision: Any) -> dict[str, Any]:
    """A service whose two pools ran at 3.0 and 4.5 instances."""
    pools = [
        {"role": "prefill", "now": 3.0, "recommended": 2.5},
        {"role": "decode", "now": 4.5, "recommended": 4.97},
    ]
    said = {"recommend": "apply", "why": "unseen", "target": "keda", "confidence": "low", "pools": pools}
    chosen = {"policy": "p", "chosen": True, "primary_signal": "decode_tps", "primary_role": "decode"}
    return {
        "service": "demo/m", "decision": said | decision, "selection": [chosen], "refusals": [],
        "replay": {"policies": [{"policy": "p"}, {"policy": "recorded"}]}, "thresholds": [],
    }  # fmt: skip


def cells(one: dict[str, Any]) -> list[list[str]]:
    """The texts of the table of instances, heads first."""
    pools = first_screen(one, choose(one, POLICY))["pools"]
    return [
        [head["text"] for head in pools["columns"]],
        *([cell["text"] for cell in row["cells"]] for row in pools["rows"]),
    ]


def test_a_policy_that_was_not_replayed_shows_its_bounds() -> None:
    """No column of unknown counts: what ran, and between which counts the policy stays."""
    unseen = [{"role": role, "now": 2.0, "recommended": None} for role in ("prefill", "decode")]
    assert cells(service(pools=unseen)) == [
        ["pool", "ran", "min", "max"],
        ["prefill", "2.0", "2", "4"],
        ["decode", "2.0", "1", "6"],
    ]
    replayed = service(backtested=["2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z"])
    assert cells(replayed)[2][:3] == ["decode", "4.5", "5.0"]


def timeline(chance: float) -> pl.DataFrame:
    """Three minutes of what ran and of the policy, each over the SLO by a chance."""
    names = ("recorded", "p")
    rows = [{"policy": n, "capture": "c", "t": f"2026-03-05T00:0{m}:00Z"} for n in names for m in range(3)]
    counts = {"ready_prefill": 2.4, "ready_decode": 4.94, "load_prefill": 1.0, "load_decode": 1.0}
    return pl.DataFrame([row | counts | {"violation_probability": chance} for row in rows]).with_columns(
        pl.col("t").str.to_datetime(time_zone="UTC")
    )


def test_a_replay_that_is_not_calibrated_shades_nothing() -> None:
    """Where the SLO breaks is what such a replay does not know."""
    for status, shaded in (("calibrated", True), ("not_calibrated", False)):
        one = service()
        one["replay"]["calibration"] = {"status": status}
        charts = pool_charts(timeline(0.9), one, choose(one, POLICY), 50)
        assert ["Shaded: the SLO" in chart.reading for chart in charts] == [shaded] * 2
    one["replay"]["policies"][0]["slo_side"] = "over"  # whatever it is off by
    charts = pool_charts(timeline(0.9), one, choose(one, POLICY), 50)
    assert all("Shaded: the SLO" in chart.reading for chart in charts)


def test_a_chart_of_a_pool_says_the_counts_of_the_lines_above_it() -> None:
    """Instances that are ready are a few fewer than those asked for: one figure stands for both."""
    one = service()
    charts = pool_charts(timeline(0.0), one, choose(one, POLICY), 50)
    assert [chart.title for chart in charts] == [
        "Prefill: 3.0 → 2.5 instances on average",
        "Decode: 4.5 → 5.0 instances on average",
    ]


def test_of_one_day_the_counts_are_of_the_day_and_the_lines_of_its_last_hours() -> None:
    """The decision is of the whole day, the held part is drawn: each is called what it is."""
    one = service(by_blocks=True, backtested=["2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z"])
    one["replay"] |= {
        "train": ["2026-03-05T00:00:00Z", "2026-03-05T14:00:00Z"],
        "test": ["2026-03-05T14:00:00Z", "2026-03-06T00:00:00Z"],
    }
    choice = choose(one, POLICY)
    assert first_screen(one, choice)["pools"]["caption"] == "Instances, mean over the day: now → recommended"
    prefill, _ = pool_charts(timeline(0.1), one, choice, 50)
    assert prefill.title == "Prefill: 3.0 → 2.5 instances on average over the day"
    held = "the last 10 h, by numbers of the first 14 h"
    assert prefill.reading == f"Instances that are ready, on {held}."
    assert replay_tables.further(one, choice)["caption"] == f"Further figures on {held}"
    one["replay"]["train"] = None
    assert replayed_on(one) == "the last part of the day, by numbers of the first"


def test_of_one_day_the_folded_replay_says_the_risk_of_the_decision() -> None:
    """Not the share of the held part, which has other windows and numbers."""
    one = service(by_blocks=True, hours_saved_ci=[-0.05, 0.3], slo_risk={"undisturbed": 0.0016})
    one["replay"]["policies"][0] |= {"slo_violation_ratio": 0.5, "vs_recorded": 0.1}
    assert "by blocks of one day, 0.16 % of windows" in answers(one, choose(one, POLICY), [])["replay"]
    one["decision"]["slo_risk"] = {"undisturbed": None, "undisturbed_range": [0.0, 0.196]}
    assert "by blocks of one day, 0 to 19.6 % of windows" in answers(one, choose(one, POLICY), [])["replay"]


def test_of_one_day_a_warning_names_the_day() -> None:
    """It is that of the decision; the held part is another stretch."""
    text = {"text": "breaks the SLO in 9.0 % of windows"}
    one = service(by_blocks=True, alarm=text)
    (line,) = warnings(one, choose(one, POLICY), {"ttft_s": 1.0})
    assert line.startswith("WARNING: on the one day of the history the selected policy of demo/m breaks")


def test_of_hours_every_line_says_the_hours() -> None:
    """A history of half a day is no day: warning, table and title call it by its hours."""
    half = ["2026-03-05T08:00:00Z", "2026-03-05T20:00:00Z"]
    one = service(by_blocks=True, alarm={"text": "breaks the SLO"}, backtested=half)
    one["replay"] |= {"train": half, "test": half}
    choice = choose(one, POLICY)
    (line,) = warnings(one, choice, {"ttft_s": 1.0})
    assert line == "WARNING: on the 12 hours of the history the selected policy of demo/m breaks the SLO."
    assert first_screen(one, choice)["pools"]["caption"] == (
        "Instances, mean over the 12 hours: now → recommended"
    )
    prefill, _ = pool_charts(timeline(0.1), one, choice, 50)
    assert prefill.title == "Prefill: 3.0 → 2.5 instances on average over the 12 hours"

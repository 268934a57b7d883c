"""What stands in a first line is a claim: an SLO that is broken, or loads that nothing ever carried."""

from __future__ import annotations

from typing import Any

import pytest

from hs_analysis.report.choice import choose
from hs_analysis.report.first_line import warnings

SLO = {"ttft_s": 2.0, "tbt_s": None, "allowed_window_share": 0.05}
CALIBRATED = {"status": "calibrated"}


def row(policy: str, share: float | None, side: str | None, far: float | None = None) -> dict[str, Any]:
    """Return what the lines read of a replayed policy."""
    return {"policy": policy, "slo_violation_ratio": share, "slo_side": side, "far_above_ratio": far}


def spanned(policy: str, low: float, high: float, side: str) -> dict[str, Any]:
    """Return a row of which only a range is known."""
    return row(policy, None, side) | {"slo_violation_range": [low, high]}


def said(*rows: dict[str, Any], slo: dict[str, Any] | None = None) -> list[str]:
    """Return the first lines on a service whose selected policy is p."""
    selection = [{"policy": "p", "chosen": True}]
    one = {"service": "s", "selection": selection, "replay": {"policies": list(rows), "calibration": {}}}
    return warnings(one, choose(one, ""), SLO if slo is None else slo)


RAN = row("recorded", 0.0001, "under")


def test_an_slo_that_is_broken_is_said_with_both_shares() -> None:
    """Of the selected policy and of one that a user gave, each by its name."""
    words = "breaks the SLO in 16 % of windows, what ran in 0.010 %; 5 % are allowed."
    assert said(row("p", 0.16, "over"), RAN) == [
        f"WARNING: on the test window the selected policy of s {words}"
    ]
    assert said(row("p", 0.0, "under"), row("mine.yaml", 0.16, "over"), RAN) == [
        f"WARNING: on the test window mine.yaml of s {words}"
    ]


def test_loads_that_nothing_carried_are_said_whatever_is_calibrated() -> None:
    """The share of windows stands for what nothing shows."""
    (line,) = said(row("p", None, "beyond", 0.43), row("recorded", None, "unclear"))
    assert "loads its instances far above all that was recorded in 43 % of windows" in line


@pytest.mark.parametrize(
    "ours",
    [
        row("p", 0.0002, "under"),
        row("p", 0.03, "unclear"),
        row("p", None, "unclear", 0.02),
        row("p", None, None),
    ],
)
def test_what_can_not_be_told_is_no_first_line(ours: dict[str, Any]) -> None:
    """A hair more than what ran, or a share that is not known: they stay in the body."""
    assert said(ours, RAN) == []


def test_a_fleet_that_broke_the_slo_as_often_is_no_reason_to_warn() -> None:
    """Within a point of what ran."""
    assert said(row("p", 0.16, "over"), row("recorded", 0.155, "over")) == []
    assert said(row("p", 0.16, "over"), row("recorded", 0.14, "over"))


def test_a_range_that_is_over_is_said_by_its_lower_end() -> None:
    """Above what is allowed, and above the lower end of what ran: both ends are off by one and the same."""
    (line,) = said(spanned("p", 0.36, 0.55, "over"), RAN)
    assert "breaks the SLO in at least 36 % of windows, what ran in 0.010 %; 5 % are allowed" in line
    (line,) = said(spanned("p", 0.36, 0.55, "over"), spanned("recorded", 0.02, 0.08, "unclear"))
    assert "breaks the SLO in at least 36 % of windows; 5 % are allowed" in line
    assert said(spanned("p", 0.36, 0.55, "over"), spanned("recorded", 0.3, 0.4, "over"))
    near = spanned("recorded", 0.355, 0.4, "over")
    assert said(spanned("p", 0.36, 0.55, "over"), near) == []
    open_ = spanned("recorded", 0.3, 0.4, "over") | {"not_known_ratio": 0.06}
    assert said(spanned("p", 0.36, 0.55, "over"), open_) == []
    assert said(spanned("p", 0.0, 0.55, "unclear"), RAN) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "warned"),
    [(0.08, 0.02, True), (0.08, 0.075, False), (0.04, 0.0, False), (0.08, None, False)],
)
def test_a_replay_that_is_off_warns_of_what_breaks_the_slo_more_often(
    ours: float, theirs: float | None, warned: bool
) -> None:
    """It is off for both; its shares are no numbers to print."""
    rows = [row("p", None, "unclear"), row("mine.yaml", None, "unclear"), row("recorded", None, "unclear")]
    shares = {"p": 0.0, "mine.yaml": ours, "recorded": theirs}
    one: dict[str, Any] = {"service": "s", "selection": [{"policy": "p", "chosen": True}]}
    one |= {"replay": {"policies": rows, "calibration": {"uncalibrated_shares": shares}}}
    words = (
        "WARNING: on the test window mine.yaml of s breaks the SLO more often than what ran, and in more "
        "than the 5 % of windows that are allowed, by a replay that is not calibrated."
    )
    assert warnings(one, choose(one, ""), SLO) == ([words] if warned else [])


@pytest.mark.parametrize(("of_day", "warned"), [(0.061, True), (0.02, False)])
def test_of_one_day_a_file_is_judged_by_the_day_and_not_by_its_last_hours(
    of_day: float, warned: bool
) -> None:
    """In its last hours what ran broke the SLO as often, or the policy more often, than in the day."""
    day = {
        "given": {"mine.yaml": row("mine.yaml", of_day, "unclear")},
        "recorded": row("recorded", 0.028, ""),
    }
    rows = [row("p", 0.0, "under"), row("mine.yaml", 0.08, "unclear"), row("recorded", 0.093, "over")]
    one: dict[str, Any] = {"service": "s", "decision": {"by_blocks": True, "alarm": None}}
    one |= {"selection": [{"policy": "p", "chosen": True}]}
    one |= {"replay": {"policies": rows, "calibration": {"one_day": day}}}
    words = (
        "WARNING: on the one day of the history mine.yaml of s breaks the SLO in 6.1 % of windows, "
        "what ran in 2.8 %; 5 % are allowed."
    )
    assert warnings(one, choose(one, ""), SLO) == ([words] if warned else [])


def test_nothing_is_said_without_an_slo_or_a_backtest() -> None:
    """No limit can be broken; nothing was replayed."""
    assert said(row("p", 0.9, "over"), RAN, slo={"ttft_s": None, "tbt_s": None}) == []
    assert said() == []
    assert warnings({"service": "s", "replay": None}, choose({"service": "s"}, ""), SLO) == []


def test_of_the_selected_policy_the_decision_is_believed() -> None:
    """What was decided on is not judged again: its warning is the decision's, of others it is their row's."""
    rows = [row("p", 0.16, "over"), row("mine.yaml", 0.2, "over"), RAN]
    one: dict[str, Any] = {"service": "s", "selection": [{"policy": "p", "chosen": True}]}
    one |= {"replay": {"policies": rows, "calibration": {}}, "decision": {"recommend": "keep", "alarm": None}}
    (line,) = warnings(one, choose(one, ""), SLO)
    assert line.startswith("WARNING: on the test window mine.yaml of s breaks the SLO in 20 %")
    one["decision"]["alarm"] = {"code": "x", "text": "is known to be late"}
    assert warnings(one, choose(one, ""), SLO)[0] == (
        "WARNING: on the test window the selected policy of s is known to be late."
    )

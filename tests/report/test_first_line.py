"""More violations than recorded stand first, and so does that nobody can tell; silence needs a ground too."""

from __future__ import annotations

from typing import Any

import pytest

from hs_analysis.report.choice import choose
from hs_analysis.report.first_line import warnings

SLO = {"ttft_s": 2.0, "tbt_s": None}
MISSED = {
    "status": "not_calibrated",
    "text": "ttft: 1.00% of windows predicted over the limit, 1.00% to 1.00% seen; tbt: 10.80% of windows "
    "predicted over the limit, 39.00% to 41.00% seen; they differ by more than 3 times and 1 point: only "
    "hours and actions are given",
    "latencies": {
        "ttft": {"observed": [0.01, 0.01], "predicted": 0.01, "calibrated": True},
        "tbt": {"observed": [0.39, 0.41], "predicted": 0.108, "calibrated": False},
    },
}
MOVED = {
    "status": "not_calibrated",
    "text": "ttft: 1.00% of windows predicted over the limit, 1.00% to 1.00% seen; the mix went beyond what "
    "capacities were measured on (prompt length 900 to 1,500 tokens): only hours and actions are given; the "
    "capacity of decode is a floor: violation shares are upper bounds",
    "latencies": {
        "ttft": {"observed": [0.01, 0.01], "predicted": 0.01, "calibrated": True},
        "tbt": {"observed": None, "predicted": None, "calibrated": None},
    },
}
UNKNOWN = (
    "WARNING: it is not known whether the selected policy of s breaks the SLO more often than the recorded "
    "fleet on the test window"
)


def said(
    ours: float | None, theirs: float | None, calibration: dict[str, Any], slo: dict[str, Any] | None = None
) -> list[str]:
    """Return the first lines on a service whose selected policy is p."""
    rows = [
        {"policy": "p", "slo_violation_ratio": ours},
        {"policy": "recorded", "slo_violation_ratio": theirs},
    ]
    one = {"service": "s", "replay": {"policies": rows, "calibration": calibration}}
    return warnings(one, choose(one, ""), SLO if slo is None else slo)


def test_more_than_recorded_is_said_with_both_shares() -> None:
    """However little more it is."""
    want = (
        "WARNING: on the test window the selected policy of s breaks the SLO in 1.0 % of windows, the "
        "recorded fleet in 0.051 %."
    )
    assert said(0.00997, 0.00051, {"status": "calibrated"}) == [want]
    assert said(0.00051, 0.00051, {"status": "calibrated"}) == []


@pytest.mark.parametrize(
    ("calibration", "why"),
    [
        (
            MISSED,
            "TBT is foretold over its limit in 10.8 % of windows at the recorded counts, seen in 39 % "
            "to 41 %",
        ),
        (
            MOVED,
            "the mix went beyond what capacities were measured on (prompt length 900 to 1,500 tokens)",
        ),
        (
            {"status": "not_tested", "text": "latency was not recorded", "latencies": {}},
            "latency was not recorded",
        ),
        (
            {
                "status": "not_calibrated",
                "text": "not calibrated: a release came in the test window (decode: 2)",
            },
            "a release came in the test window (decode: 2)",
        ),
    ],
)
def test_a_share_that_is_not_known_is_said_with_the_reason(calibration: dict[str, Any], why: str) -> None:
    """A latency that is foretold badly, else what moved away from what was measured."""
    assert said(None, None, calibration) == [f"{UNKNOWN}: {why}."]
    assert said(None, 0.01, calibration) == [f"{UNKNOWN}: {why}."]


@pytest.mark.parametrize(("ours", "named"), [(0.43, True), (0.3301, True), (0.3299, False), (None, False)])
def test_uncalibrated_shares_that_speak_against_the_policy_are_named(ours: float | None, named: bool) -> None:
    """From a point above those of the recorded counts, as what they are; below they prove nothing."""
    (line,) = said(None, None, MISSED | {"uncalibrated_shares": {"p": ours, "recorded": 0.32}})
    assert ("it may well do, the uncalibrated replay has" in line) is named
    if ours == 0.43:
        assert line.endswith("; it may well do, the uncalibrated replay has 43 % of windows against 32 %.")


def test_nothing_is_said_without_an_slo_or_a_backtest() -> None:
    """No limit can be broken; nothing was replayed, or nothing was selected."""
    assert said(None, None, MISSED, {"ttft_s": None, "tbt_s": None}) == []
    assert said(None, None, MISSED, {}) == []
    for replay in (
        None,
        {"policies": [], "calibration": {"status": "not_tested", "text": "nothing to replay"}},
        {"policies": [{"policy": "recorded", "slo_violation_ratio": None}], "calibration": MISSED},
    ):
        one = {"service": "s", "replay": replay}
        assert warnings(one, choose(one, ""), SLO) == []

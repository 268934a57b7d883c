"""Hours against windows over the limit: which policies are drawn, where, and how they are named."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from hs_analysis.report.chart_templates import FRONT_KINDS
from hs_analysis.report.policy_charts import front
from hs_analysis.schema.names import FAULTS

SELECTED, CANDIDATE, OTHER, STILL, BOUND = FRONT_KINDS
OURS = "decode_tps@decode, 60 s mean, out above 1.1, in below 0.9 for 300 s"


def row(policy: str, hours: float, share: float | None) -> dict[str, Any]:
    """Return a row of a replay."""
    return {"policy": policy, "instance_hours": hours, "gpu_hours": None, "slo_violation_ratio": share}


def candidate(policy: str, hours: float, **more: Any) -> dict[str, Any]:
    """Return a candidate of the front: 200 hours were recorded on its window."""
    found = {"score": 1 - hours / 200, "fault_violation_ratio": 0.03, "front": True, "chosen": False}
    return row(policy, hours, 0.002) | found | more


def service(**calibration: Any) -> dict[str, Any]:
    """Return a service with every kind of row."""
    replayed = [
        (OURS, 80.0, 0.001), ("in_sample", 79.0, 0.001), ("heteroscale", 80.5, 0.0011),
        ("recorded", 100.0, 0.2),
        ("current", 90.0, 0.004), ("static_peak", 150.0, 0.0), ("timetable", 95.0, 0.002),
        ("hindsight", 70.0, 0.01), ("oracle", 75.0, 0.0), ("hpa", 81.0, 0.0009), ("kthena", 110.0, None),
    ]  # fmt: skip
    under = {"under_faults": {"policy": {"faults": 0.02}, "hpa": {"faults": 0.03}}}
    selection = [
        candidate(OURS, 150.0, chosen=True), candidate("b@decode, x", 150.0), candidate("c@decode, y", 160.0),
        candidate("d@decode, z", 170.0, front=False), candidate("hpa", 155.0),
    ]  # fmt: skip
    replay = {"policies": [row(*one) for one in replayed], "calibration": under | calibration}
    return {"service": "s", "selection": selection, "replay": replay}


def drawn(of: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the chart."""
    chart = front(of)
    assert chart is not None
    return list(csv.DictReader(io.StringIO(chart.csv)))


def test_all_that_was_replayed_is_drawn_by_its_kind() -> None:
    """The field, today's objects, what ran, static peak, timetable and the bound; none without a share."""
    kinds = {one["policy"]: one["kind"] for one in drawn(service()) if one["kind"] != CANDIDATE}
    assert set(kinds.values()) == {SELECTED, OTHER, STILL, BOUND}
    assert list(kinds.values()).count(SELECTED) == 1
    assert kinds["default HPA"] == kinds["HeteroScale's own rule (neutral)"] == OTHER
    assert kinds["current"] == kinds["static peak"] == kinds["timetable"] == kinds["recorded"] == STILL
    assert kinds["hindsight (best schedule found)"] == BOUND
    assert not {"kthena", "oracle", "exported numbers (in sample)"} & set(kinds)


def test_hours_are_shares_of_those_recorded_in_the_same_window() -> None:
    """100 on the test window, 200 on the training window; candidates that do the same are drawn once."""
    rows = drawn(service())
    at = {one["policy"]: float(one["hours"]) for one in rows if one["kind"] != CANDIDATE}
    assert (at["recorded"], at["static peak"], at["default HPA"]) == (1.0, 1.5, 0.81)
    assert sorted(float(one["hours"]) for one in rows if one["kind"] == CANDIDATE) == [0.75, 0.8]


def test_faults_are_drawn_where_they_were_replayed() -> None:
    """Selected policy and default HPA always; the others where every fault was asked for."""
    faults = {one["policy"]: one["faults"] for one in drawn(service()) if one["kind"] != CANDIDATE}
    assert {name: share for name, share in faults.items() if share} == {
        next(one["policy"] for one in drawn(service()) if one["kind"] == SELECTED): "0.02",
        "default HPA": "0.03",
    }
    of = service()
    every = [{"policy": "current", "fault": fault, "slo_violation_ratio": 0.1} for fault in ("none", *FAULTS)]
    of["replay"]["faults"] = [
        *every,
        {"policy": "timetable", "fault": "no_stock", "slo_violation_ratio": 0.5},
    ]
    faults = {one["policy"]: one["faults"] for one in drawn(of)}
    assert (faults["current"], faults["timetable"]) == ("0.1", "")


def test_every_mark_of_the_test_window_is_named_once() -> None:
    """Alone, or with those it stands beside; labels on one line do not cross."""
    labels = [one["label"] for one in drawn(service()) if one["label"]]
    named = ", ".join(labels)
    for name in ("selected policy", "HeteroScale's own rule", "default HPA", "current", "static peak",
                 "timetable", "hindsight (best schedule found)", "recorded"):  # fmt: skip
        assert named.count(name) == 1, name
    together = next(label for label in labels if label.startswith("selected policy"))
    assert together == "selected policy, default HPA, HeteroScale's own rule (neutral)"


@pytest.mark.parametrize("headline", ["timetable", "hpa"])
def test_the_selected_policy_is_the_row_that_the_decision_speaks_of(headline: str) -> None:
    """Not that of the candidate where another object runs."""
    rows = drawn(service(deployed={"policy": headline}))
    (ours,) = [one for one in rows if one["kind"] == SELECTED]
    assert ours["policy"] in ("timetable", "default HPA")
    assert rows[-1] == ours


def test_without_a_replay_nothing_is_drawn() -> None:
    """No rows, or none with a share over the limit: the replay was not calibrated."""
    assert front({"replay": {}}) is None
    assert front({"replay": {"policies": [row("recorded", 1.0, None), row(OURS, 1.0, None)]}}) is None


def test_of_one_day_the_title_says_of_which_hours_it_is() -> None:
    """The headline is of the whole day, the dots of its last hours."""
    of = service() | {"decision": {"by_blocks": True}}
    of["replay"] |= {
        "train": ["2026-03-05T00:00", "2026-03-05T14:00"],
        "test": ["2026-03-05T14:00", "2026-03-06"],
    }
    chart = front(of)
    assert chart is not None
    assert chart.title.startswith(
        "On the last 10 h, by numbers of the first 14 h, the selected policy needs 80"
    )

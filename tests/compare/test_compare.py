"""Two summaries side by side: what is the same, within the intervals, beyond them."""

import copy
import json
from pathlib import Path

import pytest

from hs_analysis.compare import compare_runs
from hs_analysis.errors import UsageError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "simulated-days" / "summary.json"
SUMMARY = json.loads(GOLDEN.read_text("utf-8"))


def changed(change):
    """Return the differences of the kept answer and a copy with one change, that are no `same`."""
    other = copy.deepcopy(SUMMARY)
    change(other["services"][0])
    return {(d.what, d.of): d for d in compare_runs(SUMMARY, other) if d.change != "same"}


def test_a_run_is_the_same_as_itself():
    """Nothing changes, and every number was looked at."""
    found = compare_runs(SUMMARY, copy.deepcopy(SUMMARY))
    assert {d.change for d in found} == {"same"}
    assert {d.what for d in found} == {
        "verdict", "status", "recommended", "selected", "capacity", "target", "ratio", "score",
    }  # fmt: skip


def test_a_verdict_that_changed_is_told():
    """Words differ or they don't."""
    found = changed(lambda service: service["signals"][0].update(verdict="unknown"))
    row = SUMMARY["services"][0]["signals"][0]
    (key,) = found
    assert key == ("verdict", f"{row['signal']}@{row['role']}")
    assert (found[key].a, found[key].b, found[key].change) == (row["verdict"], "unknown", "changed")


@pytest.mark.parametrize(("factor", "expected"), [(1.001, "within"), (2.0, "beyond")])
def test_a_number_is_judged_by_the_intervals(factor, expected):
    """Overlapping intervals are within, apart ones beyond."""

    def scale(service):
        found = service["pd_ratio"]
        found["value"] *= factor
        found["ci"] = [edge * factor for edge in found["ci"]]

    assert changed(scale)["ratio", "prefill per decode"].change == expected


def test_touching_intervals_overlap_and_a_number_without_one_has_no_width():
    """The edges count, and a lone value is compared with the other's interval."""
    low, high = SUMMARY["services"][0]["pd_ratio"]["ci"]
    key = ("ratio", "prefill per decode")
    touching = changed(lambda s: s["pd_ratio"].update(value=high + 1.0, ci=[high, high + 2.0]))
    assert touching[key].change == "within"
    assert changed(lambda s: s["pd_ratio"].update(value=low, ci=None))[key].change == "within"
    assert changed(lambda s: s["pd_ratio"].update(value=high * 1.01, ci=None))[key].change == "beyond"


def test_what_only_one_run_has_is_told():
    """A pool that went, a policy that came, a number without any interval."""
    service = SUMMARY["services"][0]
    gone = changed(lambda s: s["thresholds"].pop(0))
    signal = f"{service['thresholds'][0]['signal']}@{service['thresholds'][0]['role']}"
    assert gone["target", signal].change == "gone"
    assert gone["status", signal].change == "gone"
    came = changed(lambda s: s["replay"]["policies"].append({"policy": "edited", "instance_hours": 3.0}))
    assert came["score", "edited instance_hours"].change == "appeared"
    odd = changed(lambda s: s["replay"]["policies"][0].update(actions_per_day=1e6))
    assert [d.change for d in odd.values()] == ["unknown"]


def test_runs_of_different_services_are_refused():
    """They have no answer in common."""
    other = copy.deepcopy(SUMMARY)
    other["services"][0]["service"] = "a/b"
    with pytest.raises(UsageError, match="different services: demo/m-large; a/b"):
        compare_runs(SUMMARY, other)


def test_intervals_of_hours_do_not_tell_runs_apart():
    """Scores apart by more than what moves within a day: unknown; by more than days differ: beyond."""
    row = SUMMARY["services"][0]["replay"]["policies"][0]
    for basis, change in (("hours", "unknown"), ("days", "beyond")):
        runs = []
        for saved in (0.1, 0.3):
            run = copy.deepcopy(SUMMARY)
            run["services"][0]["replay"]["policies"][0].update(
                vs_recorded=saved, vs_recorded_ci=[saved - 0.01, saved + 0.01], interval_basis=basis
            )
            runs.append(run)
        found = {d.of: d for d in compare_runs(*runs)}
        assert found[f"{row['policy']} vs_recorded"].change == change

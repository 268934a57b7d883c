"""--fail-on: conditions are understood or refused, and hold exactly when they should."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from hs_analysis.cli import gates
from hs_analysis.errors import GateFailed, ManyErrors, RunFolderError, UsageError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "simulated-days"


def summary(**service: Any) -> dict[str, Any]:
    """Return a summary of one service, everything fine unless said."""
    whole = {
        "service": "a/b",
        "signals": [
            {"signal": "decode_tps", "role": "decode", "verdict": "proportional", "coverage": 0.95},
            {"signal": "kv_usage", "role": "decode", "verdict": "unusable", "coverage": 0.2},
        ],
        "recommended": {"signal": "decode_tps", "role": "decode"},
        "capacity": [{"role": "decode", "signal": "decode_tps", "status": "ok", "reason": None}],
        "thresholds": [{"role": "decode", "signal": "decode_tps", "status": "floor", "reason": None}],
        "pd_ratio": {"status": "ok", "reason": None},
        "selection": [{"policy": "p", "chosen": True}, {"policy": "q", "chosen": False}],
        "replay": {"policies": [{"policy": "q", "slo_violation_ratio": 0.5, "vs_recorded": 0.0},
                                {"policy": "p", "slo_violation_ratio": 0.01, "vs_recorded": -0.1}]},
    }  # fmt: skip
    return {"schema_version": 2, "coverage": {"rows_rejected": 3}, "services": [whole | service]}


def failed(condition: str, found: dict[str, Any], folder: Path = Path()) -> str:
    """Return the line of a condition that holds, empty when it does not."""
    try:
        gates.check_gates(gates.summary_gates([condition], folder), found, folder)
    except GateFailed as error:
        return error.line()
    return ""


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("coverage<0.9", ""),
        ("coverage < 96%", "a/b: decode_tps@decode: coverage is 0.95"),
        ("coverage<0.95", ""),
        ("coverage<=0.95", "coverage is 0.95"),
        ("slo_violation_ratio>0.01", ""),
        ("slo_violation_ratio>=1%", "a/b: slo_violation_ratio is 0.01"),
        ("vs_recorded<0", "a/b: vs_recorded is -0.1"),
        ("rows_rejected>0", "the input: rows_rejected is 3"),
        ("rows_rejected>3", ""),
        ("refused", ""),
        ("ratio-drifting", ""),
    ],
)
def test_conditions_hold_when_they_should(condition: str, holds: str) -> None:
    """Only usable signals and the chosen policy count; a limit is inside or outside as its sign says."""
    line = failed(condition, summary())
    assert holds in line
    assert bool(line) == bool(holds)
    assert not line or line.startswith(f"--fail-on {condition}: ")


def test_what_was_refused_is_named() -> None:
    """Every refused number with its code; that a single pool has no ratio is no lack of data."""
    refused = {"status": "refused", "reason": {"code": "thin"}}
    assert "a/b: pd_ratio is refused (thin)" in failed("refused", summary(pd_ratio=refused))
    capacity = [{"role": "decode", "signal": "decode_tps", **refused}]
    assert "decode_tps@decode is refused (thin)" in failed("refused", summary(capacity=capacity))
    single = {"status": "refused", "reason": {"code": "single_pool"}}
    assert failed("refused", summary(pd_ratio=single)) == ""
    assert "drifting" in failed("ratio-drifting", summary(pd_ratio={"status": "drifting"}))


def test_a_number_that_is_not_known_can_not_pass() -> None:
    """No backtest, or no SLO, is no proof of holding it."""
    none = {"policies": [{"policy": "p", "slo_violation_ratio": None}]}
    for replay in (none, {"policies": []}):
        assert "is not known" in failed("slo_violation_ratio>0.5", summary(replay=replay))
    assert "is not known" in failed("coverage<0.9", summary(signals=[
        {"signal": "s", "role": "decode", "verdict": "guard", "coverage": None}]))  # fmt: skip


def test_all_signals_count_where_none_may_be_used() -> None:
    """A poor input must not pass because nothing was judged."""
    signals = [{"signal": "s", "role": "decode", "verdict": "unknown", "coverage": 0.1}]
    assert "coverage is 0.1" in failed("coverage<0.9", summary(signals=signals))


def test_verdicts_are_compared_with_an_earlier_run(tmp_path: Path) -> None:
    """Another verdict, another recommendation, a signal that is gone: each is named with before and after."""
    before = tmp_path / "before"
    before.mkdir()
    (before / "summary.json").write_text(json.dumps(summary()))
    condition = f"verdict-changed:{before}"
    assert failed(condition, summary()) == ""
    signals = [{"signal": "decode_tps", "role": "decode", "verdict": "guard", "coverage": 1.0}]
    line = failed(condition, summary(signals=signals, recommended=None))
    assert "a/b: decode_tps@decode was proportional, is guard" in line
    assert "a/b: kv_usage@decode was unusable, is unknown" in line
    assert "recommended signal was decode_tps@decode, is unknown" in line


@pytest.mark.parametrize("version", [1, 2])
def test_a_summary_of_an_earlier_version_is_read(tmp_path: Path, version: int) -> None:
    """Verdicts stand where they did."""
    (tmp_path / "summary.json").write_text(json.dumps(summary() | {"schema_version": version}))
    assert failed(f"verdict-changed:{tmp_path}", summary()) == ""
    assert "is unknown" in failed(f"verdict-changed:{tmp_path}", summary(recommended=None))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"schema_version": 3, "services": []}, "schema_version is 3, this version of hsa reads 1 and 2"),
        ({"services": []}, "no summary of a run"),
        ([], "no summary of a run"),
    ],
)
def test_what_is_no_summary_of_ours_is_refused_in_one_line(tmp_path: Path, found: Any, says: str) -> None:
    """With the file and what to do."""
    (tmp_path / "summary.json").write_text(json.dumps(found))
    with pytest.raises(RunFolderError) as caught:
        gates.summary_gates([f"verdict-changed:{tmp_path}"], None)
    line = caught.value.line()
    assert says in line
    assert "summary.json" in line
    assert "\n" not in line


def test_without_a_name_the_run_folder_itself_is_compared(tmp_path: Path) -> None:
    """What it held before the run counts, and a first run changes nothing."""
    assert failed("verdict-changed", summary(), tmp_path) == ""
    (tmp_path / "summary.json").write_text(json.dumps(summary(recommended=None)))
    opened = gates.summary_gates(["verdict-changed"], tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(summary()))  # as the run does, between the two
    with pytest.raises(GateFailed, match="recommended signal was unknown, is decode_tps@decode"):
        gates.check_gates(opened, summary(), tmp_path)


def run_folder(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    """Return a folder with a kept answer and its policy, one text of the policy replaced."""
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text((GOLDEN / "summary.json").read_text("utf-8"), "utf-8")
    (folder / "policy.yaml").write_text((GOLDEN / "policy.yaml").read_text("utf-8").replace(*change), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("scale_in_s: 600.0", "scale_in_s: 900.0"), ""),
        (("value: 2811.1", "value: 3000.0"), ""),
        (("value: 2811.1", "value: 3200.0"), "target: 2,811 → 3,200 tokens/s per instance (+13.8 %)"),
        (("max: 22", "max: 30"), "demo/m-large: bounds, prefill, max: 22 → 30 instances (+36.4 %)"),
        (("mode: metric", "mode: hold"), "demo/m-large: mode: metric → hold"),
    ],
)
def test_the_decision_is_compared_with_an_earlier_run(
    tmp_path: Path, change: tuple[str, str], line: str
) -> None:
    """The gate closes on what asks for action in hsa compare, and on nothing else."""
    before, now = run_folder(tmp_path / "before"), run_folder(tmp_path / "now", change)
    found = json.loads((now / "summary.json").read_text("utf-8"))
    for named in (before, before / "summary.json"):
        opened = gates.summary_gates([f"decision-changed:{named}"], None)
        if not line:
            gates.check_gates(opened, found, now)
            continue
        with pytest.raises(GateFailed) as caught:
            gates.check_gates(opened, found, now)
        assert line in caught.value.line()


def test_the_decision_of_the_folder_itself_is_read_before_the_run_writes_over_it(tmp_path: Path) -> None:
    """Without a name the policy that stood there counts; a first run changes nothing."""
    found = json.loads((GOLDEN / "summary.json").read_text("utf-8"))
    gates.check_gates(gates.summary_gates(["decision-changed"], tmp_path), found, tmp_path)
    run_folder(tmp_path)
    opened = gates.summary_gates(["decision-changed"], tmp_path)
    run_folder(tmp_path, ("mode: metric", "mode: hold"))  # as the run does, between the two
    with pytest.raises(GateFailed, match="mode: metric → hold"):
        gates.check_gates(opened, found, tmp_path)


def test_one_line_a_condition() -> None:
    """Several conditions are several lines, all told; many places are one line with how many more."""
    signals = [
        {"signal": f"s{n}", "role": "decode", "verdict": "guard", "coverage": 0.1 * n} for n in range(5)
    ]
    conditions = ["coverage<0.9", "ratio-drifting", "rows_rejected>0", "vs_recorded<0", "refused"]
    found = summary(signals=signals, pd_ratio={"status": "drifting"})
    opened = gates.summary_gates(conditions, Path())
    with pytest.raises(ManyErrors) as caught:
        gates.check_gates(opened, found, Path())
    assert len(caught.value.errors) == 4
    assert caught.value.all_told
    assert caught.value.errors[0].line().endswith("… and 2 more")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("refsed", "did you mean refused?"),
        ("coverage", "did you mean coverage<0.9?"),
        ("covrage<0.9", "no such number 'covrage'; did you mean coverage?"),
        ("coverage<high", "'high' is no number"),
        ("coverage=0.9", "is no condition"),
        ("", "is no condition"),
        ("verdict-changed:none", "no summary.json in none"),
        ("decision-changed:none", "no summary.json in none"),
        ("decision-chaged:none", "did you mean decision-changed:RUN?"),
    ],
)
def test_what_is_no_condition(condition: str, message: str) -> None:
    """A misspelt gate never stays open."""
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        gates.summary_gates([condition], Path())


def test_an_earlier_run_is_needed() -> None:
    """Without a run folder or a name there is nothing to compare with."""
    for name in ("verdict-changed", "decision-changed"):
        with pytest.raises(UsageError, match=f"{name}:RUN, or go on in one with --run-dir"):
            gates.summary_gates([name], None)


def test_doctor_knows_the_input_only() -> None:
    """What needs the whole answer is refused there, with where to use it."""
    assert len(gates.doctor_gates(["coverage<0.9", "check-failed", "rows_rejected>0"])) == 3
    for condition in ("refused", "slo_violation_ratio>0.01", "verdict-changed:x", "decision-changed:x"):
        with pytest.raises(UsageError, match="needs the whole answer; use hsa run"):
            gates.doctor_gates([condition])


def test_conditions_are_written_as_junit(tmp_path: Path) -> None:
    """A test case a condition; what holds is its failure, every place of it, and the command still fails."""
    conditions = gates.summary_gates(["refused", "rows_rejected>0"], tmp_path)
    with pytest.raises(GateFailed):
        gates.check_gates(conditions, summary(), tmp_path, tmp_path / "gates.xml")
    suite = ET.parse(tmp_path / "gates.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    fine, held = suite.findall("testcase")
    assert fine.find("failure") is None
    assert held.get("name") == "rows_rejected>0"
    assert held.findtext("failure") == "the input: rows_rejected is 3"

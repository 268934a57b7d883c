"""Simulated histories with a known truth, from dump files to summary.json."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.runs import SIMULATED, Finished, Run
from ruamel.yaml import YAML

CASES = ("dev_days", "dev_diurnal", "dev_overload")


@pytest.fixture(scope="module")
def cases(root: Path, real_data: Path, finished: Finished) -> dict[str, tuple[Run, dict[str, Any]]]:
    """Every history run once, with its truth. The dumps of dev_days are shipped: that run is shared."""
    shipped = root / "data_samples" / "simulated-days"
    found = {}
    for case in CASES:
        source = real_data / "simulated" / case
        truth = json.loads((source / "truth.json").read_text("utf-8"))
        if case == "dev_days":
            dumps = sorted(path.name for path in source.glob("*.json.gz"))
            assert filecmp.cmpfiles(source, shipped, dumps, shallow=False) == (dumps, [], [])
            source = shipped
        found[case] = (finished(source, *SIMULATED), truth)
    return found


@pytest.mark.parametrize("case", CASES)
def test_verdicts_match_the_truth(cases: dict[str, tuple[Run, dict[str, Any]]], case: str) -> None:
    """Every verdict that does not lie at a rule's edge is the one found under intervention."""
    done, truth = cases[case]
    found = done.verdicts()
    wanted = {k: v["verdict"] for k, v in truth["signals"].items() if not v["borderline"]}
    assert {k: found.get(k) for k in wanted} == wanted


def test_capacities_lie_within_five_percent(cases: dict[str, tuple[Run, dict[str, Any]]]) -> None:
    """Where load passed the limit on several days both capacities are known and right."""
    done, truth = cases["dev_days"]
    for role, signal in (("prefill", "prefill_tps_effective"), ("decode", "decode_tps")):
        capacity = done.capacity(role)
        assert capacity["status"] == "ok"
        assert capacity["per_instance"] == pytest.approx(
            truth["capacity_per_instance_at_slo"][signal], rel=0.05
        )


def test_the_ratio_holds_the_truth(cases: dict[str, tuple[Run, dict[str, Any]]]) -> None:
    """The interval of the ratio covers the balance of the true capacities and is at most 20 % wide."""
    done, truth = cases["dev_days"]
    ratio = done.service["pd_ratio"]
    low, high = ratio["ci"]
    assert ratio["status"] == "ok"
    assert low <= truth["pd_ratio"]["continuous"] <= high
    assert (high - low) / ratio["value"] <= 0.20


def test_a_fleet_sized_for_its_peak_still_leaves_with_a_policy(
    cases: dict[str, tuple[Run, dict[str, Any]]],
) -> None:
    """Where the limit was hardly met the ratio is a floor or bounded, and a policy is written."""
    done, _ = cases["dev_diurnal"]
    ratio = done.service["pd_ratio"]
    assert ratio["status"] in ("floor", "refused")
    assert ratio["status"] == "floor" or ratio["at_least"] is not None or ratio["at_most"] is not None
    policy = YAML(typ="safe").load((done.folder / "policy.yaml").read_text("utf-8"))
    assert policy["spec"]["mode"] == "metric"
    assert all(p["target_per_instance"]["value"] > 0 for p in policy["spec"]["primaries"])


def test_overload_is_seen_and_never_taken_for_capacity(cases: dict[str, tuple[Run, dict[str, Any]]]) -> None:
    """Saturated windows are found, demand is offered work, and no capacity lies 5 % above the truth."""
    done, truth = cases["dev_overload"]
    assert done.service["reference"] == "offered"
    for role, signal in (("prefill", "prefill_tps_effective"), ("decode", "decode_tps")):
        value = done.capacity(role)["per_instance"]
        assert value is None or value <= 1.05 * truth["capacity_per_instance_at_slo"][signal]
    minutes = np.arange(truth["start"], truth["start"] + truth["hours"] * 3600, 60)
    true = _inside(minutes, truth["saturated_windows"])
    found = _inside(minutes, done.service["demand"]["censored_windows"])
    assert (true & found).sum() / true.sum() >= 0.9
    assert (true & found).sum() / found.sum() >= 0.8


def _inside(minutes: np.ndarray, windows: list[dict[str, Any]]) -> np.ndarray:
    mask = np.zeros(minutes.size, dtype=bool)
    for window in windows:
        mask |= (minutes >= _seconds(window["start"])) & (minutes < _seconds(window["end"]))
    return mask


def _seconds(moment: str | float) -> float:
    from datetime import datetime

    return moment if isinstance(moment, int | float) else datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize("case", ["dev_days", "dev_diurnal"])
def test_latencies_at_the_recorded_counts_are_foretold(
    cases: dict[str, tuple[Run, dict[str, Any]]], case: str
) -> None:
    """On days the fleet model has not seen, half of the windows' mean latencies are within a tenth."""
    done, _ = cases[case]
    told = {entry["signal"]: entry for entry in done.service["replay"]["calibration"]["readings"]}
    assert told["ttft"]["error_ratio"] < 0.1
    assert told["tbt"]["error_ratio"] < 0.1
    assert told["ttft"]["windows"] > 500

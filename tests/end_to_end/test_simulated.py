"""Simulated histories with a known truth, from dump files to summary.json."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.runs import SIMULATED, Finished, Run, here
from ruamel.yaml import YAML

from hs_analysis.pipeline.results import sections
from hs_analysis.pipeline.summary import facts_section
from hs_analysis.pipeline.tables import read_entries

CASES = ("dev_days", pytest.param("dev_diurnal", marks=pytest.mark.slow), "dev_overload")


Case = Callable[[str], tuple[Run, dict[str, Any]]]


@pytest.fixture(scope="module")
def history(root: Path, real_data: Path, finished: Finished, made_once: Callable[..., Path]) -> Case:
    """Return the run of a history with its truth. The dumps of dev_days are shipped: that run is shared."""
    shipped = root / "data_samples" / "simulated-days"

    def of(case: str) -> tuple[Run, dict[str, Any]]:
        source = real_data / "simulated" / case
        truth = json.loads((source / "truth.json").read_text("utf-8"))
        if case == "dev_days":
            dumps = sorted(path.name for path in source.glob("*.json.gz"))
            assert filecmp.cmpfiles(source, shipped, dumps, shallow=False) == (dumps, [], [])
            source = shipped
        return finished(source, *SIMULATED) if case != "dev_overload" else judged(source), truth

    def judged(source: Path) -> Run:
        """What is known of the service before a policy is selected: nothing here asks for more."""
        folder = made_once("judged-overload", lambda folder: _derived(source, folder))
        (summary,) = [facts_section(entry) for entry in read_entries(folder)]
        for stage in ("study", "derive"):
            summary |= sections(folder, stage)[0]
        return Run(folder, {"services": [summary]})

    return of


def _derived(source: Path, folder: Path) -> None:
    here("ingest", source, "--run-dir", folder, "-q")
    here("derive", folder, "-q", *SIMULATED)


@pytest.mark.parametrize("case", CASES)
def test_verdicts_match_the_truth(history: Case, case: str) -> None:
    """Every verdict that does not lie at a rule's edge is the one found under intervention."""
    done, truth = history(case)
    found = done.verdicts()
    wanted = {k: v["verdict"] for k, v in truth["signals"].items() if not v["borderline"]}
    assert {k: found.get(k) for k in wanted} == wanted


def test_capacities_lie_within_five_percent(history: Case) -> None:
    """Where load passed the limit on several days both capacities are known and right."""
    done, truth = history("dev_days")
    for role, signal in (("prefill", "prefill_tps_effective"), ("decode", "decode_tps")):
        capacity = done.capacity(role)
        assert capacity["status"] == "ok"
        assert capacity["per_instance"] == pytest.approx(
            truth["capacity_per_instance_at_slo"][signal], rel=0.05
        )


def test_the_ratio_holds_the_truth(history: Case) -> None:
    """The interval of the ratio covers the balance of the true capacities and is at most 20 % wide."""
    done, truth = history("dev_days")
    ratio = done.service["pd_ratio"]
    low, high = ratio["ci"]
    assert ratio["status"] == "ok"
    assert low <= truth["pd_ratio"]["continuous"] <= high
    assert (high - low) / ratio["value"] <= 0.20


@pytest.mark.slow
def test_a_fleet_sized_for_its_peak_still_leaves_with_a_policy(
    history: Case,
) -> None:
    """Where the limit was hardly met the ratio is a floor or bounded, and a policy is written."""
    done, _ = history("dev_diurnal")
    ratio = done.service["pd_ratio"]
    assert ratio["status"] in ("floor", "refused")
    assert ratio["status"] == "floor" or ratio["at_least"] is not None or ratio["at_most"] is not None
    policy = YAML(typ="safe").load((done.folder / "policy.yaml").read_text("utf-8"))
    assert policy["spec"]["mode"] == "metric"
    assert all(p["target_per_instance"]["value"] > 0 for p in policy["spec"]["primaries"])


def test_overload_is_seen_and_never_taken_for_capacity(history: Case) -> None:
    """Saturated windows are found, demand is offered work, and no capacity lies 5 % above the truth."""
    done, truth = history("dev_overload")
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


@pytest.mark.parametrize("case", CASES[:2])
def test_latencies_at_the_recorded_counts_are_foretold(history: Case, case: str) -> None:
    """On days the fleet model has not seen, half of the windows' mean latencies are within a tenth."""
    done, _ = history(case)
    told = {entry["signal"]: entry for entry in done.service["replay"]["calibration"]["readings"]}
    assert told["ttft"]["error_ratio"] < 0.1
    assert told["tbt"]["error_ratio"] < 0.1
    assert told["ttft"]["windows"] > 500

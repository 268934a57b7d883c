"""What is said first of files for a controller that the policy was not selected for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from export.scenes import full_policy
from export.test_llmd import MEASURED
from replay.services import policy_replay

from hs_analysis.export import NOT_RECOMMENDED, TARGETS, ExportOptions, export
from hs_analysis.pipeline.objects import selected_for, target_replays
from hs_analysis.schema.names import SLO_AWARE, TARGET_TITLES, TRANSLATED
from hs_analysis.schema.replays import ReplayResult

POLICY = replace(full_policy(), controller="keda")
CALM = {"instance_hours": 100.0, "gpu_hours": None, "slo_violation_ratio": 0.001}


def backtest(others: dict[str, dict[str, str]], **rows: dict[str, Any]) -> ReplayResult:
    """Return a backtest of the policy, and of the rows named."""
    found = [policy_replay(name, **figures) for name, figures in {"ours": CALM, **rows}.items()]
    said = {"target": "keda", "policy": "ours", "as_others": others}
    return ReplayResult(None, None, {"deployed": said}, tuple(found))


def said_of(replay: ReplayResult, headline: str = "ours") -> dict[str, str]:
    """Return what is said of the files of each target."""
    return selected_for(POLICY, target_replays(replay, headline))


@pytest.mark.parametrize(
    ("figures", "want"),
    [
        ({}, "HPA needs +3.0 % instance-hours, and it breaks the SLO in 0.25 % of windows against 0.10 %"),
        ({"slo_violation_ratio": None}, "+3.0 % instance-hours, and how often it breaks the SLO is not"),
        ({"instance_hours": 99.0}, "HPA needs −1.0 % instance-hours"),
    ],
)
def test_the_file_of_another_controller_says_what_it_costs(figures: dict[str, Any], want: str) -> None:
    """Hours and windows over the limit of the file as read back, beside those of the selected one."""
    theirs = {**CALM, "instance_hours": 103.0, "slo_violation_ratio": 0.0025} | figures
    said = said_of(backtest({"hpa": {"policy": "as_hpa", "why_not": ""}}, as_hpa=theirs))
    assert said["hpa"].startswith("The policy was selected and replayed for KEDA. ")
    assert want in said["hpa"]
    assert "keda" not in said


def test_hours_are_those_of_gpus_where_both_are_known() -> None:
    """A pool's GPUs weigh what they cost."""
    ours, theirs = (CALM | {"gpu_hours": hours} for hours in (800.0, 880.0))
    found = backtest({"hpa": {"policy": "as_hpa", "why_not": ""}}, ours=ours, as_hpa=theirs)
    assert "HPA needs +10 % GPU-hours" in said_of(found)["hpa"]


def test_llmds_slo_aware_file_says_what_its_own_formula_did() -> None:
    """It is another file than the token-aware one; without a row of the formula, that it was not replayed."""
    row = {"instance_hours": 120.0, "gpu_hours": None, "slo_violation_ratio": 0.002}
    made = backtest({"llmd": {"policy": "", "why_not": "no gauge"}}, slo_aware=row)
    said = selected_for(POLICY, target_replays(made, "ours"), made.policies)
    assert "its formula needs +20 % instance-hours" in said[SLO_AWARE]
    assert "no gauge" in said["llmd"]
    assert "no gauge" not in said[SLO_AWARE]
    assert "This file was not replayed: " in said_of(made)[SLO_AWARE]
    options = ExportOptions(selected_for=said, measured=MEASURED)
    files = export(POLICY, "llmd", options).files
    first = {name.split(".")[-2]: text.splitlines()[0] for name, text in files.items() if "aware" in name}
    assert first == {"token-aware": f"# {said['llmd']}", "slo-aware": f"# {said[SLO_AWARE]}"}


@pytest.mark.parametrize(
    ("headline", "others", "why"),
    [
        ("ours", {"hpa": {"policy": "", "why_not": "no object could be written"}}, "no object could be"),
        ("", {}, "no part of the history was left to replay it on"),
    ],
)
def test_a_file_that_was_not_replayed_says_why(headline: str, others: dict[str, Any], why: str) -> None:
    """It could not be read back, or nothing was left to replay it on."""
    said = said_of(backtest(others), headline)["hpa"]
    assert "This file was not replayed: " in said
    assert why in said


@pytest.mark.parametrize("target", [*TARGET_TITLES, "rules"])
def test_it_is_the_first_line_of_every_file_and_of_the_losses(target: str) -> None:
    """After the warning where the policy is not recommended; nowhere on hold, where no object is written."""
    options = ExportOptions(selected_for={target: "Selected for another one."})
    for text in export(POLICY, target, options).files.values():
        said = json.loads(text)[0]["text"] if text.startswith("[") else text.splitlines()[0].strip("# ")
        assert said == "Selected for another one."
    warned = export(replace(POLICY, recommended=False), target, options)
    assert warned.losses[0].text.startswith(NOT_RECOMMENDED)
    assert warned.losses[1].text == "Selected for another one."
    held = export(replace(POLICY, mode="hold"), target, options)
    assert not any("Selected for another one." in text for text in held.files.values())


def test_every_controller_has_a_row_for_its_file() -> None:
    """Every target with an object of its own can be replayed as another's file."""
    assert set(TRANSLATED) == set(TARGET_TITLES) <= set(TARGETS)

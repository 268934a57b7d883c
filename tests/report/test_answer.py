"""The answer in five lines: what each says, how long it may be, and that its numbers are the decision's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.report import decision_words
from hs_analysis.report.answer import QUESTION_WIDTH, WIDTH, answer_of, fitted
from hs_analysis.report.choice import choose

SLO = {"ttft_s": 2.0, "tbt_s": 0.05, "quantile": 0.95, "window_s": 60.0, "allowed_window_share": 0.05}

DECISION: dict[str, Any] = {
    "recommend": "apply",
    "why": "the policy needs 18.5% fewer hours",
    "target": "keda",
    "confidence": "medium",
    "confidence_reasons": [{"code": "weekdays_not_seen", "text": "3 of 7 weekdays are in the history"}],
    "next_steps": ["Apply it.", "Record seven days, so that each weekday is in the history."],
    "hours_saved_ratio": 0.185,
    "hours_saved_ci": [0.053, 0.308],
    "pools": [
        {"role": "prefill", "now": 11.0, "recommended": 8.5},
        {"role": "decode", "now": 4.0, "recommended": 3.7},
    ],
    "slo_risk": {"undisturbed": 0.00093, "recorded": 0.02, "under_faults": 0.025, "under_bursts": 0.045},
}

LOOK = "kubectl diff -f exports/keda/demo.m.scaledobjects.yaml"

PAIR = """metadata: {service: demo/m}
spec:
  mode: metric
  primaries:
  - {signal: prefill_tps_effective, role: prefill}
  - {signal: decode_tps, role: decode}
"""


def service(**decision: Any) -> dict[str, Any]:
    """Return a service whose policy follows both pools' own tokens."""
    targets = (("prefill_tps_effective", "prefill", 2811.0), ("decode_tps", "decode", 1230.0))
    return {
        "service": "demo/m",
        "decision": DECISION | decision,
        "apply": {"steps": [{"command": LOOK, "why": "See what would change."}]},
        "thresholds": [
            {"signal": signal, "role": role, "gpu_type": None, "target_per_instance": value}
            for signal, role, value in targets
        ],
        "recommended": {"signal": "decode_tps", "role": "decode"},
        "selection": [],
        "replay": {"policies": []},
        "refusals": [],
    }


def said(one: dict[str, Any], slo: dict[str, Any] | None = None) -> list[str]:
    """Return the five lines."""
    return answer_of(one, choose(one, PAIR), SLO if slo is None else slo, "reports/x").lines


def test_five_lines_say_what_to_do_saving_risk_confidence_and_the_next_command() -> None:
    """Each number is one of the decision, with its unit and its limit."""
    assert said(service()) == [
        "demo/m: apply the KEDA policy: cache-missed prefill TPS 2,811, decode TPS 1,230 per instance.",
        "Saves 18.5 % [5.3 to 30.8] of instance-hours: prefill 11.0 → 8.5, decode 4.0 → 3.7 on average.",
        "Risk: 0.093 % of windows over the SLO (limit 5 %, what ran 2.0 %); faults 2.5 %, bursts 4.5 %.",
        "Confidence: medium: 3 of 7 weekdays are in the history.",
        "Next: kubectl diff -f reports/x/exports/keda/demo.m.scaledobjects.yaml",
    ]


def test_what_costs_more_is_never_called_a_saving() -> None:
    """More hours are a cost, of the policy and of a candidate that is not recommended."""
    _, hours, *_ = said(service(hours_saved_ratio=-0.633, hours_saved_ci=[-0.7, -0.5]))
    assert hours.startswith("Costs 63.3 % more instance-hours: prefill 11.0 → 8.5")
    first, hours, *_, following = said(service(recommend="keep", hours_saved_ratio=-0.04))
    assert first == "demo/m: keep what runs: the policy needs 18.5% fewer hours."
    assert hours.startswith("The best candidate costs 4.0 % more")
    assert following == "Next: change nothing. Record seven days, so that each weekday is in the history."


def test_a_record_says_what_to_record_and_nothing_of_a_policy() -> None:
    """There is no policy, so there are no hours and no risk of one."""
    nothing = {"hours_saved_ratio": None, "pools": [], "slo_risk": {}, "target": ""}
    nothing |= {"next_steps": ["Keep what runs."]}
    lines = said(service(recommend="record", why="no signal may size a pool", **nothing))
    assert lines[0] == "demo/m: keep what runs and record more: no signal may size a pool."
    assert lines[-1] == "Next: read reports/x/report.html"
    assert not any(line.startswith(("Saves", "Costs", "Risk")) for line in lines)


@pytest.mark.parametrize(
    ("step", "following"),
    [
        ("Export the token counters.", "Next: Export the token counters."),
        ("Answer the refusals: hsa plan-test says what to record.", "Next: hsa plan-test reports/x"),
    ],
)
def test_a_record_goes_on_with_a_test_only_where_one_is_planned(step: str, following: str) -> None:
    """A command that answers that nothing is open is a dead end."""
    assert said(service(recommend="record", next_steps=["Keep what runs.", step]))[-1] == following


def test_one_day_tells_a_range_and_a_floor_a_range_of_risk() -> None:
    """Neither is printed as one number."""
    risk = {"undisturbed": None, "undisturbed_range": [0.001, 0.031], "recorded": 0.0}
    lines = said(service(by_blocks=True, hours_saved_ci=[-0.05, 0.29], hours_saved_ratio=None, slo_risk=risk))
    assert lines[1].startswith("Needs 5.0 % more to 29 % fewer instance-hours (one day)")
    half = service(
        by_blocks=True, hours_saved_ci=[-0.05, 0.29], hours_saved_ratio=None, slo_risk=risk,
        backtested=["2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"],
    )  # fmt: skip
    assert said(half)[1].startswith("Needs 5.0 % more to 29 % fewer instance-hours (12 hours)")
    assert lines[2] == "Risk: 0.10 to 3.1 % of windows over the SLO (limit 5 %, what ran 0 %)."


def test_the_counts_of_both_pools_stand_beside_a_range_of_hours() -> None:
    """The words around them give way first, so that no pool is left out."""
    pools = [{"role": role, "now": 6.0, "recommended": 4.7} for role in ("prefill", "decode")]
    day = {"by_blocks": True, "hours_saved_ci": [-0.545, 0.147], "hours_saved_ratio": None, "pools": pools}
    both = "(one day): prefill 6.0 → 4.7, decode 6.0 → 4.7."
    assert said(service(**day))[1] == f"Needs 54.5 % more to 14.7 % fewer instance-hours {both}"


def test_a_range_of_one_sign_is_said_alike_in_every_place() -> None:
    """The answer's lines and the decision in words call it the same."""
    day = {"by_blocks": True, "hours_saved_ci": [0.05, 0.29], "hours_saved_ratio": None}
    assert said(service(**day))[1].startswith("Needs 5.0 % to 29 % fewer instance-hours (one day")
    assert decision_words.hours_line(day) == "hours: 5.0 % to 29 % fewer than recorded, by blocks of one day"


def test_a_range_of_hours_begins_with_the_smaller_number() -> None:
    """Added hours are negative savings, whose lower end is the larger cost."""
    day = {"by_blocks": True, "hours_saved_ci": [-1.018, -0.278], "hours_saved_ratio": None}
    assert said(service(**day))[1].startswith("Needs 27.8 % to 101.8 % more instance-hours (one day")
    assert (
        decision_words.hours_line(day) == "hours: 27.8 % to 101.8 % more than recorded, by blocks of one day"
    )
    assert decision_words.day_range([-0.05, 0.0]) == "5.0 % more to 0 % fewer"


def test_what_was_not_replayed_says_within_which_counts_it_stays() -> None:
    """Neither saving nor risk is known; the bounds of the policy are, and what would tell the rest."""
    why = "no part of the history was left to replay it on"
    pools = [{"role": role, "now": 2.0, "recommended": None} for role in ("prefill", "decode")]
    nothing = {"hours_saved_ratio": None, "hours_saved_ci": None, "pools": pools, "slo_risk": {}}
    unseen = {"code": "not_backtested", "text": why}
    one = service(why=why, confidence_reasons=[unseen], **nothing)
    bounds = "  bounds: {prefill: {min: 2, max: 4}, decode: {min: 1, max: 6}}\n"
    answer = answer_of(one, choose(one, PAIR + bounds), SLO, "reports/x")
    counts = "prefill 2 to 4 (ran 2.0), decode 1 to 6 (ran 2.0)"
    assert answer.hours == f"Saving: not known. Instances stay within bounds: {counts}."
    assert answer.risk == "Risk: not known: it was not replayed. Record at least twice as long to know."
    assert said(service(why=why, confidence_reasons=[unseen], **nothing | {"pools": []}))[1] == (
        f"Saving: not known: {why}."
    )


def test_a_risk_that_a_pool_without_a_size_hides_says_so() -> None:
    """Nothing tells when it breaks the SLO, so it stays as it is."""
    unsized = {"code": "pool_not_sized", "text": "nothing sizes prefill"}
    lines = said(service(confidence_reasons=[unsized], slo_risk={"recorded": 0.01}))
    assert "Risk: not known: nothing sizes prefill. Leave its count as it is." in lines


def test_a_risk_that_is_not_known_says_what_was_recorded() -> None:
    """The limit that was broken most often, as it was seen; nothing where none was."""
    why = "the replay does not match the recorded latencies"
    told = " (recorded ≥39.3 % of windows)"
    for ttft, tbt, seen in (([0.25, 0.3], [0.393, 0.4], told), ([0.0, 0.3], None, ""), (None, None, "")):
        latencies = {"ttft": {"observed": ttft}, "tbt": {"observed": tbt}}
        of = service(slo_risk={}) | {
            "replay": {"calibration": {"status": "not_calibrated", "why_not": why, "latencies": latencies}}
        }
        assert f"Risk: not known{seen}: {why}." in said(of)


def test_shares_that_are_at_most_so_large_say_so() -> None:
    """Where a capacity is a floor, faults and bursts may break the SLO less often than is said, not more."""
    floor = {"slo_risk": DECISION["slo_risk"] | {"faults_at_most": True}}
    assert said(service(**floor))[2].endswith("what ran 2.0 %); faults ≤2.5 %, bursts ≤4.5 %.")


def test_a_longer_name_leaves_room_for_the_targets() -> None:
    """What to follow at which target is said whole; a line may grow by the name."""
    one = service() | {"service": "prod-llm/qwen2.5-72b-instruct"}
    targets = "cache-missed prefill TPS 2,811, decode TPS 1,230 per instance"
    assert said(one)[0] == f"prod-llm/qwen2.5-72b-instruct: apply the KEDA policy: {targets}."


def test_a_command_in_the_next_step_names_the_run_folder() -> None:
    """It can be copied as it stands."""
    steps = ["Keep what runs.", "Test above the recorded peak: hsa plan-test gives the load levels."]
    assert said(service(recommend="keep", next_steps=steps))[-1] == (
        "Next: change nothing. Test above the recorded peak: hsa plan-test reports/x gives the load levels."
    )


def test_without_an_slo_no_risk_is_claimed() -> None:
    """The line says so, and does not leave a number."""
    risk = said(service(), {})[2]
    assert risk == "Risk: no SLO was given, so nothing is said of latency."


def test_a_service_without_a_namespace_is_called_by_its_model() -> None:
    """Nobody knows their service as ``-/model``."""
    one = service() | {"service": "-/llama"}
    assert said(one)[0].startswith("llama: apply the KEDA policy")


def test_another_winner_of_the_study_is_explained() -> None:
    """Where study and selection differ, one sentence says why; where they agree, none."""
    agreed = answer_of(service(), choose(service(), PAIR), SLO, "r").questions
    assert agreed == ()
    other = service() | {"recommended": {"signal": "gpu_util", "role": "decode"}}
    (note,) = answer_of(other, choose(other, PAIR), SLO, "r").questions
    assert note.startswith("Note: the study ranks decode GPU utilisation first; the policy follows")


def test_a_start_up_time_that_was_assumed_is_said_once() -> None:
    """The refusal that says the same is not a second line."""
    one = service()
    one["replay"] = {
        "policies": [],
        "calibration": {"start_up_s": {"decode": {"value": 300.0, "provenance": "default"}}},
    }
    one["refusals"] = [
        {"what": "startup@decode", "code": "startup_unknown", "text": "not known", "collect": "give it"},
        {"what": "pd_ratio", "code": "mix_moves", "text": "the mix moves", "collect": "nothing"},
    ]
    questions = answer_of(one, choose(one, PAIR), SLO, "r").questions
    assert questions == (
        "Assumed: start-up time 300 s for decode (give yours: --startup).",
        "Open: pd_ratio: the mix moves.",
    )


@given(st.text(alphabet="ab ,;.(:", max_size=400) | st.text(alphabet="ab", max_size=400))
def test_a_line_never_grows_beyond_its_width(text: str) -> None:
    """Whatever the names are; what fits is left as it is."""
    line = fitted(text)
    assert line == text if len(text) <= WIDTH else len(line) <= WIDTH
    assert len(fitted(text, QUESTION_WIDTH)) <= QUESTION_WIDTH


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a" * 60 + "; " + "b" * 60, "a" * 60 + "."),
        ("a" * 60 + "; the lowest load, " + "b" * 60, "a" * 60 + "."),
        ("a" * 60 + ", of which " + "b" * 60, "a" * 60 + "."),
        ("word " * 30, "word " * 19 + "…"),
    ],
)
def test_a_long_line_is_cut_where_a_clause_ends(text: str, line: str) -> None:
    """Else at a word, with a sign that more follows."""
    assert fitted(text) == line


def test_names_that_nothing_told_are_to_be_filled_in() -> None:
    """Before a policy is applied; what is kept needs none."""
    apply = {
        "not_filled": ["Replace fill-in-namespace by the namespace in a.yaml:9, or give [export] namespace."]
    }
    lines = answer_of(service() | {"apply": apply}, choose(service(), PAIR), SLO, "RUN").questions
    assert "Fill in: fill-in-namespace; exports/APPLY.md says by what." in lines
    kept = service(recommend="keep") | {"apply": apply}
    assert not any("Fill in" in line for line in answer_of(kept, choose(kept, PAIR), SLO, "RUN").questions)


def test_the_own_rule_of_heteroscale_is_no_policy_of_a_name_and_has_its_targets() -> None:
    """Its title is a rule; the line has room for both targets."""
    (line, *_) = answer_of(one := service(target="heteroscale"), choose(one, PAIR), SLO, "x").lines
    targets = "cache-missed prefill TPS 2,811, decode TPS 1,230 per instance"
    assert line == f"demo/m: apply HeteroScale's own rule: {targets}."


def test_a_long_name_does_not_cut_the_first_clause_of_why() -> None:
    """What keeps the fleet as it is stands in the line to its end, else at the end of a clause."""
    why = "the policy needs more hours on the one day it was fitted on"
    more = f"{why}, and whether it breaks the SLO less often is not known"
    one = service(recommend="keep", why=more) | {"service": "prod-llm/qwen2.5-72b-instruct"}
    (line, *_) = answer_of(one, choose(one, PAIR), SLO, "x").lines
    assert line == f"prod-llm/qwen2.5-72b-instruct: keep what runs: {why}."


def test_a_ratio_is_a_per_cent_in_the_first_line_as_in_the_report() -> None:
    """A bare 0.538 per instance says nothing of what it counts."""
    one = service()
    one["thresholds"][0] |= {"signal": "sm_activity", "role": "prefill", "target_per_instance": 0.538}
    line = answer_of(one, choose(one, PAIR.replace("prefill_tps_effective", "sm_activity")), SLO, "x").action
    assert line == "demo/m: apply the KEDA policy: prefill SM activity 53.8 %, decode TPS 1,230 per instance."

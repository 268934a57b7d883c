"""What the page says, held as plain data."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from report import sample as samples

from hs_analysis.report import tables, view
from hs_analysis.report.cells import Anchors
from hs_analysis.report.choice import choose, primary_thresholds
from hs_analysis.report.tables import checks_line
from hs_analysis.report.verdict import worst_first


def page(sample: samples.Sample) -> dict[str, Any]:
    """Return the view of a sample."""
    return view.build(sample.summary, sample.policies, sample.findings, sample.reproduce)


def words(parts: list[dict[str, Any]]) -> str:
    """Return a sentence of words and numbers as text."""
    return "".join(f"{p['text']} {p['unit']}" if p.get("unit") else p["text"] for p in parts)


def facts(sample: samples.Sample) -> dict[str, dict[str, Any]]:
    """Return the facts of the first verdict by label."""
    return {fact["label"]: fact for fact in page(sample)["services"][0]["verdict"]["facts"]}


def test_verdict_says_what_to_scale_on_and_how_sure() -> None:
    """Signal, target with its capacity, ratio, saving and confidence are there, each with its link."""
    verdict = page(samples.sample())["services"][0]["verdict"]
    assert words(verdict["headline"]) == "Scale on decode TPS at 1,277 tokens/s per decode instance"
    assert verdict["confidence"]["word"] == "medium"
    assert verdict["reasons"] == ["3 of 7 weekdays are in the history"]
    found = {fact["label"]: fact["cells"] for fact in verdict["facts"]}
    target = found["Target"][0]
    assert (target["text"], target["unit"]) == ("1,277", "tokens/s")
    assert "ci" not in target
    assert target["detail"]["label"] == "0.85 × the lower end of a capacity of"
    assert (target["detail"]["text"], target["detail"]["ci"]) == ("1,549", "1,502 to 1,597")
    assert target["href"] == "#/prod%2Fllama-70b/derive/threshold:decode_tps@decode"
    assert (found["P/D ratio"][0]["text"], found["P/D ratio"][0]["ci"]) == ("0.903", "0.846 to 0.967")
    assert [cell["text"] for cell in found["Replay"]] == ["29.9", "34.2", "0.61"]
    assert verdict["refusals"][0]["collect"].startswith("one day with the H20 group")


def test_a_policy_that_is_not_recommended_is_not_the_headline() -> None:
    """Keep what runs, and why; what to do next stands below."""
    sample = samples.sample()
    sample.summary["services"][0]["decision"] |= {"recommend": "keep", "why": "the policy needs more hours"}
    verdict = page(sample)["services"][0]["verdict"]
    assert words(verdict["headline"]) == "Keep what runs: the policy needs more hours"
    assert verdict["next_steps"] == ["Record seven days."]
    (row,) = page(sample)["overview"]["rows"]
    assert row["cells"][-1]["note"] == "keep what runs"


def test_verdict_opens_with_what_the_policy_is_warned_of() -> None:
    """The alarm of the decision stands first; more violations than recorded alone do not."""
    sample = samples.sample()
    assert page(sample)["services"][0]["verdict"]["alert"] == []
    service = sample.summary["services"][0]
    text = "breaks the SLO in 9.00% of windows; 5% are allowed"
    service["decision"] = dict(service.get("decision") or {}) | {
        "alarm": {"code": "slo_not_held", "text": text}
    }
    alert = page(sample)["services"][0]["verdict"]["alert"]
    assert words(alert) == f"The policy of {service['service']} {text}."


def test_uncalibrated_replay_gives_its_reason_instead_of_a_share() -> None:
    """Without a share there is a dash and the reason; that it is not known is no alarm."""
    sample = samples.sample()
    replay = sample.summary["services"][0]["replay"]
    for row in replay["policies"]:
        row["slo_violation_ratio"] = None
    replay["calibration"] = {"status": "not_calibrated", "text": "they differ by more than 3 times"}
    over = facts(sample)["Replay"]["cells"][-1]
    assert (over["text"], over["note"]) == ("–", "they differ by more than 3 times")
    sample.summary["slo"] = {"ttft_s": 2.0, "tbt_s": None}
    assert page(sample)["services"][0]["verdict"]["alert"] == []


def test_hours_of_one_day_are_a_range_on_the_first_screen() -> None:
    """No single number, and no link to a row of the backtest, which is of another window."""
    sample = samples.sample()
    service = sample.summary["services"][0]
    day = {"by_blocks": True, "hours_saved_ci": [-0.05, 0.3], "hours_saved_ratio": None}
    service["decision"] = dict(service.get("decision") or {}) | day
    (cell,) = facts(sample)["Replay"]["cells"]
    assert cell["text"] == "5.0 % more to 30 % fewer than recorded, by blocks of one day"


def test_the_first_screen_says_what_an_interval_of_hours_holds_and_when_a_side_is_unclear() -> None:
    """A label beside intervals that hold less than days do, and one at a share that tells no side."""
    sample = samples.sample()
    row = sample.summary["services"][0]["replay"]["policies"][0]
    assert "within a day" not in facts(sample)["Replay"]["note"]
    row |= {"interval_basis": "hours", "vs_recorded_ci": [0.2, 0.4], "slo_side": "unclear"}
    found = facts(sample)["Replay"]
    assert "intervals hold what moves within a day alone" in found["note"]
    assert found["cells"][-1]["note"] == "side unclear"


def test_costlier_policy_says_more_hours() -> None:
    """A negative saving is told in words, not by a sign."""
    sample = samples.sample()
    sample.summary["services"][0]["replay"]["policies"][0]["vs_recorded"] = -0.08
    cell = facts(sample)["Replay"]["cells"][0]
    assert (cell["text"], cell["per"]) == ("8.0", "more hours than what was recorded")


def test_study_and_selection_may_disagree() -> None:
    """Both signals are named, and it is said which one decides."""
    sample = samples.sample()
    sample.summary["services"][0]["recommended"]["signal"] = "prefill_tps_effective"
    sample.summary["services"][0]["recommended"]["role"] = "prefill"
    fact = facts(sample)["Signal"]
    assert [cell["raw"] for cell in fact["cells"]] == ["prefill_tps_effective", "decode_tps"]
    assert "the selection decides" in fact["note"]


@pytest.mark.parametrize(("key", "before"), [("at_least", "at least"), ("at_most", "at most")])
def test_refused_ratio_still_gives_its_bound(key: str, before: str) -> None:
    """A one-sided bound is shown with the status and the reason."""
    sample = samples.refused()
    ratio = sample.summary["services"][0]["pd_ratio"]
    ratio.update(at_least=None, at_most=None)
    ratio[key] = 1.1
    fact = facts(sample)["P/D ratio"]
    assert (fact["cells"][0]["before"], fact["cells"][0]["text"]) == (before, "1.10")
    assert fact["cells"][0]["status"]["word"] == "refused"
    assert fact["note"].startswith("only 2 hours of history")


def test_a_bound_and_tested_splits_stand_beside_the_ratio_and_are_not_it() -> None:
    """The number shown is the ratio; what one signal holds and the splits of a test are told as such."""
    sample = samples.sample()
    ratio = sample.summary["services"][0]["pd_ratio"]
    split = {"isl": 900.0, "osl": 200.0, "prefill": 5, "decode": 3, "value": 5 / 3, "status": "undecided"}
    ratio.update(one_primary_bound=9.75, one_primary_bound_ci=[9.5, 10.3], by_mix=[split])
    fact = facts(sample)["P/D ratio"]
    assert fact["cells"][0]["text"] == "0.903"
    assert "9.75 [9.50 to 10.3] prefill per decode instance is enough for each mix tested" in fact["note"]
    assert "best split measured: 5P3D, ratio 1.67 (900 in, 200 out), whether it keeps" in fact["note"]


@pytest.mark.parametrize(
    ("mode", "headline"),
    [("hold", "Keep the recorded sizes"), ("periodic", "Scale by timetable, not by a metric")],
)
def test_policies_without_a_metric_say_so(mode: str, headline: str) -> None:
    """A timetable or a hold is not sold as scaling on a signal."""
    sample = samples.sample()
    name = next(iter(sample.policies))
    sample.policies[name] = sample.policies[name].replace("mode: metric", f"mode: {mode}")
    assert words(page(sample)["services"][0]["verdict"]["headline"]) == headline


def test_two_primaries_are_both_shown() -> None:
    """A policy with a signal a pool shows both targets."""
    sample = samples.sample()
    chosen = sample.summary["services"][0]["selection"][0]
    chosen.update(signal="prefill_tps_effective+decode_tps", role="prefill+decode")
    sample.policies.clear()
    assert [cell["text"] for cell in facts(sample)["Target"]["cells"]] == ["2,882", "1,277"]


def test_a_service_wide_signal_counts_per_instance_of_its_pool() -> None:
    """A request rate that sizes decode finds its threshold under the role service."""
    service = {
        "thresholds": [
            {"signal": "request_rate", "role": "service", "gpu_type": None, "target_per_instance": 4.0}
        ],
        "selection": [
            {"policy": "request_rate@decode", "signal": "request_rate", "role": "decode", "chosen": True}
        ],
    }
    choice = choose(service, "")
    assert choice.primaries == (("request_rate", "decode"),)
    assert [row["target_per_instance"] for row in primary_thresholds(service, choice)] == [4.0]


def test_broken_policy_text_is_not_an_error() -> None:
    """A document that is no YAML leaves the summary's own choice."""
    service = samples.sample().summary["services"][0]
    assert choose(service, "a: [1\n b: }").primaries == (("decode_tps", "decode"),)


def test_ranking_puts_the_recommended_first_and_gives_every_reason() -> None:
    """Verdicts go from best to worst; each signal that may not size a pool has its reason."""
    rows = page(samples.sample())["services"][0]["signals"]["rows"]
    labels = [row["cells"][0]["text"] for row in rows]
    assert labels[0] == "decode TPS"
    assert labels[-1] == "prefill queue length"
    folds = {row["cells"][0]["text"]: row["cells"][3]["fold"] for row in rows}
    poor = folds["decode GPU utilisation"]["lines"]
    assert poor[0] == "elasticity 0.02 is below 0.10: the signal hardly moves"
    assert poor[1] == "Spearman 0.403 is below 0.85"
    assert folds["decode KV-cache usage"]["lines"][0] == "elasticity above the zone (1.46, limit 1.40)"


def test_a_signal_says_which_checks_it_failed_and_passed() -> None:
    """A failed check is not among the passed ones; an untested signal gives its gate alone."""
    turns = [{"code": code} for code in ("elasticity_high", "rank", "drift")]
    tested = {"verdict": "guard", "reasons": [{"code": "elasticity_high", "text": "x"}], "turns": turns}
    assert checks_line(tested) == "Failed: elasticity. Passed: rank, drift."
    gate = {
        "verdict": "unknown",
        "reasons": [{"code": "too_short", "text": "not tested: 1 h"}],
        "turns": turns,
    }
    assert checks_line(gate) == "not tested: 1 h"


def test_the_table_of_services_is_worst_first() -> None:
    """An alarm comes before what keeps, that before what is applied; ties keep the order of the summary."""
    decisions = [
        {"recommend": "apply"},
        {"recommend": "keep"},
        {"recommend": "apply", "alarm": {"code": "x"}},
    ]
    rows = [({"decision": one}, {"id": str(place)}) for place, one in enumerate(decisions)]
    assert [line["id"] for line in worst_first(rows)] == ["2", "1", "0"]


def test_bands_of_the_thresholds_are_not_taken_for_the_policys() -> None:
    """The columns say what asks for them, the line below what the policy has, if that is one for all."""
    found = page(samples.sample())["services"][0]["thresholds"]
    heads = {head["text"] for head in found["columns"]}
    assert heads >= {
        "share of the load of lower end or floor",
        "noise asks: out above",
        "noise asks: in below",
    }
    start = "The policy's own bands and rests are hysteresis, reading and cooldown of policy.yaml"
    assert found["bands"] == f"{start}: out above 1.05, in below 0.79."
    one = samples.sample()
    service, policy = one.summary["services"][0], next(iter(one.policies.values()))
    for before, after, says in (
        ("metadata:", "metadata:", ": out above 1.05, in below 0.79."),
        (
            "  hysteresis:",
            "  reading: {over_s: 240}\n  hysteresis:",
            ": out above 1.05, in below 0.79 for 240 s.",
        ),
        ("hysteresis: {", "hysteresis: {by_role: {decode: {}}, ", "."),
        ("  hysteresis:", "  mode: hold\n  hysteresis:", "."),
        ("  hysteresis:", "  other:", "."),
    ):
        choice = choose(service, policy.replace(before, after))
        assert tables.thresholds("x", service, choice, Anchors())["bands"] == start + says
    empty = tables.thresholds("x", {}, choose({}, ""), Anchors())
    assert not empty["bands"]


def test_every_evidence_path_has_one_place() -> None:
    """Ids are evidence paths, no two elements share one, and equal paths keep the first."""
    sample = samples.sample()
    service = sample.summary["services"][0]
    service["thresholds"].append(copy.deepcopy(service["thresholds"][0]))
    found = page(sample)["services"][0]
    ids = [row["id"] for row in found["thresholds"]["rows"] if row["id"]]
    ids += [card["id"] for card in found["capacity"]] + [found["ratio"]["id"]]
    assert len(ids) == len(set(ids)) == 5
    assert "/prod%2Fllama-70b/derive/capacity@decode" in ids


def test_policy_lines_are_the_text_itself_with_links() -> None:
    """Joined segments give the document back; evidence that is on the page is a link."""
    sample = samples.sample()
    lines = page(sample)["services"][0]["policy"]
    text = "\n".join("".join(part["text"] for part in line) for line in lines) + "\n"
    assert text == next(iter(sample.policies.values()))
    links = [part["href"] for line in lines for part in line if part["href"]]
    assert links == [
        "#/prod%2Fllama-70b/derive/threshold:decode_tps@decode", "#/prod%2Fllama-70b/derive/pd_ratio",
    ]  # fmt: skip


def test_many_services_get_a_table_and_their_own_findings() -> None:
    """The overview has a line a service; findings of one service stay with it."""
    found = page(samples.many(3))
    assert [row["cells"][0]["text"] for row in found["overview"]["rows"]] == [
        "team-0/model-00", "team-1/model-01", "team-2/model-02",
    ]  # fmt: skip
    assert [row["cells"][-1]["note"] for row in found["overview"]["rows"]] == [""] * 3
    assert len(found["services"][0]["findings"]["rows"]) == 2
    assert len(found["findings"]["rows"]) == 1


def test_what_was_not_found_is_counted_beside_the_findings() -> None:
    """Signals that a table of their own lists are no findings there, and are said all the same."""
    sample = samples.sample()
    (found,) = {service["answers"]["data"] for service in page(sample)["services"]}
    assert "; 1 signal not found" in found
    sample.summary["coverage"]["missing"] = []
    assert "not found" not in page(sample)["data_answer"]


@pytest.mark.parametrize(
    "make", [samples.nothing, samples.nulls, samples.refused, samples.one_row, samples.sample]
)
def test_view_is_plain_data(make: Any) -> None:
    """Whatever is missing, the view holds words and numbers only and is the same twice."""
    first, second = page(make()), page(make())
    for service in (*first["services"], *second["services"]):
        service.pop("choice")
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_what_stands_beside_the_policy_is_told_only_where_it_was_asked_for() -> None:
    """What to change in today's objects, what that saves, what was not read; and policy by fault."""
    sample = samples.sample()
    assert page(sample)["services"][0]["beside"] == {
        "changes": None,
        "notes": [],
        "faults": None,
        "placement": None,
    }
    replay = sample.summary["services"][0]["replay"]
    change = {
        "where": "f:1",
        "name": "chat",
        "role": "decode",
        "item": "target",
        "now": 900.0,
        "then": 1277.0,
    }
    replay["current"] = {
        "objects": [],
        "not_understood": ["f:1: chat: type cpu is not read"],
        "changes": [{**change, "why": "too low", "evidence": ""}],
        "compared": {"policy_hours": 75.0, "current_hours": 100.0, "unit": "GPU-hours", "saved": 0.25},
        "counts": [
            {
                "pool": "decode",
                "rows": 60,
                "recorded": 10.0,
                "replayed": 9.5,
                "apart": 0.5,
                "apart_ratio": 0.05,
            }
        ],
    }
    replay["faults"] = [
        {
            "policy": "recorded",
            "fault": "no_stock",
            "text": "",
            "worst_violation_ratio": 0.12,
            "lowest_decode": 3.0,
        }
    ]
    found = page(sample)["services"][0]["beside"]
    texts = [cell["text"] for cell in found["changes"]["rows"][0]["cells"]]
    assert texts == ["chat (decode)", "target", "900", "1,277", "too low"]
    assert found["notes"] == [
        "against today's autoscaler: 25 % fewer GPU-hours, 75.0 for 100",
        "not understood, or only nearly: f:1: chat: type cpu is not read",
        "today's autoscaler as replayed against what ran, mean instances: decode 9.50 for 10.0, 0.500 apart",
    ]
    replay["current"] |= {
        "compared": None,
        "reason": {"code": "counts_apart", "text": "decode is far from what ran", "pools": []},
    }
    assert page(sample)["services"][0]["beside"]["notes"] == [
        "today's autoscaler is not compared with the policy: decode is far from what ran",
        "not understood, or only nearly: f:1: chat: type cpu is not read",
    ]
    cells = [cell["text"] for cell in found["faults"]["rows"][0]["cells"]]
    assert cells == ["recorded", "no stock", "–", "12", "–", "–", "3"]


def test_a_target_that_is_no_share_of_its_capacity_is_not_said_to_be_one() -> None:
    """Another signal than work is read at a share of the load: 0.85 × 0.62 is not 0.54."""
    sample = samples.sample()
    entry = next(one for one in sample.summary["services"][0]["thresholds"] if one["signal"] == "decode_tps")
    for status, label in (
        ("floor", "what it reads at 0.85 × the load of a floor, where it is"),
        ("ok", "what it reads at 0.85 × the load of the lower end; at capacity it is"),
    ):
        capacity = {"value": 1600.0, "low": 1550.0, "high": 1700.0}
        entry |= {"target_per_instance": 1400.0, "status": status, "capacity": capacity}
        assert facts(sample)["Target"]["cells"][0]["detail"]["label"] == label

"""Two runs side by side: whether one must act, every field of the policies, bounds that are no intervals."""

import copy
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hs_analysis.cli.compare_words import change_text, sentence
from hs_analysis.compare import ComparedRun, compare_runs
from hs_analysis.compare.documents import policy_changes
from hs_analysis.compare.order import leading
from hs_analysis.errors import RunFolderError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden(name):
    policies = list(YAML(typ="safe", pure=True).load_all((GOLDEN / name / "policy.yaml").read_text("utf-8")))
    return ComparedRun(name, json.loads((GOLDEN / name / "summary.json").read_text("utf-8")), policies)


def by_role(run):
    """Return a run whose policy has one primary, a ratio, and says band and rest for each pool."""
    spec = run.policies[0]["spec"]
    del spec["primaries"][1:]
    spec["pd_ratio"] = {
        "prefill": 13, "decode": 5, "value": 2.6, "low": 2.5, "high": 2.7, "max_deviation": 0.1,
        "status": "ok", "evidence": "", "gpu_types": {},
    }  # fmt: skip
    spec["cooldown"] |= {"scale_out_s": 300.0, "scale_in_s": 600.0}
    for key in ("hysteresis", "cooldown"):
        shared = {name: value for name, value in spec[key].items() if name != "by_role"}
        spec[key] = shared | {"by_role": {role: dict(shared) for role in ("prefill", "decode")}}
    return run


ONE, TWO = by_role(golden("simulated-days")), golden("dynamo-pd")
METRIC = "prefill_tps_effective@prefill"
TARGET = f"spec.primaries[{METRIC}].target_per_instance.value"


def compared(change, base=ONE):
    """Return the comparison of a run and a copy with one change to its policy document and its service."""
    other = copy.deepcopy(base)
    change(other.policies[0], other.summary["services"][0])
    return compare_runs(base, other)


def only(found):
    """Return the one change that there is."""
    (change,) = found.changes
    return change


def spec(*keys):
    """Return a change of one field below spec: keys, then the new value."""

    def change(document, _service):
        node = document["spec"]
        for key in keys[:-2]:
            node = node[key]
        node[keys[-2]] = keys[-1]

    return change


def scaled(factor, *keys):
    """Return a change of one number below spec by a factor."""

    def change(document, _service):
        node = document["spec"]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] *= factor

    return change


@pytest.mark.parametrize("run", [ONE, TWO])
def test_a_run_is_the_same_as_itself(run):
    """Nothing changes, and every part was looked at."""
    found = compare_runs(run, copy.deepcopy(run))
    assert (found.changes, found.not_compared) == ((), ())
    assert (found.changed, found.decision_changed) == (False, False)
    assert found.unchanged["policy"] > 60
    assert {"decision", "policy", "signals", "capacity", "backtest"} <= set(found.unchanged)
    assert sentence(found) == "Nothing changed."


def leaves(node, path=()):
    if isinstance(node, dict):
        node = node.items()
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        node = enumerate(node)
    else:
        yield path
        return
    for key, below in node:
        yield from leaves(below, (*path, key))


def left_out(path):
    """Whether a field says where a value is from, was an interval of schema v1, or sums up those by role."""
    sums = path[0] in ("hysteresis", "cooldown") and len(path) == 2
    ends = path[-2] == "target_per_instance" and path[-1] in ("low", "high") if len(path) > 1 else False
    return path[-1] == "evidence" or sums or ends


def test_every_field_of_a_policy_is_compared():
    """Whatever leaf of the document changes is found, but for links and sums of what is compared by role."""
    document = ONE.policies[0]
    fields = list(leaves(document["spec"]))
    unseen = []
    for path in fields:
        other = copy.deepcopy(document)
        node = other["spec"]
        for key in path[:-1]:
            node = node[key]
        value = node[path[-1]]
        node[path[-1]] = value * 1.5 + 1 if isinstance(value, int | float) else "another"
        found = policy_changes("a", document, other)
        if all(change.relation == "same" for change in found):
            unseen.append(path)
    assert len(fields) > 70
    assert unseen == [path for path in fields if left_out(path)]


def test_a_field_that_no_code_knows_is_compared():
    """A new field, at any depth, needs no new code."""
    one = copy.deepcopy(ONE)
    one.policies[0]["spec"]["guards"][0]["window"] = {"over_s": 60}
    found = compared(spec("guards", 0, "window", {"over_s": 90}), one)
    assert (only(found).path, only(found).unit) == ("spec.guards[ttft@prefill].window.over_s", "s")
    assert change_text(only(found)) == "guards ttft@prefill, window, over: 60 → 90 s (+50.0 %)"
    gone = only(compared(lambda document, _: document["spec"]["guards"][0].pop("window"), one))
    assert (gone.relation, gone.relevance) == ("removed", "note")


@pytest.mark.parametrize(
    ("change", "acts"),
    [
        (scaled(1.09, "primaries", 0, "target_per_instance", "value"), False),
        (scaled(1.10, "primaries", 0, "target_per_instance", "value"), False),
        (scaled(1.11, "primaries", 0, "target_per_instance", "value"), True),
        (scaled(0.89, "primaries", 0, "target_per_instance", "value"), True),
        (scaled(1.11, "pd_ratio", "value"), True),
        (scaled(1.09, "pd_ratio", "value"), False),
        (spec("bounds", "prefill", "max", 24), False),
        (spec("bounds", "prefill", "max", 25), True),
        (spec("bounds", "prefill", "min", 3), True),
        (spec("mode", "hold"), True),
        (spec("controller", "hpa"), True),
        (spec("primaries", 0, "target_per_instance", "status", "floor"), True),
        (spec("primaries", 0, "promql", "sum(x)"), True),
        (spec("primaries", 0, "signal", "gpu_util"), True),
        (spec("pd_ratio", "status", "drifting"), True),
        (spec("pd_ratio", None), True),
        (spec("periodic", [{"from": "08:00", "to": "20:00", "days": [], "decode": 4, "prefill": 9}]), True),
        (scaled(2.0, "cooldown", "by_role", "decode", "scale_in_s"), False),
        (scaled(2.0, "hysteresis", "by_role", "decode", "scale_out_ratio"), False),
        (spec("step", "max_in_fraction", 0.1), False),
        (spec("guards", []), False),
    ],
)
def test_what_asks_for_action(change, acts):
    """Mode, metric, controller, a status, a target, ratio or bound that moved by more than a tenth."""
    found = compared(change)
    assert found.changed
    assert found.decision_changed is acts
    begin = "Something changed that you must act on" if acts else "Nothing changed that you must act on; "
    assert sentence(found).startswith(begin)


QUERY = 'sum(rate(a{job="b-2"}[2m])) + sum(avg_over_time(w[2m])) * '


@pytest.mark.parametrize(
    ("before", "after", "acts"),
    [
        ("8.76083", "8.66417", False),
        ("8.76083", "9.9", True),
        ("8.7", "8.7 + 1", True),
        ("-1.5e-3", "1.5e-3", True),
    ],
)
def test_a_weight_in_a_query_is_a_number(before, after, acts):
    """Weeks alike fit weights a little apart: only one that moved by more than 10 % asks for action."""
    base = copy.deepcopy(ONE)
    base.policies[0]["spec"]["primaries"][0]["promql"] = QUERY + before
    found = compared(spec("primaries", 0, "promql", QUERY + after), base)
    assert only(found).path.endswith("promql")
    assert found.decision_changed == acts


def test_why_a_ratio_moved_is_said_once_another_cause_holds():
    """The reason's own words, to act on with another status; the same cause in other words is none."""

    def reason(code, text, status="floor"):
        def change(_document, service):
            service["pd_ratio"]["reason"] = {"code": code, "text": text, "value": None, "limit": None}
            service["pd_ratio"]["status"] = status

        return change

    base = copy.deepcopy(ONE)
    reason("capacity_floor", "a floor")(None, base.summary["services"][0])
    said = f"the mix moves, so no ratio is right; what moved is prompt length{', 704 to 1,429 tokens' * 3}"
    found = compared(reason("mix_moves", said, "drifting"), base)
    assert [change_text(change) for change in leading(found.to_act)] == [
        f"reason for the P/D ratio: \n      was a floor → \n      is  {said}"
    ]
    assert sentence(found).endswith("that you must act on: P/D ratio: the mix moves, so no ratio is right.")
    assert not compared(reason("mix_moves", said), base).decision_changed
    assert not compared(reason("capacity_floor", "a floor, still"), base).changes


def test_what_a_request_brought_is_told():
    """Tokens of a prompt and of an answer, from the totals; no request, no mean."""

    def longer(_document, service):
        service["totals"]["output_tokens"] *= 1.2

    found = compared(longer)
    assert only(found).what == "tokens of an answer, mean"
    assert only(found).moved_ratio == pytest.approx(0.2)
    assert not found.decision_changed

    def none(_document, service):
        service["totals"]["requests"] = 0.0

    assert {change.relation for change in compared(none).changes} == {"removed"}


def test_other_cooldowns_are_told_and_ask_for_no_action():
    """Old → new with the unit, pool by pool."""
    found = compared(scaled(1.5, "cooldown", "by_role", "decode", "scale_in_s"))
    assert (only(found).path, only(found).relevance) == ("spec.cooldown.decode.scale_in_s", "note")
    assert change_text(only(found)) == "cooldown, decode, scale in: 600 → 900 s (+50.0 %)"


def test_another_metric_is_told_as_such_first():
    """The metrics that are followed, then the entries that came and went."""
    found = compared(spec("primaries", 0, "signal", "gpu_util"))
    assert change_text(found.changes[0]) == f"metric: {METRIC} → gpu_util@prefill"
    assert {change_text(change) for change in found.changes[1:]} >= {
        f"metric {METRIC} is gone",
        "metric gpu_util@prefill is new",
    }


def test_verdicts_count_where_the_decision_stands_on_them():
    """That of the recommended signal asks for action, that of a signal nobody follows does not."""
    rows = ONE.summary["services"][0]["signals"]
    best = next(n for n, row in enumerate(rows) if row["signal"] == "decode_tps")
    found = compared(lambda _, service: service["signals"][best].update(verdict="guard"))
    assert change_text(only(found)) == "verdict on decode_tps@decode: proportional → guard"
    assert found.decision_changed
    other = next(n for n, row in enumerate(rows) if row["verdict"] == "unusable")
    assert not compared(lambda _, service: service["signals"][other].update(verdict="guard")).decision_changed
    assert compared(lambda _, service: service.update(recommended=None)).decision_changed


def capacity(**values):
    return lambda _, service: service["capacity"][1].update(values)


OK = {"per_instance": 1200.0, "ci": [1100.0, 1300.0], "status": "ok"}
FLOOR = {"per_instance": 900.0, "ci": [850.0, 1150.0], "status": "floor"}


@pytest.mark.parametrize(
    ("before", "after", "relation", "says"),
    [
        (OK, OK | {"per_instance": 1290.0, "ci": [1250.0, 1400.0]}, "overlap", "intervals overlap"),
        (OK, OK | {"per_instance": 1400.0, "ci": [1300.0, 1500.0]}, "overlap", "intervals overlap"),
        (OK, OK | {"per_instance": 1500.0, "ci": [1400.0, 1600.0]}, "apart", "intervals do not overlap"),
        (OK, OK | {"ci": [1000.0, 1400.0]}, "overlap", "1,200 [1,100, 1,300] → 1,200 [1,000, 1,400]"),
        (OK, OK | {"per_instance": 1201.0, "ci": None}, "moved", "1,200 [1,100, 1,300] → 1,201 tokens/s"),
        (FLOOR, OK, "within_bound", "≥ 900 (floor) → 1,200 [1,100, 1,300] tokens/s per instance; a"),
        (OK, FLOOR, "within_bound", "1,200 [1,100, 1,300] → ≥ 900 (floor)"),
        (OK, FLOOR | {"per_instance": 1250.0}, "within_bound", "lies within it"),
        (OK, FLOOR | {"per_instance": 1400.0}, "past_bound", "the other number lies below it"),
        (FLOOR, FLOOR | {"per_instance": 1000.0}, "moved", "≥ 900 (floor) → ≥ 1,000 (floor)"),
        (FLOOR, {"per_instance": None, "ci": None, "status": "refused"}, "removed", "≥ 900 (floor)"),
    ],
)  # fmt: skip
def test_a_floor_is_a_bound_and_two_estimates_have_intervals(before, after, relation, says):
    """Intervals are compared where both numbers have one; a floor has none, whatever stands beside it."""
    base = copy.deepcopy(ONE)
    base.summary["services"][0]["capacity"][1].update(before)
    found = compared(capacity(**after), base)
    change = next(one for one in found.changes if one.path == "capacity[decode].per_instance")
    assert change.relation == relation
    assert says in change_text(change)
    assert ("overlap" in change_text(change)) is (relation in ("overlap", "apart"))


def test_a_drifting_ratio_has_a_band_and_no_interval():
    """Its ends are fields of their own, and no intervals are compared."""
    one = copy.deepcopy(ONE)
    one.policies[0]["spec"]["pd_ratio"]["status"] = "drifting"
    found = compared(scaled(1.05, "pd_ratio", "value"), one)
    assert (only(found).relation, only(found).before_interval) == ("moved", None)
    assert only(compared(scaled(1.05, "pd_ratio", "low"), one)).path == "spec.pd_ratio.low"


def test_what_all_pools_share_is_the_same_as_said_for_each():
    """One band for both pools equals the same band twice."""
    one = copy.deepcopy(ONE)
    one.policies[0]["spec"]["cooldown"] = {"scale_out_s": 300.0, "scale_in_s": 600.0, "evidence": "default"}
    assert not compare_runs(ONE, one).changes
    one.policies[0]["spec"]["cooldown"]["scale_in_s"] = 700.0
    assert [change.path for change in compare_runs(ONE, one).changes] == [
        "spec.cooldown.prefill.scale_in_s",
        "spec.cooldown.decode.scale_in_s",
    ]


def test_entries_are_paired_by_name():
    """The order of primaries and guards means nothing."""
    assert not compared(lambda document, _: document["spec"]["guards"].reverse()).changes
    swapped = compared(lambda document, _: document["spec"]["primaries"].reverse(), TWO)
    assert [change.path for change in swapped.changes] == ["spec.primaries"]


def first_schema(run):
    """Return a run as the first schemas wrote it: targets with ends of their own, no decision, no reading."""
    found = copy.deepcopy(run)
    found.summary["schema_version"] = 1
    service = found.summary["services"][0]
    del service["decision"]
    for row in service["thresholds"]:
        del row["capacity"]
        row["target_ci"] = [row["target_per_instance"], 2 * row["target_per_instance"]]
    document = found.policies[0]
    document["schema"] = "hs-analysis/policy/v1alpha1"
    for key in ("reading", "controller"):
        document["spec"].pop(key, None)
    for primary in document["spec"]["primaries"]:
        target = primary["target_per_instance"]
        del target["headroom_ratio"], target["capacity"]
        target |= {"low": target["value"], "high": 2 * target["value"]}
    return found


def test_two_schemas_are_compared_in_what_both_have():
    """A field of one schema alone is listed and is no change."""
    older, newer = first_schema(ONE), copy.deepcopy(ONE)
    newer.policies[0]["spec"]["reading"] = {"window_s": 60.0, "out": "newest"}
    newer.summary["services"][0]["decision"]["slo_risk"] = {"under_faults": 0.02}
    found = compare_runs(older, newer)
    assert (found.changes, found.decision_changed) == ((), False)
    assert "decision.slo_risk.under_faults" in found.not_compared
    target = f"spec.primaries[{METRIC}].target_per_instance"
    assert {f"{target}.headroom_ratio", f"{target}.capacity", "spec.reading"} <= set(found.not_compared)
    newer.policies[0]["spec"]["primaries"][0]["target_per_instance"]["value"] *= 1.2
    assert [change.path for change in compare_runs(older, newer).to_act] == [TARGET]


def test_the_capacity_of_a_target_is_read_from_the_policy():
    """It is one number with its interval, or a bound where the target is a floor; the decision counts."""
    newer = copy.deepcopy(ONE)
    moved = {"value": 3500.0, "low": 3400.0, "high": 3600.0}
    change = only(compared(spec("primaries", 0, "target_per_instance", "capacity", moved), newer))
    assert (change.relation, change.before_interval) == ("overlap", (3307.2, 3582.6))
    floor = compared(spec("primaries", 0, "target_per_instance", "status", "floor"), newer)
    assert [one.relation for one in floor.changes if "capacity" in one.path] == ["within_bound"]
    kept = compared(lambda _, service: service["decision"].update(recommend="keep"), newer)
    assert change_text(only(kept)) == "recommend: apply → keep"
    assert kept.decision_changed


@pytest.mark.parametrize("where", ["summary", "policy"])
def test_a_schema_of_the_future_is_refused_in_one_line(where):
    """It names the run, what it has and what is known."""
    other = copy.deepcopy(ONE)
    if where == "summary":
        other.summary["schema_version"] = 3
    else:
        other.policies[0]["schema"] = "hs-analysis/policy/v2"
    with pytest.raises(RunFolderError, match=r"simulated-days: .*(3|v2).* reads .*1 and .*2; compare with"):
        compare_runs(ONE, other)


def test_services_that_came_and_went_are_told():
    """Each by name, and they ask for action; the services of both are compared all the same."""
    found = compare_runs(ONE, TWO)
    assert [(change.service, change.relation) for change in found.to_act] == [
        ("demo/m-large", "removed"),
        ("-/sim-llama-8b", "added"),
    ]
    assert "demo/m-large: service is gone; -/sim-llama-8b: service is new." in sentence(found)


def test_another_input_alone_is_no_change():
    """Window, limits and files are said as what the runs were made from."""
    other = copy.deepcopy(ONE)
    other.summary["slo"]["ttft_s"] = 2.0
    other.summary["inputs"].pop()
    found = compare_runs(ONE, other)
    assert (found.changed, {change.relevance for change in found.changes}) == (False, {"context"})
    assert [change_text(change) for change in found.changes] == [
        "SLO, TTFT: 2.5 → 2 s (−20.0 %)",
        "inputs: 21 files → 20 files, 20 of them the same",
    ]
    assert sentence(found).endswith("what the runs were made from differs: SLO, TTFT, inputs.")


def test_intervals_of_hours_do_not_tell_runs_apart():
    """Scores apart by more than what moves within a day: no intervals; by more than days differ: apart."""
    name = ONE.summary["services"][0]["replay"]["policies"][0]["policy"]
    for basis, relation in (("hours", "moved"), ("days", "apart")):
        runs = []
        for saved in (0.1, 0.3):
            run = copy.deepcopy(ONE)
            run.summary["services"][0]["replay"]["policies"][0].update(
                vs_recorded=saved, vs_recorded_ci=[saved - 0.01, saved + 0.01], interval_basis=basis
            )
            runs.append(run)
        change = only(compare_runs(*runs))
        assert (change.path, change.relation) == (f"replay.policies[{name}].vs_recorded", relation)
        assert change_text(change).startswith(
            f"{name}: saved against recorded: 10 → 30 %" if basis == "hours" else name
        )


def test_a_small_difference_is_shown_with_the_digits_that_tell_it():
    """Old and new never read alike."""
    change = only(compared(scaled(1.0001, "hysteresis", "by_role", "decode", "scale_out_ratio")))
    before, after = change_text(change).removesuffix(" (+0.0 %)").partition(": ")[2].split(" → ")
    assert before != after


def test_another_setting_of_the_controller_is_no_matter_to_act_on():
    """The name of the candidate differs, and its backtest is compared with that of the other one."""

    def tuned(_document, service):
        for row in (*service["selection"], *service["replay"]["policies"]):
            if row["policy"] == name:
                row.update(policy=f"{name}, 60 s mean, out above 1.1", actions_per_day=actions + 5)

    (chosen,) = (row for row in ONE.summary["services"][0]["selection"] if row["chosen"])
    row = ONE.summary["services"][0]["replay"]["policies"][0]
    name, actions = chosen["policy"], row["actions_per_day"]
    assert row["policy"] == name
    found = compared(tuned)
    assert not found.decision_changed
    assert [change.path for change in found.changes] == [
        "selection", "replay.policies[the selected policy].actions_per_day",
    ]  # fmt: skip


def test_the_figures_of_a_decision_are_shares():
    """Hours saved and risk are percentages; what the backtest holds as well is not listed twice."""

    def decided(saved, risk):
        found = copy.deepcopy(ONE)
        found.summary["services"][0]["decision"].update(
            why=f"saves {saved}", hours_saved_ratio=saved, hours_saved_ci=[saved, saved],
            instance_hours_saved=100 * saved, slo_risk={"under_faults": risk},
        )  # fmt: skip
        return found

    found = compare_runs(decided(0.1, 0.02), decided(0.2, 0.03))
    assert [change_text(change) for change in found.changes] == [
        "hours saved: 10 → 20 %", "SLO risk, under faults: 2 → 3 %",
    ]  # fmt: skip

"""How a policy is put in place: order, watching, the way back, and one guide for every output."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from export.scenes import full_policy
from outside import needs
from report.test_answer import DECISION, PAIR, SLO, service
from test_prose import prose

from hs_analysis.export import ExportOptions, Measured, Workload, export
from hs_analysis.export.model import load_documents
from hs_analysis.pipeline.records import to_plain
from hs_analysis.report.answer import answer_of
from hs_analysis.report.apply import ExportedFile, ServiceSection, guide, markdown, next_command
from hs_analysis.report.choice import choose
from hs_analysis.report.decision_words import LOADS
from hs_analysis.report.first_screen import first_screen
from hs_analysis.schema.exported import ApplyGuide
from hs_analysis.schema.names import TARGET_TITLES
from hs_analysis.schema.results import Estimate

POOLS = [
    {"role": role, "now": now, "recommended": 2.0, "at_load": {"peak": {"now": now, "recommended": 3.0}}}
    for role, now in (("prefill", 10.2), ("decode", 4.0))
]
SCALE_IN = {
    "role": "decode", "grace_s": 30.0, "grace_from": "default", "longest_request_bound_s": 120.0,
    "longest_request_s": 90.0, "requests_cut_per_day": 12.0,
    "change": "terminationGracePeriodSeconds: 120",
}  # fmt: skip
MADE = DECISION | {"pools": POOLS, "scale_in": SCALE_IN}
MEASURED = Measured(
    (0.45, 0.56), {"prefill": 8.0, "decode": 8.0}, Estimate(9000.0, 8500.0, 9500.0), 1500.0, 0.7
)


def files_of(target: str, **changes: Any) -> list[ExportedFile]:
    """Return the files of a target for a whole policy."""
    workloads = {role: Workload(f"chat-{role}") for role in ("prefill", "decode")}
    serving = dict.fromkeys(("LLMInferenceService", "RoleBasedGroup"), "chat")
    options = ExportOptions(measured=MEASURED, namespace="prod", workloads=workloads, serving=serving)
    made = export(full_policy(**changes), target, options)
    texts = {name: text for name, text in made.files.items() if name.endswith(".yaml")}
    return [ExportedFile(f"exports/{target}/{n}", tuple(load_documents(t))) for n, t in texts.items()]


def guide_of(target: str, **changes: Any) -> ApplyGuide:
    """Return how a target is put in place."""
    return guide(MADE, target, files_of(target, **changes), ["The namespace is not in the dump."])


def commands(steps: Any) -> list[str]:
    """Return the commands of steps."""
    return [step.command for step in steps if step.command]


@pytest.mark.parametrize("target", TARGET_TITLES)
def test_every_file_of_a_target_is_put_in_place_and_taken_back(target: str) -> None:
    """Each path is in one step at least; rules come first, and what is applied is looked at before."""
    found = guide_of(target)
    said = " ".join(f"{step.command} {step.why}" for step in found.steps)
    assert all(file.path in said for file in files_of(target))
    assert "rules.yaml" in found.steps[0].command
    for number, command in enumerate(lines := commands(found.steps)):
        if command.startswith("kubectl apply"):
            assert lines[number - 1] == command.replace("apply", "diff")
    assert found.back
    assert found.watch


@pytest.mark.parametrize("target", ["keda", "hpa", "rbg", "llmd"])
def test_the_way_back_deletes_the_objects_and_sets_the_counts_that_ran(target: str) -> None:
    """What ran at peak load, rounded up: a way back at night has to carry the next peak."""
    back = commands(guide_of(target).back)
    assert back[0].startswith(f"kubectl delete -f exports/{target}/prod.chat.")
    scaled = [command for command in back if command.startswith("kubectl scale")]
    counts = {"chat-prefill": 11, "chat-decode": 4}
    assert {name: f"{name} --replicas={n} -n prod" in " ".join(scaled) for name, n in counts.items()} == {
        "chat-prefill": True,
        "chat-decode": True,
    }


def saved_object(kind: str, name: str, scales: str, **metadata: Any) -> dict[str, Any]:
    """An autoscaler as a cluster answers it."""
    named = {"name": name, "uid": "1", "resourceVersion": "2", **metadata}
    return {"kind": kind, "metadata": named, "spec": {"scaleTargetRef": {"name": scales}}}


@pytest.mark.outside("jq")
def test_rivals_of_the_new_objects_are_saved_and_named_for_deletion() -> None:
    """None that KEDA keeps for its own, none of other pods, and not what is applied over."""
    bodies = [
        body for file in files_of("keda") for body in file.documents if body.get("kind") == "ScaledObject"
    ]
    (new,) = (body["metadata"]["name"] for body in bodies if "prefill" in body["metadata"]["name"])
    items = [
        saved_object("ScaledObject", new, "chat-prefill"),
        saved_object("ScaledObject", "old", "chat-decode"),
        saved_object("HorizontalPodAutoscaler", "keda-hpa-old", "chat-decode", ownerReferences=[{}]),
        saved_object("HorizontalPodAutoscaler", "plain", "chat-prefill"),
        saved_object("HorizontalPodAutoscaler", "web", "web"),
    ]
    save, delete = (c for c in commands(guide_of("keda").check) if "jq" in c)
    (kept,) = re.findall(r"jq '(.*)' > before.json", save)
    (rivals,) = re.findall(r"jq -r '(.*)' before.json \| xargs -r kubectl delete -n prod", delete)
    saved = run_jq(kept, json.dumps({"items": items}))
    assert [one["metadata"] for one in json.loads(saved)["items"]] == [
        {"name": name} for name in (new, "old", "plain", "web")
    ]
    assert run_jq("-r", rivals, saved).split() == ["scaledobject/old", "horizontalpodautoscaler/plain"]


def run_jq(*given: str) -> str:
    """What jq prints of the last argument."""
    found = subprocess.run(
        [needs("jq"), *given[:-1]], input=given[-1], capture_output=True, text=True, check=True
    )
    return found.stdout


def test_a_patch_is_taken_back_by_a_patch() -> None:
    """Scaling goes, and the fixed counts come back that exclude it."""
    (command,) = commands(guide_of("kserve").back)
    assert command == (
        "kubectl patch llminferenceservice chat -n prod --type merge -p "
        '\'{"spec": {"replicas": 4, "scaling": null, "prefill": {"scaling": null, "replicas": 11}}}\''
    )


def test_alert_rules_are_named_by_the_assumption_that_they_watch() -> None:
    """Those of the rules file, by their names; an assumption without a rule says so."""
    groups = [{"rules": [{"alert": "HsRatioOutOfBand"}, {"record": "a:b:c"}, {"alert": "HsOwn"}]}]
    rules = ExportedFile("exports/keda/a.rules.yaml", ({"groups": groups},))
    found = guide(MADE, "keda", [rules, *files_of("keda")])
    named = {one.assumption: one.alerts for one in found.alerts}
    assert named["Prefill and decode keep the P/D ratio"] == ("HsRatioOutOfBand",)
    assert named["The signal can be read"] == ()
    assert named["Anything else"] == ("HsOwn",)
    assert "| The signal can be read | no rule is written for it |" in page(found)


def test_rules_are_checked_each_and_then_loaded_together() -> None:
    """A step is named by what its command does; how they are loaded is said once, before what reads them."""
    rules = ExportedFile("exports/rules/a.rules.yaml", ({"groups": [{"rules": []}]},))
    alerts = ExportedFile("exports/rules/a.alerts.yaml", ({"groups": [{"rules": []}]},))
    acting = [file for file in files_of("keda") if file.kind != "rules"]
    first, second, load, look, *_ = guide(MADE, "keda", [rules, alerts, *acting]).steps
    for step, file in ((first, rules), (second, alerts)):
        assert (step.command, step.why) == (f"promtool check rules {file.path}", "Check the rules.")
    assert load.command == ""
    assert load.why.startswith(f"Name {rules.path} and {alerts.path} under rule_files of Prometheus")
    assert "PrometheusRule" in load.why
    assert look.command.startswith("kubectl diff")
    without = guide(MADE, "keda", acting).steps
    assert not any("rule_files" in step.why for step in without)


def page(found: ApplyGuide, **decision: Any) -> str:
    """Return APPLY.md of one service."""
    return markdown(
        [ServiceSection("-/m", MADE | decision, found, {"hpa": guide_of("hpa")})], "Written by a test."
    )


def test_terminal_report_and_page_read_the_same_steps() -> None:
    """The next command is the step that shows the change, and the first screen has the page's commands."""
    found = guide_of("keda")
    whole = service() | {"decision": MADE, "apply": to_plain(found)}
    look = "kubectl diff -f exports/keda/prod.chat.scaledobjects.yaml"
    assert next_command(whole, ".") == look
    said = answer_of(whole, choose(whole, PAIR), SLO, "reports/x")
    assert said.next_step == f"Next: {look.replace('exports', 'reports/x/exports')}"
    shown = [one["command"] for one in first_screen(whole, choose(whole, PAIR))["apply"] if one["command"]]
    assert shown == commands([*found.check, *found.steps, *found.watch])
    assert all(f"   {command}\n" in page(found) for command in shown)


def test_counts_to_expect_never_fall_as_the_load_rises() -> None:
    """Those of a window shorter than the policy's own lags do, and are given as a range."""
    for counts, said in (((2.0, 2.0, 3.5), True), ((5.5, 7.0, 6.2), False)):
        loads = {load: {"recommended": one} for load, one in zip(LOADS, counts, strict=True)}
        decision = MADE | {"pools": [POOLS[0] | {"at_load": loads}]}
        watch = " ".join(step.why for step in guide(decision, "keda", files_of("keda"), []).watch)
        assert ("Expect these prefill instances: 2.0 at low load" in watch) == said
        assert ("Expect 5.5 to 7.0 prefill instances; they did not rise" in watch) != said


def test_what_is_not_recommended_says_so_and_why_first() -> None:
    """The report shows no step, and the page warns before its commands."""
    found = guide_of("keda")
    kept = MADE | {"recommend": "keep", "why": "nothing beats what runs"}
    whole = service() | {"decision": kept, "apply": to_plain(found)}
    assert first_screen(whole, choose(whole, PAIR))["apply"] == []
    text = page(found, recommend="keep", why="nothing beats what runs").splitlines()
    assert text[0] == "WARNING: applying this is not recommended: nothing beats what runs."
    assert text[8].startswith("**Applying this is not recommended**: nothing beats what runs.")


def test_without_an_object_there_is_nothing_to_apply() -> None:
    """A policy on hold has rules alone: it says what to record, and shows no command."""
    found = guide_of("keda", mode="hold")
    assert (found.steps, found.check, found.back) == ((), (), ())
    text = markdown([ServiceSection("-/m", MADE | {"recommend": "record"}, found, {})], "Written by a test.")
    assert "**There is nothing to apply**" in text
    assert "- Record seven days" in text
    assert "kubectl" not in text


def test_the_page_has_what_a_scale_in_cuts_and_what_is_not_filled_in() -> None:
    """The grace period, the longest requests and how many are cut in a day, in the decision's words."""
    text = page(guide_of("keda"))
    assert "- The namespace is not in the dump." in text
    assert "decode pods have 30 s (the default) to end their requests: 12.0 requests a day are cut" in text


@pytest.mark.parametrize("target", TARGET_TITLES)
def test_the_page_is_plain_prose(target: str) -> None:
    """The rules of the hand-written pages: no private word, short sentences, easy to read."""
    text = page(guide_of(target))
    assert prose().banned_in(text) == []
    found = prose().measure(text)
    assert found.sentence_words <= prose().SENTENCE_WORDS
    assert found.reading_ease >= prose().READING_EASE


def test_policies_of_one_page_do_not_share_commands() -> None:
    """Each service has a part, and the files named in it are its own."""
    own = guide_of("keda")
    other = guide(MADE, "keda", files_of("keda", service="prod/other"))
    text = markdown(
        [ServiceSection("prod/chat", MADE, own, {}), ServiceSection("prod/other", MADE, other, {})], "Test."
    )
    first, second = text.split("## prod/other\n")
    assert "prod.other" not in first
    assert "prod.chat" not in second


def test_a_file_that_takes_the_place_of_another_is_applied_alone() -> None:
    """What it is, that never both, in which order, and the way back."""
    files = ("exports/llmd/m.token-aware.yaml", "exports/llmd/m.slo-aware.yaml")
    section = ServiceSection("-/m", MADE, guide_of("keda"), {}, instead={"llmd": files})
    text = markdown([section], "Written by a test.")
    (part,) = text.split("### The other file of `llmd`")[1:]
    assert "SLO-aware guide" in part
    assert "never both" in part
    commands = [line.strip() for line in part.splitlines() if line.strip().startswith("kubectl")]
    gone = "kubectl delete --ignore-not-found -f"
    assert commands == [
        f"{gone} {files[0]}",
        f"kubectl apply -f {files[1]}",
        f"{gone} {files[1]} && kubectl apply -f {files[0]}",
    ]
    assert prose().banned_in(part) == []
    assert prose().measure(part).sentence_words <= prose().SENTENCE_WORDS
    assert "The other file" not in page(guide_of("keda"))

"""llm-d's token-aware ScaledObjects of a policy: whose numbers they hold, what a missing metric does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy
from export.test_keda import two_primaries
from export.test_losses import ONE_VALUE, bodies, changed, leaves

from hs_analysis.export import ExportOptions, Measured, Workload, export
from hs_analysis.export.calibration import lint_calibration
from hs_analysis.export.llmd import lint_llmd, queue_budget_s
from hs_analysis.export.model import IdleTtft, load_documents
from hs_analysis.policy.model import Bounds
from hs_analysis.schema.results import Estimate

SCHEMA = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text("utf-8"))
MEASURED = Measured(
    prefill_capacity=Estimate(4000.0, 3500.0, 4600.0),
    prompt_tokens=1000.0,
    kv_usage_target=0.7,
    slo_quantile=0.95,
)
FULL = ExportOptions(measured=MEASURED)
POLICIES = {"one primary": full_policy(), "two primaries": two_primaries()}


def lacking(**changes):
    return ExportOptions(measured=replace(MEASURED, **changes))


def text_of(policy, options=FULL):
    files = export(policy, "llmd", options).files
    return next((text for name, text in files.items() if name.endswith("token-aware.yaml")), "")


def objects(policy, options=FULL):
    found = load_documents(text_of(policy, options))
    return {body["metadata"]["name"].split("-")[1]: body for body in found}


def trigger(body):
    (found,) = body["spec"]["triggers"]
    return found["metadata"]


@pytest.mark.parametrize("name", POLICIES)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """They are ScaledObjects of KEDA like any other."""
    found = objects(POLICIES[name])
    assert set(found) == {"prefill", "decode"}
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_llmd(body) == []


def test_the_numbers_are_those_that_were_measured():
    """Backlog ÷ 4000 tokens/s against 0.65 × (1 s − 1000 ÷ 4000), and the KV target of decode."""
    found = objects(full_policy())
    prefill, decode = trigger(found["prefill"]), trigger(found["decode"])
    assert prefill["query"].endswith(") / 4000")
    assert math.isclose(float(prefill["threshold"]), 0.65 * (1.0 - 1000.0 / 4000.0))
    assert decode["threshold"] == "0.7"
    assert "kv_cache_usage_perc" in decode["query"]
    assert found["prefill"]["spec"]["maxReplicaCount"] == 12
    assert "not the router's idle peakPrefillThroughput" in text_of(full_policy())


@pytest.mark.parametrize(("quantile", "budget"), [(0.99, 0.4875), (0.9, 0.4875), (0.5, 0.75), (None, 0.75)])
def test_an_objective_of_the_tail_leaves_less_of_the_budget(quantile, budget):
    """The signal is an average: half of the requests wait longer than it says."""
    assert queue_budget_s(full_policy(), lacking(slo_quantile=quantile)) == pytest.approx(budget)


def test_a_missing_metric_holds_the_count_and_that_is_said():
    """llm-d's own query would read it as an idle pool."""
    for body in objects(full_policy()).values():
        assert "vector(" not in trigger(body)["query"]
        assert trigger(body)["ignoreNullValues"] == "false"
        assert body["spec"]["fallback"]["behavior"] == "currentReplicas"
        idle = {**trigger(body), "query": f"{trigger(body)['query']} or vector(0)"}
        body["spec"]["triggers"][0]["metadata"] = idle
        assert any("reads a missing metric as idle" in problem for problem in lint_llmd(body))
    losses = {loss.item: loss.text for loss in export(full_policy(), "llmd", FULL).losses}
    assert "or vector(0)" in losses["on_missing_metric"]


def test_decode_without_a_kv_target_keeps_the_policys_signal():
    """No threshold is made up."""
    options = lacking(kv_usage_target=None)
    assert trigger(objects(full_policy(), options)["decode"])["query"] == full_policy().primaries[0].promql
    texts = [loss.text for loss in export(full_policy(), "llmd", options).losses]
    assert any("no KV target is measured" in text for text in texts)


@pytest.mark.parametrize(
    ("policy", "options", "says"),
    [
        (full_policy(mode="hold"), FULL, "too few episodes"),
        (full_policy(mode="periodic"), FULL, "no timetable"),
        (full_policy(), ExportOptions(), "divisor is not guessed"),
        (full_policy(), lacking(prompt_tokens=None), "prompt tokens of a request are not recorded"),
        (full_policy(), lacking(prompt_tokens=5000.0), "takes 1.25 s"),
        (full_policy(guards=()), FULL, "SLO on TTFT is not known"),
        (full_policy(bounds={"decode": Bounds(3, 24)}), FULL, "no prefill pool"),
    ],
)
def test_what_was_not_measured_is_not_written(policy, options, says):
    """No object, and the reason is the loss."""
    assert not text_of(policy, options)
    (loss,) = export(policy, "llmd", options).losses
    assert says in loss.text


def test_queries_pick_the_pods_of_a_known_workload():
    """Else a blank: a role's word in the names of pods would be a guess; always within the namespace."""
    known = replace(FULL, namespace="llm", workloads={"prefill": Workload("chat-p")})
    found = objects(full_policy(), known)
    assert 'endpoint_name=~"chat-p-.*"' in trigger(found["prefill"])["query"]
    assert 'pod=~"fill-in-decode-pods-.*"' in trigger(found["decode"])["query"]
    assert all('namespace="llm"' in trigger(body)["query"] for body in found.values())


def test_every_item_of_a_policy_is_in_the_output_or_in_the_losses():
    """Change any one field: either the objects change, or a loss speaks of it."""
    policy = two_primaries()
    made = export(policy, "llmd", FULL)
    before, unsaid = bodies(made), []
    header_only = ("window", "inputs_sha256", "run", "tool_version", "controller")
    for path, _ in leaves(policy):
        if path in ONE_VALUE or path.partition(".")[0] in header_only:
            continue
        if any(loss.covers(path) for loss in made.losses):
            continue
        if bodies(export(changed(policy, "", path), "llmd", FULL)) == before:
            unsaid.append(path)
    assert unsaid == []
    assert sum(line.startswith("#") for line in text_of(replace(policy, recommended=False)).splitlines()) <= 6


def record_of(options=FULL):
    files = export(POLICIES["one primary"], "llmd", options).files
    (text,) = (text for name, text in files.items() if name.endswith("calibration.json"))
    return json.loads(text)


def test_the_calibration_record_has_our_interval_and_is_not_applied():
    """Status NOT_RUN, as no chunk is known; capacity, its interval and the fingerprint ride along."""
    record = record_of()
    assert lint_calibration(record) == []
    assert (record["schema_version"], record["status"], record["applied"]) == (1, "NOT_RUN", False)
    assert record["valid_samples"] == 0
    assert not {"chunk_tokens", "median_ttft_seconds", "peak_prefill_tokens_per_second"} & set(record)
    own = record["hs_analysis"]
    assert own["prefill_tokens_per_second"] == {"value": 4000.0, "low": 3500.0, "high": 4600.0}
    assert own["fingerprint"].startswith("sha256:")
    assert "metrics tell no chunk" in own["reason"]


def test_the_calibration_record_has_the_idle_ttft_where_it_was_measured():
    """Requests that found the service empty, and their prompts."""
    record = record_of(lacking(idle_ttft=IdleTtft(0.5, 24, 2048.0)))
    assert lint_calibration(record) == []
    assert (record["median_ttft_seconds"], record["valid_samples"]) == (0.5, 24)
    assert record["hs_analysis"]["idle_prompt_tokens"] == 2048.0
    assert record["status"] == "NOT_RUN"


def test_the_calibration_record_of_a_policy_that_is_not_recommended_says_so():
    """JSON has no first line for it."""
    policy = full_policy(recommended=False)
    options = replace(FULL, advised_against="nothing beats what runs")
    files = export(policy, "llmd", options).files
    (text,) = (text for name, text in files.items() if name.endswith("calibration.json"))
    assert json.loads(text)["hs_analysis"]["warning"].endswith("nothing beats what runs.")


APPLIED = {
    "schema_version": 1, "status": "OK", "fingerprint": "sha256:1", "chunk_tokens": 8192, "valid_samples": 20,
    "median_ttft_seconds": 0.514, "peak_prefill_tokens_per_second": 15938, "applied": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"schema_version": 2}, ["schema_version is not 1"]),
        ({"status": "DONE"}, ["status is not one of OK, NOT_RUN, FAILED, BLOCKED"]),
        ({"valid_samples": 9}, ["valid_samples is below 10, and the status is OK"]),
        ({"chunk_tokens": None}, ["chunk_tokens is not above 0, and the status is OK"]),
        ({"median_ttft_seconds": 0.0}, ["median_ttft_seconds is not above 0, and the status is OK"]),
        ({"valid_samples": None}, ["valid_samples is below 10, and the status is OK"]),
        ({"fingerprint": ""}, ["fingerprint is empty, and the status is OK"]),
        ({"applied": "no"}, ["applied 'no' is of another type"]),
        ({"peak": 1}, ["peak is no key of the record"]),
    ],
)
def test_a_record_that_the_router_would_skip_is_named(changes, says):
    """What the router's proposal asks of a record of status OK."""
    assert lint_calibration(APPLIED | changes) == says

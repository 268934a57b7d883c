"""Configuration of Dynamo's planner for a policy: what it takes, what it would misread, what is lost."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from current.histories import known
from export.scenes import full_policy
from export.test_keda import two_primaries

from hs_analysis.current.dynamo import read_planner
from hs_analysis.export import ExportOptions, export
from hs_analysis.export.dynamo import lint_planner
from hs_analysis.export.model import Measured, load_documents
from hs_analysis.policy.model import Bounds, Primary, Target

SCHEMA = json.loads((Path(__file__).parent / "planner.schema.json").read_text("utf-8"))
GPUS = ExportOptions(measured=Measured(gpus_per_instance={"prefill": 2.0, "decode": 4.0, "mixed": 8.0}))


def usage(role="decode", target=0.7):
    """Return a policy whose only pool is sized by its KV usage."""
    primary = Primary("kv_usage", role, "ratio", "avg(a)", "vllm", Target(target), "mean")
    bounds = {role: Bounds(3, 24)}
    return full_policy(primaries=(primary,), pd_ratio=None, bounds=bounds)


def written(policy, options=None):
    files = export(policy, "dynamo", options).files
    return next((text for name, text in files.items() if name.endswith("planner.yaml")), "")


def config(policy, options=None):
    (body,) = load_documents(written(policy, options))
    return body


POLICIES = {
    "one primary": full_policy(),
    "two primaries": two_primaries(),
    "usage": usage(),
    "mixed": usage("mixed"),
    "to zero": full_policy(bounds={"prefill": Bounds(0, 12), "decode": Bounds(0, 24)}),
    "decode only": full_policy(bounds={"decode": Bounds(3, 24)}),
    "decode by prefill": replace(
        full_policy(bounds={"decode": Bounds(3, 24)}),
        primaries=(replace(full_policy().primaries[0], role="prefill"),),
    ),
    "decode twice": replace(usage(), primaries=usage().primaries * 2),
}


@pytest.mark.parametrize("options", [None, GPUS], ids=["no GPUs", "GPUs"])
@pytest.mark.parametrize("name", POLICIES)
def test_every_configuration_passes_the_schema_and_the_lint(name, options):
    """No key that the planner does not know, as it would take that in silence."""
    body = config(POLICIES[name], options)
    jsonschema.validate(body, SCHEMA)
    assert lint_planner(body) == []


def test_it_only_advises():
    """The user lets it act; a misspelt or older key would be taken in silence and scale."""
    body = config(full_policy())
    assert body["advisory"] is True
    for wrong in ({"advisry": True}, {"no_operation": True}):
        assert lint_planner({**body, **wrong})
    del body["advisory"]
    assert any("advisory is missing" in problem for problem in lint_planner(body))


def test_without_usage_the_planner_is_asked_for_the_slo():
    """The guards' limits in milliseconds; targets are a loss, as the planner has none to set."""
    body = config(full_policy())
    assert (body["mode"], body["optimization_target"]) == ("disagg", "sla")
    assert (body["ttft_ms"], body["itl_ms"]) == (1000.0, 50.0)
    losses = {loss.item: loss.text for loss in export(full_policy(), "dynamo").losses}
    assert "own model" in losses["primaries"]


def test_the_first_line_says_that_nothing_holds_a_shrinking_pool():
    """It is why the file breaks the SLO more under faults; by thresholds one worker goes at a time."""
    assert "one minute that reads as zero" in written(full_policy()).splitlines()[0]
    assert "one minute that reads as zero" not in written(usage())


def test_usage_is_written_in_percent_at_both_ends_of_the_band():
    """0.7 with a band of 0.9 to 1.05: out above 73.5 %, in below 63 %, and no latency beside it."""
    body = config(usage())
    assert (body["mode"], body["optimization_target"]) == ("decode", "load")
    assert (body["decode_scale_up_kv_rate"], body["decode_scale_down_kv_rate"]) == (73.5, 63.0)
    assert "ttft_ms" not in body
    bare = config(replace(usage(), hysteresis={}))
    assert (bare["decode_scale_up_kv_rate"], bare["decode_scale_down_kv_rate"]) == (77.0, 63.0)


def test_thresholds_read_back_as_the_planners_parameters():
    """The reader of today's objects finds the limits, the floor and the most of the budget."""
    body = config(usage(), GPUS)
    ((role, scaler, _, numbers),) = read_planner(body, known(readable={("kv_usage", "decode"): "mean"}), "")
    assert (role, scaler.limits) == ("decode", (0.735, 0.63))
    assert (scaler.min_endpoint, scaler.max_replicas) == (3, 24)
    assert numbers["max_gpu_budget"] == 96


def test_the_budget_is_that_of_all_pools_or_none():
    """Left out it would be 8 GPUs, and a larger fleet would shrink."""
    assert config(full_policy(), GPUS)["max_gpu_budget"] == 12 * 2 + 24 * 4
    body = config(full_policy())
    assert body["max_gpu_budget"] == -1
    assert "decode_engine_num_gpu" not in body
    losses = {loss.item: loss.text for loss in export(full_policy(), "dynamo").losses}
    assert "no upper bound" in losses["bounds.decode.max"]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (full_policy(mode="hold"), "too few episodes"),
        (full_policy(mode="periodic"), "no timetable"),
        (full_policy(guards=full_policy().guards[:1]), "SLO on TBT is not known"),
        (full_policy(guards=()), "SLO on TTFT and TBT is not known"),
        (full_policy(bounds={}), "no pool"),
        (replace(usage(target=None), guards=()), "SLO on TBT is not known"),
    ],
)
def test_what_the_planner_can_not_hold_is_refused(policy, says):
    """No file, and the reason is the loss: its own goals of 500 and 50 ms are no SLO of the service."""
    assert not written(policy)
    (loss,) = export(policy, "dynamo").losses
    assert says in loss.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.update(decode_scale_up_kv_rate=0.735), "is not above"),
        (lambda b: b.pop("decode_scale_down_kv_rate"), "are needed"),
        (lambda b: b.update(prefill_min_endpoint=2), "refused in mode decode"),
        (lambda b: b.update(decode_min_endpoint=0), "decode_min_endpoint 0"),
        (lambda b: b.update(optimization_target="sla"), "itl_ms is missing"),
        (lambda b: b.update(max_gpu_budget=-2), "max_gpu_budget"),
    ],
)
def test_the_lint_repeats_the_rules_of_the_planner(change, says):
    """What it refuses, and a share where it wants percent, are found and named."""
    body = config(usage())
    change(body)
    assert any(says in problem for problem in lint_planner(body)), lint_planner(body)


def test_the_engine_is_said_only_where_the_signals_name_it():
    """A front end names none, and the planner's own choice is to be checked."""
    front = replace(full_policy().primaries[0], source="dynamo_frontend")
    assert "backend" not in config(full_policy(primaries=(front,)))
    assert "backend (vllm unless said)" in written(full_policy(primaries=(front,)))
    assert config(full_policy())["backend"] == "vllm"
    assert sum(line.startswith("#") for line in written(full_policy(recommended=False)).splitlines()) <= 6

import copy
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from export.scenes import UTIL_PROMQL, full_policy, renamed_keys

from hs_analysis.errors import UsageError
from hs_analysis.export import ExportOptions, Workload, export
from hs_analysis.export.keda import lint_scaled_object
from hs_analysis.export.model import file_stem, load_documents, model_name, plain_number
from hs_analysis.policy.model import Bounds, Cooldown, Hysteresis, PeriodicEntry, Primary, Target

SCHEMA = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text("utf-8"))


def objects(policy, options=None):
    made = export(policy, "keda", options)
    texts = [text for name, text in made.files.items() if name.endswith("scaledobjects.yaml")]
    return {body["metadata"]["name"]: body for text in texts for body in load_documents(text)}


def trigger(body):
    return body["spec"]["triggers"][0]


def two_primaries():
    first = full_policy().primaries[0]
    second = replace(first, signal="prefill_tps", role="prefill", promql="sum(rate(p[5m]))")
    return full_policy(primaries=(first, replace(second, target_per_instance=Target(9000.0))), pd_ratio=None)


POLICIES = {
    "one primary": full_policy(),
    "two primaries": two_primaries(),
    "timetable": full_policy(mode="periodic"),
    "no cooldown": full_policy(cooldown={"decode": Cooldown(None, None)}),
    "bare": full_policy(hysteresis={}, cooldown={}, bounds={}, guards=(), periodic=()),
    "groups": full_policy(unit="group"),
    "long cooldowns": full_policy(cooldown={"decode": Cooldown(4000.0, 9000.0)}),
    "to zero": full_policy(bounds={"prefill": Bounds(0, 12), "decode": Bounds(0, 24)}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """No field that KEDA does not know, none missing, all metadata strings."""
    found = objects(POLICIES[name])
    assert found
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_scaled_object(body) == []


def test_a_mutated_key_fails_schema_or_lint():
    """Renaming any single key of an object is caught, and so is any metadata value that is no string."""
    body = objects(full_policy())["chat-decode"]
    for path, broken in renamed_keys(body):
        invalid = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(broken))
        assert invalid or lint_scaled_object(broken), path
    for key in trigger(body)["metadata"]:
        broken = copy.deepcopy(body)
        trigger(broken)["metadata"][key] = 1
        assert lint_scaled_object(broken)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["spec"].update(minReplicaCount=30), "replica counts"),
        (lambda b: b["spec"].update(triggers=[]), "triggers is empty"),
        (lambda b: b["spec"].pop("fallback"), "fallback is missing"),
        (lambda b: b["spec"].update(pollingInterval=15), "pollingInterval does nothing"),
        (lambda b: b["spec"]["fallback"].pop("replicas"), "fallback.replicas"),
        (lambda b: trigger(b)["metadata"].update(ignoreNullValues="true"), "empty answer would scale in"),
        (lambda b: trigger(b)["metadata"].update(threshold="0.0002"), "at least 0.001"),
        (lambda b: trigger(b)["metadata"].update(threshold="many"), "at least 0.001"),
        (lambda b: trigger(b)["metadata"].update(query="avg(a)"), "not a sum"),
        (lambda b: trigger(b).update(metricType="Value"), "AverageValue"),
        (lambda b: trigger(b).update(type="kafka"), "not one we write"),
        (lambda b: b["metadata"].update(name="Chat_1"), "Kubernetes name"),
        (lambda b: b.update(kind="Scaledobject"), "apiVersion and kind"),
        (lambda b: b["spec"]["scaleTargetRef"].update(name=""), "scaleTargetRef.name"),
    ],
)
def test_the_lint_names_what_a_cluster_would_misread(change, says):
    """Rules across fields that no schema holds are found and named."""
    body = copy.deepcopy(objects(full_policy())["chat-decode"])
    change(body)
    assert any(says in problem for problem in lint_scaled_object(body))


def test_thresholds_give_the_counts_of_the_policy():
    """total ÷ threshold is D for decode and D × ratio for prefill, from one signal."""
    found = objects(full_policy())
    assert trigger(found["chat-decode"])["metadata"]["threshold"] == "3800"
    assert trigger(found["chat-prefill"])["metadata"]["threshold"] == "7600"
    queries = {trigger(body)["metadata"]["query"] for body in found.values()}
    assert queries == {full_policy().primaries[0].promql}
    assert {trigger(body)["metricType"] for body in found.values()} == {"AverageValue"}


def test_a_prefill_primary_sizes_decode_by_the_inverse_ratio():
    """D = P ÷ ratio: decode's threshold is the prefill target × ratio."""
    primary = replace(full_policy().primaries[0], signal="prefill_tps", role="prefill")
    found = objects(full_policy(primaries=(primary,)))
    assert trigger(found["chat-prefill"])["metadata"]["threshold"] == "3800"
    assert trigger(found["chat-decode"])["metadata"]["threshold"] == "1900"


def test_an_object_that_follows_one_signal_holds_the_bound():
    """Where a fixed ratio would be short at times, prefill's threshold is the target ÷ the bound."""
    policy = full_policy()
    bound = replace(policy, pd_ratio=replace(policy.pd_ratio, one_primary_bound=0.95))
    made = export(bound, "keda")
    assert trigger(objects(bound)["chat-prefill"])["metadata"]["threshold"] == "4000"
    assert any("÷ one_primary_bound 0.95" in text for text in made.files.values())


def test_two_primaries_size_their_own_pools_and_use_no_ratio():
    """Each object reads its own signal against its own target."""
    found = objects(two_primaries())
    assert trigger(found["chat-prefill"])["metadata"]["threshold"] == "9000"
    assert trigger(found["chat-prefill"])["metadata"]["query"] == "sum(rate(p[5m]))"
    assert trigger(found["chat-decode"])["metadata"]["threshold"] == "3800"


def test_a_mean_signal_is_summed_over_the_pool():
    """Utilisation: the query is the sum over instances, so that ÷ threshold is a count."""
    primary = Primary("gpu_util", "decode", "ratio", UTIL_PROMQL, "dcgm", Target(0.7), "mean")
    made = export(full_policy(primaries=(primary,)), "keda")
    found = objects(full_policy(primaries=(primary,)))
    total = "sum" + UTIL_PROMQL.removeprefix("avg")
    assert trigger(found["chat-decode"])["metadata"]["query"] == total
    assert trigger(found["chat-decode"])["metadata"]["threshold"] == "0.7"
    assert trigger(found["chat-prefill"])["metadata"]["threshold"] == "1.4", "0.7 ÷ ratio 0.5"
    assert "follows the total over decode" in {loss.item: loss.text for loss in made.losses}["pd_ratio.value"]
    rules = {
        rule["record"]: rule["expr"]
        for rule in load_documents(made.files["prod.chat.rules.yaml"])[0]["groups"][0]["rules"]
    }
    assert rules["service:hs_gpu_util_total:avg5m"] == total
    assert rules["service:hs_gpu_util:avg5m"] == UTIL_PROMQL


@pytest.mark.parametrize(
    "primary",
    [
        Primary("gpu_util", "decode", "ratio", "max(a)", "dcgm", Target(0.7), "mean"),
        Primary("decode_tps", "decode", "tokens/s", "", "vllm", Target(1.0)),
        Primary("decode_tps", "decode", "tokens/s", "sum(a)", "vllm", Target(None, status="refused")),
        Primary("decode_tps", "decode", "tokens/s", "sum(a)", "vllm", Target(0.0)),
        Primary("decode_tps", "decode", "tokens/s", "sum(a)", "vllm", Target(0.0009)),
    ],
)
def test_a_primary_that_can_not_be_carried_out_gets_no_object_and_a_loss(primary):
    """No query of a pool total, or no target above zero: a refusal in the losses, and nothing is written."""
    policy = full_policy(primaries=(primary,))
    assert objects(policy) == {}
    losses = export(policy, "keda").losses
    assert any(loss.item == "primaries[0]" and loss.kind == "refused" for loss in losses)


def test_an_object_carries_bounds_rules_and_fallback_of_the_parameters():
    """The pool's own numbers are found in the object; polling and cooldown, which KEDA ignores, are not."""
    found = objects(full_policy())["chat-decode"]["spec"]
    behaviour = found["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"] == {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 25, "periodSeconds": 240}],
        "tolerance": "0.05",
    }
    assert behaviour["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 10, "periodSeconds": 600}],
        "tolerance": "0.1",
    }
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (3, 24)
    assert not {"pollingInterval", "cooldownPeriod"} & set(found)
    assert found["fallback"] == {"failureThreshold": 3, "replicas": 24, "behavior": "currentReplicas"}


def test_an_unknown_scale_in_cooldown_disables_scale_in():
    """The policy never scales in without a cooldown, so the object may not either, and the loss says so."""
    policy = full_policy(cooldown={"decode": Cooldown(240.0, None)})
    down = objects(policy)["chat-decode"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"][
        "scaleDown"
    ]
    assert down["selectPolicy"] == "Disabled"
    assert any("--startup" in loss.text for loss in export(policy, "keda").losses)


@pytest.mark.parametrize(
    ("version", "kept", "says"),
    [((1, 32), False, "no tolerance field"), ((1, 33), True, "gate"), ((1, 35), True, "")],
)
def test_tolerance_follows_the_cluster_version(version, kept, says):
    """Below 1.33 the field is dropped and reported, up to 1.34 it is kept with a warning."""
    made = export(full_policy(), "keda", ExportOptions(kubernetes=version))
    body = load_documents(made.files["prod.chat.scaledobjects.yaml"])[0]
    up = body["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]
    assert ("tolerance" in up) is kept
    texts = [loss.text for loss in made.losses if loss.item == "hysteresis.decode"]
    assert [says in text for text in texts] == [True] * len(texts)
    assert bool(texts) is bool(says)


def test_cooldowns_beyond_the_api_are_cut_and_reported():
    """periodSeconds holds 1800 and stabilisation 3600; the cut is a loss."""
    made = export(POLICIES["long cooldowns"], "keda")
    behaviour = load_documents(made.files["prod.chat.scaledobjects.yaml"])[0]["spec"]["advanced"]
    behaviour = behaviour["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"]["policies"][0]["periodSeconds"] == 1800
    assert behaviour["scaleDown"]["policies"][0]["periodSeconds"] == 1800
    assert any(loss.item == "cooldown.decode.scale_out_s" and "1800" in loss.text for loss in made.losses)


def test_a_policy_on_hold_gets_no_object_and_its_refusal():
    """Mode hold: the rules are written, no ScaledObject, and the refusal covers the whole policy."""
    made = export(full_policy(mode="hold", refusals=("thin: too few episodes",)), "keda")
    assert not any("scaledobjects" in name for name in made.files)
    assert [loss.kind for loss in made.losses] == ["refused"]
    assert "thin: too few episodes" in made.losses[0].text
    assert made.losses[0].covers("primaries[0].signal")


def test_a_timetable_becomes_cron_triggers():
    """Days, hours and counts as strings; an end past midnight falls on the next day."""
    entries = (
        PeriodicEntry("08:30", "20:00", ("mon", "fri"), 20, 10),
        PeriodicEntry("22:00", "06:00", ("sun", "fri"), 8, None),
        PeriodicEntry("06:00", "06:30", (), 9, None),
    )
    found = objects(full_policy(mode="periodic", periodic=entries))
    decode = [t["metadata"] for t in found["chat-decode"]["spec"]["triggers"]]
    assert [(m["start"], m["end"], m["desiredReplicas"]) for m in decode] == [
        ("30 8 * * mon,fri", "0 20 * * mon,fri", "20"),
        ("0 22 * * fri,sun", "0 6 * * mon,sat", "8"),
        ("0 6 * * *", "30 6 * * *", "9"),
    ]
    assert {m["timezone"] for m in decode} == {"UTC"}
    assert len(found["chat-prefill"]["spec"]["triggers"]) == 1
    assert "fallback" not in found["chat-prefill"]["spec"]


def test_the_workload_comes_from_the_options_else_it_is_a_blank():
    """A known workload is named as it is; groups scale a LeaderWorkerSet."""
    named = ExportOptions(workloads={"decode": Workload("gen", "StatefulSet")}, namespace="llm")
    found = objects(full_policy(), named)
    assert found["chat-decode"]["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "gen",
    }
    assert found["chat-decode"]["metadata"]["namespace"] == "llm"
    assert found["chat-prefill"]["spec"]["scaleTargetRef"]["name"] == "fill-in-prefill-workload"
    grouped = objects(full_policy(unit="group"))
    assert grouped["chat-decode"]["spec"]["scaleTargetRef"]["kind"] == "LeaderWorkerSet"


def test_a_single_pool_gets_one_object():
    """Role mixed: one object, no ratio."""
    primary = replace(full_policy().primaries[0], role="mixed")
    policy = full_policy(
        primaries=(primary,),
        pd_ratio=None,
        bounds={"mixed": Bounds(2, 8)},
        hysteresis={"mixed": Hysteresis(1.1, 0.8)},
        cooldown={"mixed": Cooldown(60.0, 600.0)},
    )
    found = objects(policy)
    assert list(found) == ["chat-mixed"]
    assert found["chat-mixed"]["spec"]["maxReplicaCount"] == 8


def test_a_pool_without_bounds_never_goes_to_zero():
    """KEDA's own minimum is 0: it is never left to it."""
    assert {body["spec"]["minReplicaCount"] for body in objects(POLICIES["bare"]).values()} == {1}


def test_the_header_names_its_origin_and_what_acts_otherwise():
    """Version, service, hash, window, run and the first losses are in the comment, which no value can end."""
    policy = full_policy(run="9f3a\nkind: Secret")
    text = export(policy, "keda", ExportOptions(policy_sha256="cafe")).files["prod.chat.scaledobjects.yaml"]
    head = text[: text.index("apiVersion")]
    for part in (
        "0.1.0",
        "prod/chat",
        "cafe",
        "2026-11-17",
        "9f3a kind: Secret",
        "KEDA 2.20",
        "guards: ",
    ):
        assert part in head
    assert all(line.startswith("#") for line in head.splitlines())


def test_losses_are_data_as_well():
    """The losses file is JSON and says the same as the export."""
    made = export(full_policy(), "keda")
    data = json.loads(made.files["prod.chat.losses.json"])
    assert [(row["item"], row["kind"]) for row in data] == [(loss.item, loss.kind) for loss in made.losses]
    assert len({(loss.item, loss.text) for loss in made.losses}) == len(made.losses)


def test_the_same_policy_gives_the_same_bytes():
    """No clock, no chance, no order of a dict."""
    flipped = full_policy()
    flipped = replace(flipped, bounds=dict(reversed(flipped.bounds.items())))
    assert export(full_policy(), "keda") == export(flipped, "keda")


def test_an_unknown_target_is_a_usage_error():
    """The error lists the targets there are."""
    with pytest.raises(UsageError, match="keda"):
        export(full_policy(), "keda2")


def test_names_fit_kubernetes_and_stay_apart():
    """Odd or long model names become valid names with a hash, so that two models never share one."""
    names = [model_name(s) for s in ("a/b.c", "a/b-c", "a/Meta/Llama-3", "x/" + "y" * 200, "a/ü")]
    assert names[1] == "b-c"
    assert len(set(names)) == len(names)
    assert all(len(name) <= 52 for name in names)
    assert file_stem("prod/chat") == "prod.chat"
    assert file_stem("-/chat") == "chat"


@pytest.mark.parametrize(
    ("value", "text"), [(3800.0, "3800"), (1e7 / 3, "3333330"), (0.00123456789, "0.00123457"), (1.5, "1.5")]
)
def test_numbers_are_decimal_strings(value, text):
    """Six significant digits and no exponent, large or small."""
    assert plain_number(value) == text


def test_the_head_says_the_threshold_as_it_is_written():
    """In whole thousandths, and of which share."""
    usage = Primary(
        "kv_usage", "decode", "ratio", "avg(avg_over_time(a[1m]))", "vllm", Target(0.53834), "mean"
    )
    files = export(full_policy(primaries=(usage,), pd_ratio=None), "keda").files
    (text,) = [text for text in files.values() if "kind: ScaledObject" in text]
    assert "decode: threshold 0.538 of kv_usage per decode instance" in text
    assert 'threshold: "0.538"' in text

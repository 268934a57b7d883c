"""HorizontalPodAutoscalers of a policy: what the API takes, what the adapter serves, what is lost."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES

from hs_analysis.errors import ContractError
from hs_analysis.export import TARGETS, Export, ExportOptions, export
from hs_analysis.export import ExportTarget as Row
from hs_analysis.export.hpa import lint_adapter, lint_hpa
from hs_analysis.export.model import load_documents
from hs_analysis.policy.model import Bounds
from hs_analysis.schema.names import EXPORT_TARGETS

SCHEMA = json.loads((Path(__file__).parent / "hpa.schema.json").read_text("utf-8"))
SCALED = [name for name, policy in POLICIES.items() if policy.mode == "metric" and policy.bounds]


def files(policy, options=None):
    return export(policy, "hpa", options).files


def objects(policy, options=None):
    texts = [text for name, text in files(policy, options).items() if name.endswith(".hpa.yaml")]
    return {body["metadata"]["name"]: body for text in texts for body in load_documents(text)}


def adapter_rules(policy):
    return load_documents(files(policy)["prod.chat.adapter.yaml"])[0]


def external(body):
    return body["spec"]["metrics"][0]["external"]


@pytest.mark.parametrize("name", SCALED)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """No field that the API does not know, none missing."""
    found = objects(POLICIES[name])
    assert found
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_hpa(body) == []


def test_a_mutated_key_fails_schema_or_lint():
    """Renaming any single key of an object is caught, and inside the spec by our own lint alone."""
    body = objects(full_policy())["chat-decode"]
    for path, broken in renamed_keys(body):
        if path[-2:-1] == ("matchLabels",):
            continue  # the user's own names
        caught = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(broken))
        if path[:2] in [("spec", "metrics"), ("spec", "behavior")]:
            caught = []
        assert caught or lint_hpa(broken), path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["spec"].update(minReplicas=30), "replica counts"),
        (lambda b: b["spec"].update(minReplicas=0), "replica counts"),
        (lambda b: b["spec"].update(metrics=[]), "metrics is empty"),
        (lambda b: external(b)["target"].update(averageValue=3800), "not a text"),
        (lambda b: external(b)["target"].update(type="Value"), "AverageValue"),
        (lambda b: external(b)["metric"]["selector"]["matchLabels"].update(service="a/b"), "label value"),
        (lambda b: b["spec"]["behavior"]["scaleUp"].update(stabilizationWindowSeconds=3601), "3600"),
        (lambda b: b["spec"]["behavior"]["scaleUp"].update(policies=[]), "policies is empty"),
        (lambda b: b["spec"]["behavior"]["scaleUp"]["policies"][0].update(periodSeconds=1801), "1800"),
        (lambda b: b["spec"]["scaleTargetRef"].pop("kind"), "scaleTargetRef.kind"),
        (lambda b: b.update(apiVersion="autoscaling/v2beta2"), "apiVersion and kind"),
    ],
)
def test_the_lint_repeats_the_rules_of_the_api(change, says):
    """Bounds of the API, and what it takes and misreads, are found and named."""
    body = copy.deepcopy(objects(full_policy())["chat-decode"])
    change(body)
    assert any(says in problem for problem in lint_hpa(body))


def test_targets_and_bounds_are_those_of_the_policy():
    """averageValue is the target for decode, and target ÷ ratio (3800 ÷ 0.5) for prefill."""
    found = objects(full_policy())
    assert external(found["chat-decode"])["target"] == {"type": "AverageValue", "averageValue": "3800"}
    assert external(found["chat-prefill"])["target"]["averageValue"] == "7600"
    counts = {name: (b["spec"]["minReplicas"], b["spec"]["maxReplicas"]) for name, b in found.items()}
    assert counts == {"chat-decode": (3, 24), "chat-prefill": (2, 12)}


def test_each_pool_has_its_own_band_and_cooldown():
    """The follower does not carry its leader's numbers."""
    up = {name: body["spec"]["behavior"]["scaleUp"] for name, body in objects(full_policy()).items()}
    assert (up["chat-decode"]["tolerance"], up["chat-decode"]["policies"][0]["periodSeconds"]) == (
        "0.05",
        240,
    )
    assert (up["chat-prefill"]["tolerance"], up["chat-prefill"]["policies"][0]["periodSeconds"]) == (
        "0.08",
        300,
    )


@pytest.mark.parametrize(
    ("version", "kept", "says"),
    [((1, 32), False, "no tolerance field"), ((1, 33), True, "gate"), ((1, 35), True, "")],
)
def test_tolerance_follows_the_cluster_version(version, kept, says):
    """Below 1.33 the field is dropped and reported, up to 1.34 it is kept with a warning."""
    made = export(full_policy(), "hpa", ExportOptions(kubernetes=version))
    body = load_documents(made.files["prod.chat.hpa.yaml"])[0]
    assert ("tolerance" in body["spec"]["behavior"]["scaleUp"]) is kept
    texts = [loss.text for loss in made.losses if loss.item == "hysteresis.decode"]
    assert bool(texts) is bool(says)
    assert all(says in text for text in texts)


def test_every_metric_is_served_by_a_rule_of_the_adapter_over_a_recorded_series():
    """Object → adapter rule → record: each name that one reads, the next gives."""
    for policy in (full_policy(), POLICIES["two primaries"]):
        rules = {rule["name"]["as"]: rule for rule in adapter_rules(policy)["externalRules"]}
        records = {
            rule["record"]: rule["labels"]
            for group in load_documents(files(policy)["prod.chat.rules.yaml"])[0]["groups"]
            for rule in group["rules"]
        }
        for body in objects(policy).values():
            metric = external(body)["metric"]
            rule = rules[metric["name"]]
            record = next(name for name in records if f'__name__="{name}"' in rule["seriesQuery"])
            assert metric["selector"]["matchLabels"].items() <= records[record].items()
            assert f'service="{records[record]["service"]}"' in rule["metricsQuery"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(rules=[]), "rules is unknown"),
        (lambda c: c["externalRules"][0]["resources"].update(namespaced=True), "namespaced"),
        (lambda c: c["externalRules"][0].update(metricsQuery="sum(x)"), "metricsQuery"),
        (lambda c: c["externalRules"][0].update(seriesQuery="x"), "seriesQuery"),
        (lambda c: c["externalRules"].append(c["externalRules"][0]), "twice"),
        (lambda c: c["externalRules"][0]["name"].update({"as": "A B"}), "metric name"),
        (lambda c: c["externalRules"].clear(), "empty"),
    ],
)
def test_the_adapters_rules_are_checked(change, says):
    """What prometheus-adapter would refuse or serve wrongly."""
    config = adapter_rules(full_policy())
    assert lint_adapter(config) == []
    change(config)
    assert any(says in problem for problem in lint_adapter(config))


def test_a_pool_without_bounds_gets_no_object_and_a_loss():
    """maxReplicas is required, and no number is made up for it."""
    policy = full_policy(bounds={"decode": Bounds(0, 24)})
    made = export(policy, "hpa")
    assert list(objects(policy)) == ["chat-decode"]
    assert any(loss.kind == "refused" and "prefill has no bounds" in loss.text for loss in made.losses)
    assert objects(policy)["chat-decode"]["spec"]["minReplicas"] == 1
    assert any(loss.item == "bounds.decode.min" for loss in made.losses)


@pytest.mark.parametrize(("mode", "says"), [("hold", "too few episodes"), ("periodic", "no timetable")])
def test_what_an_hpa_can_not_hold_is_refused(mode, says):
    """No object, and the reason is the loss."""
    made = export(full_policy(mode=mode), "hpa")
    assert not [name for name in made.files if name.endswith(".hpa.yaml")]
    assert [loss.kind for loss in made.losses] == ["refused"]
    assert says in made.losses[0].text


def test_the_words_of_the_command_line_are_the_rows():
    """A target can't be built without being listed, nor listed without being built."""
    assert list(TARGETS) == list(EXPORT_TARGETS)
    assert all(row.title for row in TARGETS.values())


def test_a_file_that_no_check_knows_is_a_bug(monkeypatch):
    """A new target has to bring the check of its files."""
    row = Row("rules", lambda policy, options: Export("rules", {"a.new.yaml": "a: 1\n"}, ()), {})
    monkeypatch.setitem(TARGETS, "rules", row)
    with pytest.raises(ContractError, match="no check"):
        export(full_policy(), "rules")

"""Objects of today as controllers of the replay: pools, parameters, notes, and the way there and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from current.histories import known as of_service
from current.histories import of_pods
from replay.services import SETTINGS, derived

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.dynamo import DynamoLoad, DynamoThroughput
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, Hpa, Metric, RatePolicy, Rules
from hs_analysis.controllers.keda import Keda
from hs_analysis.current import Definitions, Known, changes, read_definitions, read_manifests, translate
from hs_analysis.errors import InputError
from hs_analysis.export import export
from hs_analysis.export import model as document
from hs_analysis.export.model import range_s
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.objects import stored_series
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.pipeline.tables import PLACES, read_frames, split
from hs_analysis.policy import load_all
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.results import Threshold
from hs_analysis.store import read_table

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Known(
    ("prefill", "decode"),
    {
        ("decode_tps", "decode"): "sum",
        ("prefill_tps_effective", "prefill"): "sum",
        ("kv_usage", "decode"): "mean",
    },
    {"prefill": 2800.0, "decode": 1200.0},
    {"prefill": "prefill_tps_effective", "decode": "decode_tps"},
    (
        *of_pods("vllm:generation_tokens_total", "decode"),
        *of_pods("vllm:prompt_tokens_total", "prefill"),
        *of_pods("vllm:kv_cache_usage_perc", "decode"),
    ),
)
TOKENS = "sum(rate(vllm:generation_tokens_total[2m]))"


ADAPTER = """
kind: ConfigMap
data:
  config.yaml: |
    externalRules:
      - seriesQuery: 'vllm:generation_tokens_total{namespace!=""}'
        name: {as: tokens}
        metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[1m])) by (<<.GroupBy>>)
"""


def keda(name="chat-decode", query=TOKENS, **spec):
    """Return a ScaledObject as YAML."""
    metadata = {"serverAddress": "http://p", "query": query, "threshold": "900"}
    body = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": name},
            "triggers": [{"type": "prometheus", "metadata": metadata}],
        },
    }
    body["spec"].update(spec)
    return document.dump_documents([body])


def read(*texts, roles=None, known=KNOWN):
    """Translate files, each for a role or none, with the rules among them."""
    roles = roles or [""] * len(texts)
    definitions = sum((read_definitions(text, "f") for text in texts), Definitions())
    manifests = [
        (one, role) for text, role in zip(texts, roles, strict=True) for one in read_manifests(text, "f")
    ]
    return translate(manifests, known, load_catalogue(), definitions)


def test_or_vector_0_counts_an_empty_answer_as_zero_whatever_the_trigger_says():
    """As KEDA sees it; an HPA's adapter is replayed as holding, and that is said."""
    text = keda().replace("threshold", "ignoreNullValues: 'false'\n        threshold", 1)
    assert not read(text).scaler.pools["decode"].ignore_null_values
    found = read(text.replace("[2m]))", "[2m])) or vector(0)"))
    assert found.scaler.pools["decode"].ignore_null_values
    assert not any("vector(0)" in note for note in found.notes)


def test_what_is_not_said_is_the_documented_default():
    """A bare ScaledObject and a bare HPA."""
    found = read(keda()).scaler.pools["decode"]
    assert found == Keda(Hpa((Metric("decode_tps", 900.0, "AverageValue", 120.0),)))
    assert (found.min_replica_count, found.ignore_null_values, found.fallback) == (0, True, None)
    text = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: a, labels: {role: decode}}
spec:
  maxReplicas: 9
  scaleTargetRef: {name: a}
  metrics:
    - type: External
      external:
        metric: {name: tokens, selector: {matchLabels: {namespace: demo}}}
        target: {averageValue: 1k}
"""
    assert "tokens is what a rule of the metrics adapter makes of it" in read(text).notes[0]
    found = read(text, ADAPTER).scaler.pools["decode"]
    assert found == Hpa((Metric("decode_tps", 1000.0),), 1, 9, up=SCALE_UP, down=SCALE_DOWN)


PODS_ADAPTER = """
rules:
  custom:
    - seriesQuery: '{__name__=~"^vllm:%s$",namespace!=""}'
      resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
      name: {as: "served"}
      metricsQuery: %s
"""


@pytest.mark.parametrize(
    ("metric", "query", "signal", "kind"),
    [
        (
            "generation_tokens_total",
            'sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[2m])) by (<<.GroupBy>>)',
            "decode_tps",
            "AverageValue",
        ),
        ("kv_cache_usage_perc", "avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "kv_usage", "Pods"),
    ],
)
def test_a_metric_of_pods_is_the_adapters_query_over_the_pools_pods(metric, query, signal, kind):
    """As prometheus-adapter fills its template in; without the rule it is refused."""
    text = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: m-large-decode}
spec:
  maxReplicas: 9
  scaleTargetRef: {name: m-large-decode}
  metrics:
    - type: Pods
      pods: {metric: {name: served}, target: {type: AverageValue, averageValue: 900m}}
"""
    assert "served is what a rule of the metrics adapter makes of it" in read(text).notes[0]
    found = read(text, PODS_ADAPTER % (metric, query), known=of_service())
    (one,) = found.scaler.pools["decode"].metrics
    assert (one.signal, one.target, one.kind) == (signal, 0.9, kind)


NAMED_BY_PATTERN = """
rules:
  - seriesQuery: '{__name__=~"^vllm:.*",pod!=""}'
    resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pods}}}
    seriesFilters: [{isNot: "_bucket$"}]
    name: {matches: "^vllm:(.*)_total$", as: "${1}_per_second"}
    metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
  - seriesQuery: '{__name__=~"^vllm:num_.*",job!=""}'
    resources: {template: "<<.Resource>>"}
    name: {matches: "^vllm:(.*)$"}
    metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
  - seriesQuery: '{__name__=~"^dynamo_.*_(sum|count)$"}'
    resources: {overrides: {namespace: {resource: namespace}, model: {resource: inferencepool}}}
    name: {as: "$0_rate"}
    metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)
"""


def hpa_on(entry, name="m-large-decode", namespace="demo"):
    """Return an HPA with one metric as YAML."""
    return f"""
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{maxReplicas: 9, scaleTargetRef: {{name: {name}}}, metrics: [{entry}]}}
"""


PODS = "{type: Pods, pods: {metric: {name: NAME}, target: {type: AverageValue, averageValue: 900m}}}"
OBJECT = (
    "{type: Object, object: {describedObject: {kind: KIND, name: OF}, metric: {name: NAME}, "
    "target: {type: Value, value: '20'}}}"
)


@pytest.mark.parametrize(
    ("name", "signal"),
    [("generation_tokens_per_second", "decode_tps"), ("num_requests_waiting", "queue_length")],
)
def test_a_name_is_made_of_the_historys_series_by_the_rules_pattern(name, signal):
    """One rule for many series: their names give the metric's; a series that a filter drops gives none."""
    found = read(hpa_on(PODS.replace("NAME", name)), NAMED_BY_PATTERN, known=of_service())
    assert found.scaler is not None, found.notes
    (one,) = found.objects[0].metrics
    assert (one.signal, one.role) == (signal, "decode")


def test_a_metric_of_an_object_is_the_adapters_query_about_it():
    """Of the pool of inference that a front end serves, and of a namespace."""
    text = OBJECT.replace("KIND", "InferencePool").replace("OF", "m-large")
    name = "dynamo_frontend_time_to_first_token_seconds_count_rate"
    known = of_service(readable={**of_service().readable, ("first_token_rate", "service"): "sum"})
    found = read(hpa_on(text.replace("NAME", name)), NAMED_BY_PATTERN, known=known)
    assert found.scaler is not None, found.notes
    (one,) = found.objects[0].metrics
    assert (one.signal, one.role, one.kind, one.target) == ("first_token_rate", "service", "Value", 20.0)
    other = text.replace("m-large", "m-huge").replace("NAME", name)
    assert 'has model="m-huge"' in read(hpa_on(other), NAMED_BY_PATTERN, known=known).notes[0]
    whole = OBJECT.replace("KIND", "Namespace").replace("OF", "demo").replace("NAME", name)
    assert read(hpa_on(whole), NAMED_BY_PATTERN, known=known).scaler is not None


def test_an_adapter_asks_within_the_namespace_of_the_object():
    """An HPA of another namespace reads nothing of ours."""
    entry = PODS.replace("NAME", "num_requests_waiting")
    found = read(hpa_on(entry, namespace="other"), NAMED_BY_PATTERN, known=of_service())
    assert 'has namespace="other"' in found.notes[0]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (
            NAMED_BY_PATTERN + NAMED_BY_PATTERN.split("rules:")[1].replace("[2m]", "[3m]"),
            "2 rules of the metrics",
        ),
        (NAMED_BY_PATTERN.replace("^vllm:(.*)_total$", "^vllm:(.*_total$"), "can't be read"),
        (NAMED_BY_PATTERN.replace("${1}", "${2}"), "can't be read"),
        (NAMED_BY_PATTERN.replace("^vllm:.*", "^sglang:.*"), "generation_tokens_per_second is what a rule"),
    ],
)
def test_rules_that_make_no_one_metric_of_a_name_say_so(rules, says):
    """Two of them, a pattern or a group that is none, no series that they find."""
    entry = PODS.replace("NAME", "generation_tokens_per_second")
    found = read(hpa_on(entry), rules, known=of_service())
    assert found.scaler is None
    assert says in found.notes[0]


def test_behaviour_is_read():
    """Windows, policies and each direction's tolerance."""
    down = {
        "stabilizationWindowSeconds": 900,
        "selectPolicy": "Min",
        "tolerance": "50m",
        "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
    }
    config = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}}
    found = read(keda(advanced=config)).scaler.pools["decode"].hpa
    assert found.down == Rules(900.0, (RatePolicy("Pods", 2, 60.0),), "Min", 0.05)
    assert found.up == SCALE_UP
    assert found.tolerances == (0.05, 0.1)


def test_pools_are_told_by_words_or_by_the_flag():
    """What is scaled, then the name; a flag decides where neither says; two of one pool are refused."""
    assert set(read(keda("chat-decode")).scaler.pools) == {"decode"}
    assert read(keda("chat"), roles=["decode"]).objects[0].role == "decode"
    with pytest.raises(InputError, match=r"f:1: chat: neither .* --current prefill=FILE"):
        read(keda("chat"))
    with pytest.raises(InputError, match="scales decode, and so does"):
        read(keda("chat-decode"), keda("b-decode"))
    alone = replace(
        KNOWN,
        pools=("mixed",),
        readable={("decode_tps", "mixed"): "sum"},
        series=tuple(
            replace(one, emitter="mixed") for one in of_pods("vllm:generation_tokens_total", "decode")
        ),
    )
    assert set(read(keda("chat"), known=alone).scaler.pools) == {"mixed"}


def test_what_is_not_understood_is_listed():
    """The object that can't be read keeps its pool as it is, and says why."""
    found = read(keda(query="sum(rate(http_requests_total[1m]))"))
    assert found.scaler is None
    assert any(
        "column 10: not in this history: it holds no http_requests_total" in note for note in found.notes
    )
    assert any("decode keeps its count" in note for note in found.notes)
    assert any("no object scales prefill" in note for note in found.notes)


METADATA = {"serverAddress": "http://p", "query": TOKENS, "threshold": "900"}
PROMPTS = "sum(rate(vllm:prompt_tokens_total[5m]))"
WAITING = 'sum(vllm:num_requests_waiting{pod=~"m-large-decode-.*"})'
RUNNING = 'sum(vllm:num_requests_running{pod=~"m-large-decode-.*"})'


def composed(formula, *triggers, known=None, **modifiers):
    """Translate a ScaledObject of decode with a formula over (name, query or type) triggers."""
    body = [
        {"type": "prometheus", "name": name, "metadata": {**METADATA, "query": what}}
        if "(" in what
        else {"type": what, "name": name, "metadata": {"value": "70"}}
        for name, what in triggers
    ]
    advanced = {"scalingModifiers": {"formula": formula, "target": "10", **modifiers}}
    return read(keda("m-large-decode", triggers=body, advanced=advanced), known=known or of_service())


QUEUE, LOAD = ("queue", WAITING), ("running", RUNNING)


@pytest.mark.parametrize(
    ("formula", "how", "target", "weights"),
    [
        ("queue", "sum", 10.0, []),
        ("(queue + running) / 2", "sum", 20.0, [("running", 1.0)]),
        ("running + queue * 10", "sum", 10.0, [("queue_length", 10.0)]),
        ("max(queue, running / 4)", "max", 10.0, [("running", 0.25)]),
    ],
)
def test_a_formula_over_triggers_is_one_metric(formula, how, target, weights):
    """Its target and activation are the formula's, in units of the first trigger's signal."""
    found = composed(formula, QUEUE, LOAD, activationTarget="2")
    parameters = found.scaler.pools["decode"]
    (metric,) = parameters.hpa.metrics
    assert (metric.how, metric.target, metric.kind) == (how, target, "AverageValue")
    assert [(one.signal, one.weight) for one in metric.others] == weights
    assert parameters.activation_threshold == pytest.approx(target / 5)
    assert parameters.hpa.signals == (metric.signal, *(one.signal for one in metric.others))
    assert found.notes == ("no object scales prefill: it keeps its count",)
    (value,) = composed(formula, QUEUE, LOAD, metricType="Value").scaler.pools["decode"].hpa.metrics
    assert value.kind == "Value"


@pytest.mark.parametrize(
    ("formula", "triggers", "says"),
    [
        ("queue > 5 ? 1 : 0", [QUEUE], "scalingModifiers.formula: column 7: the comparison > is not read"),
        ("queue + s1", [QUEUE], "column 9: no trigger is named s1, its triggers: queue"),
        ("queue + jobs", [QUEUE, ("jobs", "kafka")], "jobs: type kafka: what it counts is not in this"),
        (
            "queue + top",
            [QUEUE, ("top", "max(vllm:kv_cache_usage_perc)")],
            "top: max(vllm:kv_cache_usage_perc): ",
        ),
        (
            "max(queue, both)",
            [QUEUE, ("both", f"{WAITING} + {RUNNING}")],
            "both: a sum of signals in a max is not",
        ),
        (
            "running + kv",
            [LOAD, ("kv", 'sum(vllm:kv_cache_usage_perc{pod=~".*decode.*"})')],
            "add up over instances",
        ),
    ],
)
def test_a_formula_that_is_not_read_says_what_it_lacks(formula, triggers, says):
    """One sentence: the sign, the function or the trigger; nothing of it is replayed."""
    found = composed(formula, *triggers)
    assert found.scaler is None
    said = [note for note in found.notes if "scalingModifiers" in note]
    assert len(said) == 1
    assert says in said[0]


def test_processor_use_beside_a_formula_is_said():
    """KEDA leaves it to the HPA, where its count may be the larger one."""
    found = composed("queue", QUEUE, ("processor", "cpu"))
    assert found.notes[0].endswith("triggers[1]: type cpu: the cpu use of pods is not in this history")
    assert len(found.scaler.pools["decode"].hpa.metrics) == 1
    assert found.objects[0].unread == 1
    assert composed("(queue + running) / 2", QUEUE, LOAD).objects[0].unread == 0


def test_a_sum_of_two_metrics_is_told_no_target_of_one():
    """Its own target is of both signals; what is advised is the metric that was chosen."""
    found = read(keda("m-large-decode", f"{WAITING} + {RUNNING}"), known=of_service())
    (metric,) = found.objects[0].metrics
    assert (metric.name, metric.target) == ("queue_length@decode + running@decode", 900.0)


SCALERS = {
    "nats-jetstream": "what it counts", "kafka": "what it counts", "redis": "what it counts",
    "aws-sqs-queue": "what it counts", "memory": "the memory use of pods", "cpu": "the cpu use of pods",
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALERS)
def test_a_scaler_that_asks_no_prometheus_is_named(kind):
    """By its type; the other triggers are replayed."""
    found = read(
        keda(triggers=[{"type": kind, "metadata": {}}, {"type": "prometheus", "metadata": METADATA}])
    )
    assert f"triggers[0]: type {kind}: {SCALERS[kind]} is not in this history" in found.notes[0]
    assert len(found.scaler.pools["decode"].hpa.metrics) == 1


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}",
            "metrics[0]: type Resource: the cpu use of pods is not in this history",
        ),
        (
            "{type: ContainerResource, containerResource: {name: memory, container: engine}}",
            "metrics[0]: type ContainerResource: the memory use of pods is not in this history",
        ),
        (
            "{type: Object, object: {describedObject: {kind: Ingress, name: chat}, metric: {name: rps}}}",
            "metrics[0]: type Object: what the Ingress chat reports: rps is what a rule of the metrics "
            "adapter makes of it: give the file of its rule with --current as well",
        ),
    ],
)
def test_a_metric_of_an_hpa_that_no_adapter_serves_is_named(entry, says):
    """The resource or the object it watches."""
    text = f"""
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: m-decode}}
spec: {{maxReplicas: 9, scaleTargetRef: {{name: m-decode}}, metrics: [{entry}]}}
"""
    assert says in read(text).notes[0]


def test_an_object_that_reads_something_else_is_refused_trigger_by_trigger():
    """Another model's queue, a canary pod, yesterday's maximum, what is not of a list: none is replayed."""
    text = (ROOT / "tests" / "current" / "reads_something_else.yaml").read_text("utf-8")
    found = read(text, known=of_service())
    assert found.scaler is None
    said = [note for note in found.notes if "triggers[" in note]
    for number, words in enumerate(
        (
            '1 of the 1 series it picks are of no or another service, such as model_name="m-small"',
            "it picks 1 of 3 instances of decode",
            "column 53: offset is not read",
            "unless on is not read",
            'no series of vllm:num_requests_waiting has pod=~"m-huge-decode-.*"',
            "type nats-jetstream: what it counts is not in this history",
            "type cpu: the cpu use of pods is not in this history",
        )
    ):
        assert words in said[number], said[number]
    assert len(said) == 7


def test_a_decode_object_reads_decodes_own_queue():
    """By the pods of its selector, whatever else the history holds of the same metric."""
    query = 'sum(vllm:num_requests_waiting{pod=~"m-large-decode-.*"})'
    found = read(keda("m-large-decode", query), known=of_service())
    (metric,) = found.objects[0].metrics
    assert (metric.signal, metric.role) == ("queue_length", "decode")
    alone = [one for one in of_service().series if one.emitter != "decode"]
    lost = read(keda("m-large-decode", query), known=of_service(series=tuple(alone)))
    assert lost.scaler is None
    assert "nearest is m-large-prefill-1" in lost.notes[0]


def test_the_largest_of_several_triggers_wins_and_the_rest_is_told():
    """What one trigger reads is replayed, what another does not is listed."""
    metadata = {"serverAddress": "http://p", "query": TOKENS, "threshold": "500"}
    other = {**metadata, "query": "max(vllm:kv_cache_usage_perc)"}
    triggers = [{"type": "prometheus", "metadata": one} for one in (metadata, other, metadata)]
    found = read(keda(triggers=triggers))
    assert [one.target for one in found.scaler.pools["decode"].hpa.metrics] == [500.0, 500.0]
    assert found.objects[0].unread == 1
    assert any(
        "triggers[1]" in note and "the max over instances has no value" in note for note in found.notes
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [({"minReplicaCount": "two"}, "minReplicaCount"), ({"fallback": {"replicas": 3}}, "failureThreshold")],
)
def test_a_value_that_is_none_is_refused_with_its_place(change, says):
    """File, line and key."""
    with pytest.raises(InputError, match=rf"f:1: {says}"):
        read(keda(**change))


def test_a_planner_sets_up_both_pools():
    """Thresholds by hand; an SLA with the derived capacities."""
    load = (
        "optimization_target: load\nprefill_scale_up_queue_tokens: 18000\n"
        "prefill_scale_down_queue_tokens: 4000\ndecode_scale_up_kv_rate: 80\n"
        "decode_scale_down_kv_rate: 40\nmax_gpu_budget: 24\ndecode_min_endpoint: 3\n"
    )
    found = read(load + "advisory: true\n")
    assert found.scaler.pools["prefill"] == DynamoLoad(
        "queued_tokens", limits=(18_000.0, 4000.0), max_replicas=24
    )
    assert found.scaler.pools["decode"] == DynamoLoad(
        "kv_usage", limits=(0.8, 0.4), min_endpoint=3, max_replicas=24
    )
    assert any("advisory" in note for note in found.notes)
    sla = read("optimization_target: sla\nmax_gpu_budget: 24\nthroughput_adjustment_interval_seconds: 60\n")
    assert sla.scaler.pools["decode"] == DynamoThroughput("decode_tps", 1200.0, 60.0, max_replicas=24)
    with pytest.raises(InputError, match="prefill_scale_down_queue_tokens"):
        read("optimization_target: load\nprefill_scale_up_queue_tokens: 5\n")
    old = read("optimization_target: sla\nno_operation: true\n")
    assert any("no_operation" in note for note in old.notes)


def test_a_planner_is_read_as_it_reads_itself():
    """A budget below 0 is none, min_endpoint is of both pools, old names of keys count, agg has decode's."""
    free = read(
        "optimization_target: sla\nmax_gpu_budget: -1\nmin_endpoint: 2\nprefill_min_endpoint: 4\n"
        "throughput_adjustment_interval: 60\nttft: 700\n"
    )
    prefill, decode = (free.scaler.pools[role] for role in ("prefill", "decode"))
    assert (prefill.min_endpoint, decode.min_endpoint) == (4, 2)
    assert (prefill.max_replicas, prefill.adjustment_s) == (1_000_000, 60.0)
    assert any("no limit" in note for note in free.notes)
    assert [one.numbers for one in free.objects] == [
        {"prefill_min_endpoint": 4.0, "max_gpu_budget": -1.0, "ttft_ms": 700.0},
        {"decode_min_endpoint": 2.0, "max_gpu_budget": -1.0, "itl_ms": 50.0},
    ]
    alone = replace(KNOWN, pools=("mixed",), targets={"mixed": 1000.0}, work={"mixed": "decode_tps"})
    agg = "mode: agg\noptimization_target: sla\ndecode_min_endpoint: 3\ndecode_engine_num_gpu: 4\n"
    (one,) = read(agg, known=alone).objects
    assert (one.parameters.min_endpoint, one.parameters.max_replicas) == (3, 2)
    with pytest.raises(InputError, match="max_gpu_budget"):
        read("optimization_target: sla\nmax_gpu_budget: -2\n")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The simulated days as a run aligns them, and the policy that is kept for them."""
    folder = tmp_path_factory.mktemp("sample") / "run"
    source = ROOT / "data_samples" / "simulated-days"
    run_inputs([source], "align", SETTINGS, stages=STAGES, progress=Silent(), run_dir=folder)
    (frame,) = read_frames(folder)
    (policy,) = load_all((ROOT / "tests" / "golden" / "simulated-days" / "policy.yaml").read_text("utf-8"))
    return frame, policy, read_table(folder / PLACES["series"])


@pytest.mark.parametrize("target", ["hpa", "keda"])
def test_an_exported_object_read_back_decides_as_the_policys_controller_does(sample, target):
    """Export, read through --current, replay on the sample: count for count the controller of the policy."""
    frame, policy, series = sample
    train, test = split(frame, SETTINGS.train_share)
    known = Known(
        tuple(frame.pools),
        {(i.signal, i.role): i.pool for i in frame.signals},
        series=stored_series(series, frame.service),
    )
    files = export(policy, target).files
    written = ("hpa.yaml", "scaledobjects.yaml", "rules.yaml", "adapter.yaml")
    found = read(*(text for name, text in files.items() if name.endswith(written)), known=known)
    assert found.notes == ()
    read_s = range_s(policy.primaries[0].promql)
    own = replace(policy, controller=target, reading=replace(policy.reading, window_s=read_s))
    wanted = control_of(own).pools
    assert found.scaler.pools == wanted
    model = fit_fleet(train, derived(), SETTINGS)
    (part,) = demands(test, model.pools)

    def counts(control: Autoscaler) -> dict[str, np.ndarray]:
        return simulate(control, part, model).desired

    ours, theirs = counts(found.scaler), counts(Autoscaler("direct", wanted))
    for role in frame.pools:
        assert np.array_equal(ours[role], theirs[role])
        assert len(np.unique(ours[role])) > 2, "it scales at all"
    # What was exported is what the policy says: nothing is left to change.
    assert changes(found.objects, policy) == ()


def test_what_to_change_is_said_in_the_objects_own_unit(sample):
    """A target too low, a window too short, an empty answer that counts as zero; and the chosen signal."""
    _, policy, _ = sample
    quick = {"stabilizationWindowSeconds": 60}
    text = keda(
        "m-prefill",
        "sum(rate(vllm:prompt_tokens_total[5m])) / 1000",
        minReplicaCount=policy.bounds["prefill"].min,
        maxReplicaCount=policy.bounds["prefill"].max,
        advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": quick}}},
    ).replace("900", "1.4")
    known = replace(KNOWN, readable={("prefill_tps", "prefill"): "sum"})
    leader = replace(policy.primaries[0], waiting=None)
    own = replace(policy, primaries=(replace(leader, signal="prefill_tps"),))
    found = {one.item: one for one in changes(read(text, known=known).objects, own)}
    assert found["target"].now == pytest.approx(1.4)
    assert found["target"].then == pytest.approx(leader.target_per_instance.value / 1000)
    assert "more instances than needed" in found["target"].why
    assert found["target"].evidence == leader.target_per_instance.evidence
    assert (found["ignoreNullValues"].now, found["ignoreNullValues"].then) == ("true", "false")
    window = found["scaleDown.stabilizationWindowSeconds"]
    assert (window.now, window.then) == (60.0, policy.reading.over_s)
    assert {"min", "max", "metric"}.isdisjoint(found)
    most = policy.bounds["prefill"].max
    for now, why in ((most + 8, "no load of the history needs more"), (most - 1, "ends in a queue")):
        objects = read(
            text.replace(f"maxReplicaCount: {most}", f"maxReplicaCount: {now}"), known=known
        ).objects
        (bound,) = [one for one in changes(objects, own) if one.item == "max"]
        assert (bound.now, bound.then) == (now, most)
        assert bound.why.endswith(why)
    other = {one.item: one for one in changes(read(text, known=known).objects, policy)}
    assert (other["metric"].now, other["metric"].then) == (
        "prefill_tps@prefill",
        "prefill_tps_effective@prefill",
    )
    counts = replace(leader, signal="prefill_tps", waiting=policy.primaries[0].waiting)
    waits = {
        c.item: c for c in changes(read(text, known=known).objects, replace(policy, primaries=(counts,)))
    }
    assert (waits["metric"].now, waits["metric"].then) == (
        "prefill_tps@prefill",
        "prefill_tps@prefill + queue_length@prefill",
    )
    assert waits["target"].then == found["target"].then


def of_kv_usage(target: float) -> Threshold:
    """Return the derived threshold of the decode pool's KV-cache usage."""
    return Threshold(
        signal="kv_usage",
        role="decode",
        gpu_type=None,
        target_per_instance=target,
        capacity=None,
        scale_out_ratio=1.16,
        scale_in_ratio=0.58,
        cooldown_out_s=None,
        cooldown_in_s=None,
        status="ok",
        reason=None,
    )


def test_a_metric_to_be_replaced_gets_no_new_target(sample):
    """One trigger, one change: the target of the old signal is of no use beside the new signal."""
    _, policy, _ = sample
    objects = read(keda(query="avg(vllm:kv_cache_usage_perc)").replace("900", "0.7")).objects
    assert [read.signal for read in objects[0].metrics] == ["kv_usage"]
    own = of_kv_usage(0.07844)
    items = [one.item for one in changes(objects, policy, [own])]
    assert items.count("metric") == 1
    assert "target" not in items


def advised(policy, text, thresholds=()):
    """Return what to change in a planner's file, by item."""
    return {one.item: one for one in changes(read(text).objects, policy, thresholds)}


def numbers(change):
    """Return what is set and what to set."""
    return change.now, change.then


def test_what_to_change_in_a_planner_is_what_a_policy_has_too(sample):
    """Least endpoints, goals looser than the limits, and a budget for both pools at their largest counts."""
    _, policy, _ = sample
    prefill, decode = policy.bounds["prefill"], policy.bounds["decode"]
    limits = {guard.signal: guard.slo_s * 1000.0 for guard in policy.guards}
    text = (
        "optimization_target: sla\nprefill_engine_num_gpu: 2\ndecode_engine_num_gpu: 4\nmax_gpu_budget: 60\n"
    )
    found = advised(policy, text + f"ttft_ms: {limits['ttft'] + 100}\nitl_ms: {limits['tbt']}\n")
    assert numbers(found["prefill_min_endpoint"]) == (1.0, prefill.min)
    assert numbers(found["decode_min_endpoint"]) == (1.0, decode.min)
    assert numbers(found["ttft_ms"]) == (limits["ttft"] + 100, limits["ttft"])
    budget = found["max_gpu_budget"]
    assert numbers(budget) == (60.0, prefill.max * 2 + decode.max * 4)
    assert (budget.name, budget.role) == ("planner", "prefill and decode")
    assert budget.why == (
        f"room for {prefill.max} prefill engines of 2 GPU and {decode.max} decode engines of 4 GPU, "
        "twice the most that ran: a lower cap ends in a queue"
    )
    assert set(found) == {"prefill_min_endpoint", "decode_min_endpoint", "ttft_ms", "max_gpu_budget"}
    unsaid = advised(policy, "optimization_target: latency\n")
    assert numbers(unsaid["max_gpu_budget"]) == (8.0, prefill.max + decode.max)
    assert "at least, since the file does not say" in unsaid["max_gpu_budget"].why
    assert "ttft_ms" not in unsaid


def test_a_planner_set_as_the_policy_is_has_nothing_to_change(sample):
    """A goal below the limit may be how a mean keeps a quantile; a larger budget, or none, does no harm."""
    _, policy, _ = sample
    least = "".join(f"{role}_min_endpoint: {one.min}\n" for role, one in policy.bounds.items())
    for budget in (-1, 500):
        text = f"optimization_target: sla\nttft_ms: 50\nitl_ms: 5\nmax_gpu_budget: {budget}\n{least}"
        assert advised(policy, text) == {}
        assert advised(replace(policy, mode="hold"), "max_gpu_budget: 1\n") == {}


def test_a_planners_usage_thresholds_are_the_target_at_the_edges_of_the_band(sample):
    """Of the policy that follows it, else of its derived threshold; 80 and 40 % against 66 and 54."""
    _, policy, _ = sample
    text = (
        "mode: decode\noptimization_target: load\ndecode_scale_up_kv_rate: 80\n"
        "decode_scale_down_kv_rate: 40\nmax_gpu_budget: -1\n"
        f"decode_min_endpoint: {policy.bounds['decode'].min}\n"
    )
    assert advised(policy, text) == {}
    leader = replace(policy.primaries[0], waiting=None)
    target = replace(leader.target_per_instance, value=0.6, evidence="of the policy")
    own = replace(leader, signal="kv_usage", role="decode", pool="mean", target_per_instance=target)
    band = {**policy.hysteresis, "decode": replace(policy.hysteresis["decode"], scale_out_ratio=1.1)}
    band["decode"] = replace(band["decode"], scale_in_ratio=0.9)
    found = advised(replace(policy, primaries=(own,), hysteresis=band), text)
    assert numbers(found["decode_scale_up_kv_rate"]) == (80.0, 66.0)
    assert "grows too late" in found["decode_scale_up_kv_rate"].why
    assert numbers(found["decode_scale_down_kv_rate"]) == (40.0, 54.0)
    assert "without need" in found["decode_scale_down_kv_rate"].why
    assert found["decode_scale_up_kv_rate"].evidence == "of the policy"
    near = of_kv_usage(0.7)
    assert advised(policy, text, (near,)) == {}
    far = replace(near, target_per_instance=0.8, evidence="of its own")
    found = advised(policy, text, (far,))
    assert {item: one.then for item, one in found.items()} == {
        "decode_scale_up_kv_rate": 92.8,
        "decode_scale_down_kv_rate": 46.4,
    }
    assert found["decode_scale_up_kv_rate"].evidence == "of its own"
    full = replace(near, target_per_instance=0.95)
    assert advised(policy, text, (full,))["decode_scale_up_kv_rate"].then == 100.0

"""Roles, services, instances and GPU types from labels alone."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue import load_catalogue, with_user_rows
from hs_analysis.errors import UsageError
from hs_analysis.ingest.roles import whole_word_role
from hs_analysis.ingest.services import SeriesIdentity, identify, joined_pod_labels
from hs_analysis.schema.settings import MetricRow, Reading

Labels = Mapping[str, str]


def named(*series: Labels, capture: str = "") -> list[tuple[str, Labels]]:
    """Return series as the ingest stage has them; the name stands in ``n``."""
    return [(capture, {"__name__" if k == "n" else k: v for k, v in one.items()}) for one in series]


def of(*series: Labels, capture: str = "", reading: Reading | None = None) -> list[SeriesIdentity]:
    """Return the identity of series given by labels."""
    told = reading or Reading()
    return identify(named(*series, capture=capture), with_user_rows(load_catalogue(), told), told)


def role(*series: Labels) -> tuple[str, str]:
    """Return role and evidence of the first series."""
    first = of(*series)[0]
    return first.emitter_role, first.role_evidence


VLLM = "vllm:num_requests_running"
SGLANG = "sglang:num_running_reqs"
WORKER = "dynamo_component_inflight_requests"


@pytest.mark.parametrize(
    ("label", "expected"),
    [("prefill", "prefill"), ("decode", "decode"), ("unified", "mixed"), ("dynamic", "mixed")],
)
def test_sglang_says_its_role_on_the_series(label: str, expected: str) -> None:
    """engine_type decides, against what the pod's name says."""
    assert role({"n": SGLANG, "pod": "x-prefill-0", "engine_type": label}) == (expected, "label:engine_type")


def test_dynamo_backend_decodes_beside_prefill_workers_and_does_both_alone() -> None:
    """The worker that decodes is called backend, and so is a worker that does both."""
    back = {"n": WORKER, "pod": "w-0", "dynamo_component": "backend", "dynamo_namespace": "dyn"}
    front = {"n": WORKER, "pod": "w-1", "dynamo_component": "prefill", "dynamo_namespace": "dyn"}
    assert role(back, front) == ("decode", "label:dynamo_component")
    assert role(front, back) == ("prefill", "label:dynamo_component")
    assert role(back) == ("mixed", "label:dynamo_component")


def test_a_prefill_worker_of_another_deployment_does_not_split_this_one() -> None:
    """What one Dynamo deployment shares is its own namespace label; captures are apart too."""
    back = {"n": WORKER, "pod": "w-0", "dynamo_component": "backend", "dynamo_namespace": "one"}
    other = {"n": WORKER, "pod": "w-1", "dynamo_component": "prefill", "dynamo_namespace": "two"}
    assert role(back, other) == ("mixed", "label:dynamo_component")


def test_series_without_a_role_label_take_it_from_their_pod() -> None:
    """vllm: series carry no role: the label on another series of the pod speaks for them."""
    back = {"n": WORKER, "pod": "w-0", "dynamo_component": "backend"}
    front = {"n": WORKER, "pod": "w-1", "dynamo_component": "prefill"}
    assert role({"n": VLLM, "pod": "w-0"}, back, front) == ("decode", "label:dynamo_component")
    assert role({"n": "up", "pod": "w-1"}, back, front) == ("prefill", "label:dynamo_component")


def test_a_front_end_is_one_whatever_its_labels_say() -> None:
    """Router series on the front end carry the workers' component; the place stays a front end."""
    router = {"n": "dynamo_component_router_requests_total", "pod": "f-0", "dynamo_component": "backend"}
    other = {"n": "dynamo_component_kv_cache_events_applied", "pod": "f-0", "dynamo_component": "prefill"}
    assert role(other, router) == ("frontend", "metric:dynamo_component_router_")
    assert role({"n": "dynamo_frontend_requests_total"}) == ("frontend", "metric:dynamo_frontend_")


@pytest.mark.parametrize(
    ("label", "value", "expected"),
    [
        ("label_llm_d_ai_role", "prefill", "prefill"),
        ("label_llm_d_ai_role", "decode", "decode"),
        ("label_llm_d_ai_role", "prefill-decode", "mixed"),
        ("label_llm_d_ai_role", "both", "mixed"),
        ("label_role_name", "prefill", "prefill"),
        ("label_role_name", "decode", "decode"),
        ("label_nvidia_com_dynamo_sub_component_type", "decode", "decode"),
        ("label_modelserving_volcano_sh_role", "prefill", "prefill"),
        ("label_rolebasedgroup_workloads_x_k8s_io_role", "decode", "decode"),
    ],
)
def test_pod_labels_are_joined_on_namespace_and_pod(label: str, value: str, expected: str) -> None:
    """llm-d and AIBrix say the role on the pod; kube_pod_labels brings it, and has a pod of its own."""
    pod_labels = {
        "n": "kube_pod_labels", "exported_namespace": "ns", "exported_pod": "m-0", "namespace": "monitoring",
        "pod": "ksm-0", label: value,
    }  # fmt: skip
    vllm = {"n": VLLM, "namespace": "ns", "pod": "m-0"}
    assert role(vllm, pod_labels) == (expected, f"pod_label:{label}")
    assert role({**vllm, "namespace": "other"}, pod_labels) == ("unknown", "none")
    assert role({"n": VLLM, "pod": "m-0", label.removeprefix("label_"): value})[0] == expected


def test_a_role_label_beats_a_pod_label_beats_a_name() -> None:
    """The chain: label on the series, pod label, name."""
    pod = {"n": "kube_pod_labels", "exported_pod": "a-prefill-0", "label_role_name": "decode"}
    assert role({"n": VLLM, "pod": "a-prefill-0"}, pod) == ("decode", "pod_label:label_role_name")
    engine = {"n": SGLANG, "pod": "a-prefill-0", "engine_type": "unified"}
    assert role({"n": VLLM, "pod": "a-prefill-0"}, pod, engine) == ("mixed", "label:engine_type")


def test_labels_that_contradict_each_other_decide_nothing() -> None:
    """A pod with two roles is left to the later steps."""
    one = {"n": SGLANG, "pod": "a-0", "engine_type": "prefill"}
    two = {"n": SGLANG, "pod": "a-0", "engine_type": "decode"}
    assert role(one, two) == ("unknown", "none")


def test_a_series_without_a_place_speaks_for_itself() -> None:
    """What the server summed up by role has no pod, but its label."""
    one, two = {"n": SGLANG, "engine_type": "decode"}, {"n": SGLANG, "engine_type": "prefill"}
    assert role(one, two) == ("decode", "label:engine_type")
    assert role(two, one) == ("prefill", "label:engine_type")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-prefill-0", "prefill"), ("Decode.3", "decode"), ("m_decode_1", "decode"),
        ("prefill", "prefill"),
        ("prefill-decode-xyz", None), ("predecode-0", None), ("decoder-0", None), ("p-0", None), ("", None),
        ("gen-0", None),
    ],
)  # fmt: skip
def test_names_count_as_whole_words_only(name: str, expected: str | None) -> None:
    """Both words, parts of words and single letters are no hit."""
    assert whole_word_role(name) == expected


def test_names_of_pods_and_deployments_come_last() -> None:
    """Without any label the name decides; unknown is the answer when it says nothing."""
    assert role({"n": VLLM, "pod": "m-decode-7f-x"}) == ("decode", "pod_name")
    assert role({"n": VLLM, "pod": "prefill-decode-xyz"}) == ("unknown", "none")
    ready = {"n": "kube_deployment_status_replicas_ready", "deployment": "m-prefill", "pod": "ksm-decode-0"}
    assert role(ready) == ("prefill", "deployment_name")
    assert of(ready)[0].instance is None


def test_the_unit_is_the_group_the_pod_the_target_or_the_host() -> None:
    """In this order; a GPU exporter's own pod and target are not the unit."""
    group = {"leaderworkerset_sigs_k8s_io_name": "lws", "leaderworkerset_sigs_k8s_io_group_index": "1"}
    places = of(
        {"n": VLLM, "pod": "p-0", **group},
        {"n": VLLM, "pod": "p-1", "instance": "10.0.0.1:8000"},
        {"n": VLLM, "instance": "10.0.0.1:8000"},
        {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "p-2", "pod": "dcgm-x", "Hostname": "h0"},
        {"n": "DCGM_FI_DEV_GPU_UTIL", "pod": "dcgm-x", "instance": "10.0.0.2:9400", "Hostname": "h0"},
        {"n": VLLM},
    )
    assert [(p.instance, p.unit_kind) for p in places] == [
        ("lws/1", "group"), ("p-1", "pod"), ("10.0.0.1:8000", "pod"), ("p-2", "pod"), ("h0", "host"),
        (None, None),
    ]  # fmt: skip


def test_other_series_of_a_group_member_belong_to_the_group() -> None:
    """A GPU exporter knows the pod only; the engine's labels say which group that is."""
    group = {"leaderworkerset_sigs_k8s_io_name": "lws", "leaderworkerset_sigs_k8s_io_group_index": "1"}
    found = of(
        {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "p-0", "exported_namespace": "ns"},
        {"n": VLLM, "pod": "p-0", "namespace": "ns", **group},
        {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "p-0", "exported_namespace": "elsewhere"},
    )
    assert [one.instance for one in found] == ["lws/1", "lws/1", "p-0"]


@pytest.mark.parametrize(
    ("space", "pod"),
    [("kubernetes_namespace", "kubernetes_pod_name"), ("k8s_namespace_name", "k8s_pod_name")],
)
def test_the_scraped_pods_own_labels_join_it_with_other_exporters(space: str, pod: str) -> None:
    """The engine's target labels name its pod; a watcher's own name the watcher, not what it watches."""
    engine = {"n": VLLM, "model_name": "m", "instance": "10.0.0.1:8000", space: "llm", pod: "w-0"}
    told = {"n": "kube_pod_labels", "namespace": "llm", "pod": "w-0", "label_llm_d_ai_role": "decode"}
    busy = {"n": "DCGM_FI_DEV_GPU_UTIL", "namespace": "llm", "pod": "w-0", space: "gpu", pod: "dcgm-0"}
    idle = {"n": "DCGM_FI_DEV_GPU_UTIL", "Hostname": "node-1", space: "gpu", pod: "dcgm-0"}
    found = of(engine, busy, told, idle)
    assert [(one.instance, one.service) for one in found[:2]] == [("w-0", "llm/m")] * 2
    assert {one.emitter_role for one in found[:2]} == {"decode"}
    assert found[3].instance == "node-1"


def test_service_is_namespace_and_lower_case_model() -> None:
    """Without a namespace it is `-`, unless the model is known in exactly one."""
    engine = {"n": VLLM, "pod": "a-0", "namespace": "prod", "model_name": "Llama-8B"}
    front = {"n": "dynamo_frontend_requests_total", "model": "llama-8b"}
    assert [one.service for one in of(engine, front)] == ["prod/llama-8b"] * 2
    assert of(front)[0].service == "-/llama-8b"
    second = {**engine, "namespace": "test", "pod": "b-0"}
    assert of(front, engine, second)[0].service == "-/llama-8b"


def test_series_without_a_model_inherit_it() -> None:
    """Through the pod, then the deployment; an orphan goes to the only service, else it is unmapped."""
    one = {"n": VLLM, "pod": "a-prefill-0", "namespace": "ns", "model_name": "a"}
    two = {"n": VLLM, "pod": "b-prefill-0", "namespace": "ns", "model_name": "b"}
    gpu = {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "b-prefill-0", "exported_namespace": "ns"}
    ready = {"n": "kube_deployment_status_replicas_ready", "deployment": "a-prefill", "namespace": "ns"}
    orphan = {"n": "up", "pod": "prometheus-0", "namespace": "monitoring"}
    found = of(gpu, ready, orphan, one, two)
    assert [x.service for x in found[:3]] == ["ns/b", "ns/a", None]
    assert of(orphan, one)[0].service == "ns/a"
    assert [x.service for x in of(orphan, {"n": VLLM, "pod": "x"})] == ["default", "default"]


def test_gpu_type_comes_from_the_target_or_the_gpu_exporter() -> None:
    """It belongs to the place: other series of the pod have it too; the commoner name wins."""
    gpu = {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "a", "modelName": "NVIDIA H20", "UUID": "GPU-1"}
    found = of(
        {"n": VLLM, "pod": "a"}, gpu, {"n": VLLM, "pod": "b", "gpu_type": "L20"}, {"n": VLLM, "pod": "c"}
    )
    assert [one.gpu_type for one in found] == ["NVIDIA H20", "NVIDIA H20", "L20", None]
    assert [one.gpu_id for one in found] == [None, "GPU-1", None, None]


def test_captures_do_not_share_anything() -> None:
    """The same pod name in two captures is two instances."""
    apart = [
        ("one", {"__name__": SGLANG, "pod": "a", "engine_type": "prefill"}),
        ("two", {"__name__": VLLM, "pod": "a"}),
    ]
    assert [one.emitter_role for one in identify(apart, load_catalogue())] == ["prefill", "unknown"]


POOL = [
    {"__name__": WORKER, "pod": "w-0", "dynamo_component": "backend", "namespace": "n"},
    {"__name__": WORKER, "pod": "w-1", "dynamo_component": "prefill", "namespace": "n"},
    {"__name__": VLLM, "pod": "w-0", "namespace": "n", "model_name": "A", "gpu_type": "x"},
    {"__name__": VLLM, "pod": "w-0", "namespace": "n", "model_name": "A", "gpu_type": "y"},
    {"__name__": VLLM, "pod": "b-decode", "namespace": "n", "model_name": "B"},
    {"__name__": "dynamo_frontend_requests_total", "pod": "f", "model": "a"},
    {"__name__": "dynamo_component_router_requests_total", "pod": "f", "model": "b"},
    {"__name__": "up", "pod": "f"},
    {"__name__": "kube_deployment_status_replicas_ready", "deployment": "b", "namespace": "n"},
    {"__name__": SGLANG, "engine_type": "decode"},
]


@given(st.integers(0, 10_000))
def test_the_order_of_series_does_not_matter(seed: int) -> None:
    """Each series has the same identity whatever comes before it."""
    order = random.Random(seed).sample(range(len(POOL)), len(POOL))
    catalogue = load_catalogue()
    straight = identify([("", one) for one in POOL], catalogue)
    mixed = identify([("", POOL[i]) for i in order], catalogue)
    assert [straight[i] for i in order] == mixed


def test_the_users_patterns_go_before_everything_else() -> None:
    """On the pod, the place or the workload; the first that fits; a role to leave a place out too."""
    told = Reading(roles={"^gen-": "mixed", "prefill": "ignore"})
    rows = (
        {"n": SGLANG, "pod": "gen-0", "engine_type": "decode"}, {"n": VLLM, "pod": "a-prefill-0"},
        {"n": "kube_deployment_status_replicas_ready", "deployment": "gen-pool"},
        {"n": VLLM, "pod": "b-gen-0"},
        {"n": "dynamo_frontend_requests_total", "pod": "gen-front"},
    )  # fmt: skip
    found = [(one.emitter_role, one.role_evidence) for one in of(*rows, reading=told)]
    assert found == [
        ("mixed", "user:^gen-"), ("ignore", "user:prefill"), ("mixed", "user:^gen-"), ("unknown", "none"),
        ("mixed", "user:^gen-"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "where"),
    [
        (Reading(roles={"x": "prefil"}), 'roles."x"'), (Reading(roles={"(": "decode"}), 'roles."("'),
        (Reading(services={"(": "s"}), 'services."("'),
    ],
)  # fmt: skip
def test_a_pattern_that_says_nothing_is_refused(told: Reading, where: str) -> None:
    """The message names the setting."""
    with pytest.raises(UsageError) as raised:
        of({"n": VLLM, "pod": "a"}, reading=told)
    assert raised.value.where == where


def test_the_users_service_names_go_before_models() -> None:
    """A pattern on label=value; other series of the place follow, those of other places do not."""
    told = Reading(services={"^team=search$": "search", "pod=.*-chat-": "chat"})
    one = {"n": VLLM, "pod": "a-0", "namespace": "ns", "model_name": "m", "team": "search"}
    two = {"n": VLLM, "pod": "x-chat-1", "namespace": "ns", "model_name": "m"}
    gpu = {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_pod": "a-0", "exported_namespace": "ns"}
    other = {"n": VLLM, "pod": "b-0", "namespace": "ns", "model_name": "m"}
    found = of(one, two, gpu, other, reading=told)
    assert [x.service for x in found] == ["search", "chat", "search", "ns/m"]


def test_labels_of_the_users_own_series_are_taken_at_their_word() -> None:
    """Role, service, instance, model, namespace and GPU type; of others `role` means another thing."""
    told = Reading(metrics={"fleet_load": MetricRow("queue_length")})
    labels = {
        "role": "decode", "service": "chat", "instance": "i-1", "namespace": "ns", "model": "M", "pod": "p",
        "gpu_type": "H20",
    }  # fmt: skip
    mine, theirs = of({"n": "fleet_load", **labels}, {"n": VLLM, **labels}, reading=told)
    assert (mine.exporter, mine.emitter_role, mine.role_evidence) == ("mapping", "decode", "user:role")
    assert (mine.service, mine.instance, mine.gpu_type) == ("chat", "i-1", "H20")
    assert (theirs.emitter_role, theirs.instance) == ("unknown", "p")
    without = of({"n": "fleet_load", "model": "M", "namespace": "ns", "pod": "p"}, reading=told)[0]
    assert (without.service, without.instance, without.emitter_role) == ("ns/m", "p", "unknown")


def test_misses_of_the_pod_label_join_are_counted_both_ways() -> None:
    """Left: engines without labels; right: labels without engines; and pods that are given two roles."""

    def pod(name: str, role: str) -> Labels:
        return {"n": "kube_pod_labels", "namespace": "ns", "pod": name, "label_llm_d_ai_role": role}

    def engine(name: str) -> Labels:
        return {"n": VLLM, "namespace": "ns", "pod": name, "model_name": "m"}

    rows = named(
        engine("a"), engine("b"), engine("c"), pod("a", "prefill"), pod("b", "decode"), pod("b", "prefill"),
        pod("d", "decode"), pod("e", "nothing"),
    )  # fmt: skip
    found = joined_pod_labels(rows, load_catalogue())
    assert (found.matched, found.without_labels, found.without_series, found.contradictory) == (
        2, ("ns/c",), ("ns/d",), ("ns/b",),
    )  # fmt: skip
    assert [text[:6] for text in found.sentences()] == ["1 pods"] * 3
    assert joined_pod_labels(named(engine("a")), load_catalogue()).sentences() == ()
    assert of(engine("b"), pod("b", "decode"), pod("b", "prefill"))[0].emitter_role == "unknown"


@pytest.mark.parametrize(
    ("labels", "group"),
    [
        (
            {"leaderworkerset_sigs_k8s_io_name": "lws", "leaderworkerset_sigs_k8s_io_group_index": "0"},
            "lws/0",
        ),
        (
            {
                "modelserving_volcano_sh_group_name": "g-0", "modelserving_volcano_sh_role": "decode",
                "modelserving_volcano_sh_role_id": "decode-1",
            },
            "g-0/decode/decode-1",
        ),
        ({"rolebasedgroup_workloads_x_k8s_io_role_instance_name": "rbg-decode-3"}, "rbg-decode-3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "label_"])
def test_pods_of_a_replica_group_are_one_instance(labels: Labels, group: str, prefix: str) -> None:
    """The leader's engine and a worker's GPUs, told by kube_pod_labels or by a labelmap rule."""
    told = {prefix + name: value for name, value in labels.items()}
    pods = ("x-0", "x-0-1")
    leader, worker = ({"n": "kube_pod_labels", "namespace": "ns", "pod": pod, **told} for pod in pods)
    engine = {"n": VLLM, "namespace": "ns", "pod": "x-0", "model_name": "m"}
    gpu = {"n": "DCGM_FI_DEV_GPU_UTIL", "exported_namespace": "ns", "exported_pod": "x-0-1"}
    found = of(engine, gpu, leader, worker)
    assert [(one.instance, one.unit_kind) for one in found] == [(group, "group")] * 4
    assert found[1].service == "ns/m"


def test_half_of_a_groups_labels_is_no_group() -> None:
    """A set without an index names all of its groups at once."""
    half = {"n": VLLM, "pod": "x-0", "leaderworkerset_sigs_k8s_io_name": "lws"}
    assert of(half)[0].instance == "x-0"


def test_a_model_called_undefined_is_none() -> None:
    """Some TensorRT-LLM servers write that word."""
    odd = {"n": "trtllm_num_requests_running", "pod": "a", "model_name": "undefined"}
    assert of(odd)[0].service == "default"


def test_stateful_sets_are_named_as_deployments_are() -> None:
    """The word in the name, and the pods that begin with it."""
    one = {"n": VLLM, "pod": "a-prefill-0", "namespace": "ns", "model_name": "a"}
    two = {"n": VLLM, "pod": "b-0", "namespace": "ns", "model_name": "b"}
    ready = {"n": "kube_statefulset_status_replicas_ready", "statefulset": "a-prefill", "namespace": "ns"}
    found = of(ready, one, two)[0]
    assert (found.emitter_role, found.role_evidence, found.service) == ("prefill", "deployment_name", "ns/a")


def test_amd_gpus_are_placed_as_nvidias_are() -> None:
    """The pod the card works for, not the exporter's own; the card's model is the GPU type."""
    card = {"n": "gpu_gfx_activity", "exported_pod": "a", "card_model": "MI300X", "serial_number": "S1"}
    own = {"n": "gpu_gfx_activity", "pod": "rocm-metrics-exporter-x", "hostname": "h0", "instance": "1:5000"}
    found = of(card, own)
    assert [(x.instance, x.unit_kind, x.gpu_id) for x in found] == [("a", "pod", "S1"), ("h0", "host", None)]
    assert found[0].gpu_type == "MI300X"


def test_a_pattern_that_would_backtrack_for_ever() -> None:
    """On a pod and on labels of 60 characters; a pattern that fits nothing leaves role and service alone."""
    endless = r"^(\w+\s?)*$"
    told = Reading(roles={endless: "prefill", "^a": "decode"}, services={endless: "x", "pod=a": "y"})
    (first,) = of({"n": VLLM, "pod": "a" * 60 + "!"}, reading=told)
    assert (first.emitter_role, first.service) == ("decode", "y")

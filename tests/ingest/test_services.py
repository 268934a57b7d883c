"""Which service a series without a model belongs to, and when none is taken."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.services import controllers_of, identify

Labels = Mapping[str, str]

VLLM = "vllm:num_requests_running"
WORKER = "dynamo_component_inflight_requests"
READY = "kube_deployment_status_replicas_ready"


def services(*series: Labels, captures: tuple[str, ...] = ()) -> list[str | None]:
    """Return the service of series given by labels, in one capture unless said."""
    rows = [({"__name__" if k == "n" else k: v for k, v in one.items()}) for one in series]
    named = captures or ("",) * len(rows)
    return [one.service for one in identify(list(zip(named, rows, strict=True)), load_catalogue())]


def engine(model: str, **labels: str) -> Labels:
    """Return a series that names its model."""
    return {"n": VLLM, "model_name": model, **labels}


def worker(**labels: str) -> Labels:
    """Return a series of a prefill worker, which names none."""
    return {"n": WORKER, "dynamo_component": "prefill", **labels}


A = engine("a", pod="gen-a-0", namespace="ns")
B = engine("b", pod="gen-b-0", namespace="ns")


def graph(pod: str, name: str, **labels: str) -> Labels:
    """Return a series that names the Dynamo namespace of a pod."""
    return {"n": WORKER, "pod": pod, "dynamo_namespace": name, "dynamo_component": "backend", **labels}


def test_prefill_workers_without_a_model_join_by_the_dynamo_namespace() -> None:
    """Every series of the worker follows, those too that don't name the namespace themselves."""
    known = (A, B, graph("gen-a-0", "one", namespace="ns"), graph("gen-b-0", "two", namespace="ns"))
    own = (
        worker(pod="ctx-x", namespace="ns", dynamo_namespace="two"),
        {"n": "up", "pod": "ctx-x", "namespace": "ns"},
    )
    assert services(*known, *own)[-2:] == ["ns/b", "ns/b"]


def test_the_operators_pod_label_is_a_dynamo_namespace_too() -> None:
    """kube_pod_labels brings it for pods whose own series don't have it."""
    label = "label_nvidia_com_dynamo_namespace"
    pods = [
        {"n": "kube_pod_labels", "namespace": "ns", "pod": pod, label: name}
        for pod, name in (("gen-a-0", "one"), ("gen-b-0", "two"), ("ctx-x", "one"))
    ]
    assert services(A, B, *pods, worker(pod="ctx-x", namespace="ns"))[-1] == "ns/a"


def test_prefill_workers_without_a_model_join_by_their_namespace() -> None:
    """Where one service runs in it; the other namespaces don't matter."""
    other = engine("b", pod="gen-b-0", namespace="other")
    assert services(A, other, worker(pod="ctx-x", namespace="ns"))[-1] == "ns/a"


def test_two_services_in_a_namespace_leave_a_prefill_worker_alone() -> None:
    """Nothing says whose it is, and nothing is guessed; a shared Dynamo namespace says no more."""
    assert services(A, B, worker(pod="ctx-x", namespace="ns"))[-1] is None
    both = (graph("gen-a-0", "one", namespace="ns"), graph("gen-b-0", "one", namespace="ns"))
    assert services(A, B, *both, worker(pod="ctx-x", namespace="ns", dynamo_namespace="one"))[-1] is None


def test_a_worker_of_another_dynamo_namespace_is_not_taken_for_the_only_service_of_its_namespace() -> None:
    """The service is known in one discovery namespace, the worker in another: it serves something else."""
    known = (A, graph("gen-a-0", "one", namespace="ns"), engine("b", pod="gen-b-0", namespace="other"))
    assert services(*known, worker(pod="ctx-x", namespace="ns", dynamo_namespace="two"))[-1] is None
    assert services(*known, worker(pod="ctx-x", namespace="ns", dynamo_namespace="one"))[-1] == "ns/a"


@pytest.mark.parametrize(
    ("known", "unlabelled"),
    [
        ("serve-a-7d9f8b6c5-x2z4b", "serve-a-7d9f8b6c5-c4d5f"),
        ("serve-a-7d9f8b6c5-x2z4b", "serve-a-6b5c4d7f8-c4d5f"),
        ("serve-a-0", "serve-a-7"),
        ("serve-a-x2z4b", "serve-a-c4d5f"),
    ],
    ids=["same ReplicaSet", "the Deployment's next ReplicaSet", "StatefulSet", "DaemonSet"],
)
def test_pods_of_one_controller_are_one_service(known: str, unlabelled: str) -> None:
    """By what Kubernetes calls them."""
    rows = (engine("a", pod=known, namespace="ns"), B, worker(pod=unlabelled, namespace="ns"))
    assert services(*rows)[-1] == "ns/a"


def test_workers_of_a_leader_worker_set_belong_to_their_leaders_service() -> None:
    """name-1-3 is a worker of name-1; without such a leader the numbers say nothing."""
    rows = (engine("a", pod="serve-a-0", namespace="ns"), B)
    leader = worker(pod="serve-a-1", namespace="ns")
    assert services(*rows, leader, worker(pod="serve-a-1-3", namespace="ns"))[-2:] == ["ns/a", "ns/a"]
    assert services(*rows, worker(pod="serve-a-1-3", namespace="ns"))[-1] is None


def test_neighbouring_numbers_in_a_controllers_name_are_no_family() -> None:
    """StatefulSets qwen-2 and qwen-3 have no more in common than their maker."""
    rows = (engine("a", pod="qwen-2-0", namespace="ns"), B, worker(pod="qwen-3-0", namespace="ns"))
    assert services(*rows)[-1] is None


@pytest.mark.parametrize(
    "owner",
    [
        {"n": "kube_pod_info", "created_by_kind": "ReplicaSet", "created_by_name": "serve-7d9f8b6c5"},
        {"n": "kube_pod_owner", "owner_kind": "StatefulSet", "owner_name": "serve"},
        {"n": "kube_pod_labels", "label_nvidia_com_dynamo_graph_deployment_name": "serve"},
        {"n": "kube_pod_labels", "label_leaderworkerset_sigs_k8s_io_name": "serve"},
    ],
    ids=lambda owner: str(next(reversed(owner.values()))),
)
def test_what_runs_or_deployed_a_pod_is_read_from_its_labels(owner: Labels) -> None:
    """kube-state-metrics says it of pods whose names say nothing."""
    pods = [{**owner, "namespace": "ns", "pod": pod} for pod in ("gen-a-0", "odd")]
    assert services(A, B, *pods, worker(pod="odd", namespace="ns"))[-1] == "ns/a"


def test_a_scrape_job_counts_outside_kubernetes_only() -> None:
    """Targets of a file have no pods, and a job groups them; in a cluster it may hold anything."""
    rows = (
        engine("a", instance="10.0.0.1:80", job="chat"),
        engine("b", instance="10.0.0.2:80", job="code"),
    )
    assert services(*rows, worker(instance="10.0.0.3:80", job="code"))[-1] == "-/b"
    assert services(A, B, engine("a", pod="x", namespace="ns", job="chat"))[-1] == "ns/a"
    assert services(A, B, worker(pod="y", namespace="ns", job="chat"))[-1] is None


def test_a_front_end_of_several_models_does_not_blur_their_namespaces() -> None:
    """Engines show where a service runs; the front end of both stands in one of the two namespaces."""
    front = [
        {"n": "dynamo_frontend_requests_total", "pod": "front-0", "namespace": "ns", "model": model}
        for model in ("a", "b")
    ]
    known = (A, B, graph("gen-a-0", "one", namespace="ns"), graph("gen-b-0", "two", namespace="ns"))
    router = graph("front-0", "one", namespace="ns")
    rows = (*front, *known, router)
    assert services(*rows, worker(pod="ctx-x", namespace="ns", dynamo_namespace="one"))[-1] == "ns/a"


def test_a_model_that_only_a_front_end_names_still_counts() -> None:
    """No engine shows where it runs, so the namespace of the front end may hold its workers."""
    front = {"n": "dynamo_frontend_requests_total", "pod": "front-0", "namespace": "ns", "model": "b"}
    assert services(A, front, worker(pod="ctx-x", namespace="ns"))[-1] is None


def test_a_deployment_follows_its_pods_that_joined() -> None:
    """Its ready count names no model, no pod and no Dynamo namespace."""
    known = (A, B, graph("gen-a-0", "one", namespace="ns"), graph("gen-b-0", "two", namespace="ns"))
    pod = worker(pod="ctx-7d9f8b6c5-x2z4b", namespace="ns", dynamo_namespace="two")
    ready = {"n": READY, "namespace": "ns", "deployment": "ctx"}
    assert services(*known, pod, ready)[-2:] == ["ns/b", "ns/b"]


def test_the_rest_goes_to_the_only_service_of_its_capture() -> None:
    """Captures share nothing: what another one holds does not make a series doubtful."""
    rows = (A, worker(pod="odd"), B, worker(pod="odd"))
    assert services(*rows, captures=("one", "one", "two", "two")) == ["ns/a", "ns/a", "ns/b", "ns/b"]
    assert services(*rows)[1] is None


@pytest.mark.parametrize(
    ("pod", "controllers"),
    [
        ("a-prefill-7d9f8b6c5-x2z4b", ("a-prefill-7d9f8b6c5", "a-prefill")),
        ("a-prefill-12", ("a-prefill",)),
        ("a-x2z4b", ("a",)),
        ("a-1-3", ("a-1",)),
        ("a-front", ()),
        ("10.0.0.1:80", ()),
    ],
)
def test_controllers_are_read_from_pod_names(pod: str, controllers: tuple[str, ...]) -> None:
    """A last word with vowels is no random part."""
    assert controllers_of(pod) == controllers


FLEET = [
    A, B, graph("gen-a-0", "one", namespace="ns"), graph("gen-b-0", "two", namespace="ns"),
    worker(pod="ctx-7d9f8b6c5-x2z4b", namespace="ns", dynamo_namespace="two"),
    worker(pod="gen-a-9", namespace="ns"), worker(pod="odd", namespace="ns"),
    {"n": READY, "namespace": "ns", "deployment": "ctx"}, {"n": "up", "pod": "odd", "namespace": "ns"},
    engine("c", pod="c-0", namespace="apart"), worker(pod="d", namespace="apart"),
]  # fmt: skip


@given(st.integers(0, 10_000))
def test_the_order_of_series_decides_nothing(seed: int) -> None:
    """Each series joins the same service whatever comes before it."""
    order = random.Random(seed).sample(range(len(FLEET)), len(FLEET))
    straight = services(*FLEET)
    assert [straight[i] for i in order] == services(*(FLEET[i] for i in order))
    assert straight[4:] == ["ns/b", "ns/a", None, "ns/b", None, "apart/c", "apart/c"]

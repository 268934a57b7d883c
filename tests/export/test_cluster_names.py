"""Names in exported objects: where each is from, and the one list of those that nothing tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from export.scenes import full_policy, series_frame

from hs_analysis.export import TARGETS, ExportOptions, Measured, NamesOfCluster, Workload, export, names_of
from hs_analysis.export.blanks import START
from hs_analysis.export.model import PrometheusAccess, TodaysObject, load_documents
from hs_analysis.schema.names import TARGET_TITLES
from hs_analysis.schema.results import Estimate
from hs_analysis.schema.settings import ClusterNames

WORK = "vllm:generation_tokens_total"
POD = "chat-decode-7d9f8b6c5-x2x7k"
TODAY = TodaysObject(
    "ScaledObject", "scale-gen", "eu", {"team": "search"}, Workload("today"),
    PrometheusAccess("https://thanos:9091"), "today.yaml:3",
)  # fmt: skip


def rows(*given: tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return series of the decode pool: metric and labels."""
    return [{"metric": metric, "labels": labels, "emitter_role": "decode"} for metric, labels in given]


def found(
    *given: tuple[str, dict[str, str]],
    asked: ClusterNames | None = None,
    today: TodaysObject | None = None,
    alone: bool = True,
    others: list[dict[str, Any]] | None = None,
) -> NamesOfCluster:
    """Return the names of a service with one pool."""
    todays = {"decode": today} if today else {}
    series = series_frame([*rows(*given), *(others or [])])
    asked = asked or ClusterNames()
    return names_of("prod/chat", ("decode",), asked, None, todays, series, alone=alone)


OWNER = {"pod": POD, "owner_kind": "StatefulSet", "owner_name": "by-owner"}
LABELLED = {"pod": POD, "deployment": "by-label"}


def test_names_come_from_the_source_that_is_trusted_most() -> None:
    """The user's setting, then today's object, then kube-state-metrics, then labels, then pod names."""
    asked = ClusterNames(workloads={"decode": "LeaderWorkerSet/asked"})
    series = (("kube_pod_owner", OWNER), (WORK, LABELLED))
    told = [
        found(*series, asked=asked, today=TODAY),
        found(*series, today=TODAY),
        found(*series),
        found((WORK, LABELLED)),
        found((WORK, {"pod": POD})),
    ]
    assert [one.workloads["decode"] for one in told] == [
        Workload("asked", "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1"),
        Workload("today"),
        Workload("by-owner", "StatefulSet"),
        Workload("by-label"),
        Workload("chat-decode"),
    ]
    sources = [{n.what: n.source for n in one.found}["workload of decode"] for one in told]
    assert sources == ["[export]", "today.yaml:3", "kube_pod_owner", "label deployment", "names of pods"]


@pytest.mark.parametrize(
    ("series", "others", "workload"),
    [
        (  # a ReplicaSet is not scaled: what runs it is
            {"pod": "p", "owner_kind": "ReplicaSet", "owner_name": "gen-7d9f8b6c5"},
            {"replicaset": "gen-7d9f8b6c5", "owner_kind": "Rollout", "owner_name": "gen"},
            Workload("gen", "Rollout", "argoproj.io/v1alpha1"),
        ),
        (
            {"pod": "p", "owner_kind": "ReplicaSet", "owner_name": "gen-7d9f8b6c5"},
            {"replicaset": "other-1", "owner_kind": "Rollout", "owner_name": "other"},
            Workload("gen"),
        ),
        (  # StatefulSets of a LeaderWorkerSet are not scaled either
            {"pod": "gen-0", "owner_kind": "StatefulSet", "owner_name": "gen",
             "label_leaderworkerset_sigs_k8s_io_name": "gen"},
            {"replicaset": "", "owner_kind": "", "owner_name": ""},
            Workload("gen", "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1"),
        ),
    ],
)  # fmt: skip
def test_kube_state_metrics_tell_what_is_scaled(
    series: dict[str, str], others: dict[str, str], workload: Workload
) -> None:
    """By the owners of pods and of ReplicaSets."""
    beside = [{"metric": "kube_replicaset_owner", "labels": others, "emitter_role": "unknown"}]
    assert found(("kube_pod_owner", series), others=beside).workloads["decode"] == workload


@pytest.mark.parametrize(
    ("series", "why"),
    [
        (
            [("kube_pod_owner", OWNER), ("kube_pod_owner", {**OWNER, "owner_name": "second"})],
            "kube_pod_owner: StatefulSet by-owner and StatefulSet second; "
            "one object scales one of them by the load of all",
        ),
        ([(WORK, {"pod": "gen-0"}), (WORK, {"pod": "gen-1"})], "its pods are called gen-0, gen-1"),
        ([(WORK, {"pod": POD}), (WORK, {"pod": "gen-1"})], f"its pods are called {POD}, gen-1"),
        ([("kube_pod_owner", {"pod": "p", "owner_kind": "Node"})], "its pods are called p"),
        ([(WORK, {"instance": "10.0.0.1:8000"})], ""),
    ],
)  # fmt: skip
def test_what_several_names_or_none_tell_is_left_blank(series: list[Any], why: str) -> None:
    """No name is guessed; the list says what was found."""
    names = found(*series)
    assert names.workloads == {}
    made = export(full_policy(), "keda", ExportOptions(unknown=names.unknown))
    (blank,) = [one for one in made.to_fill if one.text == "fill-in-decode-workload"]
    assert (blank.why, blank.setting) == (why, "[export] decode")
    told = f" ({why})" if why else ""
    assert blank.sentence() == (
        f"Replace fill-in-decode-workload by the name and kind of what runs the decode pods{told} in "
        f"{blank.places[0]}, or give [export] decode."
    )


def test_a_workload_of_the_settings_is_of_one_service() -> None:
    """Where a run has several, it names none of them, and the reason says so."""
    names = found((WORK, {}), asked=ClusterNames(workloads={"decode": "Deployment/gen"}), alone=False)
    assert names.workloads == {}
    assert "choose it with --service" in names.unknown["fill-in-decode-workload"]


def test_names_of_serving_objects_come_from_pod_labels() -> None:
    """Each kind by the label that its controller puts on pods; several are none."""
    labels = {
        "modelserving_volcano_sh_name": "ms",
        "label_storm_service_name": "storm",
        "app_kubernetes_io_name": "kserve",
        "app_kubernetes_io_part_of": "llminferenceservice",
    }
    names = found(
        (WORK, labels), (WORK, {"ome_io_inferenceservice": "a"}), (WORK, {"ome_io_inferenceservice": "b"})
    )
    assert names.serving == {"ModelServing": "ms", "StormService": "storm", "LLMInferenceService": "kserve"}
    assert names.unknown["fill-in-inferenceservice"] == "label ome_io_inferenceservice has a and b"
    other = found((WORK, {"app_kubernetes_io_name": "vllm"}))
    assert other.serving == {}, "a name that every chart sets is not KServe's"


MEASURED = Measured(
    ratio_band=(0.45, 0.56), gpus_per_instance={"prefill": 2.0, "decode": 4.0},
    prefill_capacity=Estimate(9000.0, 8500.0, 9500.0), prompt_tokens=1000.0, kv_usage_target=0.7,
)  # fmt: skip


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_list_names_each_blank_once_with_all_its_places(target: str) -> None:
    """What is in the files is in the list, at its line, and nothing is in the list that is not in a file."""
    policy = full_policy(service="-/chat")
    made = export(policy, target, ExportOptions(measured=MEASURED))
    places = {
        f"{name}:{number}": line
        for name, text in made.files.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if START in line and not line.startswith("#")
    }
    assert {place for one in made.to_fill for place in one.places} == set(places)
    for one in made.to_fill:
        assert one.what
        assert all(one.text in places[place] for place in one.places)
    texts = [one.text for one in made.to_fill]
    assert len(set(texts)) == len(texts)
    for (
        line
    ) in places.values():  # no blank is longer than what the list calls it, but for what is built on it
        assert any(text in line for text in texts)
    wants = 2 if target in {*TARGET_TITLES} - {"dynamo", "heteroscale"} else 0
    assert len(made.to_fill) >= wants


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_with_all_names_known_nothing_is_left_to_fill_in(target: str) -> None:
    """No file holds a blank, but for OME's provider, which no source tells."""
    workloads = {"prefill": Workload("p"), "decode": Workload("d")}
    kinds = ("ModelServing", "StormService", "LLMInferenceService", "RoleBasedGroup", "InferenceService")
    options = ExportOptions(
        namespace="llm", workloads=workloads, serving=dict.fromkeys(kinds, "chat"),
        server_address="http://prom:9090", measured=MEASURED,
    )  # fmt: skip
    left = export(full_policy(service="-/chat"), target, options).to_fill
    assert [one.text for one in left] == (["fill-in-metric-provider"] if target == "ome" else [])


def test_a_file_takes_the_place_of_todays_object_of_its_kind() -> None:
    """Name, namespace, labels and the way to Prometheus are today's; of another kind only what is scaled."""
    options = ExportOptions(
        todays={"decode": TODAY}, workloads={"decode": Workload("today")}, labels={"a": "b"}
    )
    bodies = {}
    for target in ("keda", "hpa"):
        made = export(full_policy(), target, options)
        (text,) = [text for name, text in made.files.items() if name.endswith(("objects.yaml", "hpa.yaml"))]
        found = load_documents(text)
        bodies[target] = next(b for b in found if b["spec"]["scaleTargetRef"]["name"] == "today")
    assert bodies["keda"]["metadata"] == {
        "name": "scale-gen", "namespace": "eu", "labels": {"team": "search", "a": "b"},
    }  # fmt: skip
    assert bodies["keda"]["spec"]["triggers"][0]["metadata"]["serverAddress"] == "https://thanos:9091"
    assert bodies["hpa"]["metadata"] == {"name": "chat-decode", "namespace": "eu", "labels": {"a": "b"}}


def test_the_settings_win_over_todays_object() -> None:
    """Namespace and address of [export] are written for the pool whose object says otherwise."""
    series = series_frame(rows((WORK, {})))
    asked = ClusterNames(namespace="mine")
    names = names_of("prod/chat", ("decode",), asked, "http://p:9090", {"decode": TODAY}, series, alone=True)
    assert (names.namespace, names.server_address) == ("mine", "http://p:9090")
    kept = names.todays["decode"]
    assert (kept.namespace, kept.access.server_address) == ("mine", "http://p:9090")


def test_two_addresses_of_today_are_kept_apart() -> None:
    """Each pool's trigger keeps its own; for what is of neither pool the address is a blank."""
    other = replace(TODAY, access=PrometheusAccess("http://other:9090"), where="today.yaml:9")
    series = series_frame(rows((WORK, {})))
    names = names_of(
        "prod/chat", ("prefill", "decode"), ClusterNames(), None, {"prefill": other, "decode": TODAY}, series,
        alone=True,
    )  # fmt: skip
    assert names.server_address is None
    assert names.unknown["fill-in-prometheus-address"] == (
        "--current has http://other:9090 and https://thanos:9091"
    )

"""Instances that have a role and no service: who they are, and the line of hsa.toml that gives them one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.services import Unserved, identify, unserved_instances
from hs_analysis.schema.settings import Reading

Labels = Mapping[str, str]

VLLM = "vllm:num_requests_running"
WORKER = "dynamo_component_inflight_requests"


def engine(model: str, **labels: str) -> Labels:
    """Return a decode worker's series, which names its model."""
    return {"__name__": VLLM, "model_name": model, **labels}


def worker(role: str = "prefill", **labels: str) -> Labels:
    """Return a series that names a role and no model."""
    return {"__name__": WORKER, "dynamo_component": role, **labels}


def read(rows: Sequence[Labels], told: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Return the series as ingest leaves them, as far as it matters here."""
    catalogue = load_catalogue()
    found = identify([("", row) for row in rows], catalogue, Reading(services=dict(told or {})))
    return pl.DataFrame(
        [
            {
                "series_id": number,
                "capture": "",
                "metric": row["__name__"],
                "labels": [{"key": k, "value": v} for k, v in row.items() if k != "__name__"],
                "service": who.service,
                "instance": who.instance,
                "emitter_role": who.emitter_role,
                "source": who.exporter,
            }
            for number, (row, who) in enumerate(zip(rows, found, strict=True))
        ],
        schema_overrides={"service": pl.String, "instance": pl.String},
    )


def unserved(rows: Sequence[Labels], told: Mapping[str, str] | None = None) -> tuple[Unserved, ...]:
    """Return the instances without a service of series given by labels."""
    return unserved_instances(read(rows, told), load_catalogue())


def told_by(found: Sequence[Unserved]) -> dict[str, str]:
    """Return what the proposed lines say as hsa.toml reads them."""
    text = "\n".join(["[services]", *dict.fromkeys(one.line for one in found if one.line)])
    services: dict[str, str] = tomllib.loads(text)["services"]
    return services


TWO = (
    engine("a", pod="gen-a-0", namespace="ns"), engine("b", pod="gen-b-0", namespace="ns"),
    engine("c", pod="gen-c-0", namespace="apart"),
)  # fmt: skip
LOST = tuple(worker(pod=f"ctx-7d9f8b6c5-x2z4{end}", namespace="ns") for end in "bcd")


def test_a_pool_that_two_services_may_own_is_named_with_the_line_that_settles_it() -> None:
    """Both services are not known whole; one of another namespace is."""
    (found,) = unserved((*TWO, *LOST))
    assert (found.namespace, found.role, len(found.instances)) == ("ns", "prefill", 3)
    assert found.line == '"^pod=ctx-" = "ns/a"  # or "ns/b"'
    assert set(found.beside) == {"ns/a", "ns/b"}
    assert found.sentence() == (
        "3 prefill instances of namespace ns belong to no service, and no answer counts them "
        "(ctx-7d9f8b6c5-x2z4b, ctx-7d9f8b6c5-x2z4c, ctx-7d9f8b6c5-x2z4d): nothing says that they are of "
        'ns/a or ns/b; add under [services] in hsa.toml: "^pod=ctx-" = "ns/a"  # or "ns/b"'
    )


def test_the_line_brings_the_pool_and_moves_nothing_else() -> None:
    """Read as hsa.toml is; the other series keep their service."""
    rows = (*TWO, *LOST, {"__name__": "up", "pod": "ctx-7d9f8b6c5-x2z4b", "namespace": "ns"})
    told = told_by(unserved(rows))
    assert unserved(rows, told) == ()
    assert read(rows, told)["service"].to_list() == ["ns/a", "ns/b", "apart/c", *["ns/a"] * 4]


def test_a_service_that_lacks_the_role_is_proposed_first_and_once() -> None:
    """Two pools and two services: each gets one, whichever it is."""
    rows = (*TWO, worker(pod="gen-a-1", namespace="ns"), *LOST)
    assert [one.proposed for one in unserved(rows)] == ["ns/b"]
    pools = (*TWO, worker(pod="x-0", namespace="ns"), worker(pod="y-0", namespace="ns"))
    assert [one.line for one in unserved(pools)] == [
        '"^pod=x-" = "ns/a"  # or "ns/b"',
        '"^pod=y-" = "ns/b"  # or "ns/a"',
    ]


def test_a_namespace_without_a_service_gets_one_of_its_own() -> None:
    """One line for all its pools; no service of the input is in doubt."""
    rows = (*TWO, worker(pod="p-0", namespace="new"), worker("backend", pod="d-0", namespace="new"))
    found = unserved(rows)
    assert [one.fitting for one in found] == [(), ()]
    assert {service for one in found for service in one.beside} == set()
    assert told_by(found) == {"^namespace=new$": "new/unnamed"}
    assert "no service of the input fits" in found[0].sentence()
    assert unserved(rows, told_by(found)) == ()


def test_another_dynamo_namespace_is_no_service_of_the_namespace() -> None:
    """The label that tells them apart makes the line; what shares the Kubernetes namespace is in doubt."""
    known = worker("backend", pod="gen-a-0", namespace="ns", dynamo_namespace="one")
    rows = (TWO[0], known, TWO[2], worker(pod="p-0", namespace="ns", dynamo_namespace="two"))
    (found,) = unserved(rows)
    assert (found.line, found.beside) == ('"^dynamo_namespace=two$" = "ns/two"', ("ns/a",))
    assert unserved(rows, told_by([found])) == ()


@pytest.mark.parametrize(
    ("pods", "line"),
    [
        (("gen-b", "x"), '"^pod=(gen-b|x)$"'),
        (("gen",), '"^pod=gen$"'),
        (("a.b+c",), '"^pod=a\\\\.b\\\\+c$"'),
        (('q"t',), '"^pod=q\\"t$"'),
    ],
)
def test_names_that_share_nothing_are_listed(pods: tuple[str, ...], line: str) -> None:
    """Whole names, so that no other pod is picked; signs of patterns and quotes stand for themselves."""
    rows = (*TWO, *(worker(pod=pod, namespace="ns") for pod in pods))
    (found,) = unserved(rows)
    assert (found.line or "").startswith(f"{line} = ")
    assert unserved(rows, told_by([found])) == ()


def test_targets_outside_kubernetes_are_named_by_their_instance() -> None:
    """There is no pod, and the job is shared."""
    rows = [engine(name, instance=f"10.0.0.{i}:80", job="llm") for i, name in enumerate("ab")]
    rows += [worker(instance="10.0.0.8:80", job="llm"), worker(instance="10.0.0.9:80", job="llm")]
    (found,) = unserved(rows)
    assert found.line == '"^instance=(10\\\\.0\\\\.0\\\\.8:80|10\\\\.0\\\\.0\\\\.9:80)$" = "-/a"  # or "-/b"'
    assert unserved(rows, told_by([found])) == ()


@pytest.mark.parametrize(
    "series",
    [
        {"__name__": "up", "pod": "x-prefill-0", "namespace": "ns"},
        {"__name__": "kube_pod_labels", "pod": "x", "namespace": "ns", "label_llm_d_ai_role": "prefill"},
        {"__name__": WORKER, "pod": "x-0", "namespace": "ns"},
        {"__name__": WORKER, "dynamo_component": "prefill", "namespace": "ns"},
    ],
    ids=["Prometheus alone", "kube-state-metrics alone", "no role", "no instance"],
)
def test_what_is_no_instance_with_a_role_is_passed_over(series: Labels) -> None:
    """Nothing serves there, as far as the dump shows."""
    assert unserved((*TWO, series)) == ()


def test_a_front_end_of_two_models_belongs_to_both() -> None:
    """Its series that name no model are of neither, and it is not lost."""
    rows = [
        {"__name__": "dynamo_frontend_requests_total", "pod": "f", "namespace": "ns", "model": model}
        for model in ("a", "b")
    ]
    own = {"__name__": "dynamo_frontend_stage_requests", "pod": "f", "namespace": "ns"}
    assert read((*TWO, *rows, own))["service"].to_list()[-1] is None
    assert unserved((*TWO, *rows, own)) == ()


_NAMES = st.sampled_from(["a-0", "a-1", "a-b-0", "b", "b-7d9f8b6c5-x2z4b", "c.d-0", "gen-a-7", "gen-b"])


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["prefill", "backend"]),
            _NAMES,
            st.sampled_from(["ns", "new", ""]),
            st.sampled_from(["one", "two", ""]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_lines_always_bring_every_pool(given: list[tuple[str, str, str, str]]) -> None:
    """Whatever the fleet: no instance is left but those called as one elsewhere, and no service changes."""
    own = [
        worker(role, pod=pod, **{k: v for k, v in (("namespace", ns), ("dynamo_namespace", graph)) if v})
        for role, pod, ns, graph in given
    ]
    rows = (*TWO, *own)
    found = unserved(rows)
    twice = {pod for _, pod, _, _ in given if len({ns for _, name, ns, _ in given if name == pod}) > 1}
    assert all(one.line or twice.intersection(one.instances) for one in found)
    after = read(rows, told_by(found))
    left = {one.instances for one in found if one.line is None}
    assert {one.instances for one in unserved_instances(after, load_catalogue())} <= left
    before = read(rows)
    kept = before["service"].is_not_null()
    assert after.filter(kept)["service"].to_list() == before.filter(kept)["service"].to_list()

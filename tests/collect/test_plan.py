"""One grid, cut into chunks that a server answers; every metric of the catalogue; files that stay small."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.plan import (
    MOST_POINTS,
    MOST_SAMPLES,
    SUPPORTING_METRICS,
    Caller,
    MetricShare,
    PlanRequest,
    around_service,
    chunks,
    curl,
    make_plan,
    on_grid,
    parameters,
    promtool,
    promtool_lacks,
    selector_of,
    shares_of,
    time_ranges,
    wanted_metrics,
)
from hs_analysis.collect.selectors import LabelMatcher, query_of
from hs_analysis.errors import UsageError

CATALOGUE = load_catalogue()
NEEDS = {need.metric: need for need in wanted_metrics(CATALOGUE)}
DAY = 86_400.0
START = 1_764_000_000.0


def points_of(chunk, step_s: float) -> list[float]:
    """The points a server evaluates for a chunk's query, in milliseconds."""
    first, last, step = (round(1000 * value) for value in (chunk.start, chunk.end, step_s))
    return list(range(first, last + 1, step))


@given(
    st.integers(0, 10**9), st.integers(0, 5_000_000), st.sampled_from([0.5, 1.0, 5.0, 15.0, 37.0]),
    st.integers(1, 900),
)  # fmt: skip
def test_chunks_cover_the_grid_once(start_ms: int, length_ms: int, step_s: float, size: int) -> None:
    """All multiples of the step in the window, each in exactly one chunk, in order."""
    start, end = start_ms / 1000, (start_ms + length_ms) / 1000
    got = [point for chunk in chunks(start, end, step_s, size) for point in points_of(chunk, step_s)]
    step = round(step_s * 1000)
    assert got == list(range(-(-start_ms // step) * step, start_ms + length_ms + 1, step))
    assert all(
        chunk.points == len(points_of(chunk, step_s)) <= size for chunk in chunks(start, end, step_s, size)
    )


@pytest.mark.parametrize(("step_s", "requests"), [(15, 4), (30, 2), (60, 1), (5, 11), (1, 55)])
def test_requests_of_a_week(step_s: float, requests: int) -> None:
    """40,320 points at 15 s are four requests, and so on; none asks for more than the server allows."""
    week = list(chunks(START, START + 7 * DAY - step_s, step_s))
    assert len(week) == requests
    assert all((chunk.end - chunk.start) / step_s <= 11_000 for chunk in week)


def test_a_chunk_ends_a_step_before_the_next() -> None:
    """Chunk i covers start + i·11000·step to start + (i·11000 + 10999)·step inclusive."""
    first, second, *_ = chunks(START, START + 7 * DAY, 15.0)
    assert (first.start, first.end) == (START, START + 10_999 * 15)
    assert second.start == START + 11_000 * 15


@given(
    st.integers(0, 10**9), st.integers(0, 5_000_000), st.sampled_from([0.5, 1.0, 5.0, 15.0, 37.0]),
    st.integers(1, 900),
)  # fmt: skip
def test_stretches_cover_the_time_once(start_ms: int, length_ms: int, step_s: float, size: int) -> None:
    """Each begins a millisecond after the one before; none holds more samples than it should."""
    start, end = start_ms / 1000, (start_ms + length_ms) / 1000
    got = list(time_ranges(start, end, step_s, size))
    edges = [(round(1000 * one.start), round(1000 * one.end)) for one in got]
    assert edges[0][0] == start_ms
    assert edges[-1][1] == start_ms + length_ms
    assert all(first[1] + 1 == second[0] for first, second in pairwise(edges))
    assert all(first <= last for first, last in edges)
    step = round(step_s * 1000)
    for (first, last), one in zip(edges, got, strict=True):
        samples = max(len(range(at, last + 1, step)) for at in range(first, first + step, 499))
        assert samples <= one.points <= size


@given(st.integers(0, 10**6), st.integers(0, 5_000_000), st.integers(1, 900))
def test_what_was_to_be_scraped_becomes_the_same_grid(start_s: int, length_ms: int, series: int) -> None:
    """A plan for a server without range selectors asks for what a plan of points asks for."""
    need = NEEDS["up"]
    window = (float(start_s), start_s + length_ms / 1000)
    share = MetricShare(need, selector_of(need, (), None), 5.0, 400 * series)
    raw, grid = [replace(share, api="query")], [share]
    if not list(chunks(*window, 5.0)):
        return
    there = on_grid(make_plan(PlanRequest(), window, raw), (), "why")
    assert there.notes == ("why",)
    assert there.files == make_plan(PlanRequest(), window, grid).files
    kept = make_plan(PlanRequest(), window, raw)
    assert on_grid(kept, [kept.files[0].file], "why").files[0] == kept.files[0]


def test_a_range_selector_holds_its_stretch() -> None:
    """A millisecond more than from edge to edge, for the early one is left out."""
    week = list(time_ranges(START, START + 7 * DAY, 15.0))
    assert len(week) == 4
    asked = [parameters("query", ("up",), one, 15.0) for one in week]
    assert asked[:2] == [
        [("query", "up[164985001ms]"), ("time", "1764164985")],
        [("query", "up[165000s]"), ("time", "1764329985")],
    ]
    points = list(chunks(START, START + 7 * DAY, 15.0))
    assert [one.end for one in week] == [one.end for one in points]


def test_every_metric_of_the_catalogue_is_needed_once() -> None:
    """All names a signal may have, the buckets of latency histograms, and the witnesses."""
    terms = {metric for s in CATALOGUE.signals for source in s.sources for metric in source.metrics}
    limited = [s for s in CATALOGUE.signals if s.id in ("ttft", "tbt")]
    families = [names.histogram for s in limited for source in s.sources for names in source.names]
    buckets = {f"{family}_bucket" for family in families if family}
    recorded = {metric for metric in terms | buckets if metric.startswith("hs_")}
    assert set(NEEDS) == (terms | buckets | set(SUPPORTING_METRICS)) - recorded
    everything = {need.metric for need in wanted_metrics(CATALOGUE, recorded=True)}
    assert everything - set(NEEDS) == recorded | {"hs_kube_pod_labels"}
    assert "vllm:gpu_cache_usage_perc" in NEEDS
    assert NEEDS["vllm:time_to_first_token_seconds_bucket"].signal == "ttft"
    of_pods = {name for name in SUPPORTING_METRICS if name.startswith("kube_")}
    assert set(SUPPORTING_METRICS) - {"up"} - of_pods <= CATALOGUE.clock_like


def test_only_some_exporters() -> None:
    """Metrics of the exporters asked for, and the witnesses."""
    assert {n.exporter for n in wanted_metrics(CATALOGUE, ["vllm"]) if n.signal} == {"vllm"}
    assert "up" in {n.metric for n in wanted_metrics(CATALOGUE, ["vllm"])}


def test_nothing_is_summed_on_the_server() -> None:
    """Every query is raw selectors: no function, no aggregation."""
    plan = make_plan(
        PlanRequest(),
        (START, START + DAY),
        [MetricShare(n, selector_of(n, (), "ns"), 15.0) for n in NEEDS.values()],
    )
    selector = r"[a-zA-Z_:][\w:]*(\{[^{}]*\})?"
    assert all(re.fullmatch(f"{selector}( or {selector})*", file.query) for file in plan.files)
    assert len({file.file for file in plan.files}) == len(plan.files)


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        ({"namespace": "ns"}, True),
        ({"exported_namespace": "ns", "namespace": "gpu-operator"}, True),
        ({"exported_namespace": "other", "namespace": "ns"}, False),
        ({}, False),
    ],
)
def test_a_namespace_is_the_exported_one_first(labels: dict[str, str], taken: bool) -> None:
    """DCGM's own namespace is not its pods'."""
    need = NEEDS["DCGM_FI_DEV_GPU_UTIL"]
    selector = selector_of(need, (), "ns")
    assert selector.accepts({"__name__": need.metric, **labels}) is taken
    assert sum(all(m.accepts(labels) for m in one) for one in selector.alternatives) == taken


def test_pods_without_a_role_label_are_left_out() -> None:
    """Of a cluster's pod labels only those that tell a role are asked for, each pod once."""
    selector = selector_of(NEEDS["kube_pod_labels"], (), None)
    both = {"label_llm_d_ai_role": "prefill", "label_role_name": "prefill"}
    for labels, times in ((both, 1), ({"label_role_name": "decode"}, 1), ({"pod": "p"}, 0)):
        assert sum(all(m.accepts(labels) for m in one) for one in selector.alternatives) == times


def test_targets_and_cluster_are_narrowed_to_the_service() -> None:
    """Its jobs and namespaces; not where a series lacks the label, and GPU series never."""
    service = [{"job": "vllm", "namespace": "chat"}, {"job": "frontend", "exported_namespace": "front"}]
    up, ready, gpu = (
        NEEDS["up"],
        NEEDS["kube_deployment_status_replicas_ready"],
        NEEDS["DCGM_FI_DEV_GPU_UTIL"],
    )
    assert (
        query_of(around_service(up, selector_of(up, (), None), service).match) == 'up{job=~"frontend|vllm"}'
    )
    near = around_service(ready, selector_of(ready, (), None), service)
    assert near.accepts({"__name__": ready.metric, "namespace": "chat"})
    assert not near.accepts({"__name__": ready.metric, "namespace": "other"})
    assert around_service(up, selector_of(up, (), None), [*service, {}]).match == ("up",)
    assert around_service(gpu, selector_of(gpu, (), None), service).match == (gpu.metric,)


def fleet(metric: str, pods: int, edges: int) -> list[dict[str, str]]:
    """The series of a bucket metric of some prefill and decode pods and one pod without a role."""
    names = [f"m-{role}-{n}" for role in ("prefill", "decode") for n in range(pods)] + ["m-0"]
    return [{"__name__": metric, "pod": pod, "le": str(edge)} for pod in names for edge in range(edges)]


def test_large_metrics_are_split_by_role_then_by_pods() -> None:
    """Until series × points fit one file; each series is in one share; a small metric is one share."""
    need = NEEDS["vllm:time_to_first_token_seconds_bucket"]
    series = fleet(need.metric, 32, 24)
    most = MOST_SAMPLES // MOST_POINTS
    shares = shares_of(need, selector_of(need, (), None), 15.0, series, most, CATALOGUE)
    assert {share.role for share in shares} == {"prefill", "decode", "other"}
    assert sum(share.series for share in shares) == len(series)
    for row in series:
        assert sum(share.selector.accepts(row) for share in shares) == 1
    assert max(share.series for share in shares) <= most
    plan = make_plan(PlanRequest(), (START, START + 7 * DAY), shares)
    assert all(f.expected_series * f.expected_points <= MOST_SAMPLES for f in plan.files)
    assert len({f.file for f in plan.files}) == len(plan.files)
    assert len(shares_of(need, selector_of(need, (), None), 15.0, series[:48], most, CATALOGUE)) == 1


def test_a_role_label_decides_before_names() -> None:
    """SGLang says the role on the series; a value nobody knows is in the last share."""
    need = NEEDS["sglang:prompt_tokens_total"]
    kinds = ("prefill", "decode", "unified", "new")
    series = [
        {"__name__": need.metric, "engine_type": kind, "pod": f"{kind}-{n}"} for kind in kinds for n in (0, 1)
    ]
    shares = shares_of(need, selector_of(need, (), None), 15.0, series, 2, CATALOGUE)
    assert [(share.role, share.series) for share in shares] == [
        ("prefill", 2), ("decode", 2), ("mixed", 2), ("other", 2),
    ]  # fmt: skip


def test_series_no_label_divides_get_shorter_chunks() -> None:
    """A file stays under the limit even then."""
    need = NEEDS["vllm:generation_tokens_total"]
    series = [{"__name__": need.metric, "engine": str(n)} for n in range(2_000)]
    shares = shares_of(need, selector_of(need, (), None), 15.0, series, 454, CATALOGUE)
    plan = make_plan(PlanRequest(), (START, START + 7 * DAY), shares)
    assert max(f.expected_points for f in plan.files) == 2_500


def test_a_window_without_a_point() -> None:
    """A usage error, not an empty plan."""
    share = MetricShare(NEEDS["up"], selector_of(NEEDS["up"], (), None), 60.0)
    with pytest.raises(UsageError, match="holds no point"):
        make_plan(PlanRequest(), (START + 1, START + 2), [share])


def test_commands() -> None:
    """Ready to run; secrets stand there as the shell word that gives them."""
    need = NEEDS["up"]
    selector = selector_of(need, (LabelMatcher("job", "=", "it's"),), None)
    (file,) = make_plan(PlanRequest(), (START, START + 60), [MetricShare(need, selector, 15.0)]).files
    caller = Caller("https://m.example/prometheus", tenant="a|b", token="$HSA_TOKEN", ca_file="my ca.pem")
    assert curl(file, caller) == (
        '[ -s up.000.json.gz ] || { curl -fsSG -H "Authorization: Bearer $HSA_TOKEN" '
        "-H 'X-Scope-OrgID: a|b' --cacert 'my ca.pem' https://m.example/prometheus/api/v1/query_range "
        "--data-urlencode 'query=up{job=\"it'\"'\"'s\"}' -d start=1764000000 -d end=1764000060 -d step=15 "
        "-o up.000.json; gzip -f up.000.json; }"
    )
    assert promtool(file, Caller("http://localhost:9090")) == (
        "[ -s up.000.json.gz ] || { promtool query range --format=json --start=1764000000 --end=1764000060 "
        "--step=15s http://localhost:9090 'up{job=\"it'\"'\"'s\"}' > up.000.json; gzip -f up.000.json; }"
    )


def test_commands_for_samples_as_scraped() -> None:
    """One instant query a selector; the answers to several are kept only together."""
    need = NEEDS["DCGM_FI_DEV_GPU_UTIL"]
    for namespace, count in ((None, 1), ("chat", 2)):
        selector = selector_of(need, (), namespace)
        share = MetricShare(need, selector, 15.0, api="query", assumed=True)
        (file,) = make_plan(PlanRequest(), (START, START + 60), [share]).files
        assert file.expected_points is None
        for command in (curl(file, Caller("http://p")), promtool(file, Caller("http://p"))):
            assert command.count("[60001ms]") == command.count("time=1764000060") == count
            kept = f"> .draft-{file.file}; mv .draft-{file.file} {file.file[:-3]}; gzip"
            assert (kept in command) == (count > 1)
    line = curl(file, Caller("http://p"))
    assert line.startswith(f"[ -s {file.file} ] || {{ {{ curl -fsSG http://p/api/v1/query --data-urlencode ")
    line = promtool(file, Caller("http://p"))
    assert "{ promtool query instant --format=json --time=1764000060 http://p 'DCGM" in line
    own = promtool_lacks(Caller("http://p", tenant="a"), [file])
    assert own == "promtool takes no token and no tenant where samples are asked for as scraped"
    assert promtool_lacks(Caller("http://p", tenant="a"), [replace(file, api="query_range")]) is None

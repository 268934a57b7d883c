"""What a server has: names once, series together, and the same plan however little a server takes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from collect.recording_server import Asked, Reply, Script, failure, success
from collect.snapshot import END, START

from hs_analysis.collect.access import Access
from hs_analysis.collect.plan import LONGEST_NAME, Plan, PlanRequest
from hs_analysis.collect.selectors import parse_matchers
from hs_analysis.collect.server import LONGEST_GET, Pace, PrometheusServer
from hs_analysis.collect.survey import names
from hs_analysis.pipeline.pull import online_plan, wanted
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Reading

METRICS = ("vllm:generation_tokens_total", "vllm:num_requests_running", "up", "DCGM_FI_DEV_GPU_UTIL")
PODS = ("m-prefill-0", "m-decode-0", "m-decode-1")
WINDOW = (1_764_000_000.0, 1_764_003_600.0)


def rows(selector: str) -> list[dict[str, str]]:
    """The series of a selector."""
    metric, _, inside = selector.partition("{")
    matchers = parse_matchers(inside.removesuffix("}"), "test")
    series = [
        {"__name__": one, "pod": pod, "job": "vllm"}
        for one in METRICS
        for pod in PODS
        if one == (metric or one)
    ]
    return [row for row in series if all(matcher.accepts(row) for matcher in matchers)]


def honest(asked: Asked) -> Reply:
    """A server of four metrics that takes everything."""
    what = asked.path.rpartition("/")[2]
    if what == "values":
        found = [row for m in asked.parameters.get("match[]", ["{}"]) for row in rows(m)]
        return success(sorted({row["__name__"] for row in found} | {"go_goroutines"}))
    if what == "series":
        return success([row for m in asked.parameters["match[]"] for row in rows(m)])
    at = float(asked.parameters.get("time", ["0"])[0])
    values = [[at - 15 * n, "1"] for n in range(4)]
    return success({"resultType": "matrix", "result": [{"metric": {"pod": "p"}, "values": values}]})


def refusing(when: Callable[[Asked], bool], how: Reply) -> Script:
    """The same, but for some questions."""
    return lambda asked: how if when(asked) else honest(asked)


def planned(server: PrometheusServer) -> Plan:
    """The plan of an hour."""
    request = PlanRequest(start="2025-11-24T16:00:00Z", end="2025-11-24T17:00:00Z")
    return online_plan(server, request, 0.0, Silent(), wanted(Reading()))


def are_names(asked: Asked) -> bool:
    """Whether names are asked for."""
    return asked.path.endswith("/values")


SERVERS = {
    "no names": refusing(are_names, Reply(404, b"404 page not found")),
    "names forbidden": refusing(are_names, Reply(403)),
    "names not by matcher": refusing(
        lambda asked: are_names(asked) and "match[]" in asked.parameters,
        failure(400, "bad_data", "match[] is not supported"),
    ),
    "names cut": refusing(
        are_names, success([METRICS[0]], warnings=["results truncated due to limit"])
    ),
    "no name known": refusing(are_names, success([])),
    "names that are none": refusing(are_names, success([3, None])),
    "one selector at a time": refusing(
        lambda asked: len(asked.parameters.get("match[]", ())) > 1,
        failure(400, "bad_data", "one match[] please"),
    ),
    "two selectors are heavy": refusing(
        lambda asked: asked.path.endswith("series") and len(asked.parameters["match[]"]) > 2,
        failure(422, "422", "the number of matching timeseries exceeds 2"),
    ),
    "lists cut": refusing(
        lambda asked: asked.path.endswith("series") and len(asked.parameters["match[]"]) > 1,
        success(rows(METRICS[0]), warnings=["results truncated due to limit"]),
    ),
}  # fmt: skip


def test_what_rules_recorded_is_found_as_well(ask: Callable) -> None:
    """A server that kept the recorded series alone has the metrics of the catalogue."""

    def kept(asked: Asked) -> Reply:
        found = [{"__name__": f"hs_{METRICS[0]}", "pod": "p"}]
        if are_names(asked):
            pattern = re.search(r'__name__=~"(.*?)"', asked.parameters["match[]"][0])
            assert pattern
            names = [row["__name__"] for row in found]
            return success([name for name in names if re.fullmatch(pattern[1], name)])
        if asked.path.endswith("series"):
            return success(
                [row for row in found if any(row["__name__"] in m for m in asked.parameters["match[]"])]
            )
        return honest(asked)

    server, _, _ = ask(kept)
    plan = planned(server)
    assert {file.metric for file in plan.files} == {f"hs_{METRICS[0]}"}
    assert METRICS[0] in plan.absent
    assert not [metric for metric in plan.absent if metric.startswith("hs_")]


def test_names_are_asked_for_once(ask: Callable) -> None:
    """Some requests in place of one a metric; no address is longer than proxies take."""
    server, asked, _ = ask(honest)
    plan = planned(server)
    assert {file.metric for file in plan.files} == set(METRICS)
    assert sum(map(are_names, asked)) <= 5
    assert sum(one.path.endswith("series") for one in asked) == 2
    assert len(asked) <= 15
    longest = max(sum(len(value) for value in one.parameters.get("match[]", ())) for one in asked)
    assert LONGEST_NAME < longest < LONGEST_GET


@pytest.mark.parametrize("server_of", list(SERVERS))
def test_a_server_that_takes_less_gives_the_same_plan(ask: Callable, server_of: str) -> None:
    """Names, selectors or lists that can't be relied upon are asked for in a smaller way."""
    expected = planned(ask(honest)[0])
    assert planned(ask(SERVERS[server_of])[0]) == expected


def test_a_list_of_no_known_name_is_not_relied_upon(ask: Callable) -> None:
    """The server may list another day's names."""
    server, asked, _ = ask(refusing(are_names, success(["go_goroutines"])))
    assert names(server, METRICS, (), WINDOW) is None
    assert len(asked) == 2
    whole, _, _ = ask(honest)
    assert names(whole, [*METRICS, "other"], (), WINDOW) == frozenset(METRICS)
    narrow = parse_matchers('job="other"', "test")
    assert names(refused_but_all(ask), METRICS, narrow, WINDOW) == frozenset(METRICS)


def refused_but_all(ask: Callable) -> PrometheusServer:
    """A server that gives names only without a matcher."""
    return ask(SERVERS["names not by matcher"])[0]


def test_a_prometheus_gives_the_plan_of_one_question_a_metric(
    prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without its list of names, together and one by one."""
    from hs_analysis.collect import survey

    def plan() -> Plan:
        server = PrometheusServer(
            prometheus, Access(), Pace(1e9, lambda: 0.0, lambda _: None), lambda _: None
        )
        return online_plan(server, PlanRequest(start=START, end=END), 0.0, Silent(), wanted(Reading()))

    quick = plan()
    monkeypatch.setattr(survey, "names", lambda *_: None)
    monkeypatch.setattr(survey, "_at_once", lambda *_: None)
    assert plan() == quick
    assert len(quick.files) > 30

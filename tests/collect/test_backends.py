"""Managed servers: told by their hosts, and a plan that stays within what each answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from collect.one_file import START
from collect.recording_server import METRIC, Asked, Reply, failure, small_prometheus, success

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.backends import BACKENDS, PROMETHEUS, backend_of
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.plan import (
    MetricShare,
    PlannedFile,
    PlanRequest,
    make_plan,
    most_points,
    selector_of,
    wanted_metrics,
)
from hs_analysis.collect.survey import listed_together, names

WEEK_S = 7 * 86_400.0
AZURE = backend_of("", "azure")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1", "amp"),
        ("https://monitoring.googleapis.com/v1/projects/p/location/global/prometheus", "gmp"),
        ("https://monitoring.eu-west-1.amazonaws.com", "cloudwatch"),
        ("https://monitoring.cn-north-1.amazonaws.com.cn", "cloudwatch"),
        ("https://team-x1.westeurope.prometheus.monitor.azure.com", "azure"),
        ("https://prometheus-prod-01-eu-west-0.grafana.net/api/prom", "grafana-cloud"),
        ("http://thanos-query:10902", "prometheus"),
        ("https://grafana.net.attacker.test", "prometheus"),
    ],
)
def test_hosts_tell_whose_server_it_is(url: str, name: str) -> None:
    """By the whole host's name; what people run themselves has any name, and is named by a flag."""
    assert backend_of(url).name == name
    assert backend_of(url, "mimir").name == "mimir"


@pytest.mark.parametrize("step_s", [5.0, 15.0, 30.0, 60.0, 300.0])
@pytest.mark.parametrize("api", ["query", "query_range"])
@pytest.mark.parametrize(
    "backend", [one for one in BACKENDS if one.longest_query_s], ids=lambda one: one.name
)
def test_no_query_reaches_over_what_is_answered(backend, api, step_s: float) -> None:
    """At any scrape interval, with the length of its range selector; together the files cover 40 days."""
    need = next(n for n in wanted_metrics(load_catalogue()) if n.metric == METRIC)
    share = MetricShare(need, selector_of(need, (), None), step_s, 4, api=api)
    window = (START, START + 40 * 86_400.0)
    files = make_plan(PlanRequest(), window, [share], longest_s=backend.longest_query_s).files
    assert all(file.end - file.start < backend.longest_query_s for file in files)
    assert (files[0].start, files[-1].end) == pytest.approx(window, abs=step_s)
    gaps = {round(b.start - a.end, 3) for a, b in itertools.pairwise(files)}
    assert gaps == {0.001 if api == "query" else step_s}
    assert most_points(step_s, None) == 11_000


def azure(asked: Asked) -> Reply:
    """Answer lists as Azure Monitor documents it: one name, no pattern on it, twelve hours."""
    if asked.path.endswith("/series"):
        (match,) = asked.parameters["match[]"]
        if "__name__=~" in match or float(asked.one("end")) - float(asked.one("start")) > 12 * 3600:
            return failure(400, "bad_data", "one metric name and 12 hours")
    if asked.path.endswith("/values") and asked.parameters.get("match[]"):
        return failure(400, "bad_data", "match[] is not supported")
    if asked.path.endswith("/values"):
        return success([METRIC, "up"])
    return small_prometheus(asked)


def test_lists_in_small_parts(ask: Callable) -> None:
    """A week of series in parts of at most twelve hours, a metric at a time, each series once."""
    server, asked, _ = ask(azure)
    server = replace(server, backend=AZURE)
    window = (START, START + WEEK_S)
    assert names(server, [METRIC, "up", "other"], (), window) == {METRIC, "up"}
    needs = [need for need in wanted_metrics(load_catalogue()) if need.metric in (METRIC, "up")]
    found = listed_together(server, [selector_of(need, (), None) for need in needs], window)
    assert len(found[METRIC]) == 4
    lists = [one for one in asked if one.path.endswith("/series")]
    assert len(lists) == 2 * 14
    own = [one for one in lists if METRIC in one.one("match[]")]
    edges = sorted((float(one.one("start")), float(one.one("end"))) for one in own)
    assert [edges[0][0], edges[-1][1]] == list(window)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))


def test_long_lists_stay_in_the_address_where_forms_are_not_read(ask: Callable) -> None:
    """Google's series and names; queries are sent as a form all the same."""
    server, asked, _ = ask(small_prometheus)
    long = [("match[]", METRIC + '{pod!="' + "p" * 5000 + '"}'), ("start", "0"), ("end", "1")]
    for backend in (PROMETHEUS, backend_of("", "gmp")):
        replace(server, backend=backend).ask("series", long, lambda body: body)
    query = [("query", long[0][1] + "[60s]"), ("time", "1764000000")]
    replace(server, backend=backend_of("", "gmp")).ask("query", query, lambda body: body)
    assert [one.method for one in asked] == ["POST", "GET", "POST"]


@pytest.mark.parametrize("backend", ["thanos", "victoriametrics"])
def test_whole_answers_are_asked_for(ask: Callable, backend: str, hsa, tmp_path: Path) -> None:
    """Thanos and VictoriaMetrics are told with each request that a part is no answer; by hand as well."""
    kind = backend_of("", backend)
    server, asked, _ = ask(small_prometheus)
    window = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-24T01:00:00Z")
    done = hsa(
        "pull", "--url", server.base, *window, "--backend", backend, "--out", tmp_path / "dumps", "-q",
        "--rate", "1000000",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert asked
    for name, value in kind.parameters:
        assert all(one.parameters[name] == [value] for one in asked)
    plan = ("export-plan", *window, "--backend", backend, "--exporter", "vllm", "-q", "--out", tmp_path / "p")
    lines = hsa(*plan).stdout.splitlines()[1:]
    assert lines
    assert all(f"-d {name}={value}" in line for line in lines for name, value in kind.parameters)
    refused = hsa(*plan, "--tool", "promtool")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"promtool sends no {kind.parameters[0][0]}" in refused.stderr


def test_a_plan_of_azure_by_its_address(hsa, tmp_path: Path) -> None:
    """export-plan knows the host: at 30 s its stretches are of 47 hours, not of 92."""
    url = "https://x.westeurope.prometheus.monitor.azure.com"
    window = ("--last", "8d", "--to", "2026-11-24T00:00:00Z", "--step", "30s", "--exporter", "vllm", "-q")
    lengths = {}
    for address in (url, "http://localhost:9090"):
        folder = tmp_path / address[8:14]
        assert hsa("export-plan", "--url", address, *window, "--out", folder).returncode == 0
        files = json.loads((folder / "plan.json").read_text())["files"]
        lengths[address] = max(file["end"] - file["start"] for file in files) / 3600
    assert 46 < lengths[url] <= 47
    assert 91 < lengths["http://localhost:9090"] < 92


def test_cloudwatch_is_asked_for_less_than_it_cuts(ask: Callable) -> None:
    """An answer of 500 series is a part, also where nothing says so: it is split until each has fewer."""
    pods = [f"p-{number:04d}" for number in range(900)]

    def cloudwatch(asked: Asked) -> Reply:
        if asked.path.endswith("/series"):
            return success([{"__name__": METRIC, "pod": pod} for pod in pods])
        query = asked.one("query")
        named = [pod for pod in pods if pod in query]
        picked = [pod for pod in pods if pod not in named] if "pod!" in query or not named else named
        values = [[START, "1"]]
        rows = [{"metric": {"__name__": METRIC, "pod": pod}, "values": values} for pod in picked[:500]]
        return success({"resultType": "matrix", "result": rows})

    server, _, _ = ask(cloudwatch)
    kind = backend_of("https://monitoring.eu-west-1.amazonaws.com")
    assert (kind.name, kind.signed_as) == ("cloudwatch", "monitoring")
    server = replace(server, backend=kind)
    file = PlannedFile("f.json", METRIC, None, "vllm", "", METRIC, (METRIC,), START, START, 15.0, 1)
    kept: list[bytes] = []
    got = fetch(file, server, ServerLimits(10**6), kept.append)
    assert (got.series, got.points) == (900, 900)
    assert all(body.count(b'"pod"') < 500 for body in kept)

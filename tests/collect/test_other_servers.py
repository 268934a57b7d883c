"""``hsa pull`` from servers that are nearly Prometheus: what they answer, and what the user gets.

The answers have the shapes of Thanos (querier with partial response), Mimir (prefix, tenant, limits per
tenant) and VictoriaMetrics (cluster paths, isPartial, its own error types).
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from collect.recording_server import (
    PODS,
    Asked,
    Reply,
    Script,
    failure,
    scraped,
    serving,
    small_prometheus,
    success,
)
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.collect import server as client

WINDOW = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-24T01:00:00Z", "--rate", "1000000")
START, END = 1_795_478_400.0, 1_795_482_000.0
BY_POD = {pod: len(scraped(pod, START, END)) for pod in PODS}
SAMPLES = sum(BY_POD.values())
FILE = "vllm__generation_tokens_total.000.json.gz"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; waiting takes no time."""
    for name in ("HSA_URL", "HSA_TOKEN", "HSA_USER", "HSA_PASSWORD", "HSA_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(client, "backoff_s", lambda _attempt: 0.001)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pulled(script: Script, *arguments: str, path: str = "") -> tuple[Any, list[Asked]]:
    """Pull from a server; return the outcome and what the server was asked."""
    with serving(script) as (address, asked):
        done = CliRunner().invoke(app, ["pull", "--url", address + path, *WINDOW, *arguments])
    return done, asked


def frame() -> pl.DataFrame:
    """What hsa ingest makes of the folder: pod, time and value of each sample."""
    done = CliRunner().invoke(app, ["ingest", "dumps", "--run-dir", "run", "-q"])
    assert done.exit_code == 0, done.output
    series, samples = (
        pl.read_parquet(f"run/data/{name}") for name in ("series.parquet", "samples/*.parquet")
    )
    return series.join(samples, "series_id").select("instance", "t", "value")


def whole() -> None:
    """Every point of every pod is there, once."""
    got = frame()
    assert got.height == got.select("instance", "t").n_unique() == SAMPLES
    assert {pod: len(rows) for (pod,), rows in got.group_by("instance")} == BY_POD
    assert got.filter(pl.col("value") != pl.col("t").dt.epoch("s")).is_empty()


def error(done: Any) -> str:
    """The only line of an error."""
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    return str(done.stderr.splitlines()[-1])


def with_more(reply: Reply, **more: Any) -> Reply:
    """An answer with more keys beside its data."""
    return Reply(200, json.dumps({**json.loads(reply.body), **more}).encode())


STORE = (
    'receive series from Addr: 10.0.0.7:10901 LabelSets: {prometheus_replica="a"} Mint: 0 Maxt: '
    "9223372036854775807: rpc error: code = Unavailable desc = connection error"
)  # fmt: skip


def test_thanos_partial_answer() -> None:
    """The stores' warning is shown once and kept with the file; the doctor repeats it; nothing is lost."""

    def thanos(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        return with_more(reply, warnings=[STORE]) if asked.for_data else reply

    done, asked = pulled(thanos, "-o", "json")
    assert done.exit_code == 0, done.output
    assert [one["text"] for one in json.loads(done.stdout)["warnings"]] == [STORE]
    assert sum(STORE in line for line in done.stderr.splitlines()) == 1
    assert json.loads(gzip.decompress(Path("dumps", FILE).read_bytes()))["warnings"] == [STORE]
    assert not any("dedup" in one.parameters for one in asked)  # the querier's own default
    whole()
    said = CliRunner().invoke(app, ["doctor", "run", "-q", "-o", "json"])
    warned = [f for f in json.loads(said.stdout)["findings"] if f["check"] == "server_warnings"]
    assert any("10.0.0.7:10901" in one["text"] for one in warned)


def test_thanos_that_may_give_no_part() -> None:
    """With partial answers denied a store that is gone is an error at once: splitting brings nothing back."""
    aborted = "rpc error: code = Aborted desc = No StoreAPIs matched for this query"
    text = f"expanding series: proxy Series(): {aborted}"

    def thanos(asked: Asked) -> Reply:
        return failure(422, "execution", text) if asked.for_data else small_prometheus(asked)

    done, asked = pulled(thanos)
    assert "a store did not answer, and the server gives no part of its data (HTTP 422: " in error(done)
    assert sum(one.for_data for one in asked) == 1


def test_thanos_without_deduplication(place: Path) -> None:
    """Two replicas of each series are both fetched, and the doctor says how to keep one."""

    def thanos(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        document = json.loads(reply.body)
        data = document["data"]
        if "series" in asked.path:
            document["data"] = [{**row, "prometheus_replica": name} for row in data for name in "ab"]
        elif asked.for_data:
            data["result"] = [
                {**row, "metric": {**row["metric"], "prometheus_replica": name}}
                for row in data["result"]
                for name in "ab"
            ]
        return Reply(200, json.dumps(document).encode())

    done, _ = pulled(thanos, "-o", "json")
    assert [f["series"] for f in json.loads(done.stdout)["files"]] == [2 * len(PODS)]
    assert frame().height == 2 * SAMPLES
    said = CliRunner().invoke(app, ["doctor", "run", "-q", "-o", "json"])
    assert any(
        f["check"] == "replicas" and f["level"] == "fail" and "prometheus_replica" in f["text"]
        for f in json.loads(said.stdout)["findings"]
    )


def mimir(then: Script = small_prometheus) -> Script:
    """A Mimir: below /prometheus, for a tenant; elsewhere a page that is not there."""

    def script(asked: Asked) -> Reply:
        if not asked.path.startswith("/prometheus/api/v1/"):
            return Reply(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        if "X-Scope-Orgid" not in asked.headers:
            return Reply(401, b"no org id\n", {"Content-Type": "text/plain"})
        return then(asked)

    return script


def test_mimir_without_a_tenant() -> None:
    """One line that names the flag; nothing is left behind."""
    done, _ = pulled(mimir())
    assert error(done).endswith("the server wants a tenant (HTTP 401); give --tenant")
    assert not list(Path().iterdir())


def test_mimir_with_and_without_its_prefix() -> None:
    """The prefix is found; every query has the tenant."""
    done, asked = pulled(mimir(), "--tenant", "team-a")
    assert done.exit_code == 0, done.output
    whole()
    assert {one.headers.get("X-Scope-Orgid") for one in asked} == {"team-a"}
    again, _ = pulled(mimir(), "--tenant", "team-a", "--out", "other", path="/prometheus")
    assert again.exit_code == 0, again.output
    assert Path("other", FILE).read_bytes() == Path("dumps", FILE).read_bytes()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bad_data", "the query time range exceeds the limit (query length: 1h0m0s, limit: 20m0s) "
         "(err-mimir-max-query-length). To adjust the related per-tenant limit, configure …"),
        ("execution", "expanding series: the query time range exceeds the limit (query length: 1h0m0s, "
         "limit: 20m0s)"),
        ("execution", "the query exceeded the maximum number of chunks (limit: 30 chunks) "
         "(err-mimir-max-chunks-per-query). Consider reducing the time range and/or number of series"),
    ],
)  # fmt: skip
def test_mimir_limits_of_a_tenant(kind: str, text: str) -> None:
    """A stretch too long is cut in time, a query too heavy by series: every point comes, once."""

    def limited(asked: Asked) -> Reply:
        if asked.for_data:
            long = asked.length_s > 1200
            many = len(json.loads(small_prometheus(asked).body)["data"]["result"]) > 1
            if many if "chunks" in text else long:
                return failure(422, kind, text)
        return small_prometheus(asked)

    done, _ = pulled(mimir(limited), "--tenant", "team-a", "-o", "json")
    assert done.exit_code == 0, done.output
    whole()


def test_mimir_limit_that_nothing_gets_under() -> None:
    """The limit's own words end the line; the other files would be there."""
    text = "the query exceeded the maximum number of samples (err-mimir-max-samples)"

    def limited(asked: Asked) -> Reply:
        return failure(422, "execution", text) if asked.for_data else small_prometheus(asked)

    done, _ = pulled(mimir(limited), "--tenant", "team-a")
    line = error(done)
    assert "can't be had even in parts (HTTP 422: the query exceeded the maximum number of samples" in line
    assert "narrow it with --match or --namespace" in line


def test_mimir_full_queue() -> None:
    """Too many outstanding requests: asked again, not split."""
    full = [
        failure(422, "execution", "too many outstanding requests"),
        Reply(429, b"too many outstanding requests"),
    ]

    def queued(asked: Asked) -> Reply:
        return full.pop() if full and asked.for_data else small_prometheus(asked)

    done, asked = pulled(mimir(queued), "--tenant", "team-a")
    assert done.exit_code == 0, done.output
    assert len({one.one("query") for one in asked if one.for_data}) == 1
    whole()


def victoria(then: Script = small_prometheus) -> Script:
    """A VictoriaMetrics cluster's vmselect, whose API is below the account's path."""

    def script(asked: Asked) -> Reply:
        if asked.path.startswith("/select/0/prometheus/api/v1/"):
            return then(asked)
        path = json.dumps(asked.path)
        text = f'remoteAddr: "10.0.0.1:4000"; requestURI: {path}; unsupported path requested: {path}'
        return Reply(400, text.encode(), {"Content-Type": "text/plain"})

    return script


def test_victoriametrics_partial_answer() -> None:
    """A storage node did not answer: points come in part, which is told and kept in the file."""

    def partial(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        if not asked.for_data:
            return reply
        return with_more(reply, isPartial=True, stats={"seriesFetched": "4", "executionTimeMsec": 3})

    done, _ = pulled(victoria(partial), "-o", "json", "--step", "20s", path="/select/0/prometheus")
    assert done.exit_code == 0, done.output
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning["text"] == "the answer is partial: not every storage node answered"
    assert frame().height == len(PODS) * 181
    said = CliRunner().invoke(app, ["doctor", "run", "-q", "-o", "json"])
    assert any(
        f["check"] == "server_warnings" and f["level"] == "warn" for f in json.loads(said.stdout)["findings"]
    )


def test_victoriametrics_gives_no_part_of_what_was_scraped() -> None:
    """It serves raw samples whole or not at all: one line at once, and nothing half is kept."""
    text = (
        "cannot fetch query results from vmstorage nodes: cannot perform search on vmstorage node-1:8401: "
        "cannot obtain connection from a pool: cannot dial node-1:8401"
    )

    def broken(asked: Asked) -> Reply:
        raw = asked.path.endswith("/query") and asked.length_s
        return failure(503, "503", text) if raw else small_prometheus(asked)

    done, asked = pulled(victoria(broken), path="/select/0/prometheus")
    assert "a store did not answer, and the server gives no part of its data (HTTP 503: " in error(done)
    assert sum(one.length_s == 60 for one in asked) == 1
    assert not list(Path().iterdir())


REFUSAL = "Unsupported arrow data type, type: Dictionary(Int64, Float64)"


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (failure(400, "bad_data", "range selectors are not supported"),
         "the server refused the query (HTTP 400, bad_data: range selectors are not supported)"),
        (failure(422, "execution", REFUSAL), f"HTTP 422: {REFUSAL}"),
        (success({"resultType": "vector", "result": []}),
         "the server answers a range selector with a vector"),
    ],
)  # fmt: skip
def test_a_server_without_range_selectors(refusal: Reply, why: str) -> None:
    """Points on a grid come instead: a note and plan.json say so; going on asks no more."""

    def script(asked: Asked) -> Reply:
        raw = asked.path.endswith("/query") and asked.length_s
        return refusal if raw else small_prometheus(asked)

    done, asked = pulled(script)
    note = f"the server gives no samples as scraped ({why}): points on a grid come instead, without their"
    assert sum(f"note: {note} scrape times" in line for line in done.stderr.splitlines()) == 1
    assert done.exit_code == 0, done.output
    plan = json.loads(Path("dumps/plan.json").read_text())
    assert {(one["api"], one["step_s"], one["expected_points"]) for one in plan["files"]} == {
        ("query_range", 15.0, 241)
    }
    assert {one.path for one in asked if one.for_data} == {"/api/v1/query_range"}
    again, asked = pulled(script)
    assert again.exit_code == 0, again.output
    assert not any(one.length_s for one in asked)


def test_a_plan_made_without_the_server_meets_one_without_range_selectors() -> None:
    """What is there stays as scraped, the rest becomes points; the plan beside them says which."""
    refuses = False

    def script(asked: Asked) -> Reply:
        if asked.length_s and asked.path.endswith("/query"):
            if refuses:
                return failure(400, "bad_data", "range selectors are not supported")
            return success({"resultType": "matrix", "result": []})
        return small_prometheus(asked)

    arguments = ["export-plan", *WINDOW[:4], "--exporter", "vllm", "-q"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    done, _ = pulled(script, "-q")
    assert done.exit_code == 0
    refuses = True
    Path("dumps", FILE).unlink()
    done, _ = pulled(script)
    assert done.exit_code == 0, done.output
    plan = json.loads(Path("dumps/plan.json").read_text())
    assert [one["file"] for one in plan["files"] if one["api"] == "query_range"] == [FILE]
    assert frame().height == len(PODS) * 241


def test_victoriametrics_cluster_without_its_path() -> None:
    """The line says where a cluster has its API."""
    done, _ = pulled(victoria())
    assert error(done).endswith(
        "is no Prometheus API: no API at this path (HTTP 400, unsupported path); a VictoriaMetrics cluster "
        "has it below /select/0/prometheus"
    )


def test_victoriametrics_busy_and_limited() -> None:
    """No room just now, by status 429 or from a storage node by 422: asked again. Too many series: split."""
    busy = "couldn't start executing the request in 10.000 s, since -search.maxConcurrentRequests=8"
    waiting = [
        failure(429, "429", busy, **{"Retry-After": "0.01"}),
        failure(422, "422", f"vmstorage-1: {busy}"),
    ]

    def limited(asked: Asked) -> Reply:
        if asked.for_data:
            if waiting:
                return waiting.pop()
            if len(json.loads(small_prometheus(asked).body)["data"]["result"]) > 2:
                text = "the number of matching timeseries exceeds 2; either narrow down the search or …"
                return failure(422, "422", text)
        return small_prometheus(asked)

    done, asked = pulled(victoria(limited), path="/select/0/prometheus")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("the server is busy") == 2
    assert len({one.one("query") for one in asked if one.for_data}) == 3
    whole()

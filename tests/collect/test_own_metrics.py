"""Metrics and queries that hsa.toml maps to signals: planned, tried, pulled, and read as it says."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from collect.recording_server import Asked, Reply, failure, serving, small_prometheus, success
from collect.snapshot import END, START, WINDOW, points
from export.prometheus_server import over
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.collect.plan import MetricShare, WantedMetric, file_name, selector_of

GAUGE = "dynamo_work_handler_queue_depth"
COUNTER = "dynamo_component_router_requests_started_total"
SENT = "rate(dynamo_component_response_bytes_total{dynamo_component='backend'}[30s])"
RATE = f"label_replace(sum by (pod) ({SENT}), 'role', 'decode', '', '')"
SETTINGS = f"""
[queries]
"by-hand*.json" = "max(nobody_maps_this)"

[metrics]
"{GAUGE}" = {{ signal = "router_queue", unit = "requests" }}
"{COUNTER}" = {{ signal = "request_rate", kind = "counter", unit = "requests" }}
"{RATE}" = {{ signal = "decode_tps", unit = "tokens/s" }}
"gateway_total" = {{ signal = "prompt_tps", kind = "counter" }}
"sum(broken" = {{ signal = "kv_usage" }}
"prefill waiting" = {{ signal = "in_flight" }}
"""
NOTES = [
    "'prefill waiting' of [metrics] is no metric name and no query: it is not asked for",
    "'max(nobody_maps_this)' of [queries] carries no signal: map it under [metrics]",
    "gateway_total of [metrics]: the server has no series of it in this window",
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the settings."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    Path("hsa.toml").write_text(SETTINGS)
    return tmp_path


def hsa(*arguments: str) -> Any:
    """Run the program in this process; it must succeed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done


def planned(folder: str = "dumps") -> dict[str, dict[str, Any]]:
    """The own files of a plan by metric."""
    files = json.loads(Path(folder, "plan.json").read_text())["files"]
    return {file["metric"]: file for file in files if file["exporter"] == "mapping"}


def test_what_the_settings_map_is_pulled_and_read_as_they_say(prometheus: str) -> None:
    """A gauge, a counter and a query, beside the catalogue's; what can't be had is noted, not left silent."""
    done = hsa("pull", "--url", prometheus, *WINDOW, "--rate", "1000")
    own = planned()
    assert {metric: file["signal"] for metric, file in own.items()} == {
        GAUGE: "router_queue", COUNTER: "request_rate", RATE: "decode_tps",
    }  # fmt: skip
    assert {file["step_s"] for file in own.values()} == {5.0}
    assert (own[RATE]["query"], own[RATE]["match"], own[GAUGE]["match"]) == (RATE, [], [GAUGE])
    assert all(f"note: {note}" in done.stderr for note in NOTES)
    assert "note: sum(broken of [metrics]: the server refused the query (HTTP 400, bad_data: " in done.stderr

    hsa("ingest", "dumps", "--run-dir", "run", "-q")
    series = pl.read_parquet("run/data/series.parquet").filter(pl.col("metric").is_in(list(own)))
    read = {(m, s, k) for m, s, k in series.select("metric", "signal", "kind").iter_rows()}
    assert read == {
        (GAUGE, "router_queue", "gauge"), (COUNTER, "request_rate", "counter"), (RATE, "decode_tps", "gauge"),
    }  # fmt: skip
    (pod, whole), *others = [
        (dict(key)["pod"], rows) for key, rows in points(Path("dumps")).items() if dict(key).get("role")
    ]
    assert len(others) == 2
    start, end = (datetime.fromisoformat(text).timestamp() for text in (START, END))
    narrowed = SENT.replace("{", f"{{pod='{pod}',")
    got = {t: float(value) for t, value in whole}
    assert got == pytest.approx(over(prometheus, f"sum({narrowed})", start, end, 5.0))
    hsa("study", "run", "-q")
    signals = pl.read_parquet("run/data/signals.parquet").filter(pl.col("source") == "mapping")
    rate = signals.filter((pl.col("signal") == "request_rate") & (pl.col("coverage") > 0.99))
    started = over(prometheus, f"sum(increase({COUNTER}[10m]))", end - 300, end - 300, 5.0)
    during = pl.col("t").is_between(*(datetime.fromtimestamp(end - s, UTC) for s in (900, 360)))
    assert rate.filter(during)["value"].mean() == pytest.approx(started[end - 300] / 600, rel=0.05)
    assert set(signals["signal"]) == {"request_rate", "router_queue", "decode_tps"}


def test_a_plan_without_a_server_has_them(place: Path) -> None:
    """All that can be asked for, queries among them; flags do not go into a query, and that is said."""
    listed = place / "series.json"
    rows = [{"__name__": GAUGE, "namespace": "other"}, {"__name__": "gateway_total"}]
    listed.write_text(json.dumps({"status": "success", "data": rows}))
    done = hsa("export-plan", *WINDOW, "--step", "15s", "--series", "series.json", "--namespace", "chat")
    assert set(planned()) == {"gateway_total", RATE, "sum(broken"}  # the gauge is of another namespace
    own = planned()["gateway_total"]["query"]
    assert 'gateway_total{exported_namespace="",namespace=""}' in own
    assert f"--match and --namespace do not go into queries of [metrics]: {RATE}, sum(broken" in done.stderr
    assert shlex.quote(f"query={RATE}") in done.stdout
    assert all("match" not in file["file"] for file in planned().values())
    hsa("export-plan", *WINDOW, "--exporter", "mapping", "--out", "only", "-q")
    assert {GAUGE, COUNTER, RATE} < set(planned("only"))
    only = json.loads(Path("only/plan.json").read_text())["files"]
    assert {file["exporter"] for file in only if file["signal"]} == {"mapping"}


def test_a_query_is_divided_in_time_only(place: Path) -> None:
    """No matcher can go into it; a server that finds it heavy is asked for shorter parts."""

    def script(asked: Asked) -> Reply:
        if "query" not in asked.path:
            return success([])
        if asked.one("query") == RATE and "query_range" in asked.path:
            start, end = (float(asked.one(name)) for name in ("start", "end"))
            if end - start > 1200:
                return failure(422, "execution", "query processing would load too many samples into memory")
            values = [[t, "1"] for t in range(int(start), int(end) + 1, 15)]
            return success({"resultType": "matrix", "result": [{"metric": {"job": "w"}, "values": values}]})
        if asked.one("query") == RATE:
            return success({"resultType": "vector", "result": [{"metric": {"job": "w"}, "value": [0, "1"]}]})
        return (
            small_prometheus(asked) if asked.one("query") == "1" else failure(400, "bad_data", "parse error")
        )

    with serving(script) as (address, asked):
        done = hsa("pull", "--url", address, *WINDOW, "--rate", "1000000", "-o", "json")
    (file,) = json.loads(done.stdout)["files"]
    assert (file["metric"], file["series"], file["points"]) == (RATE, 1, 81 + 1)
    assert {one.one("query") for one in asked if "query_range" in one.path} == {RATE}


def test_other_settings_are_another_plan(prometheus: str) -> None:
    """A metric mapped later is not silently left out of a folder pulled before."""
    asked = ("--url", prometheus, *WINDOW, "--exporter", "mapping", "--rate", "1000")
    hsa("pull", *asked, "-q")
    hsa("pull", *asked, "-q")
    Path("hsa.toml").write_text(SETTINGS + 'dynamo_request_queue = { signal = "running" }\n')
    done = CliRunner().invoke(app, ["pull", *asked])
    assert done.exit_code == 1
    assert "holds the plan of another request ([metrics] was " in done.stderr
    Path("hsa.toml").write_text('[metrics]\nx = { signal = "no_such" }\n')
    done = CliRunner().invoke(app, ["pull", *asked])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "no such signal 'no_such'" in done.stderr


def test_files_of_queries_that_begin_alike_differ() -> None:
    """By the checksum of the query; the words before it are for people."""
    names = set()
    for tail in ("a", "b"):
        need = WantedMetric(f"sum(rate({'x' * 90}{tail}[1m]))", "ttft", "mapping", "own")
        names.add(file_name(MetricShare(need, selector_of(need, (), "chat"), 15.0), 0))
    assert len(names) == 2
    assert all(len(name) < 90 and name.startswith("sum_rate_xxx") for name in names)

"""What came is held against the plan and the server's own count: losses are told, what never was is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from collect.recording_server import METRIC, PODS, Asked, Reply, failure, serving, small_prometheus, success
from export.prometheus_server import prometheus_with
from typer.testing import CliRunner

from hs_analysis.cli.app import app

WINDOW = ("--from", "2025-11-24T00:00:00Z", "--to", "2025-11-24T01:00:00Z")
FAST = ("--rate", "1000000")
FILE = "vllm__generation_tokens_total.000.json.gz"
ALL = 241 + 3 * 240
DAY_S = 86_400


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without settings of the environment."""
    for name in ("HSA_URL", "HSA_TOKEN", "HSA_USER", "HSA_PASSWORD", "HSA_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pull(url: str, *more: str) -> Any:
    """Pull the hour."""
    return CliRunner().invoke(app, ["pull", "--url", url, *WINDOW, *FAST, "-o", "json", *more])


def with_rows(change: Callable[[list[Any]], list[Any]], counts: bool = True) -> Callable[[Asked], Reply]:
    """A small Prometheus whose answers for data are changed; its counts, if it gives them, are not."""

    def script(asked: Asked) -> Reply:
        if not counts and asked.parameters.get("query", [""])[0].startswith("sum("):
            return failure(400, "bad_data", "no aggregations here")
        reply = small_prometheus(asked)
        if not asked.for_data:
            return reply
        document = json.loads(reply.body)
        return success({"resultType": "matrix", "result": change(document["data"]["result"])})

    return script


def one_of_four(rows: list[Any]) -> list[Any]:
    """A quarter of the series."""
    return rows[:1]


def half(rows: list[Any]) -> list[Any]:
    """Every second sample."""
    return [{**row, "values": row["values"][::2]} for row in rows]


def none(_rows: list[Any]) -> list[Any]:
    """Nothing."""
    return []


def off(rows: list[Any]) -> list[Any]:
    """More than a year earlier."""
    return [{**row, "values": [[t - 400 * DAY_S, v] for t, v in row["values"]]} for row in rows]


COUNTED = {
    one_of_four: f"holds 241 of the {ALL} samples that the server counts of 1 of 4 listed series",
    half: f"holds 481 of the {ALL} samples that the server counts of 4 series",
    none: f"holds 0 of the {ALL} samples that the server counts of 0 of 4 listed series",
    off: f"holds 0 of the {ALL} samples that the server counts of 0 of 4 listed series",
}
PLANNED = {
    one_of_four: "holds 241 of the 964 samples that the plan expects of 1 of 4 listed series, and the server",
    half: "holds 481 of the 964 samples that the plan expects of 4 series, and the server gives no count",
    none: "holds 0 of the 964 samples that the plan expects of 0 of 4 listed series, and the server gives",
    off: "holds 0 of the 964 samples that the plan expects of 0 of 4 listed series, and the server gives no",
}


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("loss", list(COUNTED))
def test_a_loss_is_told_with_its_figures(loss: Callable[[list[Any]], list[Any]], counts: bool) -> None:
    """On stderr, in the result, in received.json and by the doctor; an exit code of its own with --strict."""
    text = (COUNTED if counts else PLANNED)[loss]
    with serving(with_rows(loss, counts)) as (url, _):
        done = pull(url)
        strict = pull(url, "--strict", "--out", "strict")
    assert done.exit_code == 0, done.output
    assert f"warning: {METRIC}: {FILE} {text}" in done.stderr
    found = json.loads(done.stdout)["findings"]
    codes = {one["code"] for one in found}
    assert codes >= {"lost_samples"}
    assert ("other_times" in codes) == (loss is off)
    assert ("nothing_came" in codes) == (loss in (none, off))
    (one,) = json.loads(Path("dumps/received.json").read_text())["files"]
    assert one["counted"] == (ALL if counts else None)
    assert (strict.exit_code, json.loads(strict.stdout)["findings"][0]["level"]) == (4, "fail")
    last = strict.stderr.splitlines()[-1]
    assert last.startswith("hsa pull: ")
    assert f"ask again: hsa pull --url {url} --out strict" in last
    if loss is half:
        said = CliRunner().invoke(app, ["doctor", "dumps", "--run-dir", "run", "-q", "-o", "json"])
        plan = [f for f in json.loads(said.stdout)["findings"] if f["check"] == "plan"]
        assert [f["level"] for f in plan if text in f["text"]] == ["fail"]


def test_times_of_another_year_are_told() -> None:
    """From when to when they go."""
    with serving(with_rows(off)) as (url, _):
        done = pull(url)
    assert (
        f"holds {ALL} samples outside its stretch of 2025-11-24T00:00:00Z to 2025-11-24T01:00:00Z: its times "
        "go from 2024-10-20T00:00:00Z to 2024-10-20T01:00:00Z"
    ) in done.stderr


def test_all_that_was_planned_is_no_finding_and_asks_no_count() -> None:
    """The plan's own figures are enough."""
    with serving(small_prometheus) as (url, asked):
        done = pull(url, "--strict")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["findings"] == []
    assert not any("sum(" in one.parameters.get("query", [""])[0] for one in asked)


def test_what_was_lost_is_asked_for_again() -> None:
    """The same command makes it whole; what is worse than what is there does not take its place."""
    change = half

    def script(asked: Asked) -> Reply:
        return with_rows(lambda rows: change(rows))(asked)

    with serving(script) as (url, _):
        assert pull(url).exit_code == 0
        before = Path("dumps", FILE).read_bytes()
        change = one_of_four
        worse = pull(url)
        assert f"{FILE} was fetched again and holds less than before: the first one is kept" in worse.stderr
        assert Path("dumps", FILE).read_bytes() == before
        change = list
        done = pull(url, "--strict")
        assert (done.exit_code, json.loads(done.stdout)["files"][0]["state"]) == (0, "fetched")
        again = pull(url, "--strict")
    assert json.loads(again.stdout)["files"][0]["state"] == "there already"
    assert json.loads(again.stdout)["findings"] == []


def test_a_plan_without_a_list_is_held_against_the_servers_count() -> None:
    """Metrics that nobody listed: the server's names tell which are looked at."""
    arguments = ["export-plan", *WINDOW, "--exporter", "vllm", "-q"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with serving(with_rows(none)) as (url, asked):
        done = CliRunner().invoke(app, ["pull", "--url", url, *FAST, "--strict", "-q", "-o", "json"])
    assert done.exit_code == 4
    codes = [one["code"] for one in json.loads(done.stdout)["findings"]]
    assert codes == ["nothing_came", "lost_samples"]
    assert sum("sum(" in one.parameters.get("query", [""])[0] for one in asked) == 1


def test_series_that_are_listed_and_counted_empty_are_no_loss() -> None:
    """A head block lists what ended before the window; of a metric with nothing else it is a warning."""
    gone = "vllm:num_requests_running"

    def script(asked: Asked) -> Reply:
        if asked.path.endswith("series"):
            rows = json.loads(small_prometheus(asked).body)["data"]
            more = [{"__name__": name, "pod": "gone", "job": "vllm"} for name in (METRIC, gone)]
            return success([*rows, *(row for row in more if row["__name__"] in asked.parameters["match[]"])])
        if asked.path.endswith("values"):
            return success([METRIC, gone])
        return small_prometheus(asked)

    with serving(script) as (url, _):
        done = pull(url, "--strict")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["findings"]
    assert (found["code"], found["level"]) == ("listed_only", "warn")
    assert f"{gone}: the server lists 1 series and counts no sample of them in this window" in found["text"]


# --- a real Prometheus --------------------------------------------------------------------------------------

BEGIN = datetime(2025, 11, 24, tzinfo=UTC).timestamp()


def churning() -> list[dict[str, Any]]:
    """Series of half a day: one whole, one that ends, begins, pauses, and one from before the window."""
    times = {
        "whole": [BEGIN + 15 * n for n in range(-240, 2880)],
        "ends": [BEGIN + 3.7 + 15 * n for n in range(-240, 700)],
        "begins": [BEGIN + 9.1 + 15 * n for n in range(1500, 2880)],
        "pauses": [BEGIN + 1.5 + 15 * n for n in range(-240, 2880) if (n // 40) % 3],
        "before": [BEGIN + 15 * n for n in range(-240, -10)],
    }
    return [
        {
            "metric": {"__name__": metric, "pod": f"m-{role}-{pod}", "job": "vllm", "model_name": "m"},
            "values": [[round(t, 3), str(n)] for n, t in enumerate(own)],
        }
        for role, (pod, own) in zip(
            ("decode", "prefill", "decode", "prefill", "decode"), times.items(), strict=True
        )
        for metric in (METRIC, "vllm:num_requests_running", "up")
    ]


@pytest.fixture(scope="module")
def churned() -> Iterator[str]:
    """A Prometheus whose series come, go and pause."""
    with prometheus_with(churning()) as url:
        yield url


@pytest.mark.parametrize(
    "asked",
    [
        (), ("--step", "60s"), ("--step", "30s"), ("--max-samples", "500"),
        ("--match", 'pod=~"m-.*-(ends|pauses|before)"'),
    ],
    ids=["as scraped", "grid", "finer grid", "in parts", "some pods"],
)  # fmt: skip
@pytest.mark.outside("promtool", "prometheus")
def test_series_that_come_and_go_are_no_loss(churned: str, asked: tuple[str, ...]) -> None:
    """A real Prometheus counts what it gives: nothing is invented, in the result or by the doctor."""
    window = ("--from", "2025-11-24T00:00:00Z", "--to", "2025-11-24T12:00:00Z")
    command = ["pull", "--url", churned, *window, *FAST, "--strict", "-o", "json", *asked]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["findings"] == []
    rows = json.loads(Path("dumps/received.json").read_text())["files"]
    assert {row["held_against"] for row in rows} == {"server"}
    assert all(row["points"] >= row["counted"] > 0 for row in rows)
    if asked:
        return
    said = CliRunner().invoke(app, ["doctor", "dumps", "--run-dir", "run", "-q", "-o", "json"])
    assert said.exit_code == 0, said.output
    lost = ("holds", "nothing came", "lists")
    texts = [f["text"] for f in json.loads(said.stdout)["findings"] if f["check"] == "plan"]
    assert not [text for text in texts if any(word in text for word in lost)], texts


@pytest.mark.outside("promtool", "prometheus")
def test_chunks_that_a_series_is_not_in_are_no_loss(churned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed over the window, there in some of its chunks."""
    from hs_analysis.collect import plan

    monkeypatch.setattr(plan, "MOST_POINTS", 400)
    window = ("--from", "2025-11-24T00:00:00Z", "--to", "2025-11-24T12:00:00Z")
    done = CliRunner().invoke(app, ["pull", "--url", churned, *window, *FAST, "--strict", "-o", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["findings"] == []
    assert len(found["files"]) > 9
    assert len(PODS) == 4

"""What a plan says of the files beside it: how series without a name are called, and what was scraped."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from cli.conftest import START, STEP_S, small_history, write_dumps

from hs_analysis.collect.plan import PLAN_SCHEMA, Plan, PlannedFile, PlanRequest
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.plan_files import read_plan, store_plan
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import MetricRow, Reading, Settings

QUERY = "sum by (pod, job) (rate(vllm:generation_tokens_total[1m]))"
FILE = "rates[1].json"


def planned(metric: str) -> PlannedFile:
    return PlannedFile(
        FILE, metric, None, "vllm", None, QUERY, (), float(START), float(START + 3600), float(STEP_S), 121
    )


def recorded(folder: Path, plan: PlannedFile | None) -> Path:
    """Write a history whose decode rates are the answer to a query, beside a plan if there is one."""
    history = small_history(2)
    tokens = history.pop("vllm:generation_tokens_total")
    write_dumps(folder, history)
    answer = []
    for one in tokens:
        values = [float(value) for _, value in one["values"]]
        rates = [(b - a) / STEP_S for a, b in pairwise(values)]
        times = [t for t, _ in one["values"][1:]]
        labels = {name: one["metric"][name] for name in ("pod", "job", "namespace", "model_name")}
        pairs = [[t, f"{rate:g}"] for t, rate in zip(times, rates, strict=True)]
        answer.append({"metric": labels, "values": pairs})
    body = {"status": "success", "data": {"resultType": "matrix", "result": answer}}
    (folder / FILE).write_text(json.dumps(body))
    if plan is not None:
        start, end = "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"
        store_plan(folder, Plan(PLAN_SCHEMA, PlanRequest(), start, end, (plan,)))
    return folder


def series(folder: Path, run: Path, reading: Reading) -> pl.DataFrame:
    settings = replace(Settings(), reading=reading)
    run_inputs([folder], "align", settings, stages=STAGES, progress=Silent(), run_dir=run)
    return pl.read_parquet(run / "data" / "series.parquet")


def mapped(name: str) -> Reading:
    return Reading(metrics={name: MetricRow("decode_tps", "gauge", "tokens/s")})


def carried(rows: pl.DataFrame, name: str) -> None:
    """Hold the series of a name to be the decode pool's rate."""
    own = rows.filter(pl.col("metric") == name)
    assert own.select("signal", "emitter_role", "kind").unique().rows() == [("decode_tps", "decode", "gauge")]
    assert own.height == 2
    assert rows.filter(pl.col("metric") == "").is_empty()


def test_the_query_is_the_name_where_it_reads_the_planned_metric(tmp_path: Path) -> None:
    """A rate of a counter is not the counter: under the counter's name it would be read as one."""
    folder = recorded(tmp_path / "in", planned("vllm:generation_tokens_total"))
    carried(series(folder, tmp_path / "run", mapped(QUERY)), QUERY)
    signals = pl.read_parquet(tmp_path / "run" / "data" / "signals.parquet")
    values = signals.filter((pl.col("signal") == "decode_tps") & (pl.col("role") == "decode"))["value"]
    answer = json.loads((folder / FILE).read_text())["data"]["result"]
    rates = [float(value) for one in answer for _, value in one["values"]]
    assert values.mean() == pytest.approx(2 * sum(rates) / len(rates), rel=0.01)


def test_a_planned_name_of_its_own_is_kept(tmp_path: Path) -> None:
    """A recording rule's name, say."""
    folder = recorded(tmp_path / "in", planned("job:decode_tps:rate1m"))
    carried(series(folder, tmp_path / "run", mapped("job:decode_tps:rate1m")), "job:decode_tps:rate1m")


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    """Over the plan, and by a pattern."""
    folder = recorded(tmp_path / "in", planned("job:decode_tps:rate1m"))
    reading = replace(mapped("decode_rate"), queries={"rates*": "decode_rate"})
    carried(series(folder, tmp_path / "run", reading), "decode_rate")


def test_without_either_a_warning_says_how(tmp_path: Path) -> None:
    """And the series are left without a name."""
    folder = recorded(tmp_path / "in", None)
    rows = series(folder, tmp_path / "run", Reading())
    assert rows.filter(pl.col("metric") == "").height == 2
    told = json.loads((tmp_path / "run" / "data" / "inputs.json").read_text())["counts"]["warnings"]
    assert [(w["name"], "--query FILE=PROMQL" in w["text"]) for w in told] == [(FILE, True)]


@pytest.mark.parametrize(("api", "open_ended"), [("query_range", True), ("query", False)])
def test_samples_as_scraped_lie_on_no_grid(tmp_path: Path, api: str, open_ended: bool) -> None:
    """Targets scraped at whole seconds look like a query's grid, their idling like a gap that it hides."""
    history = small_history(2)
    for one in (one for rows in history.values() for one in rows):
        one["values"] = [(t, one["values"][min(i, 160)][1]) for i, (t, _) in enumerate(one["values"])]
    folder = write_dumps(tmp_path / "in", history)
    files = tuple(
        replace(planned(path.stem.replace("__", ":")), file=f"{path.name}.gz", api=api, match=("m",))
        for path in sorted(folder.iterdir())
    )
    start, end = "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"
    store_plan(folder, Plan(PLAN_SCHEMA, PlanRequest(), start, end, files))
    series(folder, tmp_path / "run", Reading())
    for name in ("grids", "frozen"):
        assert pl.read_parquet(tmp_path / f"run/data/{name}.parquet").is_empty() is not open_ended, name


def test_a_plan_written_before_says_how_it_was_asked(tmp_path: Path) -> None:
    """Without the word, by query_range."""
    store_plan(tmp_path, Plan(PLAN_SCHEMA, PlanRequest(), "a", "b", (planned("x"),)))
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["files"][0].pop("api") == "query_range"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert read_plan(tmp_path) == Plan(PLAN_SCHEMA, PlanRequest(), "a", "b", (planned("x"),))

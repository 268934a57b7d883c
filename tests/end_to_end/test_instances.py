"""Instances that come, go, die and stand still, from recorded dumps to findings and verdicts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from seeds import first

from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings, Slo

SETTINGS = Settings(slo=Slo(ttft_s=2.0, tbt_s=0.05), history_kind="pressure_test")
SWEEP_INSTANCES = 5
"""Workers of a capture of the sweep."""

Element = dict[str, Any]


def stage(inputs: list[Path], folder: Path, name: str) -> Path:
    """Run the stages up to one and return the run folder."""
    run_inputs(inputs, name, SETTINGS, stages=STAGES, progress=Silent(), run_dir=folder)
    return folder


def lives(folder: Path) -> pl.DataFrame:
    """Return the lives of instances, moments in seconds since 1970."""
    moments = ("started", "ready", "served", "ended")
    table = pl.read_parquet(folder / "data" / "lives.parquet")
    return table.with_columns(pl.col(name).dt.epoch("us") / 1e6 for name in moments)


@dataclass(frozen=True)
class Recorded:
    """A capture with a list of its events, and how often it was scraped [s]."""

    name: str
    step_s: float

    def __str__(self) -> str:
        return self.name


DIURNAL, CYCLES = Recorded("pd-diurnal", 5.0), Recorded("pd-cycles", 15.0)


@pytest.mark.parametrize(
    ("one", "form"),
    first(
        2,
        [
            (DIURNAL, "tsdb_dump.txt.gz"),
            (CYCLES, "query_range.core.json.gz"),
            (DIURNAL, "query_range.core.json.gz"),
            (CYCLES, "tsdb_dump.txt.gz"),
        ],
    ),
    ids=str,
)
def test_every_event_of_a_recording_is_found_and_none_invented(
    real_data: Path, tmp_path: Path, one: Recorded, form: str
) -> None:
    """A worker that was killed and started again, within one scrape; a stop of Prometheus is no event."""
    source = real_data / "dynamo-mocker" / one.name
    events = {event["kind"]: event for event in json.loads((source / "events.json").read_text("utf-8"))}
    killed, began = events["worker_kill"], events["worker_start"]
    ready = events.get("worker_ready", began)
    table = lives(stage([source / form], tmp_path / "run", "align"))
    moved = table.filter(pl.col("started").is_not_null() | pl.col("ended").is_not_null())
    assert moved["instance"].to_list() == [killed["pod"]] * 2
    assert table["instance"].n_unique() == events["load_start"]["P"] + events["load_start"]["D"]
    before, after = moved.to_dicts()
    assert before["started"] is None
    assert before["ended"] == pytest.approx(killed["unix"], abs=one.step_s)
    assert after["started"] == pytest.approx(began["unix"], abs=one.step_s)
    assert (
        0.0 <= after["ready"] - ready["unix"] <= 2 * one.step_s
    )  # a grid is up to a step later than a scrape
    assert after["served"] >= after["ready"]
    assert after["ended"] is None


@pytest.mark.parametrize(("captures", "count"), first(1, [("pd-sweep/decodeheavy-2p3d", 1), ("pd-sweep", 8)]))
def test_runs_in_which_nothing_came_or_went_have_no_event(
    real_data: Path, tmp_path: Path, captures: str, count: int
) -> None:
    """Captures of five workers each, whose stack was ready before its Prometheus began; one of eight."""
    table = lives(stage([real_data / "dynamo-mocker" / captures], tmp_path / "run", "align"))
    assert table.height == SWEEP_INSTANCES * count
    assert table["started"].null_count() == table["ended"].null_count() == table.height


def test_workers_that_started_while_recording_are_measured(root: Path, tmp_path: Path) -> None:
    """All workers of the sample but one of each role, shifted so that they come one after another."""
    came: dict[str, float] = {}

    def later(element: Element) -> None:
        labels = element["metric"]
        place = labels.get("pod", "")
        if place in ("llama8b-0", "llama8b-3") or "frontend" in place or not place:
            return
        number = int(place.rpartition("-")[2])
        start = float(element["values"][0][0])
        come = start + 300.0 * number
        came[place] = come
        kept = [[t, v] for t, v in element["values"] if t >= come]
        if labels["__name__"] == "up":  # the target is known two minutes before it answers
            kept = [[t, "0" if t < come else "1"] for t, _ in element["values"] if t >= come - 120.0]
        element["values"] = kept

    source = changed(root / "data_samples" / "dynamo-pd", tmp_path / "in", later)
    table = pl.read_parquet(stage([source], tmp_path / "run", "align") / "data" / "births.parquet")
    assert set(table["instance"]) == set(came)
    assert table["role"].to_list() == ["decode"] * 3 + ["prefill"] * 2
    assert set(table["asked_by"]) == {"target"}
    took = (table["first_sample"] - table["asked"]).dt.total_seconds()
    assert took.is_between(105.0, 135.0).all()


def changed(source: Path, target: Path, change: Callable[[Element], None]) -> Path:
    """Copy the answers of a folder, each series given to a function that may change it."""
    target.mkdir()
    for path in sorted(source.glob("*.json.gz")):
        document = json.loads(gzip.decompress(path.read_bytes()))
        for element in document["data"]["result"]:
            change(element)
        result = document["data"]["result"]
        document["data"]["result"] = [element for element in result if element["values"]]
        (target / path.name.removesuffix(".gz")).write_text(json.dumps(document))
    return target


PLANTED = {
    ("llama8b-4", "vllm:kv_cache_usage_perc"): "kv_usage",
    ("llama8b-3", "vllm:num_requests_running"): "running",
    ("llama8b-0", "dynamo_component_inflight_requests"): "running",
}
"""Instance and gauge → signal: three signals, of both pools."""

SHARE = 0.6
"""Share of a gauge's samples that stay true."""


def planted(*, ends: bool) -> Callable[[Element], None]:
    """Return what repeats the last value of each planted gauge, or ends it."""

    def change(element: Element) -> None:
        labels = element["metric"]
        if (labels.get("pod"), labels["__name__"]) not in PLANTED:
            return
        if labels.get("dynamo_endpoint", "generate") != "generate":
            return
        values = element["values"]
        last = int(len(values) * SHARE)
        held = [] if ends else [[t, values[last - 1][1]] for t, _ in values[last:]]
        element["values"] = values[:last] + held

    return change


def verdicts(folder: Path) -> Mapping[str, str]:
    """Return verdict per signal@role over the whole history."""
    table = pl.read_parquet(folder / "data" / "study.parquet").filter(
        (pl.col("fit") == "whole") & pl.col("gpu_type").is_null()
    )
    return {
        f"{signal}@{role}": v for signal, role, v in table.select("signal", "role", "verdict").iter_rows()
    }


@pytest.mark.parametrize("check", ["frozen", "ended"])
def test_gauges_that_stand_still_or_end_are_named_and_change_no_verdict(
    root: Path, tmp_path: Path, check: str
) -> None:
    """Three gauges, each of another instance; the verdicts are those of the sample as it was recorded."""
    source = changed(root / "data_samples" / "dynamo-pd", tmp_path / "in", planted(ends=check == "ended"))
    run = stage([source], tmp_path / "run", "doctor")
    stage([source], run, "study")
    found = pl.read_parquet(run / "data" / "findings.parquet").filter(pl.col("check") == check)["text"]
    assert len(found) == len(PLANTED)
    for instance, metric in PLANTED:
        assert any(instance in text and metric in text for text in found), (instance, metric)
    golden = json.loads((root / "tests/golden/dynamo-pd/summary.json").read_text("utf-8"))
    (service,) = golden["services"]
    wanted = {f"{s['signal']}@{s['role']}": s["verdict"] for s in service["signals"] if s["gpu_type"] is None}
    assert {name: verdicts(run).get(name) for name in wanted} == wanted


def test_a_pod_that_died_with_its_gauges_feeds_no_signal(root: Path, tmp_path: Path) -> None:
    """All of its series repeat: they are null from then on, and it is counted no more."""

    def dies(element: Element) -> None:
        if element["metric"].get("pod") == "llama8b-4":
            values = element["values"]
            last = int(len(values) * SHARE)
            element["values"] = values[:last] + [[t, values[last - 1][1]] for t, _ in values[last:]]

    source = changed(root / "data_samples" / "dynamo-pd", tmp_path / "in", dies)
    run = stage([source], tmp_path / "run", "doctor")
    (row,) = pl.read_parquet(run / "data" / "frozen_series.parquet").to_dicts()
    assert (row["instance"], row["metric"], row["told_by"]) == ("llama8b-4", "", "clock")
    samples = pl.read_parquet(run / "data" / "samples").join(
        pl.read_parquet(run / "data" / "series.parquet").select("series_id", "instance", "metric"),
        "series_id",
    )
    late = samples.filter((pl.col("t") > row["after"]) & (pl.col("instance") == "llama8b-4"))
    own = late.filter(~pl.col("metric").is_in(["up", "scrape_duration_seconds"]))
    assert own["value"].null_count() == own.height > 0
    assert set(own["flag"]) <= {"frozen", "lookback"}  # its samples across the scrape gap were null before
    texts = pl.read_parquet(run / "data" / "findings.parquet")["text"]
    assert any("llama8b-4 (decode) does not move" in text for text in texts)
    assert any("llama8b-4 ended at" in text for text in texts)
    signals = pl.read_parquet(run / "data" / "signals.parquet")
    counts = signals.filter((pl.col("signal") == "kv_usage") & (pl.col("t") > row["after"]))["instances"]
    assert counts.max() == 3

"""How long requests took is read from the stored histogram; grace periods from settings and templates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from replay.services import SETTINGS, START, service

from hs_analysis.pipeline import tables
from hs_analysis.pipeline.request_times import graces, request_times, scale_in_of, with_graces
from hs_analysis.schema.settings import Beside, Document, Settings

FRONT = "dynamo_frontend_request_duration_seconds"
ROWS = 60
FRAME = service(
    {"prefill": np.full(ROWS, 9000.0), "decode": np.full(ROWS, 1000.0)}, {"prefill": 5, "decode": 4},
    request_rate__service=np.full(ROWS, 2.0),
)  # fmt: skip
DECODE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: llama-decode}
spec: {template: {spec: {terminationGracePeriodSeconds: 120}}}
"""


def samples(monkeypatch: pytest.MonkeyPatch, folder: Path, counts: dict[str, list[float]]) -> None:
    """Store a histogram of two front ends, both alike: its counts per edge at the samples, a minute apart."""
    rows = [
        {
            "metric": metric,
            "labels": [("le", edge), ("pod", pod)],
            "emitter_role": "frontend",
            "counts": found,
        }
        for (metric, edge), found in ((name.split("|"), found) for name, found in counts.items())
        for pod in ("a", "b")
    ]
    series = pl.DataFrame(
        {
            "series_id": range(len(rows)),
            "metric": [row["metric"] for row in rows],
            "labels": [[{"key": k, "value": v} for k, v in row["labels"]] for row in rows],
            "emitter_role": ["frontend"] * len(rows),
            "service": [FRAME.service] * len(rows),
        }
    )
    values = pl.DataFrame(
        [
            {"series_id": number, "t": datetime.fromtimestamp(START + 60 * at, UTC), "value": value}
            for number, row in enumerate(rows)
            for at, value in enumerate(row["counts"])
        ]
    ).with_columns(pl.col("t").cast(pl.Datetime("us", "UTC")))
    place = folder / tables.PLACES["samples"].replace("*", "0")
    place.parent.mkdir(parents=True, exist_ok=True)
    values.write_parquet(place)
    monkeypatch.setattr(tables, "read", lambda *_: series)


def test_histogram_counts_the_gains_of_all_emitters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A restart counts from zero, and what was counted before the first sample is not of this window."""
    counts = {
        f"{FRONT}_bucket|1": [100.0, 130.0, 10.0],
        f"{FRONT}_bucket|5": [200.0, 260.0, 20.0],
        f"{FRONT}_bucket|+Inf": [200.0, 270.0, 20.0],
    }
    samples(monkeypatch, tmp_path, counts)
    found = request_times(tmp_path, FRAME, SETTINGS)
    assert found is not None
    assert (found.edges_s, found.within, found.total) == ((1.0, 5.0), (80.0, 160.0), 180.0)


def test_renamed_histogram_has_the_edges_of_both_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An engine without buckets gives nothing."""
    new, old = "llm_d_epp_request_duration_seconds", "inference_objective_request_duration_seconds"
    counts = {
        f"{new}_bucket|1": [0.0, 4.0], f"{new}_bucket|2": [0.0, 5.0], f"{new}_bucket|+Inf": [0.0, 6.0],
        f"{old}_bucket|1": [0.0, 1.0], f"{old}_bucket|+Inf": [0.0, 2.0],
    }  # fmt: skip
    samples(monkeypatch, tmp_path, counts)
    found = request_times(tmp_path, FRAME, SETTINGS)
    assert found is not None
    assert (found.edges_s, found.within, found.total) == ((1.0,), (10.0,), 16.0)
    samples(monkeypatch, tmp_path, {f"{FRONT}_sum|": [0.0, 1.0]})
    assert request_times(tmp_path, FRAME, SETTINGS) is None


def test_grace_is_as_set_else_as_the_template_says() -> None:
    """By the role that the object's name spells out; the replay pays for that time."""
    given = replace(SETTINGS, beside=Beside(current=(Document("d.yaml", DECODE),)))
    found = graces(given, FRAME)
    assert list(found) == ["decode"]
    one = found["decode"]
    assert (one.seconds, one.source, one.where) == (120.0, "file", "d.yaml:2")
    assert with_graces(given, found).grace_s == {"decode": 120.0}
    own = graces(replace(given, grace_s={"decode": 60.0, "prefill": 10.0}), FRAME)
    assert (own["decode"].seconds, own["decode"].source) == (60.0, "setting")
    assert graces(Settings(), FRAME) == {}


def test_decision_gets_what_leaves_in_the_headline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing without a replay of the policy, and what to record where no histogram is stored."""
    samples(monkeypatch, tmp_path, {f"{FRONT}_sum|": [0.0, 1.0]})
    timeline = FRAME.table.select("capture", "t").with_columns(
        policy=pl.lit("one"), desired_decode=pl.Series([4.0] * 30 + [2.0] * 30), load_decode=pl.lit(1.0)
    )
    cost = scale_in_of(tmp_path, FRAME, SETTINGS, timeline, "one", {})
    assert cost is not None
    assert cost.instances_leaving_per_day == 48.0
    assert cost.reason is not None
    assert f"keep those of {FRONT} or vllm:e2e_request_latency_seconds" in cost.reason.text
    assert scale_in_of(tmp_path, FRAME, SETTINGS, timeline, "", {}) is None


def test_finished_requests_stand_for_those_that_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pool that counts only what it finished has a rate: what a scale-in cuts is known."""
    counts = {f"{FRONT}_bucket|{edge}": [0.0, n] for edge, n in (("1", 50.0), ("60", 90.0), ("+Inf", 90.0))}
    samples(monkeypatch, tmp_path, counts)
    rates = {"request_rate@service": "completion_rate@service"}
    frame = replace(FRAME, table=FRAME.table.rename(rates))
    timeline = FRAME.table.select("capture", "t").with_columns(
        policy=pl.lit("one"), desired_decode=pl.Series([4.0] * 30 + [2.0] * 30), load_decode=pl.lit(1.0)
    )
    cost = scale_in_of(tmp_path, frame, SETTINGS, timeline, "one", {})
    assert cost is not None
    assert (cost.requests_cut_per_day or 0.0) > 0.0

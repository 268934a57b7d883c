"""Captures of real serving components, from the dump to the answer."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import polars as pl
import pytest
from end_to_end.runs import Run, run

ROLES = {
    "llama8b-0": "prefill", "llama8b-1": "prefill",
    "llama8b-2": "decode", "llama8b-3": "decode", "llama8b-4": "decode",
    "llama8b-frontend-0": "frontend",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    """Twenty minutes of a compressed day, with one restart and one scrape gap."""
    return real_data / "dynamo-mocker" / "pd-diurnal"


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The capture as a pressure test."""
    options = ("--pressure-test", "--slo", "ttft=1s", "--slo", "tbt=50ms")
    return run(folder / "query_range.core.json.gz", tmp_path_factory.mktemp("diurnal") / "run", *options)


def test_roles_are_right_without_a_mapping(done: Run) -> None:
    """Workers and the front end get their roles from labels alone."""
    series = pl.read_parquet(done.folder / "data" / "series.parquet")
    found = (
        series.filter(pl.col("instance").str.starts_with("llama8b"))
        .select("instance", "emitter_role")
        .unique()
    )
    assert dict(found.iter_rows()) == ROLES


def test_totals_agree_with_the_clients_log(done: Run, folder: Path) -> None:
    """Prompt and output tokens lie within 2 % of what the client counted."""
    with gzip.open(folder / "requests.csv.gz", "rt", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    prompt = sum(int(row["prompt_tokens"]) for row in rows if row["prompt_tokens"])
    output = sum(int(row["output_tokens"]) for row in rows if row["output_tokens"])
    totals = done.service["totals"]
    assert totals["prompt_tokens"] == pytest.approx(prompt, rel=0.02)
    assert totals["output_tokens"] == pytest.approx(output, rel=0.02)


def test_the_restart_and_the_gap_are_named(done: Run) -> None:
    """Doctor names the worker that started again and the unscraped stretch; the report repeats both."""
    sentences = done.findings()
    restart = next(text for text in sentences if "llama8b-3 started again" in text)
    gap = next(text for text in sentences if "nothing was scraped" in text)
    assert "12:27" in restart
    assert "12:30:40" in gap
    page = (done.folder / "report.html").read_text("utf-8")
    assert "llama8b-3 started again" in page
    assert "nothing was scraped from 2026-11-24 12:30:40" in page


def test_no_value_stands_inside_the_gap(done: Run) -> None:
    """Windows inside the scrape gap are null, so that no line crosses it."""
    signals = pl.read_parquet(done.folder / "data" / "signals.parquet")
    inside = signals.filter(
        (pl.col("signal") == "decode_tps")
        & (pl.col("t") >= pl.datetime(2026, 11, 24, 12, 30, 40, time_zone="UTC"))
        & (pl.col("t") < pl.datetime(2026, 11, 24, 12, 31, 0, time_zone="UTC"))
    )
    assert inside["value"].drop_nulls().is_empty()


def test_the_invariant_holds_for_every_file(done: Run) -> None:
    """Rows read are rows stored, exact duplicates and quarantined rows."""
    coverage = done.summary["coverage"]
    assert (
        coverage["rows_read"] == coverage["rows_stored"] + coverage["duplicates"] + coverage["rows_rejected"]
    )

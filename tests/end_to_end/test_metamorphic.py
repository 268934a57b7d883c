"""Changes of the input whose effect on the answer is known."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from end_to_end.runs import SAMPLES, SIMULATED, Finished, copy_changed, here
from polars.testing import assert_frame_equal

from hs_analysis.pipeline import tables

TOKENS = {
    "prefill": (
        "vllm:prompt_tokens_total",
        "vllm:prompt_tokens_by_source_total",
        "dynamo_frontend_input_sequence_tokens_sum",
    ),
    "decode": (
        "vllm:generation_tokens_total",
        "dynamo_frontend_output_tokens_total",
        "dynamo_frontend_output_sequence_tokens_sum",
    ),
}


Tables = dict[str, pl.DataFrame]

TABLES = ("study", "recommended", "capacity", "thresholds", "refusals", "demand", "pd_ratio")
"""What policies, backtests and reports follow from."""


@dataclass(frozen=True)
class Plain:
    """An input, the options it is read with, and the answers of it unchanged."""

    source: Path
    options: tuple[str, ...]
    answers: Tables

    def changed(self, source: Path, folder: Path) -> Tables:
        """Ingest a changed copy, run it up to derive, and return its answers."""
        here("ingest", source, "--run-dir", folder, "-q")
        here("derive", folder, "-q", *self.options)
        return _tables(folder)


def _tables(folder: Path) -> Tables:
    return {name: tables.read(folder, name) for name in TABLES}


DAY = pytest.param("dev_diurnal", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["dynamo-pd", DAY])
def plain(request: pytest.FixtureRequest, finished: Finished) -> Plain:
    """A capture of a pressure test, whose run is shared; a day whose peaks touch one limit."""
    options = SAMPLES.get(request.param, SIMULATED)
    if request.param in SAMPLES:
        source = request.config.rootpath / "data_samples" / request.param
    else:
        source = request.getfixturevalue("real_data") / "simulated" / request.param
    return Plain(source, options, _tables(finished(source, *options).folder))


def _assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name in TABLES:
        assert_frame_equal(found[name], expected[name], check_exact=True)


def test_neither_truth_nor_names_nor_order_matter(plain: Plain, tmp_path: Path) -> None:
    """Dumps alone, read in reverse, their pods under other names with the same role words: one answer."""
    target = tmp_path / "in"
    target.mkdir()
    for number, path in enumerate(sorted(plain.source.glob("*.json.gz"), reverse=True)):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        answer["data"]["result"] = [_renamed(series) for series in reversed(answer["data"]["result"])]
        (target / f"{number:02d}.json").write_text(json.dumps(answer), "utf-8")
    _assert_same(plain.changed(target, tmp_path / "run"), plain.answers)


def _renamed(series: dict[str, Any]) -> dict[str, Any]:
    for label in ("pod", "exported_pod"):
        if name := series["metric"].get(label):
            words = [word for word in ("frontend", "prefill", "decode") if word in name]
            series["metric"][label] = ".".join([f"zz-{name.rpartition('-')[2]}-x", *words])
    return series


@pytest.mark.parametrize("plain", [DAY], indirect=True)
def test_more_tokens_of_a_role_are_more_capacity_of_it(plain: Plain, tmp_path: Path) -> None:
    """A unit change of a role's work scales its numbers; the ratio and the verdicts stay."""
    factors = {"prefill": 2.0, "decode": 4.0}

    def scaled(series: dict[str, Any]) -> dict[str, Any]:
        for role, factor in factors.items():
            if series["metric"]["__name__"] in TOKENS[role]:
                series["values"] = [[t, str(factor * float(v))] for t, v in series["values"]]
        return series

    found = plain.changed(copy_changed(plain.source, tmp_path / "in", scaled), tmp_path / "run")
    before = plain.answers
    names = ["signal", "role", "fit", "verdict"]
    assert_frame_equal(found["study"].select(names), before["study"].select(names))
    scale = pl.col("role").replace_strict(factors, default=1.0, return_dtype=pl.Float64)
    expected = before["capacity"].with_columns(pl.col("per_instance") * scale)
    names = ["role", "fit", "per_instance"]
    assert_frame_equal(found["capacity"].select(names), expected.select(names), rel_tol=1e-6)
    # More work at as much more capacity needs the same instances.
    assert_frame_equal(
        found["pd_ratio"].select("fit", "value"), before["pd_ratio"].select("fit", "value"), rel_tol=1e-6
    )


def _one_file_a_day(source: Path, target: Path) -> int:
    """Split every answer at midnight UTC and return how many days there are."""
    target.mkdir()
    days: set[int] = set()
    for path in sorted(source.glob("*.json.gz")):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        series = answer["data"]["result"]
        own = {int(t // 86400) for one in series for t, _ in one["values"]}
        for day in sorted(own):
            parts = [
                {**one, "values": [row for row in one["values"] if row[0] // 86400 == day]} for one in series
            ]
            answer["data"]["result"] = [part for part in parts if part["values"]]
            text = json.dumps(answer).encode()
            (target / f"{path.name.removesuffix('.json.gz')}-{day}.json.gz").write_bytes(
                gzip.compress(text, 1, mtime=0)
            )
        days |= own
    return len(days)


@pytest.mark.slow
def test_days_in_files_of_their_own_are_one_history(root: Path, tmp_path: Path, finished: Finished) -> None:
    """One file a day and metric gives the verdicts of one file a metric, number by number."""
    source = root / "data_samples" / "simulated-days"
    whole = finished(source, *SAMPLES[source.name])
    assert _one_file_a_day(source, tmp_path / "days") >= 3
    here("ingest", tmp_path / "days", "--run-dir", tmp_path / "run", "-q")
    here("study", tmp_path / "run", "-q", *SIMULATED)
    found = tables.read(tmp_path / "run", "study")
    assert found.height > 10
    assert_frame_equal(found, tables.read(whole.folder, "study"), check_exact=True)

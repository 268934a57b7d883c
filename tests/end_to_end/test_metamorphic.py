"""Changes of the input whose effect on the answer is known."""

from __future__ import annotations

import gzip
import json
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


@pytest.fixture(scope="module")
def source(real_data: Path) -> Path:
    """A day whose peaks touch one limit."""
    return real_data / "simulated" / "dev_diurnal"


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The answers of the unchanged input."""
    return _derived(source, tmp_path_factory.mktemp("plain") / "run")


Tables = dict[str, pl.DataFrame]

TABLES = ("study", "recommended", "capacity", "thresholds", "refusals", "demand", "pd_ratio")
"""What policies, backtests and reports follow from."""


def _derived(source: Path, folder: Path) -> Tables:
    """Ingest a folder, run it up to derive, and return its answers."""
    here("ingest", source, "--run-dir", folder, "-q")
    here("derive", folder, "-q", *SIMULATED)
    return _tables(folder)


def _tables(folder: Path) -> Tables:
    return {name: tables.read(folder, name) for name in TABLES}


def _assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name in TABLES:
        assert_frame_equal(found[name], expected[name], check_exact=True)


def test_neither_truth_nor_names_nor_order_matter(source: Path, plain: Tables, tmp_path: Path) -> None:
    """Dumps alone, read in reverse, their pods under other names with the same role words: one answer."""
    target = tmp_path / "in"
    target.mkdir()
    for number, path in enumerate(sorted(source.glob("*.json.gz"), reverse=True)):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        answer["data"]["result"] = [_renamed(series) for series in reversed(answer["data"]["result"])]
        (target / f"{number:02d}.json").write_text(json.dumps(answer), "utf-8")
    _assert_same(_derived(target, tmp_path / "run"), plain)


def _renamed(series: dict[str, Any]) -> dict[str, Any]:
    for label in ("pod", "exported_pod"):
        if name := series["metric"].get(label):
            role = "prefill" if "prefill" in name else "decode"
            series["metric"][label] = f"zz-{name.rsplit('-', 1)[1]}-x.{role}"
    return series


def test_more_tokens_of_a_role_are_more_capacity_of_it(source: Path, plain: Tables, tmp_path: Path) -> None:
    """A unit change of a role's work scales its numbers; the ratio and the verdicts stay."""
    factors = {"prefill": 2.0, "decode": 4.0}

    def scaled(series: dict[str, Any]) -> dict[str, Any]:
        for role, factor in factors.items():
            if series["metric"]["__name__"] in TOKENS[role]:
                series["values"] = [[t, str(factor * float(v))] for t, v in series["values"]]
        return series

    found = _derived(copy_changed(source, tmp_path / "in", scaled), tmp_path / "run")
    names = ["signal", "role", "fit", "verdict"]
    assert_frame_equal(found["study"].select(names), plain["study"].select(names))
    scale = pl.col("role").replace_strict(factors, default=1.0, return_dtype=pl.Float64)
    expected = plain["capacity"].with_columns(pl.col("per_instance") * scale)
    names = ["role", "fit", "per_instance"]
    assert_frame_equal(found["capacity"].select(names), expected.select(names), rel_tol=1e-6)
    # More work at as much more capacity needs the same instances.
    assert_frame_equal(
        found["pd_ratio"].select("fit", "value"), plain["pd_ratio"].select("fit", "value"), rel_tol=1e-6
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

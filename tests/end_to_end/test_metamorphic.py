"""Changes of the input whose effect on the answer is known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from end_to_end.runs import SAMPLES, SIMULATED, Finished, Run, copy_changed, copy_dumps, here
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
def plain(source: Path, finished: Finished) -> Run:
    """The unchanged run."""
    return finished(source, *SIMULATED)


TABLES = ("study", "recommended", "capacity", "thresholds", "refusals", "demand", "pd_ratio")
"""What policies, backtests and reports follow from."""


def _derived(source: Path, folder: Path) -> dict[str, pl.DataFrame]:
    """Ingest a folder, run it up to derive, and return its answers."""
    here("ingest", source, "--run-dir", folder, "-q")
    here("derive", folder, "-q", *SIMULATED)
    return _tables(folder)


def _tables(folder: Path) -> dict[str, pl.DataFrame]:
    return {name: tables.read(folder, name) for name in TABLES}


def _assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name in TABLES:
        assert_frame_equal(found[name], expected[name], check_exact=True)


def test_the_truth_is_not_read(source: Path, plain: Run, tmp_path: Path) -> None:
    """Without the files beside the dumps every answer is the same."""
    bare = _derived(copy_dumps(source, tmp_path / "dev_diurnal"), tmp_path / "run")
    _assert_same(bare, _tables(plain.folder))


def test_names_of_pods_do_not_matter(source: Path, plain: Run, tmp_path: Path) -> None:
    """Other pod names with the same role words give the same answer."""

    def rename(series: dict[str, Any]) -> dict[str, Any]:
        for label in ("pod", "exported_pod"):
            if name := series["metric"].get(label):
                role = "prefill" if "prefill" in name else "decode"
                series["metric"][label] = f"zz-{name.rsplit('-', 1)[1]}-x.{role}"
        return series

    renamed = _derived(copy_changed(source, tmp_path / "in", rename), tmp_path / "run")
    _assert_same(renamed, _tables(plain.folder))


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_twice_the_tokens_of_a_role_are_twice_its_capacity(
    source: Path, plain: Run, tmp_path: Path, role: str
) -> None:
    """A unit change of one role's work scales its numbers; the ratio and the verdicts stay."""

    def double(series: dict[str, Any]) -> dict[str, Any]:
        if series["metric"]["__name__"] in TOKENS[role]:
            series["values"] = [[t, str(2 * float(v))] for t, v in series["values"]]
        return series

    doubled = _derived(copy_changed(source, tmp_path / "in", double), tmp_path / "run")
    before = _tables(plain.folder)
    names = ["signal", "role", "fit", "verdict"]
    assert_frame_equal(doubled["study"].select(names), before["study"].select(names))
    scale = pl.when(pl.col("role") == role).then(2.0).otherwise(1.0)
    scaled = before["capacity"].with_columns(pl.col("per_instance") * scale)
    names = ["role", "fit", "per_instance"]
    assert_frame_equal(doubled["capacity"].select(names), scaled.select(names), rel_tol=1e-6)
    # Twice the work at twice the capacity needs the same instances.
    assert_frame_equal(
        doubled["pd_ratio"].select("fit", "value"), before["pd_ratio"].select("fit", "value"), rel_tol=1e-6
    )


def test_the_order_of_files_does_not_matter(source: Path, plain: Run, tmp_path: Path) -> None:
    """Files named so that they are read in reverse give the same answer."""
    target = tmp_path / "in"
    target.mkdir()
    for number, path in enumerate(sorted(source.glob("*.json.gz"), reverse=True)):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        answer["data"]["result"].reverse()
        (target / f"{number:02d}.json").write_text(json.dumps(answer), "utf-8")
    _assert_same(_derived(target, tmp_path / "run"), _tables(plain.folder))


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

"""An input of requests or benchmark points alone: read and looked at, not judged."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from hs_analysis.errors import InputError
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings

PROFILE = "prefill_isl,prefill_ttft,prefill_thpt_per_gpu\n100,19.5,5121.5\n200,25,6000\n"
TRACE = '{"timestamp": 0, "input_length": 1024, "output_length": 80, "hash_ids": [1, 2]}\n'


def to(target: str, folder: Path):  # type: ignore[no-untyped-def]
    return run_inputs(
        [folder / "in"], target, Settings(), stages=STAGES, progress=Silent(), run_dir=folder / "run"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "prefill.csv").write_text(PROFILE)
    (tmp_path / "in" / "trace.jsonl").write_text(TRACE)
    return tmp_path


def test_ingest_and_doctor_take_it(folder: Path) -> None:
    ran = to("doctor", folder)
    assert ran.worked == ("ingest", "align", "doctor")
    assert pl.read_parquet(ran.folder / "data" / "bench.parquet").height == 2
    assert pl.read_parquet(ran.folder / "data" / "requests.parquet").height == 1
    counts = json.loads((ran.folder / "data" / "inputs.json").read_text())["counts"]
    assert (counts["rows_read"], counts["rows_stored"], counts["bench"], counts["requests"]) == (3, 3, 2, 1)


@pytest.mark.parametrize("target", ["study", "report"])
def test_what_judges_says_what_is_missing(folder: Path, target: str) -> None:
    (folder / "in" / "prefill.csv").unlink()  # benchmark points answer for the ratio, requests for nothing
    words = "no metrics over time, only 1 requests: there is no history to judge; add the"
    with pytest.raises(InputError, match=words):
        to(target, folder)


def test_metrics_nobody_knows_are_still_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("Time,strange{}\n1764072000000,1\n")
    with pytest.raises(InputError, match=r"no metric that the catalogue knows among 1 names \(strange\)"):
        to("ingest", tmp_path)


ENGINE = "".join(
    f"{name}{{{labels}}} {1000 * i} {1764072000 + 60 * i}\n"
    for name, labels in [("vllm:generation_tokens_total", 'pod="a",model_name="m"')]
    for i in range(90)
)


def test_instances_without_a_role_are_shown_and_not_judged(tmp_path: Path) -> None:
    """Doctor lists them; what judges says where to give the roles."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.om").write_text(f"{ENGINE}# EOF\n")
    ran = to("doctor", tmp_path)
    texts = pl.read_parquet(ran.folder / "data" / "findings.parquet")["text"].to_list()
    assert "1 instances are unknown (by none)" in texts
    with pytest.raises(InputError, match=r"placed on a service and role; .*\[roles\] in hsa.toml"):
        to("study", tmp_path)

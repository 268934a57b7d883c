"""A run that a later day was added to answers as a run over all days does, byte by byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import extend_run, run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings, Slo

SAMPLE = Path(__file__).parents[2] / "data_samples" / "simulated-days"
CUT_S = 1_767_225_600 + 40 * 3600
"""Forty of its sixty hours."""

OWN = ("manifest.json", "run.duckdb", ".lock")
"""Files that hold the command, times and places."""


def parted(folder: Path) -> tuple[Path, Path]:
    """Write the sample's answers in two parts."""
    parts = (folder / "first", folder / "later")
    for part in parts:
        part.mkdir()
    for path in sorted(SAMPLE.glob("*.json.gz")):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        every = answer["data"]["result"]
        for number, part in enumerate(parts):
            answer["data"]["result"] = [
                {**one, "values": [pair for pair in one["values"] if (pair[0] >= CUT_S) == bool(number)]}
                for one in every
            ]
            (part / path.name.removesuffix(".gz")).write_text(json.dumps(answer), "utf-8")
    return parts


@pytest.mark.slow
def test_all_results_are_those_of_a_whole_run(tmp_path: Path) -> None:
    """Tables, summary, policy, exports and report; the samples lie in two files, with the same rows."""
    first, later = parted(tmp_path)
    settings = Settings(slo=Slo(ttft_s=2.5, tbt_s=0.05), startup_s={"prefill": 240.0, "decode": 240.0})
    known = {"stages": STAGES, "progress": Silent()}
    one, other = tmp_path / "one" / "run", tmp_path / "other" / "run"
    run_inputs([first], "report", settings, run_dir=one, **known)  # type: ignore[arg-type]
    extend_run(one, [later], "report", **known)  # type: ignore[arg-type]
    run_inputs([first, later], "report", settings, run_dir=other, **known)  # type: ignore[arg-type]
    files = {
        folder: {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.parent.name != "samples" and path.name not in OWN
        }
        for folder in (one, other)
    }
    assert files[one] == files[other]
    assert {"summary.json", "policy.yaml", "report.html"} < files[one]
    differ = [name for name in sorted(files[one]) if (one / name).read_bytes() != (other / name).read_bytes()]
    assert differ == []
    samples = [
        pl.read_parquet(sorted((folder / "data/samples").glob("*"))).sort("series_id", "t")
        for folder in (one, other)
    ]
    assert samples[0].equals(samples[1])

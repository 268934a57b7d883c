"""Every public data set is read, or refused with the sentence that says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from ingest.mappings import shipped
from public_sets import READ

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.settings import Reading


def taken(folder: Path, out: Path, how: Reading) -> Ingested:
    """Ingest a folder; every row read is stored, a duplicate, superseded or rejected."""
    found = ingest(discover([folder], how), out, lambda _name: None, how)
    for file in found.files:
        fates = file.rows_stored + file.duplicates + file.superseded + file.rows_rejected
        assert file.rows_read == fates, file
    return found


def stored(found: Ingested) -> int:
    """Return the samples that are kept."""
    return sum(file.rows_stored - file.requests - file.bench for file in found.files)


def test_azure(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "azure-llm-2023"
    with pytest.raises(InputError, match=r"no zone \(first: 2023-11-16 18:15:46.6805900\)"):
        taken(folder, tmp_path, Reading())
    found = taken(folder, tmp_path, Reading(tz="UTC"))
    assert found.requests.height == 19_366
    assert found.requests["prompt_tokens"].mean() == pytest.approx(1155, abs=1)
    assert found.requests["arrival_s"].max() == pytest.approx(3502, abs=1)


def test_mooncake(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "mooncake-fast25", tmp_path, Reading())
    assert found.requests.height == 12_031
    assert found.requests["arrival"].null_count() == 12_031
    assert found.infos[0][1].startswith("0.37 of the prompt blocks")


def test_wva(real_data: Path, tmp_path: Path) -> None:
    """Rates and replicas of every reconcile; latencies of those under load; each experiment a capture."""
    for name in ("va_timeseries.csv", "pod_timeseries.csv.gz"):  # the same again is there as OpenMetrics
        shutil.copy(real_data / "wva-h100-autoscaling" / name, tmp_path)
    found = taken(tmp_path, tmp_path / "out", shipped("wva-h100"))
    assert found.series["capture"].n_unique() == 24
    idle = found.rejected.filter(pl.col("reason") == "skip_where").height
    assert idle == 324
    assert sum(file.rows_read for file in found.files) - idle == 4 * 1070 + 2 * (1070 - idle) + 3551


def test_servegen_derived(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "servegen-derived"
    with pytest.raises(InputError, match=r"days1-7.csv is a table that no reader knows.*\[tables\.NAME"):
        taken(folder, tmp_path, Reading())
    found = taken(folder, tmp_path, shipped("servegen-rates", epoch="2026-11-24"))
    assert stored(found) == 3 * 1008
    assert found.warnings == ()


def test_nab(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "nab", tmp_path, shipped("nab"))
    assert stored(found) == 10 * 4032
    assert found.series["instance"].n_unique() == 10


def test_splitwise(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "splitwise-sim", tmp_path, shipped("splitwise-sim"))
    assert found.bench.height == 1260
    one = found.bench.filter(
        (pl.col("isl") == 1024) & (pl.col("concurrency") == 1) & (pl.col("decode_gpus") == 8)
        & (pl.col("decode_gpu_type") == "h100-80gb") & (pl.col("model") == "llama2-70b")
    )  # fmt: skip
    assert one["ttft_mean_s"].median() == pytest.approx(0.078, abs=0.001)


def test_dstack(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "dstack-h100-mi300x", tmp_path, shipped("dstack"))
    assert found.bench.height == 282
    assert set(found.bench["decode_gpus"]) == {4.0, 8.0}
    assert not found.bench["decode_gpu_type"].str.contains(r"^\d+x|\s$").any()


def test_aiconfigurator(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "aiconfigurator-silicon", tmp_path, Reading())
    sample = found.bench.filter(pl.col("file") == "silicon_sample.csv.gz")
    apart = sample.filter(pl.col("disaggregated"))
    assert (sample.height, apart.height) == (5221, 1602)
    assert apart["prefill_instances"].count() == apart["decode_gpus"].count() == 274
    assert sample["concurrency"].count() == 5202


def test_dynamo_profile(real_data: Path, tmp_path: Path) -> None:
    found = taken(real_data / "dynamo-h200-profile", tmp_path, Reading())
    assert found.bench.group_by("kind").len().sort("kind").rows() == [("decode", 41), ("prefill", 17)]


def test_acmetrace(real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="distributions of metrics, without times"):
        taken(real_data / "acmetrace", tmp_path, Reading())


def test_dynamo_mocker_requests(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dynamo-mocker" / "pd-diurnal"
    found = taken(folder / "requests.csv.gz", tmp_path, shipped("request-log"))
    assert found.requests.height == 4250
    assert set(found.requests["status"]) >= {"ok"}
    assert found.requests["arrival"].null_count() == 0


LONG = ("dynamo-mocker/pd-cycles", "dynamo-mocker/pd-diurnal", "dynamo-mocker/pd-sweep")
"""The captures that whole runs read as well."""


@pytest.mark.parametrize(
    ("folder", "reading"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[0] in LONG)) for row in READ.items()],
)
def test_every_row_of_every_folder_has_one_fate(
    real_data: Path, tmp_path: Path, folder: str, reading: Reading
) -> None:
    """Rows read are stored, exact copies, superseded or rejected, per file; tables on disk hold the same."""
    found = taken(real_data / folder, tmp_path, reading)
    kept = pl.read_parquet(tmp_path / "samples" / "part-0.parquet").height
    assert kept == stored(found)
    assert found.rejected.height == sum(file.rows_rejected for file in found.files)
    assert (found.requests.height, found.bench.height) == (
        sum(file.requests for file in found.files), sum(file.bench for file in found.files),
    )  # fmt: skip
    rejected = dict(found.rejected.group_by("file").len().iter_rows())
    assert {file.name: file.rows_rejected for file in found.files if file.rows_rejected} == rejected
    names = {file.name for file in found.files}
    for file in found.files:
        assert bool(file.superseded) == bool(file.superseded_by), file
        assert set(file.superseded_by) <= names - {file.name}

"""Parquet tables written by contract, and the DuckDB file over them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_analysis.errors import ContractError
from hs_analysis.schema.frames import CONTRACTS, SAMPLES, SERIES, empty, label_map
from hs_analysis.store import read_table, write_table, write_view_database

SAMPLE = pl.DataFrame(
    {
        "series_id": [0, 1],
        "t": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
        "value": [0.1, None],
        "flag": [None, "nan"],
    },
    schema=empty(SAMPLES).schema,
)
ROW = {
    "series_id": 0, "metric": "m", "labels": {"a": "b"}, "emitter_role": "decode", "role_evidence": "none",
    "kind": "gauge", "capture": "",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_empty_tables_can_be_written_and_read(tmp_path: Path, name: str) -> None:
    """With units and meanings as field metadata."""
    path = tmp_path / "new" / f"{name}.parquet"
    assert write_table(empty(CONTRACTS[name]), CONTRACTS[name], path) == 0
    assert read_table(path).columns == CONTRACTS[name].names
    stored = pq.read_schema(path)
    assert [stored.field(f.name).metadata for f in CONTRACTS[name]] == [f.metadata for f in CONTRACTS[name]]


def test_values_come_back_to_the_last_bit(tmp_path: Path) -> None:
    """Nulls stay nulls, times keep their zone, labels are a map."""
    write_table(SAMPLE, SAMPLES, tmp_path / "samples.parquet")
    assert read_table(tmp_path / "samples.parquet").equals(SAMPLE)
    write_table(pl.DataFrame([ROW], schema=empty(SERIES).schema), SERIES, tmp_path / "series.parquet")
    assert label_map(read_table(tmp_path / "series.parquet")["labels"][0]) == {"a": "b"}


def test_a_stream_is_written_as_its_rows_come(tmp_path: Path) -> None:
    """A batch reader gives the same table."""
    reader = pa.RecordBatchReader.from_batches(SAMPLES, SAMPLE.to_arrow().cast(SAMPLES).to_batches())
    assert write_table(reader, SAMPLES, tmp_path / "samples.parquet") == 2
    assert read_table(tmp_path / "samples.parquet").equals(SAMPLE)


def test_nothing_half_written_has_a_final_name(tmp_path: Path) -> None:
    """A write that fails leaves the table that was there."""
    path = tmp_path / "samples.parquet"
    write_table(SAMPLE, SAMPLES, path)
    with pytest.raises(ContractError, match="flag is missing"):
        write_table(SAMPLE.drop("flag"), SAMPLES, path)
    assert read_table(path).equals(SAMPLE)

    def breaks() -> pa.RecordBatchReader:
        def batches():
            yield SAMPLE.head(1).to_arrow().cast(SAMPLES).to_batches()[0]
            raise OSError("the disk is full")

        return pa.RecordBatchReader.from_batches(SAMPLES, batches())

    with pytest.raises(OSError, match="disk is full"):
        write_table(breaks(), SAMPLES, path)
    assert read_table(path).equals(SAMPLE)


@pytest.mark.parametrize("name", ["it's", 'a "quote"', "a[1]*b", "blank é"])
def test_views_open_from_anywhere_and_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Quotes and glob signs in the folder's name do no harm, the current directory does not matter."""
    folder = tmp_path / name
    write_table(SAMPLE.head(1), SAMPLES, folder / "samples" / "part-0.parquet")
    write_table(SAMPLE.tail(1), SAMPLES, folder / "samples" / "part-1.parquet")
    monkeypatch.chdir(tmp_path)
    write_view_database(Path(name), {"samples": "samples/*.parquet", "order": "samples/part-0.parquet"})
    monkeypatch.chdir("/")
    with duckdb.connect(str(folder / "run.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT count(*), count(value) FROM samples").fetchall() == [(2, 1)]
        assert connection.sql('SELECT value FROM "order"').fetchall() == [(0.1,)]
    assert not list(folder.glob("*unfinished*"))


def test_views_are_replaced_as_a_whole(tmp_path: Path) -> None:
    """A second run leaves no view of the first."""
    write_table(SAMPLE, SAMPLES, tmp_path / "samples.parquet")
    write_view_database(tmp_path, {"old": "samples.parquet"})
    write_view_database(tmp_path, {"new": "samples.parquet"})
    with duckdb.connect(str(tmp_path / "run.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == [
            ("new",)
        ]

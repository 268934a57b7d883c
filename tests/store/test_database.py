"""Running the shipped queries on frames and Parquet files."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from hs_analysis.errors import UsageError
from hs_analysis.schema.frames import SAMPLES, empty
from hs_analysis.store import Database, query_text

SAMPLE = pl.DataFrame(
    {
        "series_id": [0, 1],
        "t": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
        "value": [1.0, None],
        "flag": [None, "nan"],
    },
    schema=empty(SAMPLES).schema,
)
EVERYTHING = {"first": 0.0, "last": 1e12}


def kept(samples: object) -> pl.DataFrame:
    """Run a query that returns its input."""
    with Database(threads=1) as database:
        return database.query("align/within_bounds", EVERYTHING, {"samples": samples})


def test_frames_tables_and_files_are_all_inputs(tmp_path: Path) -> None:
    """The result is the same, times keep their zone, nulls stay nulls."""
    path = tmp_path / "samples.parquet"
    SAMPLE.write_parquet(path)
    for given in (SAMPLE, SAMPLE.to_arrow(), path):
        assert kept(given).equals(SAMPLE)
    assert kept(SAMPLE).schema["t"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("name", ["it's", 'a "quote"', "a[1]b", "a*b?", "blank é"])
def test_any_folder_name_can_be_read(tmp_path: Path, name: str) -> None:
    """Quotes and glob signs in a folder's name are letters; the last part of a path may still be a glob."""
    folder = tmp_path / name
    folder.mkdir()
    SAMPLE.head(1).write_parquet(folder / "part-0.parquet")
    SAMPLE.tail(1).write_parquet(folder / "part-1.parquet")
    assert kept(folder / "part-1.parquet").equals(SAMPLE.tail(1))
    assert kept(folder / "*.parquet").equals(SAMPLE)


def test_a_stream_gives_the_same_in_batches() -> None:
    """For results larger than memory."""
    with Database(threads=1) as database:
        batches = database.stream("align/within_bounds", EVERYTHING, {"samples": SAMPLE})
        table = pa.Table.from_batches(list(batches))
    assert pl.from_arrow(table).equals(SAMPLE)


def test_inputs_of_one_query_do_not_reach_the_next() -> None:
    """The same name is read anew."""
    with Database(threads=1) as database:
        first = database.query("align/within_bounds", EVERYTHING, {"samples": SAMPLE})
        second = database.query("align/within_bounds", EVERYTHING, {"samples": SAMPLE.head(1)})
    assert (first.height, second.height) == (2, 1)


@pytest.mark.parametrize("limit", ["a lot", "4GB'; DROP TABLE x"])
def test_a_memory_limit_that_is_none_is_a_usage_error(limit: str) -> None:
    """It says how to write one."""
    with pytest.raises(UsageError, match=r"--memory-limit: no amount of memory: .*like 4GB"):
        Database(memory_limit=limit)


def test_spilling_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort larger than the limit works, below the temporary folder, not in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    rows = 2_000_000
    big = pl.select(
        pl.lit(0, pl.Int64).alias("series_id"),
        (pl.lit(SAMPLE["t"][0]) + pl.duration(seconds=pl.int_range(rows, 0, -1))).alias("t"),
        pl.int_range(rows).cast(pl.Float64).alias("value"),
        pl.lit(None, pl.String).alias("flag"),
    )
    with Database(threads=1, memory_limit="60MB") as database:
        kinds = pl.DataFrame({"series_id": [0], "kind": ["counter"]})
        result = database.stream("ingest/resets", inputs={"samples": big, "kinds": kinds})
        assert sum(batch.num_rows for batch in result) == rows - 1
        assert list((tmp_path / "temp").glob("hsa-spill-*"))
    assert not list(tmp_path.rglob("hsa-spill-*"))
    assert not (tmp_path / ".tmp").exists()


def test_a_cut_keeps_the_order_of_what_is_stored(tmp_path: Path) -> None:
    """It is not sorted again: a long history would not fit into memory for that."""
    rows = 3_000_000
    stored = pl.select(
        (pl.int_range(rows) // 1000).alias("series_id"),
        (pl.lit(SAMPLE["t"][0]) + pl.duration(seconds=pl.int_range(rows) % 1000)).alias("t"),
        pl.int_range(rows).cast(pl.Float64).alias("value"),
        pl.lit(None, pl.String).alias("flag"),
    )
    path = tmp_path / "stored.parquet"
    stored.write_parquet(path, row_group_size=100_000)
    first = SAMPLE["t"][0].timestamp() + 300
    with Database(threads=4, memory_limit="100MB") as database:
        cut = database.stream("align/within_bounds", EVERYTHING | {"first": first}, {"samples": path})
        values = np.concatenate([batch.column("value").to_numpy() for batch in cut])
    assert values.size == rows * 7 // 10
    assert (np.diff(values) > 0).all()


def test_a_query_that_is_not_shipped_is_an_error() -> None:
    """Names are stage/query."""
    assert query_text("align/within_bounds").startswith("-- ")
    with pytest.raises(FileNotFoundError):
        query_text("align/nonsense")


def test_ctrl_c_inside_a_query_is_ctrl_c() -> None:
    """An interrupted query leaves as KeyboardInterrupt, whether its result was whole or streamed."""
    with pytest.raises(KeyboardInterrupt), Database(threads=1):
        raise duckdb.InterruptException("Interrupted!")

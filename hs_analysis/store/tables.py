"""Parquet tables of a run folder, written by contract, and the DuckDB file of views over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hs_analysis.schema.frames import to_table
from hs_analysis.store.database import parquet_pattern

ROW_GROUP_ROWS = 1 << 20
"""Rows of a Parquet row group: about a million, so that a group is one unit of work."""


def _writer_options(contract: pa.Schema) -> dict[str, object]:
    encodings = {}
    for field in contract:
        if pa.types.is_timestamp(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_float64(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
    options: dict[str, object] = {"compression": "zstd", "compression_level": 1}
    if encodings:
        plain = [f.name for f in contract if f.name not in encodings and not pa.types.is_nested(f.type)]
        options |= {"column_encoding": encodings, "use_dictionary": plain or False}
    return options


def write_table(data: pl.DataFrame | pa.RecordBatchReader, contract: pa.Schema, path: Path) -> int:
    """Write a table under its final name only when it is whole; return the number of rows.

    The file carries the contract's units and meanings as field metadata.

    Raises
    ------
    ContractError
        When a frame does not keep the contract.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    rows = 0
    with pq.ParquetWriter(unfinished, contract, **_writer_options(contract)) as writer:
        if isinstance(data, pl.DataFrame):
            table = to_table(data, contract)
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            rows = table.num_rows
        else:
            for batch in data:
                writer.write_table(
                    pa.Table.from_batches([batch]).cast(contract), row_group_size=ROW_GROUP_ROWS
                )
                rows += batch.num_rows
    unfinished.replace(path)
    return rows


def read_table(path: Path) -> pl.DataFrame:
    """Return a Parquet table as a frame."""
    return pl.read_parquet(path)


def write_view_database(folder: Path, tables: Mapping[str, str]) -> None:
    """Write run.duckdb: one view per table, by absolute paths, so that it opens from any directory.

    Parameters
    ----------
    folder
        The run folder.
    tables
        View name → path below the folder, whose last part may be a glob; the files must be there.
    """
    unfinished = folder / "run.duckdb.unfinished"
    unfinished.unlink(missing_ok=True)
    with duckdb.connect(str(unfinished)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, pattern in sorted(tables.items()):
            source = f"SELECT * FROM read_parquet('{parquet_pattern(folder.resolve() / pattern)}')"  # noqa: S608
            connection.execute(f'CREATE VIEW "{name}" AS {source}')
    unfinished.replace(folder / "run.duckdb")

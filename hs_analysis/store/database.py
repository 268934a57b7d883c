"""Run the shipped query files on frames and Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import duckdb
import polars as pl
import pyarrow as pa

Input: TypeAlias = "pl.DataFrame | pa.Table | Path"

DEFAULT_MEMORY_LIMIT = "4GB"
"""What DuckDB may hold before it spills to disk; a default of this project."""


@lru_cache(maxsize=64)
def query_text(name: str) -> str:
    """Return the text of a shipped query, ``stage/query`` without the ending.

    The files lie in ``queries/`` beside the package in a checkout and inside it in a wheel.

    Raises
    ------
    FileNotFoundError
        When there is no such query.
    """
    packaged = files("hs_analysis").joinpath("_queries", f"{name}.sql")
    if packaged.is_file():
        return packaged.read_text("utf-8")
    checkout = Path(__file__).resolve().parents[2] / "queries" / f"{name}.sql"
    return checkout.read_text("utf-8")


class Database:
    """One in-memory DuckDB connection with the session in UTC.

    Use it as a context manager. Inputs are registered by explicit name; a Path is read as Parquet and may be
    a glob.
    """

    def __init__(self, *, memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(f"SET memory_limit = '{memory_limit}'")
        self._connection.execute("SET enable_progress_bar = false")
        if threads is not None:
            self._connection.execute(f"SET threads = {int(threads)}")

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _register(self, inputs: Mapping[str, Input]) -> None:
        for name, value in inputs.items():
            if isinstance(value, Path):
                quoted = str(value).replace("'", "''")
                self._connection.execute(
                    f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM read_parquet('{quoted}')"  # noqa: S608
                )
            else:
                table = value.to_arrow() if isinstance(value, pl.DataFrame) else value
                self._connection.register(name, table)

    def relation(
        self, name: str, params: Mapping[str, Any] | None = None, inputs: Mapping[str, Input] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Return the lazily executed result of a shipped query."""
        self._register(inputs or {})
        return self._connection.sql(query_text(name), params=dict(params or {}))

    def query(
        self, name: str, params: Mapping[str, Any] | None = None, inputs: Mapping[str, Input] | None = None
    ) -> pl.DataFrame:
        """Run a shipped query and return its result.

        Parameters
        ----------
        name
            ``stage/query``, a file of ``queries/`` without its ending.
        params
            Every ``$param`` of the query, no more and no fewer.
        inputs
            Every table the query names.
        """
        frame: pl.DataFrame = self.relation(name, params, inputs).pl()
        return frame

    def stream(
        self, name: str, params: Mapping[str, Any] | None = None, inputs: Mapping[str, Input] | None = None
    ) -> pa.RecordBatchReader:
        """Run a shipped query and return its result batch by batch, for results larger than memory."""
        return self.relation(name, params, inputs).to_arrow_reader(1 << 20)

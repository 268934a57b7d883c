"""Run the shipped query files on frames and Parquet files."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from uuid import uuid4

import duckdb
import polars as pl
import pyarrow as pa

from hs_analysis.errors import MachineError, UsageError
from hs_analysis.interrupts import undone

Input: TypeAlias = "pl.DataFrame | pa.Table | Path"

DEFAULT_MEMORY_LIMIT = "4GB"
"""What DuckDB may hold before it spills to disk; a default of this project."""


def parquet_pattern(path: Path) -> str:
    """Return a path as the text of a SQL literal for read_parquet.

    Only the last part of the path may be a glob: a ``[`` in a folder's name is a letter like any other.
    """
    folder = re.sub(r"[\[*?]", r"[\g<0>]", str(path.parent))
    return f"{folder}/{path.name}".replace("'", "''")


def _queries() -> Traversable:
    """Return the folder of the shipped queries: inside the package in a wheel, beside it in a checkout."""
    packaged = files("hs_analysis").joinpath("_queries")
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "queries"


def query_names(folder: str) -> tuple[str, ...]:
    """Return the names of the shipped queries of a folder, without the folder and the ending, sorted."""
    found = (Path(entry.name) for entry in _queries().joinpath(folder).iterdir())
    return tuple(sorted(name.stem for name in found if name.suffix == ".sql"))


@lru_cache(maxsize=64)
def query_text(name: str) -> str:
    """Return the text of a shipped query, ``stage/query`` without the ending.

    Raises
    ------
    FileNotFoundError
        When there is no such query.
    """
    return _queries().joinpath(f"{name}.sql").read_text("utf-8")


class Database:
    """One in-memory DuckDB connection with the session in UTC.

    Use it as a context manager. Inputs are registered by explicit name; a Path is read as Parquet and its
    last part may be a glob. What does not fit into memory is spilled to a folder of its own below the
    temporary one of the system.

    Raises
    ------
    UsageError
        When the memory limit can't be understood.
    """

    def __init__(self, *, memory_limit: str = DEFAULT_MEMORY_LIMIT, threads: int | None = None) -> None:
        self._memory_limit = memory_limit
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET enable_progress_bar = false")
        self._undoing = ExitStack()
        self._spill = Path(tempfile.gettempdir()) / f"hsa-spill-{uuid4().hex}"  # made when it is needed
        quoted = str(self._spill).replace("'", "''")
        self._connection.execute(f"SET temp_directory = '{quoted}'")
        try:
            self._connection.execute("SET memory_limit = $limit", {"limit": memory_limit})
        except duckdb.Error as error:
            self._connection.close()
            raise UsageError(
                f"no amount of memory: {memory_limit!r}", where="--memory-limit", hint="write it like 4GB"
            ) from error
        if threads is not None:
            self._connection.execute(f"SET threads = {int(threads)}")

    def __enter__(self) -> Database:
        self._undoing.enter_context(undone(self._remove_spill))
        return self

    def _remove_spill(self) -> None:
        shutil.rmtree(self._spill, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._remove_spill()
        self._undoing.close()
        if isinstance(error, duckdb.InterruptException):  # Ctrl-C inside a query or a stream is still Ctrl-C
            raise KeyboardInterrupt from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise MachineError(
                f"a query needs more memory than {self._memory_limit}",
                where="--memory-limit",
                hint="give more",
            ) from error

    def _register(self, inputs: Mapping[str, Input]) -> None:
        for name, value in inputs.items():
            if isinstance(value, Path):
                source = f"SELECT * FROM read_parquet('{parquet_pattern(value)}')"  # noqa: S608
                self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {source}")
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

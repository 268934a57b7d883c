"""A user's own SQL over the tables of a run: read-only, nothing but these tables within reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from hs_analysis.errors import UsageError
from hs_analysis.store.database import parquet_pattern, query_names, query_text

_BATCH_ROWS = 1 << 11


@dataclass(frozen=True)
class QueryRows:
    """Rows of a query, in its order; ``more`` says whether there were more than asked for."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    more: bool


PACK = "operators"
"""Folder of the documented queries that operators run on a finished run."""


@dataclass(frozen=True)
class PackQuery:
    """A query of the operators' pack, as its header describes it.

    Attributes
    ----------
    name
        What ``hsa sql RUN @name`` calls it.
    purpose
        What it answers, one sentence.
    grain
        What one row is.
    reads
        Tables of the run that it reads.
    columns
        Column of the answer → meaning with unit in square brackets.
    text
        The file as it is, header included.
    """

    name: str
    purpose: str
    grain: str
    reads: tuple[str, ...]
    columns: Mapping[str, str]
    text: str


@cache
def operators_pack() -> tuple[PackQuery, ...]:
    """Return the queries of the operators' pack by name."""
    return tuple(_pack_query(name, query_text(f"{PACK}/{name}")) for name in query_names(PACK))


def _pack_query(name: str, text: str) -> PackQuery:
    lines = [line.removeprefix("-- ") for line in text.splitlines() if line.startswith("-- ")]
    entries = [line.partition(": ") for line in lines[1:]]
    named: dict[str, dict[str, str]] = {"in": {}, "out": {}}
    for head, _, said in entries:
        kind, _, what = head.partition(" ")
        if kind in named:
            named[kind][what] = said
    grain = next(said for head, _, said in entries if head == "grain")
    return PackQuery(name, lines[0], grain, tuple(named["in"]), named["out"], text)


def explore(tables: Mapping[str, Path], query: str, most_rows: int | None = None) -> QueryRows:
    """Run one SELECT over Parquet tables.

    Parameters
    ----------
    tables
        View name → file, or glob in the last part of the path.
    query
        One SELECT of DuckDB's dialect; ``FROM x``, DESCRIBE, SUMMARIZE and SHOW TABLES count as such.
    most_rows
        Rows to return at most; None for all of them.

    Returns
    -------
    The rows with plain values: times as ISO 8601 UTC text, maps as dicts.

    Raises
    ------
    UsageError
        For what is no query, changes anything, or fails. The query can neither write nor read other files
        nor reach a network.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        for name, path in tables.items():
            source = f"SELECT * FROM read_parquet('{parquet_pattern(path)}')"  # noqa: S608
            connection.execute(f'CREATE VIEW "{name}" AS {source}')
        _close_off(connection, list(tables.values()))
        try:
            relation = connection.sql(_the_select(connection, query))
            if relation is None:
                raise _wrong("it has no result")
            return _rows(relation.to_arrow_reader(_BATCH_ROWS), most_rows)
        except duckdb.Error as error:
            raise _wrong(" ".join(str(error).split())) from error


def _close_off(connection: duckdb.DuckDBPyConnection, paths: list[Path]) -> None:
    """Leave nothing within reach but the folders of the tables, for good."""
    # DuckDB compares a path as the view spells it, with its wildcards escaped, before it looks for files.
    spelt = [parquet_pattern(path).replace("''", "'").rpartition("/")[0] for path in paths]
    folders = sorted({*spelt, *(str(path.parent) for path in paths)})
    connection.execute("SET allowed_directories = $folders", {"folders": folders})
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _the_select(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise _wrong(f"expected one query, found {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise _wrong(f"{statements[0].type.name} is not allowed: the tables are read-only")
    return str(statements[0].query)


def _wrong(what: str) -> UsageError:
    return UsageError(what, where="QUERY", hint="hsa sql RUN lists the tables")


def _rows(reader: pa.RecordBatchReader, most_rows: int | None) -> QueryRows:
    names = _distinct(reader.schema.names)
    rows: list[dict[str, Any]] = []
    for batch in reader:
        columns = [
            [_plain(value) for value in column.to_pylist(maps_as_pydicts="lossy")] for column in batch.columns
        ]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if most_rows is not None and len(rows) > most_rows:
            return QueryRows(names, tuple(rows[:most_rows]), more=True)
    return QueryRows(names, tuple(rows), more=False)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return column names of which none is there twice."""
    found: list[str] = []
    for name in names:
        number = 2
        distinct = name
        while distinct in found:
            distinct, number = f"{name}_{number}", number + 1
        found.append(distinct)
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, date | time) else value

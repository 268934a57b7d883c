"""Every query, shipped or reference, against its cases: tests/queries/<stage>/<query>/<case>/.

A case is one CSV per input table, ``params.yaml`` when the query has parameters, and ``expect.csv``.
An empty field is null, ``""`` an empty text; input columns that a CSV leaves out are null; types come from
the query's header.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from query_headers import QUERIES, Header, all_queries, input_columns, output_columns, parse
from reference import REFERENCE, Reference
from ruamel.yaml import YAML

from hs_analysis.store import Database

CASES = Path(__file__).parent / "queries"


@cache
def reader() -> duckdb.DuckDBPyConnection:
    """Return what reads the CSVs: one connection, which takes longer to open than a case to read."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def read_csv(path: Path, columns: dict[str, str]) -> pa.Table:
    """Read a CSV into a table with the given columns and DuckDB types."""
    options = "all_varchar = true, header = true, nullstr = '', allow_quoted_nulls = false, delim = ','"
    raw = reader().sql(f"SELECT * FROM read_csv($path, {options})", params={"path": str(path)})
    assert set(raw.columns) <= set(columns), f"{path}: unknown column {set(raw.columns) - set(columns)}"
    given = {name: f'"{name}"' if name in raw.columns else "NULL" for name in columns}
    cast = ", ".join(f'CAST({given[name]} AS {kind}) AS "{name}"' for name, kind in columns.items())
    return raw.project(cast).to_arrow_table()


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[Path, Database]]:
    """One database for all cases of a folder of queries: opening one takes longer than a query."""
    with Database(threads=1) as shipped, Reference(threads=1) as reference:
        yield {QUERIES: shipped, REFERENCE: reference}


def run_case(database: Database, header: Header, case: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (result, expectation) of one case."""
    inputs = {table: read_csv(case / f"{table}.csv", input_columns(header, table)) for table in header.inputs}
    file = case / "params.yaml"
    params = YAML(typ="safe").load(file.read_text("utf-8")) if file.exists() else {}
    result = database.query(header.name, params, inputs)
    expected = pl.DataFrame(pl.from_arrow(read_csv(case / "expect.csv", output_columns(header))))
    return result, expected


def query_of(cases: Path) -> Path:
    """Return the file of the query that a folder of cases is for."""
    name = f"{cases.parent.name}/{cases.name}.sql"
    return QUERIES / name if (QUERIES / name).is_file() else REFERENCE / name


@pytest.mark.parametrize(
    "case", sorted(CASES.glob("*/*/*/expect.csv")), ids=lambda p: "/".join(p.parts[-4:-1])
)
def test_query_returns_what_the_case_expects(case: Path, databases: dict[Path, Database]) -> None:
    """The result of the query on the case's tables is the case's expect.csv, rows in order."""
    folder = case.parent
    query = query_of(folder.parent)
    result, expected = run_case(databases[query.parents[1]], parse(query), folder)
    assert_frame_equal(result, expected, check_dtypes=False, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("query", all_queries(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_query_has_a_case(query: Path) -> None:
    """A query without a case is not tested: each has at least one folder with an expect.csv."""
    assert list((CASES / query.parent.name / query.stem).glob("*/expect.csv"))


@pytest.mark.parametrize("folder", sorted(p for p in CASES.glob("*/*") if p.is_dir()), ids=lambda p: p.name)
def test_every_case_has_a_query(folder: Path) -> None:
    """A case folder whose query was renamed or removed would silently test nothing."""
    assert query_of(folder).is_file()

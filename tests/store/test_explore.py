"""A user's SQL sees the tables of a run, as plain values, and reaches nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from hs_analysis.errors import UsageError
from hs_analysis.store import explore


@pytest.fixture(params=["run", "a [1] it's*"])
def tables(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """Two tables, one of them a glob, in a folder of any name."""
    folder = tmp_path / request.param
    (folder / "samples").mkdir(parents=True)
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    pl.DataFrame({"n": [3, 1, 2], "t": [moment] * 3}).write_parquet(folder / "one.parquet")
    for part in (1, 2):
        pl.DataFrame({"part": [part]}).write_parquet(folder / "samples" / f"part-{part}.parquet")
    return {"one": folder / "one.parquet", "samples": folder / "samples" / "*.parquet"}


def test_rows_come_as_plain_values_in_their_order(tables: dict[str, Path]) -> None:
    """Times are ISO text in UTC, whole decimals integers, maps dicts; equal names are told apart."""
    found = explore(tables, "SELECT n, t, sum(n) OVER () AS n, map {'a': 1} AS m FROM one ORDER BY 1")
    assert found.columns == ("n", "t", "n_2", "m")
    assert found.rows[0] == {"n": 1, "t": "2026-07-01T00:00:00Z", "n_2": 6, "m": {"a": 1}}
    assert [row["n"] for row in found.rows] == [1, 2, 3]
    assert not found.more


def test_globs_are_one_table(tables: dict[str, Path]) -> None:
    """Every file of the pattern counts; the short form FROM is a query too."""
    assert sorted(row["part"] for row in explore(tables, "FROM samples").rows) == [1, 2]


@pytest.mark.parametrize("query", ["SHOW TABLES", "DESCRIBE one", "SUMMARIZE one", "FROM one;", "VALUES (1)"])
def test_what_counts_as_a_query(tables: dict[str, Path], query: str) -> None:
    """Looking around is allowed."""
    assert explore(tables, query).rows


def test_rows_are_limited_and_it_is_said(tables: dict[str, Path]) -> None:
    """At most so many, and whether there were more; exactly as many are all."""
    two = explore(tables, "SELECT n FROM one ORDER BY n", 2)
    assert ([row["n"] for row in two.rows], two.more) == ([1, 2], True)
    assert not explore(tables, "SELECT n FROM one", 3).more
    many = explore(tables, "SELECT * FROM range(100000)", 5000)
    assert (len(many.rows), many.more) == (5000, True)


@pytest.mark.parametrize(
    "query",
    [
        "COPY one TO '{folder}/x.parquet'",
        "EXPLAIN ANALYZE COPY one TO '{folder}/x.parquet'",
        "EXPORT DATABASE '{folder}'",
        "CREATE TABLE x AS FROM one",
        "DROP VIEW one",
        "INSERT INTO one VALUES (1)",
        "ATTACH '{folder}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "FROM one; FROM samples",
        "",
        "-- nothing",
    ],
)
def test_nothing_but_one_select(tables: dict[str, Path], query: str) -> None:
    """Whatever writes, changes or loads is refused, and leaves no file."""
    folder = tables["one"].parent
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match=r"QUERY: .*; hsa sql RUN lists the tables"):
        explore(tables, query.format(folder=str(folder).replace("'", "''")))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://localhost/x.parquet')",
    ],
)
def test_other_files_and_networks_are_out_of_reach(
    tables: dict[str, Path], tmp_path: Path, query: str
) -> None:
    """A SELECT can read the tables' folders, nothing beside them."""
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    with pytest.raises(UsageError, match="QUERY: "):
        explore(tables, query.format(outside=outside))


def test_mistakes_are_one_line(tables: dict[str, Path]) -> None:
    """DuckDB's words, with its did-you-mean, on one line."""
    with pytest.raises(UsageError, match='Did you mean "one') as caught:
        explore(tables, "SELECT * FROM onne")
    assert "\n" not in caught.value.line()

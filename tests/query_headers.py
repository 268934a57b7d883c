"""Read and lint the comment headers of the queries: those shipped, and those that tests compare with.

A header states the purpose on its first line, then ``grain:``, every ``param``, every ``in`` table and every
``out`` column, with units in square brackets. The lint compares each of these with the query itself:
parameters and tables as DuckDB parses them, columns and types as DuckDB binds them against empty inputs.

The columns of an input come from its contract (a table of the schema package), from the query it is the
``result of``, or from the list in parentheses, where a type may follow the name: ``(key, ids BIGINT[])``.

Run as a script it lints both folders and exits 1 on findings.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
from reference import REFERENCE

from hs_analysis.schema.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
QUERIES = ROOT / "queries"
"""Queries that the program runs."""


def all_queries() -> list[Path]:
    """Return the files of the shipped queries and of the reference queries, sorted within each."""
    return [path for folder in (QUERIES, REFERENCE) for path in sorted(folder.glob("*/*.sql"))]


# What an undeclared type is taken to be, by the column's name; a wrong guess is fixed by naming the type.
GUESSES = (
    (r"(^|_)t$|^(start|end)$", "TIMESTAMPTZ"),
    (r"_(id|no|us|count|rows)$|^(rows|key|rank|preference)$", "BIGINT"),
    (r"_like$|^(is|has)_", "BOOLEAN"),
    (
        r"_(s|tps|ratio|share|rate|low|high|sum|scale)$|^(value|sign|low|high|instances|coverage|le|scale)$",
        "DOUBLE",
    ),
)
OUTPUT_TYPES = {"VARCHAR", "BOOLEAN", "BIGINT", "DOUBLE", "TIMESTAMP WITH TIME ZONE", "MAP(VARCHAR, VARCHAR)"}


@dataclass
class Header:
    """One query file taken apart: header entries in order of appearance, and the statement."""

    path: Path
    body: str
    purpose: str = ""
    grain: str = ""
    params: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``stage/query``."""
        return f"{self.path.parent.name}/{self.path.stem}"


def parse(path: Path) -> Header:
    """Split a query file into its header and its statement."""
    lines = path.read_text("utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    comments = [line.removeprefix("--").strip() for line in lines[:end]]
    header = Header(path, "\n".join(lines[end:]), purpose=comments[0] if comments else "")
    groups = {"param": header.params, "in": header.inputs, "out": header.outputs}
    for line in comments[1:]:
        entry = re.match(r"(param|in|out) (\S+): (.+)", line)
        if entry:
            groups[entry[1]][entry[2]] = entry[3]
        elif line.startswith("grain: "):
            header.grain = line.removeprefix("grain: ")
        else:
            header.strays.append(line)
    return header


@cache
def parser() -> duckdb.DuckDBPyConnection:
    """Return what parses statements: one connection, which takes longer to open than to use."""
    return duckdb.connect(config={"threads": 1})


def tables_read(body: str) -> set[str]:
    """Return the tables a statement reads, its own WITH names left out."""
    found = parser().execute("SELECT json_serialize_sql(?)", [body]).fetchone()
    tree = json.loads(found[0]) if found else {"error": True, "error_message": "nothing to parse"}
    if tree["error"]:
        raise ValueError(tree["error_message"])
    read: set[str] = set()
    own: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                read.add(node["table_name"])
            own.update(entry["key"] for entry in node.get("cte_map", {}).get("map", ()))
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return read - own


def parameters(body: str) -> set[str]:
    """Return the names of the ``$params`` of a statement."""
    return {str(name) for s in parser().extract_statements(body) for name in s.named_parameters}


def _sql_type(dtype: pa.DataType) -> str:
    if pa.types.is_timestamp(dtype):
        return "TIMESTAMPTZ"
    if pa.types.is_map(dtype):
        return "MAP(VARCHAR, VARCHAR)"
    if pa.types.is_list(dtype):
        return f"{_sql_type(dtype.value_type)}[]"
    if pa.types.is_struct(dtype):
        members = [f'"{member.name}" {_sql_type(member.type)}' for member in dtype]
        return f"STRUCT({', '.join(members)})"
    names = {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.string(): "VARCHAR"}
    return names[dtype]


def _guess(column: str) -> str:
    return next((sql_type for pattern, sql_type in GUESSES if re.search(pattern, column)), "VARCHAR")


def input_columns(header: Header, table: str) -> dict[str, str]:
    """Return the columns of one input and their DuckDB types.

    Raises
    ------
    ValueError
        When the header does not say which columns the input has.
    """
    text = header.inputs[table]
    for listed in re.findall(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", text):
        parts = [part.strip() for part in re.split(r",\s*(?![^(]*\))", listed)]
        if all(re.fullmatch(r"[a-z]\w*( [A-Z][A-Z0-9(), \[\]]*)?", part) for part in parts):
            named = [part.partition(" ") for part in parts]
            return {name: sql_type or _guess(name) for name, _, sql_type in named}
    result = re.search(r"result of ([\w/]+)", text)
    if result:
        name = result[1] if "/" in result[1] else f"{header.path.parent.name}/{result[1]}"
        return output_columns(parse(header.path.parents[1] / f"{name}.sql"))
    if table in TABLES:
        return {column.name: _sql_type(column.type) for column in TABLES[table]}
    raise ValueError(f"in {table}: say its columns, (a, b BIGINT), or `result of QUERY`, or name a contract")


def output_columns(header: Header) -> dict[str, str]:
    """Return the columns a query gives and their DuckDB types, bound against empty inputs."""
    inputs = {table: input_columns(header, table) for table in header.inputs}
    return dict(_bound(header.body, tuple((table, tuple(own.items())) for table, own in inputs.items())))


@cache
def _bound(
    body: str, inputs: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
) -> tuple[tuple[str, str], ...]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, columns in inputs:
            listed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
            connection.execute(f"CREATE TABLE {table} ({listed})")
        relation = connection.sql(body, params=dict.fromkeys(parameters(body), 1.0))
        return tuple((name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True))


def _has_unit(text: str) -> bool:
    return re.search(r"\[[^\]]+\]", text) is not None


def _compare(what: str, stated: set[str], real: set[str]) -> list[str]:
    missing = [f"{what} {name} is not in the header" for name in sorted(real - stated)]
    return missing + [f"{what} {name} is in the header only" for name in sorted(stated - real)]


def _lint_columns(header: Header) -> list[str]:
    try:
        columns = output_columns(header)
    except (ValueError, duckdb.Error) as error:
        return [str(error).splitlines()[0]]
    findings = _compare("out", set(header.outputs), set(columns))
    if not findings and list(header.outputs) != list(columns):
        findings.append("out columns stand in another order than in the result")
    for name, kind in columns.items():
        if kind not in OUTPUT_TYPES:
            findings.append(f"out {name} is {kind}: cast it to DOUBLE, BIGINT, VARCHAR or BOOLEAN")
        if kind in ("DOUBLE", "TIMESTAMP WITH TIME ZONE") and not _has_unit(header.outputs.get(name, "[]")):
            findings.append(f"out {name} has no [unit]")
    return findings


def lint(path: Path) -> list[str]:
    """Return what is wrong with one query file, empty when nothing is."""
    header = parse(path)
    findings = [f"not a header line: {line}" for line in header.strays]
    if not header.purpose.endswith("."):
        findings.append("the first line is not a sentence that says the purpose")
    if not header.grain.startswith("one row"):
        findings.append("no `grain: one row per …` line")
    names = (path.stem, *header.params, *header.inputs, *header.outputs)
    findings += [f"{name} is not snake_case" for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]
    try:
        kinds = [statement.type for statement in parser().extract_statements(header.body)]
        if kinds != [duckdb.StatementType.SELECT]:
            return [*findings, "not exactly one SELECT"]
        findings += _compare("param", set(header.params), parameters(header.body))
        tables = _compare("in", set(header.inputs), tables_read(header.body))
    except (ValueError, duckdb.Error) as error:
        return [*findings, str(error).splitlines()[0]]
    findings += [f"param {name} has no [unit]" for name, text in header.params.items() if not _has_unit(text)]
    return findings + (tables or _lint_columns(header))


def main() -> int:
    """Lint every query; print findings as ``path: finding``."""
    paths = all_queries()
    findings = [f"{path.relative_to(ROOT)}: {text}" for path in paths for text in lint(path)]
    sys.stdout.write("\n".join([*findings, f"{len(paths)} queries, {len(findings)} findings\n"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

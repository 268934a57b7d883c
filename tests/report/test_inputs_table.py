"""The report's table of input files."""

from __future__ import annotations

from typing import Any

from hs_analysis.report.tables import inputs


def listed(*files: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the texts of the table."""
    made = inputs({"inputs": [{"size": 10, "sha256": "ab", **file} for file in files]})
    heads = [head["text"] if isinstance(head, dict) else head for head in made["columns"]]
    return heads, [[cell["text"] for cell in row["cells"]] for row in made["rows"]]


def test_superseded_rows_are_shown_with_the_files_that_hold_them_better() -> None:
    """The column is there only where something was superseded."""
    dump = {"name": "dump.txt", "rows_read": 9, "superseded": 0}
    heads, rows = listed(
        dump, {"name": "a.om", "rows_read": 1500, "superseded": 1200, "superseded_by": ["dump.txt"]}
    )
    assert heads[-1] == "superseded"
    assert [row[-1] for row in rows] == ["none", "1,200 of 1,500 rows, by dump.txt"]
    assert listed(dump)[0][-1] == "SHA-256"

"""The headers of the shipped and of the reference queries, and the lint that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from query_headers import all_queries, lint

GOOD = """\
-- Mean of each series.
-- grain: one row per series
-- param floor: values below are left out [unit of the series]
-- in samples: stored samples
-- out series_id: number of the series
-- out mean: mean value [unit of the series]
SELECT series_id, avg(value)::DOUBLE AS mean FROM samples WHERE value >= $floor GROUP BY series_id
"""


@pytest.mark.parametrize("path", all_queries(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_header_matches_its_query(path: Path) -> None:
    """Purpose, grain, parameters, tables and columns of each query are stated, and are the real ones."""
    assert lint(path) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("Mean of each series.", "Mean", "first line"),
        ("-- grain: one row per series\n", "", "grain"),
        ("-- param floor: values below are left out [unit of the series]\n", "", "param floor is not in"),
        ("$floor", "0", "param floor is in the header only"),
        ("left out [unit of the series]", "left out", "param floor has no [unit]"),
        ("-- in samples: stored samples\n", "", "in samples is not in the header"),
        (
            "-- in samples: stored samples\n",
            "-- in samples: x\n-- in more: y (a)\n",
            "in more is in the header only",
        ),
        ("-- in samples: stored samples", "-- in samples: stored (series_id)", "value"),
        ("-- out mean: mean value [unit of the series]\n", "", "out mean is not in the header"),
        ("mean value [unit of the series]", "mean value", "out mean has no [unit]"),
        ("-- out mean", "-- out median", "out median is in the header only"),
        ("::DOUBLE", "::FLOAT", "out mean is FLOAT"),
        ("AS mean", "AS meanValue", "out meanValue is not in the header"),
        ("SELECT series_id", "SELECT 1; SELECT series_id", "not exactly one SELECT"),
        ("-- in samples", "-- note\n-- in samples", "not a header line"),
    ],
)
def test_lint_finds_each_fault(tmp_path: Path, old: str, new: str, finding: str) -> None:
    """A good header passes; each single fault put into it is named."""
    file = tmp_path / "stage" / "mean.sql"
    file.parent.mkdir()
    file.write_text(GOOD)
    assert lint(file) == []
    assert old in GOOD
    file.write_text(GOOD.replace(old, new))
    assert any(finding in text for text in lint(file)), lint(file)


def test_result_of_another_query_gives_the_columns(tmp_path: Path) -> None:
    """An input that is the result of a query has that query's columns and types."""
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / "mean.sql").write_text(GOOD)
    second = folder / "top.sql"
    second.write_text(
        "-- The largest mean.\n-- grain: one row\n-- in means: result of mean\n"
        "-- out top: largest mean [unit of the series]\nSELECT max(mean) AS top FROM means\n"
    )
    assert lint(second) == []
    second.write_text(second.read_text().replace("max(mean)", "max(median)"))
    assert any("median" in text for text in lint(second))

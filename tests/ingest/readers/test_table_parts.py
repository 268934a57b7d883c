"""Columns that are a part of another, told over the batches of a table."""

from __future__ import annotations

import math

import polars as pl
import pytest

from hs_analysis.ingest.readers.table import ENOUGH_ROWS, PartColumns

ROWS = 2 * ENOUGH_ROWS
ALL = [100.0 + 50.0 * math.sin(i / 9) for i in range(ROWS)]


def said(part: list[float | None], name: str = "known_rps", rows: int = ROWS) -> list[str]:
    """Return what is said of a column beside ``all_rps``, looked at in two batches."""
    parts = PartColumns(["all_rps", "ttft_ms"], [name])
    table = pl.DataFrame({"all_rps": ALL, "ttft_ms": ALL, name: part})[:rows]
    parts.take(table[: rows // 2])
    parts.take(table[rows // 2 :])
    return parts.sentences()


def test_a_part_is_told_with_its_share() -> None:
    """Texts are read as numbers, and rows without one are left out."""
    part: list[float | None] = [0.4 * value for value in ALL]
    assert said(part) == [
        "known_rps, which is not read, is never above all_rps and 40 % of it in all: values that were made "
        "from it speak of that share only"
    ]
    parts = PartColumns(["all_rps"], ["known_rps"])
    parts.take(
        pl.DataFrame({"all_rps": [str(v) for v in ALL], "known_rps": [str(v) if v else "" for v in part]})
    )
    assert len(parts.sentences()) == 1


@pytest.mark.parametrize(
    ("part", "name", "rows"),
    [
        ([0.4 * v for v in ALL[:-1]] + [ALL[-1] + 1], "known_rps", ROWS),
        ([0.4 * v for v in ALL], "known_tps", ROWS),
        ([0.4 * v for v in ALL], "known", ROWS),
        ([0.4 * v for v in ALL], "known_rps", ENOUGH_ROWS - 2),
        ([0.999 * v for v in ALL], "known_rps", ROWS),
        ([10.0 + (i * 7919) % 13 for i in range(ROWS)], "limit_rps", ROWS),
        ([None] * ROWS, "known_rps", ROWS),
    ],
    ids=["once above", "other unit", "no unit", "few rows", "the same", "unrelated", "empty"],
)
def test_what_is_no_part_is_not_told(part: list[float | None], name: str, rows: int) -> None:
    """One row above the whole is enough, and so is another unit."""
    assert said(part, name, rows) == []

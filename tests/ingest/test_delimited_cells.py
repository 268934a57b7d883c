"""Cells as numbers: plain, missing, with a unit."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.ingest.delimited import numbers, with_unit
from hs_analysis.ingest.rows import FLAGS


def test_an_empty_cell_is_null_and_never_zero() -> None:
    found = numbers(pl.Series(["1", None, "0", "[N/A]", "null", "NaN", "+Inf", "-inf", "1e3", "x", "1 2"]))
    values = [None if math.isnan(v) else v for v in found.values.tolist()]
    assert values == [1.0, None, 0.0, None, None, None, None, None, 1000.0, None, None]
    assert [FLAGS[code] for code in found.flags] == [
        "", "null", "", "null", "null", "nan", "pos_inf", "neg_inf", "", "nan", "nan",
    ]  # fmt: skip
    assert found.bad.tolist() == [False] * 9 + [True, True]


def test_typed_columns_are_numbers_as_they_are() -> None:
    """Those of Parquet tables: integers, truth values, floats with NaN."""
    assert numbers(pl.Series([1, None, 3])).values[[0, 2]].tolist() == [1.0, 3.0]
    assert numbers(pl.Series([True, False])).values.tolist() == [1.0, 0.0]
    assert [FLAGS[c] for c in numbers(pl.Series([1.0, float("nan"), None])).flags] == ["", "nan", "null"]


@pytest.mark.parametrize(
    ("cell", "value", "unit"),
    [
        ("1.5 K", 1500.0, ""), ("97%", 97.0, "percent"), ("97 %", 97.0, "percent"), ("3.2 ms", 3.2, "ms"),
        ("12 µs", 12.0, "us"), ("2 mins", 2.0, "min"), ("1.2 GiB", 1.2, "GiB"), ("412.11 W", 412.11, "W"),
        ("80 req/s", 80.0, "requests/s"), ("12 k tokens/s", 12000.0, "tokens/s"), ("-3", -3.0, ""),
        ("1.3 Mil", 1.3e6, ""), ("1,024 MiB", 1024.0, "MiB"), ("5e3", 5000.0, ""),
    ],
)  # fmt: skip
def test_units_in_cells(cell: str, value: float, unit: str) -> None:
    assert with_unit(cell) == (pytest.approx(value), unit)


@pytest.mark.parametrize("cell", ["", "abc", "5 bananas", "K", "ms", "1 2 3", "--", "3 ms/bananas"])
def test_what_can_not_be_read_is_none_and_no_guess(cell: str) -> None:
    assert with_unit(cell) is None


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_none(cell: str) -> None:
    with_unit(cell)
    numbers(pl.Series([cell], dtype=pl.String))

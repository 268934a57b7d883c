"""Shipped mappings and small tables as the settings a reader is given."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from hs_analysis.schema.settings import MetricRow, Reading, TableRow
from hs_analysis.settings.values import seconds


def tables(text: str) -> dict[str, TableRow]:
    """Return the tables of a settings text."""
    return {name: _row(row) for name, row in tomllib.loads(text)["tables"].items()}


def _row(row: dict[str, Any]) -> TableRow:
    columns = {name: _column(column) for name, column in row.pop("columns", {}).items()}
    return TableRow(columns=columns, **row)


def _column(row: dict[str, Any]) -> MetricRow:
    averaged = row.pop("averaged", None)
    return MetricRow(**row, averaged=None if averaged is None else seconds(averaged, "averaged"))


def shipped(name: str, **reading: Any) -> Reading:
    """Return how files are read with a shipped mapping."""
    text = files("hs_analysis").joinpath("mappings", f"{name}.toml").read_text("utf-8")
    return Reading(tables=tables(text), **reading)

"""Run the queries of tests/reference_sql: the work of functions of the program, written once more in SQL.

The program does not run them; tests hold the functions to what they give.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from hs_analysis.store import Database, Input

REFERENCE = Path(__file__).parent / "reference_sql"


class Reference(Database):
    """A database whose queries are those of tests/reference_sql."""

    def relation(
        self, name: str, params: Mapping[str, Any] | None = None, inputs: Mapping[str, Input] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Return the lazily executed result of a reference query."""
        self._register(inputs or {})
        return self._connection.sql((REFERENCE / f"{name}.sql").read_text("utf-8"), params=dict(params or {}))

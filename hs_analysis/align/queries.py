"""How alignment asks for a shipped query: it is handed a runner and knows no database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

Samples = Any
"""The samples table as the query runner takes it: a frame or a path to Parquet."""


class QueryRunner(Protocol):
    """Runs a shipped query on named inputs."""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
        """Return the result of ``name``."""

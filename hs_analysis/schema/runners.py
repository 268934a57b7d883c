"""What the pipeline hands to stages that ask for queries or samples: a stage knows no store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import polars as pl

SampleTable = Any
"""The samples table as the query runner takes it: a frame or a path to Parquet."""


class QueryRunner(Protocol):
    """Runs a shipped query on named inputs."""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
        """Return the result of ``name``."""


class SeriesReader(Protocol):
    """Reads stored samples series by series."""

    def __call__(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (series_id, times [us UTC], values with NaN where missing) of some series, by number."""

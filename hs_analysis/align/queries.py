"""How alignment asks for what is stored: it is handed a runner and a reader and knows no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import polars as pl

Samples = Any
"""The samples table as the query runner takes it: a frame or a path to Parquet."""


class QueryRunner(Protocol):
    """Runs a shipped query on named inputs."""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
        """Return the result of ``name``."""


class SeriesReader(Protocol):
    """Reads stored samples series by series."""

    def __call__(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (series_id, times [us UTC], values with NaN where missing) of some series, by number."""


@dataclass(frozen=True)
class Stored:
    """The samples of a run, which may be larger than memory.

    Attributes
    ----------
    table
        What the query runner takes for them.
    read
        Reads them series by series.
    scratch
        A binary file open for writing and reading, empty: windows on their way from series to signals.
    """

    table: Samples
    read: SeriesReader
    scratch: BinaryIO

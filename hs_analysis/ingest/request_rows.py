"""Rows of request logs, whatever the log: columns in, a frame of contract REQUESTS out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.ingest.raw import RawRequests
from hs_analysis.schema.frames import REQUESTS, empty

REQUEST_SCHEMA: dict[str, pl.DataType] = {
    name: dtype for name, dtype in empty(REQUESTS).schema.items() if name not in ("capture", "file")
}
"""Columns a reader fills; capture and file are added where the file is known."""


def raw_requests(columns: Mapping[str, Any], height: int) -> RawRequests:
    """Return requests from columns of values; what is not given is null, and NaN is null too.

    Parameters
    ----------
    columns
        Column of REQUESTS → values, shape (height,); ``arrival`` in microseconds UTC.
    height
        Number of rows.
    """
    frame = {name: _series(name, dtype, columns.get(name), height) for name, dtype in REQUEST_SCHEMA.items()}
    return RawRequests(pl.DataFrame(frame))


def _series(name: str, dtype: pl.DataType, values: Any, height: int) -> pl.Series:
    if values is None:
        return pl.Series(name, [None] * height, dtype)
    if dtype == pl.Float64:
        return pl.Series(name, values, pl.Float64, strict=False).fill_nan(None)
    if isinstance(dtype, pl.Datetime):
        return pl.Series(name, values, pl.Int64).cast(dtype)
    return pl.Series(name, values, pl.String)


def fault(values: Mapping[str, float | None]) -> str:
    """Return what a request can't be, empty when nothing: no number of it is below 0."""
    below = next((name for name, value in values.items() if value is not None and value < 0), None)
    return f"{below} is below 0" if below is not None else ""


def since_start(t_us: np.ndarray | Sequence[int], start_us: int) -> np.ndarray:
    """Return times as seconds from the start of the log."""
    return (np.asarray(t_us, np.int64) - start_us) / 1e6

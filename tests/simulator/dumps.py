"""Write series as Prometheus answers a range query, one JSON document per metric or one for all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.scrapes import Series

Floats = NDArray[np.float64]

COMPRESSION = 1
"""gzip level: these files are read once."""


def write_dumps(
    series: list[Series], grid_unix_s: NDArray[np.int64], folder: Path, *, one_file: bool = False
) -> tuple[Path, ...]:
    """Write the series into a folder; the same series give the same bytes.

    Parameters
    ----------
    series
        Values on the grid, NaN where there is no point; a series without any is left out.
    grid_unix_s
        The grid in whole seconds since 1970, shape (points,).
    folder
        It is made if need be.
    one_file
        One document for everything, named query_range.json.gz; else one per metric.

    Returns
    -------
    The files, sorted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_file: dict[str, list[Series]] = {}
    for one in series:
        if np.isfinite(one.values).any():
            name = "query_range" if one_file else one.labels["__name__"].replace(":", "__")
            by_file.setdefault(f"{name}.json.gz", []).append(one)
    stamps = [str(second) for second in grid_unix_s.tolist()]
    paths = []
    for name, rows in sorted(by_file.items()):
        path = folder / name
        with path.open("wb") as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:
            file.write(b'{"status":"success","data":{"resultType":"matrix","result":[')
            for number, one in enumerate(rows):
                file.write(b"," if number else b"")
                file.write(_document(one, stamps).encode())
            file.write(b"]}}")
        paths.append(path)
    return tuple(paths)


def _document(one: Series, stamps: list[str]) -> str:
    there = np.flatnonzero(np.isfinite(one.values))
    points = ",".join(
        f'[{stamps[k]},"{text}"]' for k, text in zip(there.tolist(), _texts(one.values[there]), strict=True)
    )
    return f'{{"metric":{json.dumps(one.labels, sort_keys=True)},"values":[{points}]}}'


def _texts(values: Floats) -> Iterable[str]:
    """Write numbers as Prometheus does: the shortest text that reads back the same."""
    # 2^53: beyond it not every whole number is a float, and DCGM's sentinel needs its own digits.
    whole = np.all(values == np.floor(values)) and float(np.abs(values).max()) < 2.0**53
    if whole:
        return map(str, values.astype(np.int64).tolist())
    return [f"{value:.0f}" if value == int(value) else repr(value) for value in values.tolist()]

"""Samples on their way to disk: batches of a million rows, before series are numbered for good."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from hs_analysis.ingest.raw import FLAGS, RawSeries

STAGED = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("t_us", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("flag", pa.string()),
        pa.field("file_no", pa.int64(), nullable=False),
    ]
)
"""Samples as read, before series are numbered."""

BATCH_ROWS = 1 << 20

_FLAG_TEXTS = pa.array([None, *FLAGS[1:]], pa.string())


class Staging:
    """Collects the samples of one file and hands them on a million rows at a time."""

    def __init__(self, write: Callable[[pa.RecordBatch], None], file_no: int) -> None:
        self._write = write
        self._file_no = file_no
        self._keys: list[int] = []
        self._series: list[RawSeries] = []
        self._rows = 0

    def add(self, key: int, series: RawSeries) -> None:
        """Take the samples of one series."""
        self._keys.append(key)
        self._series.append(series)
        self._rows += series.t_us.size
        if self._rows >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand on what is there."""
        if not self._series:
            return
        keys = np.repeat(np.array(self._keys, np.int64), [s.t_us.size for s in self._series])
        values = np.concatenate([s.values for s in self._series])
        flags = np.concatenate([s.flags for s in self._series])
        arrays = [
            pa.array(keys),
            pa.array(np.concatenate([s.t_us for s in self._series]), pa.int64()),
            pa.array(values, pa.float64(), mask=np.isnan(values)),
            _FLAG_TEXTS.take(pa.array(flags)) if flags.any() else pa.nulls(self._rows, pa.string()),
            pa.array(np.full(self._rows, self._file_no, np.int64)),
        ]
        self._write(pa.RecordBatch.from_arrays(arrays, schema=STAGED))
        self._keys, self._series, self._rows = [], [], 0

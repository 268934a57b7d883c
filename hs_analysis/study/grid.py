"""Windows of all captures on one axis, and the coarser rows a study works on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.aligned import ServiceFrame

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]

VALID_SHARE = 0.7
"""Share of a row's windows that must have a value [ratio]; default of this project."""

SEAM_S = 7200.0
"""Missing rows between two captures [s], so that no lag or running mean of the study reaches across."""


@dataclass(frozen=True)
class Grid:
    """Rows of `factor` windows each, one capture after the other, parted by missing rows.

    Attributes
    ----------
    factor
        Windows of a row.
    step_s
        Width of a row [s].
    position
        Place of each row of the service table on the window axis, shape (table rows,).
    start_s
        Start of each grid row in Unix seconds, NaN between captures, shape (rows,).
    capture
        Number of the capture of each grid row, -1 between captures, shape (rows,).
    """

    factor: int
    step_s: float
    position: Integers
    start_s: Floats
    capture: Integers

    def windows(self, values: Floats) -> Floats:
        """Spread a table column over the window axis, shape (rows, factor); NaN where there is no window."""
        axis = np.full(self.start_s.size * self.factor, np.nan)
        axis[self.position] = values
        return axis.reshape(-1, self.factor)

    def mean(self, values: Floats, *, valid_share: float = VALID_SHARE) -> Floats:
        """Return the mean of each row's windows, shape (rows,); NaN where too few of them have a value."""
        windows = self.windows(values)
        good = np.isfinite(windows)
        count = good.sum(axis=1)
        total = np.where(good, windows, 0.0).sum(axis=1)
        enough = (count > 0) & (count >= valid_share * self.factor - 1e-9)
        rows: Floats = np.where(enough, total / np.maximum(count, 1), np.nan)
        return rows


def lay_grid(frame: ServiceFrame, factor: int) -> Grid:
    """Lay rows of `factor` windows over the table, each capture from its own first window on."""
    seconds = frame.seconds()
    names = frame.table["capture"].to_numpy()
    seam = math.ceil(SEAM_S / (factor * frame.window_s))
    position = np.zeros(seconds.size, dtype=np.int64)
    starts: list[Floats] = []
    captures: list[Integers] = []
    rows = 0
    for number, name in enumerate(frame.captures()):
        mine = names == name
        first = seconds[mine].min()
        place = np.rint((seconds[mine] - first) / frame.window_s).astype(np.int64)
        length = int(place.max()) // factor + 1
        position[mine] = rows * factor + place
        starts += [first + np.arange(length) * factor * frame.window_s, np.full(seam, np.nan)]
        captures += [np.full(length, number, dtype=np.int64), np.full(seam, -1, dtype=np.int64)]
        rows += length + seam
    if not starts:
        return Grid(factor, factor * frame.window_s, position, np.zeros(0), np.zeros(0, dtype=np.int64))
    return Grid(factor, factor * frame.window_s, position, np.concatenate(starts), np.concatenate(captures))

"""Relations of the pool that its instances do not have, and the reverse: Simpson's paradox over instances.

The model is ln(signal) = slope · ln(load of the instance) + an effect of the instance. Its slope is fitted
with fixed instance effects, by taking each instance's means away: unlike that of a mixed model with random
effects it does not move when the effects go with the load, which is the very trap looked for, and it has a
closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hs_analysis.schema.aligned import SERVED
from hs_analysis.schema.results import Reason
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.grid import Grid
from hs_analysis.study.loads import Pair
from hs_analysis.study.measured import FLAT, Cap, StudyRows
from hs_analysis.study.noise import ELASTICITY_FLOOR

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FACTOR = 2.0
"""Factor between the slope within instances and that of the pool from which they disagree: the width of the
band of proportional elasticities, 1.4 ÷ 0.7."""

SURE = 4.0
"""Standard errors by which the two slopes must differ as well; default of this project, for dozens of signals
are looked at and hours of one day are not independent."""

RANGE_MIN = 1.25
"""Smallest q95 ÷ q05 of the load within instances, and of the pool's, for a slope; as for a pool whose load
per instance an autoscaler held still."""

ROWS_MIN = 24
"""Fewest rows of an instance that counts: two hours of five minutes; default of this project."""

BLOCK_S = 3600.0
"""Length of the blocks that are independent for the standard error [s]; default of this project."""

BLOCKS_MIN = 6
"""Fewest such blocks; default of this project."""


@dataclass(frozen=True)
class Slopes:
    """Elasticity on the load per instance, within instances and of the pool's means.

    ``error`` is the standard error of their difference, from blocks of an hour that both share.
    """

    within: float
    pool: float
    error: float


def find_simpson(
    pair: Pair, rows: StudyRows, captures: tuple[str, ...], instances: pl.DataFrame
) -> Cap | None:
    """Find a relation to the load that holds over the pool but not within its instances, or the reverse.

    Parameters
    ----------
    pair
        The signal beside its load.
    rows
        The rows it was judged on: others don't speak.
    captures
        Capture names in the order of the grid.
    instances
        Rows of the contract INSTANCES of the service.

    Returns
    -------
    None where the slopes agree, or can't be told: a queue (mostly zero), the served rate itself (it is the
    load of the instance), a pool whose instances don't export both, too few rows or too little range.
    """
    role = pair.info.role
    if pair.info.family == "queue" or pair.info.signal == SERVED.get(role, pair.info.signal):
        return None
    own = instances.filter(
        (pl.col("role") == role) & pl.col("signal").is_in([pair.info.signal, SERVED[role]])
    )
    own = own.filter(pl.Series(_spoken(own, rows, captures)))
    if own["signal"].n_unique() < 2:
        return None
    wide = own.pivot("signal", index=["capture", "instance", "t"], values="value").drop_nulls()
    number = (pl.col("capture") + "\n" + pl.col("instance")).rank("dense").cast(pl.Int64) - 1
    wide = wide.with_columns(number.alias("number"), (pl.col("t").dt.epoch("us") / 1e6).alias("second"))
    found = slopes(*(wide[name].to_numpy() for name in (SERVED[role], pair.info.signal, "number", "second")))
    return None if found is None else _cap(found)


def _spoken(own: pl.DataFrame, rows: StudyRows, captures: tuple[str, ...]) -> Flags:
    """Return which rows start in a grid row that was used, shape (rows,)."""
    grid: Grid = rows.grid
    names, seconds = own["capture"].to_numpy(), own["t"].dt.epoch("us").to_numpy() / 1e6
    spoken = np.zeros(own.height, dtype=bool)
    for number, name in enumerate(captures):
        place = np.flatnonzero(grid.capture == number)
        if not place.size:
            continue
        slot = np.floor((seconds - grid.start_s[place[0]]) / grid.step_s).astype(np.int64)
        inside = (names == name) & (slot >= 0) & (slot < place.size)
        spoken[inside] = rows.used[place[slot[inside]]]
    return spoken


def slopes(load: Floats, value: Floats, instance: NDArray[np.int64], second: Floats) -> Slopes | None:
    """Return the slope of ln(value) on ln(load) within instances and that of the pool's means.

    Parameters
    ----------
    load, value
        Load and signal of an instance in a row, shape (n,); rows that are not positive are left out.
    instance
        Number of the instance, shape (n,).
    second
        Start of the row [s], shape (n,).

    Returns
    -------
    None with fewer than two instances of 24 rows, six hours, or a load that moves by less than 1.25 (q95 ÷
    q05) within instances or over the pool.
    """
    log_load, log_value = positive_log(load), positive_log(value)
    good = np.isfinite(log_load) & np.isfinite(log_value)
    counts = np.bincount(instance[good], minlength=int(instance.max(initial=0)) + 1)
    good &= counts[instance] >= ROWS_MIN
    if np.unique(instance[good]).size < 2:
        return None
    times, row = np.unique(second[good], return_inverse=True)
    x, y = (column[good] - _means(column[good], instance[good]) for column in (log_load, log_value))
    size = np.bincount(row)
    pool_x, pool_y = (np.log(np.bincount(row, weights=column[good]) / size) for column in (load, value))
    pool_x, pool_y = pool_x - pool_x.mean(), pool_y - pool_y.mean()
    block = np.unique(times // BLOCK_S, return_inverse=True)[1]
    blocks = int(block.max()) + 1
    if blocks < BLOCKS_MIN or min(_reach(x), _reach(pool_x)) < math.log(RANGE_MIN):
        return None
    slope_within, pull_within = _slope(x, y, block[row], blocks)
    slope_pool, pull_pool = _slope(pool_x, pool_y, block, blocks)
    error = math.sqrt(float(((pull_within - pull_pool) ** 2).sum()) * blocks / (blocks - 1))
    return Slopes(slope_within, slope_pool, error)


def _means(values: Floats, group: NDArray[np.int64]) -> Floats:
    """Return the mean of each row's group, shape (n,)."""
    size = np.maximum(np.bincount(group), 1)
    means: Floats = (np.bincount(group, weights=values) / size)[group]
    return means


def _reach(values: Floats) -> float:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def _slope(x: Floats, y: Floats, block: NDArray[np.int64], blocks: int) -> tuple[float, Floats]:
    """Return the least-squares slope of centred columns, and how far each block pulls it, shape (blocks,)."""
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    return slope, np.bincount(block, weights=x * (y - slope * x), minlength=blocks) / spread


def _cap(found: Slopes) -> Cap | None:
    small, large = sorted((abs(found.within), abs(found.pool)))
    apart = found.within * found.pool <= 0 or large > FACTOR * small
    if large < ELASTICITY_FLOOR or not apart or abs(found.within - found.pool) <= SURE * found.error:
        return None
    text = (
        f"on the load per instance its elasticity is {found.within:.2f} within instances but "
        f"{found.pool:.2f} over the pool: it comes from which instances run or how they "
        "share the work"
    )
    reason = Reason("simpson", text, found.within, found.pool)
    return Cap("unusable" if found.within < FLAT and found.pool >= FLAT else "guard", reason)

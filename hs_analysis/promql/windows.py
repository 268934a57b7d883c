"""The newest sample and functions over time at every moment of a grid, as Prometheus computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hs_analysis.promql.forms import COUNTER_FUNCTIONS
from hs_analysis.promql.history import Grid, Rows

Computed = tuple[np.ndarray, np.ndarray]
"""Values, NaN where there is none, and where there is one; shape (series, steps) each."""

LOOKBACK_S = 300.0
"""How old the newest sample may be [s]: Prometheus' ``--query.lookback-delta``."""

EVALUATION_INTERVAL_S = 60.0
"""Step of a subquery that names none [s]: Prometheus' ``global.evaluation_interval``."""

# Samples closer to an end of the range than this many mean intervals: the series goes on to that end.
_CLOSE_INTERVALS = 1.1
_US = 1e-6
"""Seconds in a microsecond [s/us]."""


@dataclass(frozen=True)
class Server:
    """What differs between versions and settings of Prometheus.

    Attributes
    ----------
    open_left
        Whether a sample at the very start of a range or lookback is outside; since 3.0.
    zero_first
        Whether a rate is held above zero before it is asked if the series begins within the range: 2.42 does,
        3.x asks first.
    lookback_s
        How old the newest sample may be [s].
    evaluation_interval_s
        Step of a subquery that names none [s].
    """

    open_left: bool = True
    zero_first: bool = False
    lookback_s: float = LOOKBACK_S
    evaluation_interval_s: float = EVALUATION_INTERVAL_S


PROMETHEUS_3 = Server()
PROMETHEUS_2 = Server(open_left=False, zero_first=True)


def newest(rows: Rows, grid: Grid, server: Server) -> Computed:
    """Return the newest sample of every series within the lookback; none behind one that ends the series."""
    after = rows.starts[:-1, None] + _counted(rows, rows.t_us, grid)
    if not rows.t_us.size:
        return _nothing(after)
    last = np.maximum(after - 1, 0)
    oldest = grid.times_us - round(server.lookback_s / _US) + (1 if server.open_left else 0)
    present = (after > rows.starts[:-1, None]) & (rows.t_us[last] >= oldest) & ~rows.stale[last]
    return np.where(present, rows.values[last], np.nan), present


def over_time(function: str, rows: Rows, grid: Grid, range_s: float, server: Server) -> Computed:
    """Return a function over the last ``range_s`` of every series.

    Parameters
    ----------
    function
        One of `COUNTER_FUNCTIONS` or `GAUGE_FUNCTIONS`.
    rows
        Samples that reach back ``range_s`` before the grid at least.
    range_s
        Width of the range [s].
    """
    rows = rows.without_ends()
    range_us = round(range_s / _US)
    base = rows.starts[:-1, None]
    after = base + _counted(rows, rows.t_us, grid)
    first = base + _counted(rows, rows.t_us + range_us + (0 if server.open_left else 1), grid)
    least = 2 if function in COUNTER_FUNCTIONS else 1
    present = after - first >= least
    if not present.any():
        return _nothing(present)
    # Where there is nothing to compute any sample will do: the result is put aside.
    first, last = np.where(present, first, 0), np.where(present, after - 1, least - 1)
    if function in COUNTER_FUNCTIONS:
        found = _gained(function, rows, first, last, grid, range_us, server)
    else:
        found = _GAUGES[function](rows.values, first, last)
    if function == "irate":
        present &= rows.t_us[last] > rows.t_us[last - 1]
    return np.where(present, found, np.nan), present


def _nothing(like: np.ndarray) -> Computed:
    return np.full(like.shape, np.nan), np.zeros(like.shape, np.bool_)


def _counted(rows: Rows, moments_us: np.ndarray, grid: Grid) -> np.ndarray:
    """Return how many samples of each series are due by each step, shape (series, steps)."""
    series = rows.starts.size - 1
    due = np.clip(-((grid.start_us - moments_us) // grid.step_us), 0, grid.steps)
    places = rows.row_of * (grid.steps + 1) + due
    counts = np.bincount(places, minlength=series * (grid.steps + 1)).reshape(series, grid.steps + 1)
    return np.asarray(counts[:, : grid.steps].cumsum(axis=1))


def _gained(
    function: str, rows: Rows, first: np.ndarray, last: np.ndarray, grid: Grid, range_us: int, server: Server
) -> np.ndarray:
    """Return rate [1/s], increase or irate [1/s] of counters."""
    values, t_us = rows.values, rows.t_us
    if function == "irate":
        before = last - 1
        gained = np.where(values[last] < values[before], values[last], values[last] - values[before])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(gained / ((t_us[last] - t_us[before]) * _US))
    gained = values[last] - values[first] + _lost(rows, first, last)
    sampled = (t_us[last] - t_us[first]) * _US
    mean = sampled / (last - first)
    times = grid.times_us
    to_start = (t_us[first] - (times - range_us)) * _US
    to_end = (times - t_us[last]) * _US
    with np.errstate(divide="ignore", invalid="ignore"):
        to_zero = sampled * (values[first] / gained)
    # A counter can't be negative: where its slope meets zero within the range, it began there.
    held = (gained > 0) & (values[first] >= 0)
    if server.zero_first:
        to_start = np.where(held & (to_zero < to_start), to_zero, to_start)
        to_start = np.where(to_start < mean * _CLOSE_INTERVALS, to_start, mean / 2)
    else:
        to_start = np.where(to_start < mean * _CLOSE_INTERVALS, to_start, mean / 2)
        to_start = np.where(held & (to_zero < to_start), to_zero, to_start)
    to_end = np.where(to_end < mean * _CLOSE_INTERVALS, to_end, mean / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = gained * ((sampled + to_start + to_end) / sampled)
    return np.asarray(whole if function == "increase" else whole / (range_us * _US))


def _lost(rows: Rows, first: np.ndarray, last: np.ndarray) -> np.ndarray | float:
    """Return what counters fell back by within each window: a reset starts again at zero."""
    values = rows.values
    fell = np.zeros(values.size, np.bool_)
    np.less(values[1:], values[:-1], out=fell[1:])
    if not fell.any():
        return 0.0
    fell[rows.starts[:-1][np.diff(rows.starts) > 0]] = False  # from one series to the next nothing falls
    falls = np.cumsum(fell)
    hit = falls[last] > falls[first]
    if not hit.any():
        return 0.0
    lost = np.zeros(values.size)
    lost[fell] = values[:-1][fell[1:]]
    found = np.zeros(first.shape)
    # A fall at a window's first sample lies before it.
    found[hit] = _combined(lost, first[hit] + 1, last[hit], np.add, 0.0)
    return found


def _combined(
    values: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray],
    nothing: float,
) -> np.ndarray:
    """Combine the values of each window, from first to last.

    Windows are put together of pieces that double in width: nothing outside a window comes into its result,
    as it would with differences of running sums, where one NaN spoils all that follows.
    """
    count = last - first + 1
    found, place = np.full(first.shape, nothing), first.copy()
    width, level = 1, values
    widest = int(count.max(initial=0))
    while width <= widest:
        taken = (count & width) != 0
        found[taken] = combine(found[taken], level[place[taken]])
        place += np.where(taken, width, 0)
        level = combine(level[:-width], level[width:]) if level.size > width else level
        width *= 2
    return found


def _sum(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return _combined(values, first, last, np.add, 0.0)


def _mean(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.asarray(_sum(values, first, last) / (last - first + 1))


def _most(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return _combined(values, first, last, np.fmax, np.nan)


def _least(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return _combined(values, first, last, np.fmin, np.nan)


def _count(_: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.asarray(last - first + 1.0)


def _last(values: np.ndarray, _: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.asarray(values[last])


_GAUGES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "sum_over_time": _sum,
    "avg_over_time": _mean,
    "max_over_time": _most,
    "min_over_time": _least,
    "count_over_time": _count,
    "last_over_time": _last,
}
"""NaN is passed over by the highest and the lowest, unless there is nothing else."""

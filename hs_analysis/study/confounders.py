"""Confounders of a production history, found and named: what makes a signal look other than it is.

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

from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import (
    BLOCK_S,
    DAY_S,
    HOUR_S,
    LOAD_RANGE_QUANTILES,
    MAJORITY,
    MINUTE_ROWS_MIN,
)
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Reason
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.constants import (
    BLOCKS_MIN,
    CLOSED_LOOP_RANGE_MIN,
    DRIFT_MAX,
    ELASTICITY_BAND,
    ELASTICITY_FLOOR,
    FINISH_LEAD,
    FINISH_MIN,
    FLAT,
    INSTANCE_ROWS_MIN,
    PART_ROWS_MIN,
    SAME_VALUE,
    SLOPES_APART_SE,
    TREND_S,
)
from hs_analysis.study.effects import block_drift, log_residuals, rank_correlation, relative
from hs_analysis.study.reference_load import Pair, WindowGrid
from hs_analysis.study.signal_statistics import Cap, SignalStatistics, StudyRows

FACTORS = {
    "prefill_tps": ("cache_moved", "the share of prompts found in the cache"),
    "request_rate": ("mix_moved", "tokens per request"),
}
"""Signals that are the load but for one factor: reason code, and the factor."""


@dataclass(frozen=True)
class Confounders:
    """What was found: gates that close, verdicts that are bounded, and what a reader should know."""

    gates: tuple[Reason, ...] = ()
    caps: tuple[Cap, ...] = ()
    notes: tuple[Reason, ...] = ()


def find_confounders(
    frame: ServiceFrame, pair: Pair, rows: StudyRows, stats: SignalStatistics
) -> Confounders:
    """Look for every confounder of one signal.

    Parameters
    ----------
    frame
        The service.
    pair
        The signal and its load, as judged.
    rows
        The rows it was judged on.
    stats
        What was measured on them.
    """
    gates = (_ended(frame, pair), _one_bucket(pair, rows))
    caps = (_factor_moved(pair, rows), _weekend_differs(rows, stats))
    notes = (
        _raw_prefill(pair), _censored(frame, pair), _per_instance(pair), _repeats(frame, pair),
        _moves_on_finish(frame, pair), _mixed_types(frame, pair),
    )  # fmt: skip
    return Confounders(
        tuple(gate for gate in gates if gate),
        tuple(cap for cap in caps if cap),
        tuple(note for note in notes if note),
    )


def _ended(frame: ServiceFrame, pair: Pair) -> Reason | None:
    """Find a signal that nobody exports any more, often for its name changed with a release."""
    present = np.isfinite(frame.values(pair.info.signal, pair.info.role))
    loaded = np.isfinite(frame.values("offered_tps", pair.load_role))
    seconds = frame.seconds()
    both = present.any() and loaded.any()
    silent = float(seconds[loaded].max() - seconds[present].max()) if both else 0.0
    if silent < TREND_S:
        return None
    text = (
        f"not tested: its last value is {silent / HOUR_S:.1f} h older than the end of the load: it has ended"
    )
    return Reason("ended", text, silent / HOUR_S, TREND_S / HOUR_S)


def _one_bucket(pair: Pair, rows: StudyRows) -> Reason | None:
    """Find a latency that is a quantile inside one bucket of its histogram: it can't move there."""
    values = rows.value[rows.used & np.isfinite(rows.value) & (rows.value > 0)]
    if pair.info.family != "latency" or values.size == 0:
        return None
    ordered = np.sort(values)
    ends = np.searchsorted(ordered, ordered * (1.0 + SAME_VALUE), side="right")
    share = float((ends - np.arange(values.size)).max()) / values.size
    if share <= MAJORITY:
        return None
    text = (
        f"not tested: {percent(share, whole=True)} of its rows are one and the same value, as a quantile "
        "inside one bucket of a histogram is: record _sum and _count, or finer buckets"
    )
    return Reason("one_bucket", text, share, MAJORITY)


def _factor_moved(pair: Pair, rows: StudyRows) -> Cap | None:
    """Find a rate that is the load but for one factor, and the factor moved.

    A factor that goes with the hours bends the fit on the load instead of leaving a rest, so the ratio itself
    is looked at.
    """
    if pair.info.signal not in FACTORS:
        return None
    code, factor = FACTORS[pair.info.signal]
    ratio = positive_log(np.where(rows.used, rows.value, np.nan)) - positive_log(rows.load)
    drift = block_drift(ratio, rows.grid.start_s)
    if drift is None or drift <= DRIFT_MAX:
        return None
    text = f"{factor} moved: over three-hour blocks its ratio to the work has a spread of {drift:.2f}"
    return Cap("unusable", Reason(code, text, drift, DRIFT_MAX))


def _weekend_differs(rows: StudyRows, stats: SignalStatistics) -> Cap | None:
    """Find a relation to the load that is another one on Saturdays and Sundays (UTC)."""
    if stats.family in ("queue", "latency"):
        return None
    left = log_residuals(np.where(rows.used, rows.load, np.nan), np.where(rows.used, rows.value, np.nan))
    known = np.isfinite(left)
    weekend = (np.floor(rows.grid.start_s / DAY_S) + 3.0) % 7.0 >= 5.0  # 1 January 1970 was a Thursday
    if min((known & weekend).sum(), (known & ~weekend).sum()) < PART_ROWS_MIN:
        return None
    shift = relative(
        abs(float(np.median(left[known & weekend]) - np.median(left[known & ~weekend]))), stats.elasticity
    )
    if shift <= DRIFT_MAX:
        return None
    text = f"at equal load it reads otherwise on weekends (UTC): shifted by {shift:.2f} of the elasticity"
    return Cap("unusable", Reason("weekend_differs", text, shift, DRIFT_MAX))


def _raw_prefill(pair: Pair) -> Reason | None:
    if pair.info.signal != "prefill_tps":
        return None
    text = "it counts cached tokens too: judged on the work that missed the cache, it never replaces it"
    return Reason("raw_prefill", text)


def _censored(frame: ServiceFrame, pair: Pair) -> Reason | None:
    """Say that a served rate stops rising where its pool is short."""
    flags = frame.values("saturated", pair.load_role)[pair.recorded]
    if pair.info.family != "throughput" or not flags.size or not np.nanmax(flags, initial=0.0) > 0.5:
        return None
    share = float(np.nanmean(flags > 0.5))
    text = (
        f"a served rate stops rising when the pool is short ({percent(share)} of the windows, left out "
        "here): pair it with a guard"
    )
    return Reason("served_saturates", text, share)


def _per_instance(pair: Pair) -> Reason | None:
    if not pair.per_instance:
        return None
    return Reason("per_instance", "the pool's size moved: judged on work per instance that reported")


def _repeats(frame: ServiceFrame, pair: Pair) -> Reason | None:
    if pair.info.interval_s <= frame.window_s:
        return None
    text = (
        f"its value changes every {pair.info.interval_s:.0f} s only, repeats in between are no news: judged "
        "on rows that hold two of them"
    )
    return Reason("repeats", text, pair.info.interval_s, frame.window_s)


def _moves_on_finish(frame: ServiceFrame, pair: Pair) -> Reason | None:
    """Find a token counter that moves when a request finishes, by the whole answer at once."""
    if pair.info.signal != "decode_tps":
        return None
    length = frame.values("output_length", "service")
    finished = _moves_together(pair.value, length * frame.values("completion_rate", "service"))
    started = _moves_together(pair.value, length * frame.values("first_token_rate", "service"))
    if finished is None or finished < FINISH_MIN or finished - (started or 0.0) < FINISH_LEAD:
        return None
    text = (
        f"its counter moves when requests finish (minute-to-minute moves as finished work, {finished:.2f}): "
        "it is late by a whole answer"
    )
    return Reason("moves_on_finish", text, finished, FINISH_MIN)


def _moves_together(x: Floats, y: Floats) -> float | None:
    """Return Spearman's correlation of the second differences of the logs; None below 60 of them."""
    moves = [np.diff(positive_log(s), 2) for s in (x, y)]
    known = np.isfinite(moves[0]) & np.isfinite(moves[1])
    return rank_correlation(moves[0][known], moves[1][known]) if known.sum() >= MINUTE_ROWS_MIN else None


def _mixed_types(frame: ServiceFrame, pair: Pair) -> Reason | None:
    types = frame.gpu_types.get(pair.load_role, ())
    if len(types) < 2:
        return None
    text = f"the pool mixes {', '.join(types)}: one relation over all of them, which moves with their share"
    return Reason("mixed_gpu_types", text, float(len(types)), 1.0)


FACTOR = ELASTICITY_BAND[1] / ELASTICITY_BAND[0]
"""Factor between the slope within instances and that of the pool from which they disagree: the width of the
band of proportional elasticities, 1.4 ÷ 0.7."""


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
        The signal and its load.
    rows
        The rows it was judged on: others don't speak.
    captures
        Capture names in the order of the grid.
    instances
        Rows of the contract INSTANCES of the service.

    Returns
    -------
    None where the slopes agree or are unknown: a queue (mostly zero), the served rate itself (it is the
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


def _spoken(own: pl.DataFrame, rows: StudyRows, captures: tuple[str, ...]) -> Mask:
    """Return which rows start in a grid row that was used, shape (rows,)."""
    grid: WindowGrid = rows.grid
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


def slopes(load: Floats, value: Floats, instance: Integers, second: Floats) -> Slopes | None:
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
    good &= counts[instance] >= INSTANCE_ROWS_MIN
    if np.unique(instance[good]).size < 2:
        return None
    times, row = np.unique(second[good], return_inverse=True)
    x, y = (column[good] - _means(column[good], instance[good]) for column in (log_load, log_value))
    size = np.bincount(row)
    pool_x, pool_y = (np.log(np.bincount(row, weights=column[good]) / size) for column in (load, value))
    pool_x, pool_y = pool_x - pool_x.mean(), pool_y - pool_y.mean()
    block = np.unique(times // BLOCK_S, return_inverse=True)[1]
    blocks = int(block.max()) + 1
    if blocks < BLOCKS_MIN or min(_reach(x), _reach(pool_x)) < math.log(CLOSED_LOOP_RANGE_MIN):
        return None
    slope_within, pull_within = _slope(x, y, block[row], blocks)
    slope_pool, pull_pool = _slope(pool_x, pool_y, block, blocks)
    error = math.sqrt(float(((pull_within - pull_pool) ** 2).sum()) * blocks / (blocks - 1))
    return Slopes(slope_within, slope_pool, error)


def _means(values: Floats, group: Integers) -> Floats:
    """Return the mean of each row's group, shape (n,)."""
    size = np.maximum(np.bincount(group), 1)
    means: Floats = (np.bincount(group, weights=values) / size)[group]
    return means


def _reach(values: Floats) -> float:
    low, high = np.quantile(values, LOAD_RANGE_QUANTILES)
    return float(high - low)


def _slope(x: Floats, y: Floats, block: Integers, blocks: int) -> tuple[float, Floats]:
    """Return the least-squares slope of centred columns, and how far each block pulls it, shape (blocks,)."""
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    return slope, np.bincount(block, weights=x * (y - slope * x), minlength=blocks) / spread


def _cap(found: Slopes) -> Cap | None:
    small, large = sorted((abs(found.within), abs(found.pool)))
    apart = found.within * found.pool <= 0 or large > FACTOR * small
    if (
        large < ELASTICITY_FLOOR
        or not apart
        or abs(found.within - found.pool) <= SLOPES_APART_SE * found.error
    ):
        return None
    text = (
        f"on the load per instance its elasticity is {found.within:.2f} within instances but "
        f"{found.pool:.2f} over the pool: it comes from which instances run or how they "
        "share the work"
    )
    reason = Reason("simpson", text, found.within, found.pool)
    return Cap("unusable" if found.within < FLAT and found.pool >= FLAT else "guard", reason)

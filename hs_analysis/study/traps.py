"""Traps of a production history, found and named: what makes a signal look better, or other, than it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Reason
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.association import rank_correlation
from hs_analysis.study.loads import Pair
from hs_analysis.study.measured import Cap, Measured, StudyRows
from hs_analysis.study.noise import block_drift, log_residuals, relative

Floats = NDArray[np.float64]

RATIO_DRIFT_MAX = 0.20
"""Largest drift of signal ÷ load over 3-h blocks for a signal that is the load but for one factor: as for any
other relation."""

WEEKEND_SHIFT_MAX = 0.20
"""Largest shift between weekdays and weekend relative to the elasticity: as for drift; default of this
project."""

DAY_ROWS_MIN = 36
"""Fewest rows of either kind of day: three hours of five minutes; default of this project."""

DAY_S = 86400.0

ENDED_S = 7200.0
"""A signal without a value in so long a last stretch has ended [s]; default of this project."""

SAME_VALUE = 1e-3
"""Relative distance within which two values of a latency are one."""

SAME_SHARE_MAX = 0.5
"""Largest share of rows with one and the same latency; default of this project."""

FINISH_MIN, FINISH_LEAD = 0.95, 0.05
"""Rank correlation of minute-to-minute moves with finished work from which a counter moves on finish, and by
how much it must beat that with started work; counters that move with each token reached 0.93 on simulated
services whose requests last longer than a window."""

FACTORS = {
    "prefill_tps": ("cache_moved", "the share of prompts found in the cache"),
    "request_rate": ("mix_moved", "tokens per request"),
}
"""Signals that are the load but for one factor: reason code, and the factor."""


@dataclass(frozen=True)
class Traps:
    """What was found: gates that close, verdicts that are bounded, and what a reader should know."""

    gates: tuple[Reason, ...] = ()
    caps: tuple[Cap, ...] = ()
    notes: tuple[Reason, ...] = ()


def find_traps(frame: ServiceFrame, pair: Pair, rows: StudyRows, measured: Measured) -> Traps:
    """Look for every trap that one signal can be in.

    Parameters
    ----------
    frame
        The service.
    pair
        The signal beside its load, as judged.
    rows
        The rows it was judged on.
    measured
        What was measured on them.
    """
    gates = (_ended(frame, pair), _one_bucket(pair, rows))
    caps = (_factor_moved(pair, rows), _weekend_differs(rows, measured))
    notes = (
        _raw_prefill(pair), _censored(frame, pair), _per_instance(pair), _repeats(frame, pair),
        _moves_on_finish(frame, pair), _mixed_types(frame, pair),
    )  # fmt: skip
    return Traps(
        tuple(gate for gate in gates if gate),
        tuple(cap for cap in caps if cap),
        tuple(note for note in notes if note),
    )


def _ended(frame: ServiceFrame, pair: Pair) -> Reason | None:
    """Find a signal that nobody exports any more, often for its name changed with a release."""
    present = np.flatnonzero(np.isfinite(frame.values(pair.info.signal, pair.info.role)))
    loaded = np.flatnonzero(np.isfinite(frame.values("offered_tps", pair.load_role)))
    seconds = frame.seconds()
    silent = float(seconds[loaded[-1]] - seconds[present[-1]]) if present.size and loaded.size else 0.0
    if silent < ENDED_S:
        return None
    text = f"not tested: its last value is {silent / 3600:.1f} h older than the end of the load: it has ended"
    return Reason("ended", text, silent / 3600, ENDED_S / 3600)


def _one_bucket(pair: Pair, rows: StudyRows) -> Reason | None:
    """Find a latency that is a quantile inside one bucket of its histogram: it can't move there."""
    values = rows.value[rows.used & np.isfinite(rows.value) & (rows.value > 0)]
    if pair.info.family != "latency" or values.size == 0:
        return None
    ordered = np.sort(values)
    ends = np.searchsorted(ordered, ordered * (1.0 + SAME_VALUE), side="right")
    share = float((ends - np.arange(values.size)).max()) / values.size
    if share <= SAME_SHARE_MAX:
        return None
    text = (
        f"not tested: {share:.0%} of its rows are one and the same value, as a quantile inside one bucket of "
        "a histogram is: record _sum and _count, or finer buckets"
    )
    return Reason("one_bucket", text, share, SAME_SHARE_MAX)


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
    if drift is None or drift <= RATIO_DRIFT_MAX:
        return None
    text = f"{factor} moved: over three-hour blocks its ratio to the work has a spread of {drift:.2f}"
    return Cap("unusable", Reason(code, text, drift, RATIO_DRIFT_MAX))


def _weekend_differs(rows: StudyRows, measured: Measured) -> Cap | None:
    """Find a relation to the load that is another one on Saturdays and Sundays (UTC)."""
    if measured.family in ("queue", "latency"):
        return None
    left = log_residuals(np.where(rows.used, rows.load, np.nan), np.where(rows.used, rows.value, np.nan))
    known = np.isfinite(left)
    weekend = (np.floor(rows.grid.start_s / DAY_S) + 3.0) % 7.0 >= 5.0  # 1 January 1970 was a Thursday
    if min((known & weekend).sum(), (known & ~weekend).sum()) < DAY_ROWS_MIN:
        return None
    shift = relative(
        abs(float(np.median(left[known & weekend]) - np.median(left[known & ~weekend]))), measured.elasticity
    )
    if shift <= WEEKEND_SHIFT_MAX:
        return None
    text = f"at equal load it reads otherwise on weekends (UTC): shifted by {shift:.2f} of the elasticity"
    return Cap("unusable", Reason("weekend_differs", text, shift, WEEKEND_SHIFT_MAX))


def _raw_prefill(pair: Pair) -> Reason | None:
    if pair.info.signal != "prefill_tps":
        return None
    text = "it counts cached tokens too: judged on the work that missed the cache, it never stands for it"
    return Reason("raw_prefill", text)


def _censored(frame: ServiceFrame, pair: Pair) -> Reason | None:
    """Say that a served rate stops rising where its pool is short."""
    flags = frame.values("saturated", pair.load_role)[pair.recorded]
    if pair.info.family != "throughput" or not flags.size or not np.nanmax(flags, initial=0.0) > 0.5:
        return None
    share = float(np.nanmean(flags > 0.5))
    text = (
        f"a served rate stops rising when the pool is short ({share:.1%} of the windows, left out here): "
        "pair it with a guard"
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
    return float(rank_correlation(moves[0][known], moves[1][known])) if known.sum() >= 60 else None


def _mixed_types(frame: ServiceFrame, pair: Pair) -> Reason | None:
    types = frame.gpu_types.get(pair.load_role, ())
    if len(types) < 2:
        return None
    text = f"the pool mixes {', '.join(types)}: one relation over all of them, which moves with their share"
    return Reason("mixed_gpu_types", text, float(len(types)), 1.0)

"""Judging a signal on a production history: hours of load that nobody set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import HOUR_S, HOURS_MIN, RANGE_MIN, ROWS_MIN, SHORTEST_S, SUSTAINED_S
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.load_range import load_range
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.confounders import find_confounders
from hs_analysis.study.constants import (
    CLOSED_LOOP_RANGE_MIN,
    DRIFT_MAX,
    LATE_S,
    LINK_MIN,
    LINK_SWING,
    ROW_INTERVALS,
)
from hs_analysis.study.effects import (
    block_drift,
    highpass_rank_correlation,
    load_fit,
    log_residuals,
    operating_range,
    relative,
)
from hs_analysis.study.innovations import Lag, Link, Shape, expected_strength, find_lag, find_link
from hs_analysis.study.pool_size import at_usual_size
from hs_analysis.study.reference_load import Pair, WindowGrid, divide_by_instances, lay_grid, pools_moved
from hs_analysis.study.signal_statistics import (
    SignalStatistics,
    StudyRows,
    block_resample,
    interval_note,
    measure_effects,
    slope_on_load,
)
from hs_analysis.study.verdict import judge


def study_production(
    frame: ServiceFrame, pair: Pair, settings: Settings, rng: np.random.Generator
) -> tuple[SignalStatistics, StudyRows]:
    """Measure one signal of a production history.

    Parameters
    ----------
    frame
        The service.
    pair
        The signal and its load.
    settings
        Seed and number of bootstrap draws.
    rng
        Source of resamples.
    """
    grid = lay_grid(frame, _windows(SUSTAINED_S, ROW_INTERVALS * pair.info.interval_s, frame.window_s))
    pair, range_min = _normalise(frame, pair, grid)
    judged, size = at_usual_size(frame, pair, grid)
    load, value = grid.mean(judged.load), grid.mean(judged.value)
    both = np.isfinite(load) & np.isfinite(value)
    load, value = np.where(both, load, np.nan), np.where(both, value, np.nan)
    used = operating_range(load)
    rows = StudyRows(grid, load, value, load_fit(load, value).predict(load), used)
    hours = float(pair.recorded.sum()) * frame.window_s / HOUR_S
    gates = _gates(load, used, hours, range_min)
    if gates:
        return SignalStatistics(pair.info.family, rows=int(used.sum()), gates=gates), rows
    stats = measure_effects(pair.info.family, load, value, used, block_resample(rows, settings.draws, rng))
    if stats.spearman_highpass is not None:  # it never moved: nothing to filter
        return stats, rows
    if size is not None:
        stats = stats.noting(size)
    stats = at_five_minutes(stats, grid.step_s, pair.info.interval_s)
    # News is looked for in what was recorded: a correction that steps with the pool would be news itself.
    news = _news(frame, pair, settings, rng)
    return _complete(frame, pair, stats, rows, news), rows


def at_five_minutes(stats: SignalStatistics, row_s: float, interval_s: float) -> SignalStatistics:
    """Return statistics whose signal to noise is that of 5-minute rows, the ones its limits were set on.

    A source that comes rarely, as the 5-minute averages of a cloud's monitoring do, needs longer rows, and
    the mean over a longer row hides noise that a controller, which reads a minute, still meets. What was not
    recorded can't be measured: noise is taken to fall with the root of the row's length, as independent noise
    does.

    Parameters
    ----------
    stats
        Of rows of `row_s` [s].
    interval_s
        Time between values that carry news [s].
    """
    if row_s <= SUSTAINED_S or stats.snr is None or not math.isfinite(stats.snr):
        return stats
    factor = math.sqrt(SUSTAINED_S / row_s)
    text = (
        f"its values come every {interval_s:.0f} s, so that it was judged on rows of {row_s:.0f} s, which "
        f"hide noise: its signal to noise was {stats.snr:.0f} on them, and is given for {SUSTAINED_S:.0f} s"
    )
    return replace(stats, snr=factor * stats.snr).noting(Reason("long_rows", text, row_s, SUSTAINED_S))


def _windows(row_s: float, news_s: float, window_s: float) -> int:
    """Return how many windows make a row of at least `row_s` that holds news of the signal."""
    width = max(row_s, news_s, window_s)
    return max(1, int(np.ceil(width / window_s - 1e-9)))


def _normalise(frame: ServiceFrame, pair: Pair, grid: WindowGrid) -> tuple[Pair, float]:
    """Return the pair per instance where pools moved, and the load range it must cover."""
    if not pools_moved(frame, pair.load_role):
        return pair, RANGE_MIN
    divided = divide_by_instances(frame, pair)
    load = grid.mean(divided.load)
    if load_range(load[operating_range(load)]) >= RANGE_MIN:
        return divided, RANGE_MIN
    # A tight closed loop holds the load per instance still: rates can still be judged by their totals.
    if pair.info.family in ("throughput", "load"):
        return pair, RANGE_MIN
    return divided, CLOSED_LOOP_RANGE_MIN


def _gates(load: Floats, used: Mask, hours: float, range_min: float) -> tuple[Reason, ...]:
    failed: list[Reason] = []
    rows = int(used.sum())
    if hours < HOURS_MIN:
        text = f"not tested: {hours:.1f} h of load and signal, at least {HOURS_MIN:g} h are needed"
        failed.append(Reason("too_short", text, hours, HOURS_MIN))
    if rows < ROWS_MIN:
        text = f"not tested: {rows} rows in the operating range, at least {ROWS_MIN} are needed"
        failed.append(Reason("too_few_rows", text, float(rows), float(ROWS_MIN)))
        return tuple(failed)
    span = load_range(load[used])
    if span < range_min:
        text = (
            f"not tested: load moved by a factor of {span:.2f} (q95 ÷ q05), at least {range_min:g} is needed"
        )
        failed.append(Reason("load_range", text, span, range_min))
    return tuple(failed)


def _shaped(pair: Pair, load: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return load and signal as the lag filters them.

    Logs of both; for latency and queues the load itself, because they answer near the peak alone and logs
    would give calm hours the same weight; a queue as ln(1 + queue), because it is mostly empty.
    """
    if pair.info.family == "queue":
        return load, np.log1p(np.where(value >= 0, value, np.nan))
    return load if pair.info.family == "latency" else positive_log(load), positive_log(value)


@dataclass(frozen=True)
class _News:
    """Link and lag, and how to get the link to expect, which takes a while."""

    link: Link | None
    lag: Lag | None
    expected: Callable[[], float | None]


def _news(frame: ServiceFrame, pair: Pair, settings: Settings, rng: np.random.Generator) -> _News:
    """Return the innovation link and the lag, on the narrowest rows that hold news of the signal."""
    grid = lay_grid(frame, _windows(SHORTEST_S, pair.info.interval_s, frame.window_s))
    load, value = grid.mean(pair.load), grid.mean(pair.value)
    x, y = (np.where(s >= 0, s, np.nan) for s in (load, value))
    shape: Shape = "counts"
    if pair.info.family == "queue":  # requests that wait come in heaps
        x, y, shape = np.sqrt(x), y**0.25, "plain"
    elif pair.info.family == "latency":
        shape = "ranks"
    return _News(
        find_link(x, y, grid.step_s, shape),
        find_lag(*_shaped(pair, load, value), grid.step_s, settings.draws, rng),
        lambda: expected_strength(x, y, grid.step_s, rng, shape),
    )


def _complete(
    frame: ServiceFrame, pair: Pair, stats: SignalStatistics, rows: StudyRows, news: _News
) -> SignalStatistics:
    """Add what only hours of load can tell: the clock checks, lag, drift and halves."""
    logs = positive_log(rows.load), _shaped(pair, rows.load, rows.value)[1]
    used_load, used_value = (np.where(rows.used, s, np.nan) for s in (rows.load, rows.value))
    drift = None
    if pair.info.family != "queue":
        shift = block_drift(log_residuals(used_load, used_value), rows.grid.start_s)
        drift = None if shift is None else relative(shift, stats.elasticity)
    stats = replace(
        stats,
        spearman_highpass=highpass_rank_correlation(*logs, rows.grid.step_s),
        history="production",
        innovation_link=None if news.link is None else news.link.strength,
        link_chance=None if news.link is None else news.link.chance,
        lag_s=None if news.lag is None else news.lag.lag_s,
        lag_ci=None if news.lag is None else news.lag.ci,
        drift=drift,
    )
    confounders = find_confounders(frame, pair, rows, stats)
    stats = replace(stats, caps=stats.caps + confounders.caps)
    gates = confounders.gates or _untested(stats, pair) or _powerless(stats, news.expected)
    notes = _notes(stats, rows) + confounders.notes
    return interval_note(replace(stats, gates=gates).noting(*notes))


def _untested(stats: SignalStatistics, pair: Pair) -> tuple[Reason, ...]:
    """Return a gate for each check that the rows were too few for."""
    lacking = [
        ("innovation link", stats.innovation_link, "60 windows in a row of filtered load"),
        ("high-pass check", stats.spearman_highpass, "12 rows with positive load and signal"),
        (
            "drift",
            stats.drift if pair.info.family != "queue" else 0.0,
            "two 3-h blocks in the operating range",
        ),
    ]
    return tuple(
        Reason("untestable", f"not tested: the {name} needs {need}")
        for name, value, need in lacking
        if value is None
    )


def _powerless(stats: SignalStatistics, expected: Callable[[], float | None]) -> tuple[Reason, ...]:
    """Return a gate where only the link fails, and would fail as well if the signal followed the load."""
    if stats.innovation_link is None or stats.innovation_link >= LINK_MIN:
        return ()
    if judge(replace(stats, innovation_link=None, link_chance=None))[0] == "unusable":
        return ()
    hoped = expected()
    if hoped is None or hoped >= LINK_MIN + LINK_SWING:
        return ()
    text = (
        f"not tested: its innovation link is {stats.innovation_link:.1f}, and a signal with its noise "
        f"that follows this load would reach {hoped:.1f}; {LINK_MIN + LINK_SWING:g} are needed to tell it "
        "from a common clock: record more hours, or scrape more often"
    )
    return (Reason("link_power", text, hoped, LINK_MIN + LINK_SWING),)


def _notes(stats: SignalStatistics, rows: StudyRows) -> tuple[Reason, ...]:
    notes: list[Reason] = []
    if stats.lag_s is not None and stats.lag_s > LATE_S:
        text = f"it follows the load after {stats.lag_s:.0f} s: add that to the time a scale-out takes"
        notes.append(Reason("late", text, stats.lag_s, LATE_S))
    halves = []
    for part in np.array_split(np.flatnonzero(rows.used), 2):
        half = np.isin(np.arange(rows.used.size), part)
        halves.append(slope_on_load(stats.family, rows.load, rows.value, half)[0])
    if halves[0] is not None and halves[1] is not None and abs(halves[0] - halves[1]) > DRIFT_MAX:
        text = f"elasticity is {halves[0]:.2f} in the first half and {halves[1]:.2f} in the second"
        notes.append(Reason("halves_differ", text, abs(halves[0] - halves[1]), DRIFT_MAX))
    return tuple(notes)

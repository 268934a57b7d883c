"""Judging a signal on a pressure test: load that was set on purpose, in one or several captures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Mask
from hs_analysis.schema.constants import (
    DECILES,
    GROUP_MIN,
    MIX_MOVED_RATIO,
    ROWS_MIN,
    SHORTEST_S,
    TEST_RANGE_MIN,
)
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.episodes import FLOWS, steady
from hs_analysis.statistics.load_range import load_levels, load_range
from hs_analysis.statistics.smoothing import positive_log
from hs_analysis.study.constants import (
    DRIFT_MAX,
    ELASTICITY_BINS,
    ONE_WAY,
    RESIDENCES,
    SIDE_MIN,
    STEP_LINK_MIN,
    WINDOWS_PREFERRED,
)
from hs_analysis.study.effects import (
    load_fit,
    log_residuals,
    operating_range,
    rank_correlation,
    relative,
)
from hs_analysis.study.innovations import find_lag
from hs_analysis.study.reference_load import Pair, WindowGrid, divide_by_instances, lay_grid
from hs_analysis.study.signal_statistics import (
    Cap,
    Draws,
    Resample,
    SignalStatistics,
    StudyRows,
    block_resample,
    interval_note,
    measure_effects,
)
from hs_analysis.study.verdict import SEVERITY, judge, kind_of


def usual_instances(frame: ServiceFrame, role: str) -> Mask:
    """Return the windows in which the pool had its capture's most frequent size, shape (windows,).

    All True when the input does not count instances.
    """
    if not frame.has("instances", role):
        return np.ones(frame.table.height, dtype=bool)
    counts = frame.values("instances", role)
    names = frame.table["capture"].to_numpy()
    usual = np.zeros(counts.size, dtype=bool)
    for name in frame.captures():
        mine = names == name
        known = counts[mine & (counts > 0)]
        if known.size:
            sizes, times = np.unique(known, return_counts=True)
            usual |= mine & (counts == sizes[np.argmax(times)])
    return usual


def steady_rows(frame: ServiceFrame, grid: WindowGrid, role: str) -> Mask | None:
    """Return the rows in which a role's departures match its arrivals; None when these are not counted.

    Departures must be within max(20 %, 2 sqrt(arrivals)) of arrivals. This replaces a settling time
    after each step of the load.
    """
    names = FLOWS.get(role)
    if names is None or not all(frame.has(name, "service") for name in names):
        return None
    arrivals, departures = (
        grid.mean(frame.values(name, "service"), valid_share=1.0) * grid.step_s for name in names
    )
    return steady(arrivals, departures)


def row_factor(frame: ServiceFrame, role: str, load: Floats, interval_s: float) -> int:
    """Return how many windows of the frame make one row of the study.

    Three residence times of a decode request where 24 rows remain, and always two effective intervals of the
    signal; else single windows.

    Parameters
    ----------
    frame
        The service.
    role
        Role the signal is judged on.
    load
        Load of the usable windows, shape (windows,); NaN = not usable.
    interval_s
        Effective interval of the signal [s].
    """
    least = max(1, math.ceil(2.0 * interval_s / frame.window_s - 1e-9))
    if role not in ("decode", "mixed"):
        return least
    residence = _residence_s(frame, role)
    wanted = math.ceil(RESIDENCES * residence / frame.window_s) if math.isfinite(residence) else 1
    for factor in range(wanted, least, -1):
        grid = lay_grid(frame, factor)
        rows = np.isfinite(grid.mean(load, valid_share=1.0))
        steady = steady_rows(frame, grid, role)
        if (rows if steady is None else rows & steady).sum() >= WINDOWS_PREFERRED:
            return factor
    return least


def mix_spread(frame: ServiceFrame, role: str, rows: Mask | None = None) -> float | None:
    """Return q90 ÷ q10 of a role's tokens per request over windows; None when they are not known.

    Parameters
    ----------
    frame
        The service.
    role
        Pool whose work it is.
    rows
        Windows to look at, shape (windows,); None looks at all.
    """
    requests, work = frame.values("request_rate", "service"), frame.values("offered_tps", role)
    tokens = np.divide(work, requests, out=np.full(work.size, np.nan), where=requests > 0)
    if not np.isfinite(tokens).any():
        tokens = frame.values("input_length" if role == "prefill" else "output_length", "service")
    tokens = tokens[np.isfinite(tokens) & (tokens > 0) & (True if rows is None else rows)]
    if tokens.size < 2:
        return None
    low, high = np.quantile(tokens, DECILES)
    return float(high / low)


def _residence_s(frame: ServiceFrame, role: str) -> float:
    """Return the median residence time of a decode request by Little's law [s]; NaN when unknown."""
    running, rate = frame.values("running", role), frame.values("first_token_rate", "service")
    known = np.isfinite(running) & (rate > 0)
    return float(np.median(running[known] / rate[known])) if known.any() else math.nan


# Limits of this module: defaults of this project, measured on captures of real serving components.

FEW_WINDOWS = 5 * ELASTICITY_BINS
"""Below this many windows the elasticity has n/5 bins, 4 to 12."""


def study_pressure(
    frame: ServiceFrame, pair: Pair, settings: Settings, rng: np.random.Generator
) -> tuple[SignalStatistics, StudyRows]:
    """Measure one signal of a pressure test.

    Runs of three or more captures are pooled on load per instance where they lie on one curve; else each run
    is measured alone and the worst tested verdict counts.

    Parameters
    ----------
    frame
        The service; every capture is a run.
    pair
        The signal and its load.
    settings
        Number of bootstrap draws.
    rng
        Source of resamples.
    """
    rows = _usable_rows(frame, pair)
    runs = [int(run) for run in np.unique(rows.grid.capture[np.isfinite(rows.load)])]
    if len(runs) < GROUP_MIN:
        return _apart(frame, pair, rows, runs, settings, rng)
    pooled = _measure(frame, pair, rows, _run_resample(rows, settings, rng), settings, rng)
    if pooled.gates:
        return pooled, rows
    offset = _run_offset(rows, pooled)
    # Latencies and queues are not judged on shifts of their relation, so shifts between runs don't part them.
    if offset <= DRIFT_MAX or kind_of(pair.info.family) != "rate":
        text = f"{len(runs)} runs pooled on load per instance, {offset:.2f} of the elasticity apart"
        return pooled.noting(Reason("runs_pooled", text, offset, DRIFT_MAX)), rows
    alone, rows = _apart(frame, pair, rows, runs, settings, rng)
    text = f"the runs do not lie on one curve: {offset:.2f} of the elasticity apart, so each was judged alone"
    return alone.noting(Reason("runs_differ", text, offset, DRIFT_MAX)), rows


def _usable_rows(frame: ServiceFrame, pair: Pair) -> StudyRows:
    """Return load and signal per instance in usable windows, NaN elsewhere."""
    usual = usual_instances(frame, pair.load_role)
    pair = replace(pair, load=np.where(usual, pair.load, np.nan))
    if frame.has("instances", pair.load_role):
        pair = divide_by_instances(frame, pair)
    grid = lay_grid(frame, row_factor(frame, pair.load_role, pair.load, pair.info.interval_s))
    load, value = grid.mean(pair.load, valid_share=1.0), grid.mean(pair.value, valid_share=1.0)
    usable = np.isfinite(load) & np.isfinite(value)
    steady = steady_rows(frame, grid, pair.load_role)
    if steady is not None:
        usable &= steady
    load, value = np.where(usable, load, np.nan), np.where(usable, value, np.nan)
    return StudyRows(grid, load, value, load_fit(load, value).predict(load), operating_range(load))


def _only(rows: StudyRows, run: int) -> StudyRows:
    """Return the rows of one run; those of the others are missing."""
    mine = rows.grid.capture == run
    load, value = np.where(mine, rows.load, np.nan), np.where(mine, rows.value, np.nan)
    return StudyRows(rows.grid, load, value, load_fit(load, value).predict(load), operating_range(load))


def _apart(
    frame: ServiceFrame,
    pair: Pair,
    rows: StudyRows,
    runs: list[int],
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[SignalStatistics, StudyRows]:
    """Measure each run alone; the worst tested verdict counts, with the most windows among equals."""
    parts = [_only(rows, run) for run in runs] or [rows]
    found = [_measure(frame, pair, p, block_resample(p, settings.draws, rng), settings, rng) for p in parts]
    verdicts = [judge(stats)[0] for stats in found]

    def standing(k: int) -> tuple[int, int]:
        severity = SEVERITY[verdicts[k]] if verdicts[k] != "unknown" else -1
        return severity, found[k].rows

    chosen = max(range(len(found)), key=standing)
    stats = found[chosen]
    if len(parts) > 1:
        names = frame.captures()
        listed = ", ".join(f"{names[run]} {verdict}" for run, verdict in zip(runs, verdicts, strict=True))
        text = f"each run judged alone, the numbers are those of {names[runs[chosen]]}: {listed}"
        stats = stats.noting(Reason("runs_alone", text, float(len(parts)), float(GROUP_MIN)))
    fit, used = np.full(rows.load.size, np.nan), np.zeros(rows.load.size, dtype=bool)
    for part in parts:
        fit, used = np.where(np.isfinite(part.fit), part.fit, fit), used | part.used
    return stats, replace(rows, fit=fit, used=used)


def _measure(
    frame: ServiceFrame,
    pair: Pair,
    rows: StudyRows,
    resample: Resample,
    settings: Settings,
    rng: np.random.Generator,
) -> SignalStatistics:
    family, used = pair.info.family, rows.used
    basis = (_basis(int(used.sum()), rows.grid.step_s),)
    gates = _gates(rows.load[used])
    if gates:
        return SignalStatistics(family, rows=int(used.sum()), gates=gates, notes=basis)
    stats = measure_effects(family, rows.load, rows.value, used, resample, _bins(int(used.sum())))
    never_moved = bool(stats.caps)
    stats = replace(stats, history="pressure_test", spearman_highpass=None, innovation_link=None, drift=None)
    if never_moved:
        return stats.noting(*basis)
    residuals = log_residuals(np.where(used, rows.load, np.nan), np.where(used, rows.value, np.nan))
    lag = find_lag(positive_log(rows.load), positive_log(rows.value), rows.grid.step_s, settings.draws, rng)
    stats = replace(
        stats,
        lag_s=None if lag is None else lag.lag_s,
        lag_ci=None if lag is None else lag.ci,
        half_shift=_half_shift(residuals, rows.grid, stats.elasticity),
        hysteresis=_hysteresis(residuals, rows.grid, _offered(frame, pair, rows.grid), stats.elasticity),
        caps=stats.caps + _mix_caps(frame, pair) + _ramp_caps(rows),
    )
    return interval_note(stats.noting(*basis))


def _basis(windows: int, step_s: float) -> Reason:
    text = (
        f"load set on purpose, {windows} windows of {step_s:g} s in the operating range: clock and trend "
        "checks do not apply, and nothing is claimed about days"
    )
    return Reason("set_load", text, float(windows), None)


def _bins(windows: int) -> int:
    return ELASTICITY_BINS if windows >= FEW_WINDOWS else int(np.clip(windows // 5, 4, ELASTICITY_BINS))


def _gates(load: Floats) -> tuple[Reason, ...]:
    failed: list[Reason] = []
    if load.size < ROWS_MIN:
        text = f"not tested: {load.size} steady windows, at least {ROWS_MIN} are needed"
        return (Reason("too_few_rows", text, float(load.size), float(ROWS_MIN)),)
    span = load_range(load)
    if span < TEST_RANGE_MIN:
        text = (
            f"not tested: load per instance moved by a factor of {span:.2f}, "
            f"at least {TEST_RANGE_MIN:g} is needed"
        )
        failed.append(Reason("load_range", text, span, TEST_RANGE_MIN))
    levels = load_levels(load)
    if levels < GROUP_MIN:
        text = f"not tested: {levels} load levels 25 % apart, at least {GROUP_MIN} are needed"
        failed.append(Reason("too_few_levels", text, float(levels), float(GROUP_MIN)))
    return tuple(failed)


def _offered(frame: ServiceFrame, pair: Pair, grid: WindowGrid) -> Floats:
    """Return the offered load of every row, usable or not, to tell rising from falling."""
    return grid.mean(frame.values("offered_tps", pair.load_role))


def _half_shift(residuals: Floats, grid: WindowGrid, slope: float | None) -> float | None:
    """Return the shift of the median residual between the halves of the runs, relative to the elasticity."""
    late = np.zeros(residuals.size, dtype=bool)
    for run in np.unique(grid.capture[np.isfinite(residuals)]):
        mine = np.flatnonzero((grid.capture == run) & np.isfinite(residuals))
        late[mine[(mine.size + 1) // 2 :]] = True
    first, second = residuals[~late & np.isfinite(residuals)], residuals[late]
    if min(first.size, second.size) < 2:
        return None
    return relative(abs(float(np.median(first) - np.median(second))), slope)


def _hysteresis(residuals: Floats, grid: WindowGrid, offered: Floats, slope: float | None) -> float | None:
    """Return the shift between rising and falling load; None with fewer than 8 windows of either."""
    reach = max(1, round(SHORTEST_S / grid.step_s))
    rise = np.full(offered.size, np.nan)
    if offered.size > 2 * reach:
        rise[reach:-reach] = offered[2 * reach :] - offered[: -2 * reach]
    known = np.isfinite(residuals)
    rising, falling = residuals[known & (rise > 0)], residuals[known & (rise < 0)]
    if min(rising.size, falling.size) < SIDE_MIN:
        return None
    return relative(abs(float(np.median(rising) - np.median(falling))), slope)


def _mix_caps(frame: ServiceFrame, pair: Pair) -> tuple[Cap, ...]:
    """Bound what a moving token mix makes blind or two-valued."""
    spread = mix_spread(frame, pair.load_role, np.isfinite(pair.load))
    if spread is None or spread <= MIX_MOVED_RATIO or pair.info.family not in ("load", "memory"):
        return ()
    text = f"tokens per request moved by a factor of {spread:.2f}"
    if pair.info.family == "load":
        reason = Reason("mix_moved", f"{text}: requests do not measure work", spread, MIX_MOVED_RATIO)
        return (Cap("unusable", reason),)
    reason = Reason(
        "mix_moved", f"{text}: the same work then holds more or less memory", spread, MIX_MOVED_RATIO
    )
    return (Cap("guard", reason),)


def _ramp_caps(rows: StudyRows) -> tuple[Cap, ...]:
    """Bound what was seen on a ramp that went one way, unless the steps of load and signal go together."""
    used = rows.used
    course = rank_correlation(rows.load[used], rows.grid.start_s[used])
    if abs(course) <= ONE_WAY:
        return ()
    pairs = np.flatnonzero(used[1:] & used[:-1] & (rows.grid.capture[1:] == rows.grid.capture[:-1]))
    log_x, log_y = positive_log(rows.load), positive_log(rows.value)
    step_x, step_y = log_x[pairs + 1] - log_x[pairs], log_y[pairs + 1] - log_y[pairs]
    known = np.isfinite(step_x) & np.isfinite(step_y)
    link = 0.0
    if known.sum() >= 3:
        link = math.sqrt(int(known.sum())) * rank_correlation(step_x[known], step_y[known])
    if link >= STEP_LINK_MIN:
        return ()
    text = (
        f"the load went one way only (Spearman with time {course:.2f}) and the signal's steps do not follow "
        f"its steps ({link:.1f}, at least {STEP_LINK_MIN:g}): come down again"
    )
    return (Cap("guard", Reason("one_way_ramp", text, link, STEP_LINK_MIN)),)


def _run_offset(rows: StudyRows, pooled: SignalStatistics) -> float:
    """Return the spread of the runs' median residuals about the common curve, relative to the elasticity."""
    residuals = log_residuals(np.where(rows.used, rows.load, np.nan), np.where(rows.used, rows.value, np.nan))
    known = np.isfinite(residuals)
    runs = np.unique(rows.grid.capture[known])
    medians = [float(np.median(residuals[known & (rows.grid.capture == run)])) for run in runs]
    return relative(float(np.std(medians, ddof=1)), pooled.elasticity) if len(medians) >= 2 else math.inf


def _run_resample(rows: StudyRows, settings: Settings, rng: np.random.Generator) -> Resample:
    """Draw whole runs, with replacement, until as many rows are filled."""

    def resample(mask: Mask) -> Draws:
        labels = rows.grid.capture[mask]
        members = [np.flatnonzero(labels == run) for run in np.unique(labels)]
        drawn = np.empty((settings.draws, labels.size), dtype=np.int64)
        for line in drawn:
            order = rng.integers(0, len(members), size=4 * len(members))
            line[:] = np.resize(np.concatenate([members[k] for k in order]), labels.size)
        return Draws(drawn, None)

    return resample

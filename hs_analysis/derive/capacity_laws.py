"""Laws that read the capacity at the SLO off (load, share over the limit), with their intervals.

A law returns None where it does not hold; it never guesses. Loads are tokens/s per instance, shares 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, bdtrc, expit, ndtri

from hs_analysis.derive.constants import (
    BRACKET_LOW_RANK,
    CLEAN_ROWS,
    DRAWS_MIN,
    EPISODE_GAP_S,
    EVENTS_MIN,
    LEVEL_GROUPS,
    LOAD_SHARE_MIN,
    LOGISTIC_REACH,
    ONSET_ROWS,
    ONSET_VIOLATING_SHARE,
    PROBIT_WIDTH,
    QUANTILE_BIN_ROWS,
    QUANTILE_BINS_MAX,
    QUANTILE_RANGE,
    REACH,
    RECOVERY_LOAD_SHARE,
    SYSTEMATIC,
    SYSTEMATIC_FEW,
    SYSTEMATIC_TEST,
    TAIL_MARGIN,
    TAIL_QUANTILE,
    VIOLATING_MIN,
)
from hs_analysis.derive.rows import RoleRows
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import (
    BACKLOG_S,
    CLAIM_CHANCE,
    GROUP_MIN,
    HIGHEST_QUANTILE,
    MAJORITY,
    MINUTE_ROWS_MIN,
    NORMAL_95,
    TEST_VIOLATING_MIN,
)
from hs_analysis.schema.results import Interval
from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.between_edges import broken
from hs_analysis.statistics.binomial import logistic_line
from hs_analysis.statistics.episodes import Run, episodes, runs_until_clean
from hs_analysis.statistics.isotonic import monotone_fit
from hs_analysis.statistics.resampling import percentile_interval

COUNT_STEP = 0.0025
"""Width of the cells of ln load in which rows are counted for the binomial fit: 0.25 % of load."""

CHANCES = 1000
"""Equally probable values of a normal variable that an average over chance is taken over: 50 of them lie in
the tail of 5 %."""


@dataclass(frozen=True)
class Crossing:
    """Where the SLO just holds: load per instance [tokens/s], and the slope of ln odds in ln load."""

    load: float
    slope: float | None = None


Law = Callable[[Floats, Floats, Slo], Crossing | None]


def share_limit(slo: Slo) -> float:
    """Return the share of samples that may be over the limit in a window, 1 - quantile."""
    return 1.0 - slo.quantile


def violating(share: Floats, slo: Slo) -> Mask:
    """Return which rows have more samples over the limit than the SLO allows; NaN does not violate."""
    return broken(share, slo.quantile)


def logistic(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the probability of a violating window crosses the allowed share of windows.

    Binomial GLM of "window violates" on ln load, fitted only on the tail ln x > q02(ln x of violating rows)
    - 0.25 so that the tail sets the slope. None without violating rows, without a rising fit, or where the
    crossing lies below the tail or more than 10 % above the highest load seen.

    Parameters
    ----------
    load, share
        Rows, shape (n,), finite.
    slo
        Quantile of a window and allowed share of windows.
    """
    bad = violating(share, slo)
    if bad.sum() < 2 or bad.all():
        return None
    x = np.log(load)
    tail = in_tail(x, bad)
    fit = binomial_fit(x[tail], bad[tail])
    if fit is None or fit[1] <= 0.0:
        return None
    allowed = slo.allowed_window_share
    crossing = float(np.exp((np.log(allowed / (1.0 - allowed)) - fit[0]) / fit[1]))
    seen = load[tail].min() <= crossing <= LOGISTIC_REACH * load.max()
    return Crossing(crossing, fit[1]) if seen else None


def in_tail(x: Floats, bad: Mask) -> Mask:
    """Return which ln loads lie in the tail of the logistic law: above q02 of the violating ones - 0.25."""
    tail: Mask = x > np.quantile(x[bad], TAIL_QUANTILE) - TAIL_MARGIN
    return tail


def at_mean_load(crossing: Crossing, noise: float, slo: Slo) -> Crossing:
    """Return the mean load at which as many windows violate as at a crossing read off single windows.

    A law over single windows says how likely one violates in which just this much came. Under a steady mean
    load x what comes is x·exp(ε), ε normal with variance noise ÷ x, so that windows in which much came
    violate before the mean gets there. The mean load m sought solves
    E[σ(logit(allowed) + slope · (ln(m ÷ crossing) + ε))] = allowed; the slope returned is that of the average
    log odds there.

    Parameters
    ----------
    crossing
        Of the logistic law on single windows.
    noise
        Variance ÷ mean of a window's load at one mean load [tokens/s]; unknown (NaN) or zero changes nothing.
    slo
        Gives the allowed share of windows; from a half on chance works the other way and nothing is changed.
    """
    slope, allowed = crossing.slope, slo.allowed_window_share
    if slope is None or not noise > 0.0 or allowed >= 0.5:
        return crossing
    chance = slope * math.sqrt(noise / crossing.load) * _NORMAL

    def averaged(shift: float) -> Floats:
        share: Floats = expit(math.log(allowed / (1.0 - allowed)) + slope * shift + chance)
        return share

    # At shift 0 the average is above what is allowed; this far below every chance alike is under it.
    lowest = -float(chance[-1]) / slope
    shift = float(brentq(lambda x: float(averaged(x).mean()) - allowed, lowest, 0.0)) if lowest < 0.0 else 0.0
    share = averaged(shift)
    steepness = slope * float((share * (1.0 - share)).mean()) / (allowed * (1.0 - allowed))
    return Crossing(crossing.load * math.exp(shift), steepness)


_NORMAL: Floats = ndtri((np.arange(CHANCES) + 0.5) / CHANCES)


def binomial_fit(x: Floats, bad: Mask) -> tuple[float, float] | None:
    """Return intercept and slope of the log odds of `bad` on `x`, None where they can't be fitted.

    Rows are counted in cells of 0.0025 of `x` first, so that the cost does not grow with the number of rows.
    """
    if bad.all() or not bad.any():
        return None
    # Counted from the lowest load, so that the unit of load does not move a row into another cell.
    cell = np.unique(np.round((x - x.min()) / COUNT_STEP), return_inverse=True)[1].reshape(-1)
    rows = np.bincount(cell)
    if rows.size < GROUP_MIN:
        return None
    centre = np.bincount(cell, x) / rows
    over = np.bincount(cell, bad).astype(float)
    origin = float(centre.mean())
    line = logistic_line(centre - origin, over, rows.astype(float))
    return (line[0] - line[1] * origin, line[1]) if line is not None else None


def quantile_law(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the quantile of the share over the limit reaches what a window may have.

    Per equal-count bin of the loads above 0.6 of the highest, the (1 - allowed share of windows) quantile of
    the share, made monotone; its probit is fitted linearly in ln load, with Gaussian weights about the
    crossing. None with fewer than three bins in range, without a rising fit, or where the crossing lies below
    the lowest load.
    """
    lowest, near = load.min(), load > LOAD_SHARE_MIN * load.max()
    load, share = load[near], share[near]
    bins = min(QUANTILE_BINS_MAX, load.size // QUANTILE_BIN_ROWS)
    if bins < GROUP_MIN:
        return None
    order = np.argsort(load, kind="stable")[load.size % bins :]
    x = np.log(load[order]).reshape(bins, -1).mean(axis=1)
    level = 1.0 - slo.allowed_window_share
    quantile = monotone_fit(x, np.quantile(share[order].reshape(bins, -1), level, axis=1), increasing=True)
    low, high = QUANTILE_RANGE
    used = (quantile.y > low) & (quantile.y < high)
    if used.sum() < GROUP_MIN:
        return None
    x, probit, goal = quantile.x[used], ndtri(quantile.y[used]), float(ndtri(share_limit(slo)))
    weight = np.exp(-0.5 * ((probit - goal) / PROBIT_WIDTH) ** 2)
    mean_x, mean_y = np.average(x, weights=weight), np.average(probit, weights=weight)
    spread = float(np.sum(weight * (x - mean_x) ** 2))
    slope = float(np.sum(weight * (x - mean_x) * (probit - mean_y))) / spread if spread > 0 else 0.0
    if slope <= 0.0:
        return None
    with np.errstate(over="ignore"):
        crossing = float(np.exp(mean_x + (goal - mean_y) / slope))
    return Crossing(crossing) if lowest <= crossing < np.inf else None


def levels(load: Floats, share: Floats, slo: Slo) -> Crossing | None:
    """Return where the mean share over the limit, monotone over load groups, reaches what the SLO allows.

    The law of pressure tests, which have too few windows for the others. None where the lowest group is over
    the limit already or no group is.
    """
    groups = min(LEVEL_GROUPS, load.size // GROUP_MIN)
    if groups < 2:
        return None
    fit = monotone_fit(load, share, bins=groups, increasing=True)
    limit = share_limit(slo)
    over = np.flatnonzero(fit.y >= limit)
    if over.size == 0 or over[0] == 0:
        return None
    after = int(over[0])
    x, y = fit.x[after - 1 : after + 1], fit.y[after - 1 : after + 1]
    return Crossing(float(x[0] + (x[1] - x[0]) * (limit - y[0]) / (y[1] - y[0])))


@dataclass(frozen=True)
class LabelledRows:
    """The rows of a role, labelled as within or over one SLO.

    Attributes
    ----------
    rows
        The role's rows.
    bad, held
        Rows over the limit, and rows within it, shape (rows,).
    surely
        Rows over the limit by the counts of the histogram, however shares between its edges are read.
    kept
        Rows that may enter a fit: judged, and not recovering from an earlier run.
    onsets
        Onset load of each violation run [tokens/s per instance].
    bad_kept, episodes
        Violating rows that were kept, and in how many separate episodes they lie.
    """

    rows: RoleRows
    bad: Mask
    held: Mask
    surely: Mask
    kept: Mask
    onsets: Floats
    bad_kept: int
    episodes: int

    @property
    def load(self) -> Floats:
        """Load of the kept rows."""
        return self.rows.load[self.kept]

    @property
    def share(self) -> Floats:
        """Share over the limit of the kept rows."""
        return self.rows.over[self.kept]


@dataclass(frozen=True)
class Bracket:
    """Two loads between which the capacity lies [tokens/s per instance]."""

    low: float
    high: float

    @property
    def value(self) -> float:
        """The capacity read off it: the geometric mean of both ends."""
        return math.sqrt(self.low * self.high)

    @property
    def width(self) -> float:
        """Width as a share of the geometric mean of both ends."""
        return (self.high - self.low) / self.value


def label_rows(rows: RoleRows, slo: Slo, *, drop_recovery: bool) -> LabelledRows:
    """Return which rows violate, held and may enter a fit.

    A run of violations lasts until five rows are clean and the role's backlog is under 1 s. Its rows after
    the second are dropped where they carry less than 0.9 of the onset load (the larger load of its first
    two rows): what they violate is old backlog. Only with `drop_recovery`, in production.

    A pressure test has few windows, and one that fills or drains the pool (a burst shorter than the window,
    the end of a step) violates under another load than its own. Such windows are dropped up to the highest
    load that was clean and steady; above it they can only be evidence.
    """
    labelled = rows.labelled
    bad = violating(rows.over, slo) & labelled
    held = ~bad & labelled
    calm = ~(rows.backlog_s >= BACKLOG_S)
    spans = runs_until_clean(bad, held, calm, CLEAN_ROWS, rows.group)
    onsets = np.array([_onset(rows.load, span) for span in spans])
    kept = labelled.copy()
    if drop_recovery:
        for (start, stop), onset in zip(spans, onsets, strict=True):
            later = slice(start + ONSET_ROWS, stop)
            kept[later] &= ~(rows.load[later] < RECOVERY_LOAD_SHARE * onset)
    if rows.kind == "pressure_test":
        clean = rows.load[held & rows.steady]
        kept &= rows.steady | (rows.load > (clean.max() if clean.size else np.inf))
    gap = EPISODE_GAP_S / rows.window_s
    separate = episodes(bad & kept, gap, rows.group)
    return LabelledRows(
        rows, bad, held, _surely(rows, bad, slo), kept, onsets, int((bad & kept).sum()), len(separate)
    )


def _surely(rows: RoleRows, bad: Mask, slo: Slo) -> Mask:
    surely: Mask = bad & (rows.over_least >= rows.over)
    if rows.over_surely is not None:
        surely &= violating(rows.over_surely, slo) | np.isnan(rows.over_surely)
    return surely


def _onset(load: Floats, span: Run) -> float:
    first = load[span[0] : min(span[0] + ONSET_ROWS, span[1])]
    return float(np.fmax.reduce(first))


def counted_onsets(labelled: LabelledRows) -> Floats:
    """Return the onset loads at or above which at least 3 and 5 % of the kept rows violate, ascending."""
    load, bad = labelled.load, labelled.bad[labelled.kept]
    counted = [onset for onset in labelled.onsets if _counts(bad[load >= onset])]
    return np.sort(np.array(counted, dtype=float))


def _counts(bad_above: Mask) -> bool:
    enough = int(bad_above.sum()) >= VIOLATING_MIN
    return enough and bool(bad_above.mean() >= ONSET_VIOLATING_SHARE)


def doubtful_load(labelled: LabelledRows, slo: Slo) -> float | None:
    """Return the lowest mean load at which violations began and nothing shows that the SLO holds, else None.

    A load is shown to hold where so few of the n kept windows at it or more violate as would be unlikely if
    the allowed share ε did: P(X ≤ k) ≤ 5 %, X ~ Binomial(n, ε), which takes 93 windows for k = 1 at ε = 5 %
    (Clopper & Pearson 1934, one side). A chance violation at a light load has many quiet windows above it; a
    single one among the highest loads has few: it is no capacity, but may be the limit. Windows count as
    independent.
    """
    load, bad = labelled.load, labelled.bad[labelled.kept]
    doubtful = [
        onset for onset in labelled.onsets if onset > 0 and not _shown_to_hold(bad[load >= onset], slo)
    ]
    return mean_share(labelled, slo) * float(min(doubtful)) if doubtful else None


def _shown_to_hold(bad_above: Mask, slo: Slo) -> bool:
    chance = bdtr(int(bad_above.sum()), bad_above.size, slo.allowed_window_share)
    return bool(chance <= CLAIM_CHANCE)


def shown_to_break(labelled: LabelledRows, upto: Mask, slo: Slo) -> bool:
    """Return whether kept windows among some surely break the SLO more often than it allows.

    Where so many of the n violate as would be unlikely if the allowed share ε did: P(X ≥ k) ≤ 5 %,
    X ~ Binomial(n, ε). Windows of which the buckets can't tell count as within, and windows as independent.
    """
    chosen = labelled.kept & upto
    surely = int((labelled.bad & violating(labelled.rows.over_least, slo))[chosen].sum())
    return bool(bdtrc(surely - 1, int(chosen.sum()), slo.allowed_window_share) <= CLAIM_CHANCE)


def contradicted(labelled: LabelledRows, value: float, slo: Slo) -> bool:
    """Return whether the windows up to a load show that it is no capacity: more of them violate than may.

    A law is fitted near the highest loads. Where other things than load break the limit at low loads, or the
    limit lies inside the spread that latency has in an idle pool, its curve says nothing of what happens
    below, and more instances, which only lower the load, don't keep the SLO.
    """
    return shown_to_break(labelled, labelled.rows.sustained <= value, slo)


def mean_share(labelled: LabelledRows, slo: Slo) -> float:
    """Return the mean load under which the allowed share of windows gets more than a load, ÷ that load.

    exp(Φ⁻¹(allowed) · sd), sd that of ln load of single windows at the highest loads: a capacity speaks of a
    mean load, and onsets and clean loads are what came by chance.
    """
    load, noise = labelled.load, labelled.rows.count_noise
    if not noise > 0.0 or not load.size or not load.max() > 0.0:
        return 1.0
    return min(1.0, math.exp(float(ndtri(slo.allowed_window_share)) * math.sqrt(noise / load.max())))


def bracket(labelled: LabelledRows, slo: Slo) -> Bracket | None:
    """Return the bracket of the capacity, a mean load, between clean loads and onset loads of single windows.

    Low end: the smaller of the lowest onset and the 10th-highest clean load; high end: the larger of the
    lowest onset and the 3rd-highest clean load. None under 60 clean rows, or when no onset counts.
    """
    onsets = counted_onsets(labelled)
    clean = np.sort(labelled.rows.load[labelled.held & labelled.kept])[::-1]
    if clean.size < MINUTE_ROWS_MIN or onsets.size == 0:
        return None
    low = min(float(onsets[0]), float(clean[BRACKET_LOW_RANK - 1]))
    high = max(float(onsets[0]), float(clean[GROUP_MIN - 1]))
    share = mean_share(labelled, slo)
    return Bracket(share * low, share * high)


@dataclass(frozen=True)
class Rule:
    """A law with what it needs and what resampling does not see of its error.

    Attributes
    ----------
    name
        What the result's method says.
    law
        The estimator.
    needs
        Whether the rows suffice for it.
    systematic
        Standard deviation of ln capacity to add, per role.
    single_windows
        Whether it is read off each window's own load, whose chance is averaged over afterwards; else off
        the sustained load.
    draws_min
        Share of bootstrap draws in which it must hold [ratio].
    """

    name: str
    law: Law
    needs: Callable[[LabelledRows], bool]
    systematic: dict[str, float]
    single_windows: bool = False
    draws_min: float = DRAWS_MIN

    def load(self, labelled: LabelledRows) -> Floats:
        """Return the load of every row that the law reads [tokens/s per instance]."""
        return labelled.rows.load if self.single_windows else labelled.rows.sustained

    def crossing(self, labelled: LabelledRows, slo: Slo, rows: Integers) -> Crossing | None:
        """Return where the SLO just holds by these rows, in mean load; None where the law does not hold."""
        rows = rows[labelled.kept[rows]]
        load, share = self.load(labelled)[rows], labelled.rows.over[rows]
        known = load > 0
        found = self.law(load[known], share[known], slo) if known.any() else None
        if found is None or not self.single_windows:
            return found
        return at_mean_load(found, labelled.rows.count_noise, slo)


def _needs_episodes(labelled: LabelledRows) -> bool:
    return labelled.bad_kept >= EVENTS_MIN and labelled.episodes >= GROUP_MIN


def _needs_both_sides(labelled: LabelledRows) -> bool:
    return min(labelled.bad_kept, int((labelled.held & labelled.kept).sum())) >= TEST_VIOLATING_MIN


RULES: dict[str, tuple[Rule, ...]] = {
    "production": (
        Rule(
            "logistic",
            logistic,
            _needs_episodes,
            dict.fromkeys(SYSTEMATIC_TEST, SYSTEMATIC),
            single_windows=True,
        ),
        Rule(
            "logistic, few episodes",
            logistic,
            lambda labelled: labelled.bad_kept >= EVENTS_MIN,
            dict.fromkeys(SYSTEMATIC_TEST, SYSTEMATIC_FEW),
            single_windows=True,
            draws_min=MAJORITY,
        ),
        Rule(
            "quantile law",
            quantile_law,
            lambda _: True,
            dict.fromkeys(SYSTEMATIC_TEST, SYSTEMATIC_FEW),
        ),
    ),
    "pressure_test": (Rule("load levels", levels, _needs_both_sides, SYSTEMATIC_TEST),),
}
"""Laws by kind of history, in the order they are tried."""


@dataclass(frozen=True)
class Fitted:
    """A law that holds: its crossing, its value in each draw (NaN where it failed) and its interval."""

    rule: Rule
    crossing: Crossing
    draws: Floats
    systematic: float
    ci: Interval

    @property
    def width(self) -> float:
        """Width of the interval as a share of the value."""
        return (self.ci[1] - self.ci[0]) / self.crossing.load


def attempt(rule: Rule, labelled: LabelledRows, slo: Slo, resamples: Integers) -> Fitted | None:
    """Return a law's answer, None where it does not hold.

    It does not hold where its needs are not met, where its crossing lies more than 15 % above the 99 %
    quantile of load, or where too few of the draws give a value within that reach.

    Parameters
    ----------
    rule, labelled, slo
        The law, the rows it may use and the objective.
    resamples
        Row numbers of each draw over all rows of the table, shape (draws, rows).
    """
    if not rule.needs(labelled):
        return None
    crossing = rule.crossing(labelled, slo, np.arange(labelled.kept.size))
    load = labelled.rows.sustained[labelled.kept & (labelled.rows.sustained > 0)]
    if crossing is None or not load.size:
        return None
    reach = REACH * np.quantile(load, HIGHEST_QUANTILE)
    if crossing.load > reach:
        return None
    found = [rule.crossing(labelled, slo, rows) for rows in resamples]
    draws = np.array([one.load if one is not None and one.load <= reach else math.nan for one in found])
    if np.isfinite(draws).mean() < rule.draws_min:
        return None
    systematic = math.hypot(rule.systematic[labelled.rows.role], labelled.rows.mix_sd)
    low, high = log_interval(crossing.load, draws, systematic)
    gap_low, gap_high = _gap(rule.load(labelled)[labelled.kept], crossing.load)
    return Fitted(rule, crossing, draws, systematic, (min(low, gap_low), max(high, gap_high)))


def _gap(load: Floats, value: float) -> Interval:
    """Return the third load on either side of the value; the value itself on a side that has fewer.

    A law can't see inside a gap of loads, and the third is no extreme.
    """
    below, above = np.sort(load[load <= value]), np.sort(load[load >= value])
    low = float(below[-GROUP_MIN]) if below.size >= GROUP_MIN else value
    high = float(above[GROUP_MIN - 1]) if above.size >= GROUP_MIN else value
    return low, high


def log_interval(value: float, draws: Floats, systematic: float) -> Interval:
    """Return the 95 % interval of a positive value from its draws and a systematic term.

    Each side in logs: hypot(distance of the percentile, 1.96 · systematic); a side never falls below the
    systematic term, so that the value lies inside.
    """
    low, high = percentile_interval(draws)
    term = NORMAL_95 * systematic
    below = math.hypot(max(0.0, math.log(value / low)), term) if low > 0 else term
    above = math.hypot(max(0.0, math.log(high / value)), term) if high > 0 else term
    return value * math.exp(-below), value * math.exp(above)

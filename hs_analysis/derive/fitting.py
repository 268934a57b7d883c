"""The laws of each kind of history in the order they are tried, each with its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive import laws
from hs_analysis.derive.violations import Judged
from hs_analysis.schema.results import Interval
from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.resampling import percentile_interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# All constants below: defaults of this project, measured on simulated services and captures with a known
# answer.

NORMAL_95 = 1.96
"""Half-width of a 95 % normal interval in standard deviations."""

REACH = 1.15
"""A capacity further than this above the 99 % quantile of load was never approached."""

REACH_QUANTILE = 0.99
"""The quantile of load meant there [ratio]."""

DRAWS_MIN = 0.8
"""Share of bootstrap draws in which a law must hold [ratio]."""

FEW_DRAWS_MIN = 0.5
"""The same with few episodes: one draw of blocks in three leaves a single one out, which says nothing
[ratio]."""

LOGISTIC_BAD_MIN, LOGISTIC_EPISODES_MIN = 10, 3
"""Violating windows and separate episodes that the logistic law needs: ten events for each slope fitted
(Peduzzi et al. 1996), not all of one incident. Of fewer episodes it has the larger systematic term."""

TEST_WINDOWS_MIN = 5
"""Pressure test: fewest windows over and under the limit."""

GAP_ROWS = 3
"""The interval always reaches the third load on either side of the value: a law can't see inside a gap of
loads."""


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
    law: laws.Law
    needs: Callable[[Judged], bool]
    systematic: dict[str, float]
    single_windows: bool = False
    draws_min: float = DRAWS_MIN

    def load(self, judged: Judged) -> Floats:
        """Return the load of every row that the law reads [tokens/s per instance]."""
        return judged.rows.load if self.single_windows else judged.rows.sustained

    def crossing(self, judged: Judged, slo: Slo, rows: Integers) -> laws.Crossing | None:
        """Return where the SLO just holds by these rows, in mean load; None where the law does not hold."""
        rows = rows[judged.kept[rows]]
        load, share = self.load(judged)[rows], judged.rows.over_low[rows]
        known = load > 0
        found = self.law(load[known], share[known], slo) if known.any() else None
        if found is None or not self.single_windows:
            return found
        return laws.at_mean_load(found, judged.rows.count_noise, slo)


def _needs_episodes(judged: Judged) -> bool:
    return judged.bad_kept >= LOGISTIC_BAD_MIN and judged.episodes >= LOGISTIC_EPISODES_MIN


def _needs_both_sides(judged: Judged) -> bool:
    return min(judged.bad_kept, int((judged.held & judged.kept).sum())) >= TEST_WINDOWS_MIN


RULES: dict[str, tuple[Rule, ...]] = {
    "production": (
        Rule(
            "logistic",
            laws.logistic,
            _needs_episodes,
            {"prefill": 0.02, "decode": 0.02, "mixed": 0.02},
            single_windows=True,
        ),
        Rule(
            "logistic, few episodes",
            laws.logistic,
            lambda judged: judged.bad_kept >= LOGISTIC_BAD_MIN,
            {"prefill": 0.035, "decode": 0.035, "mixed": 0.035},
            single_windows=True,
            draws_min=FEW_DRAWS_MIN,
        ),
        Rule(
            "quantile law",
            laws.quantile_law,
            lambda _: True,
            {"prefill": 0.035, "decode": 0.035, "mixed": 0.035},
        ),
    ),
    "pressure_test": (
        Rule("load levels", laws.levels, _needs_both_sides, {"prefill": 0.15, "decode": 0.08, "mixed": 0.15}),
    ),
}
"""Laws by kind of history, in the order they are tried."""


@dataclass(frozen=True)
class Fitted:
    """A law that holds: its crossing, its value in each draw (NaN where it failed) and its interval."""

    rule: Rule
    crossing: laws.Crossing
    draws: Floats
    systematic: float
    ci: Interval

    @property
    def width(self) -> float:
        """Width of the interval as a share of the value."""
        return (self.ci[1] - self.ci[0]) / self.crossing.load


def attempt(rule: Rule, judged: Judged, slo: Slo, resamples: Integers) -> Fitted | None:
    """Return a law's answer, None where it does not hold.

    It does not hold where its needs are not met, where its crossing lies more than 15 % above the 99 %
    quantile of load, or where too few of the draws give a value within that reach.

    Parameters
    ----------
    rule, judged, slo
        The law, the rows it may use and the objective.
    resamples
        Row numbers of each draw over all rows of the table, shape (draws, rows).
    """
    if not rule.needs(judged):
        return None
    crossing = rule.crossing(judged, slo, np.arange(judged.kept.size))
    load = judged.rows.sustained[judged.kept & (judged.rows.sustained > 0)]
    if crossing is None or not load.size:
        return None
    reach = REACH * np.quantile(load, REACH_QUANTILE)
    if crossing.load > reach:
        return None
    found = [rule.crossing(judged, slo, rows) for rows in resamples]
    draws = np.array([one.load if one is not None and one.load <= reach else math.nan for one in found])
    if np.isfinite(draws).mean() < rule.draws_min:
        return None
    systematic = math.hypot(rule.systematic[judged.rows.role], judged.rows.mix_sd)
    low, high = log_interval(crossing.load, draws, systematic)
    gap_low, gap_high = _gap(rule.load(judged)[judged.kept], crossing.load)
    return Fitted(rule, crossing, draws, systematic, (min(low, gap_low), max(high, gap_high)))


def _gap(load: Floats, value: float) -> Interval:
    """Return the third load on either side of the value; the value itself on a side that has fewer."""
    below, above = np.sort(load[load <= value]), np.sort(load[load >= value])
    low = float(below[-GAP_ROWS]) if below.size >= GAP_ROWS else value
    high = float(above[GAP_ROWS - 1]) if above.size >= GAP_ROWS else value
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

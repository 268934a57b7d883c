"""Violation runs of a role: onset loads, recovery rows, and the bracket between clean and violating loads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from hs_analysis.derive.laws import violating
from hs_analysis.derive.load import BACKLOG_S, RoleRows
from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.episodes import Run, episodes, runs_until_clean

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# All constants below: defaults of this project, measured on simulated services whose capacity is known.

CLEAN_ROWS = 5
"""Clean rows that end a violation run."""

ONSET_ROWS = 2
"""First rows of a run: they carry the load that broke the limit."""

RECOVERY_LOAD_SHARE = 0.9
"""Later rows of a run below this share of the onset load recover from old backlog and say nothing of
capacity."""

EPISODE_GAP_S = 600.0
"""Violating windows further apart than this are separate episodes [s]."""

ONSET_VIOLATING_SHARE = 0.05
"""An onset counts if at least this share of the rows at its load or more violate [ratio]."""

BRACKET_VIOLATING_MIN = 3
"""Fewest violating rows at an onset's load or more: at light loads a window breaks the limit by chance now
and then, and one or two of them at the top of an autoscaled history's narrow loads are already 5 % of the
rows there. With fewer, autoscaled histories gave capacities 16 to 24 % under the truth."""

SHOWN_LEVEL = 0.05
"""Chance of taking a load for one that holds although just more windows violate there than may [ratio]: one
in 20, as the intervals have it."""

BRACKET_CLEAN_MIN = 60
"""Fewest clean rows of a bracket."""

BRACKET_CLEAN_LOW, BRACKET_CLEAN_HIGH = 10, 3
"""Ranks of the clean loads, from the highest, that set the lower and the upper end of a bracket."""


@dataclass(frozen=True)
class Judged:
    """The judged rows of a role under one SLO.

    Attributes
    ----------
    rows
        The role's rows.
    bad, held
        Rows over the limit by its lower edge, and rows within it, shape (rows,).
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
        """Share over the lower edge of the kept rows."""
        return self.rows.over_low[self.kept]


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


def judge(rows: RoleRows, slo: Slo, *, drop_recovery: bool) -> Judged:
    """Return which rows violate, held and may enter a fit.

    A run of violations lasts until five rows are clean and the role's backlog is under 1 s. Its rows after
    the second are dropped where they carry less than 0.9 of the onset load (the larger load of its first
    two rows): what they violate is old backlog. Only with `drop_recovery`, in production.

    A pressure test has few windows, and one that fills or drains the pool (a burst shorter than the window,
    the end of a step) violates under another load than its own. Such windows are dropped up to the highest
    load that was clean and steady; above it they can only be evidence.
    """
    judged = rows.judged
    bad = violating(rows.over_low, slo) & judged
    held = ~bad & judged
    calm = ~(rows.backlog_s >= BACKLOG_S)
    spans = runs_until_clean(bad, held, calm, CLEAN_ROWS, rows.group)
    onsets = np.array([_onset(rows.load, span) for span in spans])
    kept = judged.copy()
    if drop_recovery:
        for (start, stop), onset in zip(spans, onsets, strict=True):
            later = slice(start + ONSET_ROWS, stop)
            kept[later] &= ~(rows.load[later] < RECOVERY_LOAD_SHARE * onset)
    if rows.kind == "pressure_test":
        clean = rows.load[held & rows.steady]
        kept &= rows.steady | (rows.load > (clean.max() if clean.size else np.inf))
    gap = EPISODE_GAP_S / rows.window_s
    separate = episodes(bad & kept, gap, rows.group)
    return Judged(rows, bad, held, kept, onsets, int((bad & kept).sum()), len(separate))


def _onset(load: Floats, span: Run) -> float:
    first = load[span[0] : min(span[0] + ONSET_ROWS, span[1])]
    return float(np.fmax.reduce(first))


def counted_onsets(judged: Judged) -> Floats:
    """Return the onset loads at or above which at least 3 and 5 % of the kept rows violate, ascending."""
    load, bad = judged.load, judged.bad[judged.kept]
    counted = [onset for onset in judged.onsets if _counts(bad[load >= onset])]
    return np.sort(np.array(counted, dtype=float))


def _counts(bad_above: Mask) -> bool:
    enough = int(bad_above.sum()) >= BRACKET_VIOLATING_MIN
    return enough and bool(bad_above.mean() >= ONSET_VIOLATING_SHARE)


def doubtful_load(judged: Judged, slo: Slo) -> float | None:
    """Return the lowest mean load at which violations began and nothing shows that the SLO holds, else None.

    A load is shown to hold where so few of the n kept windows at it or more violate as would be unlikely if
    the allowed share ε did: P(X ≤ k) ≤ 5 %, X ~ Binomial(n, ε), which takes 93 windows for k = 1 at ε = 5 %
    (Clopper & Pearson 1934, one side). A chance violation at a light load has many quiet windows above it; a
    single one among the highest loads has few: it is no capacity, but may be the limit. Windows count as
    independent.
    """
    load, bad = judged.load, judged.bad[judged.kept]
    doubtful = [onset for onset in judged.onsets if onset > 0 and not _shown_to_hold(bad[load >= onset], slo)]
    return mean_share(judged, slo) * float(min(doubtful)) if doubtful else None


def _shown_to_hold(bad_above: Mask, slo: Slo) -> bool:
    chance = binom.cdf(int(bad_above.sum()), bad_above.size, slo.allowed_window_share)
    return bool(chance <= SHOWN_LEVEL)


def mean_share(judged: Judged, slo: Slo) -> float:
    """Return the mean load under which the allowed share of windows gets more than a load, ÷ that load.

    exp(Φ⁻¹(allowed) · sd), sd that of ln load of single windows at the highest loads: a capacity speaks of a
    mean load, and onsets and clean loads are what came by chance.
    """
    load, noise = judged.load, judged.rows.count_noise
    if not noise > 0.0 or not load.size or not load.max() > 0.0:
        return 1.0
    return min(1.0, math.exp(float(norm.ppf(slo.allowed_window_share)) * math.sqrt(noise / load.max())))


def bracket(judged: Judged, slo: Slo) -> Bracket | None:
    """Return the bracket of the capacity, a mean load, between clean loads and onset loads of single windows.

    Low end: the smaller of the lowest onset and the 10th-highest clean load; high end: the larger of the
    lowest onset and the 3rd-highest clean load. None under 60 clean rows, or when no onset counts.
    """
    onsets = counted_onsets(judged)
    clean = np.sort(judged.rows.load[judged.held & judged.kept])[::-1]
    if clean.size < BRACKET_CLEAN_MIN or onsets.size == 0:
        return None
    low = min(float(onsets[0]), float(clean[BRACKET_CLEAN_LOW - 1]))
    high = max(float(onsets[0]), float(clean[BRACKET_CLEAN_HIGH - 1]))
    share = mean_share(judged, slo)
    return Bracket(share * low, share * high)

"""What policies did against the physics, and the lines they are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from end_to_end.recovery import Line
from scipy.stats import gamma

from hs_analysis.replay.calibrate import UNCLEAR, side_of
from hs_analysis.schema.settings import Slo

HOURS_OFF = 0.03
"""Goal for the error of replayed instance-hours of a run [ratio]."""

HEAD_ROOM = 0.01
"""The share of violating windows whose side a replay must get right, or say that it can't tell [ratio]."""

ALLOWED = Slo().allowed_window_share
"""The share of windows that the SLO of every history allows [ratio]."""

BREAKS_BY = 0.01
"""A policy breaks the SLO where it violates in this share of windows more than the recorded pools did."""

SAVES = 0.25
"""Goal for the share of all instance-hours saved against over-provisioned pools [ratio]."""

FLAT_ACTIONS = 0.2
"""Goal for the actions of a pool in a day while the load stands still."""

RESAMPLES = 2000
"""Sets of runs drawn anew for the interval of the hours saved."""


@dataclass(frozen=True)
class Foretold:
    """A replay and the physics under one policy on one demand; hours in instance-hours, shares of windows."""

    kind: str
    seed: int
    skipped: str = ""
    statuses: str = ""
    between: tuple[float, float] | None = None
    replayed_hours: float = math.nan
    true_hours: float = math.nan
    replayed_share: float = math.nan
    true_share: float = math.nan
    ttft_share: float = math.nan
    tbt_share: float = math.nan
    replayed_actions: float = math.nan
    true_actions: float = math.nan

    @property
    def hours_off(self) -> float:
        """Replayed ÷ true hours − 1."""
        return self.replayed_hours / self.true_hours - 1.0

    def side(self, mark: float) -> str:
        """Return the side of a share that the replay claims: under, over or unclear."""
        return UNCLEAR if self.between is None else side_of(self.between, mark)

    def right(self, mark: float) -> bool:
        """Whether the physics was on the side that the replay claims."""
        return self.side(mark) == ("over" if self.true_share > mark else "under")


@dataclass(frozen=True)
class Fresh:
    """A policy from an over-provisioned history on another day of the same service."""

    kind: str
    seed: int
    skipped: str = ""
    statuses: str = ""
    recorded_hours: float = math.nan
    hours: float = math.nan
    recorded_share: float = math.nan
    share: float = math.nan
    ttft_share: float = math.nan
    tbt_share: float = math.nan
    cause: str = ""
    flat_actions: int = 0
    flat_pool_days: float = 0.0

    @property
    def saved(self) -> float:
        """Share of the recorded instance-hours that were not needed."""
        return 1.0 - self.hours / self.recorded_hours

    @property
    def broken(self) -> bool:
        """Whether it broke the SLO where the recorded pools did not."""
        return self.share - self.recorded_share > BREAKS_BY


def foretold_table(rows: Sequence[dict[str, Any]]) -> tuple[list[Line], list[str]]:
    """Return the lines that a replay is judged by, and a sentence per run."""
    runs = [Foretold(**row) for row in rows]
    ran = [run for run in runs if not run.skipped]
    near = sum(abs(run.hours_off) <= HOURS_OFF for run in ran)
    lines = [
        Line("replayed instance-hours within 3 % of the physics", near, len(ran), 0.95),
    ]
    for mark in (HEAD_ROOM, ALLOWED):
        claimed = [run for run in ran if run.side(mark) != UNCLEAR]
        title = f"violation share on the side of {mark:.0%} that is claimed"
        lines.append(Line(title, sum(run.right(mark) for run in claimed), len(claimed), 0.95))
    return lines, [_foretold_text(run) for run in runs]


def _foretold_text(run: Foretold) -> str:
    if run.skipped:
        return f"{run.kind}-{run.seed}: not judged, {run.skipped}"
    return (
        f"{run.kind}-{run.seed} ({run.statuses}): hours {run.replayed_hours:.1f}, true {run.true_hours:.1f} "
        f"({run.hours_off:+.1%}); violating {run.replayed_share:.2%}, true {run.true_share:.2%} "
        f"(ttft {run.ttft_share:.2%}, tbt {run.tbt_share:.2%}); actions a day {run.replayed_actions:.0f}, "
        f"true {run.true_actions:.0f}; side of {HEAD_ROOM:.0%} {run.side(HEAD_ROOM)}, "
        f"of {ALLOWED:.0%} {run.side(ALLOWED)}"
    )


@dataclass(frozen=True)
class Spent:
    """What policies spent over all runs.

    Attributes
    ----------
    saved, saved_between
        Share of all recorded instance-hours saved, and its 95 % interval over runs drawn anew.
    saved_per_run
        Mean of the runs' shares.
    flat_actions, flat_between
        Actions of a pool in a day while the load stood still, and their exact 95 % interval, actions taken
        as independent (Garwood 1936).
    """

    saved: float
    saved_between: tuple[float, float]
    saved_per_run: float
    flat_actions: float
    flat_between: tuple[float, float]

    def text(self) -> str:
        """Return it as printed."""
        saved_low, saved_high = self.saved_between
        low, high = self.flat_between
        return (
            f"{self.saved:.1%} [{saved_low:.1%}, {saved_high:.1%}] of instance-hours saved on a fresh day "
            f"({self.saved_per_run:.1%} a run), {self.flat_actions:.2f} [{low:.2f}, {high:.2f}] actions a "
            "pool and day at flat load"
        )


def fresh_table(rows: Sequence[dict[str, Any]]) -> tuple[list[Line], list[str], Spent]:
    """Return the lines that the floor rule is judged by, a sentence per run, and what was spent."""
    runs = [Fresh(**row) for row in rows]
    ran = [run for run in runs if not run.skipped]
    broken = sum(run.broken for run in ran)
    lines = [
        Line("policies that broke the SLO on a fresh day", broken, len(ran), 0.02, least=False),
        Line("over-provisioned histories that got a policy", len(ran), len(runs), 0.9),
    ]
    return lines, [_fresh_text(run) for run in runs], _spent(ran)


def _spent(ran: Sequence[Fresh]) -> Spent:
    if not ran:
        nothing = math.nan, math.nan
        return Spent(math.nan, nothing, math.nan, math.nan, nothing)
    hours, recorded = (np.array([getattr(run, name) for run in ran]) for name in ("hours", "recorded_hours"))
    drawn = np.random.default_rng(0).integers(len(ran), size=(RESAMPLES, len(ran)))
    low, high = np.quantile(1.0 - hours[drawn].sum(axis=1) / recorded[drawn].sum(axis=1), (0.025, 0.975))
    actions, days = (sum(getattr(run, name) for run in ran) for name in ("flat_actions", "flat_pool_days"))
    return Spent(
        float(1.0 - hours.sum() / recorded.sum()),
        (float(low), float(high)),
        float(np.mean([run.saved for run in ran])),
        actions / days if days else math.nan,
        rate_interval(actions, days),
    )


def rate_interval(events: int, exposure: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a rate of independent events (Garwood 1936)."""
    if not exposure:
        return math.nan, math.nan
    low = float(gamma.ppf(0.025, events)) if events else 0.0
    return low / exposure, float(gamma.ppf(0.975, events + 1)) / exposure


def _fresh_text(run: Fresh) -> str:
    if run.skipped:
        return f"{run.kind}-{run.seed}: not judged, {run.skipped}"
    verdict = f"BROKEN: {run.cause}" if run.broken else "held"
    return (
        f"{run.kind}-{run.seed} ({run.statuses}): saved {run.saved:.1%} of {run.recorded_hours:.0f} hours; "
        f"violating {run.share:.2%} (ttft {run.ttft_share:.2%}, tbt {run.tbt_share:.2%}), "
        f"recorded {run.recorded_share:.2%}; {verdict}"
    )

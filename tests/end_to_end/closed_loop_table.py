"""What policies did against the physics, and the lines they are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from end_to_end.recovery import Line

HOURS_OFF = 0.03
"""Goal for the error of replayed instance-hours of a run [ratio]."""

HEAD_ROOM = 0.01
"""The share of violating windows whose side a replay must get right [ratio]."""

BREAKS_BY = 0.01
"""A policy breaks the SLO where it violates in this share of windows more than the recorded pools did."""

SAVES = 0.25
"""Goal for instance-hours saved against over-provisioned pools [ratio]."""


@dataclass(frozen=True)
class Foretold:
    """A replay and the physics under one policy on one demand; hours in instance-hours, shares of windows."""

    kind: str
    seed: int
    skipped: str = ""
    statuses: str = ""
    calibrated: bool = False
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
    sides = [run for run in ran if run.calibrated]
    right = sum((run.replayed_share > HEAD_ROOM) == (run.true_share > HEAD_ROOM) for run in sides)
    lines = [
        Line("replayed instance-hours within 3 % of the physics", near, len(ran), 0.95),
        Line("violation share on the right side of 1 % (calibrated)", right, len(sides), 0.95),
    ]
    return lines, [_foretold_text(run) for run in runs]


def _foretold_text(run: Foretold) -> str:
    if run.skipped:
        return f"{run.kind}-{run.seed}: not judged, {run.skipped}"
    return (
        f"{run.kind}-{run.seed} ({run.statuses}): hours {run.replayed_hours:.1f}, true {run.true_hours:.1f} "
        f"({run.hours_off:+.1%}); violating {run.replayed_share:.2%}, true {run.true_share:.2%} "
        f"(ttft {run.ttft_share:.2%}, tbt {run.tbt_share:.2%}); actions a day {run.replayed_actions:.0f}, "
        f"true {run.true_actions:.0f}{'' if run.calibrated else '; said not to be calibrated'}"
    )


def fresh_table(rows: Sequence[dict[str, Any]]) -> tuple[list[Line], list[str], float]:
    """Return the lines that the floor rule is judged by, a sentence per run, and the mean saving."""
    runs = [Fresh(**row) for row in rows]
    ran = [run for run in runs if not run.skipped]
    broken = sum(run.broken for run in ran)
    lines = [
        Line("policies that broke the SLO on a fresh day", broken, len(ran), 0.02, least=False),
        Line("over-provisioned histories that got a policy", len(ran), len(runs), 0.9),
    ]
    saved = float(np.mean([run.saved for run in ran])) if ran else math.nan
    return lines, [_fresh_text(run) for run in runs], saved


def _fresh_text(run: Fresh) -> str:
    if run.skipped:
        return f"{run.kind}-{run.seed}: not judged, {run.skipped}"
    verdict = f"BROKEN: {run.cause}" if run.broken else "held"
    return (
        f"{run.kind}-{run.seed} ({run.statuses}): saved {run.saved:.1%} of {run.recorded_hours:.0f} hours; "
        f"violating {run.share:.2%} (ttft {run.ttft_share:.2%}, tbt {run.tbt_share:.2%}), "
        f"recorded {run.recorded_share:.2%}; {verdict}"
    )

"""What replays foretold of policies against the physics, and the lines they are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from end_to_end.recovery import Line

from hs_analysis.replay.calibrate import UNCLEAR, side_of
from hs_analysis.schema.settings import Slo

HOURS_OFF = 0.03
"""Goal for the error of replayed instance-hours of a run [ratio]."""

HEAD_ROOM = 0.01
"""The share of violating windows whose side a replay must get right, or say that it can't tell [ratio]."""

ALLOWED = Slo().allowed_window_share
"""The share of windows that the SLO of every history allows [ratio]."""


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

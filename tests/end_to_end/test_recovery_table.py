"""The table that whole runs are judged by says shown, open or missed as its intervals do."""

from __future__ import annotations

import pytest
from end_to_end.recovery import Line, interval


@pytest.mark.parametrize(
    ("hits", "trials", "goal", "least", "standing"),
    [
        (1000, 1000, 0.95, True, "shown"),
        (19, 20, 0.95, True, "open"),
        (10, 20, 0.95, True, "missed"),
        (0, 0, 0.95, True, "open"),
        (0, 1000, 0.02, False, "shown"),
        (0, 10, 0.02, False, "open"),
        (5, 10, 0.02, False, "missed"),
        (1, 10, 0.0, False, "missed"),
        (0, 10, 0.0, False, "open"),
    ],
)
def test_a_goal_is_shown_open_or_missed(
    hits: int, trials: int, goal: float, least: bool, standing: str
) -> None:
    """Only an interval wholly on one side of the goal decides."""
    assert Line("x", hits, trials, goal, least).standing == standing


def test_the_interval_of_a_share_is_exact() -> None:
    """Clopper-Pearson for 0 of 10 ends at 1 − 0.025^(1/10)."""
    assert interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))

"""What limits of the user's own cost, as one line."""

from __future__ import annotations

from hs_analysis.report.decision_words import limit_line

LIMITS = {
    "pools": [
        {"role": "decode", "windows": 30, "first": "2026-01-01T17:00:00Z", "last": "2026-01-01T17:30:00Z"}
    ],
    "zone": "Europe/Berlin",
    "slo_violation_ratio": 0.04,
    "slo_violation_ratio_without": 0.01,
    "instance_hours": 90.0,
    "instance_hours_without": 100.0,
}


def test_line_names_pool_hours_of_the_zone_and_both_figures() -> None:
    """A share that is not known is left out."""
    assert limit_line(LIMITS) == (
        "your limits hold decode in 30 windows (2026-01-01 18:00 to 2026-01-01 18:30 Europe/Berlin) below "
        "what the controller wants: 4.0 % of windows over the SLO, 1.0 % without them; 90.0 instance-hours, "
        "100 without them"
    )
    assert "SLO" not in limit_line(LIMITS | {"slo_violation_ratio": None})

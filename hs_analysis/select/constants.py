"""Settings of controllers that selection tries: every combination is a candidate."""

from __future__ import annotations

READINGS_S = (60.0, 90.0, 120.0)
"""Range of the query that a controller follows: a minute is fresh, two are calmer [s]. Measured on simulated
services."""

WAYS_IN = ((300.0, 0.9), (600.0, 0.9), (300.0, 0.8))
"""Time of which the highest reading has to ask for fewer instances, and wanted ÷ current below which it does
[s, ratio]. Measured on simulated services at flat load and under a day's load."""

WAYS_OUT = (1.05, 1.1)
"""Wanted ÷ current above which instances come; 1.1 is the tolerance of an HPA [ratio]. Measured on simulated
services."""

"""Settings of controllers that selection tries: every combination is a candidate."""

from __future__ import annotations

READINGS = (1.0, 2.0)
"""Range of the query that a controller follows, as a multiple of the shortest that the scrapes of a service
allow [ratio]: the shortest is fresh, twice as long is calmer. Measured on simulated services."""

SUSTAINED = (300.0, 600.0)
"""Time of which the highest reading has to ask for fewer instances before they go [s]. The first is
Kubernetes' own; both measured on simulated services at flat load and under a day's load."""

OUT_RATIOS, IN_RATIO = (1.05, 1.1), 0.9
"""Wanted ÷ current above which instances come, and below which they go [ratio]; 1.1 and 0.9 are the tolerance
of an HPA. Measured on simulated services."""

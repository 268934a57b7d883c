"""Settings of controllers that selection tries, and what bears and wins among them."""

from __future__ import annotations

# Every combination is a candidate.

READINGS = (1.0, 2.0, 3.0)
"""Range of the query that a controller follows, as a multiple of the shortest that the scrapes of a service
allow: the shortest is fresh, a longer one calmer. The calmest is tried with the shortest in its place while
the load grows: while the fresh mean is above the calm one by the tolerance of an HPA, the last of
`OUT_RATIOS` [ratio]. Measured on simulated services."""

SUSTAINED = (240.0, 300.0, 600.0)
"""Time of which the highest reading has to ask for fewer instances before they go; the second is Kubernetes'
own. The shortest is tried with the calmest reading, the longest with the others [s]. Measured on simulated
services at flat load and under a day's load."""

OUT_RATIOS = (1.05, 1.1)
"""Wanted ÷ current above which instances come; 1.1 is the tolerance of an HPA [ratio]. Measured on simulated
services."""

IN_RATIO = 0.9
"""Wanted ÷ current below which instances go: the tolerance of an HPA [ratio]. Measured on simulated
services."""

# What bears and what wins.

FLAT_ACTIONS_MAX = 0.3
"""Actions that noise alone may cause at flat load, one of those that are watched; or so many as those of a
default HPA [1/day and pool]. Default of this project."""

SAME_RISK = 0.05
"""By how much violating windows of two candidates, undisturbed, under faults and under bursts together, may
differ and still count as equal: then the one of fewer actions is taken [ratio]. Default of this project."""

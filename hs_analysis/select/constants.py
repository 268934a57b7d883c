"""Settings of controllers that selection tries, and what bears and wins among them."""

from __future__ import annotations

# Every combination is a candidate.

READINGS = (1.0, 2.0)
"""Range of the query that a controller follows, as a multiple of the shortest that the scrapes of a service
allow [ratio]: the shortest is fresh, twice as long is calmer. Measured on simulated services."""

SUSTAINED = (300.0, 600.0)
"""Time of which the highest reading has to ask for fewer instances before they go [s]. The first is
Kubernetes' own; both measured on simulated services at flat load and under a day's load."""

OUT_RATIOS, IN_RATIO = (1.05, 1.1), 0.9
"""Wanted ÷ current above which instances come, and below which they go [ratio]; 1.1 and 0.9 are the tolerance
of an HPA. Measured on simulated services."""

# What bears and what wins.

FLAT_ACTIONS_MAX = 0.3
"""Actions that noise alone may cause at flat load, or as many as those of a default HPA [1/day and pool].
Default of this project."""

SAME_FLAT_ACTIONS = 0.6
"""Actions at flat load that differ by no more count as as many [1/day and pool]: two of those watched in 3.3
days of a pool. Default of this project."""

SAME_RISK = 0.05
"""By how much violating windows of two candidates, undisturbed, under faults and under bursts together, may
differ and count as as many: then the one of fewer actions is taken [ratio]. Default of this project."""

SAME_MODELLED_HOURS = 0.06
"""The same where a policy follows other signals than counted tokens: replayed hours of six such policies
were 0.2 to 7.1 % off, those of 27 that follow counted tokens under 1.5 % but for one of 4.3 % [ratio].
Measured on simulated services."""

"""Numbers of the policy and of its selection that tune an answer."""

from __future__ import annotations

# Where the data gave no number; the policy marks each with "default".

SCALE_OUT_RATIO = 1.10
"""Wanted ÷ current from which instances are added where the noise of the signal is unknown [ratio]. Default
of this project."""

SCALE_IN_RATIO = 0.80
"""Wanted ÷ current from which instances are removed there [ratio]. Default of this project."""

OBSERVE_WINDOWS = 2
"""SLO windows that soft scale-in watches [windows]. Default of this project."""

LEAST_INSTANCES = 2
"""Lower bound of a pool that had more than one [instances]. Default of this project."""

MAX_OVER_OBSERVED = 2
"""Upper bound ÷ most instances ever seen [ratio]. Default of this project."""

DEFAULT_TIERS = ((1.0, 0.10), (1.2, 0.20))
"""Tiers of a guard whose noise is unknown: its limit, and the share of instances added [× limit, ratio].
From HeteroScale (arXiv:2508.19559), as its readers give them."""

UPPER_TIER_RANGE = (1.05, 2.0)
"""Where the upper tier lies at least and at most: no closer than the narrowest dead band, and twice the
limit is a shortage whatever the noise [× limit]. Default of this project."""

WITHIN_S = 120.0
"""Time in which requests that wait should be gone, where they count as work [s]. Measured on simulated
services: bursts break the SLO in 26 % of windows for 39 % without; 60 s, 23 %, cost 0.2 % more hours."""

# Where the answer is yes, no or not yet.

WHOLE_WEEK_SHARE = 0.99
"""Share of seven days that counts as all of them: the last scrapes of an export are often cut [ratio].
Default of this project."""

# Selection, and how a replay is judged.

SAME_SHARE_POINTS = 0.01
"""Shares of violating windows that differ by no more are as good as each other: a policy against what ran, a
prediction against what was observed [ratio of windows]. Measured on simulated services."""

SAME_HOURS = 0.002
"""Hours of two candidates closer than this are the same: then the safer one is taken [ratio]. Default of this
project."""

SAME_MODELLED_HOURS = 0.06
"""The same where a policy follows other signals than counted tokens: replayed hours of six such policies
were 0.2 to 7.1 % off, those of 27 that follow counted tokens under 1.5 % but for one of 4.3 % [ratio].
Measured on simulated services."""

FEWER = (0.01, 0.0005)
"""Hours saved, or share of windows less over the SLO, that make a moving P/D ratio worth a sentence [ratio].
Default of this project."""

# What scale-in costs.

LONGEST_SHARE = 0.999
"""Share of requests that end within what counts as the longest of them [ratio]. Default of this project."""

GRACE_STEP_S = 30.0
"""Step in which a grace period is proposed [s]. Default of this project."""

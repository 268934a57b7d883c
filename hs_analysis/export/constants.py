"""Numbers of the exported alerts that tune when one fires."""

from __future__ import annotations

SLO_FOR_S = 300.0
"""How long the share of requests over a limit is above the allowed one before it is an alert: as long as a
violation is judged over [s]. Measured on simulated services."""

DRIFT_FOR_S = 900.0
"""How long an SLO is broken below the target before the target is doubted: a start-up of instances and a peak
pass earlier [s]. Measured on simulated services: 0 of 40,320 minutes of the histories that 28 targets came
from; with prefill 1.3 times slower 10 to 268 of 1,440 where an edge lies at the limit, 0 where none does."""

DRIFT_MARGIN = 0.98
"""Load below which a target is called drifted ÷ the lowest at which the history itself broke the SLO: a rate
recorded by Prometheus and that of the study's windows differ by up to 1 % in 99 of 100 [ratio]. Measured on
simulated services."""

RATIO_FOR_S = 600.0
"""How long the pools are out of proportion before it is an alert, where the start-up time is not known: a
start-up and a sustained load pass earlier [s]. Default of this project."""

MISSING_FOR_S = 300.0
"""How long a signal is missing before it is an alert: a restart of the server or of its target passes earlier
[s]. Default of this project."""

LENGTHS_OVER_S = 3600.0
"""Time over which the tokens of a request are averaged, for the history's blocks and for the alert [s].
Default of this project."""

LENGTHS_FOR_S = 3600.0
"""How long that mean is out of the history's range before it is an alert [s]. Default of this project."""

LENGTHS_REQUESTS = 400
"""Fewest requests in that time: fewer have a mean that chance moves [requests]. Measured on simulated
services."""

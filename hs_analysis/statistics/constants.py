"""Numbers of the statistics that tune an answer."""

from __future__ import annotations

OPERATING_SHARE = 0.2
"""Share of the demand from which a pool operates; below it a pool idles [ratio]. Measured on simulated
services."""

STEADY_SHARE = 0.2
"""Departures of a steady window are within this share of its arrivals [ratio]. Measured on captures of real
serving components."""

STEADY_SIGMAS = 2.0
"""Departures of a steady window are within this many square roots of its arrivals, where that is wider [1].
Default of this project."""

TOP_SHARE = 0.1
"""Share of rows at the highest load that are the peak, and at the lowest that are the dip [ratio]. Default
of this project."""

DIFFERENCES_MIN = 5
"""Fewest second differences that noise is read from [values]. Default of this project."""

STEP_SD = 3.0
"""Difference of two neighbouring rows that chance does not explain: by chance once in 370 pairs [sd].
Default of this project."""

SIZE_LOSS = 0.55
"""Γ of prefill pools: a pool of n carries 1 − γ ÷ n of a large one's load per instance under a TTFT limit;
capacities ÷ that of 20 instances were 0.74, 0.84, 0.89, 0.94 and 0.96 on average at 2, 3, 4, 6 and 8, where
the law gives 0.75, 0.84, 0.89, 0.93 and 0.96 [1]. Measured on twelve simulated services, TTFT limit 7 to 14
service times, at 1 to 20 instances."""

QUIET_LAGS = 5
"""Lags in a row whose correlation must be small before a series has forgotten [lags]. From Politis & White
(2004)."""

QUIET_BAND = 2.0
"""Width of the band of small correlations in units of sqrt(log10 n / n) [1]. From Politis & White (2004)."""

EFFECTIVE_MIN = 3.0
"""Smallest effective sample size reported: below it a correlation has no degrees of freedom [values].
Default of this project."""

PREWHITENING_ORDER = 6
"""Order of the fit behind links and lags [1]. Measured on simulated services."""

ORDER_MAX = 10
"""Largest order that the information criterion may choose [1]. Default of this project."""

ALL_OR_NONE = 1e-9
"""Distance from 0 and 1 within which a share is that of no or of all samples: it is a quotient of counts
[ratio]. Default of this project."""

NARROW_SIGMA = 0.25
"""Standard deviation of ln latency between two histogram edges up to which the mean is a point of its curve
[1]. Measured on recorded captures: with the mean the error of shares over TBT limits halved, and over TTFT
limits, of wider latencies, it grew by a quarter."""

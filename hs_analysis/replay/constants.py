"""Numbers of the replay that tune an answer: model of the fleet, its calibration, drivers and faults."""

from __future__ import annotations

SETTLING_S = 3600.0
"""Time in which a fleet comes to what its rule wants: longer than cooldowns and start-up together; history
that first rows are read with, start of a capture that is left out, length of a fault [s]. Default of this
project."""

# Fleet and signals.

SLOPE_RANGE = (5.0, 500.0)
"""A fitted slope of the violation law outside these says more about its sample than about the pool; it is
held inside [1]. Default of this project."""

CEILING_OVER_CAPACITY = 1.1
"""Most that a pool serves ÷ its capacity, where history shows no higher rate [ratio]. Default of this
project."""

NEAR_CAPACITY = 0.85
"""Share of capacity from which a row says how large the pool was whose limit was seen [ratio]. Default of
this project."""

CARRIED = 0.95
"""Share of a floor from which a row carried it [ratio]. Default of this project."""

CARRIED_COUNT_QUANTILE = 0.1
"""Quantile of the counts of such rows that is known to carry it [ratio]. Default of this project."""

LOAD_BINS = 48
"""Bins of load in which the median of a signal is taken before the monotone fit [bins]. Default of this
project."""

CURVE_ROWS_MIN = 20
"""Fewest rows of a curve, and separate ranges' worth of windows of a quantile [rows]. Default of this
project."""

QUANTILE_LINK_MIN = 0.75
"""P(a quantile at the highest tenth of load > one at the calm half) from which it follows load: halfway
between no link and one without exception; 0.92 to 1 of the latencies that answer to the pool, 0.45 to 0.58
of one that does not [ratio]. Measured on two captures."""

CLEAR_WAIT_S = 10.0
"""Age of a backlog from which a wait tells itself from the noise of an estimated age [s]. Default of this
project."""

FULLEST = 0.95
"""Share of the load at which a batch grows without end, up to which its law is used [ratio]. Default of this
project."""

# Calibration and intervals.

MOST_FACTOR = 3.0
"""Factor by which predicted and observed shares of violating windows may differ [ratio]. Measured on
simulated services."""

SHARE_WIDTH = 0.06
"""How far the root of a replayed share of violating windows may lie from that of the share which the physics
has: 61 of 63 were within it, the largest was 0.073; roots, because shares of rare windows spread alike on
that scale (Anscombe 1948) [√ratio]. Measured on 63 closed loops of 25 simulated services whose replay was
calibrated, shares of 0 to 15 % of 14 to 19 hours."""

BLOCK_HOURS = 2
"""Hours that stay together when an interval is drawn: episodes over the limit last less; fewest hours are
four times as many; as long is a block of a day that has no part to hold back [h]. Default of this project."""

CALM_REACH = 1.1
"""Up to how many times its highest load a pool is trusted that kept its limits easily there [ratio]. Measured
on closed loops of simulated services: 17 exported policies went above it in 0 to 4 % of windows, 18 that
broke the SLO in 59 to 99 %. On two fresh histories with a known capacity, fixed targets of 0.85 to 1.6 times
that load: 7 of 18 good policies are taken for far above it, 12 without, 10 at 1.05, 4 at 1.2; of 2 bad ones
none is missed at any of these."""

ANOTHER_DAY_SD = 0.08
"""How far what a policy saves on one day lies from what it saves on another, standard deviation [ratio].
Measured on 13 closed loops of simulated services. On 57 others of two days, none of which set it, an interval
drawn from hours alone held a fresh day in 39, and widened by this in 53."""

# Signals as drivers.

NO_DIP = 0.90
"""Dip ÷ peak from which a load has no dip, and a fleet counts as staying near its peak [ratio]. Default of
this project."""

RESTLESS_PER_DAY = 24.0
"""Reversals above this, one an hour, are no answer to a daily load [1/day]. Default of this project."""

# Faults.

WATCHED = 2
"""How many of its lengths a fault is watched after its end [fault lengths]. Default of this project."""

STEEP = 0.5
"""Share of the steepest climb of an hour from which one is steep [ratio]. Default of this project."""

LOST_SHARE = 0.25
"""Share of a pool that is lost at once, at least one instance [ratio]. Default of this project."""

RATIO_SHARE = 0.5
"""Share of the prefill pool that is wrongly taken for good [ratio]. Default of this project."""

SKEW_S = 600.0
"""How far a wrong clock shifts what is read [s]. Default of this project."""

BURST_S = 600.0
"""How long a burst stays at twice the load [s]. Default of this project."""


# Tokens in flight.

CALM = 0.2
"""Part of the rows, those of the lowest load, in which TTFT spreads as prompts do [ratio]. Default of this
project."""

"""Numbers of the study that tune an answer."""

from __future__ import annotations

# Limits of the verdicts.

RANK_MIN = 0.65
"""Spearman below which a signal does not follow its load: what is left of a perfect relation over evenly
spread loads at a signal to noise of 3, 1 ÷ sqrt(1 + 12 ÷ snr²) [1]. Measured on simulated services, 3,200
unrelated signals under one clock, and independent pairs of public series."""

RANK_SIZING = 0.82
"""Spearman below which a signal orders loads too loosely to size a pool: the same at a signal to noise of 5
[1]. Measured on simulated services, 3,200 unrelated signals under one clock, and independent pairs of public
series."""

RANK_TEST_MIN = 0.85
"""The least Spearman in a pressure test: minutes, and no link to lean on [1]. Measured on simulated services
and captures with a known answer."""

PEAK_RANK_MIN = 0.95
"""Least chance that a latency or queue is higher at peak load than in calm [ratio]. Measured on simulated
services, 3,200 unrelated signals under one clock, and independent pairs of public series."""

HIGHPASS_RANK_MIN = 0.10
"""Least Spearman that is left without the slow mean [1]. Measured on simulated services, 3,200 unrelated
signals under one clock, and independent pairs of public series."""

LINK_MIN = 5.0
"""Innovation link below which a signal may share no more than a clock with its load: of 3,200 signals of
unrelated series under one clock, 10 to 48 h long, the largest reached 4.7, of 1,426 pairs of simulated
services 4.8 [1]. Measured on simulated services, 3,200 unrelated signals under one clock, and independent
pairs of public series."""

LINK_SWING = 1.7
"""How far chance may push a link down in one history of twenty: it is about normal with sd 1 [1]. Default of
this project."""

SNR_MIN = 3.0
"""Signal to noise below which noise hides the load [1]. Measured on simulated services, 3,200 unrelated
signals under one clock, and independent pairs of public series."""

SNR_SIZING = 5.0
"""Signal to noise below which a signal is too noisy to size a pool [1]. Measured on simulated services,
3,200 unrelated signals under one clock, and independent pairs of public series."""

SNR_RANKS = 2
"""Doublings of it above which more signal to noise helps nobody: 20 is noise of 5 % of the swing
[doublings]. Default of this project."""

FLAT = 0.10
"""Elasticity below which a signal is flat [1]. Measured on simulated services, 3,200 unrelated signals under
one clock, and independent pairs of public series."""

ELASTICITY_BAND = (0.70, 1.40)
"""Elasticities of a signal that moves in proportion to the load [1]. Measured on simulated services, 3,200
unrelated signals under one clock, and independent pairs of public series."""

DRIFT_MAX = 0.20
"""Largest shift of the relation to the load, relative to the elasticity: over hours, halves, weekdays,
rising and falling load, GPU types, runs; also of the tokens per request where requests replace tokens
[ratio]. Measured on simulated services, 3,200 unrelated signals under one clock, and independent pairs of
public series."""

LATENCY_DRIFT_MAX = 0.60
"""The same of a latency [ratio]. Measured on simulated services, 3,200 unrelated signals under one clock,
and independent pairs of public series."""

NONLINEAR = 0.15
"""|Spearman − Pearson| from which a latency or queue is said not to be linear [1]. Default of this
project."""

TURN_NEAR = {"elasticity_high": 0.10, "elasticity_low": 0.06, "flat": 0.03, "snr": 0.9, "snr_sizing": 1.0}
"""How near a limit an answer can turn over with the next history [unit of the number]. Measured on simulated
services."""

# Effects and their intervals.

ELASTICITY_BINS = 12
"""Equal-count load bins whose medians carry the slope [bins]. Default of this project."""

ELASTICITY_SYSTEMATIC_SD = 0.03
"""One standard deviation of the slope that no resampling sees: coverage of the 95 % interval is 0.79
without, 0.93 with it [1]. Measured on simulated services."""

ELASTICITY_FLOOR = 0.3
"""Smallest elasticity that drift is measured against, so that a flat signal cannot look unsteady by division
[1]. Default of this project."""

CURVED = 0.3
"""Difference of local slopes from which a relation is called bent [1]. Default of this project."""

REVERSE_GAP = 0.1
"""Difference of the slope and the inverse slope of load on signal from which both are printed [1]. Default
of this project."""

INDICATIVE_N = 8.0
"""Effective sample size below which an interval is only indicative [values]. Default of this project."""

DRIFT_BLOCK_S = 10800.0
"""Length of the blocks whose median residuals are compared [s]. Default of this project."""

DRIFT_BLOCK_ROWS = 6
"""Fewest rows of such a block [rows]. Default of this project."""

TREND_S = 7200.0
"""Time that separates trend from movement: mean taken away before the high-pass check, stretches compared
about a change, silence that ends a signal, gap between captures [s]. Default of this project."""

ROW_INTERVALS = 2.0
"""Effective scrape intervals of a signal that a row of the association holds at least; rows closer than that
repeat old values [intervals]. Default of this project."""

LAG_REACH_S = 900.0
"""Largest lag looked at [s]. Default of this project."""

LAG_PEAK = 3.0
"""Height of the peak from which a lag is reported [1/sqrt(n)]. Default of this project."""

LATE_S = 120.0
"""Lag from which a signal is called late [s]. Default of this project."""

SURROGATES = 9
"""Shifts over which the link to expect is taken [shifts]. Default of this project."""

WAITING_RANGE = (0.05, 0.95)
"""Shares of all that waited below whose loads, and above whose, the slope of a queue is not looked at: where
nothing waits there is no slope [ratio]. Default of this project."""

WAITING_ROWS_MIN = 5
"""Fewest rows with a queue in a bin whose mean carries a slope: with five, one resample in 150 has none of
them [rows]. Default of this project."""

# Pools that moved.

SIZE_STEP = 1.1
"""Pool sizes within this ratio count as one: up to nine instances each count is a size of its own [ratio].
Default of this project."""

SERVICE_QUANTILE = 0.02
"""Quantile of a latency that is service alone, with next to no wait [ratio]. Default of this project."""

SIZE_ROUNDS = 40
"""Most rounds in which the effect of the load and that of the pool's size are fitted in turns [rounds].
Default of this project."""

SIZE_SETTLED = 1e-3
"""Largest change of ln(effect of a size) from one round to the next at which both have settled [1]. Default
of this project."""

# Histories, their changes and their confounders.

POOL_MOVED_RATIO = 1.05
"""Range of the instance count from which a pool counts as moved [ratio]. Default of this project."""

CLOSED_LOOP_RANGE_MIN = 1.25
"""Smallest range of load per instance where an autoscaler held it still, and within instances [ratio].
Default of this project."""

PART_ROWS_MIN = 36
"""Fewest rows of a history that is scanned for changes, and of weekdays or weekend: three hours of five
minutes [rows]. Default of this project."""

JUMP_MIN = 8.0
"""Size of a jump against the usual difference of two stretches: a release had 13 to 34, in 29 histories
without one 6.3 was the most [1]. Measured on simulated services."""

SHIFT_MIN = 0.05
"""Smallest jump of ln(signal) that counts: 5 % is what a mix or a cache moves a relation by [1]. Default of
this project."""

TOGETHER_S = 2700.0
"""Jumps within this time are one change: pods are replaced one after another [s]. Default of this
project."""

SIGNALS_MIN = 2
"""Signals that must jump together: one alone may be its exporter's doing [signals]. Default of this
project."""

SAME_VALUE = 1e-3
"""Distance within which two values of a latency are one [ratio]. Default of this project."""

FINISH_MIN = 0.95
"""Rank correlation with finished work from which a counter moves on finish; counters that move with each
token reached 0.93 where requests last longer than a window [1]. Measured on simulated services."""

FINISH_LEAD = 0.05
"""How much that correlation must beat the one with started work [1]. Measured on simulated services."""

SLOPES_APART_SE = 4.0
"""Distance from which the slope within instances and that of the pool disagree: dozens of signals are looked
at, and hours of one day are not independent [standard errors]. Default of this project."""

INSTANCE_ROWS_MIN = 24
"""Fewest rows of an instance that counts: two hours of five minutes [rows]. Default of this project."""

BLOCKS_MIN = 6
"""Fewest independent blocks of a standard error [blocks]. Default of this project."""

# Pressure tests.

RESIDENCES = 3.0
"""Residence times of a decode request that a window should hold [residence times]. Default of this
project."""

WINDOWS_PREFERRED = 24
"""Windows that must remain for a wider window to be preferred [windows]. Default of this project."""

SIDE_MIN = 8
"""Fewest rising and fewest falling windows for a hysteresis [windows]. Default of this project."""

ONE_WAY = 0.8
"""|Spearman(load, time)| above which the ramp went one way [1]. Default of this project."""

STEP_LINK_MIN = 2.0
"""Sqrt(n) times the Spearman of window-to-window changes that a one-way ramp needs [1]. Default of this
project."""

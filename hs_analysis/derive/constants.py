"""Numbers of derive that tune an answer: demand, capacity, mix, targets, thresholds, ratio."""

from __future__ import annotations

# Rows and loads.

MIX_S = 1800.0
"""Centred mean of the tokens of a request: mixes move over hours, and a window holds few requests [s].
Default of this project."""

CARRY_OVER_ROWS = 3
"""Windows of a pressure test that hang together: a queue outlives the window that made it; also its
bootstrap block [windows]. Measured on simulated services and captures with a known answer."""

RESIDENCE_ROWS_MAX = 20
"""Most windows of a pressure test that the residence time of a decode request may span [windows]. Default of
this project."""

CENSORED_S = 120.0
"""Saturated stretches with at most this much between them are one; shorter ones are not listed [s]. Default
of this project."""

# Violations and episodes.

EVENTS_MIN = 10
"""Fewest violating windows, or limited ones, that tell one number: ten events for each number fitted
[windows]. From Peduzzi et al. (1996)."""

VIOLATING_MIN = 3
"""Fewest violating windows that met a limit; with fewer at an onset's load or more, autoscaled histories
gave capacities 16 to 24 % under the truth [windows]. Measured on simulated services."""

CLEAN_ROWS = 5
"""Clean rows that end a violation run [rows]. Measured on simulated services."""

ONSET_ROWS = 2
"""First rows of a run: they carry the load that broke the limit [rows]. Measured on simulated services."""

RECOVERY_LOAD_SHARE = 0.9
"""Later rows of a run below this share of the onset load recover from old backlog and say nothing of
capacity [ratio]. Measured on simulated services."""

EPISODE_GAP_S = 600.0
"""Violating windows further apart than this are separate episodes [s]. Measured on simulated services."""

ONSET_VIOLATING_SHARE = 0.05
"""An onset counts if at least this share of the rows at its load or more violate [ratio]. Measured on
simulated services."""

END_SHARE = 0.05
"""Share of rows with the lowest, or with the highest, loads that represent that end [ratio]. Measured on
simulated services and captures with a known answer."""

# Laws of capacity.

TAIL_QUANTILE = 0.02
"""Quantile of the load of violating rows where the logistic law's tail begins [ratio]. Measured on simulated
services."""

TAIL_MARGIN = 0.25
"""How far below that quantile the tail reaches, in ln load [1]. Measured on simulated services."""

LOGISTIC_REACH = 1.1
"""Largest crossing of the logistic law, as a share of the highest load seen [ratio]. Measured on simulated
services."""

QUANTILE_BIN_ROWS = 20
"""Fewest rows of a bin of the quantile law: below it a 95 % quantile is the maximum [rows]. Default of this
project."""

QUANTILE_BINS_MAX = 48
"""Most bins of the quantile law [bins]. Measured on simulated services."""

QUANTILE_RANGE = (0.002, 0.8)
"""Bins used by the quantile law: those whose quantile of the share lies between [ratio]. Measured on
simulated services."""

LOAD_SHARE_MIN = 0.6
"""Rows used by the quantile law: those above this share of the highest load [ratio]. Measured on simulated
services."""

PROBIT_WIDTH = 0.7
"""Standard deviation of the Gaussian weight about the crossing [probits]. Measured on simulated services."""

LEVEL_GROUPS = 20
"""Load groups of the monotone fit of a pressure test [groups]. Measured on simulated services and captures
with a known answer."""

REACH = 1.15
"""A capacity further than this above the highest load was never approached; how far above a floor the load
has to be taken to learn more [ratio]. Measured on simulated services and captures with a known answer."""

DRAWS_MIN = 0.8
"""Share of bootstrap draws in which a law must hold; with few episodes a majority, since one draw of blocks
in three leaves a single one out [ratio]. Measured on simulated services and captures with a known answer."""

SYSTEMATIC = 0.02
"""Standard deviation of ln capacity, or of ln speed, beyond resampling: production, logistic law, gauges
[1]. Measured on simulated services and captures with a known answer."""

SYSTEMATIC_FEW = 0.035
"""The same with few episodes, of the quantile law and of a bracket [1]. Measured on simulated services and
captures with a known answer."""

SYSTEMATIC_TEST = {"prefill": 0.15, "decode": 0.08, "mixed": 0.15}
"""The same of the load levels of a pressure test, per role [1]. Measured on simulated services and captures
with a known answer."""

WIDE = 0.30
"""Interval of a fit, as a share of the value, above which the bracket is tried, and its own limit there
[ratio]. Measured on simulated services and captures with a known answer."""

INDICATIVE = 0.5
"""Interval, as a share of the value, above which a capacity is called indicative [ratio]. Default of this
project."""

BRACKET_WIDTH = 0.15
"""Widest bracket that needs no fit next to it, as a share of its geometric mean [ratio]. Measured on
simulated services and captures with a known answer."""

BRACKET_LOW_RANK = 10
"""Rank of the clean load, from the highest, that sets the lower end of a bracket [rows]. Measured on
simulated services."""

REPEAT_BAND = 0.1
"""How far below and above an interval later windows are looked at, as a share of its end [ratio]. Default of
this project."""

# Mix of prefill and decode work.

STRETCH_PARTS = 6
"""Equal parts of an hour whose scatter tells the noise of its mix (10-minute means) [parts]. Default of this
project."""

TEST_STRETCHES = 18
"""Stretches that the longest capture of a pressure test is cut into; chosen between 12 and 24 [stretches].
Default of this project."""

STRETCH_COVERAGE = 0.3
"""Share of the rows of a stretch that must show both roles unsaturated [ratio]. Default of this project."""

ELASTICITY_SD = 0.2
"""Standard deviation of the elasticity of capacity in tokens per request that is left after the fit: 0.13
was seen, rounded up [1]. Measured on four histories whose mix moved."""

MOVER_SHARE = 0.25
"""Share of the movement of the mix that an input must explain to be named [ratio]. Default of this
project."""

# Targets and dead bands.

CALM_OVER_MAX = 0.002
"""Mean share of samples over the limit in the busiest rows up to which a history was calm [ratio]. Measured
on simulated services."""

KV_FULL_RATIO = 0.8
"""KV-cache usage from which a decode instance counts as full [ratio]. From the saturation detector of the
Gateway API Inference Extension (default ``kvCacheUtilThreshold``)."""

GROWTH_OVER = (0.0025, 0.02)
"""Share of windows in which the load may outgrow a target: by how much it may be over the windows that broke
the SLO as it ran, in each pool (in both half of the point that counts as worse), and its most, where the SLO
allows five in a hundred [ratio]. Measured on closed loops of simulated services."""

GROWTH_ROWS_MIN = 300
"""Fewest rows that a quantile of growth is read from: at the least share it is near the largest [rows].
Default of this project."""

BAND_MIN = (0.05, 0.20)
"""Narrowest dead band above 1 and below it: 0.27 actions a pool and day at flat load, 2.1 at 0.10 below
[ratio]. Measured on a third simulated physics (hsa help capacity)."""

# Ratio, splits and GPU types.

NEAR_BEST = 0.97
"""Splits within this share of the best split's throughput are named with it [ratio]. Default of this
project."""

APART_MIN = 1.1
"""Ratio of the largest to the smallest P/D among the recorded pairs from which they moved apart [ratio].
Default of this project."""

RATIO_SYSTEMATIC = 0.05
"""Standard deviation of ln ratio beyond resampling where it is read from counts of replicas: capacity per
instance grows with the pool, and a backlog that lasts is not a limit held [1]. Default of this project."""

INTEGER_TOTAL_MAX = 10
"""Up to this many instances the best split is named first and the continuous ratio only explains it: whole
numbers are then far apart [instances]. Measured on simulated services."""

STEP_GAIN = 12.0
"""Log likelihood that a change of the arrival rate has to gain to be a step [nats]. Default of this
project."""

STEP_RATIO = 1.15
"""Smallest ratio of the rates of two steps, and of two load levels [ratio]. Default of this project."""

LOADED_SHARE = 0.8
"""Last share of a step that is judged: before it a queue is still building [ratio]. Default of this
project."""

LENGTHS_WITHIN = 2.0
"""Factor within which a benchmark's lengths must lie of the service's mean request: speeds of types against
each other move less with the lengths than speeds do [ratio]. Default of this project."""

QUEUE_BINS_MAX = 40
"""Most bins of a curve of served work on requests held [bins]. Default of this project."""

QUEUE_BIN_ROWS = 6
"""Fewest rows of such a bin [rows]. Default of this project."""

OUTSIDE_MAX = 0.05
"""Share of requests outside a profile's grid above which it answers nothing for them [ratio]. Default of
this project."""

VERSION_S = 86400.0
"""History of a new version that is enough for most answers: of days that came near the limit nearly all gave
a decode target, and most a prefill target [s]. Measured on simulated services."""

"""What the compiled replay of many policies works on: arrays of one family on one capture.

Shapes: P policies, R pools, K primaries, G guards, T tiers of a guard, N rows. Places are −1 where there is
none, missing numbers NaN. Records instead of one array a field: handing an array from one compiled function
to another costs more than the rule itself, handing on a record costs nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hs_analysis.replay.demand import Floats, Mask

Records = NDArray[np.void]
Record = Any
"""One element of ``Records``; its fields are attributes in compiled code."""

RECORDED, SERVED, CURVE, QUEUE = range(4)
"""How a primary is read; see ``signals.SignalModel``."""


def _record(floats: str, places: str = "", flags: str = "") -> np.dtype[np.void]:
    kinds = ((floats, np.float64), (places, np.int64), (flags, np.bool_))
    return np.dtype([(name, kind) for names, kind in kinds for name in names.split()], align=True)


POOL = _record(
    "first start_up_s ceiling capacity slope reference guard_rest_s decode_wait", "", "known judged"
)
"""What is given of a pool: instances at the start, then as in ``fleet.PoolModel``; tokens/s per instance.

``guard_rest_s`` is the start-up time the policy waits for after a guard added; ``decode_wait`` what
its latency gains per second of age of decode's backlog, in another pool. ``known`` pools count for
strain, ``judged`` ones for violations.
"""

POOL_STATE = _record(
    "desired ready backlog last_out_s last_in_s draining draining_since_s alarm after arrived served "
    "age_s wait_s",
    "first_start last_start worst",
    "blind same calm",
)
"""What changes of a pool: the memory of the rule, the fluid, its worst guard (latency ÷ SLO, place), and how
it stands to the recorded pool (``alike.Alike``)."""

PRIMARY = _record("tokens_per_request", "pool reading reading_pool points", "total per_instance")
"""How a primary is read: its pool, kind and curve; ``total``: of the pool, else its mean."""

GUARD = _record("slo_s latency_s before_s own_wait decode_wait", "pool points")
"""A guard that has a curve, what it read last, and before the first row, and what it gains per second of age
of a backlog: of its own pool's, and of decode's where that is another one."""

NUMBERS = _record("dampening most_out most_in ratio deviation")
"""Numbers of a policy: step limits, prefill ÷ decode (NaN without one) and its tolerance."""

TARGET = _record("value total instances")
"""What a primary sizes by: its target (NaN unknown), the highest total seen and what that needs (∞ none)."""

POOL_NUMBERS = _record("above below way_back usual rest_out_s rest_in_s least most")
"""Numbers of a policy for a pool: band and the size it is for (0: any), cooldowns
(−∞ none; scale-in ∞ forbidden), bounds (±∞ none)."""


class Curves(NamedTuple):
    """Curves over load per ready instance, padded to one length: shape (curves, points)."""

    loads: Floats
    values: Floats


class Family(NamedTuple):
    """Policies that differ in numbers only."""

    numbers: Records  # NUMBERS (P,)
    pools: Records  # POOL_NUMBERS (P, R)
    targets: Records  # TARGET (P, K)


class Scene(NamedTuple):
    """What all policies of a family share on one capture."""

    t_s: Floats  # (N,)
    window_s: float
    gap: Mask  # (N,)
    scored: Mask  # (N,)
    offered: Floats  # (R, N) tokens/s
    pools: Records  # POOL (R,)
    log_odds: float
    prefill: int
    decode: int
    primaries: Records  # PRIMARY (K,)
    column: Floats  # (K, N) recorded; NaN where the fleet model can't say what would have been
    factor: Floats  # (K, N) signal ÷ work
    kept: Floats  # (K, N) reading ÷ model, NaN unknown
    before: Floats  # (K, B) read in the rows before the first
    ran: Floats  # (R, B) instances that ran then
    counts: Floats  # (R, N) instances that ran, NaN unknown
    waited: Mask  # (R, N) work waited, as recorded
    curves: Curves  # of primaries
    guards: Records  # GUARD (G,)
    guard_curves: Curves
    latency: Floats  # (G, N) recorded, NaN missing
    tier_above: Floats  # (G, T) ratio, infinite: no tier
    tier_add: Floats  # (G, T)
    observe_s: float  # NaN: removal is not observed
    follower: int  # pool that the only primary sizes through the ratio
    average_rows: int
    load_rows: int  # of the two means of ``demand.answering_load``
    recent_rows: int


class State(NamedTuple):
    """Scratch of one policy at a time; NaN in gaps, which nothing is written in."""

    pools: Records  # POOL_STATE (R,)
    start_at_s: Floats  # (R, N + 1) what is starting, in order of time
    start_count: Floats  # (R, N + 1)
    scraped: Floats  # (K, B + N)
    ready: Floats  # (R, B + N) mean of the row
    load: Floats  # (R, N) tokens/s per ready instance


class Figures(NamedTuple):
    """Sums over scored rows of all captures."""

    hours: Floats  # (P, R) instance-hours paid for
    strain: Floats  # (P, 2) sum of chances, rows that know one
    violation: Floats  # (P, 2)
    actions: Floats  # (P,)
    unserved: Floats  # (P,) tokens left at the end

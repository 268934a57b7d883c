"""Which load a signal is judged on, which rows may speak, and what is divided by the pool's size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.schema.aligned import REQUESTS, WEIGHED_REQUESTS, ServiceFrame, SignalInfo, column
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import COVERAGE_MIN, LOAD_RANGE_QUANTILES, TEST_BACKLOG_S
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.results import Reason
from hs_analysis.study.constants import POOL_MOVED_RATIO, TREND_S

PREFILL_LATENCIES = ("ttft", "queue_time", "prefill_time")
"""Service signals that answer to prefill work; every other service signal is judged on decode work."""

FIRST_TOKEN_SIGNALS = ("ttft", "prefill_tps", "prefill_tps_effective")
"""Counted at the first token, which decode emits: a shortage of either role distorts them."""


@dataclass(frozen=True)
class Pair:
    """A signal and the load it is judged on, window by window.

    Attributes
    ----------
    info
        What is known of the signal.
    load_role
        Role whose offered work is the load.
    load, value
        Shape (windows,); NaN where either is missing or the window is saturated.
    recorded
        Windows in which both were recorded, saturated or not, shape (windows,).
    per_instance
        Whether the load and pool totals were divided by the instances that reported.
    circular
        Whether the load is this very signal: a served rate judged on the served rate, or a count of requests
        where requests are all that is known of the load.
    """

    info: SignalInfo
    load_role: str
    load: Floats
    value: Floats
    recorded: Mask
    per_instance: bool
    circular: bool

    @property
    def name(self) -> str:
        """``signal@role``."""
        return column(self.info.signal, self.info.role)


def load_role(frame: ServiceFrame, info: SignalInfo) -> str:
    """Return the pool whose work drives a signal."""
    if info.role != "service":
        return info.role
    if frame.has("offered_tps", "mixed") and not frame.has("offered_tps", "decode"):
        return "mixed"
    return "prefill" if info.signal in PREFILL_LATENCIES else "decode"


def saturated(frame: ServiceFrame, info: SignalInfo, role: str) -> Mask:
    """Return the windows in which a shortage hides what a signal would say, shape (windows,)."""
    pools = POOL_ROLES if info.signal in FIRST_TOKEN_SIGNALS else (role,)
    flags = np.zeros(frame.table.height, dtype=bool)
    for pool in pools:
        flags |= frame.values("saturated", pool) > 0.5
        if frame.kind == "pressure_test":
            flags |= frame.values("backlog_age_s", pool) > TEST_BACKLOG_S
    return flags


def pools_moved(frame: ServiceFrame, role: str) -> bool:
    """Return whether the number of reporting instances of a role changed over the history."""
    counts = frame.values("instances", role)
    counts = counts[np.isfinite(counts) & (counts > 0)]
    if counts.size == 0:
        return False
    low, high = np.quantile(counts, LOAD_RANGE_QUANTILES)
    return bool(high > POOL_MOVED_RATIO * low)


def pair_signal(frame: ServiceFrame, info: SignalInfo) -> Pair | Reason:
    """Return a signal with its load, or the reason why there is no load to judge it on."""
    role = load_role(frame, info)
    if not frame.has(info.signal, info.role):
        return Reason("no_data", f"{column(info.signal, info.role)} holds no value")
    if not frame.has("offered_tps", role):
        return _no_reference(info, role, frame.pools)
    load, value = frame.values("offered_tps", role), frame.values(info.signal, info.role)
    recorded = np.isfinite(load) & np.isfinite(value)
    good = recorded & ~saturated(frame, info, role)
    circular = frame.reference == "served" and info.family == "throughput" and info.role == role
    circular |= _counts_the_load(frame, info, role)
    return Pair(
        info,
        role,
        np.where(good, load, np.nan),
        np.where(good, value, np.nan),
        recorded,
        per_instance=False,
        circular=circular,
    )


def _counts_the_load(frame: ServiceFrame, info: SignalInfo, role: str) -> bool:
    """Return whether a signal is a count of requests and the load is no more than that.

    A count that weighs requests by their size can show that a plain one moves away from it.
    """
    counted, own = frame.served(role), (info.signal, info.role)
    return counted in REQUESTS and (own == counted or (own in REQUESTS and counted != WEIGHED_REQUESTS))


def divide_by_instances(frame: ServiceFrame, pair: Pair) -> Pair:
    """Return load and pool totals per reporting instance; windows without a count are left out."""
    counts = frame.values("instances", pair.load_role)
    counts = np.where(counts > 0, counts, np.nan)
    load = pair.load / counts
    value = (
        pair.value / counts if pair.info.pool == "sum" else np.where(np.isfinite(counts), pair.value, np.nan)
    )
    return replace(pair, load=load, value=value, per_instance=True)


def _no_reference(info: SignalInfo, role: str, pools: tuple[str, ...]) -> Reason:
    missing = {
        "prefill": "the input has no prompt tokens, which are prefill's work",
        "decode": "the input has no output tokens, and no requests with their mean length",
        "mixed": "the input has neither tokens nor requests of the pool",
    }.get(role, f"role {role} has no offered work")
    if not pools:
        missing = "the input shows no pool: neither instances with a role nor their count"
    return Reason("no_reference", f"{info.signal} was not tested: {missing}")


@dataclass(frozen=True)
class WindowGrid:
    """Rows of `factor` windows each, one capture after the other, parted by missing rows.

    Attributes
    ----------
    factor
        Windows of a row.
    step_s
        Width of a row [s].
    position
        Place of each row of the service table on the window axis, shape (table rows,).
    start_s
        Start of each grid row in Unix seconds, NaN between captures, shape (rows,).
    capture
        Number of the capture of each grid row, -1 between captures, shape (rows,).
    """

    factor: int
    step_s: float
    position: Integers
    start_s: Floats
    capture: Integers

    def windows(self, values: Floats) -> Floats:
        """Spread a table column over the window axis, shape (rows, factor); NaN where there is no window."""
        axis = np.full(self.start_s.size * self.factor, np.nan)
        axis[self.position] = values
        return axis.reshape(-1, self.factor)

    def mean(self, values: Floats, *, valid_share: float = COVERAGE_MIN) -> Floats:
        """Return the mean of each row's windows, shape (rows,); NaN where too few of them have a value."""
        windows = self.windows(values)
        good = np.isfinite(windows)
        count = good.sum(axis=1)
        total = np.where(good, windows, 0.0).sum(axis=1)
        enough = (count > 0) & (count >= valid_share * self.factor - 1e-9)
        rows: Floats = np.where(enough, total / np.maximum(count, 1), np.nan)
        return rows


def lay_grid(frame: ServiceFrame, factor: int) -> WindowGrid:
    """Lay rows of `factor` windows over the table, each capture from its own first window on."""
    seconds = frame.seconds()
    names = frame.table["capture"].to_numpy()
    seam = math.ceil(TREND_S / (factor * frame.window_s))
    position = np.zeros(seconds.size, dtype=np.int64)
    starts: list[Floats] = []
    captures: list[Integers] = []
    rows = 0
    for number, name in enumerate(frame.captures()):
        mine = names == name
        first = seconds[mine].min()
        place = np.rint((seconds[mine] - first) / frame.window_s).astype(np.int64)
        length = int(place.max()) // factor + 1
        position[mine] = rows * factor + place
        starts += [first + np.arange(length) * factor * frame.window_s, np.full(seam, np.nan)]
        captures += [np.full(length, number, dtype=np.int64), np.full(seam, -1, dtype=np.int64)]
        rows += length + seam
    if not starts:
        return WindowGrid(factor, factor * frame.window_s, position, np.zeros(0), np.zeros(0, dtype=np.int64))
    return WindowGrid(
        factor, factor * frame.window_s, position, np.concatenate(starts), np.concatenate(captures)
    )

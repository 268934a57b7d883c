"""What breaks: rows of faults that last an hour, and what each does to the demand and to a simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.errors import UsageError
from hs_analysis.replay.constants import LOST_SHARE, RATIO_SHARE, SKEW_S
from hs_analysis.replay.demand import Demand, Key, rows_of
from hs_analysis.replay.fleet import Pool
from hs_analysis.replay.trouble import NO_TROUBLE, Trouble
from hs_analysis.schema import names as choices


@dataclass(frozen=True)
class Stretch:
    """Rows of a fault: from ``first`` on, before ``last``."""

    first: int
    last: int

    def __contains__(self, row: int) -> bool:
        """Whether a row lies in it."""
        return self.first <= row < self.last


@dataclass(frozen=True)
class Fault:
    """A fault: its name, what happens in words, and what it does to the demand and to a simulation."""

    name: str
    text: str
    trouble: Callable[[Stretch, Demand], Trouble] = lambda stretch, demand: NO_TROUBLE  # noqa: ARG005
    demand: Callable[[Stretch, Demand], Demand] = lambda stretch, demand: demand  # noqa: ARG005


def _reading(change: Callable[[float, Sequence[float]], float]) -> Callable[[Stretch, Demand], Trouble]:
    """Return a fault that changes what is scraped in its stretch."""

    def trouble(stretch: Stretch, demand: Demand) -> Trouble:  # noqa: ARG001 - one signature for all faults
        def alter(key: Key, row: int, value: float, before: Sequence[float]) -> float:  # noqa: ARG001
            return change(value, before) if row in stretch else value

        return Trouble(alter=alter)

    return trouble


def _skewed(stretch: Stretch, demand: Demand) -> Trouble:
    """Read what was true ten minutes ago."""
    rows = rows_of(SKEW_S, demand.window_s)
    true: dict[Key, list[float]] = {}

    def alter(key: Key, row: int, value: float, before: Sequence[float]) -> float:
        kept = true.setdefault(key, list(before))
        kept.append(value)
        return kept[max(0, len(kept) - 1 - rows)] if row in stretch else value

    return Trouble(alter=alter)


def _reset(stretch: Stretch, demand: Demand) -> Trouble:
    """Restart counters every ten minutes: a rate that ignores resets reads nothing in that row."""

    def alter(key: Key, row: int, value: float, before: Sequence[float]) -> float:  # noqa: ARG001
        every = rows_of(SKEW_S, demand.window_s)
        return 0.0 if row in stretch and (row - stretch.first) % every == 0 else value

    return Trouble(alter=alter)


def _strike(
    at: Callable[[int, float, Pool, Stretch], None], roles: tuple[str, ...] = ()
) -> Callable[[Stretch, Demand], Trouble]:
    """Return a fault that acts on pools before each row is decided."""

    def trouble(stretch: Stretch, demand: Demand) -> Trouble:  # noqa: ARG001 - one signature for all faults
        def strike(row: int, t_s: float, pools: dict[str, Pool]) -> None:
            for role, pool in pools.items():
                if not roles or role in roles or len(pools) == 1:
                    at(row, t_s, pool, stretch)

        return Trouble(strike=strike)

    return trouble


def _stuck(row: int, t_s: float, pool: Pool, stretch: Stretch) -> None:
    """Nothing asked for in the stretch becomes ready before its end."""
    pool.start_up_s = math.inf if row in stretch else pool.model.start_up_s
    if row == stretch.last:
        pool.restart(t_s)


def _no_stock(row: int, t_s: float, pool: Pool, stretch: Stretch) -> None:  # noqa: ARG001 - one signature
    if row == stretch.first:
        pool.stock = pool.ready + sum(n for _, n in pool.starting)
    elif row == stretch.last:
        pool.stock = math.inf


def _lost(row: int, t_s: float, pool: Pool, stretch: Stretch) -> None:
    if row == stretch.first:
        pool.lose(max(1.0, math.floor(LOST_SHARE * pool.ready)), t_s)


def _wrong_ratio(row: int, t_s: float, pool: Pool, stretch: Stretch) -> None:
    if row == stretch.first:
        pool.ask(max(1.0, math.floor(RATIO_SHARE * pool.desired)), t_s)


def _doubled(stretch: Stretch, demand: Demand) -> Demand:
    """Twice the work from the first row of the stretch to its end."""
    inside = np.arange(demand.rows)
    altered = (inside >= stretch.first) & (inside < stretch.last)
    factor = np.where(altered, 2.0, 1.0)
    offered = {role: rate * factor for role, rate in demand.offered.items()}
    moved = {
        key: values * factor if key[0] in ("request_rate", "offered_tps", "offered_tps_trailing") else values
        for key, values in demand.recorded.items()
    }
    return replace(demand, offered=offered, recorded=moved, altered=altered)


def _named(name: str, trouble: Callable[[Stretch, Demand], Trouble]) -> Fault:
    return Fault(name, choices.FAULTS[name], trouble)


FAULTS: tuple[Fault, ...] = (
    _named("metric_gap", _reading(lambda value, before: math.nan)),  # noqa: ARG005
    _named("stale_metric", _reading(lambda value, before: before[-1] if before else value)),
    _named("stuck_start_up", _strike(_stuck)),
    _named("no_stock", _strike(_no_stock)),
    _named("lost_group", _strike(_lost)),
    _named("wrong_ratio", _strike(_wrong_ratio, ("prefill",))),
    Fault("doubled_traffic", choices.FAULTS["doubled_traffic"], demand=_doubled),
    _named("clock_skew", _skewed),
    _named("counter_reset", _reset),
)
"""What can go wrong, for ``--fault NAME``."""

NO_FAULT = Fault("none", "nothing goes wrong")


def faults_named(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return faults by name, in the order of ``FAULTS``; ``all`` stands for every one.

    Raises
    ------
    UsageError
        When there is no such fault.
    """
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known and name != "all":
            raise UsageError(f"there is no fault {name!r}", hint=f"one of: all, {', '.join(known)}")
    return tuple(fault for fault in FAULTS if fault.name in names or "all" in names)

"""What one instance should carry: head-room on a known capacity, the floor rule on an observed one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.schema.results import Capacity, Estimate, Reason, Status
from hs_analysis.schema.settings import Settings

# Defaults of this project, measured in closed loop on simulated services (600 histories).

CALM_LOAD_SHARE = 0.05
"""The busiest rows that calm is judged on [ratio of rows]."""

CALM_OVER_MAX = 0.002
"""Calm: mean share of samples over the limit there [ratio]."""

CALM_ROWS_MIN = 3
"""Fewest busiest rows that calm is judged on."""

CALM_HEADROOM = 1.0
"""Share of a floor that a target may use after a calm history [ratio]."""


@dataclass(frozen=True)
class Target:
    """Work that one instance of a role should carry [tokens/s].

    Attributes
    ----------
    value
        Head-room × the lower end of a known capacity, or head-room × a floor.
    capacity
        The capacity with its interval [tokens/s]; None where there is none.
    status, reason
        As of the capacity.
    headroom
        Share used [ratio].
    fit
        The capacity it comes from.
    without_growth
        The value if load did not grow while an instance starts [tokens/s].
    """

    role: str
    value: float | None
    capacity: Estimate | None
    status: Status
    reason: Reason | None
    headroom: float
    fit: CapacityFit
    without_growth: float | None = None


def calm_at_peak(fit: CapacityFit) -> bool | None:
    """Return whether the role kept its limit easily at its highest loads.

    True if the mean share of samples over the limit's lower edge is under 0.2 % in the 5 % of rows with the
    highest load per instance. None without a limit or with fewer than 60 judged rows.
    """
    rows = fit.judged.rows
    load, share = rows.sustained[rows.judged], rows.over_low[rows.judged]
    count = int(np.ceil(CALM_LOAD_SHARE * load.size))
    if not rows.limits or count < CALM_ROWS_MIN:
        return None
    busiest = np.argsort(load, kind="stable")[-count:]
    return bool(share[busiest].mean() < CALM_OVER_MAX)


def with_calm(fits: dict[str, CapacityFit]) -> dict[str, CapacityFit]:
    """Return the capacities with `calm` set: every limit that was given was kept easily at its role's peak.

    None for a role without a limit of its own: nothing is known of its latency.
    """
    own = {role: calm_at_peak(fit) for role, fit in fits.items()}
    known = [calm for role, calm in own.items() if fits[role].judged.rows.limits]
    calm = bool(known) and all(value is True for value in known)
    return {
        role: replace(fit, capacity=replace(fit.capacity, calm=None if own[role] is None else calm))
        for role, fit in fits.items()
    }


def target_of(fit: CapacityFit, settings: Settings) -> Target:
    """Return what one instance of the role should carry.

    Known capacity: head-room × the lower end of its interval. Floor: 1.0 × the floor after a calm history,
    else head-room × the floor. Where the load grows by more within a start-up time than the usual head-room
    leaves free, 1 ÷ that growth takes its place in either case. Refused: no value.
    """
    capacity = fit.capacity
    headroom, value = operating_point(capacity, settings)
    status = "refused" if value is None else capacity.status
    _, still = operating_point(replace(capacity, growth_ratio=None), settings)
    return Target(
        capacity.role, value, estimate_of(capacity), status, capacity.reason, headroom, fit, still
    )  # fmt: skip


def estimate_of(capacity: Capacity) -> Estimate | None:
    """Return a capacity with its interval [tokens/s], None where it is refused."""
    if capacity.per_instance is None or capacity.ci is None:
        return None
    return Estimate(capacity.per_instance, *capacity.ci)


def operating_point(capacity: Capacity, settings: Settings) -> tuple[float, float | None]:
    """Return the share of a capacity to use [ratio], and the load that makes [tokens/s]."""
    if capacity.per_instance is None or capacity.ci is None:
        return settings.headroom_ratio, None
    floor = capacity.status == "floor"
    headroom = settings.headroom_ratio
    if floor and capacity.calm:
        headroom = CALM_HEADROOM
    if capacity.growth_ratio is not None and settings.headroom_ratio * capacity.growth_ratio > 1.0:
        headroom = min(headroom, 1.0 / capacity.growth_ratio)
    base = capacity.per_instance if floor else capacity.ci[0]
    return headroom, headroom * base

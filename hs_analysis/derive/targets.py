"""What one instance should carry: head-room on a known capacity, for growth, or a floor that was observed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.capacity_laws import violating
from hs_analysis.derive.constants import (
    CALM_OVER_MAX,
    GROWTH_OVER,
    GROWTH_ROWS_MIN,
)
from hs_analysis.derive.rows import RoleRows, busiest_rows, centred_mean, smooth_rows, trailing_mean, was_full
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import GROUP_MIN, SHORTEST_S, STARTUP_S
from hs_analysis.schema.results import Capacity, Estimate, Reason, Status
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.episodes import operating_rows
from hs_analysis.statistics.isotonic import rising_shares


@dataclass(frozen=True)
class LoadTarget:
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
    """

    role: str
    value: float | None
    capacity: Estimate | None
    status: Status
    reason: Reason | None
    headroom: float
    fit: CapacityFit


def calm_at_peak(fit: CapacityFit) -> bool | None:
    """Return whether the role kept its limit easily at its highest loads.

    True if the mean share of samples over the limit is under 0.2 % in the 5 % of rows with the highest load
    per instance, and KV memory was not full there (`rows.was_full`). None without a limit, and 40 judged
    rows or fewer: these 5 % are then under three rows.
    """
    rows = fit.labelled.rows
    busiest = busiest_rows(rows)
    if not rows.limits or busiest.size < GROUP_MIN:
        return None
    return bool(rows.over[rows.labelled][busiest].mean() < CALM_OVER_MAX and not was_full(rows))


def with_calm(fits: dict[str, CapacityFit]) -> dict[str, CapacityFit]:
    """Return the capacities with `calm` set: whether every role with a limit was calm at its peak.

    That is under 0.2 % of samples over it in the busiest 5 % of rows, and KV memory not full there. None for
    a role without a limit of its own: nothing is known of its latency. False where the hit rate is not known:
    it may have been high at the peak.
    """
    own = {role: calm_at_peak(fit) for role, fit in fits.items()}
    known = [calm for role, calm in own.items() if fits[role].labelled.rows.limits]
    calm = bool(known) and all(value is True for value in known)
    return {
        role: replace(fit, capacity=replace(fit.capacity, calm=None if own[role] is None else calm and sure))
        for role, fit in fits.items()
        for sure in [not fit.labelled.rows.hit_rate_unknown]
    }


def target_of(fit: CapacityFit, settings: Settings) -> LoadTarget:
    """Return what one instance of the role should carry.

    Known capacity: head-room × the lower end of its interval. Floor: 1.0 × the floor after a calm history,
    else head-room × the floor. Where the load grows by more within a start-up time than the usual head-room
    leaves free, 1 ÷ that growth takes its place in either case; of a floor after a history that was not calm,
    what grows may end at the highest load carried inside the SLO. Refused: no value.
    """
    capacity = fit.capacity
    headroom, value = operating_point(capacity, settings)
    status = "refused" if value is None else capacity.status
    return LoadTarget(capacity.role, value, estimate_of(capacity), status, capacity.reason, headroom, fit)


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
        headroom = 1.0
    if capacity.growth_ratio is not None and settings.headroom_ratio * capacity.growth_ratio > 1.0:
        headroom = min(headroom, (capacity.carried_ratio or 1.0) / capacity.growth_ratio)
    base = capacity.per_instance if floor else capacity.ci[0]
    return headroom, headroom * base


def ramp_growth(rows: RoleRows, startup_s: float, over: float = GROWTH_OVER[1]) -> float | None:
    """Return by how much the load grows within a start-up time, but for a share of the rows [ratio].

    That quantile of x₅(t + start-up) ÷ x̂(t). A controller sizes a pool for x̂, the highest minute of the
    last five: no instance goes before the load was lower for as long, and one comes on the newest. What it
    asks for comes in time for x₅, the 5-minute mean about that moment, as capacities are measured.

    Parameters
    ----------
    rows
        A role of a production history; rows without work, and pairs across captures, do not count.
    startup_s
        From asking for an instance to its first request [s].
    over
        Share of the rows in which it grows by more [ratio].

    Returns
    -------
    None with fewer than 300 pairs in the operating range, and for a load that was set on purpose.
    """
    if rows.kind != "production":
        return None
    minute = trailing_mean(rows.work, smooth_rows(rows.window_s, SHORTEST_S), rows.group)
    sized = _highest(minute, smooth_rows(rows.window_s), rows.group)
    meant = centred_mean(rows.work, smooth_rows(rows.window_s), rows.group)
    lag = max(1, math.ceil(startup_s / rows.window_s))
    now, then = sized[:-lag], meant[lag:]
    pairs = np.isfinite(now) & np.isfinite(then) & (rows.group[:-lag] == rows.group[lag:])
    pairs = operating_rows(now, pairs) & (now > 0)
    if int(pairs.sum()) < GROWTH_ROWS_MIN:
        return None
    return float(np.quantile(then[pairs] / now[pairs], 1.0 - over))


def _highest(values: Floats, rows: int, group: Integers) -> Floats:
    """Return the highest of each row and the rows before it in its capture; NaN where none has a value."""
    found = values.copy()
    for back in range(1, min(rows, values.size)):
        same = group[back:] == group[:-back]
        found[back:][same] = np.fmax(found[back:], values[:-back])[same]
    return found


def growth_over(fit: CapacityFit, slo: Slo) -> float:
    """Return the share of windows in which the load of a role may outgrow its target [ratio].

    The most of ``GROWTH_OVER`` after a calm history, and where no latency was seen; else at most that, and
    little more than broke the SLO as it ran.
    """
    more, most = GROWTH_OVER
    over = fit.labelled.rows.over
    seen = over[np.isfinite(over)]
    if fit.capacity.calm or not seen.size:
        return most
    return min(most, float(violating(seen, slo).mean()) + more)


def carried_ratio(fit: CapacityFit, slo: Slo) -> float | None:
    """Return the highest load that was carried inside the SLO ÷ the floor, at least 1 [ratio].

    The share of windows over the limit never falls with load (pool adjacent violators, Barlow et al. 1972);
    the load is the highest of those at which it is within what the SLO allows and that ``GROUP_MIN`` windows
    reached. None for a known capacity, after a calm history, which shows no load where that share begins to
    rise, and without judged rows.
    """
    labelled, capacity = fit.labelled, fit.capacity
    # Rows that recover from a backlog count too: they are part of what a load brings.
    judged = labelled.rows.labelled
    load, bad = labelled.rows.sustained[judged], labelled.bad[judged]
    if capacity.status != "floor" or capacity.calm or not labelled.rows.limits or load.size < GROUP_MIN:
        return None
    loads, shares = rising_shares(load, bad.astype(float))
    within = loads[shares <= slo.allowed_window_share]
    highest = min(within.max(initial=0.0), loads[-GROUP_MIN])
    return max(1.0, float(highest) / capacity.per_instance) if capacity.per_instance else None


def with_ramp_headroom(fits: dict[str, CapacityFit], settings: Settings) -> dict[str, CapacityFit]:
    """Return the capacities with `growth_ratio` and `carried_ratio` set.

    Growth is that over the start-up time or, not known, over 300 s.
    """
    out = {}
    for role, fit in fits.items():
        startup_s = settings.startup_s.get(role, STARTUP_S)
        growth = ramp_growth(fit.labelled.rows, startup_s, growth_over(fit, settings.slo))
        capacity = replace(fit.capacity, growth_ratio=growth, carried_ratio=carried_ratio(fit, settings.slo))
        out[role] = replace(fit, capacity=capacity)
    return out

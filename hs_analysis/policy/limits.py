"""Limits of the user's own on counts: least and most instances of a pool, and the GPUs of a whole service.

A limit on GPUs binds pools together, so it is no bound of one pool. What steps all pools at once keeps it in
its step (`controllers.heteroscale.within_gpus`), with `together_of`; two objects that scale their pools apart
can only hold a maximum each, by `shares_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from hs_analysis.controllers.heteroscale import SLACK_GPUS, GpuLimit
from hs_analysis.errors import UsageError
from hs_analysis.policy.model import Bounds
from hs_analysis.schema.settings import Settings

SETTING = "setting"
"""Provenance of bounds that a setting gave."""


def limited(
    bounds: Mapping[str, Bounds], settings: Settings, gpus_per_instance: Mapping[str, float]
) -> dict[str, Bounds]:
    """Return the bounds of a policy within the user's limits.

    An end that the user gave takes the place of the policy's own, up or down; where it crosses the other end,
    that one moves to it. Of the GPUs of the service a pool may have at most what the others leave at their
    least. A least that the user did not give makes room, down to one instance.

    Parameters
    ----------
    bounds
        Of every pool, as the policy has them.
    settings
        ``bounds`` and ``gpus_limit``; the same bounds come back where neither is given.
    gpus_per_instance
        GPUs of an instance per role; needed for every pool where GPUs are limited.

    Raises
    ------
    UsageError
        When the GPUs of a pool's instances are not known, or the limit does not hold the least of all pools.
    """
    found = {role: _own(one, role, settings) for role, one in bounds.items()}
    if settings.gpus_limit is None:
        return found
    gpus = _known(found, gpus_per_instance)
    given = {role: one.min for role, one in settings.bounds.items() if one.min is not None}
    if not fits_gpus({role: one.min for role, one in found.items()}, gpus, settings.gpus_limit):
        found = {role: one if role in given else Bounds(1, one.max, SETTING) for role, one in found.items()}
    return _left_by_others(found, gpus, settings.gpus_limit)


def fits_gpus(counts: Mapping[str, int], gpus_per_instance: Mapping[str, float], limit: int) -> bool:
    """Whether the instances of all pools together hold no more GPUs than the limit.

    Parameters
    ----------
    counts
        Instances per role; each needs its GPUs in ``gpus_per_instance`` [GPUs].
    """
    return sum(count * gpus_per_instance[role] for role, count in counts.items()) <= limit + SLACK_GPUS


def shares_of(
    limit: int,
    bounds: Mapping[str, Bounds],
    gpus_per_instance: Mapping[str, float],
    peak: Mapping[str, float],
) -> dict[str, Bounds]:
    """Return bounds whose maxima fit the limit together: what objects that scale pools apart can hold.

    Every pool has its least; what is left goes, an instance at a time, to the pool that has the least of its
    peak, as long as it fits. Bounds whose maxima fit already come back as they are.

    Parameters
    ----------
    limit
        GPUs of the service.
    bounds
        Least and most per role, as `limited` returns them.
    gpus_per_instance
        GPUs of an instance per role.
    peak
        Instances per role that the recorded peak needs; a pool without one comes after the others.

    Raises
    ------
    UsageError
        When the limit does not hold the least of all pools.
    """
    gpus = _known(bounds, gpus_per_instance)
    if fits_gpus({role: one.max for role, one in bounds.items()}, gpus, limit):
        return dict(bounds)
    counts = {role: one.min for role, one in bounds.items()}
    _require_least(counts, gpus, limit)
    growing = {role for role, one in bounds.items() if one.max > one.min}
    while growing:
        role = min(growing, key=lambda one: (_part(counts[one], peak.get(one)), one))
        if fits_gpus(counts | {role: counts[role] + 1}, gpus, limit):
            counts[role] += 1
        else:
            growing.discard(role)  # what is left only gets less
        if counts[role] == bounds[role].max:
            growing.discard(role)
    return {
        role: one if counts[role] == one.max else Bounds(one.min, counts[role], SETTING)
        for role, one in bounds.items()
    }


def together_of(limit: int, bounds: Mapping[str, Bounds], gpus_per_instance: Mapping[str, float]) -> GpuLimit:
    """Return what a controller that steps all pools at once keeps: the limit, and the most of each pool.

    Parameters
    ----------
    limit, bounds, gpus_per_instance
        As for `shares_of`.
    """
    gpus = _known(bounds, gpus_per_instance)
    return GpuLimit(limit, {role: gpus[role] for role in bounds}, {r: one.max for r, one in bounds.items()})


def _part(count: int, peak: float | None) -> float:
    """Return how much of its peak a pool has [ratio]."""
    return count / peak if peak is not None and peak > 0 else math.inf


def _own(bounds: Bounds, role: str, settings: Settings) -> Bounds:
    """Return bounds with the ends that the user gave."""
    given = settings.bounds.get(role)
    if given is None:
        return bounds
    least = bounds.min if given.min is None else given.min
    most = bounds.max if given.max is None else given.max
    if given.max is None:
        most = max(most, least)
    return Bounds(min(least, most), most, SETTING)


def _left_by_others(bounds: Mapping[str, Bounds], gpus: Mapping[str, float], limit: int) -> dict[str, Bounds]:
    """Return bounds that leave room for the least of the other pools."""
    least = {role: one.min for role, one in bounds.items()}
    _require_least(least, gpus, limit)
    found = {}
    for role, one in bounds.items():
        others = sum(least[other] * gpus[other] for other in least if other != role)
        most = math.floor((limit - others) / gpus[role] + SLACK_GPUS)
        found[role] = replace(one, max=most, provenance=SETTING) if most < one.max else one
    return found


def _known(bounds: Mapping[str, Bounds], gpus: Mapping[str, float]) -> Mapping[str, float]:
    missing = [role for role in bounds if not gpus.get(role)]
    if missing:
        what = f"GPUs of an instance are not known for {', '.join(missing)}, so the limit can't be kept"
        hint = f"say it below [gpus], e.g. {missing[0]} = 8"
        raise UsageError(what, where="bounds.gpus", hint=hint)
    return gpus


def _require_least(least: Mapping[str, int], gpus: Mapping[str, float], limit: int) -> None:
    if fits_gpus(least, gpus, limit):
        return
    parts = ", ".join(f"{role} {count} × {gpus[role]:g}" for role, count in least.items())
    needed = sum(count * gpus[role] for role, count in least.items())
    what = f"{limit} GPUs do not hold the least counts, which need {needed:g} ({parts})"
    raise UsageError(what, where="bounds.gpus", hint="raise gpus, or lower min of a pool")

"""Where limits of the user's own held a pool below what its controller wanted, in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from hs_analysis.controllers.lanes import ROUNDING, Why
from hs_analysis.replay.simulate import SimulationResult
from hs_analysis.schema.decision import LimitHeld
from hs_analysis.schema.settings import Settings

HELD = (Why.BOUND, Why.GPU_LIMIT)
"""Codes of decisions that a limit cut."""


def has_limits(settings: Settings) -> bool:
    """Whether the user limits any pool, or the GPUs of a service."""
    return bool(settings.bounds) or settings.gpus_limit is not None


def without_limits(settings: Settings) -> Settings:
    """Return the settings of the same run without limits of the user's own."""
    return replace(settings, bounds={}, gpus_limit=None)


def held_by_limits(results: Sequence[SimulationResult], settings: Settings) -> tuple[LimitHeld, ...]:
    """Return in which windows limits held a pool below the count that its controller wanted.

    Parameters
    ----------
    results
        One control on every capture of a window.
    settings
        The limits: a pool counts that has a maximum of the user's own, every pool where GPUs are limited.

    Returns
    -------
    tuple
        One entry per pool that was held, in the order of the pools. Windows that are not scored do not count.
    """
    found = []
    for role in results[0].desired if results else ():
        own = settings.bounds.get(role)
        if settings.gpus_limit is None and (own is None or own.max is None):
            continue
        held_s = np.concatenate([one.demand.t_s[_held(one, role)] for one in results])
        if held_s.size:
            window_s = results[0].demand.window_s
            first, last = _time(float(held_s.min())), _time(float(held_s.max()) + window_s)
            found.append(LimitHeld(role=role, windows=int(held_s.size), first=first, last=last))
    return tuple(found)


def _held(result: SimulationResult, role: str) -> np.ndarray:
    """Return in which rows a limit cut what the controller of a pool wanted, shape (rows,)."""
    above = np.nan_to_num(result.wanted[role], nan=-np.inf) > result.desired[role] * (1.0 + ROUNDING)
    held: np.ndarray = np.isin(result.code[role], HELD) & above & result.scored
    return held


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

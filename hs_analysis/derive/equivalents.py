"""Instances of a pool that mixes GPU types counted in equivalents, and whole pods of each type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from hs_analysis.derive.speeds import typed_of
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.balance import GpuSpeed, TypeRatio, weights_of

MOVES = 0.02
"""Half-range of a pool's mean weight from which its mix of types is said to have moved [ratio]."""


def in_equivalents(
    frame: ServiceFrame, typed: pl.DataFrame, speeds: Sequence[GpuSpeed]
) -> tuple[ServiceFrame, tuple[str, ...]]:
    """Return the service with its instances counted in equivalents, and the roles where that matters.

    One equivalent is the mean pod recorded. A pool whose mix of types stood still keeps its counts: there
    both are the same.
    """
    moved, columns = [], []
    for role in frame.pools:
        weights = weights_of(speeds, role)
        pool = typed_of(frame, typed, role) if weights else None
        if pool is None:
            continue
        pods = sum(np.nan_to_num(pool.instances[name]) for name in weights)
        weighed = sum(weights[name] * np.nan_to_num(pool.instances[name]) for name in weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(pods > 0, weighed / pods, math.nan)
        known = mean[np.isfinite(mean)]
        if not known.size or np.ptp(known) < 2 * MOVES:
            continue
        moved.append(role)
        counts = frame.values("instances", role) * np.where(np.isfinite(mean), mean, 1.0)
        columns.append(pl.Series(column("instances", role), counts).fill_nan(None))
    return replace(frame, table=frame.table.with_columns(columns)), tuple(moved)


def type_ratios(value: float | None, speeds: Sequence[GpuSpeed]) -> tuple[TypeRatio, ...]:
    """Return prefill pods of one type per decode pod of another that balance, empty for pools of one type.

    A ratio of mean pods r is r · w_D ÷ w_P of pods with weights w_P and w_D.
    """
    prefill, decode = (weights_of(speeds, role) for role in ("prefill", "decode"))
    if value is None or not (prefill or decode):
        return ()
    one: Mapping[str, float] = {"": 1.0}
    return tuple(
        TypeRatio(p or None, d or None, value * w_d / w_p)
        for p, w_p in (prefill or one).items()
        for d, w_d in (decode or one).items()
    )


def with_pods(speeds: Sequence[GpuSpeed], need: Mapping[str, float | None]) -> tuple[GpuSpeed, ...]:
    """Return the speeds with the pods of each type that make up a need, the fastest first.

    Parameters
    ----------
    speeds
        Of the pools that mix types; as many pods of a type are there as ran in the mean, rounded up.
    need
        Equivalents per role; None where unknown.
    """
    found = list(speeds)
    for role, wanted in need.items():
        own = [s for s in speeds if s.role == role and s.weight is not None]
        if wanted is None or not own:
            continue
        ranked = sorted(own, key=lambda s: (-(s.weight or 0.0), s.gpu_type))
        available = [(s.gpu_type, s.weight or 0.0, math.ceil((s.instances or 0.0) - 1e-9)) for s in ranked]
        pods = dict(pods_for(wanted, available))
        found = [replace(s, pods=pods[s.gpu_type]) if s in own else s for s in found]
    return tuple(found)


def pods_for(needed: float, available: Sequence[tuple[str, float, int]]) -> tuple[tuple[str, int], ...]:
    """Return how many pods of each GPU type make up a need in equivalents, in the order given.

    Parameters
    ----------
    needed
        Equivalents.
    available
        (GPU type, equivalents of one pod, pods there are), the preferred first.

    Returns
    -------
    Whole pods per type; together at least the need where there are enough, else all there are.
    """
    out = []
    for name, speed, most in available:
        count = min(most, max(0, math.ceil(needed / speed - 1e-9))) if speed > 0 else 0
        needed -= count * speed
        out.append((name, count))
    return tuple(out)

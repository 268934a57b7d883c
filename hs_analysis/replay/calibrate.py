"""Is the fleet model fit to speak of latency? Replay the counts that ran and compare with what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.replay.constants import MOST_FACTOR
from hs_analysis.replay.demand import Floats
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.simulate import SimulationResult
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.constants import DECILES, GPU_MIX_MOVED, MIX_MOVED_RATIO
from hs_analysis.schema.results import Derived, weights_of
from hs_analysis.schema.settings import Slo

LENGTHS = {"input_length": "prompt", "output_length": "output"}


def moved_lengths(train: ServiceFrame, test: ServiceFrame) -> tuple[str, ...]:
    """Say which token lengths of the test window lie beyond those of the training window, and by how much.

    Deciles of the windows' means are compared: the highest by how much it rose, the lowest by how much it
    fell. Empty where lengths were not recorded.
    """
    found = []
    for signal, words in LENGTHS.items():
        before, after = (_deciles(frame, signal) for frame in (train, test))
        if before is None or after is None:
            continue
        low, high = before[0] / after[0], after[1] / before[1]
        if max(low, high) > MIX_MOVED_RATIO:
            was, now = (before[1], after[1]) if high >= low else (before[0], after[0])
            found.append(f"{words} length {was:,.0f} to {now:,.0f} tokens")
    return tuple(found)


def _deciles(frame: ServiceFrame, signal: str) -> tuple[float, float] | None:
    values = frame.values(signal, "service")
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return None
    low, high = (float(np.quantile(values, share)) for share in DECILES)
    return low, high


def moved_types(test: ServiceFrame, derived: Derived, typed: pl.DataFrame | None) -> tuple[str, ...]:
    """Say in which pools the mix of GPU types of a window is not the one that capacity was measured on.

    A replay counts every pod 1, which is exact while the mix stands still. The mean pod of each window, in
    equivalents, is compared at its deciles.

    Parameters
    ----------
    test
        The window to replay.
    derived
        Numbers of the training window; the weights of its GPU types are 1 for the mean pod there.
    typed
        Rows of the contract SIGNALS of this service and window that have a GPU type; None without any.

    Returns
    -------
    tuple
        One text a pool that moved. Empty where types have no weights: pools of one type, or speeds unknown.
    """
    found = []
    for role in test.pools:
        weights = weights_of(derived.gpu_speeds, role)
        if typed is None or not weights:
            continue
        pods, types = pl.col("instances"), pl.col("gpu_type")
        rows = typed.filter(
            pl.col("role") == role, pl.col("signal") == SERVED[role], types.is_in(list(weights)), pods > 0
        ).with_columns(weighed=pods * types.replace_strict(weights, return_dtype=pl.Float64))
        means = (
            rows.group_by("capture", "t").agg(mean=pl.col("weighed").sum() / pods.sum())["mean"].to_numpy()
        )
        if not means.size:
            continue
        low, high = (float(np.quantile(means, share)) for share in DECILES)
        if max(1.0 - low, high - 1.0) > GPU_MIX_MOVED:
            found.append(f"a {role} pod {low:.2f} to {high:.2f} of the mean pod of the training window")
    return tuple(found)


def calibrate(
    results: Sequence[SimulationResult],
    model: FleetModel,
    slo: Slo,
    moved: Sequence[str] = (),
    types: Sequence[str] = (),
    versions: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare predicted with observed violations of the recorded counts, per latency.

    Parameters
    ----------
    results
        The recorded counts, replayed.
    model
        The fleet; pools with a limit are compared.
    slo
        Limits and the share of samples a window may have over them.
    moved
        What of the token mix lies beyond what capacities were measured on; with any of it the model is not
        calibrated, however well the recorded counts are foretold.
    types
        In which pools the mix of GPU types moved (``moved_types``); no more calibrated than with ``moved``.
    versions
        In which pools another version ran than the numbers are of; no more calibrated either.

    Returns
    -------
    dict
        ``status`` calibrated, not_calibrated or not_tested; ``text``; ``latencies``: per latency the pool,
        ``observed`` (low, high: surely violating, and violating or undecided because the limit lies between
        two histogram edges), ``predicted``, ``rows`` and ``calibrated`` (None when it could not be compared).
    """
    entries = {}
    for role, pool in model.pools.items():
        for latency in pool.judged:
            entries[latency] = _compare(results, role, latency, slo, floor=pool.status == "floor")
    outcomes = [entry["calibrated"] for entry in entries.values()]
    if not outcomes or all(outcome is None for outcome in outcomes):
        status = "not_tested"
    else:
        status = "not_calibrated" if False in outcomes or moved or types or versions else "calibrated"
    return {
        "status": status,
        "text": _text(status, entries, model, slo, moved, types, versions),
        "latencies": entries,
    }


def _compare(
    results: Sequence[SimulationResult], role: str, latency: str, slo: Slo, *, floor: bool
) -> dict[str, Any]:
    seen = [_observed(result, latency, slo) for result in results]
    low, high = (np.concatenate([pair[side] for pair in seen]) for side in (0, 1))
    predicted = np.concatenate([result.violation[role] for result in results])
    scored = np.concatenate([result.scored for result in results])
    use = scored & ~np.isnan(low) & ~np.isnan(predicted)
    rows = int(use.sum())
    entry: dict[str, Any] = {
        "role": role,
        "observed": None,
        "predicted": None,
        "rows": rows,
        "calibrated": None,
    }
    if rows:
        observed, share = (float(low[use].mean()), float(high[use].mean())), float(predicted[use].mean())
        entry |= {"observed": observed, "predicted": share, "calibrated": _agree(share, observed)}
        # A floor is below the true capacity, so that the model predicts too much.
        entry["upper_bound"] = floor
    return entry


def _observed(result: SimulationResult, latency: str, slo: Slo) -> tuple[Floats, Floats]:
    """Return 0/1 per row: surely violating, and not surely meeting the limit; NaN where nothing was seen."""
    recorded = result.demand.recorded
    nothing = np.full(result.demand.rows, np.nan)

    def over(edge: str) -> Floats:
        keys = [k for k in recorded if k[0] == f"{latency}_over_{edge}"]
        return recorded[keys[0]] if keys else nothing

    lower, upper = over("low"), over("high")
    known = ~np.isnan(lower) & ~np.isnan(upper)
    allowed = 1 - slo.quantile
    return (
        np.where(known, (upper > allowed).astype(float), np.nan),
        np.where(known, (lower > allowed).astype(float), np.nan),
    )


def _agree(predicted: float, observed: tuple[float, float]) -> bool:
    """Whether the prediction lies within 1 point or a factor 3 of the nearest end of the observed range."""
    nearest = min(max(predicted, observed[0]), observed[1])
    if abs(predicted - nearest) <= SAME_SHARE_POINTS:
        return True
    smaller, larger = sorted((predicted, nearest))
    return smaller > 0 and larger / smaller <= MOST_FACTOR


def _text(
    status: str,
    entries: dict[str, Any],
    model: FleetModel,
    slo: Slo,
    moved: Sequence[str],
    types: Sequence[str],
    versions: Sequence[str],
) -> str:
    if not slo.given:
        return "no SLO was given: nothing is said of latency"
    parts = [
        f"{name}: {entry['predicted']:.2%} of windows predicted over the limit, "
        f"{entry['observed'][0]:.2%} to {entry['observed'][1]:.2%} seen"
        for name, entry in entries.items()
        if entry["predicted"] is not None
    ]
    if status == "not_tested":
        parts.append("latency was not recorded or no capacity is known: violation shares are not calibrated")
    if False in (entry["calibrated"] for entry in entries.values()):
        parts.append("they differ by more than 3 times and 1 point: only hours and actions are given")
    if moved and status == "not_calibrated":
        parts.append(
            f"the mix went beyond what capacities were measured on ({', '.join(moved)}): only hours and "
            "actions are given"
        )
    if types and status == "not_calibrated":
        parts.append(
            f"not calibrated: the mix of GPU types moved ({', '.join(types)}) and the replay counts every "
            "pod alike: only hours and actions are given, as of pods of the training mix"
        )
    if versions:
        parts.append(
            f"not calibrated: a release came in the test window ({'; '.join(versions)}): only hours and "
            "actions are given, as sized for the version before"
        )
    floors = [role for role, pool in model.pools.items() if pool.status == "floor" and pool.judged]
    if floors:
        parts.append(f"the capacity of {' and '.join(floors)} is a floor: violation shares are upper bounds")
    return "; ".join(parts)

"""Is the fleet model fit to speak of latency? Replay the counts that ran and compare with what was seen.

What the replay says beside what was recorded: latencies and queues at the counts that ran, and counts.

On which side of what the SLO allows a replayed policy lies, as far as a replay can tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.replay.carried import over_limit
from hs_analysis.replay.constants import MOST_FACTOR, SHARE_WIDTH
from hs_analysis.replay.demand import Key
from hs_analysis.replay.fleet import FleetModel, PoolModel
from hs_analysis.replay.queue_attribution import wait_share
from hs_analysis.replay.signals import HANDED_OUT, SignalModel
from hs_analysis.replay.simulate import SimulationResult
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import DECILES, GPU_MIX_MOVED, MIX_MOVED_RATIO
from hs_analysis.schema.names import RECORDED
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import Derived, Interval, weights_of
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
            pl.col("role") == role,
            pl.col("signal") == test.served(role)[0],
            types.is_in(list(weights)),
            pods > 0,
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
    *,
    held: bool = True,
) -> dict[str, Any]:
    """Compare predicted with observed violations of the recorded counts, per pool.

    A single pool answers for two latencies by one capacity: a window is over where either is.

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
    held
        Whether the laws come from another part of the history; else each block of it was judged by the rest.

    Returns
    -------
    dict
        ``status`` calibrated, not_calibrated or not_tested; ``text``; ``latencies``: per latency, or all of a
        pool (``ttft or tbt``), the pool, ``observed`` (low, high: surely violating, and violating or
        undecided because one bucket about the limit holds all samples), ``predicted``, ``rows`` and
        ``calibrated`` (None when it could not be compared).
        ``basis`` held_part or blocks. ``why_not`` why it is not calibrated, in words; empty where it is.
    """
    entries = {}
    for role, pool in model.pools.items():
        if pool.judged:
            entries[" or ".join(pool.judged)] = _compare(results, role, pool.judged, slo)
    outcomes = [entry["calibrated"] for entry in entries.values()]
    if not outcomes or all(outcome is None for outcome in outcomes):
        status = "not_tested"
    else:
        status = "not_calibrated" if False in outcomes or moved or types or versions else "calibrated"
    return {
        "status": status,
        "text": _text(status, entries, model, slo, moved, types, versions, held=held),
        "latencies": entries,
        "basis": "held_part" if held else "blocks",
        "why_not": _why_not(outcomes, moved, types, versions) if slo.given else "no SLO was given",
    }


def _why_not(
    outcomes: Sequence[bool | None], moved: Sequence[str], types: Sequence[str], versions: Sequence[str]
) -> str:
    """Return the first cause for which a replay is not calibrated; empty where it is."""
    if False in outcomes:
        return "the replay does not match the recorded latencies"
    if not any(outcomes):
        return "no recorded latency was there to test the replay by"
    if moved:
        return f"the mix went beyond what capacities were measured on ({', '.join(moved)})"
    if types:
        return "the mix of GPU types moved in the test window"
    return "a release came in the test window" if versions else ""


def _compare(
    results: Sequence[SimulationResult], role: str, latencies: Sequence[str], slo: Slo
) -> dict[str, Any]:
    low, high = _seen_over(results, latencies, slo)
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
    return entry


def _seen_over(
    results: Sequence[SimulationResult], latencies: Sequence[str], slo: Slo
) -> tuple[Floats, Floats]:
    """Return 0/1 per row, surely and possibly over one of the limits; a latency never seen says nothing."""
    pairs = []
    for latency in latencies:
        ends = [over_limit(result.demand, latency, slo) for result in results]
        pairs.append([np.concatenate([end[side] for end in ends]) for side in (0, 1)])
    seen = [pair for pair in pairs if not np.isnan(pair[0]).all()] or pairs
    return np.maximum.reduce([low for low, _ in seen]), np.maximum.reduce([high for _, high in seen])


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
    *,
    held: bool,
) -> str:
    if not slo.given:
        return "no SLO was given: nothing is said of latency"
    parts = [
        f"{name}: {percent(entry['predicted'])} of windows predicted over the limit, "
        f"{percent(entry['observed'][0])} to {percent(entry['observed'][1])} seen"
        for name, entry in entries.items()
        if entry["predicted"] is not None
    ]
    if status == "not_tested":
        parts.append("latency was not recorded or no capacity is known: violation shares are not calibrated")
    if False in (entry["calibrated"] for entry in entries.values()):
        parts.append("they differ by more than 3 times and 1 point: only hours and actions are given")
    if not held and any(entry["predicted"] is not None for entry in entries.values()):
        parts.append("too short to hold a part back: each block of the history was judged by the rest of it")
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
        parts.append(
            f"the capacity of {' and '.join(floors)} is a floor: nothing is known of windows above the "
            "highest load that was carried"
        )
    return "; ".join(parts)


LATENCIES = ("ttft", "tbt")
"""Latencies that are foretold: mean over a window, as the curves of the fleet model have it."""


def prediction_errors(results: Sequence[SimulationResult], model: FleetModel) -> list[dict[str, Any]]:
    """Compare predicted with recorded latencies and queues, window by window.

    Parameters
    ----------
    results
        The recorded counts, replayed; the curves come from ``model``, learnt on other rows for an honest
        answer.

    Returns
    -------
    list
        One entry per latency and queue that the model has a curve for: ``signal``, ``role``, ``pool``;
        ``windows`` that are scored and have both; ``recorded`` and ``predicted``, medians over them [unit of
        the signal]; ``error``, the median of |predicted − recorded|; ``error_ratio``, the same ÷ recorded
        over windows where that is above 0, None without any. Entries without a window are left out.
    """
    found = []
    for key, curve in model.signals.items():
        if (key[0] not in LATENCIES and curve.kind != "queue") or key[0] == HANDED_OUT:
            continue
        pairs = [_pair(result, key, curve, model) for result in results]
        predicted, recorded = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        if not predicted.size:
            continue
        off = np.abs(predicted - recorded)
        some = recorded > 0
        found.append(
            {
                "signal": key[0],
                "role": key[1],
                "pool": curve.pool,
                "windows": int(predicted.size),
                "recorded": float(np.median(recorded)),
                "predicted": float(np.median(predicted)),
                "error": float(np.median(off)),
                "error_ratio": float(np.median(off[some] / recorded[some])) if some.any() else None,
            }
        )
    return found


def counts_apart(timeline: pl.DataFrame, policy: str, pools: Sequence[str]) -> list[dict[str, Any]]:
    """Compare the counts that a replay of today's autoscaler had ready with those that ran.

    Parameters
    ----------
    timeline
        Rows of the contract TIMELINE, the recorded counts among the policies.
    policy
        Name of the replayed autoscaler.
    pools
        Pools of the service: a single pool stands in the columns of decode.

    Returns
    -------
    list
        One entry per pool: ``pool``; ``rows`` that have both; ``recorded`` and ``replayed``, mean instances;
        ``apart``, the mean of |replayed − recorded| [instances]; ``apart_ratio``, the same ÷ ``recorded``.
        Pools without such rows are left out.
    """
    found = []
    single = next((pool for pool in pools if pool not in ("prefill", "decode")), "decode")
    for pool, column in (("prefill", "ready_prefill"), (single, "ready_decode")):
        both = (
            timeline.filter(pl.col("policy") == policy)
            .select("capture", "t", pl.col(column).alias("replayed"))
            .join(
                timeline.filter(pl.col("policy") == RECORDED).select(
                    "capture", "t", pl.col(column).alias("recorded")
                ),
                on=["capture", "t"],
            )
            .drop_nulls()
            .drop_nans()
        )
        if both.height:
            replayed, recorded = both["replayed"].to_numpy(), both["recorded"].to_numpy()
            apart, mean = float(np.abs(replayed - recorded).mean()), float(recorded.mean())
            found.append(
                {
                    "pool": pool,
                    "rows": both.height,
                    "recorded": mean,
                    "replayed": float(replayed.mean()),
                    "apart": apart,
                    "apart_ratio": apart / mean if mean else None,
                }
            )
    return found


def _pair(result: SimulationResult, key: Key, curve: SignalModel, model: FleetModel) -> tuple[Floats, Floats]:
    """Return predicted and recorded values of the scored rows that have both, shape (rows,) each."""
    ready = result.ready[curve.pool]
    recorded = result.demand.column(*key)
    with np.errstate(invalid="ignore", divide="ignore"):
        load = result.served[curve.pool] / result.demand.window_s / ready
        predicted = np.interp(load, curve.loads, curve.values)
        if curve.kind == "queue":
            predicted = predicted * (ready if curve.per_instance else 1.0)
            predicted = predicted + result.queued[curve.pool] / (curve.tokens_per_request or np.inf)
        else:
            for role, pool in model.pools.items():
                if share := wait_share(model.waits, key[0], role):
                    predicted = predicted + share * _age_s(result, role, pool)
    both = result.scored & np.isfinite(predicted) & np.isfinite(recorded)
    return predicted[both], recorded[both]


def _age_s(result: SimulationResult, role: str, pool: PoolModel) -> Floats:
    """Return how long the queue at the end of each row takes to serve [s], shape (rows,); 0 without one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        age = result.queued[role] / (result.ready[role] * pool.max_throughput)
    return np.where(result.queued[role] > 0, age, 0.0)


OVER, UNDER, UNCLEAR, BEYOND = "over", "under", "unclear", "beyond"


def width_of(calibration: Mapping[str, Any]) -> float:
    """Return how far roots of shares may be off in this history [√ratio].

    ``SHARE_WIDTH``, or how far the recorded counts were foretold, per latency, if that is more.
    """
    widths = [SHARE_WIDTH]
    for entry in calibration.get("latencies", {}).values():
        if entry["predicted"] is None:
            continue
        predicted, (low, high) = entry["predicted"], entry["observed"]
        widths.append(abs(math.sqrt(min(max(predicted, low), high)) - math.sqrt(predicted)))
    return max(widths)


def share_range(bounds: Interval, width: float) -> Interval:
    """Return the shares between which the true one lies, as far as a replay can tell.

    Parameters
    ----------
    bounds
        Replayed share of violating windows if none of those not known violates, and if all do [ratio].
    width
        See ``width_of``.
    """
    low = max(0.0, math.sqrt(bounds[0]) - width) ** 2
    return low, min(1.0, math.sqrt(bounds[1]) + width) ** 2


def side_of(span: Interval, mark: float) -> str:
    """Return whether a range of shares lies ``under`` a mark (or on it), ``over`` it, or is ``unclear``."""
    if span[1] <= mark:
        return UNDER
    return OVER if span[0] > mark else UNCLEAR


def with_side(
    row: PolicyReplay,
    bounds: Interval | None,
    calibration: Mapping[str, Any],
    allowed: float,
    far_above: float | None = None,
) -> PolicyReplay:
    """Add the range of a row's share of violating windows, and its side of the share that the SLO allows.

    Where windows that are not known could move the share by more than a point there is no share, only the
    range; where they can't, `settled` counted them as violating. A share that is not calibrated has no range
    and its side is unclear, unless the replay, however far off it was for the recorded counts, has it over
    what is allowed and what was seen. Without any, because no limit or no capacity is known, there is
    neither. A policy that goes far above what was carried in more windows than may break the SLO is
    ``beyond``, whatever else is known.

    Parameters
    ----------
    row
        Figures of one policy.
    bounds
        Its share if none of the windows not known violates, and if all do (``violation_bounds``).
    calibration
        Of the replay, see ``calibrate``.
    allowed
        Share of windows that the SLO allows [ratio].
    far_above
        Share of windows with a load beyond that which pools are trusted with (``Laws.far_above``) [ratio].
    """
    if bounds is None:
        return row
    unknown = bounds[1] - bounds[0]
    if unknown > SAME_SHARE_POINTS:
        row = replace(row, slo_violation_ratio=None, slo_violation_s=None, slo_violation_tokens=None)
    row = replace(row, not_known_ratio=unknown, far_above_ratio=far_above)
    beyond = far_above is not None and far_above > allowed
    span = share_range(bounds, width_of(calibration))
    if calibration["status"] != "calibrated":
        compared = [one for one in calibration["latencies"].values() if one["predicted"] is not None]
        seen = sum(one["observed"][1] for one in compared)  # windows of two latencies may all be others
        worse = side_of(span, max(allowed, seen + SAME_SHARE_POINTS)) == OVER
        if beyond or not (compared and worse):
            return replace(row, slo_side=BEYOND if beyond else UNCLEAR)
    return replace(row, slo_violation_range=span, slo_side=BEYOND if beyond else side_of(span, allowed))

"""What the replay says beside what was recorded: latencies and queues at the counts that ran, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.replay.demand import Floats, Key
from hs_analysis.replay.fleet import FleetModel, PoolModel
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.simulate import SimulationResult
from hs_analysis.replay.waiting import share_of_wait
from hs_analysis.schema.names import RECORDED

LATENCIES = ("ttft", "tbt")
"""Latencies that are foretold: mean over a window, as the curves of the fleet model have it."""


def foretold(results: Sequence[SimulationResult], model: FleetModel) -> list[dict[str, Any]]:
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
        if key[0] not in LATENCIES and curve.kind != "queue":
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
                if share := share_of_wait(model.waits, key[0], role):
                    predicted = predicted + share * _age_s(result, role, pool)
    both = result.scored & np.isfinite(predicted) & np.isfinite(recorded)
    return predicted[both], recorded[both]


def _age_s(result: SimulationResult, role: str, pool: PoolModel) -> Floats:
    """Return how long the queue at the end of each row takes to serve [s], shape (rows,); 0 without one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        age = result.queued[role] / (result.ready[role] * pool.ceiling)
    return np.where(result.queued[role] > 0, age, 0.0)

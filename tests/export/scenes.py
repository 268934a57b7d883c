"""Small inputs for export tests: series frames, a policy in which every item is set, objects gone wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from hs_analysis.controllers.keda import Keda
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    PeriodicEntry,
    Policy,
    Primary,
    Ratio,
    SignalReading,
    SoftScaleIn,
    Step,
    Target,
    Tier,
)
from hs_analysis.schema.frames import SERIES, check, empty
from hs_analysis.schema.results import Estimate

DECODE_PROMQL = 'sum(rate(vllm:generation_tokens_total{namespace="prod",job="vllm-decode"}[5m]))'
UTIL_PROMQL = 'avg(avg by (exported_pod) (avg_over_time(DCGM_FI_DEV_GPU_UTIL{a="(b\\")"}[5m]))) / 100'


def series_frame(rows: list[dict]) -> pl.DataFrame:
    """Return a frame of contract SERIES; a row gives metric, labels, emitter_role and what differs."""
    columns = empty(SERIES).schema
    full = []
    for number, row in enumerate(rows):
        labels = [{"key": key, "value": value} for key, value in sorted(row["labels"].items())]
        full.append(
            {
                "series_id": number,
                "role_evidence": "test",
                "service": "prod/chat",
                "instance": row["labels"].get("pod"),
                "kind": "gauge",
                "interval_s": 15.0,
                "capture": "",
                **row,
                "labels": labels,
            }
        )
    return check(pl.DataFrame(full, schema=columns), SERIES)


def full_policy(**changes) -> Policy:
    """Return a policy with one decode primary and every item set to something of its own."""
    items = {
        "service": "prod/chat",
        "mode": "metric",
        "unit": "pod",
        "primaries": (
            Primary(
                "decode_tps",
                "decode",
                "tokens/s",
                DECODE_PROMQL,
                "vllm",
                Target(
                    3800.0,
                    0.85,
                    Estimate(4700.0, 4470.6, 4900.0),
                    "ok",
                    "prod%2Fchat/derive/decode_tps@decode",
                ),
                "sum",
                {"NVIDIA H20": 1.0},
            ),
        ),
        "pd_ratio": Ratio(1, 2, 0.5, 0.45, 0.56, 0.06, "ok", "prod%2Fchat/derive/pd_ratio"),
        "hysteresis": {
            "prefill": Hysteresis(1.08, 0.85, "prod%2Fchat/derive/prefill"),
            "decode": Hysteresis(1.05, 0.9, "prod%2Fchat/derive/decode"),
        },
        "cooldown": {"prefill": Cooldown(300.0, 700.0, "e1"), "decode": Cooldown(240.0, 600.0, "e2")},
        "step": Step(0.9, 0.25, 0.10, "default"),
        "guards": (
            Guard("ttft", "prefill", 1.0, "sum(rate(a_sum[5m])) / sum(rate(a_count[5m]))", (Tier(1.0, 0.1),)),
            Guard("tbt", "decode", 0.05, "sum(rate(b_sum[5m])) / sum(rate(b_count[5m]))", (Tier(1.2, 0.2),)),
        ),
        "soft_scale_in": SoftScaleIn(120.0, "a guard is above its SLO"),
        "bounds": {"prefill": Bounds(2, 12), "decode": Bounds(3, 24)},
        "on_missing_metric": "hold",
        "periodic": (PeriodicEntry("08:00", "20:00", ("mon", "fri"), 20, 10),),
        "placement": {"affinity": "s2"},
        "recommended": True,
        "confidence": "high",
        "confidence_reasons": ("the P/D ratio drifts",),
        "refusals": ("thin: too few episodes",),
        "window": {"start": "2026-11-17T00:00:00Z", "end": "2026-11-24T00:00:00Z"},
        "inputs_sha256": "ab12",
        "run": "9f3a",
        "tool_version": "0.1.0",
        "window_s": 60.0,
        "start_up_s": {"decode": 240.0},
        "controller": "keda",
        "reading": SignalReading(60.0, 300.0),
        "replay": {"gpu_hours": 10.0},
    }
    return Policy(**{**items, **changes})


def as_written(pools, kubernetes=(1, 35)):
    """Return a controller's parameters per pool as a version holds them: the tolerance is new in 1.33."""

    def held(hpa):
        if kubernetes >= (1, 33):
            return hpa
        return replace(hpa, up=replace(hpa.up, tolerance=None), down=replace(hpa.down, tolerance=None))

    return {
        role: replace(one, hpa=held(one.hpa)) if isinstance(one, Keda) else held(one)
        for role, one in pools.items()
    }


def renamed_keys(body: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield for every key of a nested object its path, and a copy in which that key alone is renamed."""
    for path in _paths(body):
        broken = copy.deepcopy(body)
        *parents, key = path
        place = broken
        for step in parents:
            place = place[step]
        place[f"{key}X"] = place.pop(key)
        yield path, broken


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key of a nested object."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key)
            yield from _paths(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _paths(below, (*path, index))

"""Services made up for policy, replay and selection tests: loads, counts, derived numbers, policies."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.policy.build import build_policy
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    Policy,
    Primary,
    Ratio,
    Step,
    Target,
    Tier,
)
from hs_analysis.replay.demand import DemandTrace
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.simulate import SimulationResult, simulate
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import Capacity, Demand, Derived, Estimate, PdRatio, SignalVerdict, Threshold
from hs_analysis.schema.settings import Settings, Slo

START = 1_767_225_600  # 2026-01-01T00:00:00Z
WORK = {"prefill": "prefill_tps_effective", "decode": "decode_tps", "mixed": "decode_tps"}
FAMILY = {
    "prefill_tps_effective": "throughput",
    "prefill_tps": "throughput",
    "decode_tps": "throughput",
    "gpu_util": "hardware",
    "sm_activity": "hardware",
    "kv_usage": "memory",
    "ttft": "latency",
    "tbt": "latency",
    "e2e_latency": "latency",
    "request_rate": "load",
    "queue_length": "queue",
}
MEANS = ("gpu_util", "sm_activity", "kv_usage", "ttft", "tbt", "e2e_latency")
SETTINGS = Settings(
    slo=Slo(ttft_s=2.5, tbt_s=0.05), startup_s={"prefill": 240.0, "decode": 240.0, "mixed": 240.0}
)
P_CAPACITY, D_CAPACITY, RATIO = 3509.0, 1551.0, 2.61


def service(
    loads: dict[str, np.ndarray],
    counts: dict[str, float | np.ndarray],
    *,
    window_s: float = 60.0,
    captures: list[str] | None = None,
    reference: str = "offered",
    gpus: dict[str, float] | None = None,
    **more: np.ndarray,
) -> ServiceFrame:
    """Return a service whose work signals read its offered load; ``more`` are columns ``signal__role``."""
    rows = len(next(iter(loads.values())))
    columns = {}
    for role, load in loads.items():
        columns[column("offered_tps", role)] = load
        columns[column(WORK[role], role)] = load
        columns[column("instances", role)] = np.broadcast_to(np.asarray(counts[role], float), rows)
    columns |= {name.replace("__", "@"): values for name, values in more.items()}
    names = captures or [""] * rows
    offset = np.concatenate([np.arange(names.count(name)) for name in dict.fromkeys(names)])
    t = pl.Series((START + offset * window_s) * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    table = pl.DataFrame({"capture": names, "t": t}).with_columns(
        pl.Series(name, np.asarray(values, float)).fill_nan(None) for name, values in columns.items()
    )
    infos = tuple(
        SignalInfo(s, r, "made", "", "mean" if s in MEANS else "sum", FAMILY.get(s, "auxiliary"), 30.0, 1.0)
        for s, r in (name.split("@") for name in columns)
    )
    return ServiceFrame("demo/m", window_s, "production", reference, table, infos, gpus or {}, {})


def day(rows: int, mean: float, *, swing: float = 0.6, noise: float = 0.03, seed: int = 0) -> np.ndarray:
    """Return a day's wave of ``rows`` values around a mean, with multiplicative noise."""
    rng = np.random.default_rng(seed)
    wave = 1 - swing * np.cos(2 * np.pi * np.arange(rows) / rows)
    return mean * wave * np.exp(noise * rng.standard_normal(rows))


def pd_day(rows: int = 1440, seed: int = 0, **options: object) -> ServiceFrame:
    """Return a day of a service of 11 prefill and 4 decode instances whose token mix moves a little."""
    prefill = day(rows, 18_000.0, seed=seed)
    mix = 7.3 * np.exp(0.15 * np.sin(4 * np.pi * np.arange(rows) / rows))
    return service({"prefill": prefill, "decode": prefill / mix}, {"prefill": 11, "decode": 4}, **options)


def derived(
    *, ratio: float | None = RATIO, ratio_status: str = "ok", status: str = "ok", headroom: float = 0.85
) -> Derived:
    """Return derived numbers of a service with the capacities of this module."""

    def capacity(role: str, value: float) -> Capacity:
        return Capacity(
            role=role,
            gpu_type=None,
            signal=WORK[role],
            per_instance=value,
            ci=(0.95 * value, 1.05 * value),
            status=status,
            basis="slo",
            reason=None,
            slope=60.0,
        )

    def threshold(role: str, value: float) -> Threshold:
        target = headroom * 0.95 * value
        return Threshold(
            signal=WORK[role],
            role=role,
            gpu_type=None,
            target_per_instance=target,
            capacity=Estimate(value, 0.95 * value, 1.05 * value),
            scale_out_ratio=1.05,
            scale_in_ratio=0.75,
            cooldown_out_s=300.0,
            cooldown_in_s=600.0,
            status=status,
            reason=None,
            noise_cv=0.015,
            headroom_ratio=headroom,
            evidence=f"demo%2Fm/derive/{role}",
        )

    interval = None if ratio is None else (0.93 * ratio, 1.07 * ratio)
    return Derived(
        capacity=(capacity("prefill", P_CAPACITY), capacity("decode", D_CAPACITY)),
        demand=Demand(None, None, (), None),
        thresholds=(threshold("prefill", P_CAPACITY), threshold("decode", D_CAPACITY)),
        pd_ratio=PdRatio(
            value=ratio, ci=interval, status=ratio_status, at_least=None, at_most=None, reason=None
        ),
        refusals=(),
    )


def verdict(signal: str, role: str, value: str = "proportional") -> SignalVerdict:
    """Return a verdict with nothing measured."""
    return SignalVerdict(signal=signal, role=role, source="made", verdict=value, reasons=())


VERDICTS = (
    verdict("prefill_tps_effective", "prefill"),
    verdict("decode_tps", "decode"),
    verdict("ttft", "service", "guard"),
    verdict("tbt", "decode", "guard"),
)


def built(
    frame: ServiceFrame, primaries: tuple[tuple[str, str], ...], numbers: Derived | None = None
) -> Policy:
    """Return a policy built the way a run builds it."""
    return build_policy(frame, numbers or derived(), VERDICTS, primaries, SETTINGS, {}, {})


def policy_replay(policy: str, **figures: Any) -> PolicyReplay:
    """Return a row of a backtest; figures that are not given are unknown."""
    unknown = {one.name: None for one in fields(PolicyReplay) if one.default is MISSING}
    return PolicyReplay(**unknown | {"policy": policy} | figures)  # type: ignore[arg-type]


def plain_policy(**changes: object) -> Policy:
    """Return a decode-led policy with round numbers: 100 tokens/s a decode instance, ratio 2."""
    policy = Policy(
        service="demo/m",
        mode="metric",
        unit="pod",
        primaries=(primary("decode_tps", "decode", 100.0),),
        pd_ratio=Ratio(2, 1, 2.0, 1.8, 2.2, 0.2, "ok"),
        hysteresis={r: Hysteresis(1.1, 0.8) for r in ("prefill", "decode")},
        cooldown={r: Cooldown(300.0, 600.0) for r in ("prefill", "decode")},
        step=Step(1.0, 10.0, 1.0),
        guards=(),
        soft_scale_in=None,
        bounds={"prefill": Bounds(1, 100), "decode": Bounds(1, 100)},
        start_up_s={"prefill": 240.0, "decode": 240.0},
    )
    return replace(policy, **changes)


def primary(signal: str, role: str, target: float, pool: str = "sum") -> Primary:
    """Return a primary with a target and nothing else."""
    return Primary(signal, role, "", "", "made", Target(target), pool)


def guard(signal: str = "ttft", role: str = "prefill", slo_s: float = 1.0) -> Guard:
    """Return a guard with the default tiers."""
    return Guard(signal, role, slo_s, "", (Tier(1.0, 0.1), Tier(1.2, 0.2)))


def replayed(policy: Policy, part: DemandTrace, model: FleetModel) -> SimulationResult:
    """Replay a policy by HeteroScale's own rule on one capture."""
    return simulate(control_of(replace(policy, controller="heteroscale")), part, model)

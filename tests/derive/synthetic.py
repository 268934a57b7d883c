"""Seeded services with a known capacity: load shapes, shares over the limit, backlog.

Physics of one role. The window's latency answers to `z`, the mean load per instance of this window and the
one before (each with its own noise η); the share over the limit is Φ(Φ⁻¹(0.05) + k·ln(z/c) + σ·ε). Under a
constant mean load x a window violates when ln(x/c) + noise > 0 with noise of variance η²/2 + (σ/k)², so the
load at which 5 % of windows violate is c·exp(−1.645·sd(noise)): `TRUE_SHARE`. Work beyond 1.15·c waits;
while it waits for more than a second all samples are over the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.stats import norm

from hs_analysis.schema.aligned import ServiceFrame, SignalInfo
from hs_analysis.schema.settings import Settings, Slo

SETTINGS = Settings(
    slo=Slo(ttft_s=2.5, tbt_s=0.05), startup_s={"prefill": 240.0, "decode": 240.0, "mixed": 240.0}
)
START_S = 1_767_225_600
ETA, SIGMA, K = 0.03, 0.3, 10.0
TRUE_SHARE = math.exp(norm.ppf(0.05) * math.sqrt(ETA**2 / 2 + (SIGMA / K) ** 2))
CEILING = 1.15

FAMILY = {
    "prefill_tps": "throughput",
    "prefill_tps_effective": "throughput",
    "decode_tps": "throughput",
    "gpu_util": "hardware",
    "request_rate": "load",
    "ttft": "latency",
    "tbt": "latency",
}


@dataclass(frozen=True)
class Service:
    """What a synthetic service is made of; capacities are the true ones, at 5 % of violating windows."""

    prefill: int = 6
    decode: int = 4
    prefill_capacity: float = 4000.0
    decode_capacity: float = 1300.0
    window_s: float = 60.0
    kind: str = "production"


def day_shape(
    hours: float, window_s: float = 60.0, low: float = 0.3, days: float | None = None
) -> np.ndarray:
    """Return a day cycle between `low` and 1, one a day (or `days` cycles in all)."""
    rows = int(hours * 3600 / window_s)
    phase = np.arange(rows) / rows * (hours / 24 if days is None else days)
    return low + (1 - low) * 0.5 * (1 - np.cos(2 * np.pi * phase))


def wander(rows: int, sd: float, rng: np.random.Generator, memory_rows: float = 60.0) -> np.ndarray:
    """Return a slowly wandering factor with mean 1 in logs."""
    rho = math.exp(-1 / memory_rows)
    steps = rng.normal(0, sd * math.sqrt(1 - rho**2), rows)
    out = np.empty(rows)
    state = rng.normal(0, sd)
    for i, step in enumerate(steps):
        state = rho * state + step
        out[i] = state
    return np.exp(out)


def role_state(
    load: np.ndarray, capacity: float, window_s: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return share over the limit, backlog age and served load of one role under a mean load per instance."""
    c = capacity / TRUE_SHARE
    offered = load * np.exp(rng.normal(0, ETA, load.size))
    answering = np.r_[offered[:1], 0.5 * (offered[1:] + offered[:-1])]
    share = norm.cdf(
        norm.ppf(0.05) + K * np.log(np.maximum(answering, 1e-9) / c) + rng.normal(0, SIGMA, load.size)
    )
    ceiling, waiting = CEILING * c, 0.0
    age, served = np.zeros(load.size), np.zeros(load.size)
    for i, x in enumerate(offered):
        todo = waiting / window_s + x
        served[i] = min(todo, ceiling)
        waiting = (todo - served[i]) * window_s
        age[i] = waiting / ceiling
    return {"offered": offered, "share": np.where(age > 1, 1.0, share), "age": age, "served": served}


def make_frame(
    service: Service,
    requests: np.ndarray,
    prefill_tokens: np.ndarray | float,
    decode_tokens: np.ndarray | float,
    seed: int,
    *,
    capture: str = "",
    start_s: float = START_S,
) -> ServiceFrame:
    """Return the aligned frame of a service under a request rate and tokens per request (rows, or one
    number)."""
    rng = np.random.default_rng(seed)
    rows, w = requests.size, service.window_s
    p_load = requests * prefill_tokens / service.prefill
    d_load = requests * decode_tokens / service.decode
    p = role_state(p_load, service.prefill_capacity, w, rng)
    d = role_state(d_load, service.decode_capacity, w, rng)
    columns = {
        "request_rate@service": requests,
        "first_token_rate@service": requests,
        "completion_rate@service": requests,
        "ttft_over@service": p["share"],
        "tbt_over@decode": d["share"],
        "offered_tps@prefill": p["offered"] * service.prefill,
        "offered_tps@decode": d["offered"] * service.decode,
        "prefill_tps_effective@prefill": p["served"] * service.prefill,
        "prefill_tps@prefill": p["served"] * service.prefill * 1.3,
        "decode_tps@decode": d["served"] * service.decode,
        "gpu_util@prefill": np.clip(0.6 * p["served"] / service.prefill_capacity + 0.02, 0, 1),
        "running@decode": 20 * requests,
        "instances@prefill": np.full(rows, float(service.prefill)),
        "instances@decode": np.full(rows, float(service.decode)),
    }
    for role, state in (("prefill", p), ("decode", d)):
        columns[f"backlog_age_s@{role}"] = state["age"]
        columns[f"saturated@{role}"] = (state["age"] > 10).astype(float)
    return frame_of(columns, service.kind, w, capture, start_s)


def frame_of(
    columns: dict[str, np.ndarray], kind: str, window_s: float, capture: str = "", start_s: float = START_S
) -> ServiceFrame:
    """Return a ServiceFrame of columns named `signal@role`; NaN becomes null."""
    rows = next(iter(columns.values())).size
    micros = np.round((np.arange(rows) * window_s + start_s) * 1e6).astype(np.int64)
    table = pl.DataFrame({"capture": [capture] * rows, "t": pl.Series(micros).cast(pl.Datetime("us", "UTC"))})
    table = table.with_columns([pl.Series(name, values).fill_nan(None) for name, values in columns.items()])
    infos = []
    for name in columns:
        signal, role = name.split("@")
        pool = "mean" if signal == "gpu_util" else "ratio" if "_over_" in signal else "sum"
        family = FAMILY.get(signal, "auxiliary")
        infos.append(SignalInfo(signal, role, "synthetic", "", pool, family, window_s, 1.0))
    return ServiceFrame("shop/chat", window_s, kind, "offered", table, tuple(infos), {}, {})


def day_frame(
    seed: int,
    *,
    prefill_peak: float,
    decode_peak: float,
    hours: float = 60.0,
    mix_drift: float = 0.0,
    service: Service | None = None,
    low: float = 0.3,
    wander_sd: float = 0.08,
    decode_wander_sd: float = 0.05,
) -> ServiceFrame:
    """Return days whose highest loads reach these shares of the true capacities, with a mix that may drift.

    `mix_drift` is the amplitude of ln(prefill tokens per request), on a 7-h cycle.
    """
    service = service or Service()
    rng = np.random.default_rng([seed, 1])
    shape = day_shape(hours, service.window_s, low)
    requests = 20.0 * shape * wander(shape.size, wander_sd, rng)
    swing = np.exp(mix_drift * np.sin(2 * np.pi * np.arange(shape.size) * service.window_s / (7 * 3600)))
    tokens = wander(shape.size, decode_wander_sd, rng)
    prefill = requests * swing
    decode = requests * tokens
    prefill_tokens = (
        swing * prefill_peak * service.prefill_capacity * service.prefill / np.quantile(prefill, 0.99)
    )
    decode_tokens = (
        tokens * decode_peak * service.decode_capacity * service.decode / np.quantile(decode, 0.99)
    )
    return make_frame(service, requests, prefill_tokens, decode_tokens, seed)


def with_columns(frame: ServiceFrame, columns: dict[str, np.ndarray]) -> ServiceFrame:
    """Return the frame with columns replaced or added; NaN becomes null."""
    return replace(
        frame, table=frame.table.with_columns([pl.Series(k, v).fill_nan(None) for k, v in columns.items()])
    )


LEVEL_SHARE = math.exp(norm.ppf(0.05) * (math.sqrt(1 + (K * ETA) ** 2 / 2 + SIGMA**2) - 1) / K)
"""Load, as a share of c, at which the *mean* share over the limit is 5 %: what a pressure test measures."""


def step_test(seed: int, *, top: float, window_s: float = 20.0, minutes: float = 20.0) -> ServiceFrame:
    """Return a pressure test: ten steps up to `top` × capacity and back down, both roles alike."""
    service = Service(window_s=window_s, kind="pressure_test")
    rows = int(minutes * 60 / window_s)
    up = np.linspace(0.25, 1.0, 10)
    steps = np.repeat(np.r_[up, up[::-1]], math.ceil(rows / 20))[:rows]
    prefill = service.prefill_capacity * service.prefill / 20
    decode = service.decode_capacity * service.decode / 20
    return make_frame(service, 20 * top * steps, prefill, decode, seed)


def sweep_frame(alpha: float, beta: float, splits: list[tuple[int, int]]) -> ServiceFrame:
    """Return captures of splits under one overload: served min(αP, βD) requests/s, backlog where short."""
    tables = []
    for p, d in splits:
        rows, served = 12, min(alpha * p, beta * d)
        age = {
            "prefill": 9.0 if alpha * p < beta * d else 0.0,
            "decode": 9.0 if alpha * p > beta * d else 0.0,
        }
        columns = {
            "request_rate@service": 30.0, "first_token_rate@service": served,
            "decode_tps@decode": 200 * served,
            "prefill_tps_effective@prefill": 900 * served, "instances@prefill": p, "instances@decode": d,
            "input_length@service": 900.0, "output_length@service": 200.0,
            "ttft_over@service": 1.0, "tbt_over@decode": 0.0, "backlog_age_s@prefill": age["prefill"],
            "backlog_age_s@decode": age["decode"],
        }  # fmt: skip
        arrays = {name: np.full(rows, float(value)) for name, value in columns.items()}
        tables.append(frame_of(arrays, "pressure_test", 20.0, f"{p}p{d}d"))
    whole = pl.concat([one.table for one in tables]).sort("capture", "t")
    return replace(tables[0], table=whole)

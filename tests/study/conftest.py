"""A small seeded generator of services whose signals have a known relation to the load."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from hs_analysis.schema.aligned import ServiceFrame, SignalInfo, column
from hs_analysis.schema.settings import Settings

FAMILIES = {
    "decode_tps": ("throughput", "sum"), "prefill_tps": ("throughput", "sum"),
    "prefill_tps_effective": ("throughput", "sum"), "gpu_util": ("hardware", "mean"),
    "sm_activity": ("hardware", "mean"), "ttft": ("latency", "ratio"), "tbt": ("latency", "ratio"),
    "queue_length": ("queue", "sum"), "kv_usage": ("memory", "mean"), "running": ("memory", "sum"),
    "request_rate": ("load", "sum"), "request_work": ("load", "sum"), "e2e_latency": ("latency", "ratio"),
}  # fmt: skip
START_S = 1_767_225_600


def slow_noise(n: int, tau: float, sd: float, rng: np.random.Generator) -> np.ndarray:
    """An AR(1) with a memory of `tau` rows and the given standard deviation."""
    keep = np.exp(-1.0 / tau)
    shocks = rng.normal(size=n) * sd * np.sqrt(1 - keep**2)
    out = np.empty(n)
    out[0] = rng.normal() * sd
    for t in range(1, n):
        out[t] = keep * out[t - 1] + shocks[t]
    return out


def day_load(hours: float, seed: int, *, window_s: float = 60.0, depth: float = 0.45) -> np.ndarray:
    """Tokens/s of a service with a day cycle, wandering demand and minute-to-minute news."""
    rng = np.random.default_rng([seed, 77])
    n = round(hours * 3600 / window_s)
    clock = np.arange(n) * window_s / 86_400
    cycle = 1.0 - depth * np.cos(2 * np.pi * clock)
    return 5000.0 * cycle * np.exp(slow_noise(n, 40, 0.08, rng) + rng.normal(size=n) * 0.03)


def build_frame(
    columns: dict[str, np.ndarray],
    *,
    kind: str = "production",
    reference: str = "offered",
    window_s: float = 60.0,
    start_s: float = START_S,
    capture: list[str] | None = None,
    interval_s: float = 15.0,
) -> ServiceFrame:
    """Make a frame from columns ``signal@role``; every column the rules don't know is auxiliary."""
    n = next(iter(columns.values())).size
    names = capture or [""] * n
    place = np.array([k - names.index(name) for k, name in enumerate(names)])
    first = np.array([names.index(name) for name in names])
    seconds = start_s + (first * 10 + place) * window_s  # captures lie apart in time
    infos = []
    for key, values in columns.items():
        signal, role = key.split("@")
        family, pool = FAMILIES.get(signal, ("auxiliary", "sum"))
        coverage = float(np.isfinite(values).mean())
        infos.append(SignalInfo(signal, role, "made", "", pool, family, interval_s, coverage))
    table = pl.DataFrame({"capture": names, "t": (seconds * 1e6).astype(np.int64)}).with_columns(
        pl.col("t").cast(pl.Datetime("us", "UTC")),
        *(pl.Series(key, values.astype(float)).fill_nan(None) for key, values in columns.items()),
    )
    return ServiceFrame("demo/m", window_s, kind, reference, table, tuple(infos), {}, {})


def decode_columns(load: np.ndarray, role: str = "decode", instances: float = 4.0) -> dict[str, np.ndarray]:
    """Load, saturation and pool size of one role."""
    return {
        column("offered_tps", role): load,
        column("saturated", role): np.zeros(load.size),
        column("instances", role): np.full(load.size, instances),
    }


def follow(
    load: np.ndarray, exponent: float, noise: float, seed: int, *, scale: float = 1.0, delay: int = 0
) -> np.ndarray:
    """A signal that answers to the load with the given elasticity and log-normal noise."""
    rng = np.random.default_rng([seed, 5])
    moved = np.concatenate((np.full(delay, load[0]), load[: load.size - delay])) if delay else load
    return scale * (moved / 5000.0) ** exponent * np.exp(rng.normal(size=load.size) * noise)


@pytest.fixture
def settings() -> Settings:
    """Few draws: verdicts do not rest on them."""
    return Settings(draws=60)


@pytest.fixture
def make() -> Callable[..., ServiceFrame]:
    return build_frame


@pytest.fixture
def load_of() -> Callable[..., np.ndarray]:
    return day_load


@pytest.fixture
def pool() -> Callable[..., dict[str, np.ndarray]]:
    return decode_columns


@pytest.fixture
def answer() -> Callable[..., np.ndarray]:
    return follow

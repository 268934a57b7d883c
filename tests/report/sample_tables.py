"""Tables of the hand-made run: a week of minutes with a gap and two saturated stretches, seeded."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from hs_analysis.schema.frames import DETAILS, empty

START = datetime(2026, 11, 2, tzinfo=UTC)
DAYS = 7
MINUTES = DAYS * 1440
GAP = (4000, 4135)  # rows without any sample
SATURATED = ((2040, 2095), (7500, 7530))


def _load(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (minutes, decode load): a day cycle with noise, null in the gap."""
    rng = np.random.default_rng(seed)
    minute = np.arange(MINUTES, dtype=float)
    day = 0.55 + 0.4 * np.sin(2 * np.pi * (minute / 1440 - 0.35)) + 0.08 * np.sin(2 * np.pi * minute / 240)
    return minute, 11_000 * np.clip(day * rng.normal(1, 0.03, MINUTES), 0.03, None)


def _times(minutes: np.ndarray) -> pl.Series:
    epoch = (START.timestamp() + minutes * 60) * 1_000_000
    return pl.Series("t", epoch.astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def signal_rows(service: str, seed: int) -> pl.DataFrame:
    minute, load = _load(seed)
    keep = (minute < GAP[0]) | (minute >= GAP[1])
    rng = np.random.default_rng(seed + 1)
    rows = (
        ("decode_tps", "decode", load),
        ("prefill_tps_effective", "prefill", load * 2.05),
        ("gpu_util", "decode", 0.84 + 0.02 * rng.normal(size=MINUTES)),
        ("gpu_util", "prefill", load / 14_000),
        ("ttft", "service", 0.5 + load / 20_000),
        ("tbt", "decode", 0.02 + load / 900_000),
        ("request_rate", "service", load / 270),
    )
    frames = []
    for signal, role, values in rows:
        coverage = np.where(rng.random(MINUTES) < 0.01, 0.6, 1.0)
        if (signal, role) == ("gpu_util", "decode"):
            coverage = np.where((minute > 5000) & (minute < 8000), 0.4, coverage)
        frames.append(
            pl.DataFrame(
                {
                    "service": service,
                    "capture": "",
                    "role": role,
                    "gpu_type": pl.Series([None] * MINUTES, dtype=pl.String),
                    "signal": signal,
                    "source": "vllm",
                    "t": _times(minute),
                    "window_s": 60.0,
                    "value": values,
                    "instances": 10.0,
                    "coverage": coverage,
                }
            ).filter(pl.Series(keep))
        )
    return pl.concat(frames)


def detail_tables(service: str, seed: int) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed + 2)
    minute, load = _load(seed)
    five = np.flatnonzero((minute % 5 == 0) & ((minute < GAP[0]) | (minute >= GAP[1])))
    saturated = np.zeros(MINUTES, bool)
    for a, b in SATURATED:
        saturated[a:b] = True
    points = []
    for signal, role, value in (
        ("decode_tps", "decode", load),
        ("prefill_tps_effective", "prefill", load * 2.05),
    ):
        x = load[five] * (2.05 if role == "prefill" else 1.0)
        points.append(
            pl.DataFrame(
                {
                    "service": service,
                    "capture": "",
                    "signal": signal,
                    "role": role,
                    "t": _times(minute[five]),
                    "load": x,
                    "value": value[five] * rng.normal(1, 0.02, five.size),
                    "fit": x,
                    "used": ~saturated[five] & (load[five] > 2000),
                }
            )
        )
    capacity, curves = [], []
    for role, limit in (("prefill", 3512.4), ("decode", 1548.9)):
        x = limit * np.clip(load / 10_500, 0.1, 1.06)
        p = 1 / (1 + np.exp(-(60 * np.log(x / limit) - 2.94)))
        over = rng.random(MINUTES) < p
        violates = pl.Series(over.tolist()).set(pl.Series(rng.random(MINUTES) < 0.01), None)
        capacity.append(
            pl.DataFrame(
                {
                    "service": service,
                    "role": role,
                    "capture": "",
                    "t": _times(minute),
                    "load_per_instance": x,
                    "over_ratio": np.where(over, 0.09, 0.01),
                    "over_least_ratio": np.where(over, 0.08, 0.005),
                    "violates": violates,
                    "used": x > 0.8 * limit,
                }
            )
        )
        grid = np.linspace(0.7 * limit, 1.06 * limit, 80)
        curves.append(
            pl.DataFrame(
                {
                    "service": service,
                    "role": role,
                    "load_per_instance": grid,
                    "violation_probability": 1 / (1 + np.exp(-(60 * np.log(grid / limit) - 2.94))),
                }
            )
        )
    hours = np.arange(0, MINUTES, 60, dtype=float)
    mix = pl.DataFrame(
        {
            "service": service,
            "capture": "",
            "start": _times(hours),
            "end": _times(hours + 60),
            "prefill_tps": load[::60] * 2.05,
            "decode_tps": load[::60],
            "ratio": 0.9 + 0.05 * np.sin(hours / 700),
        }
    )
    tables = {
        "study_points": pl.concat(points),
        "capacity_points": pl.concat(capacity),
        "capacity_curve": pl.concat(curves),
        "mix": mix,
        "timeline": _timeline(service, minute, load),
    }
    return {key: frame.cast(empty(DETAILS[key]).schema) for key, frame in tables.items()}


def _timeline(service: str, minute: np.ndarray, load: np.ndarray) -> pl.DataFrame:
    test = (minute >= MINUTES * 0.6) & ((minute < GAP[0]) | (minute >= GAP[1]))
    t, x = minute[test], load[test]
    smooth = np.convolve(x, np.ones(45) / 45, "same")
    sizes = {
        "decode_tps@decode": np.clip(np.ceil(smooth * 1.15 / 1276.7), 2, 20),
        "recorded": np.full(x.size, 10.0),
        "static_peak": np.full(x.size, 11.0),
        "oracle": np.clip(np.ceil(smooth / 1276.7), 2, 20),
    }
    frames = [
        pl.DataFrame(
            {
                "service": service,
                "policy": policy,
                "capture": "",
                "t": _times(t),
                "load_prefill": x * 2.05,
                "load_decode": x,
                "desired_prefill": np.ceil(n * 0.9),
                "desired_decode": n,
                "ready_prefill": np.ceil(n * 0.9),
                "ready_decode": n,
                "violation_probability": 0.002,
                "action": "hold",
                "reason": "",
            }
        )
        for policy, n in sizes.items()
    ]
    return pl.concat(frames)

"""Pairs of unrelated services whose days look alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from study.conftest import build_frame, day_load, decode_columns, follow

from hs_analysis.schema.settings import Settings
from hs_analysis.study import study_service

HOURS = (10, 16, 24, 48)
DEPTHS = (0.45, 0.7, 0.9)
"""Lengths and depths of the nights: the deeper, the louder the busy hours of both."""


@dataclass(frozen=True)
class Judged:
    """What was said of one signal of a stranger."""

    seed: int
    signal: str
    verdict: str
    link: float | None


def judge_strangers(seeds: Iterable[int]) -> list[Judged]:
    """Judge four signals of one service on the load of another, per seed."""
    found = []
    for seed in seeds:
        hours, depth = HOURS[seed % 4], DEPTHS[seed % 3]
        mine, other = (day_load(hours, 10_000 + 2 * seed + k, depth=depth) for k in range(2))
        rng = np.random.default_rng([seed, 6])
        columns = decode_columns(mine) | {
            "decode_tps@decode": follow(other, 1.0, 0.02, seed, scale=5000.0),
            "running@decode": follow(other, 1.0, 0.3, seed + 1, scale=60.0),
            "tbt@decode": follow(other, 0.5, 0.02, seed + 2, scale=0.03),
            "queue_length@decode": np.maximum(other / 7000 - 1.0, 0.0) * rng.gamma(2.0, 10.0, other.size),
        }
        result = study_service(build_frame(columns), Settings(draws=2))
        found += [Judged(seed, v.signal, v.verdict, v.innovation_link) for v in result.verdicts]
    return found

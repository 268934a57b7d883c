"""Eight days of one service; on the last one its requests change their shape, and nobody says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from simulator.history import MONDAY_UNIX_S
from simulator.kinds import BOTH_SLO, Kind
from simulator.physics import simulate
from simulator.record import Setup, record
from simulator.services import draw
from simulator.workloads import DAY_S, GRID_S, LoadShape, MixPath, arrivals

DAYS = 8
SHORTER, LONGER = 0.5, 1.5
"""Factors on prompts and answers on the last day [ratio]."""

SERVICE = Kind(
    "changed_mix", "seven days alike; on the eighth prompts are half as long and answers longer by half",
    24.0 * DAYS, LoadShape(night=0.3, first_day=0, wander_sd=0.07),
    prefill_peak=(0.75, 0.8), decode_peak=(0.62, 0.66), slo=BOTH_SLO, setup=Setup(step_s=60),
)  # fmt: skip
"""Pools that hold their limits, also on the last day: nobody is paged."""


def changed_on_the_last_day(path: MixPath) -> MixPath:
    """Return a mix that changes from one request to the next, seven days after the start."""
    last = np.arange(path.prompt.size) * GRID_S >= (DAYS - 1) * DAY_S
    return replace(
        path,
        prompt=np.where(last, path.prompt * SHORTER, path.prompt),
        output=np.where(last, path.output * LONGER, path.output),
    )


def eight_days(seed: int) -> tuple[list[dict[str, Any]], float]:
    """Return the service's series as a range query answers them, and the end of the eighth day [Unix s]."""
    rng = np.random.default_rng(seed)
    drawn = draw(SERVICE, rng)
    requests = arrivals(drawn.rate, changed_on_the_last_day(drawn.path), SERVICE.mix, rng)
    trace = simulate(drawn.service, requests, SERVICE.hours, rng)
    rows = []
    step = SERVICE.setup.step_s
    stamps = MONDAY_UNIX_S + np.arange(step, round(SERVICE.hours * 3600) + 1, step)
    for one in record(trace, SERVICE.setup, rng, float(MONDAY_UNIX_S), None):
        there = np.flatnonzero(np.isfinite(one.values))
        pairs = zip(stamps[there].tolist(), map(repr, one.values[there].tolist()), strict=True)
        rows.append({"metric": one.labels, "values": [[float(t), text] for t, text in pairs]})
    return rows, MONDAY_UNIX_S + SERVICE.hours * 3600.0

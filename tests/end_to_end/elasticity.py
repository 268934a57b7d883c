"""What a queue does over the very loads that its elasticity speaks of, by holding each of them still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from simulator import History
from simulator.measures import EVERY_SECOND, offered, signals
from simulator.pressure import WARM_H, WORK, press
from simulator.services import mean_point
from simulator.truth import alive, still_pools

ROW_S = 300
LEVELS, RUNS, HOURS = 5, 3, 1.5
"""Loads alike in logs, runs of each, and hours of a run: a queue near the limit is slow to average out."""


def queue_slopes(made: History, given: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return slope, interval and true slope of each queue that was given an elasticity.

    Parameters
    ----------
    made
        The history; its service as it is at the end is held at each load, in pools of the usual size.
    given
        What the study says, per ``signal@role``.
    """
    found: list[dict[str, Any]] = []
    if made.stranger is not None:  # the queues that were recorded are another service's
        return found
    for role in made.trace.service.roles:
        name = f"queue_length@{role}"
        said = given.get(name, {})
        if said.get("elasticity") is not None and said["elasticity_ci"] is not None:
            true = _slope(made, role, *_per_instance(made, role, said))
            found.append(
                {"signal": name, "true": true, "got": said["elasticity"], "ci": said["elasticity_ci"]}
            )
    return found


def _per_instance(made: History, role: str, said: Mapping[str, Any]) -> tuple[float, float]:
    """Return the loads spoken of per instance: they are totals where the pool stood still."""
    low, high = said["elasticity_range"]
    if any(reason["code"] == "per_instance" for reason in said["reasons"]):
        return low, high
    counts = alive(made.trace.service.lives[role], np.arange(0.0, made.trace.hours * 3600.0, 60.0))
    return low / float(np.median(counts)), high / float(np.median(counts))


def _slope(made: History, role: str, low: float, high: float) -> float:
    service = still_pools(made.kind, made.drawn, made.trace)[-1]
    point, size = mean_point(made.drawn.rate, made.drawn.path), len(service.lives[role])
    skip = round(WARM_H * 3600 / ROW_S)
    loads, queues = [], []
    for number, level in enumerate(np.geomspace(low, high, LEVELS)):
        held = replace(point, rate=float(level) * size / point.tokens(role))
        sums = []
        for run in range(RUNS):
            rng = np.random.default_rng([made.seed, number, run])
            trace = press(service, role, held, made.kind.mix, HOURS + WARM_H, rng)
            waited = signals(trace, ROW_S, EVERY_SECOND, rng)[f"queue_length@{role}"][skip:]
            sums.append((offered(trace, ROW_S)[WORK[role]][skip:].mean(), np.nanmean(waited)))
        load, queue = np.mean(sums, axis=0)
        loads.append(load)
        queues.append(queue)
    return float(np.polyfit(np.log(loads), np.log(np.maximum(queues, 1e-9)), 1)[0])

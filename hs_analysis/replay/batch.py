"""Many policies on one window at once, compiled, with the figures selection needs.

Decisions, counts and figures equal those of ``simulate`` and ``score``; tests hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.policy.model import Policy
from hs_analysis.replay.arrays import POOL_STATE, Family, Figures, Scene, State
from hs_analysis.replay.demand import Demand, Floats
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.packing import pack_policies, pack_scene
from hs_analysis.replay.score import DAY_S


@dataclass(frozen=True)
class BatchScore:
    """Figures of policies on one window, shape (policies,) each; NaN where a figure can't be had.

    As in ``score``: hours from the moment instances are asked for, expected share of windows over capacity
    (``strain_ratio``) and of those over a limit with an SLO (``slo_violation_ratio``), actions a day,
    tokens unserved.
    """

    instance_hours: Floats
    gpu_hours: Floats
    strain_ratio: Floats
    slo_violation_ratio: Floats
    actions_per_day: Floats
    unserved_tokens: Floats


def score_batch(policies: Sequence[Policy], parts: Sequence[Demand], model: FleetModel) -> BatchScore:
    """Simulate policies that differ in numbers only, and sum their figures up over all captures.

    Raises
    ------
    UsageError
        When they differ in more than numbers.
    """
    count, pools = len(policies), len(model.pools)
    figures = _no_figures(count, pools)
    family = pack_policies(policies, tuple(model.pools))
    for part in parts:
        _run(family, pack_scene(policies[0], part, model), figures, np.zeros((pools, 0, count)))
    scored_s = sum(float(part.scored.sum()) * part.window_s for part in parts)
    if scored_s == 0:
        return BatchScore(*(np.full(count, np.nan) for _ in range(6)))
    gpus = [model.gpus_per_instance.get(role, np.nan) for role in model.pools]
    with np.errstate(invalid="ignore", divide="ignore"):
        return BatchScore(
            figures.hours.sum(axis=1),
            figures.hours @ np.array(gpus),
            figures.strain[:, 0] / figures.strain[:, 1],
            figures.violation[:, 0] / figures.violation[:, 1],
            figures.actions / (scored_s / DAY_S),
            figures.unserved,
        )


def counts_batch(policies: Sequence[Policy], part: Demand, model: FleetModel) -> dict[str, Floats]:
    """Return the counts that each policy asks for on one capture, per pool, shape (rows, policies)."""
    counts = np.zeros((len(model.pools), part.rows, len(policies)))
    family, scene = pack_policies(policies, tuple(model.pools)), pack_scene(policies[0], part, model)
    _run(family, scene, _no_figures(len(policies), len(model.pools)), counts)
    return dict(zip(model.pools, counts, strict=True))


def _no_figures(count: int, pools: int) -> Figures:
    return Figures(
        np.zeros((count, pools)), np.zeros((count, 2)), np.zeros((count, 2)), np.zeros(count), np.zeros(count)
    )


def _run(family: Family, scene: Scene, figures: Figures, counts: Floats) -> None:
    # The compiler takes half a second to load; only a search needs it.
    from hs_analysis.replay.kernel import run_family

    run_family(family, scene, _scratch(scene), figures, counts)


def _scratch(scene: Scene) -> State:
    (pools, rows), primaries = scene.offered.shape, scene.primaries.size
    return State(
        np.zeros(pools, POOL_STATE),
        np.zeros((pools, rows + 1)),
        np.zeros((pools, rows + 1)),
        np.concatenate([scene.before, np.full((primaries, rows), np.nan)], axis=1),
        np.concatenate([scene.ran, np.full((pools, rows), np.nan)], axis=1),
        np.full((pools, rows), np.nan),
    )

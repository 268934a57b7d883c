"""How far hours hang on single readings: the same policy, when other readings of these minutes had come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hs_analysis.policy.model import Policy
from hs_analysis.replay.alike import SAME
from hs_analysis.replay.batch import score_batch
from hs_analysis.replay.control import Control
from hs_analysis.replay.demand import Demand, Key, rows_of
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.readings import read_from
from hs_analysis.replay.signals import kept_ratio, told
from hs_analysis.schema.results import Interval

REDRAWS = 39
"""Replays with other readings: the lowest and highest of them and the replay itself are 95 % of what may
come (2 of 40 ranks lie outside, Wilks 1941); a default of this project."""

NEAR_S = 600.0
"""How far away in time a reading may be taken from [s]: load and mix are alike, and twice an average of five
minutes holds enough of them; a default of this project."""


def hours_range(
    control: Control, parts: Sequence[Demand], model: FleetModel, hours: float | None, seed: int
) -> Interval | None:
    """Return between which instance-hours a policy may end by the chance of what is read when.

    A gauge is sampled a few times a minute, and requests cross a minute's edge a little earlier or later at
    other counts: a look beside a threshold that fell on the other side decides an instance for hours. So
    what each row read beside the model is drawn anew from the rows near it (a local bootstrap of residuals,
    Efron 1979), and the policy replayed.

    Parameters
    ----------
    control
        What is replayed.
    parts
        The captures of the window.
    model
        The fleet.
    hours
        Instance-hours of the replay itself, which are inside; None without any.
    seed
        Of the draws.

    Returns
    -------
    tuple
        Lowest and highest hours; None where no reading decides: no policy on metrics, or none of its signals
        was recorded.
    """
    if hours is None or not isinstance(control, Policy) or control.mode != "metric":
        return None
    keys = tuple((p.signal, p.role) for p in control.primaries if read_from((p.signal, p.role), model))
    if not keys:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(REDRAWS):
        others = [redrawn(part, keys, model, rng) for part in parts]
        found.append(float(score_batch([control], others, model).instance_hours[0]))
    # Sums in another order are no other hours.
    found = [hours if math.isclose(one, hours, rel_tol=SAME) else one for one in found]
    return min(hours, *found), max(hours, *found)


def redrawn(demand: Demand, keys: Sequence[Key], model: FleetModel, rng: np.random.Generator) -> Demand:
    """Return the demand with other readings of these signals, each row's from one up to ``NEAR_S`` away.

    All signals of a row come from the same one. Rows in which something waited, or nothing was read, stay.
    """
    near = rows_of(NEAR_S, demand.window_s)
    from_row = np.clip(
        np.arange(demand.rows) + rng.integers(-near, near + 1, demand.rows), 0, demand.rows - 1
    )
    found = {}
    for key in keys:
        at = read_from(key, model)
        if at is None:
            continue
        signal, kept = model.signals[at], kept_ratio(model.signals[at], at, demand)
        drawn = told(signal, demand) * kept[from_row]
        found[at] = np.where(np.isfinite(kept) & np.isfinite(drawn), drawn, demand.column(*at))
    return replace(demand, recorded={**demand.recorded, **found})

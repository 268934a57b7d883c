"""Offered work that a run rebuilt where a pool was saturated, against what came to the pool in truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from simulator import History
from simulator.physics import Trace

from hs_analysis.derive.rows import saturated_rows, work_of
from hs_analysis.pipeline.tables import read_frames

SLOT_S = 300
"""Errors are those of five-minute means [s]."""

FULL_SHARE = 0.8
"""A slot counts from this share of its rows saturated and known [ratio]: none that a scrape gap cut."""

SLOTS_MIN = 3
"""Fewest slots that a median error is told from."""


def saturated_error(made: History, run_dir: Path) -> dict[str, float]:
    """Return per pool the median |ln(rebuilt ÷ true)| of its saturated slots; without pools that have few.

    What comes to decode is what prefill lets through, at the moment it reaches decode.
    """
    frames = read_frames(run_dir)
    found = {}
    for role in set(made.trace.stays) & {"prefill", "decode"}:
        errors = []
        for frame in frames:
            slot = ((frame.seconds() - made.start_unix_s) // SLOT_S).astype(np.int64)
            work, _ = work_of(frame, role)
            used = saturated_rows(frame, role) & np.isfinite(work)
            true = _arriving_tps(made.trace, role)
            for number in np.unique(slot[used]):
                rows = used & (slot == number)
                if rows.sum() * frame.window_s >= FULL_SHARE * SLOT_S and 0 <= number < true.size:
                    errors.append(abs(math.log(work[rows].mean() / true[number])))
        if len(errors) >= SLOTS_MIN:
            found[role] = float(np.median(errors))
    return found


def _arriving_tps(trace: Trace, role: str) -> NDArray[np.float64]:
    """Return work that comes to a pool [tokens/s], one value a slot."""
    came_s = trace.stays[role].enter_s
    tokens = trace.requests.missed if role == "prefill" else trace.requests.output
    edges = np.arange(0.0, trace.hours * 3600.0 + 1.0, SLOT_S)
    return np.asarray(np.histogram(came_s, edges, weights=tokens)[0] / SLOT_S)

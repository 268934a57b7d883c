"""What each field of a policy is worth that the file of a target does not say, or says otherwise.

HeteroScale's own rule says all of a policy. It is replayed once more for every field as a file holds it, read
back, with all others as they are: what changes is the cost of that field alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.controllers.ablation import as_written, field_of, fields_of
from hs_analysis.export import Loss
from hs_analysis.schema.exported import FieldReplay
from hs_analysis.schema.replays import PolicyReplay

EXPRESSED, ADDED = "expressed", "added"
"""How a file holds a field that no loss speaks of, and what it holds that the policy does not ask for."""


@dataclass(frozen=True)
class Ablations:
    """Fields as the files of targets hold them.

    Attributes
    ----------
    lanes
        What runs each, by name: HeteroScale's rule with one field as a file holds it, those that differ from
        all of the policy, each once. A file that binds the pools by a ratio of its own also runs without it.
    of
        Target → field → how the file holds it, and the name of its lane: that of the whole policy where the
        file holds what the policy says.
    """

    lanes: Mapping[str, HeteroScale | Autoscaler] = field(default_factory=dict)
    of: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)


def ablations(name: str, rule: object, files: Mapping[str, tuple[object, Sequence[Loss]]]) -> Ablations:
    """Return what has to be replayed to know what each field is worth.

    Parameters
    ----------
    name, rule
        All of the policy: its row in the backtest, and what runs it. Nothing is found for what is not
        HeteroScale's rule in mode metric.
    files
        Target → what its files set up, read back, and what they do not say.
    """
    if not isinstance(rule, HeteroScale) or rule.mode != "metric":
        return Ablations()
    lanes: dict[str, HeteroScale | Autoscaler] = {}
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for target, (control, losses) in files.items():
        if not isinstance(control, Autoscaler):
            continue
        for one in fields_of(rule):
            held = as_written(rule, control, one)
            if held is None:
                continue
            kind = _kind(one, losses)
            lane = name
            if held != rule:
                lane = next((key for key, known in lanes.items() if known == held), f"{one} {len(lanes)}")
                lanes[lane] = held
                # What waits is a part of a primary.
                kind = kind or (_kind("primaries", losses) if one == "waiting" else "")
            found.setdefault(target, {})[one] = (kind or EXPRESSED, lane)
        if control.together is not None:
            # Every ratio lies in this band: one structure with the file, so that they share a batch.
            free = replace(control.together, low=0.0, high=math.inf)
            lanes[f"{target} without its ratio"] = replace(control, together=free)
            found[target]["primaries"] = (ADDED, f"{target} without its ratio")
    return Ablations(lanes, found)


def _kind(name: str, losses: Sequence[Loss]) -> str:
    """Return how losses say that a field is held: approximated where a part of it still is there.

    Empty where none speaks of it.
    """
    kinds = {loss.kind for loss in losses if loss.changes_counts and field_of(loss.item) == name}
    return next((kind for kind in ("approximated", "dropped") if kind in kinds), "")


def replayed(
    found: Ablations, rows: Mapping[str, PolicyReplay], shares: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return what each lane did and which files hold which field so, as plain data; empty without any.

    Parameters
    ----------
    found
        What was replayed.
    rows, shares
        Rows of the backtest, and how often faults and bursts break the SLO, by name.
    """
    if not found.of:
        return {}
    lanes = {lane: None for fields in found.of.values() for _, lane in fields.values()}
    figures = {lane: figures_of(rows[lane], shares.get(lane) or {}) for lane in lanes}
    return {"figures": figures, "files": found.of}


def figures_of(row: PolicyReplay, under: Mapping[str, float]) -> dict[str, float | None]:
    """Return the figures that a file and a field have in common, of a row and its shares under faults."""
    return {
        "instance_hours": row.instance_hours,
        "gpu_hours": row.gpu_hours,
        "slo_violation_ratio": row.slo_violation_ratio,
        "under_faults": under.get("faults"),
        "under_bursts": under.get("bursts"),
    }


def fields_of_file(told: Mapping[str, Any], target: str) -> tuple[FieldReplay, ...]:
    """Return what each field did as the file of a target holds it, of what `replayed` told."""
    held: Mapping[str, tuple[str, str]] = (told.get("files") or {}).get(target) or {}
    return tuple(
        FieldReplay(field=name, kind=kind, **told["figures"][lane]) for name, (kind, lane) in held.items()
    )

"""Tables of the backtest: policies, candidates, and drivers tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hs_analysis.report.cells import (
    Anchors,
    Cell,
    evidence_path,
    number_cell,
    status_cell,
    table,
    text_cell,
)
from hs_analysis.report.choice import Choice, knows_shares, mapping, records
from hs_analysis.report.driver_words import in_order as drivers_in_order
from hs_analysis.report.replay_words import in_order, left_out, side_unclear
from hs_analysis.report.wording import (
    is_number,
    number,
    policy_name,
    replayed_on,
    signal_label,
    unit_of,
)
from hs_analysis.schema.names import TARGET_TITLES


def replay_path(name: str, entry: Mapping[str, Any]) -> str:
    """Return the evidence path of a replayed policy."""
    return evidence_path(name, "replay", str(entry.get("policy") or "policy"), entry.get("evidence"))


def replay(name: str, service: Mapping[str, Any], chosen: Choice, anchors: Anchors) -> dict[str, Any]:
    """Return the backtest: one row per policy, the chosen one first, then what ran and the bounds."""
    entries = _entries(service)
    priced = any("cost" in entry for entry in entries)
    today = any(is_number(entry.get("vs_current")) for entry in entries)
    savings = ("vs_recorded", "vs_static_peak", "vs_hindsight", *(["vs_current"] if today else []))
    rows = []
    for entry in entries:
        path = replay_path(name, entry)
        cells = [
            _named(entry, chosen),
            hours_cell(entry, "instance_hours", entry.get("instance_hours_ci")),
            hours_cell(entry, "gpu_hours"),
            *([hours_cell(entry, "cost")] if priced else []),
            *(number_cell(entry.get(key), "ratio", entry.get(f"{key}_ci"), key=key) for key in savings),
            *_over_the_limit(entry),
            number_cell(entry.get("actions_per_day"), "", None, 1, key="actions_per_day"),
        ]
        rows.append({"id": anchors.claim(path, cells[0]["text"]), "cells": cells, "path": path})
    heads = [
        "policy",
        "instance-hours",
        "GPU-hours",
        *(["cost"] if priced else []),
        "saved vs. recorded",
        "saved vs. static peak",
        "saved vs. hindsight",
        *(["saved vs. today's"] if today else []),
        "windows over limit",
        "time over limit",
        "longest stretch over limit",
        "actions per day",
    ]
    return table(f"Policies on {replayed_on(service)}", heads, rows)


def _over_the_limit(entry: Mapping[str, Any]) -> list[Cell]:
    """Return the windows and the time over the limit, and the longest stretch of them."""
    share = number_cell(
        entry.get("slo_violation_ratio"), "ratio", entry.get("slo_violation_ci"), key="slo_violation_ratio"
    )
    time = number_cell(
        entry.get("slo_violation_s"), "expected_s", entry.get("slo_violation_s_ci"), key="slo_violation_s"
    )
    return [
        _noted(share, side_unclear(entry)),
        time,
        number_cell(entry.get("recovery_s"), "s", key="recovery_s"),
    ]


def further(service: Mapping[str, Any], chosen: Choice) -> dict[str, Any]:
    """Return the figures of the same rows that the first table leaves out, so that it can be read across."""
    rows = []
    for entry in _entries(service):
        cells = [
            _named(entry, chosen),
            number_cell(entry.get("reversals_per_day"), "", None, 1),
            number_cell(entry.get("overshoot_ratio"), "ratio"),
            number_cell(entry.get("pd_imbalance_ratio"), "ratio"),
            number_cell(entry.get("pd_stray_ratio"), "ratio"),
            number_cell(entry.get("pd_stray_factor"), "", None, 2),
            number_cell(entry.get("slo_violation_tokens"), "", entry.get("slo_violation_tokens_ci")),
            number_cell(entry.get("unserved_tokens"), "", None, 0),
        ]
        rows.append({"id": "", "cells": cells})
    heads = [
        "policy",
        "reversals per day",
        "overshoot",
        "P/D imbalance",
        "windows off the P/D ratio",
        "farthest from it (times)",
        "output tokens over limit",
        "unserved tokens",
    ]
    return table(f"Further figures on {replayed_on(service)}", heads, rows)


def targets(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file of each export target does on the test window, written and read back."""
    rows, known = [], knows_shares(service)
    for entry in records(mapping(service.get("replay")).get("targets")):
        why, assumed = str(entry.get("why_not") or ""), str(entry.get("assumes") or "")
        first = text_cell(_title(entry), note=f"not replayed: {why}" if why else assumed)
        rows.append({"id": "", "cells": [first, *_figures(entry, known)]})
    heads = ["file for", *_HOURS_AND_SHARES]
    return table(f"The exported file of each target on {replayed_on(service)}, read back", heads, rows)


def fields(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each field of the policy is worth, and which files hold it how; alike ones in one row."""
    files = list(records(mapping(service.get("replay")).get("targets")))
    whole = next((entry for entry in files if entry.get("target") == "heteroscale"), {})
    alike: dict[tuple[Any, ...], list[str]] = {}
    for entry in files:
        for one in records(entry.get("fields")):
            key = (one.get("field"), one.get("kind"), *map(one.get, _FIGURES))
            alike.setdefault(key, []).append(_title(entry))
    if not alike:
        return {}
    order = list(dict.fromkeys(key[0] for key in alike))
    known = knows_shares(service)
    rows = [_worth("the whole policy", "", map(whole.get, _FIGURES), known)]
    for key in sorted(alike, key=lambda key: order.index(key[0])):
        name, kind, *figures = key
        note = "the file without its ratio" if kind == "added" else ""
        rows.append(_worth(name, f"{kind}: {', '.join(alike[key])}", figures, known, note))
    heads = ["field", "files", *_HOURS_AND_SHARES]
    return table("Each field as the files hold it, run by HeteroScale's own rule", heads, rows)


_HOURS_AND_SHARES = ("instance-hours", "GPU-hours", "windows over limit", "under faults", "under bursts")
_FIGURES = ("instance_hours", "gpu_hours", "slo_violation_ratio", "under_faults", "under_bursts")
"""Figures of a file on the test window."""


def _title(entry: Mapping[str, Any]) -> str:
    return TARGET_TITLES.get(str(entry.get("target")), str(entry.get("target")))


def _worth(name: str, files: str, figures: Iterable[Any], known: bool, note: str = "") -> dict[str, Any]:
    first = [text_cell(name), text_cell(files, note=note, wide=True)]
    return {"id": "", "cells": [*first, *_figures(dict(zip(_FIGURES, figures, strict=True)), known)]}


def _figures(entry: Mapping[str, Any], known: bool) -> list[Cell]:
    hours = [hours_cell(entry, key) for key in _FIGURES[:2]]
    return hours + [number_cell(entry.get(key) if known else None, "ratio") for key in _FIGURES[2:]]


def _entries(service: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return in_order(records(mapping(service.get("replay")).get("policies")), service)


def _named(entry: Mapping[str, Any], chosen: Choice) -> Cell:
    policy = str(entry.get("policy"))
    note = "the chosen policy" if policy == chosen.selected.get("policy") else ""
    return text_cell(policy_name(policy), note=note)


def _noted(cell: Cell, note: str) -> Cell:
    return cell | {"note": note} if note else cell


def hours_cell(entry: Mapping[str, Any], key: str, ci: Any = None) -> Cell:
    """Return hours without decimals once there are many, so that they can be added up."""
    value = entry.get(key)
    return number_cell(value, "", ci, 0 if is_number(value) and abs(value) >= 100 else 1, key=key)


def drivers(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return how every signal did as the driver of its pool."""
    rows = []
    for entry in drivers_in_order(records(service.get("drivers"))):
        signal, role = str(entry.get("signal")), str(entry.get("role") or "")
        path = evidence_path(name, "select", f"driver:{signal}@{role}", entry.get("evidence"))
        label = signal_label(signal, role)
        drives = f"drives {entry['pool']}" if entry.get("pool") and entry.get("pool") != role else ""
        cells = [
            text_cell(label, note=drives),
            status_cell(entry.get("verdict"), note=str(entry.get("reading") or ""), wide=True, key="verdict"),
            number_cell(entry.get("dip_ratio"), "", None, 2, key="dip_ratio"),
            number_cell(entry.get("correlation"), "", None, 2, key="correlation"),
            text_cell(number(entry.get("reversals_per_day"), 2), numeric=True, key="reversals_per_day"),
            hours_cell(entry, "instance_hours"),
            number_cell(entry.get("strain_ratio"), "ratio", key="strain_ratio"),
            number_cell(entry.get("target_per_instance"), unit_of(signal), key="target_per_instance"),
        ]
        rows.append({"id": anchors.claim(path, label), "cells": cells, "path": path})
    heads = [
        "driver",
        "verdict of the study, and what it does",
        "instances, dip ÷ peak",
        "correlation with load",
        "reversals per day",
        "instance-hours of its pool",
        "windows over capacity",
        "target per instance",
    ]
    return table(f"Signals tried as drivers on {replayed_on(service)}", heads, rows)


def _fresher(entry: Mapping[str, Any]) -> str:
    """Return the note of a candidate that reads another range while the load grows; empty for others."""
    shorter = entry.get("surge_s")
    return f"{shorter:g} s while the load grows" if is_number(shorter) else ""


_CANDIDATE_SHARES = {
    "slo_violation_ratio": "windows over limit",
    "fault_violation_ratio": "under faults",
    "burst_violation_ratio": "under bursts",
}
"""Shares of a candidate, and the heads of their columns; one that no candidate has has no column."""


def selection(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return the candidates of the training window that no other beats, the chosen one first."""
    entries = records(service.get("selection"))
    entries.sort(
        key=lambda e: (
            not e.get("chosen"),
            -e["score"] if is_number(e.get("score")) else float("inf"),
            str(e.get("policy")),
        )
    )
    shares = [key for key in _CANDIDATE_SHARES if any(is_number(entry.get(key)) for entry in entries)]
    rows = []
    for entry in entries:
        cells = _candidate(entry, shares)
        path = evidence_path(name, "select", str(entry.get("policy") or "candidate"))
        rows.append({"id": anchors.claim(path, str(cells[0]["text"])), "cells": cells, "path": path})
    heads = [
        "candidate",
        "reads the mean of",
        "scale out above",
        "scale in below",
        "for",
        "recorded hours saved",
        "instance-hours",
        "GPU-hours",
        *(_CANDIDATE_SHARES[key] for key in shares),
        "actions per day",
        "at flat load",
        "chosen",
        "why",
    ]
    found = table("Candidate policies simulated on the training window", heads, rows)
    return found | {"left_out": left_out(service)}


def _candidate(entry: Mapping[str, Any], shares: Iterable[str]) -> list[Cell]:
    """Return the cells of a candidate: its knobs, hours, shares over the limit, actions, and why."""
    mark: Cell = {"text": "", "status": {"sign": "✓", "word": "chosen", "tone": "good"}, "key": "chosen"}
    return [
        text_cell(policy_name(str(entry.get("policy") or "candidate").partition(", ")[0])),
        number_cell(entry.get("reading_s"), "seconds", key="reading_s", note=_fresher(entry)),
        number_cell(entry.get("scale_out_ratio"), "", None, 2, key="scale_out_ratio"),
        number_cell(entry.get("scale_in_ratio"), "", None, 2, key="scale_in_ratio"),
        number_cell(entry.get("over_s"), "seconds", key="over_s"),
        number_cell(entry.get("score"), "ratio", key="score"),
        hours_cell(entry, "instance_hours"),
        hours_cell(entry, "gpu_hours"),
        *(number_cell(entry.get(key), "ratio", key=key) for key in shares),
        number_cell(entry.get("actions_per_day"), "", None, 1, key="actions_per_day"),
        number_cell(entry.get("flat_actions_per_day"), "", None, 1, key="flat_actions_per_day"),
        mark if entry.get("chosen") else text_cell("no", key="chosen"),
        text_cell(entry.get("reason"), wide=True),
    ]

"""What stands beside the policy in the replay: what to change in today's autoscaler, and policy by fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.cells import Cell, number_cell, table, text_cell
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import is_number, number, percent, policy_name
from hs_analysis.schema.names import POOL_ROLES


def beside(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables ``changes``, ``faults``, ``placement``, None where not asked for, and sentences."""
    given = mapping(service.get("replay"))
    current, faults = mapping(given.get("current")), records(given.get("faults"))
    placed = records(given.get("placement"))
    return {
        "changes": _changes(current) if current else None,
        "notes": _notes(current),
        "faults": _faults(faults) if faults else None,
        "placement": _placement(placed) if placed else None,
    }


def _changes(current: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(f"{one['name']} ({one['role']})"),
                text_cell(one["item"]),
                _value(one["now"]),
                _value(one["then"]),
                text_cell(one["why"]),
            ],
            "path": "",
        }
        for one in records(current.get("changes"))
    ]
    heads = ["object", "field", "today", "change to", "why"]
    return table("What to change in today's autoscaler", heads, rows)


def _value(value: Any) -> Cell:
    return number_cell(value) if is_number(value) else text_cell(value)


def _notes(current: Mapping[str, Any]) -> list[str]:
    notes = [f"not understood, or only nearly: {text}" for text in current.get("not_understood") or []]
    both = mapping(current.get("compared"))
    if both:
        notes.insert(0, against_today(both))
    return [*not_compared(current), *notes, *counts_lines(current)]


def against_today(both: Mapping[str, Any]) -> str:
    """Return the hours of the policy against those of today's autoscaler as a sentence."""
    side = "fewer" if both["saved"] >= 0 else "more"
    hours = f"{number(both['policy_hours'])} for {number(both['current_hours'])}"
    return f"against today's autoscaler: {percent(abs(both['saved']))} {side} {both['unit']}, {hours}"


def not_compared(current: Mapping[str, Any]) -> list[str]:
    """Return a line on why the policy is not set against today's autoscaler; none where it is."""
    reason = mapping(current.get("reason"))
    return [f"today's autoscaler is not compared with the policy: {reason['text']}"] if reason else []


def counts_lines(current: Mapping[str, Any]) -> list[str]:
    """Return a line on how far the counts of today's autoscaler, replayed, were from what ran.

    None without counts, and where it is not compared: the reason tells them.
    """
    found = records(current.get("counts"))
    if not found or not current.get("compared"):
        return []
    pools = [
        f"{one['pool']} {number(one['replayed'])} for {number(one['recorded'])}, {number(one['apart'])} apart"
        for one in found
    ]
    return [f"today's autoscaler as replayed against what ran, mean instances: {'; '.join(pools)}"]


def _faults(faults: list[Mapping[str, Any]]) -> dict[str, Any]:
    pools = [pool for pool in POOL_ROLES if any(is_number(row.get(f"lowest_{pool}")) for row in faults)]
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(policy_name(str(row.get("policy")))),
                text_cell(str(row.get("fault")).replace("_", " ")),
                number_cell(row.get("slo_violation_ratio"), "ratio"),
                number_cell(row.get("worst_violation_ratio"), "ratio"),
                number_cell(row.get("recovery_s"), "", None, 0),
                number_cell(row.get("unserved_tokens"), "", None, 0),
                *(number_cell(row.get(f"lowest_{pool}"), "", None, 0) for pool in pools),
            ],
            "path": "",
        }
        for row in faults
    ]
    heads = ["policy", "fault", "windows over limit", "in the worst hour", "recovery|s", "unserved tokens"]
    return table("Under faults", [*heads, *(f"fewest {pool}" for pool in pools)], rows)


def _placement(placed: list[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(policy_name(str(row.get("policy")))),
                number_cell(row.get("unplaced_instance_hours"), "", None, 1),
                number_cell(row.get("unplaced_window_ratio"), "ratio"),
                number_cell(row.get("crossing_ratio"), "ratio"),
                number_cell(row.get("scarce_instance_hours"), "", None, 1),
                number_cell(row.get("slo_violation_ratio"), "ratio"),
                number_cell(row.get("placed_slo_violation_ratio"), "ratio"),
                number_cell(row.get("placed_unserved_tokens"), "", None, 0),
            ],
            "path": "",
        }
        for row in placed
    ]
    heads = [
        "policy",
        "instance-hours without a place",
        "windows short of a place",
        "KV traffic that crosses domains",
        "instance-hours on scarce racks",
        "windows over limit, all placed",
        "windows over limit, as placed",
        "unserved tokens, as placed",
    ]
    return table("On the topology", heads, rows)

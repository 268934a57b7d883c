"""What stands beside the policies of a backtest, as tables of the terminal: faults and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.cli.shown import Block, Table


def faults(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of policy × fault; none when none was asked for."""
    if not found:
        return []
    columns = [
        ("policy", "policy"), ("fault", "fault"), ("slo_violation_ratio", "over limit,\nmean"),
        ("worst_violation_ratio", "over limit,\nworst"), ("recovery_s", "recovery\n[s]"),
        ("unserved_tokens", "unserved\ntokens"),
        ("lowest_prefill", "fewest\nprefill"), ("lowest_decode", "fewest\ndecode"),
        ("lowest_mixed", "fewest\nmixed"),
    ]  # fmt: skip
    shown = [c for c in columns if any(row.get(c[0]) is not None for row in found)]
    places = max(int(row.get("places") or 1) for row in found)
    hours = (
        f"tried in {places} hours of steep climbs of the load"
        if places > 1
        else "in the steepest climb of the load"
    )
    return [Table(f"Under faults of an hour, {hours}", shown, list(found))]


def placement(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of policies on a topology; none when none was given."""
    if not found:
        return []
    columns = [
        ("policy", "policy"), ("unplaced_instance_hours", "unplaced\ninstance-h"),
        ("unplaced_window_ratio", "windows\nshort"), ("crossing_ratio", "KV traffic\ncrossing"),
        ("scarce_instance_hours", "scarce\ninstance-h"), ("slo_violation_ratio", "over limit,\nall placed"),
        ("placed_slo_violation_ratio", "over limit,\nas placed"),
        ("placed_unserved_tokens", "unserved\ntokens"),
    ]  # fmt: skip
    shown = [c for c in columns if any(row.get(c[0]) is not None for row in found)]
    return [Table("On the topology: wanted counts, placed", shown, list(found))]

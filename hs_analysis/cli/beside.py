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
        ("policy", "policy"), ("fault", "fault"), ("slo_violation_ratio", "SLO violation ratio"),
        ("recovery_s", "recovery [s]"), ("unserved_tokens", "unserved tokens"),
        ("lowest_prefill", "fewest prefill"), ("lowest_decode", "fewest decode"),
        ("lowest_mixed", "fewest mixed"),
    ]  # fmt: skip
    shown = [c for c in columns if any(row.get(c[0]) is not None for row in found)]
    return [Table("Under faults: an hour from the steepest climb of the load", shown, list(found))]


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

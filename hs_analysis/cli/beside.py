"""What stands beside the policies of a backtest, as tables of the terminal: faults and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.cli.output import Block, Table, text_of
from hs_analysis.cli.tables import in_lines

_FEWEST = {"P": "lowest_prefill", "D": "lowest_decode", "mixed": "lowest_mixed"}


def faults(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of policy × fault; none when none was asked for."""
    if not found:
        return []
    pools = {name: key for name, key in _FEWEST.items() if any(row.get(key) is not None for row in found)}
    columns = [
        ("policy", "policy"), ("fault", "fault"), ("slo_violation_ratio", "over\nlimit"),
        ("worst_violation_ratio", "worst\nhour"), ("recovery_s", "recovery\n[s]"),
        ("unserved_tokens", "unserved\n[tokens]"),
        ("fewest", f"fewest\n{' / '.join(pools)}"),
    ]  # fmt: skip
    rows = [{**row, "fewest": " / ".join(text_of(row[pool]) for pool in pools.values())} for row in found]
    places = max(int(row.get("places") or 1) for row in found)
    hours = (
        f"tried in {places} hours of steep climbs of the load"
        if places > 1
        else "in the steepest climb of the load"
    )
    return [
        Table(f"Under faults of an hour, {hours}", *_shown(columns, rows)),
        "over limit: share of windows over the SLO's limits, mean of those hours; fewest: ready instances",
    ]


def placement(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of policies on a topology; none when none was given."""
    if not found:
        return []
    columns = [
        ("policy", "policy"), ("unplaced_instance_hours", "unplaced\ninstance-h"),
        ("unplaced_window_ratio", "windows\nshort"), ("crossing_ratio", "KV traffic\ncrossing"),
        ("scarce_instance_hours", "scarce\ninstance-h"), ("slo_violation_ratio", "over limit,\nall placed"),
        ("placed_slo_violation_ratio", "over limit,\nas placed"),
        ("placed_unserved_tokens", "unserved\n[tokens]"),
    ]  # fmt: skip
    return [Table("On the topology: wanted counts, placed", *_shown(columns, found))]


def _shown(
    columns: Sequence[tuple[str, str]], found: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Return the columns that have a value, and the rows with shares in per cent and narrow names."""
    from hs_analysis.report.wording import percent

    shown = [column for column in columns if any(row.get(column[0]) is not None for row in found)]
    rows = [
        {key: percent(row.get(key)) if key.endswith("_ratio") else row.get(key) for key, _ in shown}
        | {"policy": in_lines(row["policy"])}
        for row in found
    ]
    return shown, rows

"""The backtest of one service as tables and lines of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.cli.output import Block, Table, text_of
from hs_analysis.cli.tables import Service, actions, columns_of, hours, in_gpus, in_lines

WIDEST_INTERVAL = 10
"""Characters of an interval that stay on one line: tables are to fit a hundred columns."""


def replay(service: Service) -> list[Block]:
    """Return the policies as replayed on the test window, and what the figures rest on."""
    from hs_analysis.report.replay_words import in_order, notes
    from hs_analysis.report.wording import span

    found = service.get("replay") or {}
    entries = in_order(found.get("policies") or [], service)
    rows = [_policy_row(entry) for entry in entries]
    columns = [
        ("policy", "policy"), ("hours", "instance-\nhours"), ("gpu", "GPU-\nhours"),
        *([("cost", "cost")] if any("cost" in entry for entry in entries) else []),
        ("recorded", "saved vs\nrecorded"), ("peak", "saved vs\npeak"), ("over", "windows\nover limit"),
        ("longest", "longest\nstretch"), ("actions", "actions\nper day"),
    ]  # fmt: skip
    columns = in_gpus(columns, rows)
    test = found.get("test")
    when = f", {span(*test)}" if test else ""
    title = f"Backtest of {service['service']} on the test window{when}"
    return [
        Table(title, columns, rows, empty="not possible"),
        *_more(entries),
        *notes(found),
        *current(found.get("current") or {}),
        *faults(found.get("faults") or []),
        *placement(found.get("placement") or []),
    ]


def _policy_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    from hs_analysis.report.replay_words import side_unclear
    from hs_analysis.report.wording import interval, percent, seconds

    over = _ranged(
        percent(entry.get("slo_violation_ratio")), interval(entry.get("slo_violation_ci"), "ratio")
    )
    unclear = side_unclear(entry)
    return {
        "policy": in_lines(entry["policy"]),
        "hours": hours(entry.get("instance_hours")),
        "gpu": hours(entry.get("gpu_hours")),
        "cost": hours(entry.get("cost")),
        "recorded": _ranged(
            percent(entry.get("vs_recorded")), interval(entry.get("vs_recorded_ci"), "ratio")
        ),
        "peak": percent(entry.get("vs_static_peak")),
        "over": over + (f"\n{unclear}" if unclear else ""),
        "longest": seconds(entry.get("recovery_s")),
        "actions": actions(entry.get("actions_per_day")),
    }


def _more(entries: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return two further tables of the same policies: against limits and bound, and how they move."""
    from hs_analysis.report.wording import count, expected_time, percent

    rows = [
        {
            "policy": in_lines(entry["policy"]),
            "bound": percent(entry.get("vs_hindsight")),
            "today": percent(entry.get("vs_current")),
            "time": expected_time(entry.get("slo_violation_s")),
            "tokens": count(entry.get("slo_violation_tokens")),
            "left": count(entry.get("unserved_tokens")),
            "turns": actions(entry.get("reversals_per_day")),
            "beyond": percent(entry.get("overshoot_ratio")),
            "apart": percent(entry.get("pd_imbalance_ratio")),
            "stray": _stray(entry),
        }
        for entry in entries
    ]
    if not rows:
        return []
    today = [("today", "saved vs\ntoday's")] if any(e.get("vs_current") is not None for e in entries) else []
    against = [
        ("policy", "policy"), ("bound", "saved vs\nhindsight"), *today, ("time", "time over\nlimit"),
        ("tokens", "tokens\nover limit"), ("left", "unserved\ntokens"),
    ]  # fmt: skip
    moving = [
        ("policy", "policy"), ("turns", "reversals\nper day"), ("beyond", "overshoot\n[1]"),
        ("apart", "P/D\nimbalance [2]"), ("stray", "off P/D\nratio [3]"),
    ]  # fmt: skip
    notes = (
        "[1] instances beyond what the load needs ÷ those needed; [2] mean share of the better supplied "
        "pool's room that the other one can't match; [3] share of windows, and how many times at most"
    )
    return [
        Table("Against the limits and the bound", against, rows),
        Table("How they move", moving, rows),
        notes,
    ]


def _stray(entry: Mapping[str, Any]) -> str:
    """Return the share of windows off the P/D ratio, and the farthest from it below."""
    from hs_analysis.report.wording import fixed, percent

    factor = entry.get("pd_stray_factor")
    return percent(entry.get("pd_stray_ratio")) + (f"\n{fixed(factor, 2)} ×" if factor is not None else "")


def _ranged(text: str, inside: str) -> str:
    if len(inside) > WIDEST_INTERVAL:
        inside = inside.replace(" to ", "\n to ")
    return f"{text}\n[{inside}]" if inside else text


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
        Table(f"Under faults of an hour, {hours}", *_with_values(columns, rows)),
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
    return [Table("On the topology: wanted counts, placed", *_with_values(columns, found))]


def _with_values(
    columns: Sequence[tuple[str, str]], found: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Return the columns that have a value, and the rows with shares in per cent and narrow names."""
    from hs_analysis.report.wording import percent

    kept = [column for column in columns if any(row.get(column[0]) is not None for row in found)]
    rows = [
        {key: percent(row.get(key)) if key.endswith("_ratio") else row.get(key) for key, _ in kept}
        | {"policy": in_lines(row["policy"])}
        for row in found
    ]
    return kept, rows


def current(found: Mapping[str, Any]) -> list[Block]:
    """Return what to change in today's objects, what that saves, and what could not be understood."""
    if not found:
        return []
    columns = columns_of("name role item now then why")
    read = all(one["replayed"] for one in found["objects"])
    empty = (
        "nothing: it is set as the policy would set it" if read else "unknown: not all of it could be read"
    )
    return [
        Table("Today's autoscaler: what to change", columns, found["changes"], empty=empty),
        *current_lines(found),
    ]


def current_lines(found: Mapping[str, Any]) -> list[Block]:
    """Return what is saved against today's autoscaler, or why that is not said, and what was not read."""
    from hs_analysis.report.beside import against_today, counts_lines, not_compared
    from hs_analysis.report.wording import percent

    lines: list[Block] = [*not_compared(found)]
    both = found.get("compared")
    if both:
        now, then = both["current_slo_violation_ratio"], both["policy_slo_violation_ratio"]
        slo = (
            ""
            if now is None or then is None
            else f"; SLO broken in {percent(then)} of windows, today in {percent(now)}"
        )
        lines.append(f"{against_today(both)}{slo}")
    lines += counts_lines(found)
    return lines + [f"today's autoscaler: {text}" for text in found.get("not_understood") or []]

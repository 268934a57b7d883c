"""Tables and lines of one service, from the very records that summary.json holds."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hs_analysis.cli.output import Block, Folded, Table
from hs_analysis.schema.names import IN_SAMPLE, NEUTRAL, RATIO_BY_HOUR, RATIO_BY_MIX, RATIO_FIXED, UNLIMITED

Service = Mapping[str, Any]


def signals(service: Service) -> list[Block]:
    """Return the verdicts, the recommended signal first, what decided each, and the recommendation."""
    from hs_analysis.report.tables import ranked
    from hs_analysis.report.wording import fixed, number, on_type, seconds

    order = ranked(service, types=True)
    names = [f"{entry['signal']}@{entry['role']}{on_type(entry)}" for entry in order]
    rows = [
        {
            "signal": name,
            "verdict": entry["verdict"],
            "elasticity": fixed(entry.get("elasticity"), 2),
            "snr": number(entry.get("snr"), 2),
            "lag": seconds(entry.get("lag_s")),
            "decided": _decided_by(entry),
        }
        for name, entry in zip(names, order, strict=True)
    ]
    columns = [
        ("signal", "signal@role"), ("verdict", "verdict"), ("elasticity", "elasticity"),
        ("snr", "SNR"), ("lag", "lag"), ("decided", "decided by, value (limit)"),
    ]  # fmt: skip
    reasons = [
        (name, [reason["text"] for reason in entry["reasons"]])
        for name, entry in zip(names, order, strict=True)
        if entry.get("reasons")
    ]
    return [
        Table(f"Signals of {service['service']}", columns, rows),
        *(
            [Folded("every reason of each signal, with intervals: -o markdown, or -o json", reasons)]
            if reasons
            else []
        ),
        f"recommended: {recommended(service)}",
    ]


DECIDED_WIDTH = 24
"""Columns of what decided a verdict: a table of signals fits a terminal with it [characters]."""


def _decided_by(entry: Mapping[str, Any]) -> str:
    """Return what decided a verdict: a number and below it its value (limit), else a circumstance."""
    if entry["verdict"] == "proportional":
        return "all checks passed"
    first = next(iter(entry.get("reasons") or []), None)
    if first is None:
        return "–"
    told = re.search(r"(?:^|: )([^:]+) (\S+ \([^()]+\))$", first["text"])
    return f"{told[1]}\n{told[2]}" if told else textwrap.fill(first["text"].partition(":")[0], DECIDED_WIDTH)


def recommended(service: Service) -> str:
    """Return the recommendation as a sentence."""
    best = service.get("recommended")
    if not best:
        return "none; no signal passed every check"
    tail = f"; runner-up {best['runner_up']}" if best.get("runner_up") else ""
    return f"{best['signal']}@{best['role']} ({best['why']}){tail}"


def derived(service: Service) -> list[Block]:
    """Return capacity, thresholds, what is to be known of them, the P/D ratio and what was not answered."""
    from hs_analysis.report import releases
    from hs_analysis.report.replica_words import beside_ratio
    from hs_analysis.report.slo import edges

    return [
        *releases.lines(service),
        _capacity_table(service),
        *_noted("capacity", service.get("capacity"), lambda entry: entry["role"]),
        _target_table(service),
        "[1] what noise asks for: out above, in below, wanted ÷ current instances; [2] usual rests before "
        "scaling out / in. The policy's own are hysteresis, reading and cooldown of policy.yaml",
        *_noted("target", service.get("thresholds"), lambda entry: f"{entry['signal']}@{entry['role']}"),
        *(startup_line(entry) for entry in service.get("startup") or [] if entry["births"]),
        *edges(service),
        f"P/D ratio: {ratio(service)}",
        *beside_ratio(service),
        *fixed_costs(service),
        *refusals(service),
    ]


def _capacity_table(service: Service) -> Table:
    from hs_analysis.report.rolling_words import coverage_count
    from hs_analysis.report.wording import unit_of

    rows = [
        {
            "role": entry["role"],
            "gpu": entry.get("gpu_type") or "all",
            "capacity": amount(entry.get("per_instance"), entry.get("ci"), unit_of(entry["signal"])),
            "status": entry["status"],
            "basis": entry.get("basis"),
            "covered": coverage_count(entry),
        }
        for entry in service.get("capacity") or []
    ]
    columns = columns_of("role gpu capacity status basis covered")
    return Table(f"Capacity of {service['service']}", _without_single_type(columns, rows), rows)


def _target_table(service: Service) -> Table:
    from hs_analysis.report.wording import fixed, seconds, unit_of

    rows = [
        {
            "signal": f"{entry['signal']}@{entry['role']}",
            "gpu": entry.get("gpu_type") or "all",
            "target": amount(entry.get("target_per_instance"), None, unit_of(entry["signal"])),
            "headroom": fixed(entry.get("headroom_ratio"), 2),
            "band": f"{fixed(entry.get('scale_out_ratio'), 2)} / {fixed(entry.get('scale_in_ratio'), 2)}",
            "cooldown": f"{seconds(entry.get('cooldown_out_s'))} / {seconds(entry.get('cooldown_in_s'))}",
            "status": entry["status"],
        }
        for entry in service.get("thresholds") or []
    ]
    columns = [
        ("signal", "signal@role"), ("gpu", "gpu"), ("target", "target per instance"),
        ("headroom", "of lower\nend or floor"), ("band", "noise asks:\nout/in [1]"),
        ("cooldown", "usual rest\nout/in [2]"), ("status", "status"),
    ]  # fmt: skip
    return Table("Targets", _without_single_type(columns, rows), rows)


def _without_single_type(
    columns: list[tuple[str, str]], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Leave out the column of GPU types where there is nothing to tell apart."""
    alike = {row["gpu"] for row in rows} <= {"all"}
    return [column for column in columns if not (alike and column[0] == "gpu")]


def _noted(what: str, entries: Any, name: Callable[[Mapping[str, Any]], str]) -> list[Block]:
    """Return a line for every number that has a reason, each reason once."""
    found: dict[str, list[str]] = {}
    for entry in entries or []:
        if text := reason_text(entry.get("reason")):
            named = found.setdefault(text, [])
            named += [] if name(entry) in named else [name(entry)]
    return [f"{what} of {', '.join(names)}: {text}" for text, names in found.items()]


def startup_line(entry: Mapping[str, Any]) -> str:
    """Return what the dump shows of a role's start-up time."""
    from hs_analysis.report.wording import seconds

    shown = f"Start-up time of {entry['role']}, {entry['status']}"
    if entry["value_s"] is not None:
        least = "at least " if entry["status"] == "floor" else ""
        low, high = (seconds(end) for end in entry["ci"])
        shown += f": {least}{seconds(entry['value_s'])} [{low}, {high}]"
    return f"{shown}; {reason_text(entry['reason'])}"


def ratio(service: Service) -> str:
    """Return the P/D ratio with its interval, or its status with the reason and the bound there is."""
    from hs_analysis.report.ratio_words import beside_ratio
    from hs_analysis.report.verdict import pair_text
    from hs_analysis.report.wording import number

    found = service.get("pd_ratio") or {}
    parts = []
    if found.get("value") is not None:
        parts.append(
            f"{with_interval(found['value'], found.get('ci'))} prefill per decode, {found['status']}"
        )
    else:
        parts.append(str(found.get("status") or "refused"))
    if pairs := pair_text(found):
        parts.append(f"as whole instances {pairs}")
    bounds = [(found.get("at_least"), "at least"), (found.get("at_most"), "at most")]
    parts += [f"{word} {number(value)}" for value, word in bounds if value is not None]
    if reason_text(found.get("reason")):
        parts.append(reason_text(found["reason"]))
    parts += beside_ratio(found)
    return "; ".join(parts)


def fixed_costs(service: Service) -> list[str]:
    """Return what holding one ratio costs while the mix moves, a line a ratio; none where it does not."""
    from hs_analysis.report.wording import number, percent

    found = service.get("pd_ratio") or {}
    if found.get("status") != "drifting":
        return []
    return [
        f"held at {number(cost['ratio'])} ({cost['name'].replace('_', ' ')}) instead of following the mix: "
        f"{percent(cost['extra_instance_hours'])} more instance-hours with no pool over its target; sized on "
        f"decode alone, prefill is over its capacity for {percent(cost['short_share'])} of the decode work"
        for cost in found.get("fixed_costs") or []
    ]


def ratio_test(sweep: Mapping[str, Any]) -> str:
    """Return a ratio test as a line."""
    from hs_analysis.report.sweeps import line

    return line(sweep)


def profile_ratio(found: Mapping[str, Any]) -> str:
    """Return what a profile gives as a line."""
    from hs_analysis.report.sweeps import profile_line

    return profile_line(found)


def selection(service: Service) -> list[Block]:
    """Return the candidates on the training window that no other beats, the chosen one first, and why."""
    from hs_analysis.report.replay_words import left_out
    from hs_analysis.report.wording import percent

    entries = sorted(service.get("selection") or [], key=lambda entry: not entry.get("chosen"))
    rows = [
        {
            "policy": _candidate(entry),
            "score": percent(entry.get("score")),
            "hours": hours(entry.get("instance_hours")),
            "gpu": hours(entry.get("gpu_hours")),
            "slo": percent(entry.get("slo_violation_ratio")),
            "faults": percent(entry.get("fault_violation_ratio")),
            "bursts": percent(entry.get("burst_violation_ratio")),
            "actions": actions(entry.get("actions_per_day")),
            "flat": actions(entry.get("flat_actions_per_day")),
        }
        for entry in entries
    ]
    columns = [
        ("policy", "policy\n reads, adds above, removes below"), ("score", "saved vs\nrecorded"),
        ("hours", "instance-\nhours"), ("gpu", "GPU-\nhours"), ("slo", "over\nlimit"),
        ("faults", "under\nfaults"), ("bursts", "under\nbursts"), ("actions", "actions\nper day"),
        ("flat", "flat\nload"),
    ]  # fmt: skip
    title = f"Candidates of {service['service']} on the training window"
    shares = [f"{kind}_violation_ratio" for kind in ("slo", "fault", "burst")]
    known = any(entry.get(key) is not None for entry in entries for key in shares)
    columns = [one for one in in_gpus(columns, rows) if known or one[0] not in ("slo", "faults", "bursts")]
    reasons = [f"{entry['policy']}: {entry['reason']}" for entry in entries if entry.get("reason")]
    none = "no signal may size a pool, so there was nothing to simulate"
    limit = "over limit: share of windows over the SLO's limits, undisturbed, under faults and bursts; "
    note = f"{limit * known}flat load: actions a pool and day that noise alone makes it take"
    return [Table(title, columns, rows, empty=none), *([note] if rows else []), *left_out(service), *reasons]


def _candidate(entry: Mapping[str, Any]) -> str:
    """Return the signals of a candidate, what its controller is set to, and whether it is chosen."""
    from hs_analysis.report.wording import fixed

    lines = [in_lines(str(entry["policy"]).partition(", ")[0])]
    if entry.get("over_s") is not None:
        ranges = [entry["reading_s"], *([entry["surge_s"]] if entry.get("surge_s") else [])]
        reads, out = f"{'/'.join(fixed(one, 0) for one in ranges)} s", fixed(entry["scale_out_ratio"], 2)
        lines.append(
            f" {reads}, {out}, {fixed(entry['scale_in_ratio'], 2)} for {fixed(entry['over_s'], 0)} s"
        )
    return "\n".join([*lines, *([" (chosen)"] if entry.get("chosen") else [])])


def drivers(service: Service) -> list[Block]:
    """Return how every signal did as the driver of its pool."""
    from hs_analysis.report.driver_words import CAPTION, in_order, load_dips, readings
    from hs_analysis.report.wording import fixed, number, percent

    entries = in_order(service.get("drivers") or [])
    rows = [
        {
            "signal": f"{entry['signal']}@{entry['role']}",
            "verdict": entry["verdict"],
            "dip": fixed(entry.get("dip_ratio"), 2),
            "r": fixed(entry.get("correlation"), 2),
            "turns": number(entry.get("reversals_per_day"), 2),
            "hours": hours(entry.get("instance_hours")),
            "over": percent(entry.get("strain_ratio")),
        }
        for entry in entries
    ]
    columns = [
        ("signal", "driver"), ("verdict", "verdict of\nthe study"), ("dip", "instances\ndip ÷ peak"),
        ("r", "corr.\nto load"),
        ("turns", "turns\nper day"), ("hours", "pool\nhours"), ("over", "over\ncapacity"),
    ]  # fmt: skip
    title = f"Signals of {service['service']} tried as drivers on the test window"
    words = [*readings(entries), *load_dips(entries), CAPTION] if rows else []
    return [Table(title, columns, rows, empty="no signal was studied"), *words]


def in_gpus(columns: list[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Leave out GPU-hours where they are not known or say the same as instance-hours."""
    same = all(row["gpu"] in (row["hours"], "–") for row in rows)
    return [column for column in columns if not (same and column[0] == "gpu")]


def hours(value: float | None) -> str:
    """Return hours without decimals from a hundred up."""
    from hs_analysis.report.wording import fixed

    return fixed(value, 0 if value is not None and abs(value) >= 100 else 1)


def actions(value: float | None) -> str:
    """Return actions a day, one decimal below ten."""
    from hs_analysis.report.wording import fixed

    return fixed(value, 0 if value is not None and value >= 10 else 1)


def in_lines(policy: str) -> str:
    """Return a policy's name with one signal a line, and its settings below: so that tables stay narrow."""
    signals, comma, settings = policy.partition(", ")
    below = [f"\n {part}" for part in settings.split(", ")] if comma else []
    return signals.replace("+", "\n+") + "".join(below) + _KINDS.get(policy, "")


_KINDS = {
    IN_SAMPLE: "\n (has seen the\n test window)",
    NEUTRAL: "\n (its own rule)",
    UNLIMITED: "\n (no limits)",
    RATIO_FIXED: "\n (P/D ratio fixed)",
    RATIO_BY_HOUR: "\n (P/D ratio by hour)",
    RATIO_BY_MIX: "\n (P/D ratio by\n observed mix)",
}
"""What a row of a backtest is, where its name does not say it."""


def refusals(service: Service) -> list[Block]:
    """Return a line for everything the data could not answer, with what to record."""
    return [
        f"not answered: {entry['what']} ({entry['code']}): {entry['text']}; to know it, {entry['collect']}"
        for entry in service.get("refusals") or []
    ]


def with_interval(value: float | None, pair: Sequence[float] | None, decimals: int | None = None) -> str:
    """Return ``1.25 [1.19 to 1.31]``, the value alone without an interval, a dash without a value.

    ``decimals`` fixes them in a column; else there are three significant digits.
    """
    from hs_analysis.report.wording import fixed, interval, number

    inside = interval(pair, "", decimals)
    text = number(value) if decimals is None else fixed(value, decimals)
    return f"{text} [{inside}]" if inside else text


def amount(value: float | None, pair: Sequence[float] | None, unit: str) -> str:
    """Return ``1,080 [1,080 to 1,250] tokens/s``; ratios are percentages."""
    from hs_analysis.report.wording import interval, quantity

    text, shown_unit = quantity(value, unit)
    inside = interval(pair, unit)
    return " ".join(part for part in (text, f"[{inside}]" if inside else "", shown_unit) if part)


def estimate(found: Mapping[str, Any] | None, unit: str) -> str:
    """Return a number that carries its own interval, a dash without one."""
    return amount(found["value"], [found["low"], found["high"]], unit) if found else amount(None, None, "")


def reason_text(reason: Mapping[str, Any] | None) -> str:
    """Return a reason's sentence, empty when there is none."""
    return str(reason["text"]) if reason else ""


def columns_of(names: str) -> list[tuple[str, str]]:
    """Return columns that are headed by their own keys."""
    return [(name, name) for name in names.split()]

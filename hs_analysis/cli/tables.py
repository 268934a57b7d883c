"""Tables and lines of one service, from the very records that summary.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.cli.shown import Block, Table

Service = Mapping[str, Any]


def signals(service: Service) -> list[Block]:
    """Return the verdicts, the recommended signal first, and the recommendation in words."""
    from hs_analysis.report.tables import ranked
    from hs_analysis.report.wording import on_type, seconds

    rows = [
        {
            "signal": f"{entry['signal']}@{entry['role']}{on_type(entry)}",
            "verdict": entry["verdict"],
            "elasticity": with_interval(entry.get("elasticity"), entry.get("elasticity_ci")),
            "spearman": with_interval(entry.get("spearman"), entry.get("spearman_ci")),
            "snr": entry.get("snr"),
            "lag": seconds(entry.get("lag_s")),
            "drift": entry.get("drift"),
            "coverage": entry.get("coverage"),
            "reasons": "; ".join(reason["text"] for reason in entry.get("reasons") or []),
        }
        for entry in ranked(service, types=True)
    ]
    columns = [
        ("signal", "signal@role"), ("verdict", "verdict"), ("elasticity", "elasticity"),
        ("spearman", "Spearman"), ("snr", "SNR"), ("lag", "lag"), ("drift", "drift"),
        ("coverage", "coverage"), ("reasons", "why"),
    ]  # fmt: skip
    return [Table(f"Signals of {service['service']}", columns, rows), f"recommended: {recommended(service)}"]


def recommended(service: Service) -> str:
    """Return the recommendation as a sentence."""
    best = service.get("recommended")
    if not best:
        return "none; no signal passed every check"
    tail = f"; runner-up {best['runner_up']}" if best.get("runner_up") else ""
    return f"{best['signal']}@{best['role']} ({best['why']}){tail}"


def derived(service: Service) -> list[Block]:
    """Return capacity, thresholds, the P/D ratio and what could not be answered."""
    from hs_analysis.report.wording import seconds, unit_of

    capacity = [
        {
            "role": entry["role"],
            "gpu": entry.get("gpu_type") or "all",
            "capacity": amount(entry.get("per_instance"), entry.get("ci"), unit_of(entry["signal"])),
            "status": entry["status"],
            "basis": entry.get("basis"),
            "reason": reason_text(entry.get("reason")),
        }
        for entry in service.get("capacity") or []
    ]
    thresholds = [
        {
            "signal": f"{entry['signal']}@{entry['role']}",
            "gpu": entry.get("gpu_type") or "all",
            "target": amount(
                entry.get("target_per_instance"), entry.get("target_ci"), unit_of(entry["signal"])
            ),
            "out": entry.get("scale_out_ratio"),
            "in": entry.get("scale_in_ratio"),
            "cooldown": f"{seconds(entry.get('cooldown_out_s'))} / {seconds(entry.get('cooldown_in_s'))}",
            "status": entry["status"],
            "reason": reason_text(entry.get("reason")),
        }
        for entry in service.get("thresholds") or []
    ]
    columns = _columns("role gpu capacity status basis reason")
    return [
        Table(f"Capacity of {service['service']}", columns, capacity),
        Table(
            "Targets",
            [
                ("signal", "signal@role"), ("gpu", "gpu"), ("target", "target per instance"),
                ("out", "out above wanted ÷ current"), ("in", "in below"), ("cooldown", "cooldown out / in"),
                ("status", "status"), ("reason", "reason"),
            ],
            thresholds,
        ),
        *(startup_line(entry) for entry in service.get("startup") or [] if entry["births"]),
        f"P/D ratio: {ratio(service)}",
        *fixed_costs(service),
        *refusals(service),
    ]  # fmt: skip


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
    from hs_analysis.report.wording import number

    found = service.get("pd_ratio") or {}
    parts = []
    if found.get("value") is not None:
        parts.append(
            f"{with_interval(found['value'], found.get('ci'))} prefill per decode, {found['status']}"
        )
    else:
        parts.append(str(found.get("status") or "refused"))
    pairs = found.get("integer_pairs") or []
    if pairs:
        parts.append("as instances " + " or ".join(f"{p}:{d}" for p, d in pairs[:2]))
    bounds = [(found.get("at_least"), "at least"), (found.get("at_most"), "at most")]
    parts += [f"{word} {number(value)}" for value, word in bounds if value is not None]
    if reason_text(found.get("reason")):
        parts.append(reason_text(found["reason"]))
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
    """Return the candidates as simulated on the training window."""
    rows = [
        {**entry, "chosen": "chosen" if entry.get("chosen") else ""}
        for entry in service.get("selection") or []
    ]
    columns = [
        ("policy", "policy"), ("chosen", "chosen"), ("score", "score"), ("instance_hours", "instance-hours"),
        ("gpu_hours", "GPU-hours"), ("slo_violation_ratio", "SLO violation ratio"),
        ("actions_per_day", "actions/day"), ("reason", "why"),
    ]  # fmt: skip
    title = f"Candidates of {service['service']} on the training window"
    return [Table(title, columns, rows, empty="no signal may size a pool, so there was nothing to simulate")]


def replay(service: Service) -> list[Block]:
    """Return the policies as replayed on the test window."""
    from hs_analysis.report.wording import percent, span

    found = service.get("replay") or {}
    rows = [
        {
            **entry,
            "vs_recorded": percent(entry.get("vs_recorded")),
            "vs_static_peak": percent(entry.get("vs_static_peak")),
        }
        for entry in found.get("policies") or []
    ]
    columns = [
        ("policy", "policy"), ("instance_hours", "instance-hours"), ("gpu_hours", "GPU-hours"),
        ("vs_recorded", "saved vs recorded"), ("vs_static_peak", "saved vs static peak"),
        ("slo_violation_ratio", "SLO violation ratio"), ("actions_per_day", "actions/day"),
        ("reversals_per_day", "reversals/day"), ("unserved_tokens", "unserved tokens"),
    ]  # fmt: skip
    test = found.get("test")
    when = f", {span(*test)}" if test else ""
    title = f"Backtest of {service['service']} on the test window{when}"
    return [
        Table(title, columns, rows, empty="not possible"),
        *current(found.get("current") or {}),
        *faults(found.get("faults") or []),
    ]


def current(found: Mapping[str, Any]) -> list[Block]:
    """Return what to change in today's objects, what that saves, and what could not be understood."""
    if not found:
        return []
    columns = _columns("name role item now then why")
    empty = "nothing: it is set as the policy would set it"
    return [
        Table("Today's autoscaler: what to change", columns, found["changes"], empty=empty),
        *current_lines(found),
    ]


def current_lines(found: Mapping[str, Any]) -> list[Block]:
    """Return a line on what the policy saves against today's autoscaler, and one for what was not read."""
    from hs_analysis.report.wording import number, percent

    lines: list[Block] = []
    both = found.get("compared")
    if both:
        now, then = both["current_slo_violation_ratio"], both["policy_slo_violation_ratio"]
        slo = (
            ""
            if now is None or then is None
            else f"; SLO broken in {percent(then)} of windows, today in {percent(now)}"
        )
        lines.append(
            f"against today's autoscaler: {number(both['policy_hours'])} {both['unit']} instead of "
            f"{number(both['current_hours'])} ({percent(both['saved'])} saved){slo}"
        )
    return lines + [f"today's autoscaler: {text}" for text in found.get("not_understood") or []]


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


def refusals(service: Service) -> list[Block]:
    """Return a line for everything the data could not answer, with what to record."""
    return [
        f"not answered: {entry['what']} ({entry['code']}): {entry['text']}; to know it, {entry['collect']}"
        for entry in service.get("refusals") or []
    ]


def with_interval(value: float | None, pair: Sequence[float] | None) -> str:
    """Return ``1.25 [1.19 to 1.31]``, the value alone without an interval, a dash without a value."""
    from hs_analysis.report.wording import interval, number

    inside = interval(pair)
    return f"{number(value)} [{inside}]" if inside else number(value)


def amount(value: float | None, pair: Sequence[float] | None, unit: str) -> str:
    """Return ``1,080 [1,080 to 1,250] tokens/s``; ratios are percentages."""
    from hs_analysis.report.wording import interval, quantity

    text, shown_unit = quantity(value, unit)
    inside = interval(pair, unit)
    return " ".join(part for part in (text, f"[{inside}]" if inside else "", shown_unit) if part)


def reason_text(reason: Mapping[str, Any] | None) -> str:
    """Return a reason's sentence, empty when there is none."""
    return str(reason["text"]) if reason else ""


def _columns(names: str) -> list[tuple[str, str]]:
    return [(name, name) for name in names.split()]

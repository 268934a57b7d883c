"""Words and order of the backtest that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import fixed, number, percent, policy_name, quantity, seconds
from hs_analysis.schema.names import BASELINES, CURRENT, HINDSIGHT, ORACLE, RECORDED, STATIC_PEAK, TIMETABLE

Row = Mapping[str, Any]

ORDER = (RECORDED, CURRENT, STATIC_PEAK, TIMETABLE, HINDSIGHT, ORACLE)
"""Rows that follow the selected policy; the autoscalers of the field come after them as they are."""

DRAWN = (RECORDED, CURRENT, "hpa", HINDSIGHT)
"""Rows drawn beside the selected policy: what ran, runs today, most would run, and what cannot be beaten."""


BASES = {
    "days": "intervals: 95 %, whole days drawn anew",
    "hours": "intervals: 95 %, blocks of two hours drawn anew: in fewer than three days they hold what moves "
    "within a day alone, not how days differ; none for instance-hours, which follow the cycle of the day",
}
"""What the intervals of a backtest hold, by ``interval_basis``."""

UNCLEAR = "side unclear"
"""What stands beside a share of windows over the limit that may lie on either side of what the SLO allows."""


def in_order(rows: Sequence[Row], service: Row) -> list[Row]:
    """Return the rows of a backtest, the selected policy first, then what is no baseline."""
    chosen = next((r.get("policy") for r in records(service.get("selection")) if r.get("chosen")), None)
    own = [r.get("policy") for r in rows if r.get("policy") not in BASELINES]
    first = [*([chosen] if chosen else []), *own, *ORDER]
    return sorted(rows, key=lambda r: first.index(r["policy"]) if r.get("policy") in first else len(first))


def notes(replay: Row) -> list[str]:
    """Return what the figures rest on: intervals, calibration, start-up, the bound, what is not there."""
    rows, calibration = records(replay.get("policies")), mapping(replay.get("calibration"))
    found = []
    if rows:
        found.append("longest stretch: in which more windows than not are expected to break the SLO")
    reasons = dict.fromkeys(str(row["interval_reason"]) for row in rows if row.get("interval_reason"))
    if reasons:
        found.append(f"no intervals: {'; '.join(reasons)}")
    if (
        basis := next((row.get("interval_basis") for row in rows if row.get("interval_basis")), None)
    ) in BASES:
        found.append(BASES[str(basis)])
    if off := may_be_off(rows):
        found.append(off)
    if calibration.get("text"):
        found.append(f"fleet model {str(calibration.get('status')).replace('_', ' ')}: {calibration['text']}")
    if told := readings(calibration):
        found.append(told)
    if both := targets(calibration):
        found.append(both)
    if (least := calibration.get("least_instance_hours")) is not None:
        found.append(f"no schedule holds the SLO with fewer than {number(least)} instance-hours")
    if times := start_up(calibration):
        found.append(times)
    missing = mapping(calibration.get("not_expressed"))
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(str(why), []).append(policy_name(str(name)))
    found += [f"not replayed: {', '.join(names)}: {why}" for why, names in by_reason.items()]
    return found


def side_unclear(row: Row) -> str:
    """Return ``side unclear`` where a share is given and may lie on either side of what the SLO allows."""
    given = row.get("slo_violation_ratio") is not None
    return UNCLEAR if given and row.get("slo_side") == "unclear" else ""


def may_be_off(rows: Sequence[Row]) -> str:
    """Return how far the share of the first row may be off, and which rows can't tell their side."""
    parts = []
    if rows and (span := rows[0].get("slo_violation_range")):
        name, (low, high) = policy_name(str(rows[0].get("policy"))), span
        parts.append(f"windows over limit may be off: {name} has {percent(low, 2)} to {percent(high, 2)}")
    if names := [policy_name(str(row.get("policy"))) for row in rows if side_unclear(row)]:
        parts.append(
            f"{UNCLEAR}, under or over what the SLO allows for all the replay can tell: {', '.join(names)}"
        )
    return "; ".join(parts)


def readings(calibration: Row) -> str:
    """Return how far predicted latencies and queues are from those recorded, at the counts that ran."""
    parts = []
    for entry in records(calibration.get("readings")):
        role = "" if entry["role"] == "service" else f" of {entry['role']}"
        latency = entry["signal"] in ("ttft", "tbt")
        unit = "s" if latency else "requests"
        seen, told = (" ".join(quantity(entry[key], unit)) for key in ("recorded", "predicted"))
        off = f", off by {percent(entry['error_ratio'], 2)} a window" if entry["error_ratio"] else ""
        name = entry["signal"].upper() if latency else entry["signal"].replace("_", " ")
        parts.append(f"{name}{role} {told} where {seen} was recorded{off}")
    return f"foretold at the recorded counts (medians): {'; '.join(parts)}" if parts else ""


def targets(calibration: Row) -> str:
    """Return targets with their bands, and the P/D ratio, of the first part and of the whole window."""
    parts = [
        f"{entry['signal']}@{entry['role']} {number(entry['first_part'])} and {number(entry['whole'])}"
        f"{_bands(entry)}"
        for entry in records(calibration.get("targets"))
        if entry["first_part"] and entry["whole"]
    ]
    ratio = mapping(calibration.get("pd_ratio"))
    if ratio.get("first_part") and ratio.get("whole"):
        parts.append(f"P/D ratio {number(ratio['first_part'])} and {number(ratio['whole'])}")
    says = "targets fitted on the first part (the backtest's) and on the whole window (policy.yaml's)"
    return f"{says}: {'; '.join(parts)}" if parts else ""


def _bands(entry: Row) -> str:
    """Return ``(out/in 1.11/0.73 and 1.10/0.74)``, one pair where both are alike, nothing where unknown."""
    pairs = [entry.get("first_part_band"), entry.get("whole_band")]
    if not all(pair and None not in pair for pair in pairs):
        return ""
    texts = dict.fromkeys("/".join(fixed(end, 2) for end in pair or ()) for pair in pairs)
    return f" (out/in {' and '.join(texts)})"


def start_up(calibration: Row) -> str:
    """Return the start-up times of the replay and where they come from."""
    times: dict[tuple[str, str], list[str]] = {}
    for role, entry in mapping(calibration.get("start_up_s")).items():
        known = mapping(entry)
        times.setdefault((seconds(known.get("value")), str(known.get("provenance"))), []).append(str(role))
    words = {"settings": "as given", "default": "a default: give yours with --startup"}
    parts = [f"{time} for {' and '.join(roles)} ({words.get(of, of)})" for (time, of), roles in times.items()]
    return f"start-up time {', '.join(parts)}" if parts else ""

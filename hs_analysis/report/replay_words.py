"""Order of the backtest's rows and the notes below them, shared by the report and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.choice import headline_of, mapping, records
from hs_analysis.report.decision_words import object_notes
from hs_analysis.report.wording import number, percent, policy_name, quantity, seconds
from hs_analysis.schema.names import (
    BASELINES,
    COUNTS,
    CURRENT,
    HINDSIGHT,
    RATIO_ROWS,
    RECORDED,
    VARIANTS,
)

Row = Mapping[str, Any]

ORDER = (*VARIANTS, *COUNTS)
"""Rows that come after the selected policy; other autoscalers follow in the order of the backtest."""

DRAWN = (RECORDED, CURRENT, "hpa", HINDSIGHT)
"""Rows drawn with the selected policy: what ran, what runs today, a default HPA, the best schedule."""


BASES = {
    "days": "intervals: 95 %, by resampling whole days",
    "hours": "intervals: 95 %, by resampling blocks of two hours: fewer than three days show the changes "
    "within a day, not those between days, by which saved vs recorded is widened (standard deviation 8 "
    "points); none for instance-hours, which follow the cycle of the day",
}
"""How the intervals of a backtest were made, by ``interval_basis``."""

UNCLEAR = "side unclear"
"""Mark of a share of windows over the limit that may be above or below the share that the SLO allows."""


def in_order(rows: Sequence[Row], service: Row) -> list[Row]:
    """Return the rows of a backtest: the selected policy, other policies, then the baselines."""
    chosen = next((r.get("policy") for r in records(service.get("selection")) if r.get("chosen")), None)
    own = [r.get("policy") for r in rows if r.get("policy") not in BASELINES]
    headline = headline_of(mapping(service.get("replay")))
    first = [*([headline] if headline else []), *([chosen] if chosen else []), *own, *ORDER]
    return sorted(rows, key=lambda r: first.index(r["policy"]) if r.get("policy") in first else len(first))


def left_out(service: Row) -> list[str]:
    """Return how many candidates are not listed, and where they are; nothing where all are."""
    count = service.get("selection_left_out") or 0
    if not count:
        return []
    return [
        f"{count} more in data/select.parquet: others beat each of them in hours, violations and violations "
        "under faults"
    ]


def notes(replay: Row) -> list[str]:
    """Return the notes below the table: what was replayed, intervals, calibration, bound, rows left out."""
    rows, calibration = records(replay.get("policies")), mapping(replay.get("calibration"))
    found = [*object_notes(replay), *ratio_notes(replay)]
    if rows:
        found.append("longest stretch: the longest time in which most windows are expected to break the SLO")
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
    if predicted := readings(calibration):
        found.append(predicted)
    if both := targets(calibration):
        found.append(both)
    if (least := calibration.get("least_instance_hours")) is not None:
        found.append(
            f"no schedule holds the SLO with fewer than {number(least)} instance-hours: a lower bound, "
            f"without start-up time and queues; {policy_name(HINDSIGHT)} is the best schedule found with them"
        )
    if times := start_up(calibration):
        found.append(times)
    missing = mapping(calibration.get("not_expressed"))
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(str(why), []).append(policy_name(str(name)))
    found += [f"not replayed: {', '.join(names)}: {why}" for why, names in by_reason.items()]
    return found


def ratio_notes(replay: Row) -> list[str]:
    """Return what the distance from the P/D ratio is, and what the rows are that keep it, fixed or moving."""
    rows = records(replay.get("policies"))
    found = []
    if any(row.get("pd_stray_ratio") is not None for row in rows):
        found.append(
            "off the P/D ratio: windows in which prefill ÷ decode of the counts lies outside the ratio's "
            "interval, or its band where it drifts, by more than whole instances explain"
        )
    said = mapping(mapping(replay.get("calibration")).get("ratio_rows"))
    moving = [policy_name(name) for name in RATIO_ROWS if name in {row.get("policy") for row in rows}]
    if moving and (fixed := said.get("fixed")):
        found.append(
            f"{', '.join(moving)}: HeteroScale's own rule, where one signal sizes one pool and the ratio "
            f"gives the other; the fixed ratio is held by the row {policy_name(str(fixed))}"
        )
    found += [
        f"{policy_name(str(name))}: not replayed: {why}" for name, why in mapping(said.get("missing")).items()
    ]
    return found


def side_unclear(row: Row) -> str:
    """Return the mark of a share that may be above or below what the SLO allows, else empty."""
    given = row.get("slo_violation_ratio") is not None
    return UNCLEAR if given and row.get("slo_side") == "unclear" else ""


def may_be_off(rows: Sequence[Row]) -> str:
    """Return the range of the first row's share, and the rows whose share is marked as unclear."""
    parts = []
    if rows and (span := rows[0].get("slo_violation_range")):
        name, (low, high) = policy_name(str(rows[0].get("policy"))), span
        parts.append(f"windows over limit may be off: {name} has {percent(low, 2)} to {percent(high, 2)}")
    if names := [policy_name(str(row.get("policy"))) for row in rows if side_unclear(row)]:
        parts.append(
            f"{UNCLEAR} (the replay can't say whether it is above or below what the SLO allows): "
            f"{', '.join(names)}"
        )
    return "; ".join(parts)


def readings(calibration: Row) -> str:
    """Return how far predicted latencies and queues are from those recorded, at the counts that ran."""
    parts = []
    for entry in records(calibration.get("readings")):
        role = "" if entry["role"] == "service" else f" of {entry['role']}"
        latency = entry["signal"] in ("ttft", "tbt")
        unit = "s" if latency else "requests"
        recorded, predicted = (" ".join(quantity(entry[key], unit)) for key in ("recorded", "predicted"))
        off = f", off by {percent(entry['error_ratio'], 2)} a window" if entry["error_ratio"] else ""
        name = entry["signal"].upper() if latency else entry["signal"].replace("_", " ")
        parts.append(f"{name}{role} {predicted} where {recorded} was recorded{off}")
    return f"predicted at the recorded counts (medians): {'; '.join(parts)}" if parts else ""


def targets(calibration: Row) -> str:
    """Return targets and the P/D ratio of the first part and of the whole window."""
    parts = [
        f"{entry['signal']}@{entry['role']} {number(entry['first_part'])} and {number(entry['whole'])}"
        for entry in records(calibration.get("targets"))
        if entry["first_part"] and entry["whole"]
    ]
    ratio = mapping(calibration.get("pd_ratio"))
    if ratio.get("first_part") and ratio.get("whole"):
        parts.append(f"P/D ratio {number(ratio['first_part'])} and {number(ratio['whole'])}")
    says = "targets fitted on the first part (the backtest's) and on the whole window (policy.yaml's)"
    return f"{says}: {'; '.join(parts)}" if parts else ""


def start_up(calibration: Row) -> str:
    """Return the start-up times of the replay and where they come from."""
    times: dict[tuple[str, str], list[str]] = {}
    for role, entry in mapping(calibration.get("start_up_s")).items():
        known = mapping(entry)
        times.setdefault((seconds(known.get("value")), str(known.get("provenance"))), []).append(str(role))
    words = {"settings": "as given", "default": "a default: give yours with --startup"}
    parts = [f"{time} for {' and '.join(roles)} ({words.get(of, of)})" for (time, of), roles in times.items()]
    return f"start-up time {', '.join(parts)}" if parts else ""

"""The decision in words: for which controller, how many instances then, what that saves and risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.choice import Choice, mapping, records
from hs_analysis.report.wording import (
    day_of,
    fixed,
    interval,
    is_number,
    local_time,
    number,
    percent,
    plain,
    policy_name,
    seconds,
    span,
)
from hs_analysis.schema.clock import UTC_NAME
from hs_analysis.schema.names import CONTROLLER_TITLES, IN_SAMPLE, NEUTRAL, UNLIMITED

Row = Mapping[str, Any]

LOADS = ("low", "usual", "peak")

RECOMMEND = {
    "apply": "apply the policy",
    "keep": "keep what runs",
    "record": "keep what runs and record more",
}


def decided(choice: Choice) -> str:
    """Return what to do and with which controller, and the confidence with its reasons."""
    decision = choice.decision
    reasons = "; ".join(str(one["text"]) for one in decision.get("confidence_reasons") or [])
    what = RECOMMEND.get(str(decision.get("recommend")), "")
    name = target_name(decision) if decision.get("recommend") == "apply" else ""
    target = f" with {name}" if name else ""
    return f"{what}{target}, confidence {choice.confidence}{f' ({reasons})' if reasons else ''}"


def target_name(decision: Row) -> str:
    """Return the name of the controller that a policy is for, empty where none is said."""
    target = str(decision.get("target") or "")
    return CONTROLLER_TITLES.get(target, target)


def policy_of(title: str) -> str:
    """Return a policy by the name of its controller: ``the KEDA policy``, and ``HeteroScale's own rule``."""
    if title.endswith(" rule"):
        return title
    return f"the {title} policy" if title else "the policy"


def lines(choice: Choice) -> list[str]:
    """Return what the policy changes: counts of each pool, hours, SLO risk, and on what it was replayed.

    Only what is said of the P/D ratio without a backtest of it.
    """
    decision = choice.decision
    if not decision.get("backtested"):
        return ratio_lines(decision)
    found = [pool_line(pool) for pool in records(decision.get("pools"))]
    found += [line for line in (hours_line(decision), risk_line(mapping(decision.get("slo_risk")))) if line]
    found += [limit_line(limits)] if (limits := mapping(decision.get("limits"))) else []
    found += ratio_lines(decision)
    found += [scale_in_line(cost)] if (cost := mapping(decision.get("scale_in"))) else []
    when = span(*decision["backtested"])
    if decision.get("by_blocks"):
        return [
            *found,
            f"replayed on {when}, the {day_of(decision)} it was fitted on: nothing says how days differ",
        ]
    return [*found, f"replayed on {when}, which it was not fitted on"]


def ratio_lines(decision: Row) -> list[str]:
    """Return what a test says of the P/D ratio, and what it costs."""
    return [f"P/D ratio: {text}" for text in decision.get("ratio_notes") or []]


def pool_line(pool: Row) -> str:
    """Return the counts of one pool: their mean, and those at low, usual and peak load."""
    at_load = mapping(pool.get("at_load"))
    parts = [f"{moved(mapping(at_load.get(name)))} at {name} load" for name in LOADS if at_load.get(name)]
    loads = f"; {', '.join(parts)}" if parts else ""
    return f"{pool.get('role')} instances, now → recommended: {moved(pool)} on average{loads}"


def moved(counts: Row) -> str:
    """Return ``11.0 → 7.6``."""
    return f"{fixed(counts.get('now'), 1)} → {fixed(counts.get('recommended'), 1)}"


def hours_line(decision: Row) -> str:
    """Return what the policy saves, or costs more, against what ran; empty where it is not known."""
    share = decision.get("hours_saved_ratio")
    if decision.get("by_blocks"):
        said = day_range(decision.get("hours_saved_ci"))
        return f"hours: {said} than recorded, by blocks of {day_of(decision)}" if said else ""
    if not is_number(share):
        return ""
    more = share < 0
    inside = interval(_turned(decision.get("hours_saved_ci"), turned=more), "ratio")
    amounts = []
    for key, unit in (
        ("instance_hours_saved", "instance-hours"), ("gpu_hours_saved", "GPU-hours"), ("cost_saved", "cost"),
    ):  # fmt: skip
        value = decision.get(key)
        if is_number(value):
            amounts.append(f"{number(abs(value))} {unit}")
    between = f" [{inside}]" if inside else ""
    said = f" ({', '.join(amounts)})" if amounts else ""
    return f"hours: {percent(abs(share))}{between} {'more' if more else 'fewer'} than recorded{said}"


def day_range(saved: Any) -> str:
    """Return hours of which one day tells a range, ``4.0 % more to 29 % fewer``; empty without one.

    Where both ends are on one side the smaller comes first: ``28 % to 102 % more``.
    """
    if not saved:
        return ""
    low, high = saved
    if high < 0:
        low, high = high, low
    ends = [f"{percent(abs(end))} {'more' if end < 0 else 'fewer'}" for end in (low, high)]
    if (low < 0) == (high < 0):
        ends[0] = percent(abs(low))
    return f"{ends[0]} to {ends[1]}"


def risk_line(risk: Row) -> str:
    """Return how often the SLO is expected to break: undisturbed, under faults and under bursts."""
    parts = []
    if is_number(risk.get("undisturbed")):
        inside = interval(risk.get("undisturbed_range"), "ratio")
        between = f" [{inside}]" if inside else ""
        ran = f" (what ran: {percent(risk['recorded'])})" if is_number(risk.get("recorded")) else ""
        parts.append(f"{percent(risk['undisturbed'])}{between} of windows undisturbed{ran}")
    elif risk.get("undisturbed_range"):
        inside = interval(risk["undisturbed_range"], "ratio")
        parts.append(
            f"between {inside} % of windows undisturbed: loads above all that was carried are not known"
        )
    for name in ("faults", "bursts"):
        share, other = risk.get(f"under_{name}"), risk.get(f"default_hpa_under_{name}")
        if is_number(share):
            default = f" (default HPA: {percent(other)})" if is_number(other) else ""
            most = "at most " if risk.get("faults_at_most") else ""
            parts.append(f"{most}{percent(share)} under {name}{default}")
    return f"SLO risk: {', '.join(parts)}" if parts else ""


def limit_line(limits: Row) -> str:
    """Return which pools limits of the user's own held, when, and what that costs."""
    zone = str(limits.get("zone") or UTC_NAME)
    held = [
        f"{pool.get('role')} in {plain(pool.get('windows'))} windows "
        f"({local_time(pool.get('first'), zone)} to {local_time(pool.get('last'), zone)} {zone})"
        for pool in records(limits.get("pools"))
    ]
    costs = []
    for key, words in _COSTS.items():
        ours, without = limits.get(key), limits.get(f"{key}_without")
        if is_number(ours) and is_number(without):
            said = percent if key == "slo_violation_ratio" else number
            costs.append(f"{said(ours)} {words}, {said(without)} without them")
    cost = f": {'; '.join(costs)}" if costs else ""
    return f"your limits hold {' and '.join(held)} below what the controller wants{cost}"


def scale_in_line(cost: Row) -> str:
    """Return what scale-in cuts: longest requests, grace period of the pods, and the line that mends it."""
    source = {"setting": " ([grace])", "file": f" ({cost.get('grace_where')})"}
    grace = f"{seconds(cost.get('grace_s'))}{source.get(str(cost.get('grace_from')), ' (the default)')}"
    pods = f"{cost.get('role')} pods have {grace} to end their requests"
    reason = str(mapping(cost.get("reason")).get("text") or "")
    if not is_number(cost.get("longest_request_bound_s")):
        return f"scale-in: {pods}; what is cut is not known: {reason}"
    bound = seconds(cost["longest_request_bound_s"])
    least = "at least " if cost.get("is_at_least") else ""
    if is_number(longest := cost.get("longest_request_s")):
        ends = f"99.9 % of requests end within {seconds(longest)} (bucket edge {bound})"
    else:
        ends = f"more than 0.1 % of requests take longer than the last bucket edge, {bound}"
    cut = cost.get("requests_cut_per_day")
    said = f"what is cut is not known: {reason}"
    if is_number(cut):
        said = f"{least}{number(cut)} requests a day are cut"
    change = f"; set {cost['change']} in the pod template" if cost.get("change") else ""
    return f"scale-in: {ends}, {pods}: {said}{change}"


_COSTS = {"slo_violation_ratio": "of windows over the SLO", "instance_hours": "instance-hours"}
"""Figure of what a limit costs, and its words."""


def _turned(pair: Any, *, turned: bool) -> Any:
    """Return an interval with the sign of the number beside it, whose minus was put into words."""
    if not turned or not isinstance(pair, Sequence) or not all(is_number(end) for end in pair):
        return pair
    return [-pair[1], -pair[0]]


def object_notes(replay: Row) -> list[str]:
    """Return what was replayed for the selected policy, and what the rows beside it are.

    Its object is written by the exporter and read back. Beside it are the same object with the exported
    numbers, which have seen the test window, and HeteroScale's own rule, which no target limits.
    """
    said = mapping(mapping(replay.get("calibration")).get("deployed"))
    rows = {str(row.get("policy")): row for row in records(replay.get("policies"))}
    if not said:
        return []
    name, why = target_name(said), str(said.get("why_not") or "")
    found = [f"selected policy: replayed as its {name} file, written and read back"]
    if why:
        found = [f"selected policy: replayed by its own parameters, its {name} file was not read back: {why}"]
    elif pools := " and ".join(map(str, said.get("differs") or [])):
        found.append(f"read back, the parameters of {pools} are not those of the policy")
    notes = {
        IN_SAMPLE: "the same file with the numbers of the whole window, as it is exported; "
        "it has seen the test window",
        NEUTRAL: f"run with the same numbers; the distance is what {name} can't say",
        UNLIMITED: "the same file without the limits of [bounds]: what they cost",
    }
    return found + [f"{policy_name(row)}: {text}" for row, text in notes.items() if row in rows]

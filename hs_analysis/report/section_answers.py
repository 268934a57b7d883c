"""The one line that each folded section of the page answers with before it is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.choice import Choice, mapping, primary_thresholds, records
from hs_analysis.report.decision_words import hours_line
from hs_analysis.report.driver_words import finding
from hs_analysis.report.wording import (
    interval,
    is_number,
    number,
    percent,
    plural,
    policy_name,
    quantity,
    signal_label,
    unit_of,
)

Row = Mapping[str, Any]


def answers(service: Row, choice: Choice, ranked: Sequence[Row]) -> dict[str, str]:
    """Return the line of every section of a service, by the section's key.

    Parameters
    ----------
    service
        The service's part of summary.json.
    choice
        What was chosen.
    ranked
        Signals of the study, best first, without those of single GPU types.

    Returns
    -------
    dict
        One sentence a section without its full stop; it says so where there is nothing to open.
    """
    return {
        "figures": _figures(service),
        "signals": signals(ranked),
        "load": _load(ranked, choice),
        "capacity": _capacity(service),
        "thresholds": _thresholds(service, choice),
        "ratio": _ratio(service),
        "replay": _replay(service, choice),
        "drivers": finding(records(service.get("drivers"))),
        "policy": _policy(choice),
    }


def signals(ranked: Sequence[Row]) -> str:
    """Return how many signals may size a pool, and which is the best of them."""
    if not ranked:
        return "no signal was studied"
    counts = Counter(str(row.get("verdict")) for row in ranked)
    sizing, unknown = counts["proportional"], counts["unknown"]
    if unknown == len(ranked):
        return f"none of {len(ranked)} could be tested"
    best = signal_label(str(ranked[0].get("signal")), str(ranked[0].get("role") or ""))
    tail = f"; best {best}" if sizing else ""
    untested = f"; {unknown} could not be tested" if unknown else ""
    return f"{sizing or 'none'} of {len(ranked)} may size a pool{tail}{untested}"


def data(findings: Mapping[str, Any], covered: Any, *, missing: int = 0) -> str:
    """Return how many findings a table lists by level, and which share of the samples there is.

    Parameters
    ----------
    findings
        Table of findings, as `tables.findings` returns it.
    covered
        Share of the expected samples [ratio], None where it is not known.
    missing
        Signals that were not found, which a table of their own lists [count].
    """
    levels = Counter(row["cells"][1]["status"]["word"] for row in findings["rows"])
    said = [f"{count} {word}" for word, count in levels.items()]
    total = sum(levels.values())
    found = f"{plural(total, 'finding')} ({', '.join(said)})" if total else "nothing was found wrong"
    found += f"; {plural(missing, 'signal')} not found" if missing else ""
    return f"{found}; {percent(covered)} of samples are there" if is_number(covered) else found


def _figures(service: Row) -> str:
    refused = len(records(service.get("refusals")))
    said = f"; {plural(refused, 'question')} this history could not answer" if refused else ""
    return f"signal, target, ratio and replay with their evidence{said}"


def _load(ranked: Sequence[Row], choice: Choice) -> str:
    pairs = {(str(row.get("signal")), str(row.get("role") or "")): row for row in ranked}
    drawn = [pair for pair in choice.primaries if pair in pairs] or list(pairs)[:1]
    said = []
    for pair in drawn:
        value = pairs[pair].get("elasticity")
        said.append(
            f"{signal_label(*pair)} {f'moves {number(value)} %' if is_number(value) else 'not known'}"
        )
    return f"per 1 % of load, {', '.join(said)}" if said else "there is no signal to draw"


def _amount(value: Any, unit: str) -> str:
    text, shown = quantity(value, unit)
    return f"{text} {shown}".rstrip()


def _capacity(service: Row) -> str:
    rows = [row for row in records(service.get("capacity")) if not row.get("gpu_type")]
    said = []
    for row in rows:
        status = str(row.get("status") or "")
        if is_number(row.get("per_instance")):
            unit = unit_of(str(row.get("signal"))) or "tokens/s"
            mark = f" ({status})" if status != "ok" and status else ""
            said.append(f"{row.get('role')} {_amount(row['per_instance'], unit)}{mark}")
        else:
            said.append(f"{row.get('role')} {status or 'not known'}")
    return ", ".join(said) or "no capacity was derived"


def _thresholds(service: Row, choice: Choice) -> str:
    every = [row for row in records(service.get("thresholds")) if not row.get("gpu_type")]
    said = [
        f"{signal_label(str(row.get('signal')), str(row.get('role') or ''))} "
        f"{_amount(row['target_per_instance'], unit_of(str(row.get('signal'))))}"
        for row in primary_thresholds(service, choice)[:2]
        if is_number(row.get("target_per_instance"))
    ]
    if not said:
        return f"no target for a pool; {len(every)} rows" if every else "no threshold was derived"
    return f"{', '.join(said)} per instance"


def _ratio(service: Row) -> str:
    answer = mapping(service.get("pd_ratio"))
    if not answer:
        return "no ratio was derived"
    status = str(answer.get("status") or "")
    if is_number(answer.get("value")):
        between = interval(answer.get("ci"))
        inside = f" ({between})" if between else ""
        return f"{number(answer['value'])} prefill per decode instance{inside}, {status}".rstrip(", ")
    ends = [
        f"at {end} {number(answer[f'at_{end}'])}"
        for end in ("least", "most")
        if is_number(answer.get(f"at_{end}"))
    ]
    return f"{' and '.join(ends) or 'no value'}, {status}".rstrip(", ")


def _replay(service: Row, choice: Choice) -> str:
    rows, row = records(mapping(service.get("replay")).get("policies")), choice.selected
    if not rows or not row:
        return "no policy was replayed on this history"
    said = []
    over = row.get("slo_violation_ratio")
    if choice.decision.get("by_blocks"):
        risk = mapping(choice.decision.get("slo_risk"))
        said.append(hours_line(choice.decision).removeprefix("hours: "))
        over, between = risk.get("undisturbed"), interval(risk.get("undisturbed_range"), "ratio")
        if between and not is_number(over):
            said.append(f"{between.removesuffix(' %')} % of windows over the limit")
    elif is_number(value := row.get("vs_recorded")):
        said.append(f"{percent(abs(value))} {'fewer' if value >= 0 else 'more'} hours than recorded")
    if is_number(over):
        said.append(f"{percent(over)} of windows over the limit")
    name = policy_name(str(row.get("policy")))
    figures = ", ".join(part for part in said if part) or "no figures"
    return f"{name}: {figures}; {plural(len(rows), 'row')} compared"


def _policy(choice: Choice) -> str:
    if not choice.spec:
        return "no policy was written for this service"
    follows = ", ".join(signal_label(*pair) for pair in choice.primaries)
    mode = {"periodic": "a timetable", "hold": "the recorded sizes"}.get(choice.mode)
    return f"policy.yaml, {mode or f'follows {follows}'}"

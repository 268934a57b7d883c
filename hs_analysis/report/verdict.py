"""The verdict box of a service: what to scale on, how much, how sure, what it saves, what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report import first_line, releases
from hs_analysis.report.assumed import assumed
from hs_analysis.report.cells import (
    Cell,
    estimate_cell,
    evidence_path,
    linked,
    number_cell,
    reason_text,
    status_cell,
    text_cell,
)
from hs_analysis.report.choice import Choice, entry_of, mapping, primary_thresholds, records, threshold_of
from hs_analysis.report.decision_words import (
    LOADS,
    hours_line,
    limit_line,
    moved,
    policy_of,
    scale_in_line,
    target_name,
)
from hs_analysis.report.ratio_words import beside_ratio
from hs_analysis.report.replay_tables import replay_path
from hs_analysis.report.replay_words import side_unclear
from hs_analysis.report.slo import edges, objective
from hs_analysis.report.tables import threshold_path
from hs_analysis.report.wording import (
    capacity_share,
    day_of,
    fixed,
    is_number,
    plain,
    policy_name,
    replayed_on,
    signal_label,
    status,
    the_day,
    unit_of,
)

Fact = dict[str, Any]


def verdict(service: Mapping[str, Any], choice: Choice, pointer: str) -> dict[str, Any]:
    """Return the verdict as words and linked numbers.

    Parameters
    ----------
    service
        The service's part of summary.json.
    choice
        Which policy was chosen and what it is compared with.
    pointer
        JSON pointer of the service in summary.json; every number carries the pointer of its value.

    Returns
    -------
    dict
        ``alert`` and ``headline`` (words and numbers in turn; the alert may be empty), ``confidence``
        and the ``reasons`` against a higher one, ``next_steps``,
        ``mode``, ``objective`` and ``edges`` (the SLO, and where a limit is judged elsewhere), ``releases``
        (what a version that came inside the window leaves), ``assumed`` (numbers no data gave), ``facts``
        (label, cells, note) and ``refusals``.
    """
    name = str(service.get("service") or "")
    return {
        "alert": _alert(service, choice),
        "headline": _headline(name, service, choice, pointer),
        "confidence": status(choice.confidence) if choice.confidence else None,
        "reasons": [str(one["text"]) for one in choice.decision.get("confidence_reasons") or []],
        "next_steps": list(choice.decision.get("next_steps") or []),
        "mode": _MODES.get(choice.mode, ""),
        "objective": objective(mapping(service.get("slo"))),
        "edges": edges(service),
        "releases": releases.lines(service),
        "assumed": assumed(service, choice.spec),
        "facts": [
            _signal(name, service, choice, pointer),
            _targets(name, service, choice, pointer),
            _ratio(name, service, choice, pointer),
            _saving(name, service, choice, pointer),
            *_change(name, service, choice, pointer),
        ],
        "refusals": [
            {key: str(row.get(key) or "") for key in ("what", "code", "text", "collect")}
            for row in records(service.get("refusals"))
        ],
    }


_MODES = {
    "periodic": "The policy is a timetable: no metric can be followed safely.",
    "hold": "The policy holds the recorded sizes: nothing in this history supports changing them.",
}


def _alert(service: Mapping[str, Any], choice: Choice) -> list[Cell]:
    """Return the sentence that must stand first: what applying the policy is warned of."""
    text = mapping(choice.decision.get("alarm")).get("text")
    return [{"text": f"The policy of {service.get('service')} {text}."}] if text else []


def _share(name: str, service: Mapping[str, Any], row: Mapping[str, Any], pointer: str) -> Cell:
    """Return the share of violating windows of a replayed policy as a linked number."""
    rows = records(mapping(service.get("replay")).get("policies"))
    place = next(i for i, entry in enumerate(rows) if entry is row)
    at = f"{pointer}/replay/policies/{place}/slo_violation_ratio"
    cell = linked(number_cell(row.get("slo_violation_ratio"), "ratio"), replay_path(name, row), at)
    return cell | ({"note": said} if (said := side_unclear(row)) else {})


def _headline(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> list[Cell]:
    if choice.decision.get("recommend") == "keep":
        return [{"text": f"Keep what runs: {choice.decision.get('why')}"}]
    if choice.mode in ("periodic", "hold"):
        return [
            {
                "text": "Scale by timetable, not by a metric"
                if choice.mode == "periodic"
                else "Keep the recorded sizes"
            }
        ]
    if not choice.primaries:
        return [{"text": "No signal can be recommended from this history"}]
    parts: list[Cell] = []
    every = records(service.get("thresholds"))
    title = target_name(choice.decision)
    start = f"Apply {policy_of(title)}: scale on " if title else "Scale on "
    for signal, role in choice.primaries:
        parts.append({"text": f"{', and on ' if parts else start}{signal_label(signal, role)}"})
        entry = threshold_of(service, signal, role)
        if is_number(entry.get("target_per_instance")):
            place = next(i for i, row in enumerate(every) if row is entry)
            number = number_cell(entry["target_per_instance"], unit_of(signal))
            at = f"{pointer}/thresholds/{place}/target_per_instance"
            parts += [
                {"text": " at "},
                linked(number, threshold_path(name, entry), at),
                {"text": f" per {role} instance"},
            ]
    return parts


def _signal(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> Fact:
    """Name the recommended and the selected signal with the numbers that speak for them."""
    best = mapping(service.get("recommended"))
    first = [(str(best["signal"]), str(best.get("role") or ""))] if best.get("signal") else []
    used = [_studied(service, pair) for pair in choice.primaries] if choice.follows else []
    pairs = list(dict.fromkeys(first + used))
    cells = []
    for pair in pairs:
        words = ["recommended by the study"] if pair in first else []
        if pair in used:
            words.append("selected by replaying candidates" if choice.policy else "sizes the pool")
        cells.append(_signal_cell(name, service, pointer, pair) | {"note": " · ".join(words)})
    note = f"Recommended because: {best['why']}." if best.get("why") else ""
    if best.get("runner_up"):
        note += f" Next best: {policy_name(str(best['runner_up']))}."
    if first and used and first[0] not in used:
        note = (
            f"The study and the selection disagree; the selection decides, because it closes the loop. {note}"
        )
    if not pairs:
        cells, note = (
            [text_cell("none")],
            "no signal passed the checks; see the ranking for the reason of each",
        )
    return {"label": "Signal", "cells": cells, "note": note.strip()}


def _studied(service: Mapping[str, Any], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the signal and role under which the study lists a primary."""
    found = entry_of(records(service.get("signals")), *pair)
    return (pair[0], str(found.get("role") or "")) if found else pair


def _signal_cell(name: str, service: Mapping[str, Any], pointer: str, pair: tuple[str, str]) -> Cell:
    signal, role = pair
    for place, entry in enumerate(records(service.get("signals"))):
        if (str(entry.get("signal")), str(entry.get("role") or "")) == pair:
            path = evidence_path(name, "study", f"{signal}@{role}", entry.get("evidence"))
            elastic = number_cell(entry.get("elasticity"), "", entry.get("elasticity_ci"), 2)
            detail = linked(elastic | {"label": "elasticity"}, path, f"{pointer}/signals/{place}/elasticity")
            detail["ci_pointer"] = f"{pointer}/signals/{place}/elasticity_ci"
            cell = text_cell(signal_label(signal, role), strong=True, detail=detail)
            return linked(cell, path, f"{pointer}/signals/{place}/signal") | {"raw": signal}
    return text_cell(signal_label(signal, role), strong=True)


def _targets(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> Fact:
    every = records(service.get("thresholds"))
    cells, notes = [], []
    for entry in primary_thresholds(service, choice):
        place = next(i for i, row in enumerate(every) if row is entry)
        signal, role = str(entry.get("signal")), str(entry.get("role") or "")
        pool = next((p for s, p in choice.primaries if s == signal), role) if role == "service" else role
        cell = number_cell(entry.get("target_per_instance"), unit_of(signal), strong=True)
        at = f"{pointer}/thresholds/{place}"
        cell = linked(cell, threshold_path(name, entry), f"{at}/target_per_instance")
        if entry.get("capacity"):
            known = estimate_cell(entry["capacity"], unit_of(signal))
            detail = linked(
                known | {"label": capacity_share(entry)}, threshold_path(name, entry), f"{at}/capacity/value"
            )
            cell["detail"] = detail
        cells.append(
            cell
            | {
                "per": f"per {pool} instance",
                "status": status(entry.get("status")),
                "note": signal_label(signal, role),
            }
        )
        reason = reason_text(entry.get("reason"))
        if reason and reason not in notes:
            notes.append(reason)
    if not cells:
        return {"label": "Target", "cells": [text_cell("none")], "note": "no threshold could be derived"}
    return {"label": "Target", "cells": cells, "note": "; ".join(notes)}


def _ratio(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> Fact:
    answer = mapping(service.get("pd_ratio"))
    said = "; ".join(part for part in (reason_text(answer.get("reason")), *beside_ratio(answer)) if part)
    note = f"{said}{first_line.ratio_kept(service, choice)}".lstrip("; ")
    if not answer:
        return {"label": "P/D ratio", "cells": [text_cell("none")], "note": "not derived"}
    path, at = ratio_path(name, answer), f"{pointer}/pd_ratio"
    cells = []
    if is_number(answer.get("value")):
        cell = linked(number_cell(answer["value"], "", answer.get("ci"), strong=True), path, f"{at}/value")
        cells.append(cell | {"ci_pointer": f"{at}/ci", "per": "prefill per decode instance"})
    for key, words in (("at_least", "at least"), ("at_most", "at most")):
        if is_number(answer.get(key)):
            bound = number_cell(answer[key], strong=not cells)
            cells.append(linked(bound, path, f"{at}/{key}") | {"before": words})
    cells = cells or [text_cell("no value")]
    cells[0]["status"] = status(answer.get("status"))
    if pairs := pair_text(answer):
        cells[0]["detail"] = linked(
            {"text": pairs, "label": "as whole instances:"}, path, f"{at}/integer_pairs"
        )
    return {"label": "P/D ratio", "cells": cells, "note": note}


def ratio_path(name: str, answer: Mapping[str, Any]) -> str:
    """Return the evidence path of the P/D ratio."""
    return evidence_path(name, "derive", "pd_ratio", answer.get("evidence"))


def pair_text(answer: Mapping[str, Any]) -> str:
    """Return the integer pairs near the ratio, such as ``9P:7D, 4P:3D``."""
    pairs = answer.get("integer_pairs")
    good = (
        [p for p in pairs if isinstance(p, list | tuple) and len(p) == 2]
        if isinstance(pairs, list | tuple)
        else []
    )
    return ", ".join(f"{plain(p)}P:{plain(d)}D" for p, d in good[:4])


def _saving(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> Fact:
    row = choice.selected
    if not row:
        reason = reason_text(mapping(service.get("replay")).get("reason"))
        return {
            "label": "Replay",
            "cells": [text_cell("no replay")],
            "note": reason or "no policy was replayed on this history",
        }
    if choice.decision.get("by_blocks"):
        said = hours_line(choice.decision).removeprefix("hours: ")
        day = day_of(choice.decision)
        note = f"The file itself, on the {day} it was fitted on; nothing says how days differ."
        return {"label": "Replay", "cells": [text_cell(said or "hours saved not known")], "note": note}
    place = next(i for i, r in enumerate(records(mapping(service.get("replay")).get("policies"))) if r is row)
    at, path = f"{pointer}/replay/policies/{place}", replay_path(name, row)
    cells = [
        _hours_saved(row, key, baseline, path, at)
        for key, baseline in (("vs_recorded", "what was recorded"), ("vs_static_peak", "static peak"))
    ]
    over = _share(name, service, row, pointer) | {"per": "of test windows over the limit"}
    if not is_number(row.get("slo_violation_ratio")):
        over["note"] = str(mapping(mapping(service.get("replay")).get("calibration")).get("text") or "")
    if is_number(choice.recorded.get("slo_violation_ratio")):
        over["detail"] = _share(name, service, choice.recorded, pointer) | {
            "label": "the recorded counts in the same model:"
        }
    cells.append(over)
    tested = mapping(service.get("replay")).get("test")
    note = f"{policy_name(str(row.get('policy')))}, replayed on history that it was not fitted on"
    if choice.backtested:
        note += "; policy.yaml holds another policy, which was not"
    if row.get("interval_basis") == "hours":
        note += "; intervals hold what moves within a day alone"
    note += f"; without intervals: {why}." if tested and (why := row.get("interval_reason")) else "."
    return {"label": "Replay", "cells": cells, "note": note}


def _hours_saved(row: Mapping[str, Any], key: str, baseline: str, path: str, at: str) -> Cell:
    """Return the share of a baseline's hours that a replayed policy saves, or takes more."""
    value = row.get(key)
    if not is_number(value):
        return text_cell(f"saving against {baseline} not known")
    more = value < 0
    ci = interval_of(row.get(f"{key}_ci"), turned=more)
    cell = linked(number_cell(abs(value), "ratio", ci, strong=True), path, f"{at}/{key}")
    words = "more hours than" if more else "fewer hours than"
    return cell | {"per": f"{words} {baseline}", "negative": more}


def _change(name: str, service: Mapping[str, Any], choice: Choice, pointer: str) -> list[Fact]:
    """Return the instances now and then, and the risk for the SLO; nothing without a backtest.

    Their links lead to the row of the backtest, which shows hours and violations, not these figures.
    """
    decision = choice.decision
    if not decision.get("backtested") or not choice.selected:
        return []
    path, at = replay_path(name, choice.selected), f"{pointer}/decision"
    cells = []
    for place, pool in enumerate(records(decision.get("pools"))):
        before = f"{pool.get('role')}: {fixed(pool.get('now'), 1)} now →"
        cell = number_cell(pool.get("recommended"), "", None, 1, strong=True, before=before)
        loads = mapping(pool.get("at_load"))
        note = ", ".join(f"at {load} load {moved(mapping(loads[load]))}" for load in LOADS if load in loads)
        cells.append(linked(cell, path, f"{at}/pools/{place}/recommended") | {"note": note, "plain": True})
    target = f" with {of}" if (of := target_name(decision)) else ""
    window = the_day(decision) if decision.get("by_blocks") else "the test window"
    means = f"means over {window}, as recorded and as the policy asks for in the replay"
    facts: list[Fact] = [{"label": f"Instances{target}", "cells": cells, "note": means}] if cells else []
    if limits := mapping(decision.get("limits")):
        facts.append({"label": "Your limits", "cells": [text_cell(limit_line(limits))], "note": ""})
    if cost := mapping(decision.get("scale_in")):
        facts.append({"label": "Scale-in", "cells": [text_cell(scale_in_line(cost))], "note": ""})
    risk = mapping(decision.get("slo_risk"))
    cells = []
    for key, words, other, label in _RISKS:
        if is_number(risk.get(key)):
            cell = linked(number_cell(risk[key], "ratio", strong=True), path, f"{at}/slo_risk/{key}")
            if is_number(risk.get(other)):
                there = linked(number_cell(risk[other], "ratio"), path, f"{at}/slo_risk/{other}")
                cell["detail"] = there | {"label": label, "plain": True}
            cells.append(cell | {"per": words, "plain": True})
    under = f"faults and bursts: in steep hours of {replayed_on(service)}, the mean over all kinds"
    return [*facts, {"label": "SLO risk", "cells": cells, "note": under}] if cells else facts


_HPA = "a default HPA on the same targets:"
_RISKS = (
    ("undisturbed", "of windows over the limit, undisturbed", "recorded", "the recorded counts:"),
    ("under_faults", "under faults", "default_hpa_under_faults", _HPA),
    ("under_bursts", "under bursts", "default_hpa_under_bursts", _HPA),
)
"""Figure of the risk, its words, the one beside it, and whose that is."""


def interval_of(pair: Any, *, turned: bool) -> Any:
    """Return an interval with the sign of the number beside it, whose minus was put into words."""
    if not turned or not isinstance(pair, list | tuple) or not all(is_number(end) for end in pair):
        return pair
    return [-pair[1], -pair[0]]


def overview_row(service: Mapping[str, Any], choice: Choice, target: str) -> dict[str, Any]:
    """Return one line of the table of services: name as a link, headline numbers and statuses."""
    name = str(service.get("service") or "")
    entries = primary_thresholds(service, choice)
    entry = entries[0] if entries else {}
    answer = mapping(service.get("pd_ratio"))
    chosen = choice.primaries[0] if choice.primaries else None
    day, risk = choice.decision.get("by_blocks"), mapping(choice.decision.get("slo_risk"))
    over = risk.get("undisturbed") if day else choice.selected.get("slo_violation_ratio")
    cells = [
        text_cell(name) | {"href": f"#{target}", "plain": True},
        text_cell(signal_label(*chosen) if chosen else None),
        number_cell(
            entry.get("target_per_instance"), unit_of(str(entry.get("signal"))), key="target_per_instance"
        ),
        number_cell(answer.get("value"), "", answer.get("ci"), key="value")
        | {"status": status(answer.get("status")) if answer else None},
        text_cell("a range: see below")
        if day
        else number_cell(choice.selected.get("vs_recorded"), "ratio", key="vs_recorded"),
        number_cell(over, "ratio", key="slo_violation_ratio")
        | {"note": "more than recorded" if first_line.is_worse(choice) else ""}
        if is_number(over) or not risk.get("undisturbed_range")
        else text_cell("a range: see below"),
        status_cell(choice.confidence, note=_not_to_apply(choice), key="confidence")
        if choice.confidence
        else text_cell(None),
    ]
    return {"id": "", "cells": cells}


def worst_first(rows: Sequence[tuple[Mapping[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of the table of services: alarms, missing answers, then what breaks the SLO most.

    Parameters
    ----------
    rows
        Each service's part of summary.json with its line, in the order of the summary, which ties keep.
    """
    answered = {"record": 0, "keep": 1, "apply": 2}

    def rank(row: tuple[Mapping[str, Any], dict[str, Any]]) -> tuple[Any, ...]:
        decision = mapping(row[0].get("decision"))
        risk = mapping(decision.get("slo_risk")).get("undisturbed")
        sure = {"low": 0, "medium": 1, "high": 2}.get(str(decision.get("confidence")), 0)
        over = -risk if is_number(risk) else 0.0
        return (not decision.get("alarm"), answered.get(str(decision.get("recommend")), 0), over, sure)

    return [line for _, line in sorted(rows, key=rank)]


def _not_to_apply(choice: Choice) -> str:
    """Return that a policy is not to be applied, for the table of services."""
    return "" if choice.decision.get("recommend") == "apply" else "keep what runs"


OVERVIEW_HEADS = (
    "service",
    "scale on",
    "target per instance",
    "P/D ratio",
    "saved against recorded",
    "windows over the limit",
    "confidence",
)

"""The answer in five lines: what to do, what it saves or costs, what it risks, how sure, what to type next.

Terminal, Markdown and the first screen of the report print these lines. All their numbers are those of the
service's `decision` and of the thresholds that its policy follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hs_analysis.report.apply import next_command
from hs_analysis.report.assumed import assumed
from hs_analysis.report.choice import Choice, mapping, primary_thresholds, records
from hs_analysis.report.decision_words import (
    day_range,
    limit_line,
    moved,
    policy_of,
    scale_in_line,
    target_name,
)
from hs_analysis.report.ratio_words import WIDTH, best_splits, floors_line, is_ratio_test, ratio_line
from hs_analysis.report.slo import NO_SLO, edges
from hs_analysis.report.wording import (
    day_of,
    fixed,
    interval,
    is_number,
    number,
    percent,
    service_name,
    signal_label,
    unit_of,
)

_ACTION_WIDTH = 100
"""Characters of the first line of a ratio test behind the name, which may be long."""

QUESTION_WIDTH = 160
"""The same of an open question."""


@dataclass(frozen=True)
class Answer:
    """What a person reads first of one service.

    Attributes
    ----------
    action, hours, risk, confidence, next_step
        One sentence each, at most `WIDTH` characters; empty where there is nothing to say.
    ratio, floors
        Of a ratio test: the ratio with the splits tested next to the best, and what one instance carried.
    questions
        One line for each thing that is open, at most `QUESTION_WIDTH` characters.
    """

    action: str
    hours: str
    risk: str
    confidence: str
    next_step: str
    ratio: str = ""
    floors: str = ""
    questions: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The sentences that say something, in order."""
        every = (
            self.action, self.ratio, self.floors, self.hours, self.risk, self.confidence, self.next_step,
        )  # fmt: skip
        return [line for line in every if line]


def answer_of(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any], folder: str) -> Answer:
    """Return the answer for one service.

    Parameters
    ----------
    service
        The service's part of summary.json.
    choice
        The selected policy, and its rows of the backtest.
    slo
        Limits of the run.
    folder
        The run folder as a user types it, for the next command.
    """
    test = is_ratio_test(service)
    return Answer(
        action=_action(service, choice),
        hours="" if test else fitted(_hours(choice)),
        risk="" if test else fitted(_risk(service, choice, slo)),
        confidence=fitted(_confidence(choice)),
        next_step=_next_step(service, choice, folder),
        ratio=fitted(ratio_line(service)) if test else "",
        floors=fitted(floors_line(service, slo)) if test else "",
        questions=tuple(
            fitted(f"{text.rstrip('.')}.", QUESTION_WIDTH) for text in _questions(service, choice)
        ),
    )


_ENDS = (("; ", ". "), (": ", ", ", " ("))
"""Where a sentence may be cut: before what stands by itself, else before a further clause."""


def fitted(text: str, width: int = WIDTH) -> str:
    """Return a text of at most ``width`` characters, cut where a clause ends, else at a word with ``…``."""
    if len(text) <= width:
        return text
    for ends in _ENDS:
        at = max(text.rfind(end, 0, width - 1) for end in ends)
        if at > width // 2:
            return text[:at].rstrip(" ,;:.(") + "."
    at = text.rfind(" ", 0, width - 1)
    return text[: at if at > 0 else width - 2] + " …"


def _action(service: Mapping[str, Any], choice: Choice) -> str:
    name, decision = service_name(str(service.get("service") or "")), choice.decision
    recommend = decision.get("recommend")
    why = str(decision.get("why") or "")
    if not recommend:
        return fitted(f"{name}: no decision was made.")
    if recommend in ("keep", "record") and is_ratio_test(service):
        kept = "keep what runs" if recommend == "keep" else "no policy"
        line = f": {kept}; {best_splits(service, _ACTION_WIDTH - len(kept))}."
        return name + line
    if recommend == "record":
        return _behind(name, f": keep what runs and record more: {why}.")
    if recommend == "keep":
        return _behind(name, f": keep what runs: {why}.")
    policy = policy_of(target_name(decision))
    if choice.mode == "periodic":
        return fitted(f"{name}: apply {policy}, a timetable.")
    targets = [
        (signal_label(str(t["signal"]), str(t["role"])), _amount(t["target_per_instance"], str(t["signal"])))
        for t in primary_thresholds(service, choice)
        if is_number(t.get("target_per_instance")) and choice.primaries
    ]
    for in_words in (_in_a_row, _without_detail):
        follows = ", ".join(f"{in_words(label)} {value}" for label, value in targets)
        line = f": apply {policy}: {follows} per instance."
        if follows and len(line) <= WIDTH:
            return name + line
    return fitted(f"{name}: apply {policy}.")


def _amount(value: float, signal: str) -> str:
    """Return a target as the report has it; the unit of a signal that is no ratio has no room in the line."""
    return percent(value) if unit_of(signal) == "ratio" else number(value)


def _behind(name: str, text: str) -> str:
    """Return a line about a service; where a long name would cut the first clause, it does not count."""
    line = fitted(name + text)
    return name + fitted(text) if line.endswith("…") else line


def _without_detail(label: str) -> str:
    """Return ``prefill TPS (cache-missed)`` as ``prefill TPS``."""
    return label.partition(" (")[0]


def _in_a_row(label: str) -> str:
    """Return ``prefill TPS (cache-missed)`` as ``cache-missed prefill TPS``."""
    name, bracket, detail = label.partition(" (")
    return f"{detail.removesuffix(')')} {name}" if bracket else label


def _hours(choice: Choice) -> str:
    decision = choice.decision
    share, who, notes = decision.get("hours_saved_ratio"), "", [""]
    if decision.get("recommend") not in ("apply", "keep"):
        return ""
    if decision.get("recommend") == "keep":
        who = "The best candidate "
    if decision.get("by_blocks"):
        said, of_day = day_range(decision.get("hours_saved_ci")), day_of(decision)
        amount = f"{said} instance-hours" if said else f"hours that {of_day} does not tell"
        notes = [f" ({of_day} tells only a range)", f" ({of_day})"] if said else notes
        start = f"{who}needs {amount}" if who else f"Needs {amount}"
    elif is_number(share):
        inside = interval(decision.get("hours_saved_ci"), "ratio")
        between = f" [{inside}]" if inside and share >= 0 else ""
        verb = "saves" if share >= 0 else "costs"
        amount = f"{percent(abs(share))}{between} {'of' if share >= 0 else 'more'} instance-hours"
        start = f"{who}{verb} {amount}" if who else f"{verb.capitalize()} {amount}"
    else:
        return "" if who else _unknown_hours(choice)
    pools = ", ".join(
        f"{pool.get('role')} {moved(pool)}"
        for pool in records(decision.get("pools"))
        if is_number(pool.get("now")) and is_number(pool.get("recommended"))
    )
    if not pools:
        return f"{start}{notes[0]}."
    lines = [f"{start}{note}: {pools}{end}." for note in notes for end in (" on average", "")]
    return next((line for line in lines if len(line) <= WIDTH), lines[0])


def _unknown_hours(choice: Choice) -> str:
    """Return within which counts a policy stays whose saving is not known, or why it is not."""
    decision, bounds = choice.decision, mapping(choice.spec.get("bounds"))
    if decision.get("backtested"):
        return "Saving: not known."
    kept = [
        f"{pool.get('role')} {at['min']} to {at['max']} (ran {fixed(pool.get('now'), 1)})"
        for pool in records(decision.get("pools"))
        if (at := mapping(bounds.get(str(pool.get("role"))))) and is_number(at.get("max"))
    ]
    if not kept:
        return f"Saving: not known: {decision.get('why')}."
    return f"Saving: not known. Instances stay within bounds: {', '.join(kept)}."


def _risk(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> str:
    if not (is_number(slo.get("ttft_s")) or is_number(slo.get("tbt_s"))):
        return f"Risk: {NO_SLO.partition(':')[0]}, so nothing is said of latency."
    risk = mapping(choice.decision.get("slo_risk"))
    ends, share = risk.get("undisturbed_range"), risk.get("undisturbed")
    if choice.decision.get("recommend") == "record":
        return ""
    if is_number(share):
        amount = percent(share)
    elif known := interval(ends, "ratio"):
        amount = f"{known} %" if "%" not in known else known
    else:
        return f"Risk: not known{_recorded_over(service)}{_why_not_known(service, choice)}."
    beside = [f"limit {percent(slo.get('allowed_window_share')).replace('.0 %', ' %')}"]
    if is_number(risk.get("recorded")):
        beside.append(f"what ran {percent(risk['recorded'])}")
    said = f"Risk: {amount} of windows over the SLO ({', '.join(beside)})"
    most = "≤" if risk.get("faults_at_most") else ""
    under = [
        f"{name} {most}{percent(risk[f'under_{name}'])}".replace("≤<", "<")
        for name in ("faults", "bursts")
        if is_number(risk.get(f"under_{name}"))
    ]
    return f"{said}; {', '.join(under)}." if under else f"{said}."


def _recorded_over(service: Mapping[str, Any]) -> str:
    """Return in how many of the recorded windows the limit broken most was broken; empty where never."""
    latencies = mapping(mapping(mapping(service.get("replay")).get("calibration")).get("latencies"))
    least = [mapping(one).get("observed") or [0.0] for one in latencies.values()]
    worst = max((float(ends[0] or 0.0) for ends in least), default=0.0)
    return f" (recorded ≥{percent(worst)} of windows)" if worst > 0.0 else ""


def _why_not_known(service: Mapping[str, Any], choice: Choice) -> str:
    reasons = {one.get("code"): one for one in records(choice.decision.get("confidence_reasons"))}
    calibration = mapping(mapping(service.get("replay")).get("calibration"))
    if calibration.get("status") == "not_calibrated" and "pool_not_sized" not in reasons:
        return f": {calibration.get('why_not') or 'the replay is not calibrated'}"
    if "not_backtested" in reasons:
        return ": it was not replayed. Record at least twice as long to know"
    if "pool_not_sized" in reasons:
        return f": {reasons['pool_not_sized'].get('text')}. Leave its count as it is"
    return ""


def _confidence(choice: Choice) -> str:
    if not choice.confidence:
        return ""
    reasons = [str(one["text"]) for one in choice.decision.get("confidence_reasons") or []]
    if not reasons:
        return f"Confidence: {choice.confidence}."
    count = f" ({len(reasons)} reasons)" if len(reasons) > 1 else ""
    return f"Confidence: {choice.confidence}{count}: {'; '.join(reasons)}."


def _next_step(service: Mapping[str, Any], choice: Choice, folder: str) -> str:
    decision = choice.decision
    code = mapping(mapping(service.get("pd_ratio")).get("reason")).get("code")
    if decision.get("recommend") == "record" and code == "test_not_declared":
        return "Next: run it again with --pressure-test: the captures look like a ratio test."
    if decision.get("recommend") == "record" and is_ratio_test(service):
        return fitted("Next: record the service under its own load for a day or more: hsa pull.")
    further = [str(step) for step in decision.get("next_steps") or []][1:]
    if decision.get("recommend") == "record":
        if any("hsa plan-test" in step for step in further):
            return f"Next: hsa plan-test {folder}"
        return fitted(f"Next: {further[0]}" if further else f"Next: read {folder}/report.html")
    if decision.get("recommend") == "keep":
        line = fitted(f"Next: change nothing. {further[0]}" if further else "Next: change nothing.")
        return line.replace("hsa plan-test", f"hsa plan-test {folder}", 1)
    command = next_command(service, folder)
    return f"Next: {command or f'read {folder}/policy.yaml'}"


def _questions(service: Mapping[str, Any], choice: Choice) -> list[str]:
    """Return what is open: another winner of the study, edges, assumptions, refusals, cut requests."""
    found = [f"Note: {text}" for text in [_other_winner(service, choice)] if text]
    found += [f"Fill in: {text}." for text in [_blanks(service, choice)] if text]
    found += [f"Open: {text}." for text in edges(service)]
    guessed = assumed(service, choice.spec)
    found += [f"Assumed: {text}." for text in guessed]
    for refusal in records(service.get("refusals")):
        if refusal.get("code") == "startup_unknown" and guessed:
            continue
        found.append(f"Open: {refusal.get('what')}: {refusal.get('text')}.")
    cost = mapping(choice.decision.get("scale_in"))
    if is_number(cost.get("requests_cut_per_day")) and cost["requests_cut_per_day"] > 0:
        line = scale_in_line(cost)
        found.append(f"{line[0].upper()}{line[1:]}.")
    if limits := mapping(choice.decision.get("limits")):
        found.append(f"Limit: {limit_line(limits)}.")
    return found


def _blanks(service: Mapping[str, Any], choice: Choice) -> str:
    """Return which names nothing told: the files hold texts in their place that no cluster has."""
    sentences = mapping(service.get("apply")).get("not_filled") or []
    if choice.decision.get("recommend") != "apply" or not sentences:
        return ""
    names = [str(one).removeprefix("Replace ").partition(" by ")[0] for one in sentences]
    return f"{', '.join(names)}; exports/APPLY.md says by what"


def _other_winner(service: Mapping[str, Any], choice: Choice) -> str:
    """Return why the signals of the policy are not the one that the study ranks first."""
    best = mapping(service.get("recommended"))
    pair = (str(best.get("signal")), str(best.get("role") or ""))
    if not best.get("signal") or not choice.follows or pair in choice.primaries:
        return ""
    used = " and ".join(signal_label(signal, role) for signal, role in choice.primaries)
    return (
        f"the study ranks {signal_label(*pair)} first; the policy follows {used}, because the replay needs "
        "fewer hours or breaks the SLO less often with it."
    )

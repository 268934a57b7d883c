"""The answer of ``hsa run``: what to scale on, at which target and ratio, what that saves, what is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hs_analysis.cli.backtest import current_lines
from hs_analysis.cli.output import Block, CommandOutput, text_of
from hs_analysis.cli.tables import (
    amount,
    estimate,
    profile_ratio,
    ratio,
    ratio_test,
    reason_text,
    recommended,
    refusals,
)
from hs_analysis.schema.results import ALARM, CHECK_FAILED, ROWS_LOST, WITHOUT_SERVICE

if TYPE_CHECKING:
    from hs_analysis.report.answer import Answer
    from hs_analysis.report.choice import Choice


_ON_TOP = (
    WITHOUT_SERVICE,
    ALARM,
    ROWS_LOST,
    CHECK_FAILED,
    "input_broken",
)  # said in the first lines


FULL_ANSWERS, SHORT_ANSWERS = 3, 12
"""Services up to which every line of an answer is printed, and up to which the first three are; of more only
the first. The report has them all."""

MOST_ALERTS = 4
"""Most warnings above the answers, so that the fifth line answers; more follow below [count]."""


def run_result(
    summary: Mapping[str, Any], policies: Sequence[str], folder: Path, *, verbose: bool = False
) -> CommandOutput:
    """Return the result of a whole run.

    Parameters
    ----------
    summary
        summary.json.
    policies
        The policy documents, one a service.
    folder
        The run folder.
    verbose
        Whether the derivation is printed below the answers.
    """
    from hs_analysis.evidence import REPORT_FILE
    from hs_analysis.report import first_line
    from hs_analysis.report.answer import answer_of
    from hs_analysis.report.choice import choose
    from hs_analysis.report.gpu_types import bench_lines
    from hs_analysis.report.slo import judged
    from hs_analysis.report.sweep_charts import asked

    report = str(folder / REPORT_FILE)
    services = list(summary["services"])
    texts = {**dict.fromkeys((s["service"] for s in services), ""), **_by_service(policies)}
    chosen = [(service, choose(service, texts[service["service"]])) for service in services]
    slo = judged(summary)
    said = [answer_of(service, choice, slo, str(folder)) for service, choice in chosen]
    answers = [
        answer(*each) | {"lines": own.lines, "questions": list(own.questions)}
        for each, own in zip(chosen, said, strict=True)
    ]
    blocks: list[Block] = [f"WARNING: {text}" for text in first_line.without_service(summary)]
    blocks += [f"WARNING: not read: {w['text']}" for w in summary["warnings"] if w["code"] == "input_broken"]
    blocks += [f"WARNING: not used: {w['text']}" for w in summary["warnings"] if w["code"] == ROWS_LOST]
    blocks += [
        f"WARNING: numbers are wrong: {w['text']}" for w in summary["warnings"] if w["code"] == CHECK_FAILED
    ]
    blocks, further = _leading(blocks)
    blocks += _without_policy(services, said)
    for each, own in zip(chosen, said, strict=True):
        first, *rest = _answer_lines(own, len(services))
        blocks += [first, *_alarms(each[0]), *rest]
        blocks += [f"  {line}" for line in _current(each[0])]
    for service, choice in chosen if verbose else ():
        blocks += _lines(service, choice, slo)
    blocks += _first([ratio_test(sweep) for sweep in asked(summary)], "ratio tests")
    blocks += [profile_ratio(found) for found in summary.get("profiles") or []]
    blocks += _first(bench_lines(summary), "comparisons of GPU types")
    blocks += further
    blocks += [f"warning ({w['code']}): {w['text']}" for w in summary["warnings"] if w["code"] not in _ON_TOP]
    blocks.append(f"report: {report}")
    data = {"run_dir": str(folder), "report": report, "answers": answers, "summary": summary}
    return CommandOutput(data, [{**answer, "report": report} for answer in answers], lambda: blocks)


def _first(lines: Sequence[str], what: str) -> list[str]:
    """Return the lines of a list that a terminal can hold, and how many the report has beside them."""
    rest = len(lines) - SHORT_ANSWERS
    return [*lines[:SHORT_ANSWERS], *([f"… and {rest} more {what}: the report has them"] if rest > 0 else [])]


def _leading(alerts: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """Return the warnings above the answers, and those below: the answer stays in the first five lines."""
    if len(alerts) <= MOST_ALERTS:
        return list(alerts), []
    first, rest = alerts[: MOST_ALERTS - 1], alerts[MOST_ALERTS - 1 :]
    return [*first, f"WARNING: … and {len(rest)} more below the answer"], list(rest)


def _without_policy(services: Sequence[Mapping[str, Any]], said: Sequence[Answer]) -> list[str]:
    """Return that no service of a run gets a policy and what to record, where no line of an answer does.

    Of a few services each has lines of its own that say it.
    """
    from hs_analysis.report.ratio_words import is_ratio_test

    if not services:
        return [
            "No policy: keep what runs. The input holds no metrics of a service over time.",
            "Next: add metric dumps of the service, a day or more: hsa pull, or hsa export-plan.",
        ]
    record = [one for one in services if (one.get("decision") or {}).get("recommend") == "record"]
    if len(services) <= FULL_ANSWERS or len(record) < len(services) or any(map(is_ratio_test, services)):
        return []
    step, times = Counter(own.next_step for own in said).most_common(1)[0]
    of = "" if times == len(services) else f" ({times} of {len(services)} services)"
    return [f"No policy for any of {len(services)} services: keep what runs and record more.", f"{step}{of}"]


def _alarms(service: Mapping[str, Any]) -> list[str]:
    """Return what the decision of a service is warned of."""
    found = (service.get("decision") or {}).get("alarm")
    return [f"WARNING: the policy of {service['service']} {found['text']}."] if found else []


def _answer_lines(said: Answer, services: int) -> list[str]:
    """Return the lines of one answer; of many services only the first ones of each."""
    if services > FULL_ANSWERS:
        return said.lines[: 3 if services <= SHORT_ANSWERS else 1]
    return [*said.lines, *(f"  {text}" for text in said.questions)]


def _by_service(policies: Sequence[str]) -> dict[str, str]:
    from hs_analysis.report.choice import policy_document

    return {str(policy_document(text)["metadata"]["service"]): text for text in policies if text.strip()}


def answer(service: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """Return the answer for one service as one flat record."""
    from hs_analysis.report.choice import primary_thresholds

    best = service.get("recommended") or {}
    found = service.get("pd_ratio") or {}
    record: dict[str, Any] = {
        "service": service["service"],
        "recommended_signal": f"{best['signal']}@{best['role']}" if best else None,
        "selected_policy": choice.policy or None,
        "mode": choice.mode or None,
        "recommend": choice.decision.get("recommend"),
        "target": choice.decision.get("target") or None,
        "confidence": choice.confidence or None,
        "confidence_reasons": [one["text"] for one in choice.decision.get("confidence_reasons") or []],
        "targets": [
            {
                "signal": t["signal"],
                "role": t["role"],
                "target_per_instance": t["target_per_instance"],
                "headroom_ratio": t["headroom_ratio"],
                "capacity": t["capacity"],
                "status": t["status"],
            }
            for t in primary_thresholds(service, choice)
        ]
        if choice.primaries
        else [],
        "pd_ratio": found.get("value"),
        "pd_ratio_ci": found.get("ci"),
        "pd_ratio_status": found.get("status"),
        "pd_ratio_reason": reason_text(found.get("reason")) or None,
        "pools": list(choice.decision.get("pools") or []),
        "slo_risk": dict(choice.decision.get("slo_risk") or {}),
        "saved_vs_recorded": choice.selected.get("vs_recorded"),
        "saved_vs_static_peak": choice.selected.get("vs_static_peak"),
        "slo_violation_ratio": choice.selected.get("slo_violation_ratio"),
        "slo_violation_ratio_recorded": choice.recorded.get("slo_violation_ratio"),
        "not_answered": [f"{r['what']}: {r['code']}" for r in service.get("refusals") or []],
    }
    return record


def _lines(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> list[str]:
    from hs_analysis.report import decision_words, first_line, releases
    from hs_analysis.report.assumed import assumed
    from hs_analysis.report.choice import primary_thresholds
    from hs_analysis.report.replica_words import replica_text
    from hs_analysis.report.rolling_words import coverage_count, coverage_text
    from hs_analysis.report.slo import edges, objective
    from hs_analysis.report.wording import unit_of

    kind = str(service.get("history_kind")).replace("_", " ")
    lines = [
        f"{service['service']} ({kind} history, {service.get('reference')} work as reference)",
        f"  SLO: {objective(slo)}",
        *(f"  note: {text}" for text in edges(service)),
        *(f"  {line}" for line in releases.lines(service)),
        *([f"  decision: {decision_words.decided(choice)}"] if choice.decision else []),
        *(f"    {line}" for line in decision_words.lines(choice)),
        f"  recommended signal: {recommended(service)}",
        f"  selected policy: {_selected(choice)}",
    ]
    for found in primary_thresholds(service, choice) if choice.primaries else []:
        target = amount(found.get("target_per_instance"), None, unit_of(found["signal"]))
        reason = reason_text(found.get("reason"))
        lines.append(
            f"  target: {found['signal']}@{found['role']} {target} per instance, {found['status']}"
            f"{_behind(found)}{f' ({reason})' if reason else ''}"
        )
    lines += [
        f"  capacity of {c['role']}: {coverage_text(c)}" for c in service["capacity"] if coverage_count(c)
    ]
    lines.append(f"  P/D ratio: {ratio(service)}{first_line.ratio_kept(service, choice)}")
    shown = (service.get("pd_ratio") or {}).get("from_replicas") or {}
    lines += [f"  {replica_text(service['pd_ratio'])}"] if shown.get("status") == "ok" else []
    lines.append(f"  backtest: {_backtest(choice)}")
    lines += [f"  assumed, no data gave it: {text}" for text in assumed(service, choice.spec)]
    return lines + [f"  {line}" for line in refusals(service)]


def _current(service: Mapping[str, Any]) -> list[str]:
    """Return what to change in today's autoscaler, and what that saves; nothing when none was given."""
    found = (service.get("replay") or {}).get("current") or {}
    changes = [
        f"change {one['name']} {one['item']}: {text_of(one['now'])} to {text_of(one['then'])}, {one['why']}"
        for one in found.get("changes") or []
    ]
    return [*map(str, current_lines(found)), *changes]


def _behind(found: Mapping[str, Any]) -> str:
    """Return which share of which capacity a target is; the capacity has the interval."""
    from hs_analysis.report.wording import capacity_share, unit_of

    if not found.get("capacity"):
        return ""
    return f", {capacity_share(found)} {estimate(found['capacity'], unit_of(found['signal']))}"


def _backtest(choice: Choice) -> str:
    """Return what the selected policy saves, or costs, against what ran and against static peak."""
    from hs_analysis.report.replay_words import side_unclear
    from hs_analysis.report.wording import percent, the_day

    if not choice.selected:
        return "none"
    savings = []
    for key, what in (("vs_recorded", "the recorded hours"), ("vs_static_peak", "static peak")):
        share = choice.selected.get(key)
        if share is not None and share < 0:
            savings.append(f"needs {percent(-share)} more than {what}")
        else:
            savings.append(f"saves {percent(share)} of {what}")
    ours, ran = choice.selected.get("slo_violation_ratio"), choice.recorded.get("slo_violation_ratio")
    side = f", {said}" if (said := side_unclear(choice.selected)) else ""
    beside = f"the recorded counts in the same model: {percent(ran)}"
    slo = f"SLO broken in {percent(ours)} of windows{side} ({beside})"
    of = f"of {choice.backtested}, not of the policy in policy.yaml: " if choice.backtested else ""
    day = the_day(choice.decision)
    part = f" (the last part of {day}, by numbers of the first)" if choice.decision.get("by_blocks") else ""
    return f"{of}{', '.join(savings)}{part}; {slo if ours is not None else 'SLO violations not known'}"


def _clock(choice: Choice) -> str:
    """Return how many entries a timetable has, and by the clock of which zone."""
    entries = choice.spec.get("periodic") or []
    zones = dict.fromkeys(str(one.get("zone") or "UTC") for one in entries)
    return f"{len(entries)} entries by the clock of {' and '.join(zones)}"


def _selected(choice: Choice) -> str:
    if choice.mode == "hold":
        return "hold: keep the counts as they are"
    if choice.mode == "periodic":
        return f"a timetable ({_clock(choice)}); no signal sizes a pool"
    name = choice.policy or " + ".join(f"{signal}@{role}" for signal, role in choice.primaries)
    return name or "none"

"""``--fail-on``: conditions on the answer that end a command with exit code 3, for CI and cron jobs."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hs_analysis.cli.output import printable
from hs_analysis.errors import GateFailed, HsError, ManyErrors, UsageError
from hs_analysis.settings.values import suggestion

Summary = Mapping[str, Any]

FLAG = "--fail-on"
MOST_PLACES = 3

_COMPARED = re.compile(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """A condition that closes the gate when it holds.

    Attributes
    ----------
    text
        The condition as typed.
    reasons
        Says where it holds, of (summary, run folder): one text a place, none when it does not.
    """

    text: str
    reasons: Callable[[Summary, Path], Iterator[str]]


def _refused(summary: Summary, _folder: Path) -> Iterator[str]:
    """Yield numbers that were refused; that a single pool has no ratio is no lack of data."""
    for service in summary["services"]:
        rows = [*service["capacity"], *service["thresholds"], {"signal": "pd_ratio", **service["pd_ratio"]}]
        for row in rows:
            code = (row.get("reason") or {}).get("code")
            if row["status"] == "refused" and code != "single_pool":
                what = f"{row['signal']}@{row['role']}" if "role" in row else str(row["signal"])
                yield f"{service['service']}: {what} is refused ({code})"


def _drifting(summary: Summary, _folder: Path) -> Iterator[str]:
    for service in summary["services"]:
        if service["pd_ratio"]["status"] == "drifting":
            yield f"{service['service']}: the P/D ratio is drifting"


def _check_failed(_summary: Summary, folder: Path) -> Iterator[str]:
    from hs_analysis.pipeline.results import diagnosis

    for finding in diagnosis(folder)["findings"]:
        if finding["level"] == "fail":
            yield f"check {finding['check']}: {finding['text']}"


WORDS: dict[str, Callable[[Summary, Path], Iterator[str]]] = {
    "refused": _refused,
    "ratio-drifting": _drifting,
    "check-failed": _check_failed,
}
"""Conditions of one word; those of `_CHANGED` stand apart, since they need another run."""

VERDICT_CHANGED, DECISION_CHANGED = "verdict-changed", "decision-changed"
_CHANGED = (VERDICT_CHANGED, DECISION_CHANGED)


def _coverage(summary: Summary) -> Iterator[tuple[str, float | None]]:
    """Yield the coverage of signals that a policy may use, of all where none may."""
    for service in summary["services"]:
        signals = [s for s in service["signals"] if not s.get("gpu_type")]
        usable = [s for s in signals if s.get("verdict") in ("proportional", "guard")]
        for signal in usable or signals:
            yield f"{service['service']}: {signal['signal']}@{signal['role']}", signal["coverage"]


def _of_chosen(name: str) -> Callable[[Summary], Iterator[tuple[str, float | None]]]:
    """Return a reader of a number of the chosen policy's backtest; None where there was no backtest."""

    def read(summary: Summary) -> Iterator[tuple[str, float | None]]:
        for service in summary["services"]:
            chosen = {row["policy"] for row in service["selection"] if row["chosen"]}
            rows = [row for row in service["replay"]["policies"] if row["policy"] in chosen]
            yield str(service["service"]), rows[0][name] if rows else None

    return read


def _of_input(name: str) -> Callable[[Summary], Iterator[tuple[str, float | None]]]:
    return lambda summary: iter([("the input", summary["coverage"][name])])


NUMBERS: dict[str, Callable[[Summary], Iterator[tuple[str, float | None]]]] = {
    "coverage": _coverage,
    "slo_violation_ratio": _of_chosen("slo_violation_ratio"),
    "vs_recorded": _of_chosen("vs_recorded"),
    "vs_static_peak": _of_chosen("vs_static_peak"),
    "rows_rejected": _of_input("rows_rejected"),
}
"""Numbers that a condition may compare: (place, value) per place."""

_DOCTOR = ("check-failed", "coverage", "rows_rejected")


def summary_gates(conditions: Sequence[str], run_dir: Path | None) -> list[Gate]:
    """Return the gates of a command that ends with summary.json.

    Parameters
    ----------
    conditions
        As typed.
    run_dir
        The run folder, where it is known before the run: what it holds now is what ``verdict-changed``
        and ``decision-changed`` without a RUN compare with.

    Raises
    ------
    UsageError
        For what is no condition, and where there is no earlier run to compare with.
    """
    return [_gate(text, run_dir) for text in conditions]


def doctor_gates(conditions: Sequence[str]) -> list[Gate]:
    """Return the gates of ``hsa doctor``, which knows the input and no answer."""
    for text in conditions:
        name = re.split(r"[<>:]", text)[0].strip()
        if name not in _DOCTOR and name in (*WORDS, *NUMBERS, *_CHANGED):
            hint = f"use hsa run or hsa report; doctor knows {', '.join(_DOCTOR)}"
            raise UsageError(f"{name} needs the whole answer", where=FLAG, hint=hint)
    return [_gate(text, None) for text in conditions]


def check_gates(gates: Sequence[Gate], summary: Summary, folder: Path, junit: Path | None = None) -> None:
    """Raise when a condition holds: one line a condition, with the first places where it does.

    Parameters
    ----------
    gates
        The conditions.
    summary, folder
        What they are asked of: summary.json, and the run folder.
    junit
        Where to write a test a condition, failed where it holds, as JUnit XML.

    Raises
    ------
    GateFailed, ManyErrors
        When any does.
    """
    asked = [(gate, list(gate.reasons(summary, folder))) for gate in gates]
    if junit is not None:
        from hs_analysis.pipeline.manifest import write_text

        write_text(junit, _junit(asked))
    failed: list[HsError] = []
    for gate, found in asked:
        if found:
            more = f" … and {len(found) - MOST_PLACES} more" if len(found) > MOST_PLACES else ""
            failed.append(GateFailed("; ".join(found[:MOST_PLACES]) + more, where=f"{FLAG} {gate.text}"))
    if failed:
        raise failed[0] if len(failed) == 1 else ManyErrors(failed, all_told=True)


def _junit(asked: Sequence[tuple[Gate, Sequence[str]]]) -> str:
    """Return one test case a condition; every place where it holds is a line of its failure."""
    import xml.etree.ElementTree as ET

    failures = sum(bool(found) for _, found in asked)
    suite = ET.Element("testsuite", name="hsa", tests=str(len(asked)), failures=str(failures))
    for gate, found in asked:
        case = ET.SubElement(suite, "testcase", classname="hsa.fail-on", name=gate.text)
        if found:
            ET.SubElement(case, "failure", message=printable(found[0])).text = printable("\n".join(found))
    ET.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suite, encoding="unicode")}\n'


def _gate(text: str, run_dir: Path | None) -> Gate:
    name, colon, rest = text.strip().partition(":")
    if name in _CHANGED:
        make = _verdicts_changed if name == VERDICT_CHANGED else _decision_changed
        return Gate(text, make(Path(rest) if colon else None, run_dir))
    if text.strip() in WORDS:
        return Gate(text, WORDS[text.strip()])
    found = _COMPARED.fullmatch(text)
    if not found:
        known = [
            *WORDS,
            *(f"{changed}:RUN" for changed in _CHANGED),
            *(f"{number}<0.9" for number in NUMBERS),
        ]
        raise UsageError(f"{text!r} is no condition", where=FLAG, hint=suggestion(text, known))
    number, sign, limit = found.groups()
    if number not in NUMBERS:
        raise UsageError(f"no such number {number!r}", where=FLAG, hint=suggestion(number, NUMBERS))
    return Gate(text, _compares(number, sign, _limit(limit)))


def _limit(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError as error:
        raise UsageError(f"{text!r} is no number", where=FLAG, hint="write e.g. coverage<0.9") from error


def _compares(number: str, sign: str, limit: float) -> Callable[[Summary, Path], Iterator[str]]:
    """Return a condition on a number; one that is not known can't pass."""

    def reasons(summary: Summary, _folder: Path) -> Iterator[str]:
        for place, value in NUMBERS[number](summary):
            if value is None:
                yield f"{place}: {number} is not known"
            elif _OPERATORS[sign](value, limit):
                yield f"{place}: {number} is {value:.4g}"

    return reasons


def _verdicts_changed(run: Path | None, run_dir: Path | None) -> Callable[[Summary, Path], Iterator[str]]:
    """Return the condition that a verdict or the recommended signal differs from an earlier run's."""
    earlier = _verdicts_of(_earlier_run(VERDICT_CHANGED, run, run_dir))

    def reasons(summary: Summary, _folder: Path) -> Iterator[str]:
        if earlier is None:  # the first run in its folder: nothing has changed yet
            return
        now = _verdicts(summary)
        for key in sorted({*earlier, *now}):
            before, after = earlier.get(key, "unknown"), now.get(key, "unknown")
            if before != after:
                yield f"{key} was {before}, is {after}"

    return reasons


def _decision_changed(run: Path | None, run_dir: Path | None) -> Callable[[Summary, Path], Iterator[str]]:
    """Return the condition that something changed since an earlier run that a user must act on.

    The earlier run is read now: a run in the same folder writes over it.
    """
    from hs_analysis.pipeline.results import compared

    path = _earlier_run(DECISION_CHANGED, run, run_dir)
    earlier = compared(path if path.is_dir() else path.parent) if _summary_of(path).is_file() else None

    def reasons(summary: Summary, folder: Path) -> Iterator[str]:
        from hs_analysis.cli.compare_words import change_text
        from hs_analysis.compare import compare_runs
        from hs_analysis.compare.order import leading

        if earlier is None:  # the first run in its folder: nothing has changed yet
            return
        for change in leading(compare_runs(earlier, compared(folder, dict(summary))).to_act):
            yield f"{change.service}: {change_text(change)}"

    return reasons


def _earlier_run(condition: str, run: Path | None, run_dir: Path | None) -> Path:
    """Return the folder, or the summary.json, of the run to compare with; one that is named must be there."""
    where = f"{FLAG} {condition}"
    if run is None and run_dir is None:
        hint = f"name one: {condition}:RUN, or go on in one with --run-dir"
        raise UsageError("there is no earlier run to compare with", where=where, hint=hint)
    if run is not None and not _summary_of(run).is_file():
        raise UsageError(f"no summary.json in {run}", where=where, hint="check the path")
    return run or run_dir or Path()


def _summary_of(run: Path) -> Path:
    return run / "summary.json" if run.is_dir() else run


def _verdicts_of(run: Path) -> dict[str, str] | None:
    import json

    from hs_analysis.pipeline.results import checked_summary

    path = _summary_of(run)
    try:
        return _verdicts(checked_summary(json.loads(path.read_text(encoding="utf-8")), str(path)))
    except OSError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("no summary of a run", where=str(path), hint="name a run folder") from error


def _verdicts(summary: Summary) -> dict[str, str]:
    """Return the verdict of every signal and the recommended one, by what they are of.

    A signal that a run does not have was not tested: ``unknown``.
    """
    found = {}
    for service in summary["services"]:
        name, best = service["service"], service.get("recommended")
        found[f"{name}: recommended signal"] = f"{best['signal']}@{best['role']}" if best else "unknown"
        for signal in service["signals"]:
            on = f" on {signal['gpu_type']}" if signal.get("gpu_type") else ""
            found[f"{name}: {signal['signal']}@{signal['role']}{on}"] = str(signal["verdict"])
    return found

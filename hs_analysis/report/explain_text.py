"""An explanation as text for a terminal: a label and what it says, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hs_analysis import evidence
from hs_analysis.report.wording import interval, quantity, span

_ROW_WORDS = {"used": "used", "violating": "over the limit", "undecided": "undecided"}


def text(explanation: Mapping[str, Any], *, listed: bool = False) -> str:
    """Return an explanation (`hs_analysis.report.explain.explain`) as lines of a label and its text.

    The number with its status comes first, then how it was found, then what it stands on. Files are one line
    unless ``listed``.
    """
    lines = [f"{explanation['service']} · {explanation['title']}"]
    lines += [f"{label:<10} {value}" for label, value in _labelled(explanation, listed)]
    return "\n".join(lines)


def _labelled(explanation: Mapping[str, Any], listed: bool) -> Iterator[tuple[str, str]]:
    yield from _number(explanation)
    yield from _listed("because", [_reason(reason) for reason in explanation["reasons"]])
    yield "method", explanation["method"]
    for label in ("formula", "basis"):
        if explanation[label]:
            yield label, explanation[label]
    yield from _files("made by", explanation["made_by"], listed)
    window = explanation["window"]
    yield "window", f"{span(window['start'], window['end'])}, {window['of']}"
    if explanation["rows"]:
        yield "rows", row_words(explanation["rows"])
    yield from _listed(
        "numbers",
        [f"{n['name']}: {_amount(n['value'], n['unit'], n['interval'])}" for n in explanation["numbers"]],
    )
    yield from _files("metrics", explanation["metrics"], listed)
    yield from _inputs(explanation, listed)
    yield from _listed("see also", explanation["see_also"])
    yield from _listed("refs", explanation["refs"])
    yield (
        "link",
        (
            evidence.permalink(explanation["run"], explanation["link"])
            if explanation["run"]
            else explanation["link"]
        ),
    )


def _number(explanation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the link stands for: the number with unit, interval and status, then in full."""
    value, status = explanation["value"], explanation["status"]
    if value is not None:
        amount = _amount(value, explanation["unit"], explanation["interval"], explanation["interval_is"])
        yield explanation["measure"], f"{amount}, {status}" if status else amount
        yield "exactly", _exact(value, explanation["interval"])
    elif status in ("refused", "unknown") and explanation["measure"]:
        yield explanation["measure"], f"none, {status}: see because"
    elif status:
        yield "status", status


def _files(label: str, names: Sequence[str], listed: bool) -> Iterator[tuple[str, str]]:
    yield from _listed(label, names if listed else [", ".join(names)] if names else [])


def _inputs(explanation: Mapping[str, Any], listed: bool) -> Iterator[tuple[str, str]]:
    """Yield the input files: one as it is; more as one line with the hash of all, or each when ``listed``."""
    files = explanation["inputs"]
    if listed or len(files) <= 1:
        yield from _listed("inputs", [_input_words(entry) for entry in files])
        return
    known = [entry["bytes"] for entry in files]
    size = "" if None in known else f", {sum(known):,} bytes"
    of_all = explanation.get("inputs_sha256")
    digest = f", sha256 of all {of_all}" if of_all else ""
    yield "inputs", f"{len(files)} input files{size}{digest}; -v lists them"


def _listed(label: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the label once, beside the first of several values."""
    for index, value in enumerate(values):
        yield (label if index == 0 else ""), value


def _amount(value: Any, unit: str, between: Any, between_is: str = "95 % interval") -> str:
    base, _, per = unit.partition(" per ")
    shown, shown_unit = quantity(value, base)
    words = " ".join(part for part in (shown, shown_unit, f"per {per}" if per else "") if part)
    ends = interval(between, base)
    return f"{words} ({between_is} {ends})" if ends else words


def _exact(value: float, between: Any) -> str:
    """Return a number as a program would want it, beside the rounded one that the report shows."""
    ends = f" ({between[0]:.10g} to {between[1]:.10g})" if between else ""
    return f"{value:.10g}{ends}"


def _reason(reason: Mapping[str, Any]) -> str:
    code = f"{reason['code']}: " if reason["code"] else ""
    return f"{code}{reason['text']}"


def row_words(rows: Mapping[str, Any]) -> str:
    """Return how many rows of which table stand behind a number, and the loads they span."""
    words = [f"{rows['rows']:,} rows of {rows['table']}"]
    words += [f"{rows[key]:,} {name}" for key, name in _ROW_WORDS.items() if key in rows]
    if "load" in rows:
        words.append(f"load {interval(rows['load'])}")
    return ", ".join(words)


def _input_words(entry: Mapping[str, Any]) -> str:
    size = f"{entry['bytes']:,} bytes" if entry["bytes"] is not None else ""
    digest = f"sha256 {entry['sha256']}" if entry["sha256"] else ""
    return "  ".join(part for part in (entry["name"], size, digest) if part)

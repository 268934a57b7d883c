"""``hsa compare``: whether the decision of two runs differs, and what else does, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hs_analysis.cli.options import FormFlags, grouped
from hs_analysis.cli.output import Block, CommandOutput, write_output

if TYPE_CHECKING:
    from hs_analysis.compare import Comparison, RunChange

COMPARE_HELP = """hsa compare reports/june reports/july

Two runs: first whether anything changed that you must act on (what is recommended, the metric, its verdict,
controller, mode, a status, a target or bound that moved by more than 10 %), then every answer and every field
of the policies that differs, old → new. A floor (≥) is a one-sided bound: no intervals are compared with it.
--output json has the keys changed, decision_changed and changes. Exit code 0 whatever changed; --fail-on
decision-changed:RUN of hsa run is the gate."""


@grouped
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    *,
    form: FormFlags,
) -> None:
    """Print what changed from A to B."""
    from hs_analysis.compare import compare_runs
    from hs_analysis.pipeline.records import to_plain
    from hs_analysis.pipeline.results import compared, stale_note
    from hs_analysis.pipeline.run_folder import require

    for folder in (a, b):
        require(folder)
        if stale := stale_note(folder):
            typer.echo(stale, err=True)
    found = compare_runs(compared(a), compared(b))
    rows: list[dict[str, Any]] = to_plain(found.changes)
    data = {
        "a": str(a),
        "b": str(b),
        "text": sentence(found),
        "changed": found.changed,
        "decision_changed": found.decision_changed,
        "changes": rows,
        "unchanged": dict(found.unchanged),
        "not_compared": list(found.not_compared),
    }
    write_output(CommandOutput(data, rows, lambda: _blocks(found)), form.output, no_color=form.no_color)


def sentence(found: Comparison) -> str:
    """Say whether anything changed that a user must act on."""
    acts = found.to_act
    notes = sum(change.relevance == "note" for change in found.changes)
    if acts:
        more = f"; and {len(acts) - 1} more" if len(acts) > 1 else ""
        first = f"{_of_service(acts[0], found)}{change_text(acts[0])}"
        return f"Something changed that you must act on: {first}{more}."
    if notes:
        differ = "1 other thing differs" if notes == 1 else f"{notes} other things differ"
        return f"Nothing changed that you must act on; {differ}."
    if found.changes:
        what = ", ".join(dict.fromkeys(change.what for change in found.changes))
        return f"Nothing changed in answers and policies; what the runs were made from differs: {what}."
    return "Nothing changed."


def change_text(change: RunChange) -> str:
    """Return one change as ``what: old → new unit``, with what the two numbers say of each other."""
    named = change.path.startswith(_NAMED) or isinstance(change.before or change.after, Mapping)
    if named and change.relation in ("added", "removed"):
        return f"{change.what} is {'new' if change.relation == 'added' else 'gone'}"
    before, after, unit = _before_and_after(change)
    plain = change.relation in ("moved", "overlap", "apart") and change.unit != "ratio"
    moved = f" ({_percent(change.moved_ratio)})" if plain and change.moved_ratio else ""
    tail = f"; {_TAILS[change.relation]}" if change.relation in _TAILS else ""
    return f"{change.what}: {before} → {after}{unit}{moved}{tail}"


_NAMED = ("service", "warnings")
"""Beginnings of paths that name what came or went."""

_TAILS = {
    "overlap": "the 95 % intervals overlap",
    "apart": "the 95 % intervals do not overlap",
    "within_bound": "a floor is a one-sided bound: the other number lies within it",
    "past_bound": "a floor is a one-sided bound: the other number lies below it",
}
_PARTS = {
    "decision": ("decision", "of the decision"),
    "policy": ("policy", "policy fields"),
    "capacity": ("capacity, targets and ratio", "capacities, targets and demands"),
    "signals": ("verdicts", "verdicts"),
    "notes": ("not answered, and warnings", "refusals and warnings"),
    "backtest": ("backtest", "scores of the backtest"),
}
"""Part of a comparison → its heading, and what is counted where it is unchanged."""

_OTHERS = "other backtests"
_SIGNS = {"at_least": "≥ ", "at_most": "≤ ", "": ""}
_DIGITS = range(3, 11)
LONG = 60
"""Longest words that stand beside others on one line [characters]; queries go below each other."""


def _percent(ratio: float) -> str:
    """Return ``+17.4 %``, without decimals from 100 % up."""
    text = f"{100.0 * ratio:+,.0f}" if abs(ratio) >= 1.0 else f"{100.0 * ratio:+.1f}"
    return f"{text} %".replace("-", "−")


def _before_and_after(change: RunChange) -> tuple[str, str, str]:
    """Return old, new and their unit as text, with as many digits as tell them apart."""
    sides = (change.before, change.after)
    if all(value is None or _is_number(value) for value in sides):
        pairs = ([_number(change, side, digits) for side in ("before", "after")] for digits in _DIGITS)
        before, after = next((pair for pair in pairs if pair[0] != pair[1]), [_exact(side) for side in sides])
        unit = change.unit.replace("ratio", "%", 1) if change.unit.startswith("ratio") else change.unit
        unit_text = f" {unit}" if unit else ""
        return (before + unit_text, after, "") if change.after is None else (before, after, unit_text)
    before, after = _words(change.before), _words(change.after)
    if max(len(before), len(after)) > LONG:
        return f"\n      was {before}", f"\n      is  {after}", ""
    return before, after, ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exact(value: Any) -> str:
    return "none" if value is None else repr(value)


def _number(change: RunChange, side: str, digits: int) -> str:
    """Return a number with its sign and interval: ``≥ 900 (floor)``, ``1,200 [1,100, 1,300]``."""
    from hs_analysis.report.wording import number

    value, ends, bound = (getattr(change, f"{side}{end}") for end in ("", "_interval", "_bound"))
    if value is None:
        return "none"
    scale = 100.0 if change.unit.startswith("ratio") else 1.0

    def text(amount: float) -> str:
        shown = number(scale * amount, digits)
        return shown.rstrip("0").rstrip(".") if "." in shown and "e" not in shown else shown

    inside = f" [{', '.join(text(end) for end in ends)}]" if ends else ""
    floor = " (floor)" if bound == "at_least" and not change.path.endswith("at_least") else ""
    return f"{_SIGNS[bound]}{text(value)}{inside}{floor}"


def _words(value: Any) -> str:
    """Return words, or what a list or mapping holds."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value) or "none"
    return str(value)


def _of_service(change: RunChange, found: Comparison) -> str:
    several = len({one.service for one in found.changes if one.service}) > 1
    return f"{change.service}: " if change.service and several else ""


def _blocks(found: Comparison) -> list[Block]:
    """Return the sentence, then per service what to act on and what else differs, part by part."""
    lines = [sentence(found)]
    answers = [change for change in found.changes if change.relevance != "context"]
    for service in dict.fromkeys(change.service for change in answers):
        lines += ["", service or "the whole run"]
        changes = [change for change in answers if change.service == service]
        lines += _section("to act on", [one for one in changes if one.relevance == "act"])
        notes = [one for one in changes if one.relevance == "note"]
        for part, (heading, _) in _PARTS.items():
            lines += _section(heading, [one for one in notes if one.part == part])
        if others := sum(one.part == _OTHERS for one in notes):
            lines.append(f"  backtest of other policies: {others} scores differ (--output json has them)")
    context = [change for change in found.changes if change.relevance == "context"]
    if context:
        lines += ["", "made from", *(f"  {change_text(change)}" for change in context)]
    return ["\n".join([*lines, "", *_closing(found)])]


def _section(heading: str, changes: Sequence[RunChange]) -> list[str]:
    return [f"  {heading}", *(f"    {change_text(change)}" for change in changes)] if changes else []


def _closing(found: Comparison) -> Iterator[str]:
    same = [
        f"{found.unchanged[part]} {many}" for part, (_, many) in _PARTS.items() if found.unchanged.get(part)
    ]
    yield f"unchanged: {', '.join(same) or 'nothing'}"
    if found.not_compared:
        yield (
            f"not compared, because only one of the two schemas has them: {len(found.not_compared)} fields "
            f"({', '.join(found.not_compared)})"
        )

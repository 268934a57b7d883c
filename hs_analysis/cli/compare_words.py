"""What differs between two runs, in words: the sentence on top, one line a change, and the rest by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hs_analysis.compare.order import foretold, leading
from hs_analysis.report.comparison_page import ChangeRow
from hs_analysis.report.wording import number, plural

if TYPE_CHECKING:
    from hs_analysis.compare import Comparison, RunChange

MOST_NAMED = 3
"""Changes that the first sentence names at most; the lines below it have more."""

MOST_LINES = 10
"""Changes to act on that are printed in full before ``-v`` is asked for."""

MOST_OTHERS = 5
"""Changes of what is foretold, and of what the runs were made from, printed before ``-v`` is asked for."""

MOST_LINKS = 500
"""Links that a page or Markdown lists; JSON has every one of them."""


@dataclass(frozen=True)
class Part:
    """Changes of one part of a run, folded below the answer.

    Attributes
    ----------
    heading
        What they are of.
    count
        ``7 policy fields``.
    changes
        In the order of the first run.
    """

    heading: str
    count: str
    changes: tuple[RunChange, ...]


def act_lines(found: Comparison) -> list[str]:
    """Return what to act on, heaviest first, one text a change, with its service where several differ."""
    return [line_of(change, found) for change in leading(found.changes)]


def foretold_lines(found: Comparison) -> list[str]:
    """Return what the policies save and risk as replayed, where that differs, one text each."""
    return [line_of(change, found) for change in foretold(found.changes)]


def made_from(found: Comparison) -> list[str]:
    """Return what the runs were made from and that differs, one text each."""
    return [change_text(change) for change in found.changes if change.relevance == "context"]


def rest(found: Comparison) -> list[Part]:
    """Return all other changes by part: what follows from those to act on, then answers and settings."""
    told = set(map(id, (*leading(found.changes), *foretold(found.changes))))
    follows = [one for one in found.changes if one.relevance == "act" and id(one) not in told]
    parts = [("what follows from the changes above", "consequence", "consequences", follows)]
    notes = [one for one in found.changes if one.relevance == "note" and id(one) not in told]
    parts += [
        (heading, one, many, [note for note in notes if note.part == part])
        for part, (heading, one, many) in _PARTS.items()
    ]
    return [
        Part(heading, plural(len(changes), one, many), tuple(changes))
        for heading, one, many, changes in parts
        if changes
    ]


def rows(changes: Sequence[RunChange], found: Comparison) -> tuple[ChangeRow, ...]:
    """Return changes as rows of a table."""
    return tuple(change_row(change, found) for change in changes)


def line_of(change: RunChange, found: Comparison) -> str:
    """Return one change, with its service where several differ."""
    return f"{_of_service(change, found)}{change_text(change)}"


def closing(found: Comparison, *, listed: bool = True) -> list[str]:
    """Return what is the same, counted, and what could not be compared, by name where ``listed``."""
    same = [plural(count, one, many) for (one, many), count in _same(found).items()]
    lines = [f"unchanged: {', '.join(same) or 'nothing'}"]
    if paths := found.not_compared:
        names = f" ({', '.join(paths)})" if listed else ""
        fields = plural(len(paths), "field", "fields")
        lines.append(f"not compared, because only one of the two schemas has them: {fields}{names}")
    return lines


def sentence(found: Comparison) -> str:
    """Say whether anything changed that a user must act on."""
    acts = leading(found.changes)
    notes = sum(change.relevance == "note" for change in found.changes)
    if acts:
        named = [f"{_of_service(act, found)}{_short(act)}" for act in acts[:MOST_NAMED]]
        more = f"; and {len(acts) - MOST_NAMED} more" if len(acts) > MOST_NAMED else ""
        return f"Something changed that you must act on: {'; '.join(named)}{more}."
    if notes:
        differ = "1 other thing differs" if notes == 1 else f"{notes} other things differ"
        return f"Nothing changed that you must act on; {differ}."
    if found.changes:
        what = ", ".join(dict.fromkeys(change.what for change in found.changes))
        return f"Nothing changed in answers and policies; what the runs were made from differs: {what}."
    return "Nothing changed."


def link_count(found: Comparison) -> str:
    """Return how many evidence links of the first run lead to the same answer; empty without links."""
    if not found.links:
        return ""
    dead = sum(link.new is None for link in found.links)
    if not dead:
        return (
            f"evidence links: all {len(found.links):,} of the old run lead to the same answer in the new one"
        )
    led = f"{len(found.links) - dead:,} of {len(found.links):,} of the old run lead to the same answer"
    return f"evidence links: {led} in the new one; {dead:,} {'leads' if dead == 1 else 'lead'} nowhere"


def link_rows(found: Comparison, *, every: bool = False) -> tuple[ChangeRow, ...]:
    """Return links as rows, dead ones first: old, new, and why.

    Without ``every`` what leads to the same path is left out.
    """
    return tuple(
        ChangeRow(link.old, "", link.new or "nowhere", link.reason.text if link.reason else "")
        for link in found.links
        if every or link.reason is not None
    )


def link_lines(found: Comparison, *, most: int | None = None, every: bool = False) -> list[str]:
    """Return the same rows as lines of text, and how many more there are than ``most``."""
    rows = link_rows(found, every=every)
    lines = [f"{row.what} → {row.after}{f'; {row.says}' if row.says else ''}" for row in rows[:most]]
    more = len(rows) - len(lines)
    return [*lines, f"… and {more:,} more: --output json lists every link"] if more else lines


def change_text(change: RunChange) -> str:
    """Return one change as ``what: old → new unit``, with what the two numbers say of each other."""
    if _is_named(change):
        return f"{change.what} is {'new' if change.relation == 'added' else 'gone'}"
    before, after, unit = _before_and_after(change)
    if max(len(before), len(after)) > LONG:
        before, after = f"\n      was {before}", f"\n      is  {after}"
    moved = f" ({text})" if (text := _moved(change)) else ""
    tail = f"; {_TAILS[change.relation]}" if change.relation in _TAILS else ""
    return f"{change.what}: {before} → {after}{unit}{moved}{tail}"


def change_row(change: RunChange, found: Comparison) -> ChangeRow:
    """Return one change as a row of a table."""
    what = f"{_of_service(change, found)}{change.what}"
    if _is_named(change):
        return ChangeRow(what, *(("none", "new") if change.relation == "added" else ("there", "gone")))
    before, after, unit = _before_and_after(change)
    says = "; ".join(text for text in (_moved(change), _TAILS.get(change.relation, "")) if text)
    return ChangeRow(what, before, f"{after}{unit}", says)


def _is_named(change: RunChange) -> bool:
    """Whether a change is of something that came or went as a whole."""
    named = change.path.startswith(_NAMED) or isinstance(change.before or change.after, Mapping)
    return named and change.relation in ("added", "removed")


def _moved(change: RunChange) -> str:
    """Return by how much a number moved; empty for shares, and without a ratio of the two."""
    plain = change.relation in ("moved", "overlap", "apart") and change.unit != "ratio"
    return _percent(change.moved_ratio) if plain and change.moved_ratio else ""


_NAMED = ("service", "warnings")
"""Beginnings of paths that name what came or went."""

_TAILS = {
    "overlap": "the 95 % intervals overlap",
    "apart": "the 95 % intervals do not overlap",
    "within_bound": "a floor is a one-sided bound: the other number lies within it",
    "past_bound": "a floor is a one-sided bound: the other number lies below it",
}
_PARTS = {
    "decision": ("decision", "answer of the decision", "answers of the decision"),
    "policy": ("policy", "policy field", "policy fields"),
    "capacity": (
        "capacity, targets and ratio",
        "capacity, target or demand",
        "capacities, targets and demands",
    ),
    "signals": ("verdicts", "verdict", "verdicts"),
    "notes": ("not answered, and warnings", "refusal or warning", "refusals and warnings"),
    "backtest": ("backtest", "score of the backtest", "scores of the backtest"),
    "other backtests": ("backtest of other policies", "score of other policies", "scores of other policies"),
}
"""Part of a comparison → its heading, and what is counted, one and several."""

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
    return _words(change.before), _words(change.after), ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exact(value: Any) -> str:
    return "none" if value is None else repr(value)


def _number(change: RunChange, side: str, digits: int) -> str:
    """Return a number with its sign and interval: ``≥ 900 (floor)``, ``1,200 [1,100, 1,300]``."""
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


def _short(change: RunChange) -> str:
    """Return a change for a sentence: of long words only that they changed, of a reason its first clause."""
    if change.path == "pd_ratio.reason" and change.after:
        return f"P/D ratio: {str(change.after).partition(';')[0]}"
    text = change_text(change)
    return f"{change.what} changed" if "\n" in text else text.partition("; ")[0]


def _same(found: Comparison) -> dict[tuple[str, str], int]:
    counted = {part: found.unchanged.get(part, 0) for part in _PARTS if part != "other backtests"}
    return {_PARTS[part][1:]: count for part, count in counted.items() if count}


def _of_service(change: RunChange, found: Comparison) -> str:
    several = len({one.service for one in found.changes if one.service}) > 1
    return f"{change.service}: " if change.service and several else ""

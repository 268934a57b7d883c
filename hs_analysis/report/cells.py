"""Table cells with numbers, units and evidence links, as plain data for the report's templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hs_analysis import evidence
from hs_analysis.errors import UsageError
from hs_analysis.report.wording import NONE, fixed, interval, is_number, number, quantity, status

Cell = dict[str, Any]

_PREFIX = re.compile(r"^(?:[^#\s]*#/|hsa:[^/\s]+/)")


def bare_path(link: str) -> str:
    """Return the evidence path of a link in any of its forms, without its time range."""
    return _PREFIX.sub("", link.strip()).partition("?")[0]


def evidence_path(service: str, stage: str, what: str, given: Any = "") -> str:
    """Return the path of the link that a result carries, else a path made of service, stage and name."""
    if isinstance(given, str) and given.strip():
        return bare_path(given)
    try:
        return evidence.path(service, stage, what)
    except UsageError:
        return ""


@dataclass
class Anchors:
    """Element ids of the page. One path is the id of one element: the first that asks for it.

    Attributes
    ----------
    shown
        Text of the number that each claimed path shows.
    """

    shown: dict[str, str] = field(default_factory=dict)

    def claim(self, path: str, text: str) -> str:
        """Return the element id for a path, empty when another element has it already."""
        if not path or path in self.shown:
            return ""
        self.shown[path] = text
        return f"/{path}"


def text_cell(text: Any, **more: Any) -> Cell:
    """Return a cell of words; null becomes an en dash."""
    return {"text": NONE if text in (None, "") else str(text), **more}


def status_cell(word: Any, **more: Any) -> Cell:
    """Return a cell of a status alone."""
    return {"text": "", "status": status(word)} | more


def number_cell(value: Any, unit: str = "", ci: Any = None, decimals: int | None = None, **more: Any) -> Cell:
    """Return a cell of a number with unit and interval; ``sort`` carries the exact value for sorting.

    With ``decimals`` all numbers of a column have as many; without, a number has three significant digits.
    """
    text, shown_unit = quantity(value, unit)
    if decimals is not None:
        text = fixed(value, decimals)
    cell: Cell = {"text": text, "unit": shown_unit, "numeric": True}
    if between := interval(ci, unit, decimals):
        cell["ci"] = between
    if is_number(value):
        cell["sort"] = repr(float(value))
    return cell | more


def estimate_cell(found: Any, unit: str = "", **more: Any) -> Cell:
    """Return a cell of a number that carries its own interval, a dash without one."""
    known = found if isinstance(found, Mapping) else {}
    return number_cell(known.get("value"), unit, [known["low"], known["high"]] if known else None, **more)


def linked(cell: Cell, path: str, pointer: str = "") -> Cell:
    """Return the cell as a link to its evidence; ``pointer`` names the value in summary.json."""
    shown = path and cell["text"] != NONE  # a dash has no evidence; the reason is in another cell
    return cell | {"href": f"#/{path}" if shown else "", "pointer": pointer}


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """Return a table: a caption, column headings, and rows of ``id`` and ``cells``.

    A heading that ends in ``|`` and a word, such as ``lag|s``, carries its unit after the bar. The ``key`` of
    a column's cells is that of summary.json: by it a program that reads the page knows what they hold.
    """
    heads = []
    for place, heading in enumerate(columns):
        name, _, unit = heading.partition("|")
        numeric = any(row["cells"][place].get("numeric") for row in rows)
        key = next((row["cells"][place]["key"] for row in rows if "key" in row["cells"][place]), "")
        heads.append({"text": name, "unit": unit, "numeric": numeric, "key": key})
    return {"caption": caption, "columns": heads, "rows": list(rows), **more}


def reason_text(reason: Any) -> str:
    """Return a reason as a sentence, with value and limit where the sentence does not carry them."""
    if isinstance(reason, str):
        return reason
    if not isinstance(reason, Mapping):
        return ""
    text = str(reason.get("text") or reason.get("code") or "").strip()
    value, limit = reason.get("value"), reason.get("limit")
    if is_number(value) and is_number(limit) and not any(c.isdigit() for c in text):
        text += f" ({number(value)}, limit {number(limit)})"
    return text

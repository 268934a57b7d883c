"""Days that a text beside the data speaks of: its description, whose times may be other than the data's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path

MOST_BYTES = 1 << 16
"""How much of a text is looked at: descriptions begin with what they describe."""

NAMES = re.compile(r"(readme|source|about|description|notes?|meta)[^/]*\.(md|txt|rst)$", re.IGNORECASE)
"""How descriptions of data are called."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip

_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS)

_FORMS = (
    re.compile(r"(?<![\d-])(?P<y>20\d\d)[-/](?P<m>\d\d)[-/](?P<d>\d\d)(?!\d)"),
    re.compile(rf"(?<!\d)(?P<d>\d{{1,2}})\.? (?P<m>{_MONTH})\.?,? (?P<y>20\d\d)(?!\d)", re.IGNORECASE),
    re.compile(rf"\b(?P<m>{_MONTH})\.? (?P<d>\d{{1,2}}),? (?P<y>20\d\d)(?!\d)", re.IGNORECASE),
)
"""2026-11-24, 24 November 2026, November 24, 2026; a day before its month in figures alone is ambiguous."""


def days_in(text: str) -> list[date]:
    """Return the days a text names, in order, each once; what is no day of a calendar is none."""
    found = set()
    for form in _FORMS:
        for hit in form.finditer(text):
            month = hit["m"].lower()
            number = int(month) if month.isdigit() else 1 + [m[:3] for m in _MONTHS].index(month[:3])
            try:
                found.add(date(int(hit["y"]), number, int(hit["d"])))
            except ValueError:
                continue
    return sorted(found)


def spoken_days(files: Iterable[tuple[Path, str]]) -> list[tuple[str, date]]:
    """Return (name, day) of the descriptions among files given as (path, name)."""
    found = []
    for path, name in files:
        if not NAMES.fullmatch(name.rpartition("/")[2]):
            continue
        try:
            with path.open("rb") as handle:
                text = handle.read(MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        found += [(name, day) for day in days_in(text)]
    return found

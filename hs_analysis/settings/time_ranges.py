"""Excluded stretches and events: from words, and from CSV and JSON files of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from hs_analysis.errors import InputError, UsageError
from hs_analysis.schema.places import lines_of_documents
from hs_analysis.schema.settings import Event, Excluded
from hs_analysis.settings.values import moment, suggestion

T = TypeVar("T")

START = ("start", "from", "begin", "unix", "t", "time", "at")
END = ("end", "to", "until")
TEXT = ("label", "text", "title", "reason", "description")
KIND = ("kind", "type")
"""Names that a column or key of such a file may have; the first that is there counts."""

BETWEEN = ".."
"""What stands between the two ends of a stretch."""


def excluded(words: Sequence[str], where: str, folder: Path, tz: str | None) -> tuple[Excluded, ...]:
    """Return stretches from ``START..END`` words and from files, sorted.

    Parameters
    ----------
    words
        ``START..END``, or the path of a CSV or JSON file, relative to `folder`.
    where
        The setting they came from, for errors.
    folder
        Folder that paths are relative to.
    tz
        Zone of times that carry none; None refuses those.

    Raises
    ------
    UsageError
        For a word that is neither, and for a stretch that does not end after it starts.
    InputError
        For a file that can't be read as a list of stretches.
    """
    found: set[Excluded] = set()
    for word in words:
        start, between, end = word.partition(BETWEEN)
        if between and not (folder / word).is_file():
            found.add(_time_range(start, end, "", where, tz))
        else:
            found |= set(_of_file(word, where, folder, tz, _excluded_of))
    return tuple(sorted(found, key=lambda one: (_instant(one.start), _instant(one.end), one.label)))


def events(words: Sequence[str], where: str, folder: Path, tz: str | None) -> tuple[Event, ...]:
    """Return the events of CSV and JSON files, sorted by time; errors as of `excluded`."""
    found: set[Event] = set()
    for word in words:
        found |= set(_of_file(word, where, folder, tz, _event_of))
    return tuple(sorted(found, key=lambda one: (_instant(one.t), one.end or "", one.kind, one.text)))


def _time_range(start: str, end: str, label: str, where: str, tz: str | None) -> Excluded:
    first, last = moment(start, where, tz), moment(end, where, tz)
    if _instant(first) >= _instant(last):
        raise UsageError(f"{start} is not before {end}", where=where, hint="swap them")
    return Excluded(first, last, label)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _of_file(
    word: str,
    where: str,
    folder: Path,
    tz: str | None,
    build: Callable[[Mapping[str, Any], str, str | None], T],
) -> Iterator[T]:
    """Yield one value per record of a file."""
    path = folder / word
    if not path.is_file():
        form = f"; a stretch is START{BETWEEN}END, e.g. 2026-07-01T08:00Z{BETWEEN}2026-07-01T09:30Z"
        hint = f"check the path{form if build is _excluded_of else ''}"
        raise UsageError(f"no such file: {word}", where=where, hint=hint)
    try:
        text = path.read_text(encoding="utf-8-sig")
        records = _records(text)
    except json.JSONDecodeError as error:
        raise InputError(f"no JSON: {error.msg}", where=f"{path} line {error.lineno}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"can't be read as CSV or JSON ({error})", where=str(path)) from error
    if not records:
        raise InputError("holds no record", where=str(path), hint="it needs a header and a row, or a list")
    for line, record in records:
        yield build(record, f"{path} line {line}", tz)


def has_ends(text: str) -> bool:
    """Whether a record of a CSV or JSON text has a key for an end: moments alone have none."""
    try:
        return any(name in record for _, record in _records(text) for name in END)
    except (ValueError, csv.Error):
        return False


def _records(text: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the line of each record of a text, and the record."""
    return list(_json_records(text) if text.lstrip()[:1] in ("[", "{") else _csv_records(text))


def _csv_records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield rows; where the header names no start, it is the header that is at fault."""
    rows = csv.DictReader(text.splitlines())
    names = {name.strip().lower() for name in rows.fieldnames or ()}
    for row in rows:
        line = rows.line_num if names & set(START) else 1
        yield line, {str(key).strip().lower(): value for key, value in row.items() if key}


def _json_records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    data = json.loads(text)
    (lines,) = lines_of_documents(text)
    for number, record in enumerate(data if isinstance(data, list) else [data]):
        if not isinstance(record, dict):
            raise ValueError(f"item {number + 1} is no object")
        yield lines.get(f"[{number}]", lines[""]), {str(key).lower(): value for key, value in record.items()}


def _excluded_of(record: Mapping[str, Any], where: str, tz: str | None) -> Excluded:
    end = _first(record, END)
    if end is None:
        raise _lacks(record, END, where)
    return _time_range(_start(record, where), end, _text(record), where, tz)


def _event_of(record: Mapping[str, Any], where: str, tz: str | None) -> Event:
    start, end = _start(record, where), _first(record, END)
    if end is not None:
        span = _time_range(start, end, "", where, tz)
        return Event(span.start, span.end, _text(record), _first(record, KIND) or "")
    return Event(moment(start, where, tz), None, _text(record), _first(record, KIND) or "")


def _start(record: Mapping[str, Any], where: str) -> str:
    start = _first(record, START)
    if start is None:
        raise _lacks(record, START, where)
    return start


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of some keys that holds anything, as text."""
    return next((str(record[name]).strip() for name in names if record.get(name) not in (None, "")), None)


def _text(record: Mapping[str, Any]) -> str:
    """Return what a record says: its text, else the keys that are no time and no kind."""
    said = _first(record, TEXT)
    if said is not None:
        return said
    known = {*START, *END, *KIND}
    rest = [f"{key} {value}" for key, value in record.items() if key not in known and value not in (None, "")]
    return ", ".join(rest)


def _lacks(record: Mapping[str, Any], names: Sequence[str], where: str) -> InputError:
    there = ", ".join(record) or "nothing"
    hint = next(
        (s for key in record if (s := suggestion(key, names)).startswith("did")), f"name it {names[0]}"
    )
    return InputError(f"no {names[0]} among {there}", where=where, hint=hint)
